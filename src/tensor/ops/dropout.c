/* Dropout with counter-based random numbers: the mask is computed again in backward. */
#include "tensor/ops_util.h"

typedef struct attr {
    double p;
    fm_rng_key key;
    uint64_t first_token;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    if (!(a->p > 0 && a->p < 1)) {
        FM_FAIL(FM_ERR_ARGUMENT, "probability: expected [0,1), found %g", a->p);
    }
    n->keeps_in[0] = n->keeps_out[0] = false;
    return fm_make_out(c, n, x->dtype, x->n_dims, x->dim);
}

static fm_dropout_args args_of(const fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[0];
    return (fm_dropout_args){
        .n_tokens = x->dim[0],
        .dim = x->dim[0] > 0 ? fm_numel(x) / x->dim[0] : 0,
        .p = a->p,
        .key = a->key,
        .first_token = a->first_token,
    };
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_dropout_args a = args_of(n);
    a.x = fm_data(c, n->in[0]);
    a.y = fm_data(c, n->out[0]);
    return fm_op_run(c, FM_K_dropout, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    fm_dropout_args a = args_of(n);
    a.x = fm_dout(c, n, 0);
    FM_TRY(fm_dmove(c, n, 0, 0, &a.y, &a.acc_y));
    return fm_op_run(c, FM_K_dropout, n->in[0]->dtype, &a);
}

#define TEST_P     0.3
#define TEST_FIRST 1000003u
static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_ctx_set_training(c, true);
    fm_ctx_set_step(c, 7, TEST_FIRST);
    out[0] = fm_dropout(c, in[0], TEST_P, "dropout.test");
    fm_ctx_set_training(c, false);
    return out[0] ? 1 : 0;
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run(c, in, n_rows, out);
    out[1] = fm_scale(c, in[0], 2); /* its gradient is there when that of the op arrives */
    return r && out[1] ? 2 : 0;
}
static int run_off(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_scale(c, fm_dropout(c, in[0], 0.5, "dropout.test"), 1);
    return out[0] ? 1 : 0;
}
static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static double mask[256];
    int64_t n = fm_numel(in[0]), dim = n / in[0]->dim[0];
    if (n > 256) {
        return 0;
    }
    fm_ctx_set_step(c, 7, TEST_FIRST);
    fm_rng_key key = fm_ctx_rng(c, "dropout.test");
    for (int64_t i = 0; i < n; i++) {
        double r = fm_rng_u32(key, (uint64_t)TEST_FIRST * (uint64_t)dim + (uint64_t)i);
        mask[i] = r >= TEST_P * 4294967296.0 ? 1 / (1 - TEST_P) : 0;
    }
    out[0] = fm_mul(c, in[0], fm_from_memory(c, FM_F64, in[0]->n_dims, in[0]->dim, mask));
    return out[0] ? 1 : 0;
}

#define IN(...)                                                                                                        \
    .n_in = 1, .in = {{.name = "x", .n_dims = sizeof((int64_t[]){__VA_ARGS__}) / 8, .dim = {__VA_ARGS__}, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 19), .run = run, .decomposed = decomposed, .row_invariant = true, .prefix_only = true},
    {.name = "heads", IN(5, 3, 7), .run = run, .decomposed = decomposed, .row_invariant = true, .prefix_only = true},
    {.name = "twice", IN(5, 9), .run = run_twice},
    {.name = "off", IN(5, 9), .run = run_off},
    {.name = "large", IN(67, 515), .run = run, .row_invariant = true, .prefix_only = true},
};
#undef IN

const fm_op fm_op_dropout = {
    .name = "dropout",
    .formula = "y = x / (1-p) where kept, else 0",
    .onnx = NULL,
    .onnx_why = "training only: outside training it returns its input",
    .kernels = {FM_K_dropout, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 2,
    .tol_bwd = 2,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_dropout_(fm_ctx *c, fm_tensor *x, double p, const char *stream) {
    if (!x || !fm_ctx_training(c) || p == 0) {
        return x;
    }
    attr a = {.p = p, .key = fm_ctx_rng(c, stream), .first_token = fm_ctx_first_token(c)};
    return fm_apply(c, &fm_op_dropout, 1, 1, &x, &a, sizeof a, NULL);
}
