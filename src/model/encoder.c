/* Shared parts of encoders. */
#include "model/encoder.h"

#include <stdio.h>
#include <string.h>

void fm_encoder_prefix(fm_encoder_builder *b, const char *trunk, const char *rest) {
    snprintf(b->prefix, sizeof b->prefix, "%s%s", b->cfg->head.kind == FM_HEAD_NONE ? "" : trunk, rest);
}

fm_status fm_encoder_add(const fm_encoder_builder *b, fm_param **out, const char *name, int64_t rows, int64_t cols,
                         fm_init_kind init) {
    char full[192];
    snprintf(full, sizeof full, "%s%s", b->prefix, name);
    fm_param_desc d = {.name = full,
                       .n_dims = rows > 0 ? 2 : 1,
                       .dim = {rows > 0 ? rows : cols, cols},
                       .init = init,
                       .init_std = b->cfg->init_std,
                       .no_decay = rows == 0};
    return fm_params_add(b->ps, &d, out);
}

static fm_status add_pair(const fm_encoder_builder *b, fm_pair *p, const char *name, int64_t n, int64_t k,
                          fm_init_kind init) {
    char part[96];
    snprintf(part, sizeof part, "%s.weight", name);
    FM_TRY(fm_encoder_add(b, &p->w, part, k > 0 ? n : 0, k > 0 ? k : n, init));
    snprintf(part, sizeof part, "%s.bias", name);
    return fm_encoder_add(b, &p->b, part, 0, n, FM_INIT_ZEROS);
}

fm_status fm_encoder_dense(const fm_encoder_builder *b, fm_pair *p, const char *name, int64_t n, int64_t k) {
    return add_pair(b, p, name, n, k, FM_INIT_NORMAL);
}

fm_status fm_encoder_norm(const fm_encoder_builder *b, fm_pair *p, const char *name, int64_t n) {
    return add_pair(b, p, name, n, 0, FM_INIT_ONES);
}

fm_status fm_encoder_attention(const fm_encoder_builder *b, fm_attention_layer *a, const char *self, const char *out,
                               int32_t layer, int64_t body, int64_t value_width) {
    char name[96];
    fm_pair q, k, v, o;
    snprintf(name, sizeof name, "%s.query", self);
    FM_TRY(fm_encoder_dense(b, &q, name, body, body));
    snprintf(name, sizeof name, "%s.key", self);
    FM_TRY(fm_encoder_dense(b, &k, name, body, body));
    snprintf(name, sizeof name, "%s.value", self);
    FM_TRY(fm_encoder_dense(b, &v, name, body, value_width));
    FM_TRY(fm_encoder_dense(b, &o, out, body, body));
    *a = (fm_attention_layer){.q_w = q.w,
                              .q_b = q.b,
                              .k_w = k.w,
                              .k_b = k.b,
                              .v_w = v.w,
                              .v_b = v.b,
                              .o_w = o.w,
                              .o_b = o.b,
                              .n_heads = b->cfg->n_heads,
                              .n_kv_heads = b->cfg->n_heads,
                              .head_dim = b->cfg->head_dim,
                              .layer = layer,
                              .mask = FM_MASK_FULL,
                              .dropout = b->cfg->attention_dropout};
    snprintf(a->dropout_stream, sizeof a->dropout_stream, "dropout.%d.heads", (int)layer);
    return FM_OK;
}

fm_tensor *fm_pair_linear(fm_ctx *c, fm_pair p, fm_tensor *x) {
    return fm_linear(c, x, fm_leaf(c, p.w), fm_leaf_or_null(c, p.b));
}

fm_status fm_encoder_build_lm(const fm_model_config *cfg, fm_params *ps, fm_param *words, fm_head *h) {
    fm_encoder_builder b = {.cfg = cfg, .ps = ps, .prefix = "cls.predictions."};
    fm_pair dense, norm;
    fm_param *copy;
    FM_TRY(fm_encoder_add(&b, &h->b, "bias", 0, cfg->vocab_size, FM_INIT_ZEROS));
    FM_TRY(fm_encoder_dense(&b, &dense, "transform.dense", cfg->d_model, cfg->d_model));
    FM_TRY(fm_encoder_norm(&b, &norm, "transform.LayerNorm", cfg->d_model));
    if (cfg->tied) {
        h->w = words;
        FM_TRY(fm_params_add(ps,
                             &(fm_param_desc){.name = "cls.predictions.decoder.weight",
                                              .n_dims = 2,
                                              .dim = {words->dim[0], words->dim[1]},
                                              .tie = words},
                             &copy));
    } else {
        FM_TRY(fm_encoder_add(&b, &h->w, "decoder.weight", words->dim[0], words->dim[1], FM_INIT_NORMAL));
    }
    /* The bias has two names. */
    FM_TRY(fm_params_add(ps,
                         &(fm_param_desc){.name = "cls.predictions.decoder.bias",
                                          .n_dims = 1,
                                          .dim = {cfg->vocab_size},
                                          .no_decay = true,
                                          .tie = h->b},
                         &copy));
    h->dense_w = dense.w;
    h->dense_b = dense.b;
    h->dense_act = cfg->act;
    h->norm_w = norm.w;
    h->norm_b = norm.b;
    h->norm_eps = cfg->norm_eps;
    return FM_OK;
}

/* ---- configuration --------------------------------------------------------------------------- */

static const fm_config_key keys[] = {
    FM_KEY("vocab_size", NULL, FM_KEY_SIZE, vocab_size, 30522),
    FM_KEY("hidden_size", NULL, FM_KEY_SIZE, d_model, -1),
    FM_KEY("num_hidden_layers", NULL, FM_KEY_SIZE, n_layers, -1),
    FM_KEY("num_attention_heads", NULL, FM_KEY_SIZE, n_heads, -1),
    FM_KEY("intermediate_size", NULL, FM_KEY_SIZE, d_ff, -1),
    FM_KEY("max_position_embeddings", NULL, FM_KEY_LONG, max_position, 512),
    FM_KEY("type_vocab_size", NULL, FM_KEY_SIZE, n_types, 2),
    FM_KEY("layer_norm_eps", NULL, FM_KEY_F64, norm_eps, 1e-12),
    FM_KEY("initializer_range", NULL, FM_KEY_F64, init_std, 0.02),
    FM_KEY("hidden_dropout_prob", NULL, FM_KEY_F64, hidden_dropout, 0.1),
    FM_KEY("attention_probs_dropout_prob", NULL, FM_KEY_F64, attention_dropout, 0.1),
    FM_KEY("tie_word_embeddings", NULL, FM_KEY_BOOL, tied, 1),
    {0},
};

fm_status fm_encoder_parse(fm_model_config *cfg, const fm_json *json) {
    const char *kind;
    bool pooler;
    FM_TRY(fm_config_read_keys(cfg, json, keys));
    FM_TRY(fm_json_get_str(&kind, json, "position_embedding_type", "absolute"));
    if (strcmp(kind, "absolute") != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "position_embedding_type: only absolute is supported, found %s", kind);
    }
    FM_TRY(fm_config_refuse(json, "is_decoder", false));
    FM_TRY(fm_config_refuse(json, "add_cross_attention", false));
    FM_TRY(fm_json_get_bool(&pooler, json, "add_pooling_layer", true));
    FM_TRY(fm_config_id(&cfg->bos_id, json, "bos_token_id"));
    FM_TRY(fm_config_id(&cfg->eos_id, json, "eos_token_id"));
    FM_TRY(fm_config_id(&cfg->pad_id, json, "pad_token_id"));
    if (cfg->n_types < 1) {
        FM_FAIL(FM_ERR_CONFIG, "type_vocab_size: expected at least 1, found %d", (int)cfg->n_types);
    }
    cfg->embedding_dropout = cfg->hidden_dropout;
    cfg->no_pooler = !pooler;
    cfg->positions = FM_POS_LEARNED;
    cfg->qkv_bias = cfg->o_bias = cfg->mlp_bias = true;
    cfg->n_kv_heads = cfg->n_heads;
    return FM_OK;
}

fm_status fm_encoder_write(const fm_model_config *cfg, fm_json *json) {
    if (cfg->positions != FM_POS_LEARNED || cfg->qk_norm || cfg->window > 0 || cfg->n_kv_heads != cfg->n_heads) {
        FM_FAIL(
            FM_ERR_UNSUPPORTED,
            "family %s has learned positions, as many key-value heads as heads, no query and key norms and no window",
            cfg->family);
    }
    FM_TRY(fm_config_write_keys(cfg, json, keys));
    if (cfg->no_pooler) { /* the argument of transformers' BertModel */
        FM_TRY(fm_json_set(json, "add_pooling_layer", fm_json_new_bool(false)));
    }
    FM_TRY(fm_config_write_act(json, "hidden_act", cfg->act));
    return fm_config_write_ids(cfg, json);
}
