/* Mixtral (Jiang et al. 2024): Mistral attention; softmax over the logits of the num_experts_per_tok best experts. */
#include "model/decoder.h"

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    fm_moe_config *moe = &cfg->moe;
    FM_TRY(fm_decoder_parse(cfg, json));
    const fm_json *window = fm_json_get(json, "sliding_window");
    FM_TRY(fm_decoder_get_size(&cfg->window, json, "sliding_window", 0));
    if (!fm_json_is_null(window) && cfg->window < 1) {
        FM_FAIL(FM_ERR_CONFIG, "sliding_window: expected a number of tokens or null");
    }
    FM_TRY(fm_decoder_get_size(&moe->n_experts, json, "num_local_experts", 8));
    FM_TRY(fm_decoder_get_size(&moe->n_active, json, "num_experts_per_tok", 2));
    FM_TRY(fm_json_get_f64(&moe->aux_alpha, json, "router_aux_loss_coef", 0.001));
    double jitter;
    FM_TRY(fm_json_get_f64(&jitter, json, "router_jitter_noise", 0));
    if (jitter != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "router_jitter_noise: only 0 is supported, found %g", jitter);
    }
    moe->d_ff = cfg->d_ff;
    moe->norm_topk = true; /* softmax over the chosen = scores over their sum */
    moe->aux_pooled = true;
    moe->mixtral_names = true;
    return FM_OK;
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    const fm_moe_config *moe = &cfg->moe;
    if (cfg->qkv_bias || cfg->o_bias || cfg->mlp_bias || cfg->qk_norm || fm_layers_mixed(cfg) || moe->n_experts < 1 ||
        moe->first_dense > 0 || moe->layer_freq > 1 || moe->n_shared > 0 || moe->n_groups > 1 || moe->correction_bias ||
        moe->score != FM_ROUTER_SOFTMAX || !moe->norm_topk || !moe->mixtral_names || moe->d_ff != cfg->d_ff ||
        (moe->routed_scale > 0 && moe->routed_scale != 1)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family mixtral has experts in every layer, normalised softmax routing without "
                                    "groups, bias, scale or shared experts, and no other biases or head norms");
    }
    FM_TRY(fm_decoder_write(cfg, json));
    FM_TRY(fm_json_set(json, "sliding_window", cfg->window > 0 ? fm_json_new_int(cfg->window) : fm_json_new_null()));
    FM_TRY(fm_json_set(json, "num_local_experts", fm_json_new_int(moe->n_experts)));
    FM_TRY(fm_json_set(json, "num_experts_per_tok", fm_json_new_int(moe->n_active)));
    FM_TRY(fm_json_set(json, "router_jitter_noise", fm_json_new_num(0)));
    FM_TRY(fm_json_set(json, "output_router_logits", fm_json_new_bool(false)));
    return fm_json_set(json, "router_aux_loss_coef", fm_json_new_num(moe->aux_alpha));
}

static const char *const architectures[] = {"MixtralForCausalLM", NULL};
static const char *const model_types[] = {"mixtral", NULL};
const fm_family fm_family_mixtral = {
    .name = "mixtral",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
