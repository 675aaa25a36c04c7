/* Language-model head and cross-entropy by chunks of rows, so that all logits [T,V] are never held.
 *
 * A chunk: logits = x_c w^T in A; losses, and the gradient of the logits over them in D; dx_c = dlogits w and
 * dw += dlogits^T x_c. The chunk's buffer (about 8 MiB) is temporary memory of the gradient region. Chunks are
 * made of the rows that carry loss; the others (questions, padding) cost nothing.
 *
 * is_root (the trainer's case): the upstream gradient is known to be 1, so gradients are formed in the forward pass
 * while the logits are there: dw goes to the weight's gradient at once, dx waits in a saved tensor. A forward pass
 * whose backward is then not run has therefore already changed the weight's gradient. Otherwise backward forms the
 * logits a second time. */
#include <string.h>

#include "tensor/ops_util.h"

/* Memory of one pass. */
typedef struct room {
    int64_t chunk;                 /* rows */
    fm_temp logits;                /* [chunk,V] A */
    fm_temp x, dx, loss;           /* [chunk,D] D twice, [chunk] A: rows that were gathered */
    fm_temp index, target, weight; /* [chunk] i32, [chunk] i32, [chunk] f32 */
} room;

static fm_status take_room(fm_ctx *c, const fm_node *n, room *r) {
    const fm_tensor *x = n->in[0], *w = n->in[1];
    int64_t chunk = fm_loss_chunk(x->dim[0], w->dim[0]);
    *r = (room){.chunk = chunk};
    FM_TRY(fm_temp_take(c, &r->logits, fm_dtype_acc(x->dtype), chunk * w->dim[0]));
    FM_TRY(fm_temp_take(c, &r->x, x->dtype, chunk * x->dim[1]));
    FM_TRY(fm_temp_take(c, &r->dx, x->dtype, chunk * x->dim[1]));
    FM_TRY(fm_temp_take(c, &r->loss, fm_dtype_acc(x->dtype), chunk));
    FM_TRY(fm_temp_take(c, &r->index, FM_I32, chunk));
    FM_TRY(fm_temp_take(c, &r->target, FM_I32, chunk));
    return fm_temp_take(c, &r->weight, FM_F32, chunk);
}

static void drop_room(fm_ctx *c, room *r) {
    fm_temp_drop(c, &r->weight);
    fm_temp_drop(c, &r->target);
    fm_temp_drop(c, &r->index);
    fm_temp_drop(c, &r->loss);
    fm_temp_drop(c, &r->dx);
    fm_temp_drop(c, &r->x);
    fm_temp_drop(c, &r->logits);
}

/* in: x, w, targets; out: total, token losses; saved (is_root, x wants a gradient): dx. */
static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_loss_options *o = n->attr;
    const fm_tensor *x = n->in[0], *w = n->in[1];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 2, NULL));
    FM_TRY(fm_in_check(n, 1, "w", (int)x->dtype, 2, (int64_t[]){-1, x->dim[1]}));
    if (x->dim[1] < 1) {
        FM_FAIL(FM_ERR_SHAPE, "input x: expected rows of at least one element");
    }
    fm_dtype acc = fm_dtype_acc(x->dtype);
    FM_TRY(fm_loss_shape(c, n, 2, x->dim[0], w->dim[0], acc, o));
    if (fm_node_records(c, n) && o->is_root) {
        n->keeps_in[0] = n->keeps_in[1] = n->keeps_in[2] = false;
        if (fm_wants(n, 0)) {
            FM_TRY(fm_make_save(c, n, x->dtype, 2, x->dim));
        }
    }
    if (fm_ctx_is_meta(c)) { /* forward will not run here: let the peak know of its room */
        room r;
        FM_TRY(take_room(c, n, &r));
        drop_room(c, &r);
    }
    return FM_OK;
}

/* Where the gradients of one pass go; NULL = not wanted. */
typedef struct target {
    double dscale;
    void *dx; /* [T,D] D, written with = */
    void *dw; /* [V,D] A */
    bool acc_dw;
} target;

/* Rows of one chunk, one behind the other. */
typedef struct part {
    int64_t m;
    const void *x;
    const int32_t *target;
    const float *weight;
    void *loss, *dx;
    bool acc_dw;
} part;

/* Losses, and gradients when g is not NULL. */
static fm_status chunk_rows(fm_ctx *c, const fm_node *n, void *logits, const part *p, const target *g) {
    const fm_loss_options *o = n->attr;
    const fm_tensor *w = n->in[1];
    fm_dtype d = n->in[0]->dtype, acc = fm_dtype_acc(d);
    int64_t n_classes = w->dim[0], dim = w->dim[1];
    fm_matmul_args head = {
        .m = p->m,
        .n = n_classes,
        .k = dim,
        .a = p->x,
        .lda = dim,
        .b = fm_data(c, w),
        .ldb = dim,
        .trans_b = true,
        .c = logits,
        .ldc = n_classes,
        .c_dtype = acc,
    };
    FM_TRY(fm_op_run(c, FM_K_matmul, d, &head));
    /* The gradient of a row begins where its logits begin, so that rows stay apart. */
    int64_t stride = n_classes * fm_dtype_bytes(acc, 1) / fm_dtype_bytes(d, 1);
    fm_cross_entropy_args ce = {
        .n_rows = p->m,
        .n_classes = n_classes,
        .x = logits,
        .x_stride = n_classes,
        .target = p->target,
        .ignore_index = o->ignore_index,
        .smooth = o->label_smoothing,
        .z_loss = o->z_loss,
        .dscale = g ? g->dscale : 0,
        .weight = p->weight,
        .dx = g ? logits : NULL,
        .dx_stride = stride,
        .loss = p->loss,
    };
    FM_TRY(fm_op_run(c, FM_K_cross_entropy, d, &ce));
    if (g && g->dx) {
        fm_matmul_args a = {
            .m = p->m,
            .n = dim,
            .k = n_classes,
            .a = logits,
            .lda = stride,
            .b = head.b,
            .ldb = dim,
            .c = p->dx,
            .ldc = dim,
            .c_dtype = d,
        };
        FM_TRY(fm_op_run(c, FM_K_matmul, d, &a));
    }
    if (g && g->dw) {
        fm_matmul_args a = {
            .m = n_classes,
            .n = dim,
            .k = p->m,
            .a = logits,
            .lda = stride,
            .trans_a = true,
            .b = p->x,
            .ldb = dim,
            .c = g->dw,
            .ldc = dim,
            .c_dtype = acc,
            .accumulate = p->acc_dw,
        };
        FM_TRY(fm_op_run(c, FM_K_matmul, d, &a));
    }
    return FM_OK;
}

/* Rows that carry loss are gathered, and what comes of them is put back among zeros. */
static fm_status walk_learned(fm_ctx *c, const fm_node *n, const room *r, void *loss, const target *g) {
    const fm_loss_options *o = n->attr;
    const fm_tensor *x = n->in[0], *w = n->in[1];
    const int32_t *target_of = fm_data(c, n->in[2]);
    const uint8_t *from = fm_data(c, x);
    FM_TRY(fm_ctx_status(c));
    int32_t *index = r->index.data, *targets = r->target.data;
    float *weight = r->weight.data;
    size_t row = (size_t)(x->dim[1] * fm_dtype_bytes(x->dtype, 1));
    size_t acc_size = (size_t)fm_dtype_bytes(fm_dtype_acc(x->dtype), 1);
    bool acc_dw = g && g->acc_dw;
    memset(loss, 0, (size_t)x->dim[0] * acc_size);
    if (g && g->dx) {
        memset(g->dx, 0, (size_t)x->dim[0] * row);
    }
    for (int64_t t = 0; t < x->dim[0];) {
        int64_t m = 0;
        for (; t < x->dim[0] && m < r->chunk; t++) {
            if (target_of[t] != o->ignore_index) {
                memcpy((uint8_t *)r->x.data + (size_t)m * row, from + (size_t)t * row, row);
                targets[m] = target_of[t];
                weight[m] = o->weight ? o->weight[t] : 1;
                index[m++] = (int32_t)t;
            }
        }
        if (m == 0) {
            break;
        }
        part p = {.m = m,
                  .x = r->x.data,
                  .target = targets,
                  .weight = o->weight ? weight : NULL,
                  .loss = r->loss.data,
                  .dx = r->dx.data,
                  .acc_dw = acc_dw};
        FM_TRY(chunk_rows(c, n, r->logits.data, &p, g));
        acc_dw = true;
        for (int64_t i = 0; i < m; i++) {
            size_t to = (size_t)index[i], at = (size_t)i;
            memcpy((uint8_t *)loss + to * acc_size, (uint8_t *)r->loss.data + at * acc_size, acc_size);
            if (g && g->dx) {
                memcpy((uint8_t *)g->dx + to * row, (uint8_t *)r->dx.data + at * row, row);
            }
        }
    }
    if (g && g->dw && !acc_dw) { /* no row at all */
        memset(g->dw, 0, (size_t)fm_numel(w) * acc_size);
    }
    return FM_OK;
}

static fm_status walk(fm_ctx *c, const fm_node *n, void *loss, const target *g) {
    room r;
    FM_TRY(take_room(c, n, &r));
    if (!fm_ctx_is_meta(c)) {
        FM_TRY(walk_learned(c, n, &r, loss, g));
    }
    drop_room(c, &r);
    return FM_OK;
}

/* Gradient memory of w; zeroed when there is no row to write it. */
static fm_status open_dw(fm_ctx *c, fm_node *n, target *g) {
    if (!fm_wants(n, 1)) {
        return FM_OK;
    }
    if (n->in[0]->dim[0] == 0) {
        return fm_dweight_add(c, n, 1, &g->dw);
    }
    return fm_dweight(c, n, 1, &g->dw, &g->acc_dw);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_loss_options *o = n->attr;
    const fm_tensor *targets = n->in[2];
    target g = {.dscale = o->scale, .dx = fm_data(c, n->saved[0])};
    bool now = fm_node_records(c, n) && o->is_root;
    FM_TRY(fm_ids_check("targets", fm_data(c, targets), targets->dim[0], n->in[1]->dim[0], &o->ignore_index));
    if (now) {
        FM_TRY(open_dw(c, n, &g));
    }
    FM_TRY(walk(c, n, fm_data(c, n->out[1]), now ? &g : NULL));
    return fm_loss_total(c, n, o->scale);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_loss_options *o = n->attr;
    double upstream;
    if (!fm_has_dout(n, 0)) {
        return FM_OK;
    }
    FM_TRY(fm_loss_upstream(c, n, o, &upstream));
    if (o->is_root) {
        fm_axpby_args a = {.n = fm_numel(n->in[0]), .alpha = 1, .x = fm_data(c, n->saved[0])};
        bool acc;
        if (!fm_wants(n, 0)) {
            return FM_OK;
        }
        FM_TRY(fm_din(c, n, 0, &a.y, &acc));
        a.beta = acc ? 1 : 0;
        return fm_op_run(c, FM_K_axpby, n->in[0]->dtype, &a);
    }
    target g = {.dscale = o->scale * upstream};
    fm_dwrite dx = {0};
    fm_temp loss;
    if (fm_wants(n, 0)) {
        FM_TRY(fm_dwrite_begin(c, n, 0, &dx));
        g.dx = dx.data;
    }
    FM_TRY(open_dw(c, n, &g));
    FM_TRY(fm_temp_take(c, &loss, n->out[1]->dtype, n->out[1]->dim[0]));
    FM_TRY(walk(c, n, loss.data, &g));
    fm_temp_drop(c, &loss);
    return fm_dwrite_end(c, &dx);
}

static int run_with(fm_ctx *c, fm_tensor **in, fm_tensor **out, const fm_loss_options *o) {
    out[0] = fm_linear_ce(c, in[0], in[1], in[2], o, &out[1]);
    return out[0] ? 2 : 0;
}
static int decomposed_with(fm_ctx *c, fm_tensor **in, fm_tensor **out, const fm_loss_options *o) {
    out[0] = fm_cross_entropy(c, fm_linear(c, in[0], in[1], NULL), in[2], o, &out[1]);
    return out[0] ? 2 : 0;
}
#define RUN(name, ...)                                                                                                 \
    static int run_##name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                                \
        FM_UNUSED(n_rows);                                                                                             \
        return run_with(c, in, out, &(fm_loss_options){.ignore_index = -100, __VA_ARGS__});                            \
    }                                                                                                                  \
    static int decomposed_##name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                         \
        FM_UNUSED(n_rows);                                                                                             \
        return decomposed_with(c, in, out, &(fm_loss_options){.ignore_index = -100, __VA_ARGS__});                     \
    }
static const float weights[16] = {1, 0.5f, 0, 2, -1, 0.25f, 3, 1, 1, 0.125f, 4, 1, 0.75f, 1, 2, 1};
RUN(plain, .scale = 1)
RUN(all, .scale = 0.25, .label_smoothing = 0.2f, .z_loss = 0.003f, .weight = weights)
RUN(root, .scale = 0.125, .is_root = true)
RUN(root_all, .scale = 0.25, .label_smoothing = 0.2f, .z_loss = 0.003f, .weight = weights, .is_root = true)
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run_plain(c, in, n_rows, out);
    out[1] = fm_linear(c, in[0], in[1], NULL);
    return r && out[1] ? 2 : 0;
}
static int decomposed_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = decomposed_plain(c, in, n_rows, out);
    out[1] = fm_linear(c, in[0], in[1], NULL);
    return r && out[1] ? 2 : 0;
}

#define IN(T, V, D)                                                                                                    \
    .n_in = 3, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .rows = true},                                         \
                      {.name = "w", .n_dims = 2, .dim = {V, D}, .scale = 0.5, .weight = true},                         \
                      {.name = "targets", .n_dims = 1, .dim = {T}, .kind = FM_IN_TARGETS, .max = (V), .rows = true}}
#define CASE(run_name) .run = run_##run_name, .decomposed = decomposed_##run_name
static const fm_op_case cases[] = {
    {.name = "plain", IN(9, 13, 7), CASE(plain), .row_invariant = true},
    {.name = "all options", IN(16, 11, 6), CASE(all)},
    {.name = "root", IN(9, 13, 7), CASE(root), .unit_upstream = true, .row_invariant = true},
    {.name = "root all options", IN(16, 11, 6), CASE(root_all), .unit_upstream = true},
    {.name = "twice", IN(6, 11, 5), CASE(twice)},
    {.name = "chunks", IN(70, 33000, 4), CASE(plain)},
    {.name = "root chunks", IN(70, 33000, 4), CASE(root), .unit_upstream = true},
};

const fm_op fm_op_linear_ce = {
    .name = "linear_ce",
    .formula = "cross_entropy(x w^T)",
    .onnx = NULL,
    .onnx_why = "a training loss: an exported model ends at the logits",
    .kernels = {FM_K_matmul, FM_K_cross_entropy, FM_K_reduce_fwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 24,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
    .grads_via_d = true, /* the gradient of the logits is rounded to D */
};

fm_tensor *fm_linear_ce_(fm_ctx *c, fm_tensor *x, fm_tensor *w, fm_tensor *targets, const fm_loss_options *o,
                         fm_tensor **token_loss) {
    fm_tensor *outs[FM_MAX_OUT] = {0};
    fm_tensor *y = fm_apply(c, &fm_op_linear_ce, 3, 3, (fm_tensor *[]){x, w, targets}, o, sizeof *o, outs);
    if (y) {
        outs[1]->needs_grad = false;
    }
    if (token_loss) {
        *token_loss = y ? outs[1] : NULL;
    }
    return y;
}
