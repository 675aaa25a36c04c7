/* Multi-head latent attention (DeepSeek V2, arXiv 2405.04434; sparse form of V3.2). */
#ifndef FM_NN_MLA_H
#define FM_NN_MLA_H

#include "nn/nn.h"

typedef struct fm_mla_config {
    int32_t kv_rank;                            /* kv_lora_rank; 0 = no MLA */
    int32_t q_rank;                             /* q_lora_rank, 0 = q_proj straight from the input */
    int32_t nope_dim;                           /* qk_nope_head_dim */
    int32_t rope_dim;                           /* qk_rope_head_dim */
    int32_t v_dim;                              /* v_head_dim */
    double softmax_scale;                       /* (nope_dim+rope_dim)^-0.5 times the YaRN factor squared */
    int32_t index_heads, index_dim, index_topk; /* lightning indexer (V3.2), 0 = dense */
} fm_mla_config;

typedef struct fm_mla_layer {
    const fm_mla_config *cfg; /* outlives the layer */
    int32_t n_heads, layer;
    double norm_eps;
    fm_param *q_w;                         /* [H*(nope+rope),D] when q_rank is 0 */
    fm_param *q_a_w, *q_a_norm, *q_b_w;    /* [Rq,D] [Rq] [H*(nope+rope),Rq] */
    fm_param *kv_a_w, *kv_a_norm, *kv_b_w; /* [R+rope,D] [R] [H*(nope+v),R] */
    fm_param *o_w;                         /* [D,H*v] */
    fm_param *index_q_w, *index_k_w, *index_k_norm_w, *index_k_norm_b, *index_weights_w; /* V3.2 */
} fm_mla_layer;

/* x [T,D] -> [T,D]. Without a cache, and for the tokens of a prefill, keys and values are expanded; with b->kv the
 * cache holds only the normed latent and the rotated shared key. */
fm_tensor *fm_mla_forward(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b, const fm_rope_state *rope, fm_tensor *x);

#endif
