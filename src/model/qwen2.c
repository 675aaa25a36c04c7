/* Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases on query, key and value. The smaller DeepSeek-R1
 * distillations. */
#include "model/decoder.h"

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    FM_TRY(fm_decoder_parse(cfg, json));
    cfg->qkv_bias = true;
    return fm_decoder_parse_layer_windows(cfg, json);
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    if (!cfg->qkv_bias || cfg->o_bias || cfg->mlp_bias || cfg->qk_norm) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "family qwen2 has biases on query, key and value and no others, and no query and key norms");
    }
    FM_TRY(fm_decoder_write(cfg, json));
    return fm_decoder_write_layer_windows(cfg, json);
}

static const char *const architectures[] = {"Qwen2ForCausalLM", NULL};
static const char *const model_types[] = {"qwen2", NULL};
const fm_family fm_family_qwen2 = {
    .name = "qwen2",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
