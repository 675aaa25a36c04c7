/* Multi-head latent attention (DeepSeek V2, arXiv 2405.04434), and its sparse form (DeepSeek V3.2). */
#ifndef FM_NN_MLA_H
#define FM_NN_MLA_H

#include "nn/nn.h"

typedef struct fm_mla_config {
    int32_t kv_rank;      /* kv_lora_rank; 0 = no MLA */
    int32_t q_rank;       /* q_lora_rank, 0 = q_proj straight from the input */
    int32_t nope_dim;     /* qk_nope_head_dim */
    int32_t rope_dim;     /* qk_rope_head_dim */
    int32_t v_dim;        /* v_head_dim */
    double softmax_scale; /* (nope_dim+rope_dim)^-0.5 times the YaRN factor squared */
    int32_t index_heads;  /* index_n_heads of the lightning indexer; 0 = attention to all keys */
    int32_t index_dim;    /* index_head_dim; the first rope_dim of it are rotated */
    int32_t index_topk;   /* keys that a query attends to */
} fm_mla_config;

typedef struct fm_mla_layer {
    const fm_mla_config *cfg; /* outlives the layer */
    int32_t n_heads, layer;
    double norm_eps;
    fm_param *q_w;                                            /* [H*(nope+rope),D] when q_rank is 0 */
    fm_param *q_a_w, *q_a_norm, *q_b_w;                       /* [Rq,D] [Rq] [H*(nope+rope),Rq] */
    fm_param *kv_a_w, *kv_a_norm, *kv_b_w;                    /* [R+rope,D] [R] [H*(nope+v),R] */
    fm_param *o_w;                                            /* [D,H*v] */
    fm_param *index_q_w, *index_k_w;                          /* [Hi*Di,Rq] [Di,D], or NULL */
    fm_param *index_k_norm_w, *index_k_norm_b, *index_head_w; /* [Di] [Di] [Hi,D] */
} fm_mla_layer;

/* The norms of the latents have their own eps in the published code, whatever the configuration says. */
#define FM_MLA_NORM_EPS 1e-6F

/* x [T,D] -> [T,D]. Without a cache, and for a prompt that has nothing cached before it, keys and values are expanded
 * to heads. With b->kv the cache holds only the normed latent and the rotated shared key, kv_rank + rope_dim numbers a
 * token (one key head, no values), and later tokens attend to it directly: the key part of kv_b is absorbed into the
 * query, its value part is applied after the sum. Both forms agree to rounding, not bit for bit.
 *
 * With an indexer each query attends to the index_topk keys that score best (all, when there are no more). The indexer
 * reads its inputs and gives whole numbers, so no gradient of the loss reaches it: in training it stays as it is. Its
 * keys lie in the value part of the cache. */
fm_tensor *fm_mla_forward(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b, const fm_rope_state *rope, fm_tensor *x);

#endif
