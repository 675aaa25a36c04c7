/* DeepSeek V2 and V2-Lite (arXiv 2405.04434): latent attention; softmax routing, in V2 to the best groups of experts
 * by their largest score. */
#include "model/decoder.h"

#include <string.h>

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    fm_moe_config *m = &cfg->moe;
    FM_TRY(fm_decoder_parse_mla(cfg, json));
    const char *method;
    FM_TRY(fm_decoder_only(json, "scoring_func", "softmax"));
    FM_TRY(fm_json_get_str(&method, json, "topk_method", "greedy"));
    m->n_active = 6;
    m->d_ff = 1407;
    m->aux_alpha = 0.001;
    FM_TRY(fm_decoder_parse_deepseek_moe(cfg, json));
    if (m->norm_topk) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "norm_topk_prob: published programs disagree on it in this family; expected false");
    }
    if (strcmp(method, "greedy") == 0) {
        m->n_groups = m->top_groups = 0;
    } else if (strcmp(method, "group_limited_greedy") != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "topk_method: expected greedy or group_limited_greedy, found \"%s\"", method);
    }
    m->group_score = FM_GROUP_MAX;
    m->score = FM_ROUTER_SOFTMAX;
    return FM_OK;
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    const fm_moe_config *m = &cfg->moe;
    if (m->n_experts > 0 && (m->score != FM_ROUTER_SOFTMAX || m->correction_bias || m->norm_topk)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family deepseek_v2 routes by softmax without correction bias and normalisation");
    }
    FM_TRY(fm_decoder_write_mla(cfg, json));
    FM_TRY(fm_json_set(json, "scoring_func", fm_json_new_str("softmax")));
    FM_TRY(fm_json_set(json, "topk_method", fm_json_new_str(m->n_groups > 1 ? "group_limited_greedy" : "greedy")));
    return fm_decoder_write_deepseek_moe(cfg, json);
}

static const char *const architectures[] = {"DeepseekV2ForCausalLM", NULL};
static const char *const model_types[] = {"deepseek_v2", NULL};
const fm_family fm_family_deepseek_v2 = {
    .name = "deepseek_v2",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
