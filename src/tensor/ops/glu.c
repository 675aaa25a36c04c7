/* Gated linear unit: act(gate) * up. */
#include "tensor/ops_util.h"

typedef struct attr {
    fm_act act;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *g = n->in[0];
    FM_TRY(fm_in_check(n, 0, "gate", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_like(n, 1, "up", 0));
    n->keeps_out[0] = false;
    return fm_make_out(c, n, g->dtype, g->n_dims, g->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_glu_args a = {
        .n = fm_numel(n->in[0]),
        .act = ((const attr *)n->attr)->act,
        .gate = fm_data(c, n->in[0]),
        .up = fm_data(c, n->in[1]),
        .y = fm_data(c, n->out[0]),
    };
    return fm_op_run(c, FM_K_glu_fwd, n->in[0]->dtype, &a);
}

/* The kernel writes both gradients; one that is not wanted goes to a temporary. */
static fm_status backward(fm_ctx *c, fm_node *n) {
    fm_dwrite w[2] = {0};
    fm_temp unused = {0};
    void *d[2] = {0};
    for (int i = 0; i < 2; i++) {
        if (fm_wants(n, i)) {
            FM_TRY(fm_dwrite_begin(c, n, i, &w[i]));
            d[i] = w[i].data;
        } else {
            FM_TRY(fm_temp_take(c, &unused, n->in[i]->dtype, fm_numel(n->in[i])));
            d[i] = unused.data;
        }
    }
    fm_glu_bwd_args a = {
        .n = fm_numel(n->in[0]),
        .act = ((const attr *)n->attr)->act,
        .gate = fm_data(c, n->in[0]),
        .up = fm_data(c, n->in[1]),
        .dy = fm_dout(c, n, 0),
        .dgate = d[0],
        .dup = d[1],
    };
    FM_TRY(fm_op_run(c, FM_K_glu_bwd, n->in[0]->dtype, &a));
    fm_temp_drop(c, &unused);
    FM_TRY(fm_dwrite_end(c, &w[0]));
    return fm_dwrite_end(c, &w[1]);
}

static int run_act(fm_ctx *c, fm_tensor **in, fm_tensor **out, fm_act act) {
    out[0] = fm_glu(c, in[0], in[1], act);
    return out[0] ? 1 : 0;
}
static int decomposed_act(fm_ctx *c, fm_tensor **in, fm_tensor **out, fm_act act) {
    out[0] = fm_mul(c, fm_activation(c, in[0], act), in[1]);
    return out[0] ? 1 : 0;
}
#define RUN(name, act)                                                                                                 \
    static int run_##name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                                \
        FM_UNUSED(n_rows);                                                                                             \
        return run_act(c, in, out, act);                                                                               \
    }                                                                                                                  \
    static int decomposed_##name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                         \
        FM_UNUSED(n_rows);                                                                                             \
        return decomposed_act(c, in, out, act);                                                                        \
    }
RUN(silu, FM_ACT_SILU)
RUN(gelu, FM_ACT_GELU)
RUN(gelu_tanh, FM_ACT_GELU_TANH)
RUN(relu, FM_ACT_RELU)
RUN(relu2, FM_ACT_RELU2)
RUN(sigmoid, FM_ACT_SIGMOID)
RUN(tanh, FM_ACT_TANH)
static int run_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_silu(c, (fm_tensor *[]){in[0], in[0]}, n_rows, out);
}
static int decomposed_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return decomposed_silu(c, (fm_tensor *[]){in[0], in[0]}, n_rows, out);
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_silu(c, in, n_rows, out) && run_gelu(c, in, n_rows, out + 1) ? 2 : 0;
}
static int decomposed_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return decomposed_silu(c, in, n_rows, out) && decomposed_gelu(c, in, n_rows, out + 1) ? 2 : 0;
}

#define IN(T, D)                                                                                                       \
    .n_in = 2, .in = {{.name = "gate", .n_dims = 2, .dim = {T, D}, .scale = 2, .rows = true},                          \
                      {.name = "up", .n_dims = 2, .dim = {T, D}, .rows = true}}
#define CASE(act)                                                                                                      \
    { .name = #act, IN(7, 19), .run = run_##act, .decomposed = decomposed_##act, .row_invariant = true }
static const fm_op_case cases[] = {
    CASE(silu),
    CASE(gelu),
    CASE(gelu_tanh),
    CASE(relu),
    CASE(relu2),
    CASE(sigmoid),
    CASE(tanh),
    {.name = "same tensor", IN(5, 9), .run = run_same, .decomposed = decomposed_same},
    {.name = "twice", IN(5, 9), .run = run_twice, .decomposed = decomposed_twice},
    {.name = "no gradient of up",
     .n_in = 2,
     .in = {{.name = "gate", .n_dims = 2, .dim = {3, 5}}, {.name = "up", .n_dims = 2, .dim = {3, 5}, .no_grad = true}},
     .run = run_silu},
    {.name = "large", IN(67, 515), .run = run_silu, .row_invariant = true},
};

const fm_op fm_op_glu = {
    .name = "glu",
    .formula = "y = act(gate) * up",
    .onnx = "Sigmoid | Gelu | Relu | Tanh, Mul",
    .kernels = {FM_K_glu_fwd, FM_K_glu_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 4,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_glu_(fm_ctx *c, fm_tensor *gate, fm_tensor *up, fm_act act) {
    attr a = {.act = act};
    return fm_apply(c, &fm_op_glu, 2, 2, (fm_tensor *[]){gate, up}, &a, sizeof a, NULL);
}
