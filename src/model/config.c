/* Keys of config.json that the dense decoders share, and checks of any config. */
#include "model/columns.h"
#include "model/decoder.h"

#include <math.h>
#include <string.h>

#define MAX_WIDTH  (1 << 20)
#define MAX_LAYERS FM_MAX_LAYERS
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
    FM_TRY(in_range("num_nextn_predict_layers", cfg->n_mtp, 0, 64));
    FM_TRY(in_range("sliding_window", cfg->window, 0, INT32_MAX));
    if (cfg->n_heads % cfg->n_kv_heads != 0) {
        FM_FAIL(FM_ERR_CONFIG, "num_attention_heads: expected a multiple of num_key_value_heads %d, found %d",
                (int)cfg->n_kv_heads, (int)cfg->n_heads);
    }
    FM_TRY(fm_mla_config_check(cfg));
    FM_TRY(in_range("type_vocab_size", cfg->n_types, 0, 1 << 16));
    FM_TRY(fm_head_check(&cfg->head));
    for (int32_t i = 0; i < cfg->n_more_heads; i++) {
        FM_TRY(fm_head_check(&cfg->more_heads[i]));
    }
    if (cfg->positions == FM_POS_ROPE && cfg->mla.kv_rank == 0 &&
        (cfg->head_dim % 2 != 0 || cfg->rope.dim != cfg->head_dim)) {
        FM_FAIL(FM_ERR_CONFIG, "head_dim: expected an even number, all of it rotated, found %d with %d rotated",
                (int)cfg->head_dim, (int)cfg->rope.dim);
    }
    if (!(cfg->norm_eps > 0 && cfg->norm_eps < 1)) {
        FM_FAIL(FM_ERR_CONFIG, "rms_norm_eps: expected a small positive number, found %g", cfg->norm_eps);
    }
    if (!(cfg->init_std >= 0 && cfg->init_std <= 10)) {
        FM_FAIL(FM_ERR_CONFIG, "initializer_range: expected 0 to 10, found %g", cfg->init_std);
    }
    FM_TRY(fm_columns_check(cfg));
    FM_TRY(fm_moe_config_check(&cfg->moe));
    FM_TRY(probability("attention_dropout", cfg->attention_dropout));
    FM_TRY(probability("hidden_dropout", cfg->hidden_dropout));
    return probability("embedding_dropout", cfg->embedding_dropout);
}

/* ---- which layers see how far ------------------------------------------------------------------ */

int32_t fm_layer_window(const fm_model_config *cfg, int32_t layer) {
    return cfg->global_layers[layer / 8] >> layer % 8 & 1 ? 0 : cfg->window;
}

bool fm_layers_mixed(const fm_model_config *cfg) {
    for (int32_t l = 1; l < cfg->n_layers; l++) {
        if (fm_layer_window(cfg, l) != fm_layer_window(cfg, 0)) {
            return true;
        }
    }
    return false;
}

void fm_layer_set_global(fm_model_config *cfg, int32_t layer, bool global) {
    FM_ASSERT(layer >= 0 && layer < MAX_LAYERS);
    unsigned bit = 1U << layer % 8, byte = cfg->global_layers[layer / 8];
    cfg->global_layers[layer / 8] = (uint8_t)(global ? byte | bit : byte & ~bit);
}

fm_status fm_layers_from_pattern(fm_model_config *cfg, const char *pattern, int32_t window) {
    bool global[MAX_LAYERS];
    int32_t n = 0;
    for (const char *p = pattern; *p; p += *p == ':') {
        size_t len = strcspn(p, ":");
        bool is_global = len == strlen("global") && strncmp(p, "global", len) == 0;
        if (n == MAX_LAYERS || (!is_global && (len != strlen("local") || strncmp(p, "local", len) != 0))) {
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "attention pattern \"%s\": part %d is \"%.*s\"", pattern,
                         (int)n + 1, (int)FM_MIN(len, 40), p);
            return fm_error_hint(
                "parts are local and global, such as local:local:global; they repeat along the layers");
        }
        global[n++] = is_global;
        p += len;
    }
    if (n == 0 || window < 1) {
        FM_FAIL(FM_ERR_CONFIG,
                "attention pattern \"%s\": expected at least one part and a sliding_window, found %d and %d", pattern,
                (int)n, (int)window);
    }
    cfg->window = window;
    for (int32_t l = 0; l < MAX_LAYERS; l++) {
        fm_layer_set_global(cfg, l, global[l % n]);
    }
    return FM_OK;
}

/* ---- counts on paper ------------------------------------------------------------------------- */

int64_t fm_model_config_params_embedding(const fm_model_config *cfg) {
    int32_t width = cfg->mobile.embedding_size ? cfg->mobile.embedding_size : cfg->d_model;
    if (cfg->positions == FM_POS_LEARNED) {
        return (int64_t)cfg->vocab_size * width * (cfg->tied || cfg->head.kind != FM_HEAD_LM ? 1 : 2) +
               (cfg->max_position + cfg->n_types) * cfg->d_model;
    }
    return (int64_t)cfg->vocab_size * cfg->d_model * (cfg->tied ? 1 : 2);
}

int64_t fm_model_config_params_layer(const fm_model_config *cfg, int32_t layer, bool active) {
    int64_t d = cfg->d_model, q = (int64_t)cfg->n_heads * cfg->head_dim, kv = (int64_t)cfg->n_kv_heads * cfg->head_dim;
    int64_t attn = 2 * d * q + 2 * d * kv + (cfg->qkv_bias ? q + 2 * kv : 0) + (cfg->o_bias ? d : 0) +
                   (cfg->qk_norm ? 2 * cfg->head_dim : 0);
    if (cfg->mla.kv_rank > 0) {
        attn = fm_mla_config_params(&cfg->mla, d, cfg->n_heads);
    }
    int64_t mlp = 3 * d * cfg->d_ff + (cfg->mlp_bias ? 2 * (int64_t)cfg->d_ff + d : 0);
    return attn + 2 * d + (fm_moe_layer_is_moe(&cfg->moe, layer) ? fm_moe_config_params(&cfg->moe, d, active) : mlp);
}

/* By describing the model, which takes no memory for weights; 0 when it cannot be. */
static int64_t count_built(const fm_model_config *cfg) {
    fm_model *m;
    if (fm_model_build(&m, cfg) != FM_OK) {
        return 0;
    }
    int64_t n = fm_params_numel(m->params);
    fm_model_close(m);
    return n;
}

static int64_t count_params(const fm_model_config *cfg, bool active) {
    if (cfg->positions != FM_POS_ROPE || cfg->head.kind != FM_HEAD_LM || cfg->n_more_heads > 0 || cfg->n_columns > 0) {
        return count_built(cfg);
    }
    int64_t n = fm_model_config_params_embedding(cfg) + cfg->d_model;
    for (int32_t l = 0; l < cfg->n_layers; l++) {
        n += fm_model_config_params_layer(cfg, l, active);
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
    *v_dim = latent ? (cfg->mla.index_heads > 0 ? cfg->mla.index_dim : 0) : cfg->head_dim;
}

int32_t fm_model_kv_layers(const fm_model_config *cfg) {
    int32_t n = cfg->n_layers;
    for (int32_t k = 0; k < cfg->n_columns; k++) {
        n += cfg->column[k].n_layers;
    }
    return n;
}

int64_t fm_model_kv_bytes_per_token(const fm_model_config *cfg, fm_dtype dtype) {
    int32_t heads, k, v;
    fm_model_kv_shape(cfg, &heads, &k, &v);
    return fm_dtype_bytes(dtype, (int64_t)fm_model_kv_layers(cfg) * heads * (k + v));
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
    {"gelu_new", FM_ACT_GELU_TANH}, {"gelu_fast", FM_ACT_GELU_TANH},
    {"relu", FM_ACT_RELU},          {"relu2", FM_ACT_RELU2},
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

fm_status fm_config_id(int32_t *out, const fm_json *json, const char *key) {
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

static const act_row *find_act(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(acts); i++) {
        if (strcmp(name, acts[i].name) == 0) {
            return &acts[i];
        }
    }
    return NULL;
}

fm_status fm_config_act(fm_act *out, const fm_json *json, const char *key, const char *def) {
    const char *name;
    FM_TRY(fm_json_get_str(&name, json, key, def));
    const act_row *r = find_act(name);
    if (!r) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s \"%s\" is not supported", key, name);
    }
    *out = r->act;
    return FM_OK;
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
    FM_TRY(fm_config_id(&cfg->bos_id, json, "bos_token_id"));
    FM_TRY(fm_config_id(&cfg->eos_id, json, "eos_token_id"));
    FM_TRY(fm_config_id(&cfg->pad_id, json, "pad_token_id"));
    FM_TRY(fm_config_act(&cfg->act, json, "hidden_act", "silu"));
    return fm_rope_config_parse(cfg, json);
}

fm_status fm_config_only_entries(const fm_json *json, const char *key, const char *value, const char *other) {
    const fm_json *list = fm_json_get(json, key);
    for (size_t i = 0; fm_json_is_array(list) && i < fm_json_size(list); i++) {
        const char *t = fm_json_str(fm_json_at(list, i), NULL);
        if (!t || (strcmp(t, value) != 0 && (!other || strcmp(t, other) != 0))) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "%s: only %s is supported here, entry %zu is %s", key, value, i,
                    t ? t : "not text");
        }
    }
    return FM_OK;
}

fm_status fm_decoder_parse_layer_windows(fm_model_config *cfg, const fm_json *json) {
    bool use;
    FM_TRY(fm_json_get_bool(&use, json, "use_sliding_window", false));
    if (!use) {
        return fm_config_only_entries(json, "layer_types", "full_attention", "sliding_attention");
    }
    FM_TRY(fm_decoder_get_size(&cfg->window, json, "sliding_window",
                               fm_json_is_null(fm_json_get(json, "sliding_window")) ? 0 : 4096));
    /* Layers below max_window_layers attend to everything; an explicit list wins. */
    int32_t full;
    FM_TRY(fm_decoder_get_size(&full, json, "max_window_layers", 28));
    for (int32_t l = 0; l < FM_MIN(full, MAX_LAYERS); l++) {
        fm_layer_set_global(cfg, l, true);
    }
    const fm_json *types = fm_json_get(json, "layer_types");
    if (!fm_json_is_array(types)) {
        return FM_OK;
    }
    if (fm_json_size(types) != (size_t)cfg->n_layers || cfg->n_layers > MAX_LAYERS) {
        FM_FAIL(FM_ERR_CONFIG, "layer_types: expected an entry for each of %d layers, found %zu", (int)cfg->n_layers,
                fm_json_size(types));
    }
    for (int32_t l = 0; l < cfg->n_layers; l++) {
        const char *t = fm_json_str(fm_json_at(types, (size_t)l), NULL);
        bool global = t && strcmp(t, "full_attention") == 0;
        if (!global && (!t || strcmp(t, "sliding_attention") != 0)) {
            FM_FAIL(FM_ERR_UNSUPPORTED,
                    "layer_types: entry %d is \"%s\"; supported are full_attention and sliding_attention", (int)l,
                    t ? t : "not text");
        }
        fm_layer_set_global(cfg, l, global);
    }
    return FM_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static fm_status set_id(fm_json *json, const char *key, int32_t id) {
    return fm_json_set(json, key, id >= 0 ? fm_json_new_int(id) : fm_json_new_null());
}

fm_status fm_config_write_ids(const fm_model_config *cfg, fm_json *json) {
    FM_TRY(set_id(json, "bos_token_id", cfg->bos_id));
    FM_TRY(set_id(json, "pad_token_id", cfg->pad_id));
    const fm_json *eos = fm_json_get(json, "eos_token_id"); /* a list that begins with the same id stays */
    if (!fm_json_is_array(eos) || fm_json_int(fm_json_at(eos, 0), -1) != cfg->eos_id) {
        FM_TRY(set_id(json, "eos_token_id", cfg->eos_id));
    }
    return FM_OK;
}

fm_status fm_config_write_act(fm_json *json, const char *key, fm_act act) {
    const char *now = fm_json_str(fm_json_get(json, key), NULL), *name = NULL;
    const act_row *r = now ? find_act(now) : NULL;
    if (r && r->act == act) {
        return FM_OK; /* another name of the same function stays */
    }
    for (size_t i = FM_ARRAY_LEN(acts); i-- > 0;) {
        name = acts[i].act == act ? acts[i].name : name;
    }
    if (!name) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: this activation has no name in transformers", key);
    }
    return fm_json_set(json, key, fm_json_new_str(name));
}

fm_status fm_config_read_keys(fm_model_config *cfg, const fm_json *json, const fm_config_key *keys) {
    for (const fm_config_key *k = keys; k->key; k++) {
        void *at = (uint8_t *)cfg + k->offset;
        const char *key = k->alias && !fm_json_get(json, k->key) ? k->alias : k->key;
        switch (k->type) {
        case FM_KEY_SIZE:
            FM_TRY(fm_decoder_get_size(at, json, key, k->def < 0 ? INT64_MIN : (int64_t)k->def));
            break;
        case FM_KEY_LONG:
            FM_TRY(fm_json_get_i64(at, json, key, (int64_t)k->def));
            break;
        case FM_KEY_F64:
            FM_TRY(fm_json_get_f64(at, json, key, k->def));
            break;
        case FM_KEY_BOOL:
            FM_TRY(fm_json_get_bool(at, json, key, k->def != 0));
            break;
        }
    }
    return FM_OK;
}

fm_status fm_config_write_keys(const fm_model_config *cfg, fm_json *json, const fm_config_key *keys) {
    for (const fm_config_key *k = keys; k->key; k++) {
        const uint8_t *at = (const uint8_t *)cfg + k->offset;
        const char *key = k->alias && fm_json_get(json, k->alias) && !fm_json_get(json, k->key) ? k->alias : k->key;
        int32_t i;
        int64_t l;
        double d;
        bool b;
        fm_json *v = NULL;
        switch (k->type) {
        case FM_KEY_SIZE:
            memcpy(&i, at, sizeof i);
            v = fm_json_new_int(i);
            break;
        case FM_KEY_LONG:
            memcpy(&l, at, sizeof l);
            v = fm_json_new_int(l);
            break;
        case FM_KEY_F64:
            memcpy(&d, at, sizeof d);
            v = fm_json_new_num(d);
            break;
        case FM_KEY_BOOL:
            memcpy(&b, at, sizeof b);
            v = fm_json_new_bool(b);
            break;
        }
        FM_TRY(fm_json_set(json, key, v));
    }
    return FM_OK;
}

fm_status fm_config_refuse(const fm_json *json, const char *key, bool allowed) {
    bool v;
    FM_TRY(fm_json_get_bool(&v, json, key, allowed));
    if (v != allowed) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: only %s is supported in this family, found %s", key,
                allowed ? "true" : "false", v ? "true" : "false");
    }
    return FM_OK;
}

fm_status fm_decoder_write(const fm_model_config *cfg, fm_json *json) {
    FM_TRY(fm_json_set(json, "vocab_size", fm_json_new_int(cfg->vocab_size)));
    FM_TRY(fm_json_set(json, "hidden_size", fm_json_new_int(cfg->d_model)));
    FM_TRY(fm_json_set(json, "intermediate_size", fm_json_new_int(cfg->d_ff)));
    FM_TRY(fm_json_set(json, "num_hidden_layers", fm_json_new_int(cfg->n_layers)));
    FM_TRY(fm_json_set(json, "num_attention_heads", fm_json_new_int(cfg->n_heads)));
    FM_TRY(fm_json_set(json, "num_key_value_heads", fm_json_new_int(cfg->n_kv_heads)));
    FM_TRY(fm_json_set(json, "head_dim", fm_json_new_int(cfg->head_dim)));
    FM_TRY(fm_config_write_act(json, "hidden_act", cfg->act));
    FM_TRY(fm_json_set(json, "max_position_embeddings", fm_json_new_int(cfg->max_position)));
    FM_TRY(fm_json_set(json, "rms_norm_eps", fm_json_new_num(cfg->norm_eps)));
    FM_TRY(fm_json_set(json, "initializer_range", fm_json_new_num(cfg->init_std)));
    FM_TRY(fm_json_set(json, "attention_dropout", fm_json_new_num(cfg->attention_dropout)));
    FM_TRY(fm_json_set(json, "tie_word_embeddings", fm_json_new_bool(cfg->tied)));
    FM_TRY(fm_json_set(json, "use_cache", fm_json_new_bool(true)));
    FM_TRY(fm_config_write_ids(cfg, json));
    return fm_rope_config_write(cfg, json);
}

/* The number of leading global layers when all others are local, else all of them. */
static int32_t leading_global(const fm_model_config *cfg) {
    int32_t n = 0;
    while (n < cfg->n_layers && fm_layer_window(cfg, n) == 0) {
        n++;
    }
    for (int32_t l = n; l < cfg->n_layers; l++) {
        if (fm_layer_window(cfg, l) == 0) {
            return cfg->n_layers;
        }
    }
    return n;
}

fm_status fm_decoder_write_layer_windows(const fm_model_config *cfg, fm_json *json) {
    FM_TRY(fm_json_set(json, "use_sliding_window", fm_json_new_bool(cfg->window > 0)));
    FM_TRY(fm_json_set(json, "sliding_window", cfg->window > 0 ? fm_json_new_int(cfg->window) : fm_json_new_null()));
    FM_TRY(fm_json_set(json, "max_window_layers", fm_json_new_int(leading_global(cfg))));
    fm_json *types = fm_json_new_array();
    if (!types) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for layer_types");
    }
    for (int32_t l = 0; l < cfg->n_layers; l++) {
        fm_status s = fm_json_append(
            types, fm_json_new_str(fm_layer_window(cfg, l) > 0 ? "sliding_attention" : "full_attention"));
        if (s != FM_OK) {
            fm_json_free(types);
            return s;
        }
    }
    return fm_json_set(json, "layer_types", types);
}
