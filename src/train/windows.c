/* Packed windows as samples. */
#include <string.h>

#include "train/objective.h"

/* Weights of marks, of a dataset whose examples have them. */
static fm_status read_weights(fm_windows *w, const fm_json *list) {
    size_t n = fm_json_size(list);
    if (n < 2 || n > INT16_MAX) {
        FM_FAIL(FM_ERR_FORMAT, "%s: mark_weights has %zu entries, expected 2 to %d", fm_dataset_dir(w->env.data), n,
                INT16_MAX);
    }
    w->mark_weight = fm_calloc(n, sizeof *w->mark_weight);
    if (!w->mark_weight) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    for (size_t i = 0; i < n; i++) {
        w->mark_weight[i] = (float)fm_json_num(fm_json_at(list, i), -1);
        if (!(w->mark_weight[i] >= 0) || w->mark_weight[0] != 0) {
            FM_FAIL(FM_ERR_FORMAT, "%s: mark_weights: entry %zu is no weight", fm_dataset_dir(w->env.data), i);
        }
    }
    w->n_mark_weights = (int32_t)n;
    return FM_OK;
}

fm_status fm_windows_new(fm_windows **out, const fm_objective_env *env) {
    fm_windows *w = *out = fm_calloc(1, sizeof *w);
    if (!w) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    w->env = *env;
    const fm_json *weights = env->data ? fm_json_get(fm_dataset_json(env->data), "mark_weights") : NULL;
    return fm_json_is_null(weights) ? FM_OK : read_weights(w, weights);
}

fm_status fm_windows_open(void **state, const fm_objective_env *env) {
    fm_windows *w;
    fm_status s = fm_windows_new(&w, env);
    *state = w;
    FM_TRY(s);
    const fm_model *m = env->model;
    if (m->family->encoder || m->cfg.head.kind != FM_HEAD_LM) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                           "a %s model with a head for %s does not predict the next token", m->family->name,
                           fm_head_row_of(&m->cfg.head)->name);
        return m->family->encoder ? fm_error_hint("stage: mlm trains encoders") : FM_ERR_CONFIG;
    }
    return FM_OK;
}

static void drop(fm_windows *w) {
    fm_free(w->ids);
    fm_free(w->pos);
    fm_free(w->targets);
    fm_free(w->ends);
    fm_free(w->n_ends);
    fm_free(w->first);
    fm_free(w->n_trained);
    fm_free(w->offsets);
    fm_free(w->mark);
    fm_free(w->document);
    fm_free(w->weight);
    *w = (fm_windows){.env = w->env, .mark_weight = w->mark_weight, .n_mark_weights = w->n_mark_weights};
}

void fm_windows_close(void *state) {
    fm_windows *w = state;
    if (w) {
        drop(w);
        fm_free(w->mark_weight);
        fm_free(w);
    }
}

static fm_status reserve(fm_windows *w, int64_t n, bool examples) {
    if (n <= w->cap) {
        return FM_OK;
    }
    drop(w);
    size_t rows = (size_t)n, tokens = rows * (size_t)w->env.seq_len;
    if (tokens >= INT32_MAX) {
        FM_FAIL(FM_ERR_CONFIG, "a step of %lld windows of %d tokens is too large", (long long)n, w->env.seq_len);
    }
    w->ids = fm_calloc(tokens, sizeof *w->ids);
    w->pos = fm_calloc(tokens, sizeof *w->pos);
    w->targets = fm_calloc(tokens, sizeof *w->targets);
    w->ends = fm_calloc(tokens, sizeof *w->ends);
    w->n_ends = fm_calloc(rows, sizeof *w->n_ends);
    w->first = fm_calloc(rows, sizeof *w->first);
    w->n_trained = fm_calloc(rows, sizeof *w->n_trained);
    w->offsets = fm_calloc(tokens + 1, sizeof *w->offsets);
    if (!w->ids || !w->pos || !w->targets || !w->ends || !w->n_ends || !w->first || !w->n_trained || !w->offsets) {
        drop(w);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a step of %lld windows", (long long)n);
    }
    if (examples || w->env.max_segments > 0) {
        bool weights = w->n_mark_weights > 2;
        w->mark = fm_calloc(tokens, sizeof *w->mark);
        w->document = fm_calloc(tokens, sizeof *w->document);
        w->weight = weights ? fm_calloc(tokens, sizeof *w->weight) : NULL;
        if (!w->mark || !w->document || (weights && !w->weight)) {
            drop(w);
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a step of %lld windows", (long long)n);
        }
    }
    w->cap = n;
    return FM_OK;
}

/* One document fills a made-up window, but for as many of one token as there may be: the dearest case. */
static void make_up(fm_windows *w, int64_t i) {
    int32_t n = w->env.seq_len, more = FM_MIN(FM_MAX(w->env.max_segments - 1, 0), n - 1);
    for (int32_t t = 0; t < n; t++) {
        int64_t k = i * n + t;
        w->ids[k] = (int32_t)((k * 2654435761 + 12345) % w->env.vocab);
        w->pos[k] = t;
        w->targets[k] = (int32_t)((k * 40503 + 99) % w->env.vocab);
    }
    for (int32_t k = 0; k <= more; k++) {
        w->ends[i * n + k] = n - more + k;
    }
    w->n_ends[i] = 1 + more;
    w->first[i] = 0;
}

/* A window of examples; only targets whose mark has a weight stay. */
static fm_status load_examples(fm_windows *w, fm_sampler *s, int64_t i) {
    int64_t at = i * w->env.seq_len;
    FM_TRY(fm_sampler_next_examples(s, w->ids + at, w->pos + at, w->targets + at, w->mark + at, w->document + at,
                                    w->ends + at, &w->n_ends[i], &w->first[i]));
    for (int64_t t = at; w->n_mark_weights > 0 && t < at + w->env.seq_len; t++) {
        FM_ASSERT(w->mark);
        int16_t mark = w->targets[t] >= 0 ? w->mark[t + 1] : 0;
        if (mark < 0 || mark >= w->n_mark_weights) {
            FM_FAIL(FM_ERR_CORRUPT, "%s: token %lld has mark %d, there are %d weights", fm_dataset_dir(s->data),
                    (long long)w->first[i], mark, w->n_mark_weights);
        }
        float weight = w->mark_weight[mark];
        w->targets[t] = weight > 0 ? w->targets[t] : -100;
        if (w->weight) {
            w->weight[t] = weight;
        }
    }
    return FM_OK;
}

fm_status fm_windows_load(void *state, fm_sampler *s, int64_t n) {
    fm_windows *w = state;
    FM_TRY(reserve(w, n, s && s->packing));
    w->n = n;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i * w->env.seq_len;
        w->n_ends[i] = 0;
        if (s && s->packing) {
            FM_TRY(load_examples(w, s, i));
        } else if (s) {
            FM_TRY(fm_sampler_next(s, w->ids + at, w->pos + at, w->targets + at, 0, w->ends + at, &w->n_ends[i],
                                   &w->first[i]));
        } else {
            make_up(w, i);
        }
        w->n_trained[i] = 0;
        for (int64_t t = at; t < at + w->env.seq_len; t++) {
            w->n_trained[i] += w->targets[t] >= 0;
        }
    }
    return FM_OK;
}

int64_t fm_windows_n_trained(const void *state, int64_t begin, int64_t end) {
    const fm_windows *w = state;
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        n += w->n_trained[i];
    }
    return n;
}

int64_t fm_windows_row(const void *state, int64_t sample) {
    return ((const fm_windows *)state)->first[sample];
}

fm_batch fm_windows_batch(fm_windows *w, int64_t begin, int64_t end) {
    int64_t at = begin * w->env.seq_len;
    int32_t n = 0, base = 0;
    w->offsets[0] = 0;
    for (int64_t i = begin; i < end; i++) {
        for (int32_t k = 0; k < w->n_ends[i]; k++) {
            w->offsets[++n] = base + w->ends[i * w->env.seq_len + k];
        }
        base += w->env.seq_len;
    }
    return (fm_batch){.n_tokens = base,
                      .n_segments = n,
                      .ids = w->ids + at,
                      .pos = w->pos + at,
                      .q_offsets = w->offsets,
                      .targets = w->targets + at,
                      .loss_weight = w->weight ? w->weight + at : NULL};
}
