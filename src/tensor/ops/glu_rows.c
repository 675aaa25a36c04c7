/* Gated linear unit of sorted rows, each times the weight its token gives the expert. The weight comes before the last
 * product and not after it, so that backward need not keep that product's rows: (w h) W^T = w (h W^T). */
#include "tensor/ops_util.h"

typedef struct attr {
    fm_act act;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *g = n->in[0];
    FM_TRY(fm_in_check(n, 0, "gate", FM_ANY_FLOAT, 2, NULL));
    FM_TRY(fm_in_like(n, 1, "up", 0));
    FM_TRY(fm_in_check(n, 2, "weights", (int)fm_dtype_acc(g->dtype), 0, NULL));
    FM_TRY(fm_in_check(n, 3, "order", FM_I32, 1, g->dim));
    if (fm_numel(n->in[2]) != g->dim[0]) {
        FM_FAIL(FM_ERR_SHAPE, "input weights: expected one for each of %lld rows, found %lld", (long long)g->dim[0],
                (long long)fm_numel(n->in[2]));
    }
    n->keeps_out[0] = false;
    return fm_make_out(c, n, g->dtype, 2, g->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_glu_rows_args a = {
        .n_rows = n->in[0]->dim[0],
        .dim = n->in[0]->dim[1],
        .act = ((const attr *)n->attr)->act,
        .gate = fm_data(c, n->in[0]),
        .up = fm_data(c, n->in[1]),
        .scale = fm_data(c, n->in[2]),
        .order = fm_data(c, n->in[3]),
        .y = fm_data(c, n->out[0]),
    };
    return fm_op_run(c, FM_K_glu_rows_fwd, n->in[0]->dtype, &a);
}

/* The kernel writes all three; one that is not wanted goes to a temporary. */
static fm_status backward(fm_ctx *c, fm_node *n) {
    fm_dwrite w[3] = {{0}};
    fm_temp unused[3] = {{0}};
    void *d[3];
    for (int i = 0; i < 3; i++) {
        if (fm_wants(n, i)) {
            FM_TRY(fm_dwrite_begin(c, n, i, &w[i]));
            d[i] = w[i].data;
        } else {
            FM_TRY(fm_temp_take(c, &unused[i], n->in[i]->dtype, fm_numel(n->in[i])));
            d[i] = unused[i].data;
        }
    }
    fm_glu_rows_bwd_args a = {
        .n_rows = n->in[0]->dim[0],
        .dim = n->in[0]->dim[1],
        .act = ((const attr *)n->attr)->act,
        .gate = fm_data(c, n->in[0]),
        .up = fm_data(c, n->in[1]),
        .dy = fm_dout(c, n, 0),
        .scale = fm_data(c, n->in[2]),
        .order = fm_data(c, n->in[3]),
        .dgate = d[0],
        .dup = d[1],
        .dscale = d[2],
    };
    FM_TRY(fm_op_run(c, FM_K_glu_rows_bwd, n->in[0]->dtype, &a));
    for (int i = 0; i < 3; i++) {
        fm_temp_drop(c, &unused[i]);
        FM_TRY(fm_dwrite_end(c, &w[i]));
    }
    return FM_OK;
}

/* in: gate, up, weights, ids [rows,1]: the order is that of a sort. */
static int run_act(fm_ctx *c, fm_tensor **in, fm_tensor **out, fm_act act) {
    fm_dispatch d = fm_expert_sort(c, in[3], 4);
    fm_tensor *w = fm_cast(c, in[2], fm_dtype_acc(in[2]->dtype));
    out[0] = fm_glu_rows(c, in[0], in[1], w, d.order, act);
    return out[0] ? 1 : 0;
}
/* The weight of each row spread over its columns by a product with ones. */
static int decomposed_act(fm_ctx *c, fm_tensor **in, fm_tensor **out, fm_act act) {
    static double ones[64];
    int64_t rows = in[0]->dim[0], dim = in[0]->dim[1];
    FM_ASSERT(dim <= 64);
    for (int i = 0; i < 64; i++) {
        ones[i] = 1;
    }
    fm_dispatch d = fm_expert_sort(c, in[3], 4);
    fm_tensor *one = fm_from_memory(c, FM_F64, 2, (int64_t[]){dim, 1}, ones);
    fm_tensor *w = fm_gather(c, fm_view2(c, in[2], rows, 1), d.order);
    out[0] = fm_mul(c, fm_glu(c, in[0], in[1], act), fm_linear(c, w, one, NULL));
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
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_silu(c, in, n_rows, out) && run_relu2(c, in, n_rows, out + 1) ? 2 : 0;
}

#define IN(N, F)                                                                                                       \
    .n_in = 4, .in = {{.name = "gate", .n_dims = 2, .dim = {N, F}, .scale = 2},                                        \
                      {.name = "up", .n_dims = 2, .dim = {N, F}},                                                      \
                      {.name = "weights", .n_dims = 1, .dim = {N}},                                                    \
                      {.name = "ids", .n_dims = 2, .dim = {N, 1}, .kind = FM_IN_IDS, .max = 4}}
#define CASE(act)                                                                                                      \
    { .name = #act, IN(7, 19), .run = run_##act, .decomposed = decomposed_##act }
static const fm_op_case cases[] = {
    CASE(silu),
    CASE(gelu),
    CASE(gelu_tanh),
    CASE(relu),
    CASE(relu2),
    {.name = "twice", IN(5, 9), .run = run_twice},
    {.name = "weights alone",
     .n_in = 4,
     .in = {{.name = "gate", .n_dims = 2, .dim = {3, 5}, .no_grad = true},
            {.name = "up", .n_dims = 2, .dim = {3, 5}, .no_grad = true},
            {.name = "weights", .n_dims = 1, .dim = {3}},
            {.name = "ids", .n_dims = 2, .dim = {3, 1}, .kind = FM_IN_IDS, .max = 4}},
     .run = run_silu},
    {.name = "large", IN(130, 515), .run = run_silu},
};

const fm_op fm_op_glu_rows = {
    .name = "glu_rows",
    .formula = "y[r] = weight[order[r]] act(gate[r]) up[r]",
    .onnx = "Sigmoid | Gelu | Relu | Tanh, Mul, Gather, Mul",
    .kernels = {FM_K_glu_rows_fwd, FM_K_glu_rows_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 8,
    .tol_bwd = 12,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_glu_rows_(fm_ctx *c, fm_tensor *gate, fm_tensor *up, fm_tensor *weights, fm_tensor *order, fm_act act) {
    attr a = {.act = act};
    return fm_apply(c, &fm_op_glu_rows, 4, 4, (fm_tensor *[]){gate, up, weights, order}, &a, sizeof a, NULL);
}
