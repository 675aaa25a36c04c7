/* Activation functions, element by element. */
#include "tensor/ops_util.h"

typedef struct attr {
    fm_act act;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    n->keeps_out[0] = false;
    return fm_make_out(c, n, x->dtype, x->n_dims, x->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_act_args a = {
        .n = fm_numel(n->in[0]),
        .act = ((const attr *)n->attr)->act,
        .x = fm_data(c, n->in[0]),
        .y = fm_data(c, n->out[0]),
    };
    return fm_op_run(c, FM_K_act_fwd, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    fm_act_bwd_args a = {
        .n = fm_numel(n->in[0]),
        .act = ((const attr *)n->attr)->act,
        .x = fm_data(c, n->in[0]),
        .dy = fm_dout(c, n, 0),
    };
    FM_TRY(fm_din(c, n, 0, &a.dx, &a.acc_dx));
    return fm_op_run(c, FM_K_act_bwd, n->in[0]->dtype, &a);
}

static int run_act(fm_ctx *c, fm_tensor **in, fm_tensor **out, fm_act act) {
    out[0] = fm_activation(c, in[0], act);
    return out[0] ? 1 : 0;
}
#define RUN(name, act)                                                                                                 \
    static int run_##name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                                \
        FM_UNUSED(n_rows);                                                                                             \
        return run_act(c, in, out, act);                                                                               \
    }
RUN(silu, FM_ACT_SILU)
RUN(gelu, FM_ACT_GELU)
RUN(gelu_tanh, FM_ACT_GELU_TANH)
RUN(relu, FM_ACT_RELU)
RUN(relu2, FM_ACT_RELU2)
RUN(sigmoid, FM_ACT_SIGMOID)
RUN(tanh, FM_ACT_TANH)
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_gelu(c, in, n_rows, out) && run_tanh(c, in, n_rows, out + 1) ? 2 : 0;
}
/* silu = x sigmoid(x); relu2 = relu^2. */
static int decomposed_silu(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_mul(c, in[0], fm_activation(c, in[0], FM_ACT_SIGMOID));
    return out[0] ? 1 : 0;
}
static int decomposed_relu2(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *r = fm_activation(c, in[0], FM_ACT_RELU);
    out[0] = fm_mul(c, r, r);
    return out[0] ? 1 : 0;
}
/* gelu_tanh = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3). */
static int decomposed_gelu_tanh(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *x = in[0], *cube = fm_mul(c, fm_mul(c, x, x), x);
    fm_tensor *u = fm_scale(c, fm_add(c, x, fm_scale(c, cube, 0.044715)), 0.79788456080286535588);
    out[0] = fm_mul(c, x, fm_activation(c, fm_scale(c, u, 2), FM_ACT_SIGMOID));
    return out[0] ? 1 : 0;
}
/* tanh(x) = sigmoid(2x) - sigmoid(-2x). */
static int decomposed_tanh(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *s = fm_activation(c, fm_scale(c, in[0], 2), FM_ACT_SIGMOID);
    fm_tensor *t = fm_activation(c, fm_scale(c, in[0], -2), FM_ACT_SIGMOID);
    out[0] = fm_add(c, s, fm_scale(c, t, -1));
    return out[0] ? 1 : 0;
}

#define IN(T, D) .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .scale = 2, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "silu", IN(7, 19), .run = run_silu, .decomposed = decomposed_silu, .row_invariant = true},
    {.name = "gelu", IN(7, 19), .run = run_gelu, .row_invariant = true},
    {.name = "gelu_tanh", IN(7, 19), .run = run_gelu_tanh, .decomposed = decomposed_gelu_tanh, .row_invariant = true},
    {.name = "relu", IN(7, 19), .run = run_relu, .row_invariant = true},
    {.name = "relu2", IN(7, 19), .run = run_relu2, .decomposed = decomposed_relu2, .row_invariant = true},
    {.name = "sigmoid", IN(7, 19), .run = run_sigmoid, .row_invariant = true},
    {.name = "tanh", IN(7, 19), .run = run_tanh, .decomposed = decomposed_tanh, .row_invariant = true},
    {.name = "twice", IN(5, 9), .run = run_twice},
    {.name = "large", IN(67, 515), .run = run_gelu, .row_invariant = true},
};

const fm_op fm_op_activation = {
    .name = "activation",
    .formula = "y = act(x)",
    .onnx = "Sigmoid | Gelu | Relu | Tanh",
    .kernels = {FM_K_act_fwd, FM_K_act_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 4,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_activation_(fm_ctx *c, fm_tensor *x, fm_act act) {
    attr a = {.act = act};
    return fm_apply(c, &fm_op_activation, 1, 1, &x, &a, sizeof a, NULL);
}
