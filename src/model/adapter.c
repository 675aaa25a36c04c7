/* Adapters: which weights, attaching, merging. */
#include "model/adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "io/safetensors.h"
#include "model/adapter_files.h"
#include "tensor/dora.h"

void fm_adapter_free(fm_adapter *a) {
    if (!a) {
        return;
    }
    for (int i = 0; i < a->n && a->weight; i++) {
        if (a->weight[i]->lora == &a->lora[i]) { /* one that stands apart is not to be seen by others */
            a->weight[i]->lora = NULL;
        }
        fm_dora_free(a->lora[i].dora);
    }
    for (int i = 0; i < a->n_whole && a->replaced; i++) {
        if (a->replaced[i]->instead == a->whole[i]) {
            a->replaced[i]->instead = NULL;
        }
    }
    if (a->m && a->m->adapter == a) {
        a->m->adapter = NULL;
    }
    fm_params_free(a->params);
    fm_safetensors_close(a->files);
    fm_free(a->lora);
    fm_free(a->weight);
    fm_free(a->replaced);
    fm_free(a->whole);
    fm_free(a);
}

/* ---- which weights --------------------------------------------------------------------------- */

#define SUFFIX ".weight"

/* A matrix that the linear operation multiplies by: not a table of embeddings, not a head. */
bool fm_is_linear(const fm_model *m, const fm_param *p) {
    size_t n = strlen(p->name), s = strlen(SUFFIX);
    for (int i = 0; i < m->n_heads; i++) {
        if (p == m->heads[i].w) {
            return false;
        }
    }
    return p->n_dims == 2 && !p->tie && p->decay && p != m->head && !strstr(p->name, "embed") &&
           !strstr(p->name, "wte.") && !strstr(p->name, "wpe.") && n > s && strcmp(p->name + n - s, SUFFIX) == 0;
}

bool fm_is_task_head(const fm_model *m, const fm_param *p) {
    for (int i = 0; i < m->n_heads; i++) {
        const fm_head *h = &m->heads[i];
        if (h->cfg->kind != FM_HEAD_LM && h->cfg->kind != FM_HEAD_NONE &&
            (p == h->w || p == h->b || p == h->dense_w || p == h->dense_b || p == h->norm_w || p == h->norm_b)) {
            return true;
        }
    }
    return p == m->log_vars;
}

/* Experts and routers take adapters when they are named; "all" leaves them out, as PEFT does. */
static bool is_expert(const fm_param *p) {
    return strstr(p->name, ".experts.") != NULL || strstr(p->name, ".gate.weight") != NULL;
}

/* Name without ".weight". */
static fm_sv module_of(const fm_param *p) {
    return (fm_sv){p->name, strlen(p->name) - strlen(SUFFIX)};
}

/* '*' stands for any characters, '?' for one. */
static bool glob(fm_sv s, const char *pattern) {
    size_t i = 0, back = 0;
    const char *p = pattern, *star = NULL;
    while (i < s.len) {
        if (*p == '*') {
            star = p++;
            back = i;
        } else if (*p && (*p == '?' || *p == s.ptr[i])) {
            p++;
            i++;
        } else if (star) {
            p = star + 1;
            i = ++back;
        } else {
            return false;
        }
    }
    return p[strspn(p, "*")] == '\0';
}

/* The whole name of a module, or its last parts from a dot on. */
static bool matches(fm_sv m, const char *target) {
    for (size_t at = 0; at < m.len; at++) {
        if ((at == 0 || m.ptr[at - 1] == '.') && glob((fm_sv){m.ptr + at, m.len - at}, target)) {
            return true;
        }
    }
    return false;
}

static bool wanted(const fm_param *p, const fm_adapter_config *cfg, bool *hit) {
    bool any = false;
    for (int i = 0; i < cfg->n_targets; i++) {
        bool all = strcmp(cfg->target[i], "all") == 0 || strcmp(cfg->target[i], "all-linear") == 0;
        if ((all && !is_expert(p)) || (!all && matches(module_of(p), cfg->target[i]))) {
            hit[i] = any = true;
        }
    }
    return any;
}

static fm_status check_hits(const fm_model *m, const fm_adapter_config *cfg, const bool *hit) {
    for (int i = 0; i < cfg->n_targets; i++) {
        if (hit[i]) {
            continue;
        }
        fm_str known = {0};
        for (int k = 0; k < fm_params_count(m->params); k++) {
            const fm_param *p = fm_params_at(m->params, k);
            const char *dot = fm_is_linear(m, p) ? strrchr(p->name, '.') : NULL, *from = dot;
            while (from && from > p->name && from[-1] != '.') {
                from--;
            }
            if (from && !is_expert(p)) {
                char name[64];
                snprintf(name, sizeof name, "%.*s", (int)FM_MIN(dot - from, 60), from);
                if (!known.data || !strstr(known.data, name)) {
                    fm_str_printf(&known, "%s%s", known.len ? ", " : "", name);
                }
            }
        }
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "lora_target: no linear weight is called \"%s\"",
                           cfg->target[i]);
        fm_status s = fm_error_hint("this model has %s; or all", known.data ? known.data : "none");
        fm_str_free(&known);
        return s;
    }
    return FM_OK;
}

/* ---- attaching ------------------------------------------------------------------------------- */

fm_status fm_adapter_begin(fm_adapter **out, fm_model *m) {
    *out = NULL;
    if (m->adapter) {
        FM_FAIL(FM_ERR_STATE, "the model has an adapter already");
    }
    fm_adapter *a = fm_calloc(1, sizeof *a);
    int n = fm_params_count(m->params);
    if (a) {
        a->m = m;
        a->lora = fm_calloc((size_t)n, sizeof *a->lora);
        a->weight = fm_calloc((size_t)n, sizeof *a->weight);
        a->replaced = fm_calloc((size_t)n, sizeof *a->replaced);
        a->whole = fm_calloc((size_t)n, sizeof *a->whole);
    }
    if (!a || !a->lora || !a->weight || !a->replaced || !a->whole) {
        fm_adapter_free(a);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an adapter of %d weights", n);
    }
    fm_status s = fm_params_new(&a->params);
    if (s != FM_OK) {
        fm_adapter_free(a);
        return s;
    }
    *out = a;
    return FM_OK;
}

/* kind: "lora_A.weight"; dims[1] 0: a vector */
static fm_status add_part(fm_adapter *a, const fm_param *w, const char *kind, int64_t rows, int64_t cols, double std,
                          fm_param **out) {
    char name[512];
    fm_sv m = module_of(w);
    snprintf(name, sizeof name, "base_model.model.%.*s.%s", (int)m.len, m.ptr, kind);
    return fm_params_add(a->params,
                         &(fm_param_desc){.name = name,
                                          .n_dims = cols > 0 ? 2 : 1,
                                          .dim = {rows, FM_MAX(cols, 1)},
                                          .init = std > 0 ? FM_INIT_NORMAL : FM_INIT_ZEROS,
                                          .init_std = std,
                                          .no_decay = cols == 0},
                         out);
}

fm_status fm_adapter_add(fm_adapter *a, fm_param *w, int64_t rank) {
    if (!fm_is_linear(a->m, w)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "an adapter on %s is not supported; expected a linear layer", w->name);
    }
    if (rank < 1 || rank > FM_MIN(w->dim[0], w->dim[1])) {
        FM_FAIL(FM_ERR_CONFIG, "lora_rank: %s is [%lld,%lld], expected a rank of 1 to %lld, found %lld", w->name,
                (long long)w->dim[0], (long long)w->dim[1], (long long)FM_MIN(w->dim[0], w->dim[1]), (long long)rank);
    }
    fm_lora *l = &a->lora[a->n];
    if (a->dora && is_expert(w)) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "use_dora: %s is a router or an expert, which take adapters without magnitudes only", w->name);
    }
    FM_TRY(add_part(a, w, "lora_A.weight", rank, w->dim[1], 1 / sqrt(3 * (double)w->dim[1]), &l->a));
    FM_TRY(add_part(a, w, "lora_B.weight", w->dim[0], rank, 0, &l->b));
    if (a->dora) {
        FM_TRY(add_part(a, w, "lora_magnitude_vector", w->dim[0], 0, 0, &l->magnitude));
        FM_TRY(fm_dora_new(&l->dora, w->dim[0]));
    }
    l->scale = (float)(a->alpha / (a->rslora ? sqrt((double)rank) : (double)rank));
    l->dropout = a->dropout;
    snprintf(l->stream, sizeof l->stream, "lora.%d", w->index);
    a->weight[a->n++] = w;
    return FM_OK;
}

/* Parameters of any kind that stand alone in files. A matrix that has low-rank parts too would be trained twice. */
fm_status fm_adapter_add_whole(fm_adapter *a, fm_param *w) {
    char name[512];
    if (w->tie || w->state || w->file_transposed) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "modules_to_save: %s cannot be trained whole beside an adapter: %s", w->name,
                w->tie     ? "it is tied to another weight; name that one"
                : w->state ? "no gradient changes it"
                           : "its files hold it transposed");
    }
    for (int i = 0; i < a->n; i++) {
        if (a->weight[i] == w) {
            FM_FAIL(FM_ERR_CONFIG, "modules_to_save: %s has low-rank parts already; take it out of lora_target",
                    w->name);
        }
    }
    snprintf(name, sizeof name, "base_model.model.%s", w->name);
    fm_param_desc d = {
        .name = name, .n_dims = w->n_dims, .no_decay = !w->decay, .init = w->init, .init_std = w->init_std};
    memcpy(d.dim, w->dim, sizeof d.dim);
    FM_TRY(fm_params_add(a->params, &d, &a->whole[a->n_whole]));
    a->replaced[a->n_whole++] = w;
    return FM_OK;
}

void fm_adapter_attach(fm_adapter *a) {
    for (int i = 0; i < a->n; i++) {
        a->weight[i]->lora = &a->lora[i];
    }
    for (int i = 0; i < a->n_whole; i++) {
        a->replaced[i]->instead = a->whole[i];
    }
    a->m->adapter = a;
}

/* All parameters of the modules that cfg->whole names, and those of heads. */
static fm_status add_wholes(fm_adapter *a, const fm_adapter_config *cfg) {
    for (int i = 0; i < fm_params_count(a->m->params) && cfg->heads; i++) {
        fm_param *p = fm_params_at(a->m->params, i);
        FM_TRY(fm_is_task_head(a->m, p) ? fm_adapter_add_whole(a, p) : FM_OK);
    }
    for (int k = 0; k < cfg->n_whole; k++) {
        bool hit = false;
        for (int i = 0; i < fm_params_count(a->m->params); i++) {
            fm_param *p = fm_params_at(a->m->params, i);
            const char *dot = strrchr(p->name, '.');
            fm_sv module = {p->name, dot ? (size_t)(dot - p->name) : strlen(p->name)};
            /* A tied head is trained with the table it is tied to. */
            p = p->tie && matches(module, cfg->whole[k]) ? p->tie : p;
            bool there = false;
            for (int j = 0; j < a->n_whole; j++) {
                there = there || a->replaced[j] == p;
            }
            if (matches(module, cfg->whole[k])) {
                hit = true;
                FM_TRY(there ? FM_OK : fm_adapter_add_whole(a, p));
            }
        }
        if (!hit && !(strcmp(cfg->whole[k], "lm_head") == 0 && a->m->cfg.tied)) {
            (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "modules_to_save: no module is called \"%s\"",
                               cfg->whole[k]);
            return fm_error_hint("names such as lm_head, embed_tokens, model.norm, layers.*.mlp.up_proj");
        }
    }
    return FM_OK;
}

fm_status fm_adapter_new(fm_model *m, const fm_adapter_config *cfg) {
    enum { MAX_TARGETS = 64 };
    bool hit[MAX_TARGETS] = {0};
    if (cfg->n_targets < 1 || cfg->n_targets > MAX_TARGETS) {
        FM_FAIL(FM_ERR_CONFIG, "lora_target: expected 1 to %d names, found %d", MAX_TARGETS, cfg->n_targets);
    }
    fm_adapter *a;
    FM_TRY(fm_adapter_begin(&a, m));
    a->rank = cfg->rank;
    a->alpha = cfg->alpha;
    a->dropout = cfg->dropout;
    a->rslora = cfg->rslora;
    a->dora = cfg->dora;
    fm_status s = FM_OK;
    for (int i = 0; i < fm_params_count(m->params) && s == FM_OK; i++) {
        fm_param *p = fm_params_at(m->params, i);
        if (fm_is_linear(m, p) && !(cfg->heads && fm_is_task_head(m, p)) && wanted(p, cfg, hit)) {
            s = fm_adapter_add(a, p, cfg->rank);
        }
    }
    s = s == FM_OK ? check_hits(m, cfg, hit) : s;
    s = s == FM_OK ? add_wholes(a, cfg) : s;
    if (s != FM_OK) {
        fm_adapter_free(a);
        return s;
    }
    fm_adapter_attach(a);
    return FM_OK;
}

fm_status fm_adapter_begin_values(fm_model *m, const fm_exec *x) {
    fm_adapter *a = m->adapter;
    FM_ASSERT(a);
    for (int i = 0; i < a->n && a->dora; i++) {
        fm_param *magnitude = a->lora[i].magnitude;
        FM_ASSERT(magnitude->dtype == FM_F32 && magnitude->data);
        FM_TRY(fm_dora_lengths(fm_cpu_backend(), x, a->weight[i], magnitude->data));
        fm_param_changed(magnitude);
    }
    return FM_OK;
}

/* ---- merging --------------------------------------------------------------------------------- */

/* Rows of w to the lengths of the magnitude; work has room for a number a row. */
static fm_status bring_to_lengths(fm_param *w, const fm_param *magnitude, const fm_exec *x, float *work) {
    int64_t n = w->dim[0], k = w->dim[1];
    FM_TRY(fm_dora_lengths(fm_cpu_backend(), x, w, work));
    for (int64_t i = 0; i < n; i++) {
        double to = fm_load_as_f64(magnitude->dtype, magnitude->data, i),
               factor = work[i] > 0 ? to / (double)work[i] : 0;
        for (int64_t j = 0; j < k; j++) {
            float *v = (float *)w->data + i * k + j;
            *v = (float)((double)*v * factor);
        }
    }
    fm_param_changed(w);
    return FM_OK;
}

/* W += scale B A */
static fm_status merge_one(fm_param *w, const fm_lora *l, const fm_exec *x) {
    const fm_backend *b = fm_cpu_backend();
    int64_t rank = l->a->dim[0], n = w->dim[0], k = w->dim[1];
    void *am = NULL, *bm = NULL;
    FM_TRY(fm_param_acquire(b, x, l->a, FM_F32, &am));
    FM_TRY(fm_param_acquire(b, x, l->b, FM_F32, &bm));
    float *scaled = fm_malloc((size_t)(n * rank) * sizeof *scaled);
    if (!scaled) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to merge %s", w->name);
    }
    for (int64_t i = 0; i < n * rank; i++) {
        scaled[i] = ((const float *)bm)[i] * l->scale;
    }
    fm_matmul_args p = {.m = n,
                        .n = k,
                        .k = rank,
                        .a = scaled,
                        .lda = rank,
                        .b = am,
                        .ldb = k,
                        .c = w->data,
                        .ldc = k,
                        .c_dtype = FM_F32,
                        .accumulate = true};
    fm_status s = fm_kernel_run(b, x, FM_K_matmul, FM_F32, &p);
    fm_param_changed(w);
    s = s == FM_OK && l->magnitude ? bring_to_lengths(w, l->magnitude, x, scaled) : s;
    fm_free(scaled);
    return s;
}

/* The base's own element type may be read only; its memory stays with the store. */
static fm_status merge_whole(fm_param *w, const fm_param *whole, const fm_exec *x) {
    return fm_param_rows(fm_cpu_backend(), x, whole, 0, whole->dim[0], FM_F32, w->data);
}

static fm_status check_mergeable(const fm_param *w) {
    if (w->dtype != FM_F32 || w->storage == FM_STORAGE_MAP) {
        FM_FAIL(FM_ERR_STATE, "merging needs base weights in f32 memory; %s is %s", w->name,
                fm_dtype_get(w->dtype)->name);
    }
    return FM_OK;
}

fm_status fm_adapter_merge(fm_model *m) {
    fm_adapter *a = m->adapter;
    FM_ASSERT(a);
    fm_scratch *scratch;
    fm_pool *pool = NULL;
    FM_TRY(fm_scratch_new(&scratch));
    fm_status s = fm_pool_new(&pool, 0);
    fm_exec x = {.pool = pool, .scratch = scratch};
    for (int i = 0; i < a->n && s == FM_OK; i++) {
        s = check_mergeable(a->weight[i]);
        s = s == FM_OK ? merge_one(a->weight[i], &a->lora[i], &x) : s;
    }
    for (int i = 0; i < a->n_whole && s == FM_OK; i++) {
        s = check_mergeable(a->replaced[i]);
        s = s == FM_OK ? merge_whole(a->replaced[i], a->whole[i], &x) : s;
        fm_param_changed(a->replaced[i]);
    }
    fm_pool_free(pool);
    fm_scratch_free(scratch);
    if (s == FM_OK) {
        fm_adapter_free(a);
    }
    return s;
}
