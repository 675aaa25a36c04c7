/* DeepSeek V3 and R1 (arXiv 2412.19437), and V3.2 with an indexer: latent attention; sigmoid routing with a correction
 * bias that chooses and does not weigh, to the best groups by the sum of their two largest scores. */
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

static fm_status write_v3(const fm_model_config *cfg, fm_json *json) {
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

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    if (cfg->mla.index_heads > 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family deepseek_v3 has no indexer");
    }
    return write_v3(cfg, json);
}

/* ---- V3.2: the same with sparse attention --------------------------------------------------------- */

static fm_status parse_v32(fm_model_config *cfg, const fm_json *json) {
    fm_mla_config *z = &cfg->mla;
    FM_TRY(parse(cfg, json));
    FM_TRY(fm_config_only_entries(json, "layer_types", "indexed_attention", NULL));
    FM_TRY(fm_decoder_get_size(&z->index_heads, json, "index_n_heads", 64));
    FM_TRY(fm_decoder_get_size(&z->index_dim, json, "index_head_dim", 128));
    return fm_decoder_get_size(&z->index_topk, json, "index_topk", 2048);
}

static fm_status write_v32(const fm_model_config *cfg, fm_json *json) {
    const fm_mla_config *z = &cfg->mla;
    if (z->index_heads == 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family deepseek_v32 has an indexer");
    }
    FM_TRY(write_v3(cfg, json));
    FM_TRY(fm_json_set(json, "index_n_heads", fm_json_new_int(z->index_heads)));
    FM_TRY(fm_json_set(json, "index_head_dim", fm_json_new_int(z->index_dim)));
    return fm_json_set(json, "index_topk", fm_json_new_int(z->index_topk));
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

static const char *const architectures_v32[] = {"DeepseekV32ForCausalLM", NULL};
static const char *const model_types_v32[] = {"deepseek_v32", NULL};
const fm_family fm_family_deepseek_v32 = {
    .name = "deepseek_v32",
    .architectures = architectures_v32,
    .model_types = model_types_v32,
    .parse = parse_v32,
    .write = write_v32,
    .build = fm_decoder_build,
    .forward = fm_decoder_forward,
};
