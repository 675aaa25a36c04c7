/* Texts as a whole: one label (cross-entropy), several labels (binary cross-entropy), or numbers (squared error), by a
 * head on one token of each. Texts are packed like examples of any kind; their labels are values of the dataset. */
#include <math.h>
#include <string.h>

#include "train/judge.h"

typedef struct texts {
    fm_windows w; /* first: the helpers of windows take it */
    fm_problem problem;
    int32_t n_outputs, n_values;
    int64_t cap;            /* windows */
    int32_t *labels;        /* [n, seq_len] of segments, -100 = padding */
    float *values;          /* [n segments in all, n_outputs], NaN = padding */
    int64_t *first_segment; /* [n+1] */
    float *weights;         /* [n, seq_len] of segments, or NULL */
    float *label_weight;    /* [n_outputs], or NULL */
    int64_t cap_values;
    float *row; /* [n_values] */
    int32_t *batch_labels;
    float *batch_weights;
    fm_judge judge;
} texts;

static void close_texts(void *state) {
    texts *t = state;
    if (!t) {
        return;
    }
    fm_free(t->labels);
    fm_free(t->values);
    fm_free(t->first_segment);
    fm_free(t->weights);
    fm_free(t->label_weight);
    fm_free(t->row);
    fm_free(t->batch_labels);
    fm_free(t->batch_weights);
    fm_judge_deinit(&t->judge);
    fm_windows_close(state); /* its block is this one */
}

fm_status fm_label_weights(float **out, const fm_dataset *d, int32_t n, int task, int32_t column) {
    int64_t all = 0;
    float *row = fm_calloc((size_t)fm_dataset_n_values(d) + 1, sizeof *row);
    float *w = *out = fm_calloc((size_t)n, sizeof *w);
    if (!w || !row) {
        fm_free(row);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for label weights");
    }
    for (int64_t i = 0; i < fm_dataset_documents(d); i++) {
        fm_dataset_values(d, i, row);
        bool counts = task < 0 || row[0] == (float)task;
        if (counts && row[column] >= 0 && row[column] < (float)n) {
            w[(int32_t)row[column]]++;
        }
        all += counts;
    }
    fm_free(row);
    for (int32_t l = 0; l < n; l++) {
        w[l] = w[l] > 0 ? (float)all / ((float)n * w[l]) : 0;
    }
    return FM_OK;
}

static fm_status open_texts(void **state, const fm_objective_env *env) {
    texts *t = fm_calloc(1, sizeof *t);
    *state = t;
    if (!t) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    const fm_head_config *h = &env->model->cfg.head;
    t->w.env = *env;
    if (h->kind != FM_HEAD_TEXT) {
        FM_FAIL(FM_ERR_CONFIG,
                "the model has a head for %s; texts are judged by classification, multi-label or regression",
                fm_head_row_of(h)->name);
    }
    t->problem = h->problem;
    t->n_outputs = h->n_labels;
    t->n_values = h->problem == FM_PROBLEM_SINGLE ? 1 : h->n_labels;
    t->row = fm_calloc((size_t)t->n_values, sizeof *t->row);
    if (!t->row) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    FM_TRY(fm_judge_init(&t->judge, h, NULL, NULL, env->seq_len));
    if (env->data && fm_dataset_n_values(env->data) != t->n_values) {
        FM_FAIL(FM_ERR_CONFIG, "%s has %d values a text, the model's head needs %d", fm_dataset_dir(env->data),
                fm_dataset_n_values(env->data), t->n_values);
    }
    return env->data && env->balance_labels && t->problem == FM_PROBLEM_SINGLE
               ? fm_label_weights(&t->label_weight, env->data, t->n_outputs, -1, 0)
               : FM_OK;
}

static fm_status reserve(texts *t, int64_t n) {
    size_t segments = (size_t)n * (size_t)t->w.env.seq_len;
    if (n <= t->cap) {
        return FM_OK;
    }
    fm_free(t->labels);
    fm_free(t->first_segment);
    fm_free(t->weights);
    fm_free(t->batch_labels);
    fm_free(t->batch_weights);
    t->cap = 0;
    t->labels = fm_calloc(segments, sizeof *t->labels);
    t->first_segment = fm_calloc((size_t)n + 1, sizeof *t->first_segment);
    t->weights = fm_calloc(segments, sizeof *t->weights);
    t->batch_labels = fm_calloc(segments, sizeof *t->batch_labels);
    t->batch_weights = fm_calloc(segments, sizeof *t->batch_weights);
    if (!t->labels || !t->first_segment || !t->weights || !t->batch_labels || !t->batch_weights) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a step of %lld windows", (long long)n);
    }
    t->cap = n;
    return FM_OK;
}

/* Label, numbers and weight of the segment k of window i. */
static fm_status take(texts *t, const fm_dataset *d, int64_t i, int32_t k) {
    int64_t at = i * t->w.env.seq_len + k, document = d ? t->w.document[at] : 0;
    float *out = t->problem == FM_PROBLEM_SINGLE ? NULL : t->values + (t->first_segment[i] + k) * t->n_values;
    t->labels[at] = -100;
    t->weights[at] = 1;
    for (int32_t v = 0; out && v < t->n_values; v++) {
        out[v] = document < 0 ? NAN : 0;
    }
    if (document < 0 || !d) {
        t->labels[at] = d ? -100 : 0;
        return FM_OK;
    }
    fm_dataset_values(d, document, t->row);
    if (out) {
        memcpy(out, t->row, (size_t)t->n_values * sizeof *out);
        return FM_OK;
    }
    if (!(t->row[0] >= 0 && t->row[0] < (float)t->n_outputs)) {
        FM_FAIL(FM_ERR_CORRUPT, "%s: text %lld has label %g, there are %d", fm_dataset_dir(d), (long long)document,
                (double)t->row[0], t->n_outputs);
    }
    t->labels[at] = (int32_t)t->row[0];
    t->weights[at] = t->label_weight ? t->label_weight[t->labels[at]] : 1;
    return FM_OK;
}

static fm_status load(void *state, fm_sampler *s, int64_t n) {
    texts *t = state;
    FM_TRY(reserve(t, n));
    FM_TRY(fm_windows_load(state, s, n));
    for (int64_t i = 0; i < n; i++) {
        t->first_segment[i + 1] = t->first_segment[i] + t->w.n_ends[i];
    }
    int64_t need = t->problem == FM_PROBLEM_SINGLE ? 0 : t->first_segment[n] * t->n_values;
    if (need > t->cap_values) {
        fm_free(t->values);
        t->cap_values = 0;
        t->values = fm_calloc((size_t)need, sizeof *t->values);
        if (!t->values) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the labels of a step");
        }
        t->cap_values = need;
    }
    for (int64_t i = 0; i < n; i++) {
        for (int32_t k = 0; k < t->w.n_ends[i]; k++) {
            FM_TRY(take(t, s ? s->data : NULL, i, k));
        }
    }
    return FM_OK;
}

static int64_t n_trained(const void *state, int64_t begin, int64_t end) {
    const texts *t = state;
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        for (int32_t k = 0; k < t->w.n_ends[i]; k++) {
            int64_t at = i * t->w.env.seq_len + k;
            n += !t->w.document || !t->w.env.data || t->w.document[at] >= 0;
        }
    }
    return n;
}

/* Labels and weights of samples [begin, end) one behind the other, as segments of a batch are. */
static fm_batch batch(texts *t, int64_t begin, int64_t end) {
    fm_batch b = fm_windows_batch(&t->w, begin, end);
    int32_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        for (int32_t k = 0; k < t->w.n_ends[i]; k++) {
            int64_t at = i * t->w.env.seq_len + k;
            t->batch_labels[n] = t->labels[at];
            t->batch_weights[n++] = t->weights[at];
        }
    }
    b.targets = NULL;
    b.loss_weight = NULL;
    b.labels = t->batch_labels;
    b.values = t->values ? t->values + t->first_segment[begin] * t->n_values : NULL;
    return b;
}

static fm_tensor *loss(void *state, fm_ctx *c, int64_t begin, int64_t end, double scale, fm_tensor **token_loss) {
    texts *t = state;
    fm_batch b = batch(t, begin, end);
    fm_loss_options o = {.ignore_index = -100,
                         .label_smoothing = fm_ctx_training(c) ? (float)t->w.env.label_smoothing : 0,
                         .scale = scale,
                         .weight = t->label_weight && fm_ctx_training(c) ? t->batch_weights : NULL};
    return fm_model_loss(c, t->w.env.model, &b, &o, token_loss);
}

/* ---- evaluation ------------------------------------------------------------------------------- */

static fm_status evaluate(void *state, fm_ctx *c, int64_t begin, int64_t end, double *sum) {
    texts *t = state;
    const fm_model *m = t->w.env.model;
    fm_batch b = batch(t, begin, end);
    fm_tensor *scores = fm_head_scores(c, m, 0, fm_model_forward(c, m, &b), &b);
    const float *x = scores ? fm_data(c, scores) : NULL;
    FM_TRY(fm_ctx_status(c));
    FM_ASSERT(scores && scores->dtype == FM_F32);
    FM_ASSERT(t->problem == FM_PROBLEM_SINGLE || b.values);
    for (int32_t k = 0; k < b.n_segments; k++) {
        const float *row = x + (int64_t)k * t->n_outputs, *y = b.values ? b.values + (int64_t)k * t->n_values : NULL;
        if (y ? isnan(y[0]) : b.labels[k] < 0) {
            continue;
        }
        *sum += fm_judge_text(&t->judge, row, b.labels[k], y);
    }
    return FM_OK;
}

static int metrics_of(void *state, fm_metric_value out[FM_MAX_METRICS]) {
    texts *t = state;
    return fm_judge_metrics(&t->judge, out);
}

/* ---- the head that the data asks for ---------------------------------------------------------- */

static fm_status configure(fm_model_config *mc, const fm_json *dataset) {
    const char *problem = fm_json_str(fm_json_get(dataset, "problem"), NULL);
    fm_head_config h = {.kind = FM_HEAD_TEXT};
    int64_t n = (int64_t)fm_json_size(fm_json_get(dataset, "labels"));
    h.problem = !problem || strcmp(problem, "single_label_classification") == 0 ? FM_PROBLEM_SINGLE
                : strcmp(problem, "multi_label_classification") == 0            ? FM_PROBLEM_MULTI
                                                                                : FM_PROBLEM_REGRESSION;
    n = h.problem == FM_PROBLEM_REGRESSION ? fm_json_int(fm_json_get(dataset, "n_numbers"), 1) : n;
    if (!dataset) { /* a plan without data */
        n = mc->head.kind == FM_HEAD_TEXT ? mc->head.n_labels : 2;
    }
    h.n_labels = (int32_t)FM_MIN(FM_MAX(n, 0), INT32_MAX);
    FM_TRY(fm_head_check(&h));
    mc->head = h;
    return FM_OK;
}

extern const fm_objective fm_objective_cls, fm_objective_reg;
const fm_objective fm_objective_cls = {
    .name = "cls",
    .summary = "labels of texts",
    .rate = 5e-5,
    .examples = "label",
    .configure = configure,
    .metrics = fm_judge_label_metrics,
    .open = open_texts,
    .close = close_texts,
    .load = load,
    .n_trained = n_trained,
    .row = fm_windows_row,
    .loss = loss,
    .evaluate = evaluate,
    .metrics_of = metrics_of,
};
const fm_objective fm_objective_reg = {
    .name = "reg",
    .summary = "numbers for texts",
    .rate = 5e-5,
    .examples = "number",
    .configure = configure,
    .metrics = fm_judge_number_metrics,
    .open = open_texts,
    .close = close_texts,
    .load = load,
    .n_trained = n_trained,
    .row = fm_windows_row,
    .loss = loss,
    .evaluate = evaluate,
    .metrics_of = metrics_of,
};
