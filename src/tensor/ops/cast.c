/* Change of element type. */
#include "tensor/ops_util.h"

typedef struct attr {
    fm_dtype to;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    fm_dtype to = ((const attr *)n->attr)->to;
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    if (to != FM_F64 && to != FM_F32 && to != FM_BF16 && to != FM_F16) {
        FM_FAIL(FM_ERR_DTYPE, "target: expected f64, f32, bf16 or f16, found %s", fm_dtype_get(to)->name);
    }
    n->keeps_in[0] = n->keeps_out[0] = false;
    return fm_make_out(c, n, to, x->n_dims, x->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_cast_args a = {
        .n = fm_numel(n->in[0]),
        .to = n->out[0]->dtype,
        .x = fm_data(c, n->in[0]),
        .y = fm_data(c, n->out[0]),
    };
    return fm_op_run(c, FM_K_cast, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    fm_cast_args a = {.n = fm_numel(n->in[0]), .to = n->in[0]->dtype, .x = fm_dout(c, n, 0)};
    FM_TRY(fm_din(c, n, 0, &a.y, &a.acc_y));
    return fm_op_run(c, FM_K_cast, n->out[0]->dtype, &a);
}

static int run_f32(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_cast(c, in[0], FM_F32);
    return out[0] ? 1 : 0;
}
static int run_bf16(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_cast(c, in[0], FM_BF16);
    return out[0] ? 1 : 0;
}
/* The gradient of x is formed from two types and added. */
static int run_both(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_f32(c, in, n_rows, out) && run_bf16(c, in, n_rows, out + 1) ? 2 : 0;
}

#define IN(T, D) .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "to f32", IN(7, 19), .run = run_f32, .row_invariant = true},
    {.name = "to bf16", IN(7, 19), .run = run_bf16, .row_invariant = true},
    {.name = "both", IN(5, 9), .run = run_both},
    {.name = "large", IN(67, 515), .run = run_bf16, .row_invariant = true},
};

const fm_op fm_op_cast = {
    .name = "cast",
    .formula = "y = x in another type",
    .onnx = "Cast",
    .kernels = {FM_K_cast, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 1,
    .tol_bwd = 2,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_cast_(fm_ctx *c, fm_tensor *x, fm_dtype to) {
    if (x && x->dtype == to) {
        return x;
    }
    attr a = {.to = to};
    return fm_apply(c, &fm_op_cast, 1, 1, &x, &a, sizeof a, NULL);
}
