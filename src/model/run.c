/* Running whole models for users: logits, hidden states, scores of heads, embeddings. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "model/gguf.h"

/* What is computed of a batch: fn writes `out` on a device that runs, and takes the same memory on the meta device,
 * where out is NULL. */
typedef struct job {
    fm_status (*fn)(fm_ctx *c, const fm_model *m, const fm_batch *b, const struct job *j, float *out);
    int head;
    const int32_t *targets, *rows;
    int32_t n_rows;
    float *out;
} job;

static fm_status run(fm_model *m, const fm_batch *b, const job *j) {
    fm_ctx *c = NULL;
    fm_ctx_options o = {.size = sizeof o, .compute = m->compute};
    fm_status s = fm_ctx_new(&c, &o); /* a run without data says how large the arena must be */
    if (s == FM_OK) {
        s = j->fn(c, m, b, j, NULL);
        o.arena_bytes = fm_ctx_arena_peak(c) + 4096;
        o.grad_bytes = fm_ctx_grad_peak(c) + 4096;
        fm_ctx_free(c);
        c = NULL;
    }
    if (s == FM_OK) {
        o.backend = fm_cpu_backend();
        o.pool = m->pool;
        s = fm_ctx_new(&c, &o);
    }
    if (s == FM_OK) {
        fm_ctx_set_pack(c, true);
        s = j->fn(c, m, b, j, j->out);
    }
    fm_ctx_free(c);
    return s;
}

/* Runs the packed texts. */
static fm_status run_texts(fm_model *m, const fm_texts *t, const job *j) {
    if (t->size != sizeof *t || t->n < 1 || !t->ids || !t->offsets || t->offsets[0] != 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "texts: expected at least one, packed from offset 0");
    }
    for (int32_t i = 0; i < t->n; i++) {
        if (t->offsets[i + 1] <= t->offsets[i]) {
            FM_FAIL(FM_ERR_ARGUMENT, "text %d has no tokens", (int)i);
        }
    }
    int32_t n = t->offsets[t->n];
    int32_t *pos = fm_malloc((size_t)n * sizeof *pos);
    if (!pos) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d positions", (int)n);
    }
    for (int32_t s = 0; s < t->n; s++) {
        for (int32_t i = t->offsets[s]; i < t->offsets[s + 1]; i++) {
            pos[i] = i - t->offsets[s];
        }
    }
    fm_batch b = {.n_tokens = n,
                  .n_segments = t->n,
                  .ids = t->ids,
                  .pos = pos,
                  .q_offsets = t->offsets,
                  .types = m->cfg.n_types > 0 ? t->types : NULL};
    fm_status s = run(m, &b, j);
    fm_free(pos);
    return s;
}

static fm_status run_ids(fm_model *m, const int32_t *ids, int32_t n_ids, const job *j) {
    if (n_ids < 1) {
        FM_FAIL(FM_ERR_ARGUMENT, "a text of %d tokens was given", (int)n_ids);
    }
    const int32_t offsets[2] = {0, n_ids};
    return run_texts(m, &(fm_texts){.size = sizeof(fm_texts), .n = 1, .ids = ids, .offsets = offsets}, j);
}

static fm_status put(fm_ctx *c, const fm_tensor *y, float *out) {
    const void *data = y && out ? fm_data(c, y) : NULL;
    for (int64_t i = 0; data && i < fm_numel(y); i++) {
        out[i] = (float)fm_load_as_f64(y->dtype, data, i);
    }
    return fm_ctx_status(c);
}

/* ---- logits ---------------------------------------------------------------------------------- */

#define HEAD_ROWS 64 /* logits held at a time */

static fm_status logits(fm_ctx *c, const fm_model *m, const fm_batch *b, const job *j, float *out) {
    FM_UNUSED(j);
    fm_tensor *h = fm_model_forward(c, m, b);
    int64_t d = m->cfg.d_model, v = m->cfg.vocab_size;
    for (int32_t t = 0; t < b->n_tokens && h; t += HEAD_ROWS) {
        int64_t rows = FM_MIN(HEAD_ROWS, b->n_tokens - t);
        fm_ctx_mark_t mark = fm_ctx_mark(c);
        uint8_t *data = fm_data(c, h);
        fm_tensor *part =
            fm_from_memory(c, h->dtype, 2, (int64_t[]){rows, d}, data ? data + fm_dtype_bytes(h->dtype, t * d) : NULL);
        fm_tensor *y = fm_model_head(c, m, part, NULL);
        if (y && out) {
            memcpy(out + t * v, fm_data(c, y), (size_t)(rows * v) * sizeof *out);
        }
        fm_ctx_release(c, mark);
        if (!y) {
            break;
        }
    }
    return fm_ctx_status(c);
}

fm_status fm_model_logits(fm_model *m, const int32_t *ids, int32_t n_ids, float *out) {
    return run_ids(m, ids, n_ids, &(job){.fn = logits, .out = out});
}

static fm_status logits_at(fm_ctx *c, const fm_model *m, const fm_batch *b, const job *j, float *out) {
    fm_tensor *h = fm_model_forward(c, m, b);
    fm_tensor *rows = fm_from_memory(c, FM_I32, 1, (int64_t[]){j->n_rows}, (void *)(uintptr_t)j->rows);
    return put(c, h ? fm_model_head(c, m, h, rows) : NULL, out);
}

fm_status fm_model_logits_at(fm_model *m, const fm_texts *texts, const int32_t *rows, int32_t n, float *out) {
    return run_texts(m, texts, &(job){.fn = logits_at, .rows = rows, .n_rows = n, .out = out});
}

static fm_status token_losses(fm_ctx *c, const fm_model *m, const fm_batch *b, const job *j, float *out) {
    fm_loss_options o = {.ignore_index = -100, .scale = 1};
    fm_tensor *losses = NULL;
    fm_batch own = *b;
    own.targets = j->targets;
    return fm_model_loss(c, m, &own, &o, &losses) ? put(c, losses, out) : fm_ctx_status(c);
}

fm_status fm_model_token_losses(fm_model *m, const fm_texts *texts, const int32_t *targets, float *out) {
    return run_texts(m, texts, &(job){.fn = token_losses, .targets = targets, .out = out});
}

/* ---- hidden states and heads ----------------------------------------------------------------- */

static fm_status hidden(fm_ctx *c, const fm_model *m, const fm_batch *b, const job *j, float *out) {
    FM_UNUSED(j);
    return put(c, fm_model_forward(c, m, b), out);
}

fm_status fm_model_hidden(fm_model *m, const fm_texts *texts, float *out) {
    return run_texts(m, texts, &(job){.fn = hidden, .out = out});
}

static fm_status scores(fm_ctx *c, const fm_model *m, const fm_batch *b, const job *j, float *out) {
    return put(c, fm_head_scores(c, m, j->head, fm_model_forward(c, m, b), b), out);
}

fm_status fm_model_scores(fm_model *m, int head, const fm_texts *texts, float *out) {
    if (head < 0 || head >= m->n_heads || m->heads[head].cfg->kind == FM_HEAD_NONE) {
        FM_FAIL(FM_ERR_ARGUMENT, "head %d: the model has %d with scores", head,
                (int)m->n_heads - (m->cfg.head.kind == FM_HEAD_NONE));
    }
    return run_texts(m, texts, &(job){.fn = scores, .head = head, .out = out});
}

bool fm_model_generates(const fm_model *m) {
    return !m->family->encoder && m->cfg.head.kind == FM_HEAD_LM;
}

int fm_model_head_count(const fm_model *m) {
    return m->n_heads;
}

fm_status fm_model_head_info(fm_head_info *out, const fm_model *m, int head) {
    static const char *const problems[] = {[FM_PROBLEM_SINGLE] = "single",
                                           [FM_PROBLEM_MULTI] = "multi",
                                           [FM_PROBLEM_SPAN] = "span",
                                           [FM_PROBLEM_REGRESSION] = "regression"};
    if (head < 0 || head >= m->n_heads) {
        FM_FAIL(FM_ERR_ARGUMENT, "head %d: the model has %d", head, (int)m->n_heads);
    }
    const fm_head_config *h = m->heads[head].cfg;
    *out = (fm_head_info){.name = h->name,
                          .kind = fm_head_row_of(h)->name,
                          .problem = problems[h->problem],
                          .per_token = h->kind != FM_HEAD_TEXT,
                          .n_outputs = h->kind == FM_HEAD_LM     ? m->cfg.vocab_size
                                       : h->kind == FM_HEAD_NONE ? 0
                                                                 : h->n_labels};
    return FM_OK;
}

fm_status fm_model_head_find(int *out, const fm_model *m, const char *name) {
    *out = fm_head_find(m, name);
    if (*out >= 0) {
        return FM_OK;
    }
    fm_str known = {0};
    for (int i = 1; i < m->n_heads; i++) {
        fm_str_printf(&known, ", %s", m->heads[i].cfg->name);
    }
    (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "the model has no head named \"%s\"", name);
    fm_status s = fm_error_hint("it has: main%s", known.data ? known.data : "");
    fm_str_free(&known);
    return s;
}

const char *fm_model_label(const fm_model *m, int head, int32_t label) {
    const fm_json *o = m->json;
    char id[16];
    if (head < 0 || head >= m->n_heads || !o) {
        return NULL;
    }
    if (head > 0) {
        o = fm_json_at(fm_json_get(m->json, "fathom_heads"), (size_t)head - 1);
    }
    snprintf(id, sizeof id, "%d", (int)label);
    return fm_json_str(fm_json_get(fm_json_get(o, "id2label"), id), NULL);
}

/* ---- embeddings ------------------------------------------------------------------------------ */

/* sentence-transformers keeps how to pool beside the model. */
static fm_status pooling_file(fm_pooling *out, const char *path) {
    static const struct {
        const char *key;
        fm_pooling p;
        bool known;
    } modes[] = {{"pooling_mode_mean_tokens", FM_POOL_MEAN, true},
                 {"pooling_mode_cls_token", FM_POOL_CLS, true},
                 {"pooling_mode_lasttoken", FM_POOL_LAST, true},
                 {"pooling_mode_max_tokens", FM_POOL_MEAN, false},
                 {"pooling_mode_mean_sqrt_len_tokens", FM_POOL_MEAN, false},
                 {"pooling_mode_weightedmean_tokens", FM_POOL_MEAN, false}};
    fm_json *json;
    FM_TRY(fm_json_load(&json, path));
    fm_status s = FM_OK;
    int chosen = 0;
    for (size_t i = 0; i < FM_ARRAY_LEN(modes) && s == FM_OK; i++) {
        bool on = false;
        s = fm_json_get_bool(&on, json, modes[i].key, false);
        if (s == FM_OK && on && !modes[i].known) {
            s = fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "%s: %s is not supported", path, modes[i].key);
        }
        if (s == FM_OK && on) {
            *out = modes[i].p;
            chosen++;
        }
    }
    fm_json_free(json);
    if (s == FM_OK && chosen != 1) {
        s = fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "%s: expected one way of pooling, found %d", path,
                         chosen);
    }
    return s;
}

/* Numbers of llama.cpp's enum. */
static const int gguf_pooling[] = {[FM_POOL_MEAN] = 1, [FM_POOL_CLS] = 2, [FM_POOL_LAST] = 3};

int fm_gguf_pooling_number(fm_pooling p) {
    return gguf_pooling[p];
}

static fm_status pooling_of_gguf(fm_pooling *out, const fm_model *m) {
    const fm_gguf *g = fm_gguf_set_meta(m->gguf);
    const fm_gguf_arch *arch;
    char key[64];
    int64_t n;
    FM_TRY(fm_gguf_arch_of_file(&arch, g));
    snprintf(key, sizeof key, "%s.pooling_type", arch->name);
    FM_TRY(fm_gguf_get_int(&n, g, key, 0));
    for (size_t i = 0; i < FM_ARRAY_LEN(gguf_pooling); i++) {
        if (n == gguf_pooling[i]) {
            *out = (fm_pooling)i;
        }
    }
    if (n < 0 || n > 3) { /* 4 ranks texts by a head */
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: expected 0 to 3, found %lld", key, (long long)n);
    }
    return FM_OK;
}

fm_status fm_model_pooling(fm_pooling *out, const fm_model *m) {
    char path[4096];
    *out = m->family->encoder ? FM_POOL_MEAN : FM_POOL_LAST;
    if (m->gguf) {
        return pooling_of_gguf(out, m);
    }
    if (!m->path || !fm_path_is_dir(m->path)) {
        return FM_OK;
    }
    FM_TRY(fm_path_join(path, sizeof path, m->path, "1_Pooling/config.json"));
    return fm_path_exists(path) ? pooling_file(out, path) : FM_OK;
}

static fm_status choose_pooling(fm_pooling *out, const fm_model *m, const char *name) {
    static const char *const names[] = {[FM_POOL_MEAN] = "mean", [FM_POOL_CLS] = "cls", [FM_POOL_LAST] = "last"};
    for (size_t i = 0; name && i < FM_ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (fm_pooling)i;
            return FM_OK;
        }
    }
    if (name && strcmp(name, "auto") != 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "pooling: expected auto, mean, cls or last, found \"%s\"", name);
    }
    return fm_model_pooling(out, m);
}

/* modules.json of sentence-transformers names a Normalize module. */
static fm_status folder_normalizes(bool *out, const fm_model *m) {
    char path[4096];
    *out = false;
    if (!m->path || !fm_path_is_dir(m->path)) {
        return FM_OK;
    }
    FM_TRY(fm_path_join(path, sizeof path, m->path, "modules.json"));
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    fm_json *json;
    FM_TRY(fm_json_load(&json, path));
    for (size_t i = 0; fm_json_is_array(json) && i < fm_json_size(json); i++) {
        const char *type = fm_json_str(fm_json_get(fm_json_at(json, i), "type"), NULL);
        *out = *out || (type && strstr(type, "Normalize"));
    }
    fm_json_free(json);
    return FM_OK;
}

/* One text's vector from its hidden states h [n,d]. */
static void pool(float *out, const float *h, int32_t n, int64_t d, fm_pooling p, bool normalize) {
    double squares = 0;
    for (int64_t j = 0; j < d; j++) {
        double v = 0;
        for (int32_t t = 0; p == FM_POOL_MEAN && t < n; t++) {
            v += (double)h[t * d + j];
        }
        v = p == FM_POOL_MEAN ? v / n : (double)h[(p == FM_POOL_CLS ? 0 : n - 1) * d + j];
        out[j] = (float)v;
        squares += v * v;
    }
    double scale = normalize ? 1 / fmax(sqrt(squares), 1e-12) : 1;
    for (int64_t j = 0; normalize && j < d; j++) {
        out[j] = (float)((double)out[j] * scale);
    }
}

fm_status fm_model_embed(fm_model *m, const fm_texts *texts, const fm_embed_options *o, float *out) {
    fm_pooling p;
    bool normalize = false;
    if (o && o->size != sizeof *o) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_embed_options: expected size %zu, found %zu", sizeof *o, o->size);
    }
    FM_TRY(choose_pooling(&p, m, o ? o->pooling : NULL));
    if (o && o->normalize != FM_NORMALIZE_AUTO) {
        normalize = o->normalize == FM_NORMALIZE_ON;
    } else {
        FM_TRY(folder_normalizes(&normalize, m));
    }
    if (texts->size != sizeof *texts || texts->n < 1 || !texts->offsets) {
        FM_FAIL(FM_ERR_ARGUMENT, "texts: expected at least one");
    }
    int64_t d = m->cfg.d_model, n = texts->offsets[texts->n];
    float *h = fm_malloc((size_t)(FM_MAX(n, 1) * d) * sizeof *h);
    if (!h) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for hidden states of %lld tokens", (long long)n);
    }
    fm_status s = fm_model_hidden(m, texts, h);
    for (int32_t i = 0; i < texts->n && s == FM_OK; i++) {
        int32_t begin = texts->offsets[i];
        pool(out + i * d, h + begin * d, texts->offsets[i + 1] - begin, d, p, normalize);
    }
    fm_free(h);
    return s;
}
