/* Mixture of experts (DeepSeekMoE: Dai et al. 2024; DeepSeek V2 and V3 routing; Qwen3 MoE). */
#ifndef FM_NN_MOE_H
#define FM_NN_MOE_H

#include "nn/nn.h"

typedef struct fm_moe_config {
    int32_t n_experts;   /* routed experts, 0 = no MoE */
    int32_t n_active;    /* experts of a token (top-k) */
    int32_t n_shared;    /* shared experts: one MLP of width n_shared * d_ff */
    int32_t d_ff;        /* of one expert */
    int32_t first_dense; /* layers below it are dense */
    int32_t layer_freq;  /* of the others, those with (layer + layer_phase) % layer_freq == 0 are MoE; 0 = 1 */
    int32_t layer_phase;
    fm_router_score score;
    int32_t n_groups, top_groups; /* 0 or 1 = no groups */
    fm_group_score group_score;
    bool norm_topk;       /* weights divided by their sum */
    double routed_scale;  /* 0 = 1 */
    bool correction_bias; /* e_score_correction_bias: chooses, does not weigh (V3) */
    /* Training only: */
    double aux_alpha; /* auxiliary balance loss, 0 = off: of each layer, per sequence when seq_aux (DeepSeek) ... */
    bool seq_aux;
    bool aux_pooled;    /* ... or of all layers together, times n_active (Qwen3, Mixtral) */
    double bias_rate;   /* step of the loss-free bias update (V3: 0.001), 0 = off */
    bool mixtral_names; /* block_sparse_moe.experts.N.w1 ... */
} fm_moe_config;
FM_MUST_CHECK fm_status fm_moe_config_check(const fm_moe_config *cfg); /* FM_ERR_CONFIG by config.json key */
/* Parameters of the feed-forward part of one layer with experts; `active`: those one token meets. */
int64_t fm_moe_config_params(const fm_moe_config *cfg, int64_t d_model, bool active);

/* True when layer l has experts. */
bool fm_moe_layer_is_moe(const fm_moe_config *cfg, int32_t layer);

/* One layer's experts. Parameters of experts are single ones under their Hugging Face names, so that mapping,
 * packing, quantising and adapters see plain matrices. */
typedef struct fm_moe_layer {
    const fm_moe_config *cfg; /* outlives the layer */
    fm_param *gate;           /* [E,D] router */
    fm_param *bias;           /* [E] f32, or NULL: e_score_correction_bias */
    fm_gated_mlp *expert;     /* [E] */
    fm_gated_mlp shared;      /* gate_w NULL = none */
    int32_t layer;
    int64_t *load; /* [E] tokens each expert was given in training since it was cleared */
} fm_moe_layer;

/* What a layer's router did: scores [T,E] in the accumulation type, ids i32 [T,K]. */
typedef struct fm_moe_routing {
    fm_tensor *scores, *ids;
} fm_moe_routing;

/* x [T,D] -> [T,D]: sum of the chosen experts, weighted, and the shared ones. The router works in the accumulation
 * type. Without a tape only the experts that were chosen are touched. In training the load is counted, once also when
 * the layer is computed again. *routing may be NULL. */
fm_tensor *fm_moe_forward(fm_ctx *c, const fm_moe_layer *m, fm_tensor *x, fm_moe_routing *routing);

/* The auxiliary loss of all layers [1], aux_alpha in it; see fm_moe_config. offsets [n_segments+1] outlives the tape.
 */
fm_tensor *fm_moe_balance_loss(fm_ctx *c, const fm_moe_config *cfg, int n_layers, const fm_moe_routing *routing,
                               int32_t n_segments, const int32_t *offsets);

/* (largest load - mean) / mean: 0 when even, E / K - 1 at worst ... E - 1. NaN without load. */
double fm_moe_max_violation(const fm_moe_layer *m);
/* Loss-free balancing (Wang et al. 2024, DeepSeek V3): bias_e += rate * sign(mean load - load_e). */
void fm_moe_update_bias(fm_moe_layer *m, double rate);

#endif
