/* Mistral 7B (Jiang et al. 2023): Llama with a sliding window. */
#include "model/decoder.h"

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    FM_TRY(fm_decoder_parse(cfg, json));
    /* null: no window; a missing key: the default of transformers */
    const fm_json *w = fm_json_get(json, "sliding_window");
    int64_t window = 4096;
    if (w) {
        window = fm_json_is_null(w) ? 0 : fm_json_int(w, -1);
    }
    if (window < 0 || window > INT32_MAX) {
        FM_FAIL(FM_ERR_CONFIG, "sliding_window: expected a number of tokens or null");
    }
    cfg->window = (int32_t)window;
    return FM_OK;
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    if (cfg->qkv_bias || cfg->o_bias || cfg->mlp_bias || cfg->qk_norm || fm_layers_mixed(cfg)) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "family mistral has no biases, no query and key norms, and one window for all layers");
    }
    FM_TRY(fm_decoder_write(cfg, json));
    return fm_json_set(json, "sliding_window", cfg->window > 0 ? fm_json_new_int(cfg->window) : fm_json_new_null());
}

static const char *const architectures[] = {"MistralForCausalLM", NULL};
static const char *const model_types[] = {"mistral", NULL};
const fm_family fm_family_mistral = {
    .name = "mistral",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
