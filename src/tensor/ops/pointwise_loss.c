/* Losses of scores against numbers: several labels that may each hold (binary cross-entropy), and regression. */
#include <math.h>

#include "tensor/ops_util.h"

/* out: total, losses of rows. */
static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_dtype acc = fm_dtype_acc(x->dtype);
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 2, NULL));
    if (x->dim[1] < 1) {
        FM_FAIL(FM_ERR_SHAPE, "input x: expected at least one column");
    }
    n->keeps_out[0] = n->keeps_out[1] = false;
    FM_TRY(fm_make_out(c, n, acc, 1, (int64_t[]){1}));
    return fm_make_out(c, n, acc, 1, x->dim);
}

static fm_pointwise_loss_args args_of(fm_ctx *c, const fm_node *n) {
    const fm_pointwise_options *o = n->attr;
    return (fm_pointwise_loss_args){.n_rows = n->in[0]->dim[0],
                                    .dim = n->in[0]->dim[1],
                                    .kind = o->kind,
                                    .x = fm_data(c, n->in[0]),
                                    .target = o->target,
                                    .weight = o->weight};
}

/* Infinite targets have no meaning; NaN says that there is none. BCE wants shares of 1. */
static fm_status check_targets(const fm_pointwise_options *o, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double t = (double)o->target[i];
        if (isinf(t) || (o->kind == FM_POINTWISE_BCE && (t < 0 || t > 1))) {
            FM_FAIL(FM_ERR_DATA, "targets: expected %s, found %g at %lld",
                    o->kind == FM_POINTWISE_BCE ? "values in [0, 1]" : "finite values", t, (long long)i);
        }
    }
    return FM_OK;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_pointwise_options *o = n->attr;
    fm_pointwise_loss_args a = args_of(c, n);
    FM_TRY(check_targets(o, a.n_rows * a.dim));
    a.loss = fm_data(c, n->out[1]);
    FM_TRY(fm_op_run(c, FM_K_pointwise_loss, n->in[0]->dtype, &a));
    return fm_loss_total(c, n, o->scale);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_pointwise_options *o = n->attr;
    fm_loss_options free_root = {0};
    double upstream;
    fm_dwrite dx;
    fm_temp loss;
    if (!fm_has_dout(n, 0) || !fm_wants(n, 0)) {
        return FM_OK;
    }
    FM_TRY(fm_loss_upstream(c, n, &free_root, &upstream));
    FM_TRY(fm_dwrite_begin(c, n, 0, &dx));
    FM_TRY(fm_temp_take(c, &loss, n->out[1]->dtype, n->out[1]->dim[0]));
    fm_pointwise_loss_args a = args_of(c, n);
    a.dscale = o->scale * upstream;
    a.dx = dx.data;
    a.loss = loss.data;
    FM_TRY(fm_op_run(c, FM_K_pointwise_loss, n->in[0]->dtype, &a));
    fm_temp_drop(c, &loss);
    return fm_dwrite_end(c, &dx);
}

static const float shares[21] = {0, 1, 1, 0.25f, 0, 1, 1, NAN, 0, 0, 1, 1, 0.5f, 0, 1, 0.9f, 0, 0.1f, 1, 0, 0.75f};
static const float numbers[21] = {-1, 2,    0.5f, 0, 3, 1.25f, -0.5f, 0.1f, NAN, 2, -2,
                                  1,  0.5f, 0,    1, 1, 7,     0.25f, 1,    0,   4};
static const float none[12];
static const float row_weights[7] = {1, 0.5f, 0, 2, 1, 0.25f, 3};
static int run_with(fm_ctx *c, fm_tensor **in, fm_tensor **out, const fm_pointwise_options *o) {
    out[0] = fm_pointwise_loss(c, in[0], o, &out[1]);
    return out[0] ? 2 : 0;
}
#define RUN(name, ...)                                                                                                 \
    static int name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                                      \
        FM_UNUSED(n_rows);                                                                                             \
        return run_with(c, in, out, &(fm_pointwise_options){__VA_ARGS__});                                             \
    }
RUN(run_bce, .kind = FM_POINTWISE_BCE, .target = shares, .scale = 0.5)
RUN(run_bce_weights, .kind = FM_POINTWISE_BCE, .target = shares, .scale = 1, .weight = row_weights)
RUN(run_mse, .kind = FM_POINTWISE_MSE, .target = numbers, .scale = 0.125)
RUN(run_mse_weights, .kind = FM_POINTWISE_MSE, .target = numbers, .scale = 1, .weight = row_weights)
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run_mse(c, in, n_rows, out);
    out[1] = fm_scale(c, in[0], 0.5);
    return r && out[1] ? 2 : 0;
}
/* Squared error against zeros is the mean of squares. */
RUN(run_zeros, .kind = FM_POINTWISE_MSE, .target = none, .scale = 1)
static int decomposed_zeros(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_sum_all(c, fm_mean(c, fm_mul(c, in[0], in[0])));
    out[1] = fm_mean(c, fm_mul(c, in[0], in[0]));
    if (out[1]) {
        out[1]->needs_grad = false;
    }
    return out[0] && out[1] ? 2 : 0;
}

#define IN(T, D) .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .scale = 2, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "bce", IN(7, 3), .run = run_bce},
    {.name = "bce weights", IN(7, 3), .run = run_bce_weights},
    {.name = "mse", IN(7, 3), .run = run_mse},
    {.name = "mse weights", IN(7, 3), .run = run_mse_weights},
    {.name = "one column", IN(7, 1), .run = run_mse},
    {.name = "zeros", IN(4, 3), .run = run_zeros, .decomposed = decomposed_zeros},
    {.name = "twice", IN(5, 3), .run = run_twice},
};

const fm_op fm_op_pointwise_loss = {
    .name = "pointwise_loss",
    .formula = "scale * sum_r w_r mean_j loss(x_rj, t_rj), binary cross-entropy or squared error",
    .onnx = NULL,
    .onnx_why = "a training loss: an exported model ends at the scores",
    .kernels = {FM_K_pointwise_loss, FM_K_reduce_fwd, FM_KERNEL_COUNT},
    .missing_ok = "a few scores per text: the reference takes microseconds",
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 4,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_pointwise_loss_(fm_ctx *c, fm_tensor *x, const fm_pointwise_options *o, fm_tensor **row_loss) {
    fm_tensor *outs[FM_MAX_OUT] = {0};
    fm_tensor *y = fm_apply(c, &fm_op_pointwise_loss, 1, 1, &x, o, sizeof *o, outs);
    if (y) {
        outs[1]->needs_grad = false;
    }
    if (row_loss) {
        *row_loss = y ? outs[1] : NULL;
    }
    return y;
}
