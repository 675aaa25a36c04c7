/* MPT (MosaicML 2023): pre-norm decoder without biases, with ALiBi. */
#include <math.h>
#include <string.h>

#include "model/prenorm.h"

static const fm_prenorm_layout layout = {
    .embed = "transformer.wte",
    .final_norm = "transformer.norm_f",
    .layers = "transformer.blocks",
    .norm1 = "norm_1",
    .qkv = "attn.Wqkv",
    .out = "attn.out_proj",
    .norm2 = "norm_2",
    .up = "ffn.up_proj",
    .down = "ffn.down_proj",
};

static const fm_config_key keys[] = {
    FM_KEY("vocab_size", NULL, FM_KEY_SIZE, vocab_size, 50368),
    FM_KEY("d_model", "hidden_size", FM_KEY_SIZE, d_model, 2048),
    FM_KEY("n_layers", "num_hidden_layers", FM_KEY_SIZE, n_layers, 24),
    FM_KEY("n_heads", "num_attention_heads", FM_KEY_SIZE, n_heads, 16),
    FM_KEY("max_seq_len", NULL, FM_KEY_LONG, max_position, 2048),
    FM_KEY("layer_norm_epsilon", NULL, FM_KEY_F64, norm_eps, 1e-5),
    FM_KEY("initializer_range", NULL, FM_KEY_F64, init_std, 0.02),
    FM_KEY("resid_pdrop", NULL, FM_KEY_F64, hidden_dropout, 0),
    FM_KEY("emb_pdrop", NULL, FM_KEY_F64, embedding_dropout, 0),
    FM_KEY("tie_word_embeddings", NULL, FM_KEY_BOOL, tied, 1),
    {0},
};

/* A number that must be absent or have one value. */
static fm_status only(const fm_json *o, const char *key, double value) {
    const fm_json *v = fm_json_get(o, key);
    if (v && !fm_json_is_null(v) && fm_json_num(v, NAN) != value) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: only %g is supported in this family, found %g", key, value,
                fm_json_num(v, NAN));
    }
    return FM_OK;
}
static fm_status only_null(const fm_json *o, const char *key) {
    if (!fm_json_is_null(fm_json_get(o, key))) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: only null is supported in this family", key);
    }
    return FM_OK;
}

static fm_status only_text(const fm_json *o, const char *key, const char *value, const char *other) {
    const char *v;
    FM_TRY(fm_json_get_str(&v, o, key, value));
    if (strcmp(v, value) != 0 && strcmp(v, other) != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: only %s is supported in this family, found %s", key, value, v);
    }
    return FM_OK;
}

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    FM_TRY(fm_config_read_keys(cfg, json, keys));
    FM_TRY(fm_config_refuse(json, "no_bias", true));
    FM_TRY(only(json, "expansion_ratio", 4));
    FM_TRY(only_null(json, "logit_scale"));
    FM_TRY(only_text(json, "norm_type", "low_precision_layernorm", "layernorm")); /* they differ in speed */
    const fm_json *a = fm_json_get(json, "attn_config");
    FM_TRY(only_text(a, "attn_type", "multihead_attention", "multihead_attention"));
    FM_TRY(fm_config_refuse(a, "alibi", true));
    FM_TRY(fm_config_refuse(a, "qk_ln", false));
    FM_TRY(fm_config_refuse(a, "attn_uses_sequence_id", false));
    FM_TRY(fm_config_refuse(a, "prefix_lm", false));
    FM_TRY(only(a, "alibi_bias_max", 8));
    FM_TRY(only_null(a, "clip_qkv"));
    FM_TRY(only_null(a, "softmax_scale"));
    FM_TRY(fm_json_get_f64(&cfg->attention_dropout, a, "attn_pdrop", 0));
    FM_TRY(fm_config_id(&cfg->bos_id, json, "bos_token_id"));
    FM_TRY(fm_config_id(&cfg->eos_id, json, "eos_token_id"));
    FM_TRY(fm_config_id(&cfg->pad_id, json, "pad_token_id"));
    cfg->act = FM_ACT_GELU;
    cfg->positions = FM_POS_ALIBI;
    return fm_prenorm_sizes(cfg);
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    FM_TRY(fm_prenorm_check_write(cfg, FM_POS_ALIBI));
    if (cfg->d_ff != 4 * cfg->d_model || cfg->act != FM_ACT_GELU) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family mpt has a feed-forward width of 4 times the width and the exact gelu");
    }
    FM_TRY(fm_config_write_keys(cfg, json, keys));
    FM_TRY(fm_json_set(json, "no_bias", fm_json_new_bool(true)));
    if (!fm_json_is_object(fm_json_get(json, "attn_config"))) {
        FM_TRY(fm_json_set(json, "attn_config", fm_json_new_object()));
    }
    fm_json *a = fm_json_get(json, "attn_config");
    FM_TRY(fm_json_set(a, "alibi", fm_json_new_bool(true)));
    /* transformers takes whole numbers alone here. */
    double p = cfg->attention_dropout;
    FM_TRY(fm_json_set(a, "attn_pdrop", p == 0 ? fm_json_new_int(0) : fm_json_new_num(p)));
    return fm_config_write_ids(cfg, json);
}

static fm_status build(const fm_model_config *cfg, fm_params *ps, void **state) {
    return fm_prenorm_build(&layout, cfg, ps, state);
}

static const char *const architectures[] = {"MptForCausalLM", "MPTForCausalLM", NULL};
static const char *const model_types[] = {"mpt", NULL};
const fm_family fm_family_mpt = {
    .name = "mpt",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = build,
    .forward = fm_prenorm_forward,
    .trunk = "transformer.",
    .embedding = "transformer.wte.weight",
    .token_head = "classifier",
};
