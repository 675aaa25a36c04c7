/* Named sizes, and any size between them by one number. Configurations are starting points: vocabulary and context are
 * the caller's to change. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

typedef struct preset_row {
    fm_preset p;
    const char *alias, *family;
    double theta, eps;
    int64_t max_position;
    const fm_moe_config *moe; /* NULL: dense */
} preset_row;

/* DeepSeekMoE: 64 experts of an eighth of the dense width, 6 of them and 2 shared ones a token. */
static const fm_moe_config experts_26m = {.n_experts = 64,
                                          .n_active = 6,
                                          .n_shared = 2,
                                          .d_ff = 176,
                                          .first_dense = 1,
                                          .layer_freq = 1,
                                          .routed_scale = 1,
                                          .aux_alpha = 0.001,
                                          .seq_aux = true};

/* name, D, L, H, Hkv, F, V, tied, parameters, use */
static const preset_row rows[] = {
    {{"26m", 512, 8, 8, 8, 1408, 6400, true, 28975616, "first runs and tests; trains on any machine", 2011},
     NULL,
     "llama",
     1e4,
     1e-6,
     2048,
     NULL},
    {{"139m-a29m", 512, 8, 8, 8, 1408, 6400, true, 138961408, "experts, 29M of it active: steps cost like 26m", 0},
     NULL,
     "deepseek",
     1e4,
     1e-6,
     2048,
     &experts_26m},
    {{"100m", 768, 12, 12, 12, 2048, 16384, true, 97536768, "a small domain model by the evening on one machine", 619},
     NULL,
     "llama",
     1e4,
     1e-6,
     2048,
     NULL},
    {{"0.5b", 896, 24, 14, 2, 4864, 151936, true, 494032768, "shape of Qwen2.5-0.5B; edge and fine-tuning", 0},
     NULL,
     "qwen2",
     1e6,
     1e-6,
     32768,
     NULL},
    {{"1b", 1792, 24, 14, 14, 4864, 32000, true, 993285888, "a general small model on one large GPU", 0},
     NULL,
     "llama",
     1e4,
     1e-6,
     4096,
     NULL},
    {{"1.2b", 2048, 22, 16, 16, 5632, 32000, true, 1195993088, "base: the usual start for domain models", 0},
     "base",
     "llama",
     1e4,
     1e-6,
     4096,
     NULL},
    {{"6.7b", 4096, 32, 32, 32, 11008, 32256, false, 6740512768, "pro: shape of DeepSeek-Coder 6.7B", 0},
     "pro",
     "llama",
     1e5,
     1e-6,
     16384,
     NULL},
    {{"7b", 4096, 30, 32, 32, 11008, 102400, false, 6910365696, "shape of DeepSeek LLM 7B", 0},
     NULL,
     "llama",
     1e4,
     1e-6,
     4096,
     NULL},
    {{"13b", 5120, 40, 40, 40, 13824, 32000, false, 13015864320, "ultra: shape of Llama 2 13B", 0},
     "ultra",
     "llama",
     1e4,
     1e-5,
     4096,
     NULL},
    {{"67b", 8192, 95, 64, 8, 22016, 102400, false, 67425001472, "shape of DeepSeek LLM 67B; many GPUs", 0},
     NULL,
     "llama",
     1e4,
     1e-6,
     4096,
     NULL},
    {{"gpt2", 768, 12, 12, 12, 3072, 50257, true, 124439808, "shape of GPT-2; learned positions, 1,024 tokens", 0},
     NULL,
     "gpt2",
     0,
     1e-5,
     1024,
     NULL},
    {{"bert-base", 768, 12, 12, 12, 3072, 30522, true, 109514298,
      "shape of BERT base, with its pretraining head; embeddings and classification", 0},
     NULL,
     "bert",
     0,
     1e-12,
     512,
     NULL},
    {{"mobilebert", 512, 24, 4, 4, 512, 30522, true, 36596538,
      "shape of MobileBERT, 24.6M without its pretraining head; classification on small machines", 0},
     NULL,
     "mobilebert",
     0,
     1e-12,
     512,
     NULL},
};

/* What a preset of a family without rope has beside its sizes. */
static void finish_family(fm_model_config *cfg) {
    bool gpt2 = strcmp(cfg->family, "gpt2") == 0, mobile = strcmp(cfg->family, "mobilebert") == 0;
    if (!gpt2 && !mobile && strcmp(cfg->family, "bert") != 0) {
        return;
    }
    cfg->positions = FM_POS_LEARNED;
    cfg->rope = (fm_rope_config){0};
    cfg->qkv_bias = cfg->o_bias = cfg->mlp_bias = true;
    cfg->act = gpt2 ? FM_ACT_GELU_TANH : mobile ? FM_ACT_RELU : FM_ACT_GELU;
    cfg->n_types = gpt2 ? 0 : 2;
    if (mobile) {
        cfg->mobile = (fm_mobile_config){.embedding_size = 128,
                                         .body = 128,
                                         .n_ffn = 4,
                                         .bottleneck = true,
                                         .shared_key_query = true,
                                         .trigram = true};
        cfg->head_dim = cfg->mobile.body / cfg->n_heads;
    }
}

int fm_preset_count(void) {
    return (int)FM_ARRAY_LEN(rows);
}
const fm_preset *fm_preset_at(int i) {
    return i >= 0 && i < fm_preset_count() ? &rows[i].p : NULL;
}

static const preset_row *find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        if (strcasecmp(rows[i].p.name, name) == 0 || (rows[i].alias && strcasecmp(rows[i].alias, name) == 0)) {
            return &rows[i];
        }
    }
    return NULL;
}

const fm_preset *fm_preset_find(const char *name) {
    const preset_row *r = name ? find(name) : NULL;
    return r ? &r->p : NULL;
}

static fm_model_config base_config(const char *family) {
    fm_model_config cfg = {.act = FM_ACT_SILU, .init_std = 0.02, .bos_id = -1, .eos_id = -1, .pad_id = -1};
    snprintf(cfg.family, sizeof cfg.family, "%s", family);
    cfg.qkv_bias = strcmp(family, "qwen2") == 0;
    return cfg;
}

static fm_status unknown_preset(const char *name) {
    fm_str known = {0};
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        fm_str_printf(&known, "%s%s", i ? ", " : "", rows[i].p.name);
        if (rows[i].alias) {
            fm_str_printf(&known, " (%s)", rows[i].alias);
        }
    }
    fm_status s = fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "model preset \"%s\" is not known", name);
    if (!known.failed) {
        s = fm_error_hint("known: %s; any other size by its parameter count, such as params=300M", known.data);
    }
    fm_str_free(&known);
    return s;
}

fm_status fm_model_config_from_preset(fm_model_config *cfg, const char *name, int32_t vocab_size) {
    const preset_row *r = find(name);
    if (!r) {
        return unknown_preset(name);
    }
    *cfg = base_config(r->family);
    cfg->vocab_size = vocab_size > 0 ? vocab_size : r->p.vocab_size;
    cfg->d_model = r->p.d_model;
    cfg->n_layers = r->p.n_layers;
    cfg->n_heads = r->p.n_heads;
    cfg->n_kv_heads = r->p.n_kv_heads;
    cfg->head_dim = r->p.d_model / r->p.n_heads;
    cfg->d_ff = r->p.d_ff;
    cfg->tied = r->p.tied;
    cfg->norm_eps = r->eps;
    cfg->max_position = r->max_position;
    if (r->moe) {
        cfg->moe = *r->moe;
    }
    cfg->rope = (fm_rope_config){.theta = r->theta, .dim = cfg->head_dim, .factor = 1};
    finish_family(cfg);
    return fm_model_config_check(cfg);
}

/* ---- positions and attention patterns of own models --------------------------------------------- */

fm_status fm_model_config_reshape(fm_model_config *cfg, fm_positions positions, const char *pattern, int32_t window) {
    bool dense = cfg->moe.n_experts == 0 && cfg->mla.kv_rank == 0, local = pattern || window > 0;
    if (positions != FM_POS_ROPE && positions != cfg->positions) {
        if (!dense || local || cfg->positions != FM_POS_ROPE) {
            FM_FAIL(FM_ERR_CONFIG, "positions: a %s model%s cannot have others than its own", cfg->family,
                    local ? " with local layers" : "");
        }
        bool learned = positions == FM_POS_LEARNED;
        snprintf(cfg->family, sizeof cfg->family, "%s", learned ? "gpt2" : "bloom");
        cfg->positions = positions;
        cfg->rope = (fm_rope_config){0};
        cfg->qkv_bias = cfg->o_bias = cfg->mlp_bias = true;
        cfg->qk_norm = false;
        cfg->act = FM_ACT_GELU_TANH;
        cfg->norm_eps = 1e-5;
        cfg->n_kv_heads = cfg->n_heads;
        cfg->head_dim = cfg->d_model / cfg->n_heads;
        cfg->d_ff = 4 * cfg->d_model; /* two matrices of 4 D in the place of three of 8/3 D */
        return fm_model_config_check(cfg);
    }
    if (!local) {
        return FM_OK;
    }
    FM_TRY(fm_layers_from_pattern(cfg, pattern ? pattern : "local", window));
    bool has_patterns = strcmp(cfg->family, "qwen2") == 0 || strcmp(cfg->family, "qwen3") == 0;
    bool llama = strcmp(cfg->family, "llama") == 0 || strcmp(cfg->family, "mistral") == 0;
    if (!has_patterns && (!llama || !dense)) {
        FM_FAIL(FM_ERR_CONFIG, "attention_pattern: models of family %s attend in one way", cfg->family);
    }
    if (llama) { /* transformers has the window in Mistral, and layer by layer in Qwen2 */
        bool mixed = fm_layers_mixed(cfg);
        snprintf(cfg->family, sizeof cfg->family, "%s", mixed ? "qwen2" : "mistral");
        cfg->qkv_bias = mixed;
    }
    return fm_model_config_check(cfg);
}

/* ---- by parameter count ---------------------------------------------------------------------- */

/* Width per layer of the published models: about 64 up to D = 1024, 128 at 4096, still slower above. */
static double aspect(double d) {
    return d <= 1024 ? 64 : 64 * sqrt(d / 1024);
}

static int32_t round_to(double v, int32_t step) {
    return FM_MAX(step, (int32_t)lround(v / step) * step);
}

static void shape_of_width(fm_model_config *cfg, int32_t d, int32_t n_layers) {
    cfg->head_dim = d >= 2048 && d % 128 == 0 ? 128 : d % 64 == 0 ? 64 : 32;
    cfg->d_model = d;
    cfg->n_heads = cfg->n_kv_heads = d / cfg->head_dim;
    cfg->n_layers = n_layers;
    cfg->d_ff = round_to(8.0 * d / 3, d >= 512 ? 64 : 32);
    cfg->rope.dim = cfg->head_dim;
}

static double error_of(const fm_model_config *cfg, int64_t n_params) {
    return fabs((double)fm_model_config_params(cfg) / (double)n_params - 1);
}

/* F is the finest dial: the multiple of the step nearest to the count, between 2 and 3.5 D. */
static void adjust_ff(fm_model_config *cfg, int64_t n_params) {
    int32_t step = cfg->d_model >= 512 ? 64 : 32;
    int64_t rest = fm_model_config_params(cfg) - 3 * (int64_t)cfg->n_layers * cfg->d_model * cfg->d_ff;
    double want = (double)(n_params - rest) / (3.0 * cfg->n_layers * cfg->d_model);
    want = fmin(fmax(want, 2.0 * cfg->d_model), 3.5 * cfg->d_model);
    cfg->d_ff = round_to(want, step);
}

fm_status fm_model_config_from_params(fm_model_config *cfg, int64_t n_params, int32_t vocab_size) {
    fm_model_config best = {0}, t = base_config("llama");
    double best_score = INFINITY;
    FM_ASSERT(vocab_size > 0);
    t.vocab_size = vocab_size;
    t.norm_eps = 1e-6;
    t.max_position = n_params < 500000000 ? 2048 : 4096;
    t.tied = n_params < 3000000000; /* the head is a large part of a small model */
    t.rope = (fm_rope_config){.theta = 10000, .factor = 1};
    for (int32_t d = 32; d <= 32768; d += d < 256 ? 32 : d < 2048 ? 64 : 128) {
        int32_t middle = FM_MAX(1, (int32_t)lround(d / aspect(d)));
        if ((int64_t)d * vocab_size * (t.tied ? 1 : 2) > n_params) {
            break;
        }
        for (int32_t l = FM_MAX(1, middle * 2 / 3); l <= middle * 3 / 2 + 1; l++) {
            shape_of_width(&t, d, l);
            adjust_ff(&t, n_params);
            /* The count first, then the usual depth and the usual F. */
            double err = error_of(&t, n_params), depth = fabs(log((double)l / middle)),
                   ff = fabs(log(t.d_ff / (8.0 / 3 * d)));
            double score = (err > 0.02 ? 1e3 * err : err) + 0.2 * depth + 0.3 * ff;
            if (score < best_score) {
                best_score = score;
                best = t;
            }
        }
    }
    if (best_score == INFINITY || error_of(&best, n_params) > 0.03) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                           "no model of %lld parameters has a vocabulary of %d within 3%%", (long long)n_params,
                           (int)vocab_size);
        return fm_error_hint(
            "the embedding alone takes vocab_size * width: ask for more parameters or a smaller vocabulary");
    }
    *cfg = best;
    return fm_model_config_check(cfg);
}
