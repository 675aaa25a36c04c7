/* Root mean square norm. */
#include "tensor/ops_util.h"

typedef struct attr {
    float eps;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_vector(n, 1, "w", fm_last(x), 0));
    n->keeps_out[0] = false;
    FM_TRY(fm_make_out(c, n, x->dtype, x->n_dims, x->dim));
    return fm_node_records(c, n) ? fm_make_save(c, n, fm_dtype_acc(x->dtype), 1, (int64_t[]){fm_rows(x)}) : FM_OK;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_norm_args a = {
        .n_rows = fm_rows(x),
        .dim = fm_last(x),
        .eps = ((const attr *)n->attr)->eps,
        .x = fm_data(c, x),
        .w = fm_data(c, n->in[1]),
        .y = fm_data(c, n->out[0]),
        .rstd = fm_data(c, n->saved[0]),
    };
    return fm_op_run(c, FM_K_rmsnorm_fwd, x->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_norm_bwd_args a = {
        .n_rows = fm_rows(x),
        .dim = fm_last(x),
        .x = fm_data(c, x),
        .w = fm_data(c, n->in[1]),
        .rstd = fm_data(c, n->saved[0]),
        .dy = fm_dout(c, n, 0),
    };
    if (fm_wants(n, 0)) {
        FM_TRY(fm_din(c, n, 0, &a.dx, &a.acc_dx));
    }
    if (fm_wants(n, 1)) {
        FM_TRY(fm_dweight_add(c, n, 1, &a.dw));
    }
    return fm_op_run(c, FM_K_rmsnorm_bwd, x->dtype, &a);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_rmsnorm(c, in[0], in[1], 1e-5f);
    return out[0] ? 1 : 0;
}
static int run_large_eps(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_rmsnorm(c, in[0], in[1], 0.5f);
    return out[0] ? 1 : 0;
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    out[1] = fm_rmsnorm(c, in[0], NULL, 1e-6f);
    return run(c, in, n_rows, out) && out[1] ? 2 : 0;
}
/* rmsnorm(x, w) = rmsnorm(x) diag(w). */
static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *y = fm_rmsnorm(c, in[0], NULL, 1e-5f);
    static int32_t zero[64];
    if (!y || fm_rows(y) > 64) {
        return 0;
    }
    fm_tensor *idx = fm_from_memory(c, FM_I32, 1, (int64_t[]){fm_rows(y)}, zero);
    fm_tensor *rows = fm_gather(c, fm_reshape(c, in[1], 2, (int64_t[]){1, fm_last(y)}), idx);
    out[0] = fm_mul(c, y, fm_reshape(c, rows, y->n_dims, y->dim));
    return out[0] ? 1 : 0;
}

#define W(D, is_weight)                                                                                                \
    { .name = "w", .n_dims = 1, .dim = {D}, .kind = FM_IN_POSITIVE, .weight = (is_weight) }
#define X(T, D)                                                                                                        \
    { .name = "x", .n_dims = 2, .dim = {T, D}, .rows = true }
static const fm_op_case cases[] = {
    {.name = "odd", .n_in = 2, .in = {X(5, 7), W(7, true)}, .run = run, .row_invariant = true},
    {.name = "heads",
     .n_in = 2,
     .in = {{.name = "x", .n_dims = 3, .dim = {6, 3, 16}, .rows = true}, W(16, true)},
     .run = run,
     .row_invariant = true},
    {.name = "eps", .n_in = 2, .in = {X(9, 33), W(33, true)}, .run = run_large_eps, .row_invariant = true},
    {.name = "no weight", .n_in = 2, .in = {X(4, 12), {0}}, .run = run, .row_invariant = true},
    {.name = "weight as activation", .n_in = 2, .in = {X(4, 12), W(12, false)}, .run = run, .decomposed = decomposed},
    {.name = "twice", .n_in = 2, .in = {X(4, 12), W(12, true)}, .run = run_twice},
    {.name = "large", .n_in = 2, .in = {X(131, 770), W(770, true)}, .run = run, .row_invariant = true},
};
#undef W
#undef X

const fm_op fm_op_rmsnorm = {
    .name = "rmsnorm",
    .formula = "y = x / sqrt(mean(x^2) + eps) * w",
    .onnx = "Mul, ReduceMean, Add, Sqrt, Div, Mul",
    .kernels = {FM_K_rmsnorm_fwd, FM_K_rmsnorm_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 6,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_rmsnorm_(fm_ctx *c, fm_tensor *x, fm_tensor *w, float eps) {
    attr a = {.eps = eps};
    return fm_apply(c, &fm_op_rmsnorm, 1, 2, (fm_tensor *[]){x, w}, &a, sizeof a, NULL);
}
