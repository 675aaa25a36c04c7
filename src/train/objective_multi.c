/* Several tasks on one trunk: a window holds examples of any of them, the trunk runs once, and each task's head gives
 * the loss of its own examples. The loss of a step is the sum over tasks of weight * mean loss of the task's units
 * (texts, tagged words, written tokens) in that step; weighted by uncertainty, a task counts exp(-s) and pays s/2
 * (Kendall et al. 2018), s a parameter of the model. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/judge.h"
#include "train/tasks.h"

#define METRIC_NAME 96

typedef struct task {
    char name[FM_MAX_TASK_NAME];
    int head;
    const fm_head_config *cfg; /* of the head */
    int32_t n_values;
    double weight;
    float *label_weight; /* [labels] or NULL */
    float *mark_weight;  /* of written tokens, [n_marks] */
    int32_t n_marks;
    /* Of the loaded step: units, and the first window that has one. */
    int64_t n_step, first_window;
    /* Of the micro-batch in work: */
    int64_t n_batch;
    int32_t *labels;                /* [segments] */
    float *values, *segment_weight; /* [segments, n_values] [segments] */
    int32_t *targets, *rows;        /* [tokens]; rows of written tokens, targets then by row */
    float *row_weight;              /* [tokens] of written tokens */
    int32_t n_rows;
    /* Of an evaluation: */
    fm_judge judge;
    double loss_sum;
    int64_t n_loss;
} task;

typedef struct multi {
    fm_windows w; /* first: the helpers of windows take it */
    task task[FM_MAX_TASKS];
    int n;
    bool uncertain;
    int64_t cap_tokens, cap_segments;
    float *row; /* [values of the dataset] */
    char metric[FM_MAX_METRICS][METRIC_NAME];
} multi;

static bool written(const task *t) {
    return t->cfg->kind == FM_HEAD_LM;
}
static bool tagged(const task *t) {
    return t->cfg->kind == FM_HEAD_TOKEN && t->cfg->problem == FM_PROBLEM_SINGLE;
}
static bool labelled(const task *t) {
    return t->cfg->kind == FM_HEAD_TEXT && t->cfg->problem == FM_PROBLEM_SINGLE;
}

static void free_batch(task *t) {
    fm_free(t->labels);
    fm_free(t->values);
    fm_free(t->segment_weight);
    fm_free(t->targets);
    fm_free(t->rows);
    fm_free(t->row_weight);
    t->labels = t->targets = t->rows = NULL;
    t->values = t->segment_weight = t->row_weight = NULL;
}

static void close_multi(void *state) {
    multi *k = state;
    for (int i = 0; k && i < FM_MAX_TASKS; i++) {
        free_batch(&k->task[i]);
        fm_free(k->task[i].label_weight);
        fm_free(k->task[i].mark_weight);
        fm_judge_deinit(&k->task[i].judge);
    }
    if (k) {
        fm_free(k->row);
        fm_windows_close(state); /* its block is this one */
    }
}

static fm_status read_marks(task *t, const fm_json *list) {
    t->n_marks = (int32_t)FM_MIN(fm_json_size(list), (size_t)INT16_MAX);
    t->mark_weight = fm_calloc((size_t)t->n_marks + 1, sizeof *t->mark_weight);
    if (!t->mark_weight) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    for (int32_t i = 0; i < t->n_marks; i++) {
        t->mark_weight[i] = (float)fm_json_num(fm_json_at(list, (size_t)i), 0);
    }
    return FM_OK;
}

static fm_status open_task(multi *k, int i, const fm_json *o) {
    const fm_objective_env *env = &k->w.env;
    const fm_model *m = env->model;
    const char *name = fm_json_str(fm_json_get(o, "name"), NULL), *kind = fm_json_str(fm_json_get(o, "kind"), NULL);
    task *t = &k->task[i];
    bool text = kind && strcmp(kind, "sft") == 0;
    snprintf(t->name, sizeof t->name, "%s", name ? name : "");
    t->head = text ? 0 : fm_head_find(m, t->name);
    if (t->head < 0 || (text && m->cfg.head.kind != FM_HEAD_LM)) {
        FM_FAIL(FM_ERR_CONFIG, "the model has no head for task %s", t->name);
    }
    t->cfg = m->heads[t->head].cfg;
    t->n_values = (int32_t)fm_json_int(fm_json_get(o, "n_values"), 0);
    t->weight = 1;
    bool span = t->cfg->problem == FM_PROBLEM_SPAN;
    int32_t want = span ? 2 : t->cfg->kind != FM_HEAD_TEXT ? 0 : labelled(t) ? 1 : t->cfg->n_labels;
    if (env->data && (t->n_values != want || 1 + want > fm_dataset_n_values(env->data))) {
        FM_FAIL(FM_ERR_CONFIG, "%s has %d values for task %s, the model's head needs %d", fm_dataset_dir(env->data),
                t->n_values, t->name, want);
    }
    t->n_values = want;
    FM_TRY(text ? read_marks(t, fm_json_get(o, "mark_weights")) : FM_OK);
    if (env->data && env->balance_labels && labelled(t)) {
        FM_TRY(fm_label_weights(&t->label_weight, env->data, t->cfg->n_labels, i, 1));
    }
    return fm_judge_init(&t->judge, t->cfg, fm_json_get(o, "labels"), env->data ? fm_dataset_dir(env->data) : NULL,
                         env->seq_len);
}

/* Without data (a plan): all heads of the model. */
static fm_status open_heads(multi *k) {
    const fm_model *m = k->w.env.model;
    for (int i = 1; i < m->n_heads && k->n < FM_MAX_TASKS; i++) {
        task *t = &k->task[k->n++];
        t->head = i;
        t->cfg = m->heads[i].cfg;
        t->weight = 1;
        bool one = labelled(t) || t->cfg->kind == FM_HEAD_TOKEN;
        t->n_values = one ? 2 : t->cfg->n_labels;
        FM_TRY(fm_judge_init(&t->judge, t->cfg, NULL, NULL, k->w.env.seq_len));
    }
    if (k->n == 0) {
        FM_FAIL(FM_ERR_CONFIG, "stage multi: the model has no heads, and there is no packed data that names tasks");
    }
    return FM_OK;
}

static fm_status weigh(multi *k) {
    fm_task_spec spec[FM_MAX_TASKS] = {0};
    double weight[FM_MAX_TASKS], share[FM_MAX_TASKS] = {0};
    const fm_dataset *d = k->w.env.train;
    for (int64_t i = 0; d && i < fm_dataset_documents(d); i++) {
        fm_dataset_values(d, i, k->row);
        if (!(k->row[0] >= 0 && k->row[0] < (float)k->n)) {
            FM_FAIL(FM_ERR_CORRUPT, "%s: text %lld has task %g, there are %d", fm_dataset_dir(d), (long long)i,
                    (double)k->row[0], k->n);
        }
        share[(int)k->row[0]] += 1 / (double)fm_dataset_documents(d);
    }
    for (int i = 0; i < k->n; i++) {
        memcpy(spec[i].name, k->task[i].name, sizeof spec[i].name);
    }
    if (k->w.env.task_weights && k->w.env.dataset) {
        FM_TRY(fm_tasks_weigh(weight, spec, k->n, k->w.env.task_weights, share));
        for (int i = 0; i < k->n; i++) {
            k->task[i].weight = weight[i];
        }
    }
    return FM_OK;
}

static fm_status open_multi(void **state, const fm_objective_env *env) {
    multi *k = fm_calloc(1, sizeof *k);
    *state = k;
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    k->w.env = *env;
    k->uncertain = env->task_weights && fm_tasks_uncertain(env->task_weights) && env->model->log_vars;
    k->row = fm_calloc((size_t)FM_MAX(env->data ? fm_dataset_n_values(env->data) : 0,
                                      env->train ? fm_dataset_n_values(env->train) : 0) +
                           1,
                       sizeof *k->row);
    if (!k->row) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    const fm_json *tasks = fm_json_get(env->dataset, "tasks");
    if (fm_json_size(tasks) == 0) {
        return open_heads(k);
    }
    if (fm_json_size(tasks) > FM_MAX_TASKS) {
        FM_FAIL(FM_ERR_FORMAT, "the dataset has %zu tasks, at most %d are learned", fm_json_size(tasks), FM_MAX_TASKS);
    }
    for (size_t i = 0; i < fm_json_size(tasks); i++) {
        k->n = (int)i + 1;
        FM_TRY(open_task(k, (int)i, fm_json_at(tasks, i)));
    }
    return weigh(k);
}

/* ---- a step ----------------------------------------------------------------------------------- */

static fm_status reserve(multi *k, int64_t tokens, int64_t segments) {
    if (tokens <= k->cap_tokens && segments <= k->cap_segments) {
        return FM_OK;
    }
    k->cap_tokens = k->cap_segments = 0;
    for (int i = 0; i < k->n; i++) {
        task *t = &k->task[i];
        size_t nt = (size_t)tokens, ns = (size_t)segments, nv = (size_t)FM_MAX(t->n_values, 1);
        free_batch(t);
        t->labels = fm_calloc(ns, sizeof *t->labels);
        t->segment_weight = fm_calloc(ns, sizeof *t->segment_weight);
        t->values = fm_calloc(ns * nv, sizeof *t->values);
        t->targets = fm_calloc(nt, sizeof *t->targets);
        t->rows = written(t) ? fm_calloc(nt, sizeof *t->rows) : NULL;
        t->row_weight = written(t) ? fm_calloc(nt, sizeof *t->row_weight) : NULL;
        if (!t->labels || !t->segment_weight || !t->values || !t->targets ||
            (written(t) && (!t->rows || !t->row_weight))) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a step of %lld tokens", (long long)tokens);
        }
    }
    k->cap_tokens = tokens;
    k->cap_segments = segments;
    return FM_OK;
}

/* Begin of segment g of window i, and its length. */
static int32_t segment(const fm_windows *w, int64_t i, int32_t g, int32_t *n) {
    int32_t begin = g > 0 ? w->ends[i * w->env.seq_len + g - 1] : 0;
    *n = w->ends[i * w->env.seq_len + g] - begin;
    return begin;
}

/* The task of a segment, its values in k->row; -1 for padding. */
static int task_of(multi *k, int64_t i, int32_t g) {
    const fm_windows *w = &k->w;
    int64_t document = w->document ? w->document[i * w->env.seq_len + g] : -1;
    if (document < 0 || !w->env.data) {
        return -1;
    }
    fm_dataset_values(w->env.data, document, k->row);
    return k->row[0] >= 0 && k->row[0] < (float)k->n ? (int)k->row[0] : -1;
}

/* Units of one segment: what its loss is a sum over. */
static int64_t units(const task *t, const fm_windows *w, int64_t at, int32_t n) {
    int64_t count = 0;
    if (!written(t) && !tagged(t)) {
        return 1;
    }
    for (int32_t s = written(t) ? 1 : 0; s < n; s++) {
        int16_t mark = w->mark[at + s];
        count += mark > 0 && (!written(t) || (mark < t->n_marks && t->mark_weight[mark] > 0));
    }
    return count;
}

static fm_status load(void *state, fm_sampler *s, int64_t n) {
    multi *k = state;
    fm_windows *w = &k->w;
    int64_t segments = 0;
    FM_TRY(fm_windows_load(state, s, n));
    for (int i = 0; i < k->n; i++) {
        k->task[i].n_step = s ? 0 : n;
        k->task[i].first_window = s ? -1 : 0;
    }
    for (int64_t i = 0; i < n; i++) {
        segments += w->n_ends[i];
        w->n_trained[i] = s ? 0 : 1;
        for (int32_t g = 0; s && g < w->n_ends[i]; g++) {
            int32_t len, begin = segment(w, i, g, &len);
            int which = task_of(k, i, g);
            if (which < 0) {
                continue;
            }
            task *t = &k->task[which];
            int64_t count = units(t, w, i * w->env.seq_len + begin, len);
            t->n_step += count;
            t->first_window = t->first_window < 0 ? i : t->first_window;
            w->n_trained[i] += count;
        }
    }
    return reserve(k, n * w->env.seq_len, segments);
}

static fm_status fill_text(const multi *k, task *t, int32_t g) {
    const float *v = k->row + 1;
    if (!labelled(t)) {
        memcpy(t->values + (int64_t)g * t->n_values, v, (size_t)t->n_values * sizeof *v);
        return FM_OK;
    }
    if (!(v[0] >= 0 && v[0] < (float)t->cfg->n_labels)) {
        FM_FAIL(FM_ERR_CORRUPT, "%s: a text of task %s has label %g, there are %d", fm_dataset_dir(k->w.env.data),
                t->name, (double)v[0], t->cfg->n_labels);
    }
    t->labels[g] = (int32_t)v[0];
    t->segment_weight[g] = t->label_weight ? t->label_weight[t->labels[g]] : 1;
    return FM_OK;
}

static fm_status fill_tokens(const multi *k, task *t, int64_t at, int32_t first, int32_t n) {
    const fm_windows *w = &k->w;
    for (int32_t s = 0; s < n; s++) {
        int16_t mark = w->mark[at + s];
        if (tagged(t) && mark > t->cfg->n_labels) {
            FM_FAIL(FM_ERR_CORRUPT, "%s: a word of task %s has tag %d, there are %d", fm_dataset_dir(w->env.data),
                    t->name, mark - 1, t->cfg->n_labels);
        }
        if (tagged(t)) {
            t->targets[first + s] = mark > 0 ? mark - 1 : -100;
        } else if (written(t) && s > 0 && mark > 0 && mark < t->n_marks && t->mark_weight[mark] > 0) {
            t->rows[t->n_rows] = first + s - 1; /* the token before it predicts it */
            t->targets[t->n_rows] = w->ids[at + s];
            t->row_weight[t->n_rows++] = t->mark_weight[mark];
        }
    }
    return FM_OK;
}

/* Nothing is asked of any segment or token yet; of made-up ones everything is. */
static void clear(multi *k, int64_t tokens, int64_t segments) {
    bool made_up = !k->w.env.data;
    for (int i = 0; i < k->n; i++) {
        task *t = &k->task[i];
        t->n_batch = made_up ? segments : 0;
        t->n_rows = 0;
        for (int64_t g = 0; g < segments; g++) {
            t->labels[g] = made_up ? 0 : -100;
            t->segment_weight[g] = 1;
        }
        for (int64_t v = 0; v < segments * t->n_values; v++) {
            t->values[v] = made_up ? 0 : NAN;
        }
        for (int64_t s = 0; s < tokens; s++) {
            t->targets[s] = made_up ? 0 : -100;
            if (made_up && written(t)) {
                t->rows[s] = (int32_t)s;
                t->row_weight[s] = 1;
                t->n_rows++;
            }
        }
    }
}

/* Windows [begin, end) as a batch of the trunk; the tasks' own arrays are filled. */
static fm_status batch(multi *k, int64_t begin, int64_t end, fm_batch *out) {
    fm_windows *w = &k->w;
    *out = fm_windows_batch(w, begin, end);
    out->targets = NULL;
    out->loss_weight = NULL;
    clear(k, out->n_tokens, out->n_segments);
    int32_t at = 0;
    for (int64_t i = begin; i < end; i++) {
        for (int32_t g = 0; g < w->n_ends[i]; g++, at++) {
            int32_t n, first = segment(w, i, g, &n);
            int which = task_of(k, i, g);
            if (which < 0) {
                continue;
            }
            task *t = &k->task[which];
            int64_t from = i * w->env.seq_len + first;
            t->n_batch += units(t, w, from, n);
            FM_TRY(written(t) || tagged(t) ? fill_tokens(k, t, from, (int32_t)(i - begin) * w->env.seq_len + first, n)
                                           : fill_text(k, t, at));
        }
    }
    return FM_OK;
}

/* What a task asks of the batch. */
static fm_batch part_of(const task *t, const fm_batch *trunk) {
    fm_batch b = *trunk;
    b.head = t->head;
    b.labels = t->labels;
    b.values = t->values;
    b.targets = written(t) || tagged(t) ? t->targets : NULL;
    b.rows = written(t) ? t->rows : NULL;
    b.n_rows = t->n_rows;
    return b;
}

static const float *weights_of(const task *t) {
    return written(t) ? t->row_weight : t->label_weight ? t->segment_weight : NULL;
}

static fm_tensor *loss(void *state, fm_ctx *c, int64_t begin, int64_t end, double scale, fm_tensor **token_loss) {
    multi *k = state;
    const fm_model *m = k->w.env.model;
    fm_batch trunk, part[FM_MAX_TASKS];
    fm_loss_options o[FM_MAX_TASKS];
    fm_tensor *y[FM_MAX_TASKS], *aux, *sum = NULL;
    task *of[FM_MAX_TASKS];
    int n = 0;
    FM_UNUSED(scale); /* each task is divided by its own count */
    fm_status s = batch(k, begin, end, &trunk);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    for (int i = 0; i < k->n; i++) {
        task *t = &k->task[i];
        if (t->n_batch == 0) {
            continue;
        }
        bool smooth = fm_ctx_training(c) && t->cfg->problem == FM_PROBLEM_SINGLE;
        of[n] = t;
        part[n] = part_of(t, &trunk);
        o[n++] = (fm_loss_options){.ignore_index = -100,
                                   .label_smoothing = smooth ? (float)k->w.env.label_smoothing : 0,
                                   .z_loss = smooth && written(t) ? (float)k->w.env.z_loss : 0,
                                   .scale = t->weight / (double)FM_MAX(t->n_step, 1),
                                   .weight = weights_of(t)};
    }
    FM_ASSERT(n > 0);
    if (!fm_model_losses(c, m, n, part, o, (double)(end - begin) / (double)k->w.n, y, &aux)) {
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        if (k->uncertain) {
            bool pays = of[i]->first_window >= begin && of[i]->first_window < end;
            y[i] = fm_uncertainty(c, y[i], fm_leaf(c, m->log_vars), (int32_t)(of[i] - k->task), pays);
        }
        sum = sum ? fm_add(c, sum, y[i]) : y[i];
    }
    if (token_loss) { /* plans of evaluations want one */
        *token_loss = sum;
    }
    return sum && aux ? fm_add(c, sum, aux) : sum;
}

/* ---- evaluation ------------------------------------------------------------------------------- */

static double judge_segments(const multi *k, task *t, const fm_batch *b, const float *x) {
    double sum = 0;
    for (int32_t g = 0; g < b->n_segments; g++) {
        int32_t at = b->q_offsets[g], n = b->q_offsets[g + 1] - at;
        const float *v = t->values + (int64_t)g * t->n_values;
        if (tagged(t)) {
            sum += fm_judge_tags(&t->judge, x + (int64_t)at * t->cfg->n_labels, t->targets + at, n);
        } else if (t->cfg->kind == FM_HEAD_TEXT && (labelled(t) ? t->labels[g] >= 0 : !isnan(v[0]))) {
            const float *row = x + (int64_t)g * t->cfg->n_labels;
            sum += fm_judge_text(&t->judge, row, t->labels[g], labelled(t) ? NULL : v);
        } else if (t->cfg->problem == FM_PROBLEM_SPAN && !isnan(v[0])) {
            const int16_t *mark = k->w.mark + (b->ids - k->w.ids) + at;
            int32_t first = 0;
            while (first < n - 1 && mark[first] == 0) {
                first++;
            }
            sum += fm_judge_span(&t->judge, x + 2 * (int64_t)at, n, first, (int32_t)v[0], (int32_t)v[1]);
        }
    }
    return sum;
}

static fm_status judge_written(const multi *k, task *t, fm_ctx *c, fm_tensor *hidden, const fm_batch *b, double *sum) {
    fm_loss_options o = {.ignore_index = -100, .scale = 1, .weight = t->row_weight};
    fm_tensor *rows = NULL, *y = fm_head_loss(c, k->w.env.model, hidden, b, &o, &rows);
    const float *v = y && rows ? fm_data(c, rows) : NULL;
    FM_TRY(fm_ctx_status(c));
    FM_ASSERT(v);
    for (int32_t i = 0; i < b->n_rows; i++) {
        *sum += (double)v[i];
    }
    return FM_OK;
}

static fm_status evaluate(void *state, fm_ctx *c, int64_t begin, int64_t end, double *sum) {
    multi *k = state;
    const fm_model *m = k->w.env.model;
    fm_batch trunk;
    FM_TRY(batch(k, begin, end, &trunk));
    fm_tensor *hidden = fm_model_forward(c, m, &trunk);
    for (int i = 0; i < k->n; i++) {
        task *t = &k->task[i];
        double of_task = 0;
        if (t->n_batch == 0) {
            continue;
        }
        fm_batch b = part_of(t, &trunk);
        if (written(t)) {
            FM_TRY(judge_written(k, t, c, hidden, &b, &of_task));
        } else {
            fm_tensor *scores = fm_head_scores(c, m, t->head, hidden, &b);
            const float *x = scores ? fm_data(c, scores) : NULL;
            FM_TRY(fm_ctx_status(c));
            FM_ASSERT(x && scores->dtype == FM_F32);
            of_task = judge_segments(k, t, &b, x);
        }
        t->loss_sum += of_task;
        t->n_loss += t->n_batch;
        *sum += of_task;
    }
    return FM_OK;
}

static void put(multi *k, fm_metric_value *out, int *n, const task *t, const char *what, double value) {
    FM_ASSERT(*n < FM_MAX_METRICS);
    snprintf(k->metric[*n], METRIC_NAME, "eval_%s_%s", t->name, what);
    out[*n] = (fm_metric_value){k->metric[*n], value};
    (*n)++;
}

static int metrics_of(void *state, fm_metric_value out[FM_MAX_METRICS]) {
    multi *k = state;
    int n = 1;
    double total = 0;
    for (int i = 0; i < k->n; i++) {
        task *t = &k->task[i];
        fm_metric_value own[FM_MAX_METRICS];
        double mean = t->n_loss > 0 ? t->loss_sum / (double)t->n_loss : NAN;
        total += t->n_loss > 0 ? t->weight * mean : 0;
        put(k, out, &n, t, "loss", mean);
        if (written(t)) {
            put(k, out, &n, t, "perplexity", exp(mean));
        }
        int n_own = fm_judge_metrics(&t->judge, own);
        for (int j = 0; j < n_own; j++) {
            put(k, out, &n, t, own[j].name + strlen("eval_"), own[j].value);
        }
        const fm_param *s = k->uncertain ? k->w.env.model->log_vars : NULL;
        if (s && s->data) {
            put(k, out, &n, t, "weight", t->weight * exp(-fm_load_as_f64(s->dtype, s->data, i)));
        }
        t->loss_sum = 0;
        t->n_loss = 0;
    }
    out[0] = (fm_metric_value){"eval_loss", total};
    return n;
}

/* ---- the heads that the data asks for --------------------------------------------------------- */

static fm_status head_of(fm_head_config *h, const fm_json *t, const char *kind) {
    const char *problem = fm_json_str(fm_json_get(t, "problem"), NULL);
    int64_t labels = (int64_t)fm_json_size(fm_json_get(t, "labels"));
    bool several = problem && strcmp(problem, "multi_label_classification") == 0;
    if (strcmp(kind, "cls") == 0) {
        h->kind = FM_HEAD_TEXT;
        h->problem = several ? FM_PROBLEM_MULTI : FM_PROBLEM_SINGLE;
    } else if (strcmp(kind, "reg") == 0) {
        h->kind = FM_HEAD_TEXT;
        h->problem = FM_PROBLEM_REGRESSION;
        labels = fm_json_int(fm_json_get(t, "n_numbers"), 1);
    } else if (strcmp(kind, "tag") == 0 || strcmp(kind, "qa") == 0) {
        bool span = strcmp(kind, "qa") == 0;
        h->kind = FM_HEAD_TOKEN;
        h->problem = span ? FM_PROBLEM_SPAN : FM_PROBLEM_SINGLE;
        labels = span ? 2 : labels;
    } else {
        FM_FAIL(FM_ERR_FORMAT, "task %s of the dataset is of kind \"%.40s\", which is not known", h->name, kind);
    }
    h->n_labels = (int32_t)FM_MIN(labels, INT32_MAX);
    return fm_head_check(h);
}

static fm_status configure(fm_model_config *mc, const fm_json *dataset) {
    const fm_json *tasks = fm_json_get(dataset, "tasks");
    for (size_t i = 0; i < fm_json_size(tasks); i++) {
        const fm_json *t = fm_json_at(tasks, i);
        const char *name = fm_json_str(fm_json_get(t, "name"), NULL), *kind = fm_json_str(fm_json_get(t, "kind"), NULL);
        fm_head_config h = {.kind = FM_HEAD_LM};
        if (!name || !kind || strlen(name) >= sizeof h.name) {
            FM_FAIL(FM_ERR_FORMAT, "task %zu of the dataset has no name and kind", i);
        }
        memcpy(h.name, name, strlen(name) + 1);
        if (strcmp(kind, "sft") == 0) {
            if (mc->head.kind != FM_HEAD_LM) {
                FM_FAIL(FM_ERR_CONFIG, "task %s writes answers: the model has no language model head", name);
            }
            continue;
        }
        FM_TRY(head_of(&h, t, kind));
        int32_t at = 0;
        while (at < mc->n_more_heads && strcmp(mc->more_heads[at].name, name) != 0) {
            at++;
        }
        if (at == FM_MAX_HEADS) {
            FM_FAIL(FM_ERR_CONFIG, "task %s: the model has %d heads already", name, FM_MAX_HEADS);
        }
        mc->more_heads[at] = h;
        mc->n_more_heads = FM_MAX(mc->n_more_heads, at + 1);
    }
    return FM_OK;
}

extern const fm_objective fm_objective_multi;
const fm_objective fm_objective_multi = {
    .name = "multi",
    .summary = "several tasks on one trunk",
    .rate = 5e-5,
    .examples = "multi",
    .several = true,
    .configure = configure,
    .open = open_multi,
    .close = close_multi,
    .load = load,
    .n_trained = fm_windows_n_trained,
    .row = fm_windows_row,
    .loss = loss,
    .scales_itself = true,
    .evaluate = evaluate,
    .metrics_of = metrics_of,
};
