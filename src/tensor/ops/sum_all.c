/* Sum of all elements. */
#include "tensor/ops_util.h"

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_sum_all(c, in[0]);
    return out[0] ? 1 : 0;
}
static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_sum(c, fm_sum(c, in[0]));
    return out[0] ? 1 : 0;
}

#define IN(T, D) .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 19), .run = run, .decomposed = decomposed},
    {.name = "one", IN(1, 1), .run = run},
    {.name = "large", IN(67, 515), .run = run},
};

const fm_op fm_op_sum_all = {
    .name = "sum_all",
    .formula = "y = sum of x",
    .onnx = "ReduceSum",
    .kernels = {FM_K_reduce_fwd, FM_K_reduce_bwd, FM_KERNEL_COUNT},
    .shape = fm_reduce_shape,
    .forward = fm_reduce_forward,
    .backward = fm_reduce_backward,
    .tol_fwd = 32, /* A type, relative to the sum, which may cancel */
    .tol_bwd = 2,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_sum_all_(fm_ctx *c, fm_tensor *x) {
    fm_reduce_attr a = {.all = true};
    return fm_apply(c, &fm_op_sum_all, 1, 1, &x, &a, sizeof a, NULL);
}
