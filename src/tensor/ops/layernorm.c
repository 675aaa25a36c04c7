/* Layer norm. */
#include "tensor/ops_util.h"

typedef struct attr {
    float eps;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_dtype acc = fm_dtype_acc(x->dtype);
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_vector(n, 1, "w", fm_last(x), 0));
    FM_TRY(fm_in_vector(n, 2, "b", fm_last(x), 0));
    n->keeps_in[2] = false;
    n->keeps_out[0] = false;
    FM_TRY(fm_make_out(c, n, x->dtype, x->n_dims, x->dim));
    if (fm_node_records(c, n)) {
        FM_TRY(fm_make_save(c, n, acc, 1, (int64_t[]){fm_rows(x)}));
        FM_TRY(fm_make_save(c, n, acc, 1, (int64_t[]){fm_rows(x)}));
    }
    return FM_OK;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_norm_args a = {
        .n_rows = fm_rows(x),
        .dim = fm_last(x),
        .eps = ((const attr *)n->attr)->eps,
        .x = fm_data(c, x),
        .w = fm_data(c, n->in[1]),
        .b = fm_data(c, n->in[2]),
        .y = fm_data(c, n->out[0]),
        .rstd = fm_data(c, n->saved[0]),
        .mean = fm_data(c, n->saved[1]),
    };
    return fm_op_run(c, FM_K_layernorm_fwd, x->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_norm_bwd_args a = {
        .n_rows = fm_rows(x),
        .dim = fm_last(x),
        .x = fm_data(c, x),
        .w = fm_data(c, n->in[1]),
        .rstd = fm_data(c, n->saved[0]),
        .mean = fm_data(c, n->saved[1]),
        .dy = fm_dout(c, n, 0),
    };
    if (fm_wants(n, 0)) {
        FM_TRY(fm_din(c, n, 0, &a.dx, &a.acc_dx));
    }
    if (fm_wants(n, 1)) {
        FM_TRY(fm_dweight_add(c, n, 1, &a.dw));
    }
    if (fm_wants(n, 2)) {
        FM_TRY(fm_dweight_add(c, n, 2, &a.db));
    }
    return fm_op_run(c, FM_K_layernorm_bwd, x->dtype, &a);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_layernorm(c, in[0], in[1], in[2], 1e-5f);
    return out[0] ? 1 : 0;
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    out[1] = fm_layernorm(c, in[0], NULL, NULL, 1e-3f);
    return run(c, in, n_rows, out) && out[1] ? 2 : 0;
}

/* layernorm(x, w, b) = rmsnorm(x (I - 1/D), w) I + b, the centring and the bias as linear maps. */
#define CENTRE_D 12
static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static double centre[CENTRE_D * CENTRE_D], eye[CENTRE_D * CENTRE_D];
    for (int i = 0; i < CENTRE_D * CENTRE_D; i++) {
        eye[i] = i % (CENTRE_D + 1) == 0;
        centre[i] = eye[i] - 1.0 / CENTRE_D;
    }
    int64_t dim[2] = {CENTRE_D, CENTRE_D};
    fm_tensor *x = fm_linear(c, in[0], fm_from_memory(c, FM_F64, 2, dim, centre), NULL);
    fm_tensor *y = fm_rmsnorm(c, x, in[1], 1e-5f);
    out[0] = fm_linear(c, y, fm_from_memory(c, FM_F64, 2, dim, eye), in[2]);
    return out[0] ? 1 : 0;
}

#define X(T, D)                                                                                                        \
    { .name = "x", .n_dims = 2, .dim = {T, D}, .rows = true }
#define W(D)                                                                                                           \
    { .name = "w", .n_dims = 1, .dim = {D}, .kind = FM_IN_POSITIVE, .weight = true }
#define B(D)                                                                                                           \
    { .name = "b", .n_dims = 1, .dim = {D}, .weight = true }
static const fm_op_case cases[] = {
    {.name = "odd", .n_in = 3, .in = {X(5, 7), W(7), B(7)}, .run = run, .row_invariant = true},
    {.name = "no bias", .n_in = 2, .in = {X(6, 33), W(33)}, .run = run, .row_invariant = true},
    {.name = "plain", .n_in = 1, .in = {X(6, 10)}, .run = run, .row_invariant = true},
    {.name = "decomposed",
     .n_in = 3,
     .in = {X(7, CENTRE_D), W(CENTRE_D), B(CENTRE_D)},
     .run = run,
     .decomposed = decomposed},
    {.name = "twice", .n_in = 3, .in = {X(4, 12), W(12), B(12)}, .run = run_twice},
    {.name = "large", .n_in = 3, .in = {X(131, 770), W(770), B(770)}, .run = run, .row_invariant = true},
};
#undef X
#undef W
#undef B

const fm_op fm_op_layernorm = {
    .name = "layernorm",
    .formula = "y = (x - mean(x)) / sqrt(var(x) + eps) * w + b",
    .onnx = "LayerNormalization",
    .kernels = {FM_K_layernorm_fwd, FM_K_layernorm_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 6,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_layernorm_(fm_ctx *c, fm_tensor *x, fm_tensor *w, fm_tensor *b, float eps) {
    attr a = {.eps = eps};
    return fm_apply(c, &fm_op_layernorm, 1, 3, (fm_tensor *[]){x, w, b}, &a, sizeof a, NULL);
}
