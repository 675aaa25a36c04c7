/* Keys of config.json that the dense decoders share, and checks of any config. */
#include "model/decoder.h"

#include <math.h>
#include <string.h>

#define MAX_WIDTH  (1 << 20)
#define MAX_LAYERS 4096
#define MAX_VOCAB  (1 << 24)

static fm_status in_range(const char *key, int64_t v, int64_t low, int64_t high) {
    if (v < low || v > high) {
        FM_FAIL(FM_ERR_CONFIG, "%s: expected %lld to %lld, found %lld", key, (long long)low, (long long)high,
                (long long)v);
    }
    return FM_OK;
}

static fm_status probability(const char *key, double p) {
    if (!(p >= 0 && p < 1)) {
        FM_FAIL(FM_ERR_CONFIG, "%s: expected 0 <= p < 1, found %g", key, p);
    }
    return FM_OK;
}

fm_status fm_model_config_check(const fm_model_config *cfg) {
    FM_TRY(in_range("vocab_size", cfg->vocab_size, 1, MAX_VOCAB));
    FM_TRY(in_range("hidden_size", cfg->d_model, 1, MAX_WIDTH));
    FM_TRY(in_range("intermediate_size", cfg->d_ff, 1, MAX_WIDTH));
    FM_TRY(in_range("num_hidden_layers", cfg->n_layers, 1, MAX_LAYERS));
    FM_TRY(in_range("num_attention_heads", cfg->n_heads, 1, MAX_WIDTH));
    FM_TRY(in_range("num_key_value_heads", cfg->n_kv_heads, 1, cfg->n_heads));
    FM_TRY(in_range("head_dim", cfg->head_dim, 2, 1 << 14));
    FM_TRY(in_range("head_dim * num_attention_heads", (int64_t)cfg->head_dim * cfg->n_heads, 2, MAX_WIDTH));
    FM_TRY(in_range("max_position_embeddings", cfg->max_position, 1, INT32_MAX));
    FM_TRY(in_range("sliding_window", cfg->window, 0, INT32_MAX));
    if (cfg->n_heads % cfg->n_kv_heads != 0) {
        FM_FAIL(FM_ERR_CONFIG, "num_attention_heads: expected a multiple of num_key_value_heads %d, found %d",
                (int)cfg->n_kv_heads, (int)cfg->n_heads);
    }
    FM_TRY(fm_mla_config_check(cfg));
    if (cfg->mla.kv_rank == 0 && (cfg->head_dim % 2 != 0 || cfg->rope.dim != cfg->head_dim)) {
        FM_FAIL(FM_ERR_CONFIG, "head_dim: expected an even number, all of it rotated, found %d with %d rotated",
                (int)cfg->head_dim, (int)cfg->rope.dim);
    }
    if (!(cfg->norm_eps > 0 && cfg->norm_eps < 1)) {
        FM_FAIL(FM_ERR_CONFIG, "rms_norm_eps: expected a small positive number, found %g", cfg->norm_eps);
    }
    if (!(cfg->init_std >= 0 && cfg->init_std <= 10)) {
        FM_FAIL(FM_ERR_CONFIG, "initializer_range: expected 0 to 10, found %g", cfg->init_std);
    }
    FM_TRY(fm_moe_config_check(&cfg->moe));
    FM_TRY(probability("attention_dropout", cfg->attention_dropout));
    FM_TRY(probability("hidden_dropout", cfg->hidden_dropout));
    return probability("embedding_dropout", cfg->embedding_dropout);
}

/* ---- counts on paper ------------------------------------------------------------------------- */

int64_t fm_model_config_params_embedding(const fm_model_config *cfg) {
    return (int64_t)cfg->vocab_size * cfg->d_model * (cfg->tied ? 1 : 2);
}

static int64_t count_params(const fm_model_config *cfg, bool active) {
    int64_t d = cfg->d_model, q = (int64_t)cfg->n_heads * cfg->head_dim, kv = (int64_t)cfg->n_kv_heads * cfg->head_dim;
    int64_t attn = 2 * d * q + 2 * d * kv + (cfg->qkv_bias ? q + 2 * kv : 0) + (cfg->o_bias ? d : 0) +
                   (cfg->qk_norm ? 2 * cfg->head_dim : 0);
    if (cfg->mla.kv_rank > 0) {
        attn = fm_mla_config_params(&cfg->mla, d, cfg->n_heads);
    }
    int64_t mlp = 3 * d * cfg->d_ff + (cfg->mlp_bias ? 2 * (int64_t)cfg->d_ff + d : 0);
    int64_t n = fm_model_config_params_embedding(cfg) + d;
    for (int32_t l = 0; l < cfg->n_layers; l++) {
        n += attn + 2 * d + (fm_moe_layer_is_moe(&cfg->moe, l) ? fm_moe_config_params(&cfg->moe, d, active) : mlp);
    }
    return n;
}

int64_t fm_model_config_params(const fm_model_config *cfg) {
    return count_params(cfg, false);
}

int64_t fm_model_config_params_active(const fm_model_config *cfg) {
    return count_params(cfg, true);
}

void fm_model_kv_shape(const fm_model_config *cfg, int32_t *n_kv_heads, int32_t *k_dim, int32_t *v_dim) {
    bool latent = cfg->mla.kv_rank > 0;
    *n_kv_heads = latent ? 1 : cfg->n_kv_heads;
    *k_dim = latent ? cfg->mla.kv_rank + cfg->mla.rope_dim : cfg->head_dim;
    *v_dim = latent ? 0 : cfg->head_dim;
}

int64_t fm_model_kv_bytes_per_token(const fm_model_config *cfg, fm_dtype dtype) {
    int32_t heads, k, v;
    fm_model_kv_shape(cfg, &heads, &k, &v);
    return fm_dtype_bytes(dtype, (int64_t)cfg->n_layers * heads * (k + v));
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct act_row {
    const char *name;
    fm_act act;
} act_row;
/* The first name of an act is the one written. */
static const act_row acts[] = {
    {"silu", FM_ACT_SILU},          {"swish", FM_ACT_SILU},
    {"gelu", FM_ACT_GELU},          {"gelu_pytorch_tanh", FM_ACT_GELU_TANH},
    {"gelu_new", FM_ACT_GELU_TANH}, {"relu", FM_ACT_RELU},
    {"relu2", FM_ACT_RELU2},
};

fm_status fm_decoder_get_size(int32_t *out, const fm_json *json, const char *key, int64_t def) {
    int64_t v;
    FM_TRY(fm_json_get_i64(&v, json, key, def));
    if (v == INT64_MIN) {
        FM_FAIL(FM_ERR_FORMAT, "key \"%s\" is missing", key);
    }
    FM_TRY(in_range(key, v, 0, INT32_MAX));
    *out = (int32_t)v;
    return FM_OK;
}

/* Token id: a number, null or missing (-1), or a list of which the first counts here. */
static fm_status get_id(int32_t *out, const fm_json *json, const char *key) {
    const fm_json *v = fm_json_get(json, key);
    if (fm_json_is_array(v)) {
        v = fm_json_at(v, 0);
    }
    *out = -1;
    if (fm_json_is_null(v)) {
        return FM_OK;
    }
    if (!fm_json_is_number(v)) {
        FM_FAIL(FM_ERR_FORMAT, "key \"%s\": expected a token id", key);
    }
    int64_t id = fm_json_int(v, -1);
    *out = id >= 0 && id < MAX_VOCAB ? (int32_t)id : -1;
    return FM_OK;
}

static fm_status parse_act(fm_act *out, const fm_json *json) {
    const char *name;
    FM_TRY(fm_json_get_str(&name, json, "hidden_act", "silu"));
    for (size_t i = 0; i < FM_ARRAY_LEN(acts); i++) {
        if (strcmp(name, acts[i].name) == 0) {
            *out = acts[i].act;
            return FM_OK;
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "hidden_act \"%s\" is not supported", name);
}

fm_status fm_decoder_parse(fm_model_config *cfg, const fm_json *json) {
    FM_TRY(fm_decoder_get_size(&cfg->vocab_size, json, "vocab_size", INT64_MIN));
    FM_TRY(fm_decoder_get_size(&cfg->d_model, json, "hidden_size", INT64_MIN));
    FM_TRY(fm_decoder_get_size(&cfg->d_ff, json, "intermediate_size", INT64_MIN));
    FM_TRY(fm_decoder_get_size(&cfg->n_layers, json, "num_hidden_layers", INT64_MIN));
    FM_TRY(fm_decoder_get_size(&cfg->n_heads, json, "num_attention_heads", INT64_MIN));
    FM_TRY(in_range("num_attention_heads", cfg->n_heads, 1, MAX_WIDTH));
    FM_TRY(fm_decoder_get_size(&cfg->n_kv_heads, json, "num_key_value_heads", cfg->n_heads));
    /* A family with its own default has set head_dim before. */
    FM_TRY(fm_decoder_get_size(&cfg->head_dim, json, "head_dim",
                               cfg->head_dim ? cfg->head_dim : cfg->d_model / cfg->n_heads));
    FM_TRY(fm_json_get_i64(&cfg->max_position, json, "max_position_embeddings", 2048));
    FM_TRY(fm_json_get_f64(&cfg->norm_eps, json, "rms_norm_eps", 1e-6));
    FM_TRY(fm_json_get_f64(&cfg->init_std, json, "initializer_range", 0.02));
    FM_TRY(fm_json_get_f64(&cfg->attention_dropout, json, "attention_dropout", 0));
    FM_TRY(fm_json_get_bool(&cfg->tied, json, "tie_word_embeddings", false));
    FM_TRY(get_id(&cfg->bos_id, json, "bos_token_id"));
    FM_TRY(get_id(&cfg->eos_id, json, "eos_token_id"));
    FM_TRY(get_id(&cfg->pad_id, json, "pad_token_id"));
    FM_TRY(parse_act(&cfg->act, json));
    return fm_rope_config_parse(cfg, json);
}

fm_status fm_decoder_parse_layer_windows(fm_model_config *cfg, const fm_json *json) {
    bool use;
    FM_TRY(fm_json_get_bool(&use, json, "use_sliding_window", false));
    if (!use) {
        return FM_OK;
    }
    FM_TRY(fm_decoder_get_size(&cfg->window, json, "sliding_window",
                               fm_json_is_null(fm_json_get(json, "sliding_window")) ? 0 : 4096));
    FM_TRY(fm_decoder_get_size(&cfg->window_from_layer, json, "max_window_layers", 28));
    const fm_json *types = fm_json_get(json, "layer_types");
    if (!fm_json_is_array(types)) {
        return FM_OK;
    }
    /* The explicit list wins; full layers must come first, as max_window_layers can say. */
    int32_t n = (int32_t)FM_MIN(fm_json_size(types), (size_t)MAX_LAYERS), full = 0;
    for (int32_t i = 0; i < n; i++) {
        const char *t = fm_json_str(fm_json_at(types, (size_t)i), NULL);
        bool is_full = t && strcmp(t, "full_attention") == 0;
        if (!t || (!is_full && strcmp(t, "sliding_attention") != 0) || (is_full && full != i)) {
            FM_FAIL(FM_ERR_UNSUPPORTED,
                    "layer_types: entry %d is \"%s\"; supported are full_attention layers followed by "
                    "sliding_attention layers",
                    (int)i, t ? t : "not text");
        }
        full += is_full;
    }
    cfg->window_from_layer = full;
    return FM_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static fm_status set_id(fm_json *json, const char *key, int32_t id) {
    return fm_json_set(json, key, id >= 0 ? fm_json_new_int(id) : fm_json_new_null());
}

fm_status fm_decoder_write(const fm_model_config *cfg, fm_json *json) {
    const char *act = "silu";
    for (size_t i = FM_ARRAY_LEN(acts); i-- > 0;) {
        act = acts[i].act == cfg->act ? acts[i].name : act;
    }
    FM_TRY(fm_json_set(json, "vocab_size", fm_json_new_int(cfg->vocab_size)));
    FM_TRY(fm_json_set(json, "hidden_size", fm_json_new_int(cfg->d_model)));
    FM_TRY(fm_json_set(json, "intermediate_size", fm_json_new_int(cfg->d_ff)));
    FM_TRY(fm_json_set(json, "num_hidden_layers", fm_json_new_int(cfg->n_layers)));
    FM_TRY(fm_json_set(json, "num_attention_heads", fm_json_new_int(cfg->n_heads)));
    FM_TRY(fm_json_set(json, "num_key_value_heads", fm_json_new_int(cfg->n_kv_heads)));
    FM_TRY(fm_json_set(json, "head_dim", fm_json_new_int(cfg->head_dim)));
    FM_TRY(fm_json_set(json, "hidden_act", fm_json_new_str(act)));
    FM_TRY(fm_json_set(json, "max_position_embeddings", fm_json_new_int(cfg->max_position)));
    FM_TRY(fm_json_set(json, "rms_norm_eps", fm_json_new_num(cfg->norm_eps)));
    FM_TRY(fm_json_set(json, "initializer_range", fm_json_new_num(cfg->init_std)));
    FM_TRY(fm_json_set(json, "attention_dropout", fm_json_new_num(cfg->attention_dropout)));
    FM_TRY(fm_json_set(json, "tie_word_embeddings", fm_json_new_bool(cfg->tied)));
    FM_TRY(fm_json_set(json, "use_cache", fm_json_new_bool(true)));
    FM_TRY(set_id(json, "bos_token_id", cfg->bos_id));
    FM_TRY(set_id(json, "pad_token_id", cfg->pad_id));
    const fm_json *eos = fm_json_get(json, "eos_token_id"); /* a list that begins with the same id stays */
    if (!fm_json_is_array(eos) || fm_json_int(fm_json_at(eos, 0), -1) != cfg->eos_id) {
        FM_TRY(set_id(json, "eos_token_id", cfg->eos_id));
    }
    return fm_rope_config_write(cfg, json);
}

fm_status fm_decoder_write_layer_windows(const fm_model_config *cfg, fm_json *json) {
    FM_TRY(fm_json_set(json, "use_sliding_window", fm_json_new_bool(cfg->window > 0)));
    FM_TRY(fm_json_set(json, "sliding_window", cfg->window > 0 ? fm_json_new_int(cfg->window) : fm_json_new_null()));
    return fm_json_set(json, "max_window_layers",
                       fm_json_new_int(cfg->window > 0 ? cfg->window_from_layer : cfg->n_layers));
}
