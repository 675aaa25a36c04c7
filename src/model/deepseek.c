/* DeepSeekMoE 16B (Dai et al. 2024): Llama attention; softmax routing to small experts beside shared ones, the first
 * layers dense. */
#include "model/decoder.h"

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    fm_moe_config *moe = &cfg->moe;
    FM_TRY(fm_decoder_parse(cfg, json));
    FM_TRY(fm_config_refuse(json, "mlp_bias", false));
    FM_TRY(fm_json_get_bool(&cfg->qkv_bias, json, "attention_bias", false));
    cfg->o_bias = cfg->qkv_bias;
    FM_TRY(fm_decoder_only(json, "scoring_func", "softmax"));
    /* A missing or null n_routed_experts is a dense model, as in the published code. */
    FM_TRY(fm_decoder_get_size(&moe->n_experts, json, "n_routed_experts", 0));
    FM_TRY(fm_decoder_get_size(&moe->n_active, json, "num_experts_per_tok", 0));
    FM_TRY(fm_decoder_get_size(&moe->n_shared, json, "n_shared_experts", 0));
    FM_TRY(fm_decoder_get_size(&moe->d_ff, json, "moe_intermediate_size", 1407));
    FM_TRY(fm_decoder_get_size(&moe->first_dense, json, "first_k_dense_replace", 0));
    FM_TRY(fm_decoder_get_size(&moe->layer_freq, json, "moe_layer_freq", 1));
    FM_TRY(fm_json_get_bool(&moe->norm_topk, json, "norm_topk_prob", false));
    FM_TRY(fm_json_get_f64(&moe->aux_alpha, json, "aux_loss_alpha", 0.001));
    return fm_json_get_bool(&moe->seq_aux, json, "seq_aux", true);
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    const fm_moe_config *moe = &cfg->moe;
    if (cfg->qkv_bias != cfg->o_bias || cfg->qk_norm || cfg->mlp_bias || cfg->window > 0 || moe->n_groups > 1 ||
        moe->correction_bias || moe->score != FM_ROUTER_SOFTMAX || moe->aux_pooled || moe->layer_phase != 0 ||
        (moe->routed_scale > 0 && moe->routed_scale != 1)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family deepseek has one attention_bias for all projections, no head norms, no "
                                    "window, and softmax routing without groups, bias or scale");
    }
    FM_TRY(fm_decoder_write(cfg, json));
    FM_TRY(fm_json_set(json, "attention_bias", fm_json_new_bool(cfg->qkv_bias)));
    if (moe->n_experts == 0) {
        return fm_json_set(json, "n_routed_experts", fm_json_new_null());
    }
    FM_TRY(fm_json_set(json, "scoring_func", fm_json_new_str("softmax")));
    FM_TRY(fm_json_set(json, "n_routed_experts", fm_json_new_int(moe->n_experts)));
    FM_TRY(fm_json_set(json, "num_experts_per_tok", fm_json_new_int(moe->n_active)));
    FM_TRY(
        fm_json_set(json, "n_shared_experts", moe->n_shared > 0 ? fm_json_new_int(moe->n_shared) : fm_json_new_null()));
    FM_TRY(fm_json_set(json, "moe_intermediate_size", fm_json_new_int(moe->d_ff)));
    FM_TRY(fm_json_set(json, "first_k_dense_replace", fm_json_new_int(moe->first_dense)));
    FM_TRY(fm_json_set(json, "moe_layer_freq", fm_json_new_int(FM_MAX(moe->layer_freq, 1))));
    FM_TRY(fm_json_set(json, "norm_topk_prob", fm_json_new_bool(moe->norm_topk)));
    FM_TRY(fm_json_set(json, "aux_loss_alpha", fm_json_new_num(moe->aux_alpha)));
    return fm_json_set(json, "seq_aux", fm_json_new_bool(moe->seq_aux));
}

static const char *const architectures[] = {"DeepseekForCausalLM", NULL};
static const char *const model_types[] = {"deepseek", NULL};
const fm_family fm_family_deepseek = {
    .name = "deepseek",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
