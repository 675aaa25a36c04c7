/* Cross-entropy from logits. Logits narrower than A are widened by chunks of rows; backward goes through the rows
 * again, so no gradient of the logits is held between forward and backward. */
#include "tensor/ops_util.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "logits", FM_ANY_FLOAT, 2, NULL));
    fm_dtype acc = fm_dtype_acc(x->dtype);
    if (fm_ctx_is_meta(c) && x->dtype != acc) { /* forward will not run here: let the peak know of its chunk */
        fm_temp wide;
        FM_TRY(fm_temp_take(c, &wide, acc, fm_loss_chunk(x->dim[0], x->dim[1]) * x->dim[1]));
        fm_temp_drop(c, &wide);
    }
    return fm_loss_shape(c, n, 1, x->dim[0], x->dim[1], acc, n->attr);
}

/* Losses of all rows to `loss`; with dx not NULL also dx [T,V] D = dscale * d(loss)/d(logits). */
static fm_status walk(fm_ctx *c, const fm_node *n, double dscale, void *loss, void *dx) {
    const fm_loss_options *o = n->attr;
    const fm_tensor *x = n->in[0];
    const uint8_t *logits = fm_data(c, x);
    const int32_t *target = fm_data(c, n->in[1]);
    fm_dtype acc = fm_dtype_acc(x->dtype);
    int64_t n_rows = x->dim[0], n_classes = x->dim[1], chunk = fm_loss_chunk(n_rows, n_classes);
    int64_t x_size = fm_dtype_bytes(x->dtype, 1), acc_size = fm_dtype_bytes(acc, 1);
    fm_temp wide = {0};
    if (x->dtype != acc) {
        FM_TRY(fm_temp_take(c, &wide, acc, chunk * n_classes));
    }
    if (fm_ctx_is_meta(c)) {
        n_rows = 0;
    }
    for (int64_t t = 0; t < n_rows; t += chunk) {
        int64_t m = FM_MIN(chunk, n_rows - t);
        const void *rows = logits + t * n_classes * x_size;
        if (wide.data) {
            fm_cast_args cast = {.n = m * n_classes, .to = acc, .x = rows, .y = wide.data};
            FM_TRY(fm_op_run(c, FM_K_cast, x->dtype, &cast));
            rows = wide.data;
        }
        fm_cross_entropy_args a = {
            .n_rows = m,
            .n_classes = n_classes,
            .x = rows,
            .x_stride = n_classes,
            .target = target + t,
            .ignore_index = o->ignore_index,
            .smooth = o->label_smoothing,
            .z_loss = o->z_loss,
            .dscale = dscale,
            .weight = o->weight ? o->weight + t : NULL,
            .dx = dx ? (uint8_t *)dx + t * n_classes * x_size : NULL,
            .dx_stride = n_classes,
            .loss = (uint8_t *)loss + t * acc_size,
        };
        FM_TRY(fm_op_run(c, FM_K_cross_entropy, x->dtype, &a));
    }
    fm_temp_drop(c, &wide);
    return FM_OK;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_loss_options *o = n->attr;
    const fm_tensor *x = n->in[0], *targets = n->in[1];
    FM_TRY(fm_ids_check("targets", fm_data(c, targets), targets->dim[0], x->dim[1], &o->ignore_index));
    FM_TRY(walk(c, n, 1, fm_data(c, n->out[1]), NULL));
    return fm_loss_total(c, n, o->scale);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_loss_options *o = n->attr;
    double upstream;
    fm_dwrite dx;
    fm_temp loss;
    if (!fm_has_dout(n, 0) || !fm_wants(n, 0)) {
        return FM_OK;
    }
    FM_TRY(fm_loss_upstream(c, n, o, &upstream));
    FM_TRY(fm_dwrite_begin(c, n, 0, &dx));
    FM_TRY(fm_temp_take(c, &loss, n->out[1]->dtype, n->out[1]->dim[0]));
    FM_TRY(walk(c, n, o->scale * upstream, loss.data, dx.data));
    fm_temp_drop(c, &loss);
    return fm_dwrite_end(c, &dx);
}

static int run_with(fm_ctx *c, fm_tensor **in, fm_tensor **out, const fm_loss_options *o) {
    out[0] = fm_cross_entropy(c, in[0], in[1], o, &out[1]);
    return out[0] ? 2 : 0;
}
#define RUN(name, ...)                                                                                                 \
    static int name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                                      \
        FM_UNUSED(n_rows);                                                                                             \
        return run_with(c, in, out, &(fm_loss_options){.ignore_index = -100, __VA_ARGS__});                            \
    }
static const float weights[16] = {1, 0.5f, 0, 2, -1, 0.25f, 3, 1, 1, 0.125f, 4, 1, 0.75f, 1, 2, 1};
RUN(run_plain, .scale = 1)
RUN(run_smooth, .scale = 0.125, .label_smoothing = 0.1f)
RUN(run_z, .scale = 0.125, .z_loss = 0.01f)
RUN(run_all, .scale = 0.25, .label_smoothing = 0.2f, .z_loss = 0.003f, .weight = weights)
RUN(run_root, .scale = 0.25, .label_smoothing = 0.1f, .is_root = true)
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run_plain(c, in, n_rows, out);
    out[1] = fm_scale(c, in[0], 0.5);
    return r && out[1] ? 2 : 0;
}
/* One class: its probability is 1 and its loss 0, whatever the logit. */
static int decomposed_one(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[1] = fm_sum(c, fm_scale(c, in[0], 0));
    out[0] = fm_sum_all(c, fm_scale(c, in[0], 0));
    return out[0] && out[1] ? 2 : 0;
}

#define IN(T, V)                                                                                                       \
    .n_in = 2, .in = {{.name = "logits", .n_dims = 2, .dim = {T, V}, .scale = 2, .rows = true},                        \
                      {.name = "targets", .n_dims = 1, .dim = {T}, .kind = FM_IN_TARGETS, .max = (V), .rows = true}}
static const fm_op_case cases[] = {
    {.name = "plain", IN(9, 13), .run = run_plain, .row_invariant = true},
    {.name = "smoothing", IN(9, 13), .run = run_smooth, .row_invariant = true},
    {.name = "z loss", IN(9, 13), .run = run_z, .row_invariant = true},
    {.name = "all options", IN(16, 7), .run = run_all},
    {.name = "one class", IN(4, 1), .run = run_plain, .decomposed = decomposed_one},
    {.name = "root", IN(9, 13), .run = run_root, .unit_upstream = true},
    {.name = "twice", IN(6, 11), .run = run_twice},
    {.name = "large", IN(67, 1031), .run = run_smooth, .row_invariant = true},
    {.name = "chunks", IN(70, 33000), .run = run_smooth},
};

const fm_op fm_op_cross_entropy = {
    .name = "cross_entropy",
    .formula = "scale * sum_t w_t ((1-s)(lse - x_c) + s (lse - mean x) + z lse^2)",
    .onnx = NULL,
    .onnx_why = "a training loss: an exported model ends at the logits",
    .kernels = {FM_K_cross_entropy, FM_K_cast, FM_K_reduce_fwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 4,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_cross_entropy_(fm_ctx *c, fm_tensor *logits, fm_tensor *targets, const fm_loss_options *o,
                             fm_tensor **token_loss) {
    fm_tensor *outs[FM_MAX_OUT] = {0};
    fm_tensor *y = fm_apply(c, &fm_op_cross_entropy, 2, 2, (fm_tensor *[]){logits, targets}, o, sizeof *o, outs);
    if (y) {
        outs[1]->needs_grad = false;
    }
    if (token_loss) {
        *token_loss = y ? outs[1] : NULL;
    }
    return y;
}
