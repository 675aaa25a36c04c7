/* Keys for sparse attention, chosen by a small scoring head (lightning indexer of DeepSeek V3.2). */
#include "tensor/ops_util.h"

typedef struct attr {
    fm_index_options o;
    fm_kv_view kv;
    bool cached;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    attr *a = n->attr;
    const fm_tensor *q = n->in[0];
    FM_TRY(fm_in_check(n, 0, "q", FM_ANY_FLOAT, 3, NULL));
    FM_TRY(fm_in_check(n, 1, "w", (int)q->dtype, 2, q->dim));
    if (!n->in[2] && !a->cached) {
        FM_FAIL(FM_ERR_ARGUMENT, "input k: expected keys, or a view of a cache in the options");
    }
    if (n->in[2]) {
        FM_TRY(fm_in_check(n, 2, "k", (int)q->dtype, 2, (int64_t[]){-1, q->dim[2]}));
    }
    const int32_t *off = a->o.q_offsets;
    if (a->o.n_selected < 1 || a->o.n_segments < 1 || !off || off[0] != 0 || off[a->o.n_segments] != q->dim[0] ||
        (a->cached && !a->kv.kv_offsets) || (n->in[2] && n->in[2]->dim[0] != q->dim[0])) {
        FM_FAIL(FM_ERR_SHAPE, "options: expected segments of all %lld rows, as many keys, and at least one to select",
                (long long)q->dim[0]);
    }
    n->keeps_in[0] = n->keeps_in[1] = n->keeps_in[2] = false;
    return fm_make_out(c, n, FM_I32, 2, (int64_t[]){q->dim[0], a->o.n_selected});
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *q = n->in[0];
    fm_index_select_args k = {
        .n_segments = a->o.n_segments,
        .n_heads = (int32_t)q->dim[1],
        .dim = (int32_t)q->dim[2],
        .n_selected = a->o.n_selected,
        .q_offsets = a->o.q_offsets,
        .q = fm_data(c, q),
        .w = fm_data(c, n->in[1]),
        .kv = a->kv,
        .ids = fm_data(c, n->out[0]),
    };
    if (!a->cached) {
        k.kv = (fm_kv_view){
            .k = fm_data(c, n->in[2]), .dtype = q->dtype, .k_stride = q->dim[2], .kv_offsets = a->o.q_offsets};
    }
    return fm_op_run(c, FM_K_index_select, q->dtype, &k);
}

/* What is selected shows in attention over it. */
static int run_with(fm_ctx *c, fm_tensor **in, fm_tensor **out, int32_t n_segments, const int32_t *offsets, int32_t k) {
    fm_index_options o = {.n_segments = n_segments, .q_offsets = offsets, .n_selected = k};
    fm_tensor *ids = fm_index_select(c, in[0], in[1], in[2], &o);
    out[0] =
        ids ? fm_attention(c, in[3], in[4], in[4], NULL,
                           &(fm_attention_options){.n_segments = n_segments, .q_offsets = offsets, .selected = ids})
            : NULL;
    return out[0] ? 1 : 0;
}
static const int32_t seg[4] = {0, 5, 6, 17}, seg_large[3] = {0, 60, 150};
static int run_some(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    static _Thread_local int32_t of_meta[2];
    fm_tensor *t = fm_new(c, FM_I32, 1, (int64_t[]){2}); /* offsets live as long as the tape */
    int32_t *p = t ? fm_data(c, t) : NULL;
    p = p ? p : of_meta; /* the meta device has no data */
    p[0] = 0;
    p[1] = (int32_t)n_rows;
    return t ? run_with(c, in, out, 1, p, 4) : 0;
}
static int run_segments(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, in, out, 3, seg, 3);
}
static int run_large(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, in, out, 2, seg_large, 20);
}
/* As many as there are: attention to everything, bit for bit. */
static int run_every(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, in, out, 3, seg, 11);
}
static int decomposed_every(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_attention(c, in[3], in[4], in[4], NULL, &(fm_attention_options){.n_segments = 3, .q_offsets = seg});
    return out[0] ? 1 : 0;
}

#define IN(T, H, D)                                                                                                    \
    .n_in = 5, .in = {{.name = "q", .n_dims = 3, .dim = {T, H, D}, .rows = true, .no_grad = true},                     \
                      {.name = "w", .n_dims = 2, .dim = {T, H}, .rows = true, .no_grad = true},                        \
                      {.name = "k", .n_dims = 2, .dim = {T, D}, .rows = true, .no_grad = true},                        \
                      {.name = "queries", .n_dims = 3, .dim = {T, 2, 8}, .rows = true},                                \
                      {.name = "values", .n_dims = 3, .dim = {T, 1, 8}, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "some", IN(13, 3, 10), .run = run_some, .row_invariant = true, .prefix_only = true},
    {.name = "segments", IN(17, 5, 9), .run = run_segments},
    {.name = "every", IN(17, 2, 8), .run = run_every, .decomposed = decomposed_every},
    {.name = "large", IN(150, 6, 40), .run = run_large},
};

const fm_op fm_op_index_select = {
    .name = "index_select",
    .formula = "the K keys with the largest sum_h w_h relu(q_h . k)",
    .onnx = "MatMul, Relu, Mul, ReduceSum, TopK",
    .kernels = {FM_K_index_select, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .tol_fwd = 48,
    .tol_bwd = 32,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_index_select_(fm_ctx *c, fm_tensor *q, fm_tensor *w, fm_tensor *k, const fm_index_options *o) {
    attr a = {.o = *o, .cached = o->kv != NULL};
    if (o->kv) {
        a.kv = *o->kv;
        a.o.kv = NULL;
    }
    return fm_apply(c, &fm_op_index_select, 2, 3, (fm_tensor *[]){q, w, k}, &a, sizeof a, NULL);
}
