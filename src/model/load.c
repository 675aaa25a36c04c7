/* Models from Hugging Face folders. */
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "io/safetensors.h"
#include "model/files.h"

/* ---- config.json ----------------------------------------------------------------------------- */

static bool listed(const char *const *names, const char *name) {
    for (; name && *names; names++) {
        if (strcmp(*names, name) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status find_family(const fm_family **out, const fm_json *json) {
    const fm_json *arch = fm_json_at(fm_json_get(json, "architectures"), 0);
    const char *a = fm_json_is_string(arch) ? fm_json_str(arch, NULL) : NULL, *type;
    FM_TRY(fm_json_get_str(&type, json, "model_type", NULL));
    for (int i = 0; i < fm_n_families; i++) {
        const fm_family *f = fm_families[i];
        if (a ? listed(f->architectures, a) : listed(f->model_types, type)) {
            *out = f;
            return FM_OK;
        }
    }
    fm_str known = {0};
    for (int i = 0; i < fm_n_families; i++) {
        fm_str_printf(&known, "%s%s", i ? ", " : "", fm_families[i]->architectures[0]);
    }
    (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                       "architecture \"%s\" (model_type \"%s\") is not supported", a ? a : "", type ? type : "");
    if (!known.failed) {
        (void)fm_error_hint("supported: %s", known.data);
    }
    fm_str_free(&known);
    return FM_ERR_UNSUPPORTED;
}

static fm_status parse_config(fm_model_config *cfg, const fm_family **family, const fm_json *json) {
    if (!fm_json_is_object(json)) {
        FM_FAIL(FM_ERR_FORMAT, "expected an object");
    }
    FM_TRY(find_family(family, json));
    *cfg = (fm_model_config){.bos_id = -1, .eos_id = -1, .pad_id = -1};
    memcpy(cfg->family, (*family)->name, strlen((*family)->name) + 1);
    FM_TRY((*family)->parse(cfg, json));
    return fm_model_config_check(cfg);
}

static fm_status load_config(fm_model_config *cfg, const fm_family **family, fm_json **json, const char *dir) {
    char path[4096];
    *json = NULL;
    if (!fm_path_is_dir(dir)) {
        FM_FAIL(FM_ERR_NOT_FOUND, "model folder %s does not exist", dir);
    }
    FM_TRY(fm_path_join(path, sizeof path, dir, "config.json"));
    if (!fm_path_exists(path)) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s does not exist", path);
        return fm_error_hint("a model is a Hugging Face folder: config.json, *.safetensors, tokenizer.json");
    }
    FM_TRY(fm_json_load(json, path));
    fm_status s = parse_config(cfg, family, *json);
    if (s != FM_OK) {
        fm_json_free(*json);
        *json = NULL;
        return fm_error_context("%s", path);
    }
    return FM_OK;
}

fm_status fm_model_config_load(fm_model_config *cfg, const fm_family **family, const char *path) {
    fm_json *json;
    FM_TRY(load_config(cfg, family, &json, path));
    fm_json_free(json);
    return FM_OK;
}

int fm_eos_ids(int32_t *out, int cap, const fm_json *object) {
    const fm_json *e = fm_json_get(object, "eos_token_id");
    int n = 0;
    size_t items = fm_json_is_array(e) ? fm_json_size(e) : 1;
    for (size_t i = 0; i < items && n < cap; i++) {
        int64_t id = fm_json_int(fm_json_is_array(e) ? fm_json_at(e, i) : e, -1);
        if (id >= 0 && id <= INT32_MAX) {
            out[n++] = (int32_t)id;
        }
    }
    return n;
}

/* generation_config.json has the last word on what ends a text. */
static fm_status load_eos(fm_model *m, const char *dir) {
    char path[4096];
    int32_t ids[FM_MAX_EOS];
    FM_TRY(fm_path_join(path, sizeof path, dir, "generation_config.json"));
    int n = fm_eos_ids(m->eos, FM_MAX_EOS, m->json);
    m->n_eos = n;
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    fm_json *json;
    FM_TRY(fm_json_load(&json, path));
    n = fm_eos_ids(ids, FM_MAX_EOS, json);
    fm_json_free(json);
    if (n > 0) {
        memcpy(m->eos, ids, sizeof ids);
        m->n_eos = n;
    }
    return FM_OK;
}

char *fm_license_of(const char *dir) {
    char path[4096], *text = NULL, *found = NULL;
    size_t n;
    bool readme = fm_path_join(path, sizeof path, dir, "README.md") == FM_OK && fm_path_exists(path) &&
                  fm_file_read(&text, &n, path, (size_t)8 << 20) == FM_OK;
    if (readme && strncmp(text, "---\n", 4) == 0) {
        const char *end = strstr(text + 4, "\n---"), *at = strstr(text, "\nlicense:");
        if (at && end && at < end) {
            at += strlen("\nlicense:");
            at += strspn(at, " \"'");
            found = fm_strndup(at, strcspn(at, "\"'\r\n"));
        }
    }
    fm_free(text);
    text = NULL;
    if (!found && fm_path_join(path, sizeof path, dir, "LICENSE") == FM_OK && fm_path_exists(path) &&
        fm_file_read(&text, &n, path, (size_t)8 << 20) == FM_OK) {
        const char *at = text + strspn(text, " \t\r\n");
        found = fm_strndup(at, FM_MIN(strcspn(at, "\r\n"), 200));
        fm_free(text);
    }
    if (found && !*found) {
        fm_free(found);
        found = NULL;
    }
    fm_error_clear();
    return found;
}

/* ---- weights --------------------------------------------------------------------------------- */

#define CHUNK ((int64_t)1 << 18) /* elements converted at a time by one thread */

typedef struct convert_job {
    const fm_st_tensor *t;
    fm_param *p;
} convert_job;

static fm_status convert_chunk(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    const convert_job *j = arg;
    int64_t begin = part * CHUNK, n = FM_MIN(CHUNK, j->p->numel - begin);
    fm_dtype from = j->t->dtype, to = j->p->dtype;
    const uint8_t *src = j->t->data + fm_dtype_bytes(from, begin);
    uint8_t *dst = (uint8_t *)j->p->data + fm_dtype_bytes(to, begin);
    if (from == to) {
        memcpy(dst, src, (size_t)fm_dtype_bytes(to, n));
        return FM_OK;
    }
    fm_scratch *scratch = NULL;
    FM_TRY(fm_scratch_new(&scratch));
    fm_exec x = {.scratch = scratch};
    fm_status s = FM_OK;
    double block[512]; /* aligned for every type */
    if (fm_st_aligned(j->t)) {
        fm_cast_args a = {.n = n, .to = to, .x = src, .y = dst};
        s = fm_kernel_run(fm_cpu_backend(), &x, FM_K_cast, from, &a);
    }
    for (int64_t i = 0; !fm_st_aligned(j->t) && i < n && s == FM_OK; i += 512) {
        int64_t m = FM_MIN(512, n - i);
        memcpy(block, src + fm_dtype_bytes(from, i), (size_t)fm_dtype_bytes(from, m));
        fm_cast_args a = {.n = m, .to = to, .x = block, .y = dst + fm_dtype_bytes(to, i)};
        s = fm_kernel_run(fm_cpu_backend(), &x, FM_K_cast, from, &a);
    }
    fm_scratch_free(scratch);
    return s;
}

static bool usable_dtype(fm_dtype d) {
    return d == FM_F32 || d == FM_BF16 || d == FM_F16 || d == FM_F64;
}

static fm_status find_weight(const fm_st_tensor **out, const fm_safetensors *st, const fm_param *p) {
    char want[96] = "", have[96] = "";
    FM_TRY(fm_safetensors_get(out, st, p->name));
    const fm_st_tensor *t = *out;
    bool same = t->n_dims == p->n_dims;
    size_t a = 0, b = 0;
    for (int i = 0; i < p->n_dims; i++) {
        same = same && t->dims[i] == p->dim[i];
        a += (size_t)snprintf(want + a, sizeof want - a, "%s%lld", i ? "," : "", (long long)p->dim[i]);
    }
    for (int i = 0; i < t->n_dims && i < 4; i++) {
        b += (size_t)snprintf(have + b, sizeof have - b, "%s%lld", i ? "," : "", (long long)t->dims[i]);
    }
    if (!same) {
        FM_FAIL(FM_ERR_SHAPE, "tensor %s: config.json makes it [%s], the file has [%s]", p->name, want, have);
    }
    if (!usable_dtype(t->dtype)) {
        FM_FAIL(FM_ERR_DTYPE, "tensor %s: element type %s is not supported; expected F32, BF16, F16 or F64", p->name,
                t->dtype_name);
    }
    return FM_OK;
}

/* What the files hold and the model does not. */
static fm_status check_extra(const fm_model *m, const fm_safetensors *st) {
    const char *first = NULL;
    size_t n = 0;
    for (size_t i = 0; i < fm_safetensors_count(st); i++) {
        const fm_st_tensor *t = fm_safetensors_at(st, i);
        size_t len = strlen(t->name), tail = strlen("rotary_emb.inv_freq");
        if (fm_params_find(m->params, t->name) ||
            (len >= tail && strcmp(t->name + len - tail, "rotary_emb.inv_freq") == 0)) {
            continue;
        }
        if (m->cfg.tied && strcmp(t->name, "lm_head.weight") == 0) {
            const fm_st_tensor *e = fm_safetensors_find(st, m->head->name);
            if (e && (e->bytes != t->bytes || memcmp(e->data, t->data, (size_t)e->bytes) != 0)) {
                (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                                   "config.json ties lm_head.weight to %s, but the file has two different tensors",
                                   e->name);
                return fm_error_hint("set tie_word_embeddings to false in config.json");
            }
            continue;
        }
        first = first ? first : t->name;
        n++;
    }
    if (first) {
        FM_FAIL(FM_ERR_FORMAT, "%zu tensors have no place in a %s model, the first is %s", n, m->family->name, first);
    }
    return FM_OK;
}

static fm_status copy_weights(fm_model *m, const fm_safetensors *st, fm_pool *pool) {
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        if (p->tie || p->storage == FM_STORAGE_MAP) {
            continue;
        }
        convert_job j = {.t = fm_safetensors_find(st, p->name), .p = p};
        FM_TRY(fm_pool_run(pool, (p->numel + CHUNK - 1) / CHUNK, convert_chunk, &j));
        fm_st_release_pages(j.t);
        fm_param_changed(p);
    }
    return FM_OK;
}

static fm_status load_weights(fm_model *m, const char *dir, bool map, fm_dtype master) {
    int64_t bytes_of[FM_DTYPE_COUNT] = {0};
    fm_safetensors *st;
    FM_TRY(fm_safetensors_open(&st, dir));
    m->files = st;
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        const fm_st_tensor *t;
        if (p->tie) {
            continue;
        }
        FM_TRY(find_weight(&t, st, p));
        bytes_of[t->dtype] += t->bytes;
        if (map && fm_st_aligned(t)) {
            fm_param_set_external(p, t->dtype, (void *)t->data, FM_STORAGE_MAP);
        }
    }
    FM_TRY(check_extra(m, st));
    for (int d = 0; d < FM_DTYPE_COUNT; d++) {
        m->stored = bytes_of[d] > bytes_of[m->stored] ? (fm_dtype)d : m->stored;
    }
    m->n_files = (int32_t)fm_safetensors_n_files(st);
    for (int32_t i = 0; i < m->n_files; i++) {
        m->file_bytes += FM_MAX(fm_file_size(fm_safetensors_file(st, (size_t)i)), 0);
    }
    FM_TRY(fm_params_alloc(m->params, master));
    fm_pool *pool = NULL;
    FM_TRY(fm_pool_new(&pool, 0));
    fm_status s = copy_weights(m, st, pool);
    fm_pool_free(pool);
    if (s == FM_OK && !map) {
        fm_safetensors_close(st);
        m->files = NULL;
    }
    return s;
}

void fm_model_files_close(fm_model *m) {
    fm_safetensors_close(m->files);
    m->files = NULL;
}

fm_status fm_model_load(fm_model **out, const char *path, bool map, fm_dtype master) {
    *out = NULL;
    FM_ASSERT(usable_dtype(master));
    fm_model_config cfg;
    const fm_family *family;
    fm_json *json;
    fm_model *m = NULL;
    FM_TRY(load_config(&cfg, &family, &json, path));
    fm_status s = fm_model_build(&m, &cfg);
    if (s != FM_OK) {
        fm_json_free(json);
        return s;
    }
    m->json = json;
    m->path = fm_strdup(path);
    if (!m->path) {
        FM_FAIL_GOTO(s, fail, FM_ERR_NO_MEMORY, "no memory for the path of a model");
    }
    FM_TRY_GOTO(s, fail, load_eos(m, path));
    s = load_weights(m, path, map, master);
    if (s != FM_OK) {
        s = fm_error_context("loading %s", path);
        goto fail;
    }
    m->license = fm_license_of(path);
    *out = m;
    return FM_OK;
fail:
    fm_model_close(m);
    return s;
}
