/* Tags of words: a head on every token, loss and measures on those that begin a word. */
#include <math.h>
#include <string.h>

#include "data/entities.h"
#include "train/objective.h"

typedef struct tagger {
    fm_windows w; /* first: the helpers of windows take it */
    int32_t n_labels;
    const char **name;      /* [n_labels], of the dataset; NULL in plans */
    int32_t *said, *wanted; /* [seq_len] of one text */
    fm_entity_counts counts;
    int64_t n, n_right;
} tagger;

static void close_tags(void *state) {
    tagger *t = state;
    if (t) {
        fm_free(t->name);
        fm_free(t->said);
        fm_free(t->wanted);
        fm_windows_close(state); /* its block is this one */
    }
}

static fm_status open_tags(void **state, const fm_objective_env *env) {
    tagger *t = fm_calloc(1, sizeof *t);
    *state = t;
    if (!t) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    const fm_head_config *h = &env->model->cfg.head;
    t->w.env = *env;
    if (h->kind != FM_HEAD_TOKEN || h->problem != FM_PROBLEM_SINGLE) {
        FM_FAIL(FM_ERR_CONFIG, "the model has a head for %s; words are tagged by a tagging head",
                fm_head_row_of(h)->name);
    }
    t->n_labels = h->n_labels;
    t->name = fm_calloc((size_t)h->n_labels, sizeof *t->name);
    t->said = fm_calloc((size_t)env->seq_len, sizeof *t->said);
    t->wanted = fm_calloc((size_t)env->seq_len, sizeof *t->wanted);
    if (!t->name || !t->said || !t->wanted) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    const fm_json *labels = env->data ? fm_json_get(fm_dataset_json(env->data), "labels") : NULL;
    for (int32_t i = 0; env->data && i < h->n_labels; i++) {
        t->name[i] = fm_json_str(fm_json_at(labels, (size_t)i), NULL);
        if (!t->name[i]) {
            FM_FAIL(FM_ERR_CONFIG, "%s has %zu tags, the model's head %d", fm_dataset_dir(env->data),
                    fm_json_size(labels), h->n_labels);
        }
    }
    return FM_OK;
}

/* The target of a token is its own mark, not the next token. */
static fm_status load(void *state, fm_sampler *s, int64_t n) {
    tagger *t = state;
    fm_windows *w = &t->w;
    FM_TRY(fm_windows_load(state, s, n));
    for (int64_t i = 0; i < n; i++) {
        w->n_trained[i] = 0;
        for (int64_t k = i * w->env.seq_len; k < (i + 1) * w->env.seq_len; k++) {
            int32_t tag = s ? w->mark[k] - 1 : (int32_t)(k % t->n_labels);
            if (tag < -1 || tag >= t->n_labels) {
                FM_FAIL(FM_ERR_CORRUPT, "%s: a token has tag %d, there are %d", s ? fm_dataset_dir(s->data) : "a plan",
                        tag, t->n_labels);
            }
            w->targets[k] = tag >= 0 ? tag : -100;
            w->n_trained[i] += tag >= 0;
        }
    }
    return FM_OK;
}

static fm_tensor *loss(void *state, fm_ctx *c, int64_t begin, int64_t end, double scale, fm_tensor **token_loss) {
    tagger *t = state;
    fm_batch b = fm_windows_batch(&t->w, begin, end);
    fm_loss_options o = {.ignore_index = -100,
                         .label_smoothing = fm_ctx_training(c) ? (float)t->w.env.label_smoothing : 0,
                         .scale = scale};
    return fm_model_loss(c, t->w.env.model, &b, &o, token_loss);
}

static fm_status evaluate(void *state, fm_ctx *c, int64_t begin, int64_t end, double *sum) {
    tagger *t = state;
    const fm_model *m = t->w.env.model;
    fm_batch b = fm_windows_batch(&t->w, begin, end);
    fm_tensor *scores = fm_head_scores(c, m, 0, fm_model_forward(c, m, &b), &b);
    const float *x = scores ? fm_data(c, scores) : NULL;
    FM_TRY(fm_ctx_status(c));
    FM_ASSERT(scores && scores->dtype == FM_F32);
    for (int32_t g = 0; g < b.n_segments; g++) {
        int64_t n = 0;
        for (int32_t k = b.q_offsets[g]; k < b.q_offsets[g + 1]; k++) {
            const float *row = x + (int64_t)k * t->n_labels;
            int32_t want = b.targets[k], best = 0;
            double total = 0;
            if (want < 0) {
                continue;
            }
            for (int32_t l = 1; l < t->n_labels; l++) {
                best = row[l] > row[best] ? l : best;
            }
            for (int32_t l = 0; l < t->n_labels; l++) {
                total += exp((double)row[l] - (double)row[best]);
            }
            *sum += log(total) + (double)row[best] - (double)row[want];
            t->n++;
            t->n_right += best == want;
            t->said[n] = best;
            t->wanted[n++] = want;
        }
        fm_entities_count(&t->counts, t->name, t->said, t->wanted, n);
    }
    return FM_OK;
}

static int metrics_of(void *state, fm_metric_value out[FM_MAX_METRICS]) {
    tagger *t = state;
    out[0] = (fm_metric_value){"eval_accuracy", t->n ? (double)t->n_right / (double)t->n : NAN};
    out[1] = (fm_metric_value){"eval_precision", fm_entity_precision(&t->counts)};
    out[2] = (fm_metric_value){"eval_recall", fm_entity_recall(&t->counts)};
    out[3] = (fm_metric_value){"eval_f1", fm_entity_f1(&t->counts)};
    t->counts = (fm_entity_counts){0};
    t->n = t->n_right = 0;
    return 4;
}

static fm_status configure(fm_model_config *mc, const fm_json *dataset) {
    int64_t n = (int64_t)fm_json_size(fm_json_get(dataset, "labels"));
    if (!dataset) { /* a plan without data */
        n = mc->head.kind == FM_HEAD_TOKEN ? mc->head.n_labels : 9;
    }
    fm_head_config h = {.kind = FM_HEAD_TOKEN, .n_labels = (int32_t)FM_MIN(n, INT32_MAX)};
    FM_TRY(fm_head_check(&h));
    mc->head = h;
    return FM_OK;
}

static const char *const metrics[] = {"eval_accuracy", "eval_precision", "eval_recall", "eval_f1", NULL};

extern const fm_objective fm_objective_tag;
const fm_objective fm_objective_tag = {
    .name = "tag",
    .summary = "tags of words",
    .rate = 5e-5,
    .examples = "tag",
    .configure = configure,
    .metrics = metrics,
    .open = open_tags,
    .close = close_tags,
    .load = load,
    .n_trained = fm_windows_n_trained,
    .row = fm_windows_row,
    .loss = loss,
    .evaluate = evaluate,
    .metrics_of = metrics_of,
};
