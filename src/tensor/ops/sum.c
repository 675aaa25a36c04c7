/* Sum over the last dimension. */
#include "tensor/ops_util.h"

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_sum(c, in[0]);
    return out[0] ? 1 : 0;
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run(c, in, n_rows, out);
    out[1] = fm_scale(c, in[0], 2); /* its gradient is there when that of the op arrives */
    return r && out[1] ? 2 : 0;
}
/* A product with a row of ones. */
#define DEC_D 19
static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static double ones[DEC_D];
    for (int i = 0; i < DEC_D; i++) {
        ones[i] = 1;
    }
    fm_tensor *y = fm_linear(c, in[0], fm_from_memory(c, FM_F64, 2, (int64_t[]){1, DEC_D}, ones), NULL);
    out[0] = fm_reshape(c, y, 1, in[0]->dim);
    return out[0] ? 1 : 0;
}

#define IN(T, D) .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, DEC_D), .run = run, .decomposed = decomposed},
    {.name = "vector", .n_in = 1, .in = {{.name = "x", .n_dims = 1, .dim = {13}}}, .run = run},
    {.name = "twice", IN(5, 9), .run = run_twice},
    {.name = "large", IN(67, 1031), .run = run},
};

const fm_op fm_op_sum = {
    .name = "sum",
    .formula = "y = sum_j x_j",
    .onnx = "ReduceSum",
    .kernels = {FM_K_reduce_fwd, FM_K_reduce_bwd, FM_KERNEL_COUNT},
    .shape = fm_reduce_shape,
    .forward = fm_reduce_forward,
    .backward = fm_reduce_backward,
    .tol_fwd = 8, /* A type, relative to the sum, which may cancel */
    .tol_bwd = 2,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_sum_(fm_ctx *c, fm_tensor *x) {
    fm_reduce_attr a = {0};
    return fm_apply(c, &fm_op_sum, 1, 1, &x, &a, sizeof a, NULL);
}
