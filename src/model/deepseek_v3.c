/* DeepSeek V3 and R1 (arXiv 2412.19437): latent attention; sigmoid routing with a correction bias that chooses and does
 * not weigh, to the best groups by the sum of their two largest scores. */
#include "model/decoder.h"

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    fm_moe_config *m = &cfg->moe;
    FM_TRY(fm_decoder_parse_mla(cfg, json));
    FM_TRY(fm_decoder_only(json, "scoring_func", "sigmoid"));
    FM_TRY(fm_decoder_only(json, "topk_method", "noaux_tc"));
    m->n_experts = 256;
    m->n_active = 8;
    m->n_shared = 1;
    m->d_ff = 2048;
    m->first_dense = 3;
    m->n_groups = 8;
    m->top_groups = 4;
    m->norm_topk = true;
    m->routed_scale = 2.5;
    FM_TRY(fm_decoder_parse_deepseek_moe(cfg, json));
    FM_TRY(fm_json_get_bool(&cfg->rope.interleaved, json, "rope_interleave", true));
    FM_TRY(fm_decoder_get_size(&cfg->n_mtp, json, "num_nextn_predict_layers", 0));
    m->group_score = FM_GROUP_SUM_TOP2;
    m->score = FM_ROUTER_SIGMOID;
    m->correction_bias = m->n_experts > 0;
    return FM_OK;
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    const fm_moe_config *m = &cfg->moe;
    if (m->n_experts > 0 && (m->score != FM_ROUTER_SIGMOID || !m->correction_bias)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family deepseek_v3 routes by sigmoid with a correction bias");
    }
    FM_TRY(fm_decoder_write_mla(cfg, json));
    FM_TRY(fm_json_set(json, "scoring_func", fm_json_new_str("sigmoid")));
    FM_TRY(fm_json_set(json, "topk_method", fm_json_new_str("noaux_tc")));
    FM_TRY(fm_json_set(json, "rope_interleave", fm_json_new_bool(cfg->rope.interleaved)));
    FM_TRY(fm_json_set(json, "num_nextn_predict_layers", fm_json_new_int(cfg->n_mtp)));
    return fm_decoder_write_deepseek_moe(cfg, json);
}

static const char *const architectures[] = {"DeepseekV3ForCausalLM", NULL};
static const char *const model_types[] = {"deepseek_v3", NULL};
const fm_family fm_family_deepseek_v3 = {
    .name = "deepseek_v3",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
