/* A loss weighted by a learned precision (Kendall et al. 2018): the log-variance s of its task makes it count by
 * exp(-s), and pays for being unsure by s/2. */
#include <math.h>

#include "tensor/ops_util.h"

typedef struct attr {
    int32_t index;
    bool pays; /* s/2 is added: once a step */
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "loss", FM_ANY_FLOAT, 1, (int64_t[]){1}));
    FM_TRY(fm_in_check(n, 1, "log_var", FM_ANY_FLOAT, 1, NULL));
    if (a->index < 0 || a->index >= n->in[1]->dim[0]) {
        FM_FAIL(FM_ERR_SHAPE, "index: expected 0 to %lld, found %d", (long long)n->in[1]->dim[0] - 1, (int)a->index);
    }
    n->keeps_out[0] = false;
    return fm_make_out(c, n, fm_dtype_acc(x->dtype), 1, x->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const void *x = fm_data(c, n->in[0]), *v = fm_data(c, n->in[1]);
    void *y = fm_data(c, n->out[0]);
    FM_TRY(fm_ctx_status(c));
    if (!fm_ctx_is_meta(c)) {
        double s = fm_load_as_f64(n->in[1]->dtype, v, a->index);
        double loss = fm_load_as_f64(n->in[0]->dtype, x, 0);
        fm_store_from_f64(n->out[0]->dtype, y, 0, exp(-s) * loss + (a->pays ? 0.5 * s : 0));
    }
    return FM_OK;
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    void *dx = NULL, *dv = NULL;
    bool acc = false;
    if (!fm_has_dout(n, 0)) {
        return FM_OK;
    }
    const void *x = fm_data(c, n->in[0]), *v = fm_data(c, n->in[1]), *dy = fm_dout(c, n, 0);
    if (fm_wants(n, 0)) {
        FM_TRY(fm_din(c, n, 0, &dx, &acc));
    }
    if (fm_wants(n, 1)) {
        FM_TRY(fm_dweight_add(c, n, 1, &dv));
    }
    FM_TRY(fm_ctx_status(c));
    if (fm_ctx_is_meta(c)) {
        return FM_OK;
    }
    fm_dtype in = n->in[0]->dtype, wide = fm_dtype_acc(n->in[1]->dtype);
    double s = fm_load_as_f64(n->in[1]->dtype, v, a->index), loss = fm_load_as_f64(in, x, 0);
    double up = fm_load_as_f64(n->out[0]->dtype, dy, 0);
    if (dx) {
        fm_store_from_f64(in, dx, 0, (acc ? fm_load_as_f64(in, dx, 0) : 0) + up * exp(-s));
    }
    if (dv) {
        double before = fm_load_as_f64(wide, dv, a->index);
        fm_store_from_f64(wide, dv, a->index, before + up * ((a->pays ? 0.5 : 0) - exp(-s) * loss));
    }
    return FM_OK;
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_uncertainty(c, in[0], in[1], 2, true);
    return out[0] ? 1 : 0;
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_add(c, fm_uncertainty(c, in[0], in[1], 0, false), fm_uncertainty(c, in[0], in[1], 1, true));
    return out[0] ? 1 : 0;
}
/* Index 0 is 0 in a vector of zeros: the loss as it is. */
static int run_zero(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    static double zeros[3];
    FM_UNUSED(n_rows);
    out[0] = fm_uncertainty(c, in[0], fm_from_memory(c, FM_F64, 1, (int64_t[]){3}, zeros), 0, true);
    return out[0] ? 1 : 0;
}
static int decomposed_zero(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_sum_all(c, fm_scale(c, in[0], 1));
    return out[0] ? 1 : 0;
}

#define LOSS                                                                                                           \
    {                                                                                                                  \
        .name = "loss", .n_dims = 1, .dim = { 1 }                                                                      \
    }
#define LOG_VAR                                                                                                        \
    { .name = "log_var", .n_dims = 1, .dim = {3}, .weight = true }
static const fm_op_case cases[] = {
    {.name = "one of three", .n_in = 2, .in = {LOSS, LOG_VAR}, .run = run},
    {.name = "twice", .n_in = 2, .in = {LOSS, LOG_VAR}, .run = run_twice},
    {.name = "zero", .n_in = 1, .in = {LOSS}, .run = run_zero, .decomposed = decomposed_zero},
};
#undef LOSS
#undef LOG_VAR

const fm_op fm_op_uncertainty = {
    .name = "uncertainty",
    .formula = "y = exp(-s_i) x + s_i / 2",
    .onnx = NULL,
    .onnx_why = "a training loss: an exported model ends at the scores",
    .kernels = {FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 6,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_uncertainty_(fm_ctx *c, fm_tensor *loss, fm_tensor *log_var, int32_t index, bool pays) {
    attr a = {.index = index, .pays = pays};
    return fm_apply(c, &fm_op_uncertainty, 2, 2, (fm_tensor *[]){loss, log_var}, &a, sizeof a, NULL);
}
