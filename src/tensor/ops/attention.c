/* Attention over packed segments. */
#include "tensor/ops_util.h"

#include <math.h>

typedef struct attr {
    fm_attention_options o;
    fm_kv_view kv; /* copy of *o.kv; o.kv is not followed after the call */
    bool cached;
    int32_t one_q[2], one_kv[2]; /* offsets of the single segment when the caller gave none */
} attr;

static fm_status check_offsets(const char *what, const int32_t *off, int32_t n, int64_t first, int64_t last,
                               bool exact) {
    if (off[0] != first) {
        FM_FAIL(FM_ERR_SHAPE, "%s: expected to begin at %lld, found %d", what, (long long)first, (int)off[0]);
    }
    for (int32_t s = 0; s < n; s++) {
        if (off[s + 1] < off[s]) {
            FM_FAIL(FM_ERR_SHAPE, "%s: expected rising offsets, found %d after %d at segment %d", what, (int)off[s + 1],
                    (int)off[s], (int)s);
        }
    }
    if (exact ? off[n] != last : off[n] > last) {
        FM_FAIL(FM_ERR_SHAPE, "%s: expected to end at %lld (rows), found %d", what, (long long)last, (int)off[n]);
    }
    return FM_OK;
}

/* Resolves defaults in the node's copy of the options; T and S are rows of q and k. */
static fm_status resolve(attr *a, const fm_node *n) {
    fm_attention_options *o = &a->o;
    int64_t n_q = n->in[0]->dim[0], n_k = a->cached ? 0 : n->in[1]->dim[0];
    if (n_q > INT32_MAX || n_k > INT32_MAX) {
        FM_FAIL(FM_ERR_SHAPE, "input q: expected fewer than 2^31 rows, found %lld", (long long)FM_MAX(n_q, n_k));
    }
    if (!o->q_offsets) {
        if (o->n_segments > 1) {
            FM_FAIL(FM_ERR_ARGUMENT, "options: %d segments without q_offsets", (int)o->n_segments);
        }
        o->n_segments = 1;
        a->one_q[1] = (int32_t)n_q;
        o->q_offsets = a->one_q;
        if (!o->kv_offsets && !a->cached) {
            a->one_kv[1] = (int32_t)n_k;
            o->kv_offsets = a->one_kv;
        }
    }
    if (o->n_segments < 1) {
        FM_FAIL(FM_ERR_ARGUMENT, "options: expected at least one segment, found %d", (int)o->n_segments);
    }
    if (a->cached) {
        a->kv.kv_offsets = a->kv.kv_offsets ? a->kv.kv_offsets : o->kv_offsets;
        if (!a->kv.kv_offsets) {
            FM_FAIL(FM_ERR_ARGUMENT, "options: a key and value view without kv_offsets");
        }
    } else {
        a->kv.kv_offsets = o->kv_offsets ? o->kv_offsets : o->q_offsets;
        FM_TRY(check_offsets("kv_offsets", a->kv.kv_offsets, o->n_segments, 0, n_k, false));
    }
    FM_TRY(check_offsets("q_offsets", o->q_offsets, o->n_segments, 0, n_q, true));
    if (o->window < 0 || !(o->softcap >= 0)) {
        FM_FAIL(FM_ERR_ARGUMENT, "options: expected window and softcap of at least 0, found %d and %g", (int)o->window,
                (double)o->softcap);
    }
    return FM_OK;
}

static fm_status shape(fm_ctx *c, fm_node *n) {
    attr *a = n->attr;
    const fm_tensor *q = n->in[0];
    FM_TRY(fm_in_check(n, 0, "q", FM_ANY_FLOAT, 3, NULL));
    if (a->cached) {
        if (n->in[1] || n->in[2]) {
            FM_FAIL(FM_ERR_ARGUMENT, "inputs k and v: expected none beside a key and value view");
        }
        if (fm_node_records(c, n)) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "attention over a key and value cache has no gradient");
        }
    } else {
        if (!n->in[1] || !n->in[2]) {
            FM_FAIL(FM_ERR_ARGUMENT, "inputs k and v: expected both, or a key and value view in the options");
        }
        FM_TRY(fm_in_check(n, 1, "k", (int)q->dtype, 3, (int64_t[]){-1, -1, q->dim[2]}));
        FM_TRY(fm_in_check(n, 2, "v", (int)q->dtype, 3, (int64_t[]){n->in[1]->dim[0], n->in[1]->dim[1], -1}));
        a->o.n_kv_heads = (int32_t)n->in[1]->dim[1];
        a->o.v_dim = (int32_t)n->in[2]->dim[2];
    }
    if (a->o.n_kv_heads < 1 || a->o.v_dim < 1 || q->dim[1] < 1 || q->dim[1] % a->o.n_kv_heads != 0) {
        FM_FAIL(FM_ERR_SHAPE, "input q: expected a multiple of %d heads (those of k and v), found %lld",
                (int)a->o.n_kv_heads, (long long)q->dim[1]);
    }
    FM_TRY(fm_in_vector(n, 3, "sink", q->dim[1], 0));
    if (n->in[4]) {
        FM_TRY(fm_in_check(n, 4, "selected", FM_I32, 2, (int64_t[]){q->dim[0], -1}));
    }
    FM_TRY(resolve(a, n));
    FM_TRY(fm_make_out(c, n, q->dtype, 3, (int64_t[]){q->dim[0], q->dim[1], a->o.v_dim}));
    if (fm_node_records(c, n)) {
        FM_TRY(fm_make_save(c, n, fm_dtype_acc(q->dtype), 2, q->dim));
    }
    return FM_OK;
}

static fm_attention_args args_of(fm_ctx *c, const fm_node *n) {
    const attr *a = n->attr;
    const fm_attention_options *o = &a->o;
    const fm_tensor *q = n->in[0];
    fm_attention_args r = {
        .n_segments = o->n_segments,
        .n_heads = (int32_t)q->dim[1],
        .n_kv_heads = o->n_kv_heads,
        .head_dim = (int32_t)q->dim[2],
        .v_dim = o->v_dim,
        .q_offsets = o->q_offsets,
        .q = fm_data(c, q),
        .kv = a->kv,
        .mask = o->mask,
        .window = o->window,
        .scale = o->scale,
        .softcap = o->softcap,
        .alibi = o->alibi,
        .sink = fm_data(c, n->in[3]),
        .selected = n->in[4] ? fm_data(c, n->in[4]) : NULL,
        .max_selected = n->in[4] ? (int32_t)n->in[4]->dim[1] : 0,
        .out = fm_data(c, n->out[0]),
        .lse = fm_data(c, n->saved[0]),
    };
    if (!a->cached) {
        r.kv.k = fm_data(c, n->in[1]);
        r.kv.v = fm_data(c, n->in[2]);
        r.kv.dtype = q->dtype;
        r.kv.k_stride = (int64_t)o->n_kv_heads * r.head_dim;
        r.kv.v_stride = (int64_t)o->n_kv_heads * r.v_dim;
    }
    return r;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_attention_args a = args_of(c, n);
    return fm_op_run(c, FM_K_attention_fwd, n->in[0]->dtype, &a);
}

/* k and v get their gradients together; when only one is wanted the other goes to a temporary. Rows of k outside every
 * segment get none, so with gaps the gradient must start at zero. */
static fm_status backward_kv(fm_ctx *c, fm_node *n, int i, fm_dwrite *w, fm_temp *unused, void **data) {
    const fm_tensor *t = n->in[i];
    const attr *a = n->attr;
    if (!fm_wants(n, i)) {
        FM_TRY(fm_temp_take(c, unused, t->dtype, fm_numel(t)));
        *data = unused->data;
        return FM_OK;
    }
    FM_TRY(fm_dwrite_begin(c, n, i, w));
    *data = w->data;
    return a->kv.kv_offsets[a->o.n_segments] < t->dim[0] ? fm_op_zero(c, t->dtype, fm_numel(t), w->data) : FM_OK;
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    fm_attention_bwd_args b = {.f = args_of(c, n), .dout = fm_dout(c, n, 0)};
    fm_dwrite dq = {0}, dk = {0}, dv = {0};
    fm_temp no_dk = {0}, no_dv = {0};
    if (fm_wants(n, 0)) {
        FM_TRY(fm_dwrite_begin(c, n, 0, &dq));
        b.dq = dq.data;
    }
    if (fm_wants(n, 1) || fm_wants(n, 2)) {
        FM_TRY(backward_kv(c, n, 1, &dk, &no_dk, &b.dk));
        FM_TRY(backward_kv(c, n, 2, &dv, &no_dv, &b.dv));
    }
    if (fm_wants(n, 3)) {
        FM_TRY(fm_dweight_add(c, n, 3, &b.dsink));
    }
    FM_TRY(fm_op_run(c, FM_K_attention_bwd, n->in[0]->dtype, &b));
    fm_temp_drop(c, &no_dk);
    fm_temp_drop(c, &no_dv);
    FM_TRY(fm_dwrite_end(c, &dq));
    FM_TRY(fm_dwrite_end(c, &dk));
    return fm_dwrite_end(c, &dv);
}

#include "tensor/ops/attention_cases.h"

const fm_op fm_op_attention = {
    .name = "attention",
    .formula = "o = softmax(scale q k^T + bias) v over the keys a query sees",
    .onnx = "MatMul, Mul, Add, Softmax, MatMul",
    .kernels = {FM_K_attention_fwd, FM_K_attention_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 48,
    .tol_bwd = 32,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
    .grads_via_d = true, /* the gradient of the sink is formed from the output, which is D */
};

fm_tensor *fm_attention_(fm_ctx *c, fm_tensor *q, fm_tensor *k, fm_tensor *v, fm_tensor *sink,
                         const fm_attention_options *o) {
    attr a = {.o = *o, .cached = o->kv != NULL};
    if (!q || (!o->kv && (!k || !v))) {
        return NULL;
    }
    if (o->kv) {
        a.kv = *o->kv;
        a.o.kv = NULL;
    }
    if (a.o.scale == 0 && q->dim[q->n_dims - 1] > 0) {
        a.o.scale = (float)(1.0 / sqrt((double)q->dim[q->n_dims - 1]));
    }
    a.o.selected = NULL;
    return fm_apply(c, &fm_op_attention, 1, 5, (fm_tensor *[]){q, k, v, sink, o->selected}, &a, sizeof a, NULL);
}
