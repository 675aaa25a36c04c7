/* Tags of words: a head on every token, loss and measures on those that begin a word. */
#include <math.h>
#include <string.h>

#include "train/judge.h"

typedef struct tagger {
    fm_windows w; /* first: the helpers of windows take it */
    int32_t n_labels;
    fm_judge judge;
} tagger;

static void close_tags(void *state) {
    tagger *t = state;
    if (t) {
        fm_judge_deinit(&t->judge);
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
    const fm_json *labels = env->data ? fm_json_get(fm_dataset_json(env->data), "labels") : NULL;
    return fm_judge_init(&t->judge, h, labels, env->data ? fm_dataset_dir(env->data) : NULL, env->seq_len);
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
        int32_t first = b.q_offsets[g];
        *sum +=
            fm_judge_tags(&t->judge, x + (int64_t)first * t->n_labels, b.targets + first, b.q_offsets[g + 1] - first);
    }
    return FM_OK;
}

static int metrics_of(void *state, fm_metric_value out[FM_MAX_METRICS]) {
    tagger *t = state;
    return fm_judge_metrics(&t->judge, out);
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

extern const fm_objective fm_objective_tag;
const fm_objective fm_objective_tag = {
    .name = "tag",
    .summary = "tags of words",
    .rate = 5e-5,
    .examples = "tag",
    .configure = configure,
    .metrics = fm_judge_tag_metrics,
    .open = open_tags,
    .close = close_tags,
    .load = load,
    .n_trained = fm_windows_n_trained,
    .row = fm_windows_row,
    .loss = loss,
    .evaluate = evaluate,
    .metrics_of = metrics_of,
};
