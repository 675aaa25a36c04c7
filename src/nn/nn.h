/* Layers over the parameter store: what model families are built from.
 * A layer struct holds handles to parameters and options; its forward takes a context and tensors. */
#ifndef FM_NN_NN_H
#define FM_NN_NN_H

#include "tensor/ops.h"
#include "tensor/param.h"

/* Rope scaling rules (config "rope_scaling"): none, linear (Chen et al. 2023), llama3, yarn (Peng et al. 2023), dynamic. */
typedef enum fm_rope_kind { FM_ROPE_NONE, FM_ROPE_LINEAR, FM_ROPE_LLAMA3, FM_ROPE_YARN, FM_ROPE_DYNAMIC } fm_rope_kind;
typedef struct fm_rope_config {
    double theta; /* base, 10000 */
    int32_t dim;  /* rotated elements of a head (even) */
    bool interleaved;
    fm_rope_kind kind;
    double factor, low_freq_factor, high_freq_factor, beta_fast, beta_slow, mscale, mscale_all_dim, attention_factor;
    int64_t original_max_position;
} fm_rope_config;
/* Fills freq [dim/2] and the factor for cos and sin. */
FM_MUST_CHECK fm_status fm_rope_frequencies(const fm_rope_config *cfg, double *freq, double *mscale);

/* Keys and values of earlier tokens. The cache is a pool of rows per layer; where a token's row lives is the caller's
 * business (contiguous or paged), given by slots and the view's table. No tensor is recorded for it. */
typedef struct fm_kv_cache {
    int32_t n_layers, n_kv_heads, k_dim, v_dim;
    fm_dtype dtype;
    int64_t n_rows;      /* rows per layer */
    uint8_t *k, *v;      /* [n_layers,n_rows,n_kv_heads,dim] */
    int32_t block_tokens; /* paged: rows per block; 0 = contiguous */
} fm_kv_cache;
FM_MUST_CHECK fm_status fm_kv_cache_new(fm_kv_cache **out, int32_t n_layers, int32_t n_kv_heads, int32_t k_dim, int32_t v_dim,
                                        fm_dtype dtype, int64_t n_rows, int32_t block_tokens);
void fm_kv_cache_free(fm_kv_cache *kv);
int64_t fm_kv_cache_bytes(const fm_kv_cache *kv);

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
    const int32_t *kv_offsets;  /* [n_segments+1] total lengths after this batch, as differences; contiguous: row begins */
    const int32_t *block_table; /* paged */
    int32_t max_blocks;
    const int32_t *slots;       /* [n_tokens] cache row where this token's k and v go */
} fm_batch;

#endif
