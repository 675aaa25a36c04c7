/* Models from GGUF files: finding each parameter's tensor, and filling or pointing the parameter store. */
#include <stdio.h>
#include <string.h>

#include "backend/quant.h"
#include "base/file.h"
#include "base/log.h"
#include "model/adapter_files.h"
#include "model/files.h"
#include "model/gguf.h"

/* ---- sources --------------------------------------------------------------------------------- */

static void shape_text(char *out, size_t cap, int n_dims, const int64_t *dim) {
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < n_dims && at < cap; i++) {
        at += (size_t)snprintf(out + at, cap - at, "%s%lld", i ? "," : "", (long long)dim[i]);
    }
}

static fm_status expect_shape(const fm_gguf_weight *w, int n_dims, const int64_t *dim) {
    bool same = w->n_dims <= n_dims;
    int shift = n_dims - w->n_dims; /* some writers drop outer dimensions of 1 */
    for (int i = 0; i < n_dims && same; i++) {
        same = i < shift ? dim[i] == 1 : dim[i] == w->dim[i - shift];
    }
    if (!same) {
        char want[96], have[96];
        shape_text(want, sizeof want, n_dims, dim);
        shape_text(have, sizeof have, w->n_dims, w->dim);
        FM_FAIL(FM_ERR_SHAPE, "tensor %s: the metadata makes it [%s], the file has [%s]", w->name, want, have);
    }
    return FM_OK;
}

/* attn_kv_b as the file has it: whole, or split and half transposed. */
static fm_status source_kv_b(fm_gguf_source *s, const fm_gguf_set *set, const fm_model_config *cfg,
                             const fm_gguf_place *place, const fm_param *p) {
    if (fm_gguf_set_find(set, place->name)) {
        FM_TRY(fm_gguf_set_get(&s->w, set, place->name));
        return expect_shape(s->w, p->n_dims, p->dim);
    }
    char name[64];
    snprintf(name, sizeof name, "blk.%d.attn_k_b.weight", (int)place->layer);
    FM_TRY(fm_gguf_set_get(&s->k_b, set, name));
    snprintf(name, sizeof name, "blk.%d.attn_v_b.weight", (int)place->layer);
    FM_TRY(fm_gguf_set_get(&s->v_b, set, name));
    s->nope = cfg->mla.nope_dim;
    s->v_dim = cfg->mla.v_dim;
    s->kv_rank = cfg->mla.kv_rank;
    FM_TRY(expect_shape(s->k_b, 3, (int64_t[]){cfg->n_heads, s->kv_rank, s->nope}));
    return expect_shape(s->v_b, 3, (int64_t[]){cfg->n_heads, s->v_dim, s->kv_rank});
}

fm_status fm_gguf_source_of(fm_gguf_source *out, const fm_gguf_set *set, const fm_gguf_arch *arch,
                            const fm_model_config *cfg, const fm_param *p) {
    fm_gguf_place place;
    *out = (fm_gguf_source){.cols = p->n_dims > 1 ? p->numel / p->dim[0] : 1};
    if (!fm_gguf_place_of(&place, arch, p->name)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "parameter %s has no place in architecture %s", p->name, arch->name);
    }
    if (place.kind == FM_GGUF_KV_B) {
        return source_kv_b(out, set, cfg, &place, p);
    }
    FM_TRY(fm_gguf_set_get(&out->w, set, place.name));
    if (place.kind == FM_GGUF_EXPERT) {
        out->first = (int64_t)place.index * p->numel;
        return expect_shape(out->w, 3, (int64_t[]){cfg->moe.n_experts, p->dim[0], p->dim[1]});
    }
    if (arch->permuted && (place.kind == FM_GGUF_Q_ROWS || place.kind == FM_GGUF_K_ROWS)) {
        out->heads = place.kind == FM_GGUF_Q_ROWS ? cfg->n_heads : cfg->n_kv_heads;
        FM_ASSERT(p->dim[0] % (2 * (int64_t)out->heads) == 0); /* the configuration was checked */
    }
    if (out->w->dtype != FM_F32 && p->n_dims < 2 && fm_dtype_get(out->w->dtype)->block > 1) {
        FM_FAIL(FM_ERR_DTYPE, "tensor %s: a vector of type %s is not supported", out->w->name,
                fm_ggml_type_name(out->w->type));
    }
    return expect_shape(out->w, p->n_dims, p->dim);
}

/* One head of attn_k_b [kv_rank,nope] becomes rows of kv_b [nope,kv_rank]. */
static void split_rows(const fm_gguf_source *s, int64_t row, int64_t n, float *out, float *scratch) {
    int64_t per_head = s->nope + s->v_dim, have = -1, size = (int64_t)s->kv_rank * s->nope;
    for (int64_t i = 0; i < n; i++, out += s->kv_rank) {
        int64_t head = (row + i) / per_head, at = (row + i) % per_head;
        if (at >= s->nope) {
            fm_gguf_read_f32(out, s->v_b, (head * s->v_dim + at - s->nope) * s->kv_rank, s->kv_rank);
            continue;
        }
        if (head != have) {
            fm_gguf_read_f32(scratch, s->k_b, head * size, size);
            have = head;
        }
        for (int64_t c = 0; c < s->kv_rank; c++) {
            out[c] = scratch[c * s->nope + at];
        }
    }
}

/* Row r of ours is this row of a tensor whose q or k rows are permuted. */
static int64_t row_in_file(const fm_gguf_source *s, int64_t r) {
    int64_t half = s->w->dim[0] / s->heads / 2; /* row (h, t, j) of ours, t the half of the pair, is (h, j, t) there */
    return r / (2 * half) * 2 * half + 2 * (r % half) + r / half % 2;
}

void fm_gguf_source_rows(const fm_gguf_source *s, int64_t row, int64_t n, float *out, float *scratch) {
    if (s->k_b) {
        split_rows(s, row, n, out, scratch);
        return;
    }
    if (s->heads == 0) {
        fm_gguf_read_f32(out, s->w, s->first + row * s->cols, n * s->cols);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        fm_gguf_read_f32(out + i * s->cols, s->w, row_in_file(s, row + i) * s->cols, s->cols);
    }
}

/* ---- loading --------------------------------------------------------------------------------- */

static bool usable_in_place(const fm_gguf_source *s) {
    return s->w && s->heads == 0 && fm_dtype_get(s->w->dtype)->block == 1;
}

/* A matrix of blocks whose rows are whole blocks. */
static bool is_blocks(const fm_gguf_source *s, const fm_param *p) {
    return s->w && p->n_dims == 2 && fm_quant_find(s->w->dtype) && s->cols % fm_dtype_get(s->w->dtype)->block == 0;
}

static fm_status find_sources(fm_model *m, const fm_gguf_arch *arch) {
    const fm_gguf_set *set = m->gguf;
    int n = fm_params_count(m->params);
    m->gguf_sources = fm_calloc((size_t)n, sizeof *m->gguf_sources);
    if (!m->gguf_sources) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d parameters", n);
    }
    for (int i = 0; i < n; i++) {
        fm_param *p = fm_params_at(m->params, i);
        fm_gguf_place place;
        if (p->tie) {
            continue;
        }
        if (m->head_from_adapter && fm_is_task_head(m, p)) { /* GGUF files of decoders have none */
            p->missing = true;
            continue;
        }
        if (fm_gguf_place_of(&place, arch, p->name) && place.kind == FM_GGUF_LEFT_OUT) {
            continue;
        }
        fm_gguf_source *s = &m->gguf_sources[i];
        FM_TRY(fm_gguf_source_of(s, set, arch, &m->cfg, p));
        fm_dtype d = s->k_b ? s->v_b->dtype : s->w->dtype;
        m->stored_bytes[d] += fm_dtype_bytes(d, p->numel);
        if (!s->k_b && s->heads == 0) {
            p->source = s->w->data + fm_dtype_bytes(d, s->first);
            p->source_dtype = d;
        }
    }
    for (int d = 0; d < FM_DTYPE_COUNT; d++) {
        m->stored = m->stored_bytes[d] > m->stored_bytes[m->stored] ? (fm_dtype)d : m->stored;
    }
    return FM_OK;
}

/* Tensors of the file that no parameter reads: an error, as the model would not be what the file says. */
static fm_status check_extra(const fm_model *m, const fm_gguf_arch *arch) {
    const char *first = NULL;
    size_t n_extra = 0;
    int n = fm_params_count(m->params);
    size_t n_tensors = fm_gguf_set_count(m->gguf);
    bool *used = fm_calloc(n_tensors + 1, sizeof *used);
    if (!used) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu tensors", n_tensors);
    }
    const fm_gguf_weight *base = fm_gguf_set_at(m->gguf, 0);
    for (int i = 0; i < n; i++) {
        const fm_gguf_source *s = &m->gguf_sources[i];
        const fm_gguf_weight *const w[] = {s->w, s->k_b, s->v_b};
        for (int k = 0; k < 3; k++) {
            if (w[k]) {
                used[w[k] - base] = true;
            }
        }
    }
    for (size_t i = 0; i < n_tensors; i++) {
        const char *name = fm_gguf_set_at(m->gguf, i)->name;
        bool head = m->head_from_adapter && m->cfg.head.kind != FM_HEAD_LM && strcmp(name, "output.weight") == 0;
        if (!used[i] && !head && strcmp(name, "rope_freqs.weight") != 0) {
            first = first ? first : name;
            n_extra++;
        }
    }
    fm_free(used);
    if (first) {
        FM_FAIL(FM_ERR_FORMAT, "%zu tensors have no place in a model of architecture %s, the first is %s", n_extra,
                arch->name, first);
    }
    return FM_OK;
}

#define CHUNK ((int64_t)1 << 16) /* elements converted at a time by one thread */

typedef struct fill_job {
    const fm_gguf_source *s;
    fm_param *p;
    int64_t rows, per_part;
} fill_job;

void fm_gguf_encode(fm_dtype to, const float *x, void *y, int64_t n) {
    if (to == FM_F32) {
        memcpy(y, x, (size_t)n * sizeof *x);
        return;
    }
    uint16_t *h = y;
    for (int64_t i = 0; i < n && to == FM_BF16; i++) {
        h[i] = fm_f32_to_bf16(x[i]);
    }
    for (int64_t i = 0; i < n && to == FM_F16; i++) {
        h[i] = fm_f32_to_f16(x[i]);
    }
}

static fm_status fill_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    const fill_job *j = arg;
    int64_t cols = j->s->cols, begin = part * j->per_part, n = FM_MIN(j->per_part, j->rows - begin);
    float *x = fm_malloc((size_t)(n * cols + fm_gguf_source_scratch(j->s)) * sizeof *x);
    if (!x) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to convert %lld rows of %s", (long long)n, j->p->name);
    }
    fm_gguf_source_rows(j->s, begin, n, x, x + n * cols);
    fm_gguf_encode(j->p->dtype, x, (uint8_t *)j->p->data + fm_dtype_bytes(j->p->dtype, begin * cols), n * cols);
    fm_free(x);
    return FM_OK;
}

/* Permuted rows of blocks, copied in our order. */
static void copy_blocks(fm_param *p, const fm_gguf_source *s) {
    int64_t row = fm_dtype_bytes(p->dtype, s->cols);
    for (int64_t r = 0; r < p->dim[0]; r++) {
        memcpy((uint8_t *)p->data + r * row, s->w->data + row_in_file(s, r) * row, (size_t)row);
    }
}

static fm_status fill_params(fm_model *m, fm_dtype master, fm_pool *pool) {
    FM_ASSERT(master == FM_F32 || master == FM_BF16 || master == FM_F16);
    FM_TRY(fm_params_alloc(m->params, master));
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        const fm_gguf_source *s = &m->gguf_sources[i];
        if (p->tie || p->storage == FM_STORAGE_MAP || (!s->w && !s->k_b)) {
            continue;
        }
        if (p->own_dtype) {
            FM_ASSERT(s->w); /* blocks are not kept of parameters that a product is made from */
            copy_blocks(p, s);
            fm_param_changed(p);
            continue;
        }
        fill_job j = {.s = s, .p = p, .rows = p->numel / s->cols};
        j.per_part = FM_MAX(1, CHUNK / s->cols);
        if (s->k_b) { /* whole heads: each is transposed once */
            int64_t head = s->nope + s->v_dim;
            j.per_part = FM_MAX(head, j.per_part / head * head);
        }
        FM_TRY(fm_pool_run(pool, (j.rows + j.per_part - 1) / j.per_part, fill_part, &j));
        if (s->w && s->first == 0) {
            fm_gguf_release_pages(s->w->data, s->w->bytes);
        }
        fm_param_changed(p);
    }
    return FM_OK;
}

static fm_status load_eos_ids(fm_model *m) {
    const fm_gguf *g = fm_gguf_set_meta(m->gguf);
    static const char *const more[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    fm_gguf_text t;
    m->n_eos = fm_eos_ids(m->eos, FM_MAX_EOS, m->json);
    FM_TRY(fm_gguf_get_text(&t, g, FM_GGUF_FILE_KEY "generation_config.json"));
    if (t.ptr) {
        fm_json *json;
        int32_t ids[FM_MAX_EOS];
        FM_TRY(fm_json_parse(&json, t.ptr, t.len, FM_GGUF_FILE_KEY "generation_config.json"));
        int n = fm_eos_ids(ids, FM_MAX_EOS, json);
        fm_json_free(json);
        if (n > 0) {
            memcpy(m->eos, ids, sizeof ids);
            m->n_eos = n;
        }
        return FM_OK;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(more); i++) {
        int64_t id;
        bool known = false;
        FM_TRY(fm_gguf_get_int(&id, g, more[i], -1));
        for (int k = 0; k < m->n_eos; k++) {
            known = known || m->eos[k] == id;
        }
        if (id >= 0 && id < m->cfg.vocab_size && !known && m->n_eos < FM_MAX_EOS) {
            m->eos[m->n_eos++] = (int32_t)id;
        }
    }
    return FM_OK;
}

static fm_status load_weights(fm_model *m, const fm_gguf_arch *arch, fm_load_mode mode, fm_dtype master) {
    FM_TRY(find_sources(m, arch));
    FM_TRY(check_extra(m, arch));
    if (mode == FM_LOAD_LAZY) {
        return FM_OK;
    }
    bool map = mode == FM_LOAD_MAP || mode == FM_LOAD_KEEP;
    for (int i = 0; i < fm_params_count(m->params) && map; i++) {
        fm_param *p = fm_params_at(m->params, i);
        const fm_gguf_source *s = &m->gguf_sources[i];
        uintptr_t address = (uintptr_t)p->source;
        if (!p->tie && mode == FM_LOAD_KEEP && is_blocks(s, p)) {
            if (s->heads) {
                p->dtype = s->w->dtype;
                p->own_dtype = true;
            } else {
                fm_param_set_external(p, p->source_dtype, (void *)p->source, FM_STORAGE_MAP);
            }
        } else if (!p->tie && usable_in_place(s) &&
                   address % (uintptr_t)fm_dtype_get(p->source_dtype)->block_bytes == 0) {
            fm_param_set_external(p, p->source_dtype, (void *)p->source, FM_STORAGE_MAP);
        }
    }
    fm_pool *pool = NULL;
    FM_TRY(fm_pool_new(&pool, 0));
    fm_status s = fill_params(m, master, pool);
    fm_pool_free(pool);
    return s;
}

static char *license_of(const fm_gguf *g) {
    fm_gguf_text t;
    if (fm_gguf_get_text(&t, g, "general.license") != FM_OK || !t.ptr) {
        fm_error_clear();
        return NULL;
    }
    return fm_strndup(t.ptr, FM_MIN(t.len, 200));
}

static fm_status load_model(fm_model **out, fm_gguf_set *set, const char *path, const char *adapter, fm_load_mode mode,
                            fm_dtype master) {
    const fm_gguf_arch *arch;
    const fm_family *family;
    fm_model_config cfg;
    fm_json *json;
    FM_TRY(fm_gguf_arch_of_file(&arch, fm_gguf_set_meta(set)));
    FM_TRY(fm_gguf_config_read(&json, set, arch));
    fm_status s = fm_model_config_parse(&cfg, &family, json);
    fm_model *m = NULL;
    bool brings = false;
    if (s == FM_OK && adapter) {
        s = fm_adapter_heads(&cfg, family, json, adapter, &brings);
    }
    if (s == FM_OK) {
        s = fm_model_build(&m, &cfg);
    }
    if (s != FM_OK) {
        fm_json_free(json);
        return s;
    }
    m->json = json;
    m->head_from_adapter = brings;
    m->gguf = set; /* the caller's until we succeed */
    m->n_files = (int32_t)fm_gguf_set_n_files(set);
    m->file_bytes = fm_gguf_set_bytes(set);
    m->path = fm_strdup(path);
    m->license = license_of(fm_gguf_set_meta(set));
    s = m->path ? load_eos_ids(m) : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a path");
    if (s == FM_OK) {
        s = load_weights(m, arch, mode, master);
    }
    if (s != FM_OK) {
        m->gguf = NULL;
        fm_model_close(m);
        return s;
    }
    *out = m;
    return FM_OK;
}

fm_status fm_gguf_config_load(fm_model_config *cfg, const fm_family **family, fm_json **json, const char *path) {
    fm_gguf_set *set;
    const fm_gguf_arch *arch;
    *json = NULL;
    FM_TRY(fm_gguf_set_open(&set, path));
    fm_status s = fm_gguf_arch_of_file(&arch, fm_gguf_set_meta(set));
    if (s == FM_OK) {
        s = fm_gguf_config_read(json, set, arch);
    }
    if (s == FM_OK) {
        s = fm_model_config_parse(cfg, family, *json);
    }
    fm_gguf_set_close(set);
    if (s != FM_OK) {
        fm_json_free(*json);
        *json = NULL;
        return fm_error_context("%s", path);
    }
    return FM_OK;
}

fm_status fm_model_load_gguf(fm_model **out, const char *path, const char *adapter, fm_load_mode mode,
                             fm_dtype master) {
    *out = NULL;
    fm_gguf_set *set;
    FM_TRY(fm_gguf_set_open(&set, path));
    fm_status s = load_model(out, set, path, adapter, mode, master);
    if (s != FM_OK) {
        fm_gguf_set_close(set);
        return fm_error_context("%s", path);
    }
    return FM_OK;
}

fm_status fm_model_parse_gguf(const void *data, size_t n) {
    fm_gguf_set *set;
    fm_model *m = NULL;
    FM_TRY(fm_gguf_set_parse(&set, data, n, "memory"));
    fm_status s = load_model(&m, set, "memory", NULL, FM_LOAD_LAZY, FM_F32);
    if (s == FM_OK) {
        fm_model_close(m);
    } else {
        fm_gguf_set_close(set);
    }
    return s;
}

void fm_model_gguf_close(fm_model *m) {
    fm_gguf_set_close(m->gguf);
    fm_free(m->gguf_sources);
    m->gguf = NULL;
    m->gguf_sources = NULL;
}
