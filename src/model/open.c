/* The public side: open, describe, logits. */
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "model/adapter.h"
#include "model/files.h"
#include "model/gguf.h"

/* bf16 pays where the processor multiplies it; elsewhere it is only a rounding. */
static bool cpu_has_bf16(void) {
    const fm_cpu_info *i = fm_cpu_get();
    fm_isa isa = fm_cpu_isa();
    return (isa == FM_ISA_AVX512 && i->avx512_bf16) || (isa == FM_ISA_NEON && i->neon_bf16);
}

static bool by_itself(const char *dtype) {
    return !dtype || strcmp(dtype, "auto") == 0;
}

static fm_status choose_dtype(fm_dtype *out, const fm_model *m, const char *name) {
    if (by_itself(name)) {
        bool narrow = m->stored == FM_BF16 || m->stored == FM_E4M3;
        /* An f32 form of every weight must fit; bf16 ones can be read from the file. */
        bool large = (double)fm_params_numel(m->params) * 4 > 0.5 * (double)fm_mem_available();
        *out = narrow && (cpu_has_bf16() || large) ? FM_BF16 : FM_F32;
        return FM_OK;
    }
    if (!fm_dtype_parse(out, name) || (*out != FM_F32 && *out != FM_BF16)) {
        FM_FAIL(FM_ERR_ARGUMENT, "dtype: expected auto, bf16 or f32, found \"%s\"", name);
    }
    return FM_OK;
}

fm_status fm_model_open(fm_model **out, const char *path, const fm_model_options *opt) {
    *out = NULL;
    fm_model *m;
    if (opt && opt->size != sizeof *opt) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_model_options: expected size %zu, found %zu", sizeof *opt, opt->size);
    }
    FM_TRY(fm_model_load_adapted(&m, path, opt ? opt->adapter : NULL,
                                 by_itself(opt ? opt->dtype : NULL) ? FM_LOAD_KEEP : FM_LOAD_MAP, FM_F32));
    fm_status s = choose_dtype(&m->compute, m, opt ? opt->dtype : NULL);
    if (s == FM_OK) {
        s = fm_pool_new(&m->pool, opt ? opt->threads : 0);
    }
    if (s == FM_OK && opt && (opt->column < 0 || opt->column > m->cfg.n_columns + 1)) {
        s = fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "column %d: %s has %d", opt->column, path,
                         (int)m->cfg.n_columns + 1);
    } else if (s == FM_OK && opt && opt->column > 0) {
        m->column = opt->column - 1;
    }
    if (s == FM_OK && opt && opt->adapter) {
        s = fm_adapter_open(m, opt->adapter);
    }
    if (s != FM_OK) {
        fm_model_close(m);
        return s;
    }
    *out = m;
    return FM_OK;
}

fm_status fm_model_tokenizer(const fm_tokenizer **out, fm_model *m) {
    *out = NULL;
    if (!m->tokenizer) {
        if (!m->path) {
            FM_FAIL(FM_ERR_STATE, "a model that was not opened from a folder has no tokenizer");
        }
        FM_TRY(fm_tokenizer_open(&m->tokenizer, m->path));
    }
    *out = m->tokenizer;
    return FM_OK;
}

static bool has_tokenizer(const fm_model *m) {
    if (m->gguf) {
        return fm_gguf_find(fm_gguf_set_meta(m->gguf), "tokenizer.ggml.tokens") != NULL;
    }
    char path[4096];
    bool found = m->path && fm_path_join(path, sizeof path, m->path, "tokenizer.json") == FM_OK && fm_path_exists(path);
    return m->tokenizer || found;
}

/* The element types of the files in descending order of bytes. */
static void describe_types(fm_model *m) {
    int64_t bytes_of[FM_DTYPE_COUNT], total = 0;
    size_t at = 0;
    memcpy(bytes_of, m->stored_bytes, sizeof bytes_of);
    for (int d = 0; d < FM_DTYPE_COUNT; d++) {
        total += bytes_of[d];
    }
    m->dtype_mix[0] = '\0';
    for (int n = 0; n < 6 && m->stored_bytes[m->stored] != total && at < sizeof m->dtype_mix; n++) {
        int most = 0;
        for (int d = 0; d < FM_DTYPE_COUNT; d++) {
            most = bytes_of[d] > bytes_of[most] ? d : most;
        }
        if (bytes_of[most] <= 0) {
            return;
        }
        at += (size_t)snprintf(m->dtype_mix + at, sizeof m->dtype_mix - at, "%s%s %.3g%%", n ? ", " : "",
                               fm_dtype_get((fm_dtype)most)->name, 100 * (double)bytes_of[most] / (double)total);
        bytes_of[most] = 0;
    }
}

fm_status fm_model_get_info(fm_model_info *out, fm_model *m) {
    const fm_model_config *cfg = &m->cfg;
    describe_types(m);
    *out = (fm_model_info){
        .family = m->family->name,
        .architecture = m->architecture,
        .n_params = fm_params_numel(m->params),
        .n_params_embedding = fm_model_config_params_embedding(cfg),
        .n_layers = cfg->n_layers,
        .d_model = cfg->d_model,
        .n_heads = cfg->n_heads,
        .n_kv_heads = cfg->n_kv_heads,
        .head_dim = cfg->head_dim,
        .d_ff = cfg->d_ff,
        .vocab_size = cfg->vocab_size,
        .max_position = cfg->max_position,
        .tied_embeddings = cfg->tied,
        .qkv_bias = cfg->qkv_bias,
        .qk_norm = cfg->qk_norm,
        .positions = cfg->positions == FM_POS_ROPE    ? "rope"
                     : cfg->positions == FM_POS_ALIBI ? "alibi"
                                                      : "learned",
        .rope_theta = cfg->rope.theta,
        .rope_scaling = fm_rope_kind_name(cfg->rope.kind),
        .dtype = fm_dtype_get(m->stored)->name,
        .dtype_mix = m->dtype_mix[0] ? m->dtype_mix : NULL,
        .file_bytes = m->file_bytes,
        .n_files = m->n_files,
        .train_bytes_per_param = 4 + 2 + 4 + 8, /* f32 weight, bf16 copy, f32 gradient, two f32 moments */
        .kv_bytes_per_token = fm_model_kv_bytes_per_token(cfg, FM_BF16),
        .license = m->license,
        .n_experts = cfg->moe.n_experts,
        .n_experts_active = cfg->moe.n_experts ? cfg->moe.n_active : 0,
        .n_experts_shared = cfg->moe.n_experts ? cfg->moe.n_shared : 0,
        .compute = fm_dtype_get(m->compute)->name,
        .n_columns = cfg->n_columns + 1,
        .column = m->column + 1,
    };
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i);
        bool as_is = !p->tie && fm_param_quantised(p);
        out->serve_bytes += p->tie ? 0 : fm_dtype_bytes(as_is ? p->dtype : m->compute, p->numel);
        out->compute = as_is ? out->dtype : out->compute;
    }
    out->n_params_active = fm_model_params_active(m);
    if (has_tokenizer(m)) {
        const fm_tokenizer *t;
        if (fm_model_tokenizer(&t, m) == FM_OK) {
            out->chat_template = fm_tokenizer_chat_template(t);
        } else {
            fm_warn("%s: the tokenizer cannot be read: %s", m->path, fm_error_get().message);
            fm_error_clear();
        }
    }
    return FM_OK;
}
