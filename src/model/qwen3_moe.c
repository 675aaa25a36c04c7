/* Qwen3 with experts (Yang et al. 2025): Qwen3 attention; softmax routing to num_experts_per_tok of num_experts, no
 * shared experts. */
#include "model/decoder.h"

/* mlp_only_layers: dense layers by number. The ones that occur are none, or the first so many. */
static fm_status parse_dense_layers(fm_model_config *cfg, const fm_json *json) {
    const fm_json *list = fm_json_get(json, "mlp_only_layers");
    size_t n = fm_json_is_array(list) ? fm_json_size(list) : 0;
    for (size_t i = 0; i < n; i++) {
        if (fm_json_int(fm_json_at(list, i), -1) != (int64_t)i) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "mlp_only_layers: supported are the first layers in order, found %lld at %zu",
                    (long long)fm_json_int(fm_json_at(list, i), -1), i);
        }
    }
    cfg->moe.first_dense = (int32_t)FM_MIN(n, (size_t)cfg->n_layers);
    return FM_OK;
}

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    fm_moe_config *moe = &cfg->moe;
    cfg->head_dim = 128;
    FM_TRY(fm_decoder_parse(cfg, json));
    FM_TRY(fm_json_get_bool(&cfg->qkv_bias, json, "attention_bias", false));
    cfg->o_bias = cfg->qkv_bias;
    cfg->qk_norm = true;
    /* transformers 5 writes num_local_experts, the published files have num_experts. */
    FM_TRY(fm_decoder_get_size(&moe->n_experts, json, "num_local_experts", 128));
    FM_TRY(fm_decoder_get_size(&moe->n_experts, json, "num_experts", moe->n_experts));
    FM_TRY(fm_decoder_get_size(&moe->n_active, json, "num_experts_per_tok", 8));
    FM_TRY(fm_decoder_get_size(&moe->d_ff, json, "moe_intermediate_size", 768));
    FM_TRY(fm_decoder_get_size(&moe->layer_freq, json, "decoder_sparse_step", 1));
    FM_TRY(fm_json_get_bool(&moe->norm_topk, json, "norm_topk_prob", false));
    FM_TRY(fm_json_get_f64(&moe->aux_alpha, json, "router_aux_loss_coef", 0.001));
    moe->layer_phase = 1;
    moe->aux_pooled = true;
    FM_TRY(parse_dense_layers(cfg, json));
    return fm_decoder_parse_layer_windows(cfg, json);
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    const fm_moe_config *moe = &cfg->moe;
    if (!cfg->qk_norm || cfg->qkv_bias != cfg->o_bias || cfg->mlp_bias || moe->n_shared > 0 || moe->n_groups > 1 ||
        moe->correction_bias || moe->score != FM_ROUTER_SOFTMAX || (moe->routed_scale > 0 && moe->routed_scale != 1)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family qwen3_moe has query and key norms, one attention_bias for all projections, "
                                    "and softmax routing without groups, bias, scale or shared experts");
    }
    FM_TRY(fm_decoder_write(cfg, json));
    FM_TRY(fm_json_set(json, "attention_bias", fm_json_new_bool(cfg->qkv_bias)));
    bool newer = fm_json_get(json, "num_local_experts") && !fm_json_get(json, "num_experts");
    FM_TRY(fm_json_set(json, newer ? "num_local_experts" : "num_experts", fm_json_new_int(moe->n_experts)));
    FM_TRY(fm_json_set(json, "num_experts_per_tok", fm_json_new_int(moe->n_active)));
    FM_TRY(fm_json_set(json, "moe_intermediate_size", fm_json_new_int(moe->d_ff)));
    FM_TRY(fm_json_set(json, "decoder_sparse_step", fm_json_new_int(FM_MAX(moe->layer_freq, 1))));
    FM_TRY(fm_json_set(json, "norm_topk_prob", fm_json_new_bool(moe->norm_topk)));
    FM_TRY(fm_json_set(json, "router_aux_loss_coef", fm_json_new_num(moe->aux_alpha)));
    FM_TRY(fm_json_set(json, "output_router_logits", fm_json_new_bool(false)));
    fm_json *dense = fm_json_new_array();
    FM_TRY(fm_json_set(json, "mlp_only_layers", dense));
    for (int32_t l = 0; l < moe->first_dense; l++) {
        FM_TRY(fm_json_append(dense, fm_json_new_int(l)));
    }
    return fm_decoder_write_layer_windows(cfg, json);
}

static const char *const architectures[] = {"Qwen3MoeForCausalLM", NULL};
static const char *const model_types[] = {"qwen3_moe", NULL};
const fm_family fm_family_qwen3_moe = {
    .name = "qwen3_moe",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
