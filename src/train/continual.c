/* Earlier rows: measuring, elastic weight consolidation, distillation replay. */
#include "train/continual.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "io/safetensors.h"
#include "train/finetune.h"
#include "train/run.h"

typedef struct earlier {
    char name[64];
    fm_dataset *data;
    fm_sampler sampler;
    void *objective;
    double before, after;
} earlier;

struct fm_continual {
    earlier measured[FM_MAX_EARLIER];
    int n;
    earlier rows; /* replay_dataset */
    int n_params;
    float **fisher, **anchor; /* [n_params], NULL for frozen and tied ones */
    fm_model *teacher;
    fm_windows *windows;
    int32_t *pick; /* [seq_len] tokens of a window that are answered */
    float *soft;   /* [seq_len, V]: what the old model says, as logits, then less the hard target */
};

fm_status fm_continual_check(const fm_train_config *c) {
    bool ewc = c->ewc_lambda > 0, replay = c->replay_ratio > 0;
    if ((ewc || replay) && (!c->model_name_or_path || c->train_from_scratch)) {
        FM_FAIL(FM_ERR_CONFIG, "%s keeps what a model has learned: set model_name_or_path, without train_from_scratch",
                ewc ? "ewc_lambda" : "replay_ratio");
    }
    if (ewc && c->replay_dataset.n == 0 && !c->ewc_fisher) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                     "ewc_lambda needs rows, or the Fisher information of an earlier run");
        return fm_error_hint("replay_dataset=ROWS, or ewc_fisher=OUTPUT/fisher.safetensors");
    }
    if (replay && c->replay_dataset.n == 0) {
        FM_FAIL(FM_ERR_CONFIG, "replay_ratio needs rows that the old model learned from: set replay_dataset");
    }
    const char *type = c->finetuning_type ? c->finetuning_type : "full";
    if (ewc && (strcmp(type, "lora") == 0 || strcmp(type, "progressive") == 0)) {
        fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                     "ewc_lambda holds weights where they were; %s leaves them there",
                     *type == 'l' ? "an adapter" : "a new column");
        return fm_error_hint("finetuning_type full or freeze; %s takes replay_ratio",
                             *type == 'l' ? "an adapter" : "a new column");
    }
    if (replay && c->stage && strcmp(c->stage, "sft") != 0 && strcmp(c->stage, "pt") != 0) {
        fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                     "replay_ratio distils a language model head; stage %s trains another", c->stage);
        return fm_error_hint("stages pt and sft; others take ewc_lambda");
    }
    if (c->earlier_dataset.n > FM_MAX_EARLIER) {
        FM_FAIL(FM_ERR_CONFIG, "earlier_dataset: at most %d, found %zu", FM_MAX_EARLIER, c->earlier_dataset.n);
    }
    return FM_OK;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static fm_status open_sampler(const fm_trainer *r, earlier *e, bool shuffle) {
    int32_t len = r->seq_len;
    if (!fm_dataset_is_examples(e->data)) {
        len = (int32_t)FM_MIN((int64_t)len, fm_dataset_tokens(e->data));
    }
    return fm_sampler_init(&e->sampler, e->data, len, (uint64_t)r->cfg->seed, shuffle);
}

/* "NAME=PATH", or a path whose last part is the name. */
static const char *split(char *name, size_t cap, const char *entry) {
    const char *eq = strchr(entry, '='), *slash = strrchr(entry, '/');
    if (eq && eq > entry && !memchr(entry, '/', (size_t)(eq - entry))) {
        snprintf(name, cap, "%.*s", (int)FM_MIN((size_t)(eq - entry), cap - 1), entry);
        return eq + 1;
    }
    snprintf(name, cap, "%s", slash && slash[1] ? slash + 1 : entry);
    return entry;
}

fm_status fm_continual_open(fm_trainer *r) {
    const fm_train_config *c = r->cfg;
    FM_TRY(fm_continual_check(c));
    if (c->earlier_dataset.n == 0 && c->ewc_lambda <= 0 && c->replay_ratio <= 0) {
        return FM_OK;
    }
    fm_continual *k = r->continual = fm_calloc(1, sizeof *k);
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for earlier rows");
    }
    for (size_t i = 0; i < c->earlier_dataset.n; i++) {
        earlier *e = &k->measured[k->n++];
        char cache[32];
        char *path = (char *)(uintptr_t)split(e->name, sizeof e->name, c->earlier_dataset.item[i]);
        e->before = e->after = NAN;
        snprintf(cache, sizeof cache, "earlier-%zu", i);
        FM_TRY(fm_trainer_open_more(r, &e->data, &(fm_strlist){.item = &path, .n = 1}, cache));
        FM_TRY(open_sampler(r, e, false));
    }
    if (c->replay_dataset.n > 0) {
        FM_TRY(fm_trainer_open_more(r, &k->rows.data, &c->replay_dataset, "replay"));
        FM_TRY(open_sampler(r, &k->rows, true));
    }
    return FM_OK;
}

int64_t fm_continual_bytes(const fm_trainer *r) {
    int64_t n = 0, v = r->model->cfg.vocab_size;
    if (r->continual && r->cfg->ewc_lambda > 0) {
        n += 8 * fm_params_numel(r->params);
    }
    if (r->continual && r->cfg->replay_ratio > 0) {
        n += 4 * fm_params_numel(r->model->params) + 4 * v * r->seq_len;
    }
    return n;
}

/* ---- measuring -------------------------------------------------------------------------------- */

static fm_status measure(fm_trainer *r, earlier *e, double *loss) {
    fm_dataset *data = r->eval_data;
    fm_sampler sampler = r->eval_sampler;
    void *objective = r->eval_objective;
    fm_eval_result result = {.loss = NAN};
    r->eval_data = e->data;
    r->eval_sampler = e->sampler;
    r->eval_objective = e->objective;
    /* Earlier rows are answered by the column that learned them, not by one that is added now. */
    int32_t column = r->model->column;
    r->model->column = r->choice.finetune->reshape ? column - 1 : column;
    fm_status s = fm_trainer_evaluate(r, &result);
    r->model->column = column;
    r->eval_data = data;
    r->eval_sampler = sampler;
    r->eval_objective = objective;
    *loss = result.loss;
    return s;
}

static fm_status report_path(const fm_trainer *r, char *path, size_t cap) {
    return fm_path_join(path, cap, r->cfg->output_dir, "forgetting.json");
}

static fm_status write_report(const fm_trainer *r) {
    const fm_continual *k = r->continual;
    char path[4096];
    fm_str text = {0};
    FM_TRY(report_path(r, path, sizeof path));
    fm_json *o = fm_json_new_object();
    fm_status s = fm_json_set(o, "step", fm_json_new_int(r->st.step));
    s = s == FM_OK ? fm_json_set(o, "earlier", fm_json_new_array()) : s;
    for (int i = 0; i < k->n && s == FM_OK; i++) {
        const earlier *e = &k->measured[i];
        fm_json *list = fm_json_get(o, "earlier");
        s = fm_json_append(list, fm_json_new_object());
        fm_json *row = fm_json_at(list, (size_t)i);
        s = s == FM_OK ? fm_json_set(row, "name", fm_json_new_str(e->name)) : s;
        s = s == FM_OK ? fm_json_set(row, "loss_before", fm_json_new_num(e->before)) : s;
        s = s == FM_OK ? fm_json_set(row, "loss_after", fm_json_new_num(e->after)) : s;
        s = s == FM_OK ? fm_json_set(row, "forgotten", fm_json_new_num(e->after - e->before)) : s;
    }
    s = s == FM_OK ? fm_json_dump(&text, o, 2) : s;
    s = s == FM_OK ? fm_file_write_atomic(path, text.data, text.len) : s;
    fm_str_free(&text);
    fm_json_free(o);
    return s;
}

/* What a resumed run measured before its first step. */
static void read_before(fm_trainer *r) {
    char path[4096];
    fm_json *o = NULL;
    if (report_path(r, path, sizeof path) == FM_OK && fm_path_exists(path) && fm_json_load(&o, path) == FM_OK) {
        const fm_json *list = fm_json_get(o, "earlier");
        for (int i = 0; i < r->continual->n; i++) {
            const fm_json *row = fm_json_at(list, (size_t)i);
            const char *name = fm_json_str(fm_json_get(row, "name"), NULL);
            if (name && strcmp(name, r->continual->measured[i].name) == 0) {
                r->continual->measured[i].before = fm_json_num(fm_json_get(row, "loss_before"), NAN);
            }
        }
    }
    fm_json_free(o);
    fm_error_clear();
}

/* ---- elastic weight consolidation ------------------------------------------------------------- */

static float *grad_of(fm_param *p) {
    FM_ASSERT(p->grad && fm_dtype_acc(p->dtype) == FM_F32);
    if (!p->grad_written) {
        memset(p->grad, 0, (size_t)p->numel * sizeof(float));
        p->grad_written = true;
    }
    return p->grad;
}

static fm_status take_memory(fm_trainer *r) {
    fm_continual *k = r->continual;
    k->n_params = fm_params_count(r->params);
    k->fisher = fm_calloc((size_t)k->n_params + 1, sizeof *k->fisher);
    k->anchor = fm_calloc((size_t)k->n_params + 1, sizeof *k->anchor);
    bool ok = k->fisher && k->anchor;
    for (int i = 0; ok && i < k->n_params; i++) {
        const fm_param *p = fm_params_at(r->params, i);
        if (!p->tie && !p->frozen) {
            k->fisher[i] = fm_calloc((size_t)p->numel + 1, sizeof(float));
            k->anchor[i] = fm_calloc((size_t)p->numel + 1, sizeof(float));
            ok = k->fisher[i] && k->anchor[i];
        }
    }
    if (!ok) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the Fisher information of %lld weights",
                (long long)fm_params_numel(r->params));
    }
    return FM_OK;
}

/* One window forward and backward, without dropout; *n its trained tokens. */
static fm_status window_gradient(fm_trainer *r, int64_t *n) {
    const fm_objective *o = r->choice.objective;
    fm_continual *k = r->continual;
    fm_ctx *c = r->ctx;
    FM_TRY(o->load(k->rows.objective, &k->rows.sampler, 1));
    *n = o->n_trained(k->rows.objective, 0, 1);
    fm_params_begin_step(r->params);
    fm_ctx_set_training(c, false);
    fm_tape_begin(c);
    fm_tensor *loss = o->loss(k->rows.objective, c, 0, 1, 1.0, NULL);
    FM_TRY(fm_ctx_status(c));
    return *n > 0 ? fm_backward(c, loss, 1.0) : FM_OK;
}

static fm_status compute_fisher(fm_trainer *r) {
    fm_continual *k = r->continual;
    int64_t tokens = 0, total = FM_MIN(r->cfg->ewc_samples, k->rows.sampler.n_samples);
    fm_meter meter;
    fm_meter_start(&meter, "Fisher information", "windows", (double)total);
    k->rows.sampler.at = (fm_cursor){0};
    for (int64_t w = 0; w < total; w++) {
        int64_t n = 0;
        FM_TRY(window_gradient(r, &n));
        /* Several tasks: their loss is a mean already. */
        double up = r->choice.objective->several ? (double)n : 1;
        for (int i = 0; i < k->n_params && n > 0; i++) {
            fm_param *p = fm_params_at(r->params, i);
            const float *g = k->fisher[i] && p->grad_written ? p->grad : NULL;
            for (int64_t j = 0; g && j < p->numel; j++) {
                k->fisher[i][j] += (float)(up * up * (double)g[j] * (double)g[j]);
            }
        }
        tokens += n;
        fm_meter_update(&meter, (double)w, "");
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted while the Fisher information was computed");
        }
    }
    fm_meter_end(&meter, (double)total, "");
    for (int i = 0; i < k->n_params; i++) {
        for (int64_t j = 0; k->fisher[i] && j < fm_params_at(r->params, i)->numel; j++) {
            k->fisher[i][j] /= (float)FM_MAX(tokens, 1);
        }
    }
    return FM_OK;
}

/* Adds (or reads) the tensors PREFIX/NAME of a file. */
static fm_status read_vectors(fm_trainer *r, const char *path, const char *prefix, float **out) {
    fm_safetensors *st;
    FM_TRY(fm_safetensors_open(&st, path));
    fm_status s = FM_OK;
    for (int i = 0; i < r->continual->n_params && s == FM_OK; i++) {
        const fm_param *p = fm_params_at(r->params, i);
        const fm_st_tensor *t = NULL;
        char name[512];
        snprintf(name, sizeof name, "%s/%s", prefix, p->name);
        t = out[i] ? fm_safetensors_find(st, name) : NULL;
        if (t && (t->dtype != FM_F32 || t->bytes != p->numel * 4)) {
            s = fm_error_set(FM_ERR_SHAPE, __FILE__, __LINE__, "%s: %s has %lld bytes of %s, expected %lld of f32",
                             path, name, (long long)t->bytes, t->dtype_name, (long long)p->numel * 4);
        }
        for (int64_t j = 0; t && s == FM_OK && j < p->numel; j++) {
            float v;
            memcpy(&v, (const char *)t->data + 4 * j, sizeof v);
            out[i][j] += v;
        }
    }
    fm_safetensors_close(st);
    return s;
}

/* Writes DIR/BASE.safetensors: fisher/NAME, and anchor/NAME unless anchor is NULL. */
static fm_status write_vectors(const fm_trainer *r, const char *dir, const char *base, bool anchors) {
    const fm_continual *k = r->continual;
    float *const *const set[] = {k->fisher, k->anchor};
    static const char *const prefix[] = {"fisher", "anchor"};
    fm_st_writer *w;
    fm_st_writer_options o = {.base = base};
    FM_TRY(fm_st_writer_new(&w, dir, &o));
    fm_status s = fm_st_writer_metadata(w, "format", "fathom-ewc");
    for (int put = 0; put < 2 && s == FM_OK; put++) {
        for (int v = 0; v < (anchors ? 2 : 1); v++) {
            for (int i = 0; i < k->n_params && s == FM_OK; i++) {
                const fm_param *p = fm_params_at(r->params, i);
                char name[512];
                snprintf(name, sizeof name, "%s/%s", prefix[v], p->name);
                if (set[v][i]) {
                    s = put ? fm_st_writer_put(w, name, 0, set[v][i], p->numel * 4)
                            : fm_st_writer_declare(w, name, FM_F32, p->n_dims, p->dim);
                }
            }
        }
        s = s == FM_OK && !put ? fm_st_writer_begin(w) : s;
    }
    s = s == FM_OK ? fm_st_writer_finish(w) : s;
    fm_st_writer_free(w);
    return s;
}

static fm_status begin_ewc(fm_trainer *r) {
    fm_continual *k = r->continual;
    char dir[4096], path[4096];
    FM_TRY(take_memory(r));
    FM_TRY(fm_path_join(dir, sizeof dir, r->cfg->output_dir, "cache"));
    FM_TRY(fm_mkdirs(dir));
    FM_TRY(fm_path_join(path, sizeof path, dir, "ewc.safetensors"));
    if (r->resumed_step > 0) { /* the weights that the run began with are no longer in memory */
        FM_TRY(read_vectors(r, path, "fisher", k->fisher));
        return read_vectors(r, path, "anchor", k->anchor);
    }
    for (int i = 0; i < k->n_params; i++) {
        const fm_param *p = fm_params_at(r->params, i);
        if (k->anchor[i]) {
            memcpy(k->anchor[i], p->data, (size_t)p->numel * sizeof(float));
        }
    }
    if (k->rows.data) {
        FM_TRY(compute_fisher(r));
    }
    if (r->cfg->ewc_fisher) {
        FM_TRY(read_vectors(r, r->cfg->ewc_fisher, "fisher", k->fisher));
    }
    return write_vectors(r, dir, "ewc", true);
}

static void add_ewc(fm_trainer *r) {
    fm_continual *k = r->continual;
    double strength = r->cfg->ewc_lambda * r->st.loss_scale.scale;
    for (int i = 0; i < k->n_params; i++) {
        fm_param *p = fm_params_at(r->params, i);
        if (!k->fisher[i]) {
            continue;
        }
        float *g = grad_of(p);
        const float *w = p->data, *f = k->fisher[i], *a = k->anchor[i];
        for (int64_t j = 0; j < p->numel; j++) {
            g[j] += (float)(strength * (double)f[j] * (double)(w[j] - a[j]));
        }
    }
}

/* ---- replay ----------------------------------------------------------------------------------- */

/* scale * sum over rows of T^2 * cross-entropy of softmax(z/T) against q, where soft = q less the hard target. */
static fm_tensor *soft_loss(fm_ctx *c, const fm_model *m, const fm_batch *b, const int32_t *pick, int32_t n,
                            float *soft, const int32_t *hard, double scale, double temperature) {
    fm_tensor *h = fm_model_forward(c, m, b);
    h = h ? fm_gather(c, h, fm_from_memory(c, FM_I32, 1, (int64_t[]){n}, (void *)(uintptr_t)pick)) : NULL;
    fm_tensor *z = h ? fm_head_logits(c, m, h) : NULL;
    z = z ? fm_scale(c, z, 1 / temperature) : NULL;
    fm_tensor *t = fm_from_memory(c, FM_I32, 1, (int64_t[]){n}, (void *)(uintptr_t)hard);
    fm_loss_options o = {.ignore_index = -100, .scale = scale * temperature * temperature};
    fm_tensor *ce = z ? fm_cross_entropy(c, z, t, &o, NULL) : NULL;
    fm_tensor *q = fm_from_memory(c, FM_F32, 2, (int64_t[]){n, m->cfg.vocab_size}, soft);
    q = z && z->dtype != FM_F32 ? fm_cast(c, q, z->dtype) : q;
    return ce ? fm_add(c, ce, fm_scale(c, fm_sum_all(c, fm_mul(c, z, q)), -o.scale)) : NULL;
}

/* Probabilities of the old model in the rows, less 1 at the hard target. */
static void soften(float *soft, const int32_t *hard, int32_t n, int32_t v, double temperature) {
    for (int32_t i = 0; i < n; i++) {
        float *x = soft + (int64_t)i * v;
        double top = -INFINITY, sum = 0;
        for (int32_t j = 0; j < v; j++) {
            top = fmax(top, (double)x[j]);
        }
        for (int32_t j = 0; j < v; j++) {
            double e = exp(((double)x[j] - top) / temperature);
            x[j] = (float)e;
            sum += e;
        }
        for (int32_t j = 0; j < v; j++) {
            x[j] = (float)((double)x[j] / sum);
        }
        x[hard[i]] -= 1;
    }
}

/* The tokens of the loaded window that carry loss, and what the old model says there. */
static fm_status ask_teacher(fm_trainer *r, const fm_batch *b, int32_t *hard, int32_t *n) {
    fm_continual *k = r->continual;
    int32_t v = r->model->cfg.vocab_size;
    *n = 0;
    for (int32_t t = 0; t < b->n_tokens; t++) {
        if (b->targets[t] >= 0) {
            k->pick[*n] = t;
            hard[(*n)++] = b->targets[t];
        }
    }
    if (*n == 0) {
        return FM_OK;
    }
    fm_texts texts = {.size = sizeof texts, .ids = b->ids, .offsets = b->q_offsets, .n = b->n_segments};
    FM_TRY(fm_model_logits_at(k->teacher, &texts, k->pick, *n, k->soft));
    soften(k->soft, hard, *n, v, r->cfg->replay_temperature);
    return FM_OK;
}

static int64_t windows_a_step(const fm_trainer *r) {
    return FM_MAX(1, (int64_t)llround(r->cfg->replay_ratio * (double)r->plan.step_samples));
}

static fm_status replay(fm_trainer *r) {
    fm_continual *k = r->continual;
    fm_ctx *c = r->ctx;
    int64_t count = windows_a_step(r), first = r->st.step * count, all = k->rows.sampler.n_samples;
    int32_t *hard = fm_malloc((size_t)r->seq_len * sizeof *hard);
    fm_status s = hard ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for replay");
    for (int64_t i = 0; i < count && s == FM_OK; i++) {
        int32_t n = 0;
        k->rows.sampler.at = (fm_cursor){.epoch = (first + i) / all, .index = (first + i) % all};
        s = fm_windows_load(k->windows, &k->rows.sampler, 1);
        if (s != FM_OK) {
            break;
        }
        fm_batch b = fm_windows_batch(k->windows, 0, 1);
        s = ask_teacher(r, &b, hard, &n);
        if (s != FM_OK || n == 0) {
            continue;
        }
        b.targets = NULL;
        fm_ctx_set_training(c, true);
        fm_ctx_set_step(c, (uint32_t)r->st.step, (uint64_t)(r->plan.step_samples + i) * (uint64_t)r->seq_len);
        fm_tape_begin(c);
        double scale = r->cfg->replay_weight * r->st.loss_scale.scale / (double)n / (double)count;
        fm_tensor *loss = soft_loss(c, r->model, &b, k->pick, n, k->soft, hard, scale, r->cfg->replay_temperature);
        s = loss ? fm_backward(c, loss, 1.0) : fm_ctx_status(c);
    }
    fm_free(hard);
    return s;
}

static fm_status begin_replay(fm_trainer *r) {
    fm_continual *k = r->continual;
    const char *path = r->cfg->replay_model ? r->cfg->replay_model : r->cfg->model_name_or_path;
    fm_model_options o = {.size = sizeof o, .threads = (int)r->cfg->threads};
    FM_TRY(fm_model_open(&k->teacher, path, &o));
    if (!fm_model_generates(k->teacher) || k->teacher->cfg.vocab_size != r->model->cfg.vocab_size) {
        FM_FAIL(FM_ERR_CONFIG, "replay_model %s: expected a language model with %d token ids, found %d", path,
                r->model->cfg.vocab_size, k->teacher->cfg.vocab_size);
    }
    fm_objective_env env = {.model = r->model,
                            .data = k->rows.data,
                            .seq_len = k->rows.sampler.seq_len,
                            .vocab = fm_dataset_vocab(r->data)};
    FM_TRY(fm_windows_new(&k->windows, &env));
    k->pick = fm_malloc((size_t)r->seq_len * sizeof *k->pick);
    k->soft = fm_malloc((size_t)r->seq_len * (size_t)r->model->cfg.vocab_size * sizeof *k->soft);
    if (!k->pick || !k->soft) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for what the old model says of %d tokens", r->seq_len);
    }
    return FM_OK;
}

fm_status fm_continual_measure(fm_trainer *r, int64_t *arena, int64_t *grads) {
    *arena = *grads = 0;
    if (!r->continual || r->cfg->replay_ratio <= 0) {
        return FM_OK;
    }
    fm_ctx *c = NULL;
    fm_ctx_options co = {.size = sizeof co, .compute = r->choice.compute};
    int32_t n = r->continual->rows.sampler.seq_len, *zero = fm_calloc((size_t)n + 1, sizeof *zero);
    fm_status s = zero ? fm_ctx_new(&c, &co) : FM_ERR_NO_MEMORY;
    if (s == FM_OK) {
        int32_t ends[2] = {0, n};
        fm_batch b = {.n_tokens = n, .n_segments = 1, .ids = zero, .pos = zero, .q_offsets = ends};
        fm_ctx_set_training(c, true);
        fm_tape_begin(c);
        fm_tensor *loss = soft_loss(c, r->model, &b, zero, n, NULL, zero, 1, 1);
        s = loss ? fm_backward(c, loss, 1.0) : fm_ctx_status(c);
    }
    if (s == FM_OK) {
        *arena = fm_ctx_arena_peak(c);
        *grads = fm_ctx_grad_peak(c);
    }
    fm_ctx_free(c);
    fm_free(zero);
    return s;
}

/* ---- a run ------------------------------------------------------------------------------------ */

fm_status fm_continual_begin(fm_trainer *r) {
    fm_continual *k = r->continual;
    if (!k) {
        return FM_OK;
    }
    if (k->rows.data) {
        FM_TRY(fm_trainer_open_objective(r, &k->rows.objective, k->rows.data, k->rows.sampler.seq_len));
    }
    if (r->resumed_step > 0) {
        read_before(r);
    }
    for (int i = 0; i < k->n; i++) {
        earlier *e = &k->measured[i];
        FM_TRY(fm_trainer_open_objective(r, &e->objective, e->data, e->sampler.seq_len));
        FM_TRY(r->resumed_step > 0 ? FM_OK : measure(r, e, &e->before));
    }
    FM_TRY(k->n > 0 && r->resumed_step == 0 ? write_report(r) : FM_OK);
    FM_TRY(r->cfg->ewc_lambda > 0 ? begin_ewc(r) : FM_OK);
    return r->cfg->replay_ratio > 0 ? begin_replay(r) : FM_OK;
}

fm_status fm_continual_add(fm_trainer *r) {
    if (r->continual && r->cfg->replay_ratio > 0) {
        FM_TRY(replay(r));
    }
    if (r->continual && r->cfg->ewc_lambda > 0) {
        add_ewc(r);
    }
    return FM_OK;
}

fm_status fm_continual_finish(fm_trainer *r) {
    fm_continual *k = r->continual;
    for (int i = 0; k && i < k->n; i++) {
        earlier *e = &k->measured[i];
        FM_TRY(measure(r, e, &e->after));
        fm_info("earlier rows %s: loss %.4f before, %.4f after (%+.4f)", e->name, e->before, e->after,
                e->after - e->before);
    }
    FM_TRY(k && k->n > 0 ? write_report(r) : FM_OK);
    return k && k->fisher ? write_vectors(r, r->cfg->output_dir, "fisher", false) : FM_OK;
}

static void close_earlier(fm_trainer *r, earlier *e) {
    if (e->objective) {
        r->choice.objective->close(e->objective);
    }
    fm_sampler_deinit(&e->sampler);
    fm_dataset_close(e->data);
}

void fm_continual_free(fm_trainer *r) {
    fm_continual *k = r->continual;
    if (!k) {
        return;
    }
    for (int i = 0; i < k->n; i++) {
        close_earlier(r, &k->measured[i]);
    }
    close_earlier(r, &k->rows);
    for (int i = 0; i < k->n_params; i++) {
        if (k->fisher && k->anchor) {
            fm_free(k->fisher[i]);
            fm_free(k->anchor[i]);
        }
    }
    fm_free(k->fisher);
    fm_free(k->anchor);
    fm_model_close(k->teacher);
    fm_windows_close(k->windows);
    fm_free(k->pick);
    fm_free(k->soft);
    fm_free(k);
    r->continual = NULL;
}
