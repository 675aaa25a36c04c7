/* Layers over the parameter store: what model families are built from.
 * A layer struct holds handles to parameters and options; its forward takes a context and tensors. */
#ifndef FM_NN_NN_H
#define FM_NN_NN_H

#include "tensor/ops.h"
#include "tensor/param.h"

/* Rope scaling rules (config "rope_scaling"): none, linear (Chen et al. 2023), llama3, yarn (Peng et al. 2023),
 * dynamic. */
typedef enum fm_rope_kind { FM_ROPE_NONE, FM_ROPE_LINEAR, FM_ROPE_LLAMA3, FM_ROPE_YARN, FM_ROPE_DYNAMIC } fm_rope_kind;
typedef struct fm_rope_config {
    double theta; /* base, 10000 */
    int32_t dim;  /* rotated elements of a head (even) */
    bool interleaved;
    fm_rope_kind kind;
    double factor, low_freq_factor, high_freq_factor, beta_fast, beta_slow, mscale, mscale_all_dim, attention_factor;
    int64_t original_max_position;
    bool no_truncate; /* yarn: correction range not rounded to whole pairs */
} fm_rope_config;
/* Fills freq [dim/2] and the factor for cos and sin. The values are those of transformers, which computes them in f32.
 */
FM_MUST_CHECK fm_status fm_rope_frequencies(const fm_rope_config *cfg, double *freq, double *mscale);
/* The same for a batch whose longest sequence is seq_len: differs for FM_ROPE_DYNAMIC past original_max_position. */
FM_MUST_CHECK fm_status fm_rope_frequencies_at(const fm_rope_config *cfg, int64_t seq_len, double *freq,
                                               double *mscale);
bool fm_rope_depends_on_length(const fm_rope_config *cfg, int64_t seq_len);
const char *fm_rope_kind_name(fm_rope_kind k);                /* "none", "linear" ... */
bool fm_rope_kind_parse(fm_rope_kind *out, const char *name); /* "default" is none */

/* Keys and values of earlier tokens. The cache is a pool of rows per layer; where a token's row lives is the caller's
 * business (contiguous or paged), given by slots and the view's table. No tensor is recorded for it. */
typedef struct fm_kv_cache {
    int32_t n_layers, n_kv_heads, k_dim, v_dim;
    fm_dtype dtype;
    int64_t n_rows;       /* rows per layer */
    uint8_t *k, *v;       /* [n_layers,n_rows,n_kv_heads,dim]; v_dim 0: no values (latent attention) */
    int32_t block_tokens; /* paged: rows per block; 0 = contiguous */
} fm_kv_cache;
FM_MUST_CHECK fm_status fm_kv_cache_new(fm_kv_cache **out, int32_t n_layers, int32_t n_kv_heads, int32_t k_dim,
                                        int32_t v_dim, fm_dtype dtype, int64_t n_rows, int32_t block_tokens);
void fm_kv_cache_free(fm_kv_cache *kv);
int64_t fm_kv_cache_bytes(const fm_kv_cache *kv);
/* Stores rows k [n,Hkv,k_dim], v [n,Hkv,v_dim] of type `dtype` at slots[n] of a layer, converted to the cache's type.
 * Slots outside the cache are FM_ERR_ARGUMENT. */
FM_MUST_CHECK fm_status fm_kv_cache_put(fm_kv_cache *kv, fm_pool *pool, int32_t layer, int32_t n, const int32_t *slots,
                                        fm_dtype dtype, const void *k, const void *v);

/* One packed batch: everything a decoder's forward needs to know besides weights. */
typedef struct fm_batch {
    int32_t n_tokens, n_segments;
    const int32_t *ids;       /* [n_tokens] */
    const int32_t *pos;       /* [n_tokens] position inside its document */
    const int32_t *q_offsets; /* [n_segments+1] */
    const int32_t *targets;   /* [n_tokens], -100 = no loss; NULL at inference */
    const float *loss_weight; /* [n_tokens] or NULL */
    /* With a cache: */
    fm_kv_cache *kv;
    const int32_t
        *kv_offsets; /* [n_segments+1] total lengths after this batch, as differences; contiguous: row begins */
    const int32_t *block_table; /* paged */
    int32_t max_blocks;
    const int32_t *slots; /* [n_tokens] cache row where this token's k and v go */
    bool mixed; /* bits of a sequence must not depend on the others: latent attention always takes its absorbed form */
    struct fm_moe_routing *routing; /* [n_layers] filled in by layers with experts, or NULL; not read in backward */
    /* Encoders and heads (fm_model_loss says which of these a head reads): */
    const int32_t *types; /* [n_tokens] token types, NULL = all 0 */
    int32_t head;         /* which head of the model, 0 = the main one */
    const int32_t *rows;  /* [n_rows] tokens that carry loss, NULL = all; targets and loss_weight are theirs then */
    int32_t n_rows;
    const int32_t *labels; /* [n_segments], -100 = none */
    const float *values;   /* [n_segments or n_tokens, labels], NaN = none */
} fm_batch;

/* Rotation of a whole forward pass: freq outlives the tape. */
typedef struct fm_rope_state {
    const double *freq; /* [n_freqs] */
    int32_t n_freqs;
    bool interleaved;
    double mscale;
} fm_rope_state;

/* Grouped-query attention (Ainslie et al. 2023) with its projections. Handles that a family does not have are NULL. */
typedef struct fm_attention_layer {
    fm_param *q_w, *k_w, *v_w, *o_w; /* [H*Dh,D] [Hkv*Dh,D] [Hkv*Dh,D] [D,H*Dh] */
    fm_param *q_b, *k_b, *v_b, *o_b;
    fm_param *q_norm, *k_norm; /* [Dh]: rmsnorm of each head before rope (Qwen3) */
    fm_param *qkv_w, *qkv_b;   /* [3*H*Dh,D] in the place of q, k and v (GPT-2) */
    bool qkv_by_head;          /* rows of qkv_w: q, k and v of a head together (BLOOM); else all q, all k, all v */
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t layer;      /* index in the cache */
    int32_t window;     /* 0 = none */
    fm_mask_kind mask;  /* encoders: FM_MASK_FULL */
    float scale;        /* 0 = 1/sqrt(Dh) */
    const float *alibi; /* [H], outlives the layer, or NULL */
    double norm_eps, dropout;
    char dropout_stream[32];
} fm_attention_layer;
/* x [T,D] -> [T,D]. With b->kv the rows' keys and values are stored first and attention reads the cache. Dropout, when
 * training, falls on the concatenated heads: fused attention keeps no probabilities it could fall on. */
fm_tensor *fm_attention_forward(fm_ctx *c, const fm_attention_layer *a, const fm_batch *b, const fm_rope_state *rope,
                                fm_tensor *x);
/* The same with other inputs for query, key and value (MobileBERT). rope NULL: no rotation. */
fm_tensor *fm_attention_forward_from(fm_ctx *c, const fm_attention_layer *a, const fm_batch *b,
                                     const fm_rope_state *rope, fm_tensor *xq, fm_tensor *xk, fm_tensor *xv);
/* Slopes of ALiBi for n_heads heads (Press et al. 2022), as BLOOM and MPT have them: 2^(-8 i / P) for the largest power
 * of two P <= n_heads, and for the rest the odd ones of 2 P. */
void fm_alibi_slopes(float *slopes, int32_t n_heads);

/* Sum of the rows of tables [..,D] by id, position and token type of a batch; positions and types may be NULL. A
 * position past the table is an error that names it. */
fm_tensor *fm_embedding_sum(fm_ctx *c, fm_param *words, fm_param *positions, fm_param *types, const fm_batch *b);
/* The positions and types alone, added to x [T,D]. */
fm_tensor *fm_embedding_add(fm_ctx *c, fm_tensor *x, fm_param *positions, fm_param *types, const fm_batch *b);

/* x [T,D] plus uniform noise in +-alpha / sqrt(L D) while training, L the tokens of its segment (NEFTune: Jain et al.
 * 2023, arXiv 2310.05914); x itself otherwise, and with alpha 0. */
fm_tensor *fm_embedding_noise(fm_ctx *c, fm_tensor *x, const fm_batch *b, double alpha);

/* down(act(gate(x)) * up(x)) */
typedef struct fm_gated_mlp {
    fm_param *gate_w, *up_w, *down_w; /* [F,D] [F,D] [D,F] */
    fm_param *gate_b, *up_b, *down_b; /* or NULL */
    fm_act act;
} fm_gated_mlp;
fm_tensor *fm_gated_mlp_forward(fm_ctx *c, const fm_gated_mlp *m, fm_tensor *x);

/* The leaf of a parameter, or NULL for NULL (an optional input). */
static inline fm_tensor *fm_leaf_or_null(fm_ctx *c, fm_param *p) {
    return p ? fm_leaf(c, p) : NULL;
}

#endif
