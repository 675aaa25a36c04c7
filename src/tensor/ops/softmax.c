/* Softmax over the last dimension. */
#include "tensor/ops_util.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    n->keeps_in[0] = false;
    return fm_make_out(c, n, x->dtype, x->n_dims, x->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_softmax_args a = {.n_rows = fm_rows(x), .dim = fm_last(x), .x = fm_data(c, x), .y = fm_data(c, n->out[0])};
    return fm_op_run(c, FM_K_softmax_fwd, x->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_tensor *y = n->out[0];
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    fm_softmax_bwd_args a = {.n_rows = fm_rows(y), .dim = fm_last(y), .y = fm_data(c, y), .dy = fm_dout(c, n, 0)};
    FM_TRY(fm_din(c, n, 0, &a.dx, &a.acc_dx));
    return fm_op_run(c, FM_K_softmax_bwd, y->dtype, &a);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_softmax(c, in[0]);
    return out[0] ? 1 : 0;
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run(c, in, n_rows, out);
    out[1] = fm_scale(c, in[0], 2); /* its gradient is there when that of the op arrives */
    return r && out[1] ? 2 : 0;
}
/* Of two classes: softmax(x) = sigmoid(x_0 - x_1), sigmoid(x_1 - x_0). */
static int decomposed_two(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static double difference[4] = {1, -1, -1, 1};
    fm_tensor *d = fm_from_memory(c, FM_F64, 2, (int64_t[]){2, 2}, difference);
    out[0] = fm_activation(c, fm_linear(c, in[0], d, NULL), FM_ACT_SIGMOID);
    return out[0] ? 1 : 0;
}

#define IN(T, D) .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .scale = 3, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 19), .run = run, .row_invariant = true},
    {.name = "two classes", IN(6, 2), .run = run, .decomposed = decomposed_two, .row_invariant = true},
    {.name = "one class", IN(4, 1), .run = run},
    {.name = "twice", IN(5, 9), .run = run_twice},
    {.name = "large", IN(67, 1031), .run = run, .row_invariant = true},
};

const fm_op fm_op_softmax = {
    .name = "softmax",
    .formula = "y_j = exp(x_j) / sum_k exp(x_k)",
    .onnx = "Softmax",
    .kernels = {FM_K_softmax_fwd, FM_K_softmax_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 12,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_softmax_(fm_ctx *c, fm_tensor *x) {
    return fm_apply(c, &fm_op_softmax, 1, 1, &x, NULL, 0, NULL);
}
