/* Qwen3 dense (Yang et al. 2025): rmsnorm of each query and key head before rope, head width of its own. */
#include "model/decoder.h"

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    cfg->head_dim = 128;
    FM_TRY(fm_decoder_parse(cfg, json));
    FM_TRY(fm_json_get_bool(&cfg->qkv_bias, json, "attention_bias", false));
    cfg->o_bias = cfg->qkv_bias;
    cfg->qk_norm = true;
    return fm_decoder_parse_layer_windows(cfg, json);
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    if (!cfg->qk_norm || cfg->qkv_bias != cfg->o_bias || cfg->mlp_bias) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "family qwen3 has query and key norms, one attention_bias for all projections, no other biases");
    }
    FM_TRY(fm_decoder_write(cfg, json));
    FM_TRY(fm_json_set(json, "attention_bias", fm_json_new_bool(cfg->qkv_bias)));
    return fm_decoder_write_layer_windows(cfg, json);
}

static const char *const architectures[] = {"Qwen3ForCausalLM", NULL};
static const char *const model_types[] = {"qwen3", NULL};
const fm_family fm_family_qwen3 = {
    .name = "qwen3",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
