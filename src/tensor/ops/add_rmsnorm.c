/* Residual add and root mean square norm in one pass over the rows. */
#include "tensor/ops_util.h"

typedef struct attr {
    float eps;
} attr;

/* in: res, x, w; out: y, sum; saved: rstd. */
static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *res = n->in[0];
    FM_TRY(fm_in_check(n, 0, "res", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_activation(n, 0, "res"));
    FM_TRY(fm_in_like(n, 1, "x", 0));
    FM_TRY(fm_in_activation(n, 1, "x"));
    FM_TRY(fm_in_vector(n, 2, "w", fm_last(res), 0));
    n->keeps_in[0] = n->keeps_in[1] = false;
    n->keeps_out[0] = false;
    FM_TRY(fm_make_out(c, n, res->dtype, res->n_dims, res->dim));
    FM_TRY(fm_make_out(c, n, res->dtype, res->n_dims, res->dim));
    return fm_node_records(c, n) ? fm_make_save(c, n, fm_dtype_acc(res->dtype), 1, (int64_t[]){fm_rows(res)}) : FM_OK;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[1];
    fm_norm_args a = {
        .n_rows = fm_rows(x),
        .dim = fm_last(x),
        .eps = ((const attr *)n->attr)->eps,
        .x = fm_data(c, x),
        .res = fm_data(c, n->in[0]),
        .w = fm_data(c, n->in[2]),
        .sum = fm_data(c, n->out[1]),
        .y = fm_data(c, n->out[0]),
        .rstd = fm_data(c, n->saved[0]),
    };
    return fm_op_run(c, FM_K_rmsnorm_fwd, x->dtype, &a);
}

/* d(sum) = norm's gradient + what reached sum from above; res and x both get it. */
static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_tensor *sum = n->out[1];
    if (!fm_has_dout(n, 0)) {
        FM_TRY(fm_dshare(c, n, 1, 0));
        return fm_dshare(c, n, 1, 1);
    }
    fm_norm_bwd_args a = {
        .n_rows = fm_rows(sum),
        .dim = fm_last(sum),
        .x = fm_data(c, sum),
        .w = fm_data(c, n->in[2]),
        .rstd = fm_data(c, n->saved[0]),
        .dy = fm_dout(c, n, 0),
        .dsum = fm_dout(c, n, 1),
    };
    fm_temp g = {0};
    if (fm_wants(n, 0) || fm_wants(n, 1)) {
        FM_TRY(fm_dtake(c, n, 1, &g));
        a.dx = g.data;
    }
    if (fm_wants(n, 2)) {
        FM_TRY(fm_dweight_add(c, n, 2, &a.dw));
    }
    FM_TRY(fm_op_run(c, FM_K_rmsnorm_bwd, sum->dtype, &a));
    if (g.grad) {
        FM_TRY(fm_dgive(c, n, 0, &g));
        FM_TRY(fm_dgive(c, n, 1, &g));
        fm_temp_drop(c, &g);
    }
    return FM_OK;
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_add_rmsnorm(c, in[0], in[1], in[2], 1e-5f, &out[1]);
    return out[0] ? 2 : 0;
}
static int run_y(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run(c, in, n_rows, out) ? 1 : 0;
}
static int run_sum(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run(c, in, n_rows, out);
    out[0] = out[1];
    return r ? 1 : 0;
}
/* sum flows on through a residual add that shares its gradient, so the buffer is not free to be overwritten. */
static int run_shared(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run(c, in, n_rows, out);
    fm_tensor *y = out[0];
    out[0] = fm_add(c, out[1], in[0]);
    out[1] = fm_add(c, y, in[1]);
    return r && out[0] && out[1] ? 2 : 0;
}
static int run_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    fm_tensor *three[3] = {in[0], in[0], in[2]};
    return run(c, three, n_rows, out);
}
static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[1] = fm_add(c, in[0], in[1]);
    out[0] = fm_rmsnorm(c, out[1], in[2], 1e-5f);
    return out[0] ? 2 : 0;
}
static int decomposed_y(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return decomposed(c, in, n_rows, out) ? 1 : 0;
}
static int decomposed_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    fm_tensor *three[3] = {in[0], in[0], in[2]};
    return decomposed(c, three, n_rows, out);
}

#define IN(T, D)                                                                                                       \
    .n_in = 3, .in = {{.name = "res", .n_dims = 2, .dim = {T, D}, .rows = true},                                       \
                      {.name = "x", .n_dims = 2, .dim = {T, D}, .rows = true},                                         \
                      {.name = "w", .n_dims = 1, .dim = {D}, .kind = FM_IN_POSITIVE, .weight = true}}
static const fm_op_case cases[] = {
    {.name = "both", IN(5, 7), .run = run, .decomposed = decomposed, .row_invariant = true},
    {.name = "sum unused", IN(6, 18), .run = run_y, .decomposed = decomposed_y, .row_invariant = true},
    {.name = "y unused", IN(6, 9), .run = run_sum},
    {.name = "sum shared", IN(4, 33), .run = run_shared},
    {.name = "same tensor", IN(4, 5), .run = run_same, .decomposed = decomposed_same},
    {.name = "large", IN(131, 770), .run = run, .row_invariant = true},
};

const fm_op fm_op_add_rmsnorm = {
    .name = "add_rmsnorm",
    .formula = "sum = res + x; y = sum / sqrt(mean(sum^2) + eps) * w",
    .onnx = "Add, Mul, ReduceMean, Add, Sqrt, Div, Mul",
    .kernels = {FM_K_rmsnorm_fwd, FM_K_rmsnorm_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 6,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
    .grads_via_d = true, /* sum is rounded to D before it is normalised */
};

fm_tensor *fm_add_rmsnorm_(fm_ctx *c, fm_tensor *res, fm_tensor *x, fm_tensor *w, float eps, fm_tensor **sum) {
    attr a = {.eps = eps};
    fm_tensor *outs[FM_MAX_OUT] = {0};
    fm_tensor *y = fm_apply(c, &fm_op_add_rmsnorm, 2, 3, (fm_tensor *[]){res, x, w}, &a, sizeof a, outs);
    if (sum) {
        *sum = y ? outs[1] : NULL;
    }
    return y;
}
