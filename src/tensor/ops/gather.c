/* Rows of an activation by index. */
#include <string.h>

#include "tensor/ops_util.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_check(n, 1, "idx", FM_I32, 1, NULL));
    n->keeps_in[0] = n->keeps_out[0] = false;
    int64_t dim[FM_MAX_DIMS];
    memcpy(dim, x->dim, sizeof dim);
    dim[0] = n->in[1]->dim[0];
    return fm_make_out(c, n, x->dtype, x->n_dims, dim);
}

static fm_rows_args args_of(fm_ctx *c, const fm_node *n) {
    const fm_tensor *x = n->in[0];
    return (fm_rows_args){
        .n = n->in[1]->dim[0],
        .dim = x->dim[0] > 0 ? fm_numel(x) / x->dim[0] : 0,
        .idx = fm_data(c, n->in[1]),
    };
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_rows_args a = args_of(c, n);
    a.x = fm_data(c, n->in[0]);
    a.y = fm_data(c, n->out[0]);
    FM_TRY(fm_ctx_status(c));
    FM_TRY(fm_ids_check("idx", a.idx, a.n, n->in[0]->dim[0], NULL));
    return fm_op_run(c, FM_K_gather_rows, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    bool acc;
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    fm_rows_args a = args_of(c, n);
    a.y = fm_dout(c, n, 0);
    FM_TRY(fm_din(c, n, 0, &a.x, &acc));
    if (!acc) {
        FM_TRY(fm_op_zero(c, n->in[0]->dtype, fm_numel(n->in[0]), a.x));
    }
    return fm_op_run(c, FM_K_scatter_add_rows, n->in[0]->dtype, &a);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_gather(c, in[0], in[1]);
    return out[0] ? 1 : 0;
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run(c, in, n_rows, out);
    out[1] = fm_add(c, in[0], in[0]); /* its gradient is there when that of the op arrives */
    return r && out[1] ? 2 : 0;
}

#define IDX(T, S)                                                                                                      \
    { .name = "idx", .n_dims = 1, .dim = {T}, .kind = FM_IN_IDS, .max = (S), .rows = true }
#define IN(S, D, T) .n_in = 2, .in = {{.name = "x", .n_dims = 2, .dim = {S, D}}, IDX(T, S)}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 19, 5), .run = run, .row_invariant = true},
    {.name = "repeated", IN(3, 5, 17), .run = run, .row_invariant = true},
    {.name = "heads",
     .n_in = 2,
     .in = {{.name = "x", .n_dims = 3, .dim = {6, 2, 5}}, IDX(4, 6)},
     .run = run,
     .row_invariant = true},
    {.name = "twice", IN(5, 9, 6), .run = run_twice},
    {.name = "large", IN(67, 515, 40), .run = run, .row_invariant = true},
};

const fm_op fm_op_gather = {
    .name = "gather",
    .formula = "y[i,..] = x[idx[i],..]",
    .onnx = "Gather",
    .kernels = {FM_K_gather_rows, FM_K_scatter_add_rows, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 0,
    .tol_bwd = 4,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_gather_(fm_ctx *c, fm_tensor *x, fm_tensor *idx) {
    return fm_apply(c, &fm_op_gather, 2, 2, (fm_tensor *[]){x, idx}, NULL, 0, NULL);
}
