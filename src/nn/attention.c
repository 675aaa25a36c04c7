/* Grouped-query attention layer. */
#include "nn/nn.h"

/* Rows of k and v into the cache, then attention over what the cache holds. */
static fm_tensor *cached(fm_ctx *c, const fm_attention_layer *a, const fm_batch *b, fm_tensor *q, fm_tensor *k,
                         fm_tensor *v) {
    fm_kv_cache *kv = b->kv;
    if (!q || !k || !v) {
        return NULL;
    }
    if (fm_tape_on(c)) {
        fm_ctx_fail(
            c, fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "a KV cache carries no gradient: the tape must be off"));
        return NULL;
    }
    int64_t k_width = (int64_t)kv->n_kv_heads * kv->k_dim, v_width = (int64_t)kv->n_kv_heads * kv->v_dim;
    fm_kv_view view = {
        .dtype = kv->dtype,
        .k_stride = k_width,
        .v_stride = v_width,
        .kv_offsets = b->kv_offsets,
        .block_table = b->block_table,
        .block_tokens = kv->block_tokens,
        .max_blocks = b->max_blocks,
    };
    if (!fm_ctx_is_meta(c)) {
        fm_status s = fm_kv_cache_put(kv, fm_ctx_pool(c), a->layer, b->n_tokens, b->slots, k->dtype, fm_data(c, k),
                                      fm_data(c, v));
        if (s != FM_OK) {
            fm_ctx_fail(c, s);
            return NULL;
        }
        view.k = kv->k + fm_dtype_bytes(kv->dtype, a->layer * kv->n_rows * k_width);
        view.v = kv->v + fm_dtype_bytes(kv->dtype, a->layer * kv->n_rows * v_width);
    }
    fm_attention_options o = {
        .n_segments = b->n_segments,
        .q_offsets = b->q_offsets,
        .mask = a->mask,
        .window = a->window,
        .scale = a->scale,
        .alibi = a->alibi,
        .kv = &view,
        .n_kv_heads = kv->n_kv_heads,
        .v_dim = kv->v_dim,
    };
    return fm_attention(c, q, NULL, NULL, NULL, &o);
}

static fm_tensor *heads(fm_ctx *c, fm_tensor *x, fm_param *w, fm_param *b, int32_t n_heads, int32_t head_dim) {
    return fm_view3(c, fm_linear(c, x, fm_leaf(c, w), fm_leaf_or_null(c, b)), -1, n_heads, head_dim);
}

/* Query, key and value of one input by one product. */
static bool fused(fm_ctx *c, const fm_attention_layer *a, fm_tensor *x, fm_tensor *out[3]) {
    int64_t dim = a->head_dim, all = (int64_t)a->n_heads * dim;
    fm_tensor *y = fm_linear(c, x, fm_leaf(c, a->qkv_w), fm_leaf_or_null(c, a->qkv_b));
    if (a->qkv_by_head) {
        y = fm_view3(c, y, -1, a->n_heads, 3 * dim);
        return fm_split_columns(c, y, 3, (int64_t[]){dim, dim, dim}, out);
    }
    if (!fm_split_columns(c, y, 3, (int64_t[]){all, all, all}, out)) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        out[i] = fm_view3(c, out[i], -1, a->n_heads, dim);
    }
    return true;
}

fm_tensor *fm_attention_forward_from(fm_ctx *c, const fm_attention_layer *a, const fm_batch *b,
                                     const fm_rope_state *rope, fm_tensor *xq, fm_tensor *xk, fm_tensor *xv) {
    fm_tensor *y[3];
    if (!xq || !xk || !xv) {
        return NULL;
    }
    if (a->qkv_w) {
        FM_ASSERT(xq == xk && xq == xv);
        if (!fused(c, a, xq, y)) {
            return NULL;
        }
    } else {
        y[0] = heads(c, xq, a->q_w, a->q_b, a->n_heads, a->head_dim);
        y[1] = heads(c, xk, a->k_w, a->k_b, a->n_kv_heads, a->head_dim);
        y[2] = heads(c, xv, a->v_w, a->v_b, a->n_kv_heads, a->head_dim);
    }
    fm_tensor *q = y[0], *k = y[1], *v = y[2];
    if (a->q_norm) {
        q = fm_rmsnorm(c, q, fm_leaf(c, a->q_norm), (float)a->norm_eps);
        k = fm_rmsnorm(c, k, fm_leaf(c, a->k_norm), (float)a->norm_eps);
    }
    if (rope) {
        fm_tensor *pos = fm_from_memory(c, FM_I32, 1, (int64_t[]){b->n_tokens}, (void *)b->pos);
        fm_rope_options ro = {.freq = rope->freq,
                              .n_freqs = rope->n_freqs,
                              .interleaved = rope->interleaved,
                              .mscale = (float)rope->mscale};
        q = fm_rope(c, q, pos, &ro);
        k = fm_rope(c, k, pos, &ro);
    }
    fm_tensor *o;
    if (b->kv) {
        o = cached(c, a, b, q, k, v);
    } else {
        fm_attention_options ao = {.n_segments = b->n_segments,
                                   .q_offsets = b->q_offsets,
                                   .mask = a->mask,
                                   .window = a->window,
                                   .scale = a->scale,
                                   .alibi = a->alibi};
        o = fm_attention(c, q, k, v, NULL, &ao); /* [T,H,Dh] */
    }
    o = fm_view2(c, o, b->n_tokens, (int64_t)a->n_heads * a->head_dim);
    if (a->dropout > 0) {
        o = fm_dropout(c, o, a->dropout, a->dropout_stream);
    }
    return fm_linear(c, o, fm_leaf(c, a->o_w), fm_leaf_or_null(c, a->o_b));
}

fm_tensor *fm_attention_forward(fm_ctx *c, const fm_attention_layer *a, const fm_batch *b, const fm_rope_state *rope,
                                fm_tensor *x) {
    return fm_attention_forward_from(c, a, b, rope, x, x, x);
}
