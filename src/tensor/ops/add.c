/* Sum of two tensors of one shape. */
#include "tensor/ops_util.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *a = n->in[0];
    FM_TRY(fm_in_check(n, 0, "a", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_activation(n, 0, "a"));
    FM_TRY(fm_in_like(n, 1, "b", 0));
    FM_TRY(fm_in_activation(n, 1, "b"));
    n->keeps_in[0] = n->keeps_in[1] = false;
    n->keeps_out[0] = false;
    return fm_make_out(c, n, a->dtype, a->n_dims, a->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_binary_args a = {
        .n = fm_numel(n->in[0]),
        .a = fm_data(c, n->in[0]),
        .b = fm_data(c, n->in[1]),
        .y = fm_data(c, n->out[0]),
    };
    return fm_op_run(c, FM_K_add, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    FM_TRY(fm_dshare(c, n, 0, 0));
    return fm_dshare(c, n, 0, 1);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_add(c, in[0], in[1]);
    return out[0] ? 1 : 0;
}
static int run_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_add(c, in[0], in[0]);
    return out[0] ? 1 : 0;
}
static int decomposed_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_scale(c, in[0], 2);
    return out[0] ? 1 : 0;
}
/* A chain of shared gradients, written to at both ends. */
static int run_chain(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *a = fm_add(c, in[0], in[1]);
    fm_tensor *b = fm_add(c, a, fm_scale(c, a, 3));
    out[0] = fm_add(c, b, in[0]);
    out[1] = fm_mul(c, b, in[1]);
    return out[0] && out[1] ? 2 : 0;
}
static int decomposed_chain(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *b = fm_add(c, fm_scale(c, in[0], 4), fm_scale(c, in[1], 4));
    out[0] = fm_add(c, fm_scale(c, in[0], 5), fm_scale(c, in[1], 4));
    out[1] = fm_mul(c, b, in[1]);
    return out[0] && out[1] ? 2 : 0;
}

#define IN(T, D)                                                                                                       \
    .n_in = 2, .in = {{.name = "a", .n_dims = 2, .dim = {T, D}, .rows = true},                                         \
                      {.name = "b", .n_dims = 2, .dim = {T, D}, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 19), .run = run, .row_invariant = true},
    {.name = "same tensor", IN(5, 9), .run = run_same, .decomposed = decomposed_same, .row_invariant = true},
    {.name = "chain", IN(5, 9), .run = run_chain, .decomposed = decomposed_chain},
    {.name = "large", IN(67, 515), .run = run, .row_invariant = true},
};

const fm_op fm_op_add = {
    .name = "add",
    .formula = "y = a + b",
    .onnx = "Add",
    .kernels = {FM_K_add, FM_K_axpby, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 1,
    .tol_bwd = 2,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_add_(fm_ctx *c, fm_tensor *a, fm_tensor *b) {
    return fm_apply(c, &fm_op_add, 2, 2, (fm_tensor *[]){a, b}, NULL, 0, NULL);
}
