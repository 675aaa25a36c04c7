/* Metadata <-> configuration. Keys begin with the architecture ("llama.block_count"); the table names the rest. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "model/gguf.h"

typedef enum field_kind { FIELD_I32, FIELD_I64, FIELD_F64, FIELD_BOOL } field_kind;

typedef struct key_row {
    int archs;
    const char *key;
    size_t offset; /* in fm_model_config */
    field_kind kind;
    bool required;
} key_row;

#define AT(field) offsetof(fm_model_config, field)
#define EVERY     (FM_GGUF_DECODERS | FM_GGUF_BERT | FM_GGUF_GPT2)
#define GQA       (FM_GGUF_DECODERS & ~FM_GGUF_LATENT)
#define SHARED    (FM_GGUF_DEEPSEEK | FM_GGUF_LATENT)
#define DS2       FM_GGUF_LATENT
#define DSA       FM_GGUF_DEEPSEEK32
static const key_row keys[] = {
    {EVERY, "context_length", AT(max_position), FIELD_I64, true},
    {EVERY, "embedding_length", AT(d_model), FIELD_I32, true},
    {EVERY, "feed_forward_length", AT(d_ff), FIELD_I32, true},
    {EVERY, "attention.head_count", AT(n_heads), FIELD_I32, true},
    {GQA, "attention.head_count_kv", AT(n_kv_heads), FIELD_I32, false},
    {GQA, "attention.key_length", AT(head_dim), FIELD_I32, false},
    {GQA, "attention.value_length", AT(head_dim), FIELD_I32, false},
    {FM_GGUF_DECODERS, "attention.layer_norm_rms_epsilon", AT(norm_eps), FIELD_F64, true},
    {FM_GGUF_BERT | FM_GGUF_GPT2, "attention.layer_norm_epsilon", AT(norm_eps), FIELD_F64, true},
    {FM_GGUF_DECODERS, "rope.freq_base", AT(rope.theta), FIELD_F64, false},
    {FM_GGUF_MOE, "expert_count", AT(moe.n_experts), FIELD_I32, false},
    {FM_GGUF_MOE, "expert_used_count", AT(moe.n_active), FIELD_I32, false},
    {FM_GGUF_QWEN3MOE | SHARED, "expert_feed_forward_length", AT(moe.d_ff), FIELD_I32, true},
    {SHARED, "expert_shared_count", AT(moe.n_shared), FIELD_I32, false},
    {SHARED, "leading_dense_block_count", AT(moe.first_dense), FIELD_I32, false},
    {SHARED, "expert_weights_scale", AT(moe.routed_scale), FIELD_F64, false},
    {DS2, "expert_weights_norm", AT(moe.norm_topk), FIELD_BOOL, false},
    {DS2, "expert_group_count", AT(moe.n_groups), FIELD_I32, false},
    {DS2, "expert_group_used_count", AT(moe.top_groups), FIELD_I32, false},
    {DS2, "attention.q_lora_rank", AT(mla.q_rank), FIELD_I32, false},
    {DS2, "attention.kv_lora_rank", AT(mla.kv_rank), FIELD_I32, true},
    {DS2, "rope.dimension_count", AT(mla.rope_dim), FIELD_I32, true},
    {DSA, "attention.indexer.head_count", AT(mla.index_heads), FIELD_I32, true},
    {DSA, "attention.indexer.key_length", AT(mla.index_dim), FIELD_I32, true},
    {DSA, "attention.indexer.top_k", AT(mla.index_topk), FIELD_I32, true},
    {DS2, "nextn_predict_layers", AT(n_mtp), FIELD_I32, false},
};

typedef struct full_key {
    char s[128];
} full_key;
static full_key key_of(const fm_gguf_arch *arch, const char *rest) {
    full_key k;
    snprintf(k.s, sizeof k.s, "%s.%s", arch->name, rest);
    return k;
}

/* The shortest decimal x for which factor * x is this f32. */
static double shortest_of(double v, double factor) {
    float f = (float)v;
    for (int digits = 1; digits < 10; digits++) {
        char text[40];
        double back;
        snprintf(text, sizeof text, "%.*g", digits, (double)f / factor);
        if (fm_parse_f64(&back, text) == FM_OK && (float)(factor * back) == f) {
            return back;
        }
    }
    return v / factor;
}

/* 1e-5 comes back as 1e-5, not as 9.99999975e-06. */
static double shortest(double v) {
    return shortest_of(v, 1);
}

/* ---- rope ------------------------------------------------------------------------------------ */

bool fm_gguf_rope_factors(float *out, const fm_rope_config *r) {
    if (r->kind != FM_ROPE_LLAMA3) {
        return false;
    }
    double freq[FM_GGUF_MAX_ROPE / 2], plain[FM_GGUF_MAX_ROPE / 2], mscale;
    fm_rope_config none = *r;
    none.kind = FM_ROPE_NONE;
    if (r->dim > FM_GGUF_MAX_ROPE || fm_rope_frequencies(r, freq, &mscale) != FM_OK ||
        fm_rope_frequencies(&none, plain, &mscale) != FM_OK) {
        return false;
    }
    for (int32_t i = 0; i < r->dim / 2; i++) {
        out[i] = (float)(plain[i] / freq[i]);
    }
    return true;
}

/* Files say the divisors of llama3 scaling, not its parameters: those that make the same divisors are looked for. The
 * low factor may be taken as 1, as the formula has original_max_position / low_freq_factor and high / low only. */
static fm_status read_llama3(fm_rope_config *r, const fm_gguf_weight *w) {
    float want[FM_GGUF_MAX_ROPE / 2], have[FM_GGUF_MAX_ROPE / 2];
    int64_t n = w->dim[0];
    if (w->n_dims != 1 || n != r->dim / 2 || n > FM_GGUF_MAX_ROPE / 2 || w->dtype != FM_F32) {
        FM_FAIL(FM_ERR_SHAPE, "tensor %s: expected %d F32 numbers, found %lld of %s", w->name, (int)(r->dim / 2),
                (long long)n, fm_ggml_type_name(w->type));
    }
    memcpy(want, w->data, (size_t)n * sizeof *want);
    fm_rope_config best = *r;
    best.kind = FM_ROPE_LLAMA3;
    best.factor = 1;
    for (int64_t i = 0; i < n; i++) {
        if (!(want[i] >= 1 && want[i] < 1e6F)) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "tensor %s: element %lld is %g; the divisors of llama3 scaling are 1 or more",
                    w->name, (long long)i, (double)want[i]);
        }
        best.factor = fmax(best.factor, shortest((double)want[i]));
    }
    static const double highs[] = {4, 2, 8, 16, 32, 64};
    best.low_freq_factor = 1;
    for (size_t h = 0; h < FM_ARRAY_LEN(highs); h++) {
        for (int64_t bits = 0; bits < 24; bits++) { /* 8192 first */
            best.original_max_position = (int64_t)1 << ((bits + 13) % 24);
            best.high_freq_factor = highs[h];
            bool same = fm_gguf_rope_factors(have, &best);
            for (int64_t i = 0; i < n && same; i++) {
                same = fabsf(have[i] - want[i]) <= 1e-4F * want[i]; /* made in f32 elsewhere */
            }
            if (same) {
                *r = best;
                return FM_OK;
            }
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "tensor %s: no parameters of llama3 rope scaling make these divisors", w->name);
}

static fm_status read_rope(fm_model_config *cfg, const fm_gguf_set *set, const fm_gguf_arch *arch) {
    const fm_gguf *g = fm_gguf_set_meta(set);
    fm_rope_config *r = &cfg->rope;
    fm_gguf_text type;
    double log_mul, original;
    FM_TRY(fm_gguf_get_text(&type, g, key_of(arch, "rope.scaling.type").s));
    bool yarn = type.ptr && type.len == 4 && memcmp(type.ptr, "yarn", 4) == 0;
    bool linear = type.ptr && type.len == 6 && memcmp(type.ptr, "linear", 6) == 0;
    const fm_gguf_weight *factors = fm_gguf_set_find(set, "rope_freqs.weight");
    if (factors) {
        return r->kind == FM_ROPE_LLAMA3 ? FM_OK : read_llama3(r, factors);
    }
    if (linear || yarn) {
        FM_TRY(fm_gguf_get_num(&r->factor, g, key_of(arch, "rope.scaling.factor").s, 1));
        r->factor = shortest(r->factor);
    }
    if (linear) {
        r->kind = FM_ROPE_LINEAR;
    } else if (yarn) {
        r->kind = FM_ROPE_YARN;
        FM_TRY(fm_gguf_get_num(&original, g, key_of(arch, "rope.scaling.original_context_length").s,
                               (double)cfg->max_position));
        r->original_max_position = (int64_t)original;
        FM_TRY(fm_gguf_get_num(&log_mul, g, key_of(arch, "rope.scaling.yarn_log_multiplier").s, 0));
        FM_TRY(fm_gguf_get_num(&r->beta_fast, g, key_of(arch, "rope.scaling.yarn_beta_fast").s, r->beta_fast));
        FM_TRY(fm_gguf_get_num(&r->beta_slow, g, key_of(arch, "rope.scaling.yarn_beta_slow").s, r->beta_slow));
        if (arch->bit & DS2) { /* the key holds a tenth of it */
            r->mscale = r->mscale_all_dim = shortest_of(log_mul, 0.1);
        }
    } else if (!type.ptr || (type.len == 4 && memcmp(type.ptr, "none", 4) == 0)) {
        r->kind = FM_ROPE_NONE;
    } else {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: \"%.*s\" is not supported", key_of(arch, "rope.scaling.type").s,
                (int)FM_MIN(type.len, 40), type.ptr);
    }
    return FM_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static fm_status read_row(fm_model_config *cfg, const fm_gguf *g, const fm_gguf_arch *arch, const key_row *row) {
    full_key key = key_of(arch, row->key);
    const fm_gguf_kv *kv = fm_gguf_find(g, key.s);
    void *field = (char *)cfg + row->offset;
    if (!kv) {
        if (row->required) {
            FM_FAIL(FM_ERR_FORMAT, "metadata key \"%s\" is missing", key.s);
        }
        return FM_OK;
    }
    if (kv->type == FM_GGUF_ARRAY) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "metadata key \"%s\": a value for each layer is not supported", key.s);
    }
    int64_t i = 0;
    double d = 0;
    bool b = false;
    FM_TRY(row->kind == FIELD_F64    ? fm_gguf_get_num(&d, g, key.s, 0)
           : row->kind == FIELD_BOOL ? fm_gguf_get_bool(&b, g, key.s, false)
                                     : fm_gguf_get_int(&i, g, key.s, 0));
    if (i < 0 || i > INT32_MAX) {
        FM_FAIL(FM_ERR_FORMAT, "metadata key \"%s\": expected 0 to %d, found %lld", key.s, INT32_MAX, (long long)i);
    }
    switch (row->kind) {
    case FIELD_I32:
        *(int32_t *)field = (int32_t)i;
        break;
    case FIELD_I64:
        *(int64_t *)field = i;
        break;
    case FIELD_F64:
        *(double *)field = shortest(d);
        break;
    case FIELD_BOOL:
        *(bool *)field = b;
        break;
    }
    return FM_OK;
}

static bool has_tensor(const fm_gguf_set *set, const char *fmt, int32_t layer) {
    char name[64];
    (void)snprintf(name, sizeof name, "blk.%d.%s", (int)layer, fmt);
    return fm_gguf_set_find(set, name) != NULL;
}

static fm_status read_mla(fm_model_config *cfg, const fm_gguf *g, const fm_gguf_arch *arch) {
    int64_t key, value, key_old, value_old;
    FM_TRY(fm_gguf_get_int(&key_old, g, key_of(arch, "attention.key_length").s, 192));
    FM_TRY(fm_gguf_get_int(&value_old, g, key_of(arch, "attention.value_length").s, 128));
    FM_TRY(fm_gguf_get_int(&key, g, key_of(arch, "attention.key_length_mla").s, key_old));
    FM_TRY(fm_gguf_get_int(&value, g, key_of(arch, "attention.value_length_mla").s, value_old));
    if (key <= cfg->mla.rope_dim || key > 1 << 14 || value < 1 || value > 1 << 14) {
        FM_FAIL(FM_ERR_FORMAT, "%s: expected more than %d (rope.dimension_count), found %lld; value length %lld",
                key_of(arch, "attention.key_length_mla").s, (int)cfg->mla.rope_dim, (long long)key, (long long)value);
    }
    cfg->mla.nope_dim = (int32_t)key - cfg->mla.rope_dim;
    cfg->mla.v_dim = (int32_t)value;
    cfg->rope.interleaved = true; /* what the architecture rotates */
    cfg->n_kv_heads = cfg->n_heads;
    return FM_OK;
}

static fm_status read_id(int32_t *out, const fm_gguf *g, const char *key) {
    int64_t v;
    FM_TRY(fm_gguf_get_int(&v, g, key, -1));
    *out = v >= 0 && v <= INT32_MAX ? (int32_t)v : -1;
    return FM_OK;
}

static fm_status read_bert(fm_model_config *cfg, const fm_gguf_set *set, const fm_gguf_arch *arch) {
    const fm_gguf_weight *types;
    bool causal;
    FM_TRY(fm_gguf_get_bool(&causal, fm_gguf_set_meta(set), key_of(arch, "attention.causal").s, true));
    if (causal) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "metadata key \"%s\": expected false, found true or nothing",
                key_of(arch, "attention.causal").s);
    }
    FM_TRY(fm_gguf_set_get(&types, set, "token_types.weight"));
    if (types->n_dims > 2 || types->dim[0] > INT32_MAX) {
        FM_FAIL(FM_ERR_SHAPE, "tensor %s: expected a matrix", types->name);
    }
    cfg->n_types = types->n_dims == 2 ? (int32_t)types->dim[0] : 1;
    cfg->tied = true; /* there is no output matrix to be another */
    cfg->no_pooler = true;
    return FM_OK;
}

/* What the tensors say: sizes and optional parts. */
static fm_status read_tensors(fm_model_config *cfg, const fm_gguf_set *set, const fm_gguf_arch *arch) {
    const fm_gguf_weight *embed = fm_gguf_set_find(set, "token_embd.weight");
    if (!embed || embed->n_dims != 2 || embed->dim[0] > INT32_MAX) {
        FM_FAIL(FM_ERR_NOT_FOUND, "tensor token_embd.weight is missing or no matrix");
    }
    cfg->vocab_size = (int32_t)embed->dim[0];
    cfg->tied = !fm_gguf_set_find(set, "output.weight");
    cfg->qkv_bias = has_tensor(set, "attn_q.bias", 0) || has_tensor(set, "attn_qkv.bias", 0);
    cfg->o_bias = has_tensor(set, "attn_output.bias", 0);
    cfg->mlp_bias = has_tensor(set, "ffn_up.bias", 0);
    cfg->qk_norm = has_tensor(set, "attn_q_norm.weight", 0);
    cfg->moe.correction_bias = has_tensor(set, "exp_probs_b.bias", cfg->moe.first_dense);
    if (arch->bit == FM_GGUF_LLAMA && cfg->moe.n_experts > 0) {
        cfg->moe.d_ff = cfg->d_ff;
        cfg->moe.norm_topk = true;
        cfg->moe.mixtral_names = true;
    } else if (arch->bit == FM_GGUF_QWEN3MOE) {
        cfg->moe.norm_topk = true;
    } else if (arch->bit == FM_GGUF_BERT) {
        return read_bert(cfg, set, arch);
    }
    return FM_OK;
}

/* As for layers: the experts must be there before parameters are made for them. */
static fm_status check_experts(const fm_model_config *cfg, const fm_gguf_set *set, const fm_gguf_arch *arch) {
    char name[64];
    if (cfg->moe.n_experts == 0 || cfg->moe.first_dense >= cfg->n_layers) {
        return FM_OK;
    }
    snprintf(name, sizeof name, "blk.%d.ffn_gate_exps.weight", (int)cfg->moe.first_dense);
    const fm_gguf_weight *w;
    FM_TRY(fm_gguf_set_get(&w, set, name));
    if (w->n_dims != 3 || w->dim[0] != cfg->moe.n_experts) {
        FM_FAIL(FM_ERR_SHAPE, "tensor %s: expected %d experts (%s), found %lld", name, (int)cfg->moe.n_experts,
                key_of(arch, "expert_count").s, (long long)(w->n_dims == 3 ? w->dim[0] : 1));
    }
    return FM_OK;
}

static fm_status read_config(fm_model_config *cfg, const fm_gguf_set *set, const fm_gguf_arch *arch) {
    const fm_gguf *g = fm_gguf_set_meta(set);
    int64_t blocks;
    FM_TRY(fm_gguf_get_int(&blocks, g, key_of(arch, "block_count").s, 0));
    for (size_t i = 0; i < FM_ARRAY_LEN(keys); i++) {
        if (keys[i].archs & arch->bit) {
            FM_TRY(read_row(cfg, g, arch, &keys[i]));
        }
    }
    /* A layer has tensors: a claim of more layers than tensors would only cost memory. */
    if (blocks <= cfg->n_mtp || blocks > (int64_t)fm_gguf_set_count(set) || cfg->n_heads < 1) {
        FM_FAIL(FM_ERR_FORMAT, "%s: expected 1 to the number of tensors, found %lld (%d heads)",
                key_of(arch, "block_count").s, (long long)blocks, (int)cfg->n_heads);
    }
    cfg->n_layers = (int32_t)blocks - cfg->n_mtp;
    cfg->n_kv_heads = cfg->n_kv_heads ? cfg->n_kv_heads : cfg->n_heads;
    cfg->head_dim = cfg->head_dim ? cfg->head_dim : cfg->d_model / cfg->n_heads;
    if (arch->bit & DS2) {
        FM_TRY(read_mla(cfg, g, arch));
        int64_t gate;
        FM_TRY(fm_gguf_get_int(&gate, g, key_of(arch, "expert_gating_func").s, 1));
        cfg->moe.score = gate == 2 ? FM_ROUTER_SIGMOID : FM_ROUTER_SOFTMAX;
        cfg->moe.group_score = gate == 2 ? FM_GROUP_SUM_TOP2 : FM_GROUP_MAX;
    }
    cfg->rope.dim = cfg->mla.kv_rank > 0 ? cfg->mla.rope_dim : cfg->head_dim;
    FM_TRY(read_tensors(cfg, set, arch));
    FM_TRY(check_experts(cfg, set, arch));
    FM_TRY(read_rope(cfg, set, arch));
    if (arch->bit != FM_GGUF_BERT) { /* there they are [CLS] and [SEP], which config.json does not name */
        FM_TRY(read_id(&cfg->bos_id, g, "tokenizer.ggml.bos_token_id"));
        FM_TRY(read_id(&cfg->eos_id, g, "tokenizer.ggml.eos_token_id"));
    }
    return read_id(&cfg->pad_id, g, "tokenizer.ggml.padding_token_id");
}

/* The config.json a file of ours carries, when it is of this family; else NULL. */
static fm_status carried_config(fm_json **out, fm_model_config *cfg, const fm_gguf *g, const fm_family *family) {
    fm_gguf_text t;
    *out = NULL;
    FM_TRY(fm_gguf_get_text(&t, g, FM_GGUF_FILE_KEY "config.json"));
    if (!t.ptr) {
        return FM_OK;
    }
    FM_TRY(fm_json_parse(out, t.ptr, t.len, FM_GGUF_FILE_KEY "config.json"));
    const char *type = fm_json_str(fm_json_get(*out, "model_type"), NULL);
    fm_status s = FM_OK;
    bool same = false;
    for (const char *const *name = family->model_types; type && *name; name++) {
        same = same || strcmp(*name, type) == 0;
    }
    if (same) {
        s = family->parse(cfg, *out);
    }
    if (!same || s != FM_OK) {
        fm_json_free(*out);
        *out = NULL;
        *cfg = (fm_model_config){0};
    }
    return s == FM_OK ? s : fm_error_context(FM_GGUF_FILE_KEY "config.json");
}

/* The encoder of BERT alone is in files: whatever head the folder had is not. */
static fm_status set_names(fm_json *json, const fm_family *family) {
    if (fm_json_get(json, "model_type") && !family->encoder) {
        return FM_OK;
    }
    fm_json *list = fm_json_new_array();
    if (!list) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for config.json");
    }
    char name[64];
    fm_head_config none = {.kind = FM_HEAD_NONE};
    snprintf(name, sizeof name, "%s", family->architectures[0]);
    fm_status s = family->encoder ? fm_head_architecture(name, sizeof name, family, &none) : FM_OK;
    s = s == FM_OK ? fm_json_append(list, fm_json_new_str(name)) : s;
    if (s != FM_OK) {
        fm_json_free(list);
        return s;
    }
    FM_TRY(fm_json_set(json, "architectures", list));
    return fm_json_set(json, "model_type", fm_json_new_str(family->model_types[0]));
}

fm_status fm_gguf_config_read(fm_json **json, const fm_gguf_set *set, const fm_gguf_arch *arch) {
    *json = NULL;
    const fm_family *family = fm_family_find(arch->family);
    if (!family) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "general.architecture \"%s\" is not supported in this version", arch->name);
    }
    fm_model_config cfg = {0};
    FM_TRY(carried_config(json, &cfg, fm_gguf_set_meta(set), family));
    if (!*json) {
        cfg.init_std = 0.02;
        cfg.act = arch->bit == FM_GGUF_GPT2 ? FM_ACT_GELU_TANH : arch->bit == FM_GGUF_BERT ? FM_ACT_GELU : FM_ACT_SILU;
        cfg.rope.theta = 10000;
        cfg.positions = arch->bit & (FM_GGUF_GPT2 | FM_GGUF_BERT) ? FM_POS_LEARNED : FM_POS_ROPE;
        cfg.moe.layer_freq = 1;
        cfg.moe.routed_scale = 1;
        *json = fm_json_new_object();
    }
    cfg.n_mtp = 0; /* of these the file's own key counts: not every folder has what its config.json says */
    snprintf(cfg.family, sizeof cfg.family, "%s", family->name);
    fm_status s = *json ? read_config(&cfg, set, arch) : FM_ERR_NO_MEMORY;
    if (s == FM_OK) {
        s = set_names(*json, family);
    }
    if (s == FM_OK) {
        s = family->write(&cfg, *json);
    }
    if (s != FM_OK) {
        fm_json_free(*json);
        *json = NULL;
    }
    return s;
}

/* ---- writing --------------------------------------------------------------------------------- */

static fm_status differs(bool inexact, const char *key, const char *why) {
    if (inexact) {
        fm_warn("%s: %s; the file's answers will differ", key, why);
        return FM_OK;
    }
    (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "%s cannot be exported to GGUF: %s", key, why);
    return fm_error_hint("--inexact writes the file all the same");
}

/* What the graphs of llama.cpp take for granted. */
static fm_status check_exportable(const fm_gguf_arch *arch, const fm_model_config *cfg, bool inexact) {
    const fm_rope_config *r = &cfg->rope;
    if ((arch->bit & FM_GGUF_DECODERS) && cfg->act != FM_ACT_SILU) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "hidden_act cannot be exported to GGUF: architecture %s has silu only", arch->name);
    }
    if (!(arch->bit & FM_GGUF_DECODERS) && cfg->act != FM_ACT_GELU && cfg->act != FM_ACT_GELU_TANH) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s cannot be exported to GGUF: architecture %s has gelu only",
                arch->bit == FM_GGUF_GPT2 ? "activation_function" : "hidden_act", arch->name);
    }
    if (cfg->attn_unscaled || cfg->attn_scale_by_layer) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "%s cannot be exported to GGUF: llama.cpp divides scores by the root of the head size",
                cfg->attn_unscaled ? "scale_attn_weights" : "scale_attn_by_inverse_layer_idx");
    }
    if (r->kind == FM_ROPE_DYNAMIC) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "rope_scaling: type dynamic cannot be exported to GGUF");
    }
    if (cfg->window > 0 && cfg->window < cfg->max_position) {
        FM_TRY(differs(inexact, "sliding_window", "llama.cpp attends to the whole context in this architecture"));
    }
    if (r->kind == FM_ROPE_YARN && r->no_truncate) {
        FM_TRY(differs(inexact, "rope_scaling.truncate", "llama.cpp rounds the correction range"));
    }
    if (r->kind == FM_ROPE_YARN && cfg->mla.kv_rank > 0 && r->mscale != r->mscale_all_dim) {
        FM_TRY(differs(inexact, "rope_scaling.mscale", "llama.cpp takes it as equal to mscale_all_dim"));
    }
    if (cfg->mla.kv_rank > 0 && !r->interleaved) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "rope_interleave: false cannot be exported to GGUF: architecture %s rotates neighbours", arch->name);
    }
    const fm_moe_config *e = &cfg->moe;
    if (e->n_experts == 0) {
        return FM_OK;
    }
    if (e->layer_freq > 1) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "moe_layer_freq or decoder_sparse_step cannot be exported to GGUF: expected 1, "
                "found %d",
                (int)e->layer_freq);
    }
    if (!(arch->bit & SHARED) && e->first_dense > 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "mlp_only_layers cannot be exported to GGUF: architecture %s has experts in every "
                "layer",
                arch->name);
    }
    if (!(arch->bit & DS2) && e->norm_topk != (arch->bit != FM_GGUF_DEEPSEEK)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "norm_topk_prob %s cannot be exported to GGUF: architecture %s has the opposite",
                e->norm_topk ? "true" : "false", arch->name);
    }
    if (e->n_groups > 1 && e->top_groups < e->n_groups && e->group_score == FM_GROUP_MAX) {
        FM_TRY(differs(inexact, "topk_method", "llama.cpp scores a group of experts by its two best, not by its best"));
    }
    return FM_OK;
}

static void write_rope(fm_gguf_writer *w, const fm_gguf_arch *arch, const fm_model_config *cfg) {
    const fm_rope_config *r = &cfg->rope;
    bool mla = cfg->mla.kv_rank > 0;
    if (!mla) {
        fm_gguf_put_u32(w, key_of(arch, "rope.dimension_count").s, r->dim);
    }
    if (r->kind == FM_ROPE_LINEAR || r->kind == FM_ROPE_YARN) {
        const char *name = fm_rope_kind_name(r->kind);
        fm_gguf_put_text(w, key_of(arch, "rope.scaling.type").s, name, strlen(name));
        fm_gguf_put_f32(w, key_of(arch, "rope.scaling.factor").s, r->factor);
    } else if (r->kind == FM_ROPE_NONE && arch->bit == FM_GGUF_DEEPSEEK) {
        fm_gguf_put_text(w, key_of(arch, "rope.scaling.type").s, "none", 4);
    }
    if (r->kind != FM_ROPE_YARN) {
        return;
    }
    fm_gguf_put_u32(w, key_of(arch, "rope.scaling.original_context_length").s, r->original_max_position);
    if (r->beta_fast > 0) {
        fm_gguf_put_f32(w, key_of(arch, "rope.scaling.yarn_beta_fast").s, r->beta_fast);
    }
    if (r->beta_slow > 0) {
        fm_gguf_put_f32(w, key_of(arch, "rope.scaling.yarn_beta_slow").s, r->beta_slow);
    }
    if (mla) {
        fm_gguf_put_f32(w, key_of(arch, "rope.scaling.yarn_log_multiplier").s, 0.1 * r->mscale_all_dim);
    } else if (r->attention_factor > 0) { /* relative to the factor it has anyway */
        fm_gguf_put_f32(w, key_of(arch, "rope.scaling.attn_factor").s,
                        r->attention_factor / (0.1 * log(r->factor) + 1));
    }
}

static void write_mla(fm_gguf_writer *w, const fm_gguf_arch *arch, const fm_model_config *cfg) {
    const fm_mla_config *a = &cfg->mla;
    /* Absorbed, latent attention is attention with one key-value head of width kv_rank (+ rope). */
    fm_gguf_put_u32(w, key_of(arch, "attention.head_count_kv").s, 1);
    fm_gguf_put_u32(w, key_of(arch, "attention.key_length").s, a->kv_rank + a->rope_dim);
    fm_gguf_put_u32(w, key_of(arch, "attention.value_length").s, a->kv_rank);
    fm_gguf_put_u32(w, key_of(arch, "attention.key_length_mla").s, a->nope_dim + a->rope_dim);
    fm_gguf_put_u32(w, key_of(arch, "attention.value_length_mla").s, a->v_dim);
    fm_gguf_put_u32(w, key_of(arch, "expert_gating_func").s, cfg->moe.score == FM_ROUTER_SIGMOID ? 2 : 1);
}

static fm_status write_bert(fm_gguf_writer *w, const fm_gguf_arch *arch, const fm_model *m) {
    fm_pooling p;
    FM_TRY(fm_model_pooling(&p, m));
    fm_gguf_put_bool(w, key_of(arch, "attention.causal").s, false);
    fm_gguf_put_u32(w, key_of(arch, "pooling_type").s, fm_gguf_pooling_number(p));
    fm_gguf_put_u32(w, "tokenizer.ggml.token_type_count", m->cfg.n_types);
    return FM_OK;
}

static bool wanted(const key_row *row, const fm_model_config *cfg) {
    size_t moe = AT(moe), moe_end = moe + sizeof cfg->moe;
    bool is_moe = row->offset >= moe && row->offset < moe_end;
    if (row->offset == AT(n_mtp)) {
        return cfg->n_mtp > 0;
    }
    if (row->offset == AT(moe.n_groups) || row->offset == AT(moe.top_groups)) {
        return cfg->moe.n_groups > 1;
    }
    return !is_moe || cfg->moe.n_experts > 0;
}

fm_status fm_gguf_config_write(fm_gguf_writer *w, const fm_gguf_arch *arch, const fm_model *m, bool inexact) {
    const fm_model_config *cfg = &m->cfg;
    FM_TRY(check_exportable(arch, cfg, inexact));
    fm_gguf_put_u32(w, key_of(arch, "block_count").s, cfg->n_layers + cfg->n_mtp);
    fm_gguf_put_u32(w, key_of(arch, "vocab_size").s, cfg->vocab_size);
    for (size_t i = 0; i < FM_ARRAY_LEN(keys); i++) {
        const key_row *row = &keys[i];
        const void *field = (const char *)cfg + row->offset;
        full_key key = key_of(arch, row->key);
        if (!(row->archs & arch->bit) || !wanted(row, cfg)) {
            continue;
        }
        switch (row->kind) {
        case FIELD_I32:
            fm_gguf_put_u32(w, key.s, *(const int32_t *)field);
            break;
        case FIELD_I64:
            fm_gguf_put_u32(w, key.s, FM_MIN(*(const int64_t *)field, UINT32_MAX));
            break;
        case FIELD_F64: {
            double v = *(const double *)field;
            fm_gguf_put_f32(w, key.s, row->offset == AT(moe.routed_scale) && v == 0 ? 1 : v);
            break;
        }
        case FIELD_BOOL:
            fm_gguf_put_bool(w, key.s, *(const bool *)field);
            break;
        }
    }
    if (arch->bit & FM_GGUF_DECODERS) {
        write_rope(w, arch, cfg);
    }
    if (cfg->mla.kv_rank > 0) {
        write_mla(w, arch, cfg);
    }
    return arch->bit == FM_GGUF_BERT ? write_bert(w, arch, m) : FM_OK;
}
