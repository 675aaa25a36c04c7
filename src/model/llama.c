/* Llama 1 to 3 (Touvron et al. 2023), DeepSeek LLM and DeepSeek-Coder (DeepSeek-AI 2024), which use its architecture.
 */
#include "model/decoder.h"

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    FM_TRY(fm_decoder_parse(cfg, json));
    FM_TRY(fm_json_get_bool(&cfg->qkv_bias, json, "attention_bias", false));
    cfg->o_bias = cfg->qkv_bias;
    return fm_json_get_bool(&cfg->mlp_bias, json, "mlp_bias", false);
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    if (cfg->qkv_bias != cfg->o_bias || cfg->qk_norm || cfg->window > 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "family llama has one attention_bias for all projections, no query and key norms and no window");
    }
    FM_TRY(fm_decoder_write(cfg, json));
    FM_TRY(fm_json_set(json, "attention_bias", fm_json_new_bool(cfg->qkv_bias)));
    return fm_json_set(json, "mlp_bias", fm_json_new_bool(cfg->mlp_bias));
}

static const char *const architectures[] = {"LlamaForCausalLM", NULL};
static const char *const model_types[] = {"llama", NULL};
const fm_family fm_family_llama = {
    .name = "llama",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
