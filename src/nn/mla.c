/* Multi-head latent attention. */
#include "nn/mla.h"

static uint8_t *at(fm_dtype d, const void *base, int64_t elements) {
    return base ? (uint8_t *)base + fm_dtype_bytes(d, elements) : NULL;
}

static fm_tensor *fail(fm_ctx *c, fm_status s) {
    fm_ctx_fail(c, s);
    return NULL;
}

/* What queries are made from: the normed latent [T,Rq], or x itself. */
static fm_tensor *query_latents(fm_ctx *c, const fm_mla_layer *a, fm_tensor *x) {
    if (!a->q_a_w) {
        return x;
    }
    return fm_rmsnorm(c, fm_linear(c, x, fm_leaf(c, a->q_a_w), NULL), fm_leaf(c, a->q_a_norm), FM_MLA_NORM_EPS);
}

/* [T,H,nope+rope], the last part of each head rotated. */
static fm_tensor *queries(fm_ctx *c, const fm_mla_layer *a, const fm_rope_state *rope, fm_tensor *pos,
                          fm_tensor *from) {
    const fm_mla_config *z = a->cfg;
    fm_tensor *q = fm_linear(c, from, fm_leaf(c, a->q_a_w ? a->q_b_w : a->q_w), NULL);
    q = fm_view3(c, q, -1, a->n_heads, z->nope_dim + z->rope_dim);
    fm_rope_options o = {.freq = rope->freq,
                         .n_freqs = rope->n_freqs,
                         .first = z->nope_dim,
                         .interleaved = rope->interleaved,
                         .mscale = (float)rope->mscale};
    return fm_rope(c, q, pos, &o);
}

/* The normed latent [T,R]; *pe [T,rope] is the rotated key that all heads share. */
static fm_tensor *latents(fm_ctx *c, const fm_mla_layer *a, const fm_rope_state *rope, fm_tensor *pos, fm_tensor *x,
                          fm_tensor **pe) {
    const fm_mla_config *z = a->cfg;
    fm_tensor *part[2] = {0};
    (void)fm_split_columns(c, fm_linear(c, x, fm_leaf(c, a->kv_a_w), NULL), 2, (int64_t[]){z->kv_rank, z->rope_dim},
                           part);
    fm_rope_options o = {
        .freq = rope->freq, .n_freqs = rope->n_freqs, .interleaved = rope->interleaved, .mscale = (float)rope->mscale};
    *pe = fm_view2(c, fm_rope(c, fm_view3(c, part[1], -1, 1, z->rope_dim), pos, &o), -1, z->rope_dim);
    return fm_rmsnorm(c, part[0], fm_leaf(c, a->kv_a_norm), FM_MLA_NORM_EPS);
}

static fm_tensor *expanded(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b, fm_tensor *q, fm_tensor *latent,
                           fm_tensor *pe, fm_tensor *selected) {
    fm_tensor *kv = fm_linear(c, latent, fm_leaf(c, a->kv_b_w), NULL), *v = NULL;
    fm_tensor *k = fm_mla_keys(c, kv, pe, a->n_heads, a->cfg->nope_dim, &v);
    fm_attention_options o = {.n_segments = b->n_segments,
                              .q_offsets = b->q_offsets,
                              .mask = FM_MASK_CAUSAL,
                              .scale = (float)a->cfg->softmax_scale,
                              .selected = selected};
    return fm_attention(c, q, k, v, NULL, &o);
}

/* ---- sparse attention -------------------------------------------------------------------------- */

static fm_tensor *index_rope(fm_ctx *c, const fm_rope_state *rope, fm_tensor *pos, fm_tensor *x) {
    fm_rope_options o = {.freq = rope->freq, .n_freqs = rope->n_freqs, .mscale = (float)rope->mscale};
    return fm_rope(c, x, pos, &o); /* halves, also where the attention rotates neighbours */
}

/* Keys of the indexer [T,Di]. */
static fm_tensor *index_keys(fm_ctx *c, const fm_mla_layer *a, const fm_rope_state *rope, fm_tensor *pos,
                             fm_tensor *x) {
    fm_tensor *k = fm_linear(c, x, fm_leaf(c, a->index_k_w), NULL);
    k = fm_layernorm(c, k, fm_leaf(c, a->index_k_norm_w), fm_leaf(c, a->index_k_norm_b), FM_MLA_NORM_EPS);
    k = index_rope(c, rope, pos, fm_view3(c, k, -1, 1, a->cfg->index_dim));
    return fm_view2(c, k, -1, a->cfg->index_dim);
}

/* Some segment has more keys than a query may attend to. Unknown while planning: then yes. */
static bool too_many_keys(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b) {
    const int32_t *off = b->kv ? b->kv_offsets : b->q_offsets;
    bool any = fm_ctx_is_meta(c);
    for (int32_t s = 0; s < b->n_segments && !any; s++) {
        any = off[s + 1] - off[s] > a->cfg->index_topk;
    }
    return any;
}

/* The keys that each query attends to, i32 [T,index_topk]; NULL: all, or the context failed. Positive factors of the
 * scores are left out, the order is the same without them; so is the Hadamard rotation, which is there for fp8. */
static fm_tensor *select_keys(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b, const fm_rope_state *rope,
                              fm_tensor *pos, fm_tensor *x, fm_tensor *q_latent, fm_tensor *k) {
    const fm_mla_config *z = a->cfg;
    if (!too_many_keys(c, a, b)) {
        return NULL;
    }
    fm_tensor *q = fm_linear(c, q_latent, fm_leaf(c, a->index_q_w), NULL);
    q = index_rope(c, rope, pos, fm_view3(c, q, -1, z->index_heads, z->index_dim));
    fm_tensor *w = fm_linear(c, x, fm_leaf(c, a->index_head_w), NULL);
    fm_index_options o = {.n_segments = b->n_segments, .n_selected = z->index_topk, .q_offsets = b->q_offsets};
    fm_kv_view view;
    if (b->kv) {
        const fm_kv_cache *kv = b->kv;
        view = (fm_kv_view){.dtype = kv->dtype,
                            .k_stride = kv->v_dim,
                            .kv_offsets = b->kv_offsets,
                            .block_table = b->block_table,
                            .block_tokens = kv->block_tokens,
                            .max_blocks = b->max_blocks};
        if (!fm_ctx_is_meta(c)) {
            view.k = kv->v + fm_dtype_bytes(kv->dtype, a->layer * kv->n_rows * kv->v_dim);
        }
        o.kv = &view;
    }
    return fm_index_select(c, q, w, b->kv ? NULL : k, &o);
}

/* ---- cache ------------------------------------------------------------------------------------- */

/* Latent and shared key side by side into the cache, keys of the indexer beside them. */
static fm_status store(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b, fm_tensor *latent, fm_tensor *pe,
                       fm_tensor *index_k) {
    const fm_mla_config *z = a->cfg;
    int64_t rows = b->n_tokens, width = z->kv_rank + z->rope_dim;
    fm_tensor *row = fm_new(c, latent->dtype, 2, (int64_t[]){rows, width});
    if (!row || fm_ctx_is_meta(c)) {
        return fm_ctx_status(c);
    }
    fm_dtype d = latent->dtype;
    void *to = fm_data(c, row);
    fm_copy_groups_args l = {.n_rows = rows,
                             .n_groups = 1,
                             .n_cols = z->kv_rank,
                             .x = fm_data(c, latent),
                             .x_row = z->kv_rank,
                             .y = to,
                             .y_row = width};
    fm_copy_groups_args p = {.n_rows = rows,
                             .n_groups = 1,
                             .n_cols = z->rope_dim,
                             .x = fm_data(c, pe),
                             .x_row = z->rope_dim,
                             .y = at(d, to, z->kv_rank),
                             .y_row = width};
    FM_TRY(fm_ctx_status(c));
    FM_TRY(fm_run(c, FM_K_copy_groups, d, &l));
    FM_TRY(fm_run(c, FM_K_copy_groups, d, &p));
    const void *index = index_k ? fm_data(c, index_k) : NULL;
    FM_TRY(fm_ctx_status(c));
    return fm_kv_cache_put(b->kv, fm_ctx_pool(c), a->layer, b->n_tokens, b->slots, d, to, index);
}

/* Products of each head with its own block of kv_b. begin: first row of the block; trans: y = x W^T instead of x W. */
static fm_status by_head(fm_ctx *c, const fm_mla_layer *a, fm_tensor *x, int64_t x_width, fm_tensor *y, int64_t y_width,
                         int64_t m, int64_t begin, int64_t rows, bool trans) {
    const fm_mla_config *z = a->cfg;
    fm_dtype d = x->dtype;
    const void *w = fm_data(c, fm_leaf(c, a->kv_b_w)), *from = fm_data(c, x);
    void *to = fm_data(c, y);
    FM_TRY(fm_ctx_status(c));
    int64_t block = z->nope_dim + z->v_dim;
    for (int64_t h = 0; h < a->n_heads; h++) {
        fm_matmul_args p = {.m = m,
                            .n = trans ? rows : z->kv_rank,
                            .k = trans ? z->kv_rank : rows,
                            .a = at(d, from, h * x_width),
                            .lda = a->n_heads * x_width,
                            .b = at(d, w, (h * block + begin) * z->kv_rank),
                            .ldb = z->kv_rank,
                            .trans_b = trans,
                            .c = at(d, to, h * y_width),
                            .ldc = a->n_heads * y_width,
                            .c_dtype = d};
        FM_TRY(fm_run(c, FM_K_matmul, d, &p));
    }
    return FM_OK;
}

/* Queries in the space of the latents, attention over the cache, values of each head from the summed latents. */
static fm_tensor *absorbed(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b, fm_tensor *q, fm_tensor *selected) {
    const fm_mla_config *z = a->cfg;
    const fm_kv_cache *kv = b->kv;
    int64_t rows = b->n_tokens, head = z->nope_dim + z->rope_dim, width = z->kv_rank + z->rope_dim;
    fm_tensor *wide = fm_new(c, q->dtype, 3, (int64_t[]){rows, a->n_heads, width});
    if (!wide) {
        return NULL;
    }
    fm_status s = by_head(c, a, q, head, wide, width, rows, 0, z->nope_dim, false);
    fm_copy_groups_args p = {.n_rows = rows,
                             .n_groups = a->n_heads,
                             .n_cols = z->rope_dim,
                             .x = at(q->dtype, fm_data(c, q), z->nope_dim),
                             .x_row = a->n_heads * head,
                             .x_group = head,
                             .y = at(q->dtype, fm_data(c, wide), z->kv_rank),
                             .y_row = a->n_heads * width,
                             .y_group = width};
    s = s == FM_OK ? fm_run(c, FM_K_copy_groups, q->dtype, &p) : s;
    if (s != FM_OK) {
        return fail(c, s);
    }
    fm_kv_view view = {.dtype = kv->dtype,
                       .k_stride = width,
                       .v_stride = width,
                       .kv_offsets = b->kv_offsets,
                       .block_table = b->block_table,
                       .block_tokens = kv->block_tokens,
                       .max_blocks = b->max_blocks};
    if (!fm_ctx_is_meta(c)) {
        /* The values are the latents: the first part of the keys. */
        view.k = view.v = kv->k + fm_dtype_bytes(kv->dtype, a->layer * kv->n_rows * width);
    }
    fm_attention_options o = {.n_segments = b->n_segments,
                              .q_offsets = b->q_offsets,
                              .mask = FM_MASK_CAUSAL,
                              .scale = (float)z->softmax_scale,
                              .kv = &view,
                              .n_kv_heads = 1,
                              .v_dim = z->kv_rank,
                              .selected = selected};
    fm_tensor *sum = fm_attention(c, wide, NULL, NULL, NULL, &o); /* [T,H,R] */
    fm_tensor *out = sum ? fm_new(c, q->dtype, 3, (int64_t[]){rows, a->n_heads, z->v_dim}) : NULL;
    if (!out) {
        return NULL;
    }
    s = by_head(c, a, sum, z->kv_rank, out, z->v_dim, rows, z->nope_dim, z->v_dim, true);
    return s == FM_OK ? out : fail(c, s);
}

#define EXPAND_FROM 16 /* tokens from which forming all heads' keys pays */

/* Nothing is cached before the tokens of this batch. */
static bool all_here(const fm_batch *b) {
    for (int32_t s = 0; s < b->n_segments; s++) {
        if (b->kv_offsets[s + 1] - b->kv_offsets[s] != b->q_offsets[s + 1] - b->q_offsets[s]) {
            return false;
        }
    }
    return b->n_tokens >= EXPAND_FROM && !b->mixed;
}

static fm_tensor *cached(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b, fm_tensor *q, fm_tensor *latent,
                         fm_tensor *pe, fm_tensor *selected) {
    if (fm_ctx_is_meta(c)) { /* memory for either form */
        fm_ctx_mark_t mark = fm_ctx_mark(c);
        (void)expanded(c, a, b, q, latent, pe, selected);
        fm_ctx_release(c, mark);
        return absorbed(c, a, b, q, selected);
    }
    return all_here(b) ? expanded(c, a, b, q, latent, pe, selected) : absorbed(c, a, b, q, selected);
}

static fm_status check_cache(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b) {
    const fm_mla_config *z = a->cfg;
    if (fm_tape_on(c)) {
        FM_FAIL(FM_ERR_STATE, "a KV cache carries no gradient: the tape must be off");
    }
    if (b->kv->k_dim != z->kv_rank + z->rope_dim || b->kv->v_dim != (a->index_q_w ? z->index_dim : 0)) {
        FM_FAIL(FM_ERR_ARGUMENT, "latent attention: expected a cache of %d and %d elements a token, found %d and %d",
                (int)(z->kv_rank + z->rope_dim), (int)(a->index_q_w ? z->index_dim : 0), (int)b->kv->k_dim,
                (int)b->kv->v_dim);
    }
    return FM_OK;
}

fm_tensor *fm_mla_forward(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b, const fm_rope_state *rope,
                          fm_tensor *x) {
    if (!x) {
        return NULL;
    }
    fm_tensor *pos = fm_from_memory(c, FM_I32, 1, (int64_t[]){b->n_tokens}, (void *)b->pos), *pe = NULL;
    fm_tensor *q_latent = query_latents(c, a, x), *latent = latents(c, a, rope, pos, x, &pe);
    fm_tensor *index_k = a->index_q_w ? index_keys(c, a, rope, pos, x) : NULL;
    fm_tensor *q = queries(c, a, rope, pos, q_latent);
    if (!q || !latent || !pe || (a->index_q_w && !index_k)) {
        return NULL;
    }
    if (b->kv) {
        fm_status s = check_cache(c, a, b);
        s = s == FM_OK ? store(c, a, b, latent, pe, index_k) : s;
        if (s != FM_OK) {
            return fail(c, s);
        }
    }
    fm_tensor *selected = index_k ? select_keys(c, a, b, rope, pos, x, q_latent, index_k) : NULL;
    if (fm_ctx_status(c) != FM_OK) {
        return NULL;
    }
    fm_tensor *o = b->kv ? cached(c, a, b, q, latent, pe, selected) : expanded(c, a, b, q, latent, pe, selected);
    o = fm_view2(c, o, b->n_tokens, (int64_t)a->n_heads * a->cfg->v_dim);
    return fm_linear(c, o, fm_leaf(c, a->o_w), NULL);
}
