/* Packed windows as samples. */
#include <string.h>

#include "train/objective.h"

fm_status fm_windows_open(void **state, const fm_objective_env *env) {
    fm_windows *w = fm_calloc(1, sizeof *w);
    *state = w;
    if (!w) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    w->env = *env;
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
    *w = (fm_windows){.env = w->env};
}

void fm_windows_close(void *state) {
    if (state) {
        drop(state);
        fm_free(state);
    }
}

static fm_status reserve(fm_windows *w, int64_t n) {
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
    w->cap = n;
    return FM_OK;
}

/* One document fills a made-up window: the dearest case for attention. */
static void make_up(fm_windows *w, int64_t i) {
    int32_t n = w->env.seq_len;
    for (int32_t t = 0; t < n; t++) {
        int64_t k = i * n + t;
        w->ids[k] = (int32_t)((k * 2654435761 + 12345) % w->env.vocab);
        w->pos[k] = t;
        w->targets[k] = (int32_t)((k * 40503 + 99) % w->env.vocab);
    }
    w->ends[i * n] = n;
    w->n_ends[i] = 1;
    w->first[i] = 0;
}

fm_status fm_windows_load(void *state, fm_sampler *s, int64_t n) {
    fm_windows *w = state;
    FM_TRY(reserve(w, n));
    w->n = n;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i * w->env.seq_len;
        w->n_ends[i] = 0;
        if (s) {
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
                      .targets = w->targets + at};
}
