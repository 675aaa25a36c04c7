/* Latent attention of a decoder: the weight map of a layer and the keys of config.json (DeepSeek V2 and V3). */
#include <math.h>
#include <string.h>

#include "model/decoder.h"

#define LINEAR(out, name, rows, cols) FM_TRY(fm_decoder_add(cfg, ps, layer, out, name, rows, cols, FM_INIT_NORMAL))
#define NORM(out, name, dim)          FM_TRY(fm_decoder_add(cfg, ps, layer, out, name, 0, dim, FM_INIT_ONES))

fm_status fm_decoder_build_mla(const fm_model_config *cfg, fm_params *ps, int32_t layer, fm_mla_layer *y) {
    const fm_mla_config *z = &cfg->mla;
    int64_t d = cfg->d_model, h = cfg->n_heads, q = h * (z->nope_dim + z->rope_dim);
    y->cfg = z;
    y->n_heads = cfg->n_heads;
    y->layer = layer;
    if (z->q_rank > 0) {
        LINEAR(&y->q_a_w, "self_attn.q_a_proj.weight", z->q_rank, d);
        NORM(&y->q_a_norm, "self_attn.q_a_layernorm.weight", z->q_rank);
        LINEAR(&y->q_b_w, "self_attn.q_b_proj.weight", q, z->q_rank);
    } else {
        LINEAR(&y->q_w, "self_attn.q_proj.weight", q, d);
    }
    LINEAR(&y->kv_a_w, "self_attn.kv_a_proj_with_mqa.weight", z->kv_rank + z->rope_dim, d);
    NORM(&y->kv_a_norm, "self_attn.kv_a_layernorm.weight", z->kv_rank);
    LINEAR(&y->kv_b_w, "self_attn.kv_b_proj.weight", h * (z->nope_dim + z->v_dim), z->kv_rank);
    LINEAR(&y->o_w, "self_attn.o_proj.weight", d, h * z->v_dim);
    if (z->index_heads > 0) {
        LINEAR(&y->index_q_w, "self_attn.indexer.wq_b.weight", (int64_t)z->index_heads * z->index_dim, z->q_rank);
        LINEAR(&y->index_k_w, "self_attn.indexer.wk.weight", z->index_dim, d);
        NORM(&y->index_k_norm_w, "self_attn.indexer.k_norm.weight", z->index_dim);
        FM_TRY(fm_decoder_add(cfg, ps, layer, &y->index_k_norm_b, "self_attn.indexer.k_norm.bias", 0, z->index_dim,
                              FM_INIT_ZEROS));
        LINEAR(&y->index_head_w, "self_attn.indexer.weights_proj.weight", z->index_heads, d);
    }
    return FM_OK;
}

int64_t fm_mla_config_params(const fm_mla_config *z, int64_t d_model, int64_t n_heads) {
    int64_t q = n_heads * (z->nope_dim + z->rope_dim);
    int64_t n = z->q_rank > 0 ? d_model * z->q_rank + z->q_rank + z->q_rank * q : d_model * q;
    n += d_model * (z->kv_rank + z->rope_dim) + z->kv_rank;
    if (z->index_heads > 0) {
        n += (int64_t)z->index_heads * z->index_dim * z->q_rank + z->index_dim * (d_model + 2) +
             z->index_heads * d_model;
    }
    return n + z->kv_rank * n_heads * (z->nope_dim + z->v_dim) + n_heads * z->v_dim * d_model;
}

static fm_status positive(const char *key, int32_t v) {
    if (v < 1 || v > 1 << 16) {
        FM_FAIL(FM_ERR_CONFIG, "%s: expected 1 to %d, found %d", key, 1 << 16, (int)v);
    }
    return FM_OK;
}

fm_status fm_mla_config_check(const fm_model_config *cfg) {
    const fm_mla_config *z = &cfg->mla;
    if (z->kv_rank == 0) {
        return FM_OK;
    }
    FM_TRY(positive("kv_lora_rank", z->kv_rank));
    FM_TRY(positive("qk_nope_head_dim", z->nope_dim));
    FM_TRY(positive("qk_rope_head_dim", z->rope_dim));
    FM_TRY(positive("v_head_dim", z->v_dim));
    if (z->q_rank < 0 || z->q_rank > 1 << 16) {
        FM_FAIL(FM_ERR_CONFIG, "q_lora_rank: expected null or 1 to %d, found %d", 1 << 16, (int)z->q_rank);
    }
    if (z->index_heads > 0) {
        FM_TRY(positive("index_n_heads", z->index_heads));
        FM_TRY(positive("index_head_dim", z->index_dim));
        FM_TRY(positive("index_topk", z->index_topk));
        FM_TRY(positive("q_lora_rank", z->q_rank));
        if (z->index_dim < z->rope_dim) {
            FM_FAIL(FM_ERR_CONFIG, "index_head_dim: expected at least qk_rope_head_dim %d, found %d", (int)z->rope_dim,
                    (int)z->index_dim);
        }
    }
    if (z->rope_dim % 2 != 0 || cfg->rope.dim != z->rope_dim) {
        FM_FAIL(FM_ERR_CONFIG, "qk_rope_head_dim: expected an even number, all of it rotated, found %d with %d rotated",
                (int)z->rope_dim, (int)cfg->rope.dim);
    }
    return FM_OK;
}

/* The YaRN correction of the softmax (Peng et al. 2023, as DeepSeek applies it). */
static double softmax_scale(const fm_model_config *cfg) {
    const fm_rope_config *r = &cfg->rope;
    double scale = 1 / sqrt((double)(cfg->mla.nope_dim + cfg->mla.rope_dim));
    if (r->kind != FM_ROPE_NONE && r->mscale_all_dim != 0) {
        double m = r->factor <= 1 ? 1 : 0.1 * r->mscale_all_dim * log(r->factor) + 1;
        scale *= m * m;
    }
    return scale;
}

fm_status fm_decoder_parse_mla(fm_model_config *cfg, const fm_json *json) {
    fm_mla_config *z = &cfg->mla;
    bool bias;
    FM_TRY(fm_decoder_get_size(&z->rope_dim, json, "qk_rope_head_dim", 64));
    FM_TRY(positive("qk_rope_head_dim", z->rope_dim));
    cfg->head_dim = z->rope_dim; /* what is rotated, and what newer files call head_dim */
    FM_TRY(fm_decoder_parse(cfg, json));
    FM_TRY(fm_decoder_get_size(&z->q_rank, json, "q_lora_rank", 0));
    FM_TRY(fm_decoder_get_size(&z->kv_rank, json, "kv_lora_rank", 512));
    FM_TRY(fm_decoder_get_size(&z->nope_dim, json, "qk_nope_head_dim", 128));
    FM_TRY(fm_decoder_get_size(&z->v_dim, json, "v_head_dim", 128));
    FM_TRY(positive("kv_lora_rank", z->kv_rank));
    FM_TRY(positive("qk_nope_head_dim", z->nope_dim));
    FM_TRY(fm_config_refuse(json, "mlp_bias", false));
    FM_TRY(fm_json_get_bool(&bias, json, "attention_bias", false));
    if (bias) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "attention_bias: latent attention with biases is not supported");
    }
    cfg->rope.dim = z->rope_dim;
    cfg->rope.interleaved = true;
    cfg->head_dim = z->nope_dim + z->rope_dim;
    cfg->n_kv_heads = cfg->n_heads;
    z->softmax_scale = softmax_scale(cfg);
    return FM_OK;
}

static fm_status set_size(fm_json *json, const char *key, int32_t v) {
    return fm_json_set(json, key, v > 0 ? fm_json_new_int(v) : fm_json_new_null());
}

fm_status fm_decoder_write_mla(const fm_model_config *cfg, fm_json *json) {
    const fm_mla_config *z = &cfg->mla;
    if (z->kv_rank == 0 || cfg->qkv_bias || cfg->o_bias || cfg->mlp_bias || cfg->qk_norm || cfg->window > 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family %s has latent attention without biases, head norms and windows",
                cfg->family);
    }
    FM_TRY(fm_decoder_write(cfg, json));
    FM_TRY(fm_json_set(json, "head_dim", fm_json_new_int(z->rope_dim)));
    FM_TRY(fm_json_set(json, "attention_bias", fm_json_new_bool(false)));
    FM_TRY(set_size(json, "q_lora_rank", z->q_rank));
    FM_TRY(set_size(json, "kv_lora_rank", z->kv_rank));
    FM_TRY(set_size(json, "qk_nope_head_dim", z->nope_dim));
    FM_TRY(set_size(json, "qk_rope_head_dim", z->rope_dim));
    return set_size(json, "v_head_dim", z->v_dim);
}

/* ---- experts, as both families name them ------------------------------------------------------ */

/* transformers 5 says the same as first_k_dense_replace by a list, which wins. */
static fm_status parse_mlp_layer_types(fm_model_config *cfg, const fm_json *json) {
    const fm_json *types = fm_json_get(json, "mlp_layer_types");
    int32_t n = 0;
    if (!fm_json_is_array(types)) {
        return FM_OK;
    }
    if (fm_json_size(types) != (size_t)cfg->n_layers) {
        FM_FAIL(FM_ERR_CONFIG, "mlp_layer_types: expected an entry for each of %d layers, found %zu",
                (int)cfg->n_layers, fm_json_size(types));
    }
    for (int32_t l = 0; l < cfg->n_layers; l++) {
        const char *t = fm_json_str(fm_json_at(types, (size_t)l), NULL);
        bool dense = t && strcmp(t, "dense") == 0;
        if ((!dense && (!t || strcmp(t, "sparse") != 0)) || (dense && n < l)) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "mlp_layer_types: expected \"dense\" first, then \"sparse\"; entry %d is %s",
                    (int)l, t ? t : "not text");
        }
        n += dense;
    }
    cfg->moe.first_dense = n;
    return FM_OK;
}

fm_status fm_decoder_parse_deepseek_moe(fm_model_config *cfg, const fm_json *json) {
    fm_moe_config *m = &cfg->moe;
    FM_TRY(fm_decoder_get_size(&m->n_experts, json, "n_routed_experts", m->n_experts));
    FM_TRY(fm_decoder_get_size(&m->n_active, json, "num_experts_per_tok", m->n_active));
    FM_TRY(fm_decoder_get_size(&m->n_shared, json, "n_shared_experts", m->n_shared));
    FM_TRY(fm_decoder_get_size(&m->d_ff, json, "moe_intermediate_size", m->d_ff));
    FM_TRY(fm_decoder_get_size(&m->first_dense, json, "first_k_dense_replace", m->first_dense));
    FM_TRY(fm_decoder_get_size(&m->layer_freq, json, "moe_layer_freq", 1));
    FM_TRY(parse_mlp_layer_types(cfg, json));
    FM_TRY(fm_decoder_get_size(&m->n_groups, json, "n_group", m->n_groups));
    FM_TRY(fm_decoder_get_size(&m->top_groups, json, "topk_group", m->top_groups));
    FM_TRY(fm_json_get_bool(&m->norm_topk, json, "norm_topk_prob", m->norm_topk));
    FM_TRY(fm_json_get_f64(&m->routed_scale, json, "routed_scaling_factor", m->routed_scale));
    FM_TRY(fm_json_get_f64(&m->aux_alpha, json, "aux_loss_alpha", m->aux_alpha));
    return fm_json_get_bool(&m->seq_aux, json, "seq_aux", true);
}

fm_status fm_decoder_write_deepseek_moe(const fm_model_config *cfg, fm_json *json) {
    const fm_moe_config *m = &cfg->moe;
    FM_TRY(set_size(json, "n_routed_experts", m->n_experts));
    FM_TRY(set_size(json, "num_experts_per_tok", m->n_active));
    FM_TRY(set_size(json, "n_shared_experts", m->n_shared));
    FM_TRY(set_size(json, "moe_intermediate_size", m->d_ff));
    FM_TRY(fm_json_set(json, "first_k_dense_replace", fm_json_new_int(m->first_dense)));
    FM_TRY(fm_json_set(json, "moe_layer_freq", fm_json_new_int(FM_MAX(m->layer_freq, 1))));
    FM_TRY(set_size(json, "n_group", m->n_groups));
    FM_TRY(set_size(json, "topk_group", m->top_groups));
    FM_TRY(fm_json_set(json, "norm_topk_prob", fm_json_new_bool(m->norm_topk)));
    FM_TRY(fm_json_set(json, "routed_scaling_factor", fm_json_new_num(m->routed_scale > 0 ? m->routed_scale : 1)));
    FM_TRY(fm_json_set(json, "aux_loss_alpha", fm_json_new_num(m->aux_alpha)));
    return fm_json_set(json, "seq_aux", fm_json_new_bool(m->seq_aux));
}

fm_status fm_decoder_only(const fm_json *json, const char *key, const char *value) {
    const char *found;
    FM_TRY(fm_json_get_str(&found, json, key, value));
    if (strcmp(found, value) != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: supported is \"%s\", found \"%s\"", key, value, found);
    }
    return FM_OK;
}
