/* Mixture of experts (DeepSeekMoE: Dai et al. 2024; DeepSeek V2 and V3 routing; Qwen3 MoE). */
#ifndef FM_NN_MOE_H
#define FM_NN_MOE_H

#include "nn/nn.h"

typedef enum fm_router_score { FM_ROUTER_SOFTMAX, FM_ROUTER_SIGMOID } fm_router_score;
/* How a group of experts is scored when only the best groups may be chosen from. */
typedef enum fm_group_score { FM_GROUP_MAX, FM_GROUP_SUM_TOP2 } fm_group_score;

typedef struct fm_moe_config {
    int32_t n_experts;   /* routed experts, 0 = no MoE */
    int32_t n_active;    /* experts of a token (top-k) */
    int32_t n_shared;    /* shared experts: one MLP of width n_shared * d_ff */
    int32_t d_ff;        /* of one expert */
    int32_t first_dense; /* layers below it are dense */
    int32_t layer_freq;  /* of the others, those with layer % layer_freq == 0 are MoE; 0 = 1 */
    fm_router_score score;
    int32_t n_groups, top_groups; /* 0 or 1 = no groups */
    fm_group_score group_score;
    bool norm_topk;       /* weights divided by their sum */
    double routed_scale;  /* 0 = 1 */
    bool correction_bias; /* e_score_correction_bias: chooses, does not weigh (V3) */
    /* Training only: */
    double aux_alpha; /* auxiliary balance loss (V2: per sequence when seq_aux), 0 = off */
    bool seq_aux;
    double bias_rate; /* step of the loss-free bias update (V3: 0.001), 0 = off */
} fm_moe_config;

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
} fm_moe_layer;

/* x [T,D] -> [T,D]: sum of the chosen experts, weighted, and the shared ones. */
fm_tensor *fm_moe_forward(fm_ctx *c, const fm_moe_layer *m, const fm_batch *b, fm_tensor *x);

#endif
