/* Levels and draws. */
#include "data/curriculum.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"

typedef struct item {
    float difficulty;
    int64_t i;
} item;

static int easier(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->difficulty != y->difficulty) {
        return x->difficulty < y->difficulty ? -1 : 1;
    }
    return (x->i > y->i) - (x->i < y->i);
}

/* Items from the easiest up; NULL when out of memory. fm_free. */
static item *sorted(const float *difficulty, int64_t n) {
    item *v = fm_malloc(((size_t)n + 1) * sizeof *v);
    for (int64_t i = 0; v && i < n; i++) {
        v[i] = (item){.difficulty = difficulty[i], .i = i};
    }
    if (v) {
        qsort(v, (size_t)n, sizeof *v, easier);
    }
    return v;
}

fm_status fm_levels_of(uint8_t *level, const float *difficulty, int64_t n, int n_levels) {
    FM_ASSERT(n_levels >= 1 && n_levels <= FM_MAX_LEVELS);
    item *v = sorted(difficulty, n);
    if (!v) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the levels of %lld rows", (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        level[v[i].i] = (uint8_t)(i * n_levels / n);
    }
    fm_free(v);
    return FM_OK;
}

/* Mean over the tokens of each window of the difficulty of their documents. */
static void window_means(float *out, int64_t n, const fm_dataset *d, int32_t seq_len, const float *difficulty) {
    int64_t document = 0, begin = 0, len = 0, total = fm_dataset_tokens(d);
    fm_dataset_document(d, 0, &begin, &len);
    for (int64_t w = 0; w < n; w++) {
        int64_t at = w * seq_len, end = FM_MIN(at + seq_len, total), from = at;
        double sum = 0;
        while (at < end) {
            if (begin + len <= at) {
                fm_dataset_document(d, ++document, &begin, &len);
                continue;
            }
            int64_t to = FM_MIN(end, begin + len);
            sum += (double)difficulty[document] * (double)(to - at);
            at = to;
        }
        out[w] = (float)(sum / (double)FM_MAX(end - from, 1));
    }
}

fm_status fm_curriculum_windows(fm_curriculum *c, const fm_dataset *d, int32_t seq_len, const float *difficulty,
                                int n_levels) {
    int64_t n = (fm_dataset_tokens(d) + seq_len - 1) / seq_len;
    float *mean = fm_malloc(((size_t)n + 1) * sizeof *mean);
    c->window = fm_malloc(((size_t)n + 1) * sizeof *c->window);
    if (mean) {
        window_means(mean, n, d, seq_len, difficulty);
    }
    item *v = mean ? sorted(mean, n) : NULL;
    fm_free(mean);
    if (!v || !c->window) {
        fm_free(v);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the levels of %lld windows", (long long)n);
    }
    c->n_levels = n_levels;
    for (int64_t i = 0; i < n; i++) {
        c->window[i] = v[i].i;
    }
    fm_free(v);
    for (int l = 0; l <= n_levels; l++) {
        c->level_begin[l] = (l * n + n_levels - 1) / n_levels;
    }
    return FM_OK;
}

static fm_rng_key key_of(uint64_t seed, const char *stream, uint32_t step) {
    return (fm_rng_key){.seed = seed, .stream = fm_rng_stream(stream), .step = step};
}

static int64_t switched(const fm_curriculum *c, int64_t k, uint64_t seed, bool shuffle) {
    int now = 0;
    while (now + 1 < c->n_levels && c->from[now + 1] <= k) {
        now++;
    }
    int64_t n = c->level_begin[now + 1], done = k - c->from[now];
    uint64_t i = (uint64_t)(done % n);
    if (shuffle) {
        uint32_t w[4];
        fm_rng_u32x4(w, key_of(seed, "data.curriculum", (uint32_t)now), (uint64_t)(done / n));
        i = fm_permute(i, (uint64_t)n, (uint64_t)w[0] << 32 | w[1]);
    }
    return (int64_t)i;
}

static int64_t weighted(const fm_curriculum *c, int64_t k, uint64_t seed) {
    double t = c->total > 0 ? fmin(1, (double)k / (double)c->total) : 1, sum = 0, weight[FM_MAX_LEVELS];
    int last = c->n_levels - 1;
    for (int l = 0; l <= last; l++) {
        double n = (double)(c->level_begin[l + 1] - c->level_begin[l]);
        weight[l] = n * ((1 - t) * (c->n_levels - l) + t * (l + 1));
        sum += weight[l];
    }
    fm_rng_key key = key_of(seed, "data.curriculum.level", 0);
    double u = fm_rng_uniform(key, (uint64_t)k) * sum;
    int level = 0;
    while (level < last && (u >= weight[level] || weight[level] <= 0)) {
        u -= weight[level++];
    }
    key = key_of(seed, "data.curriculum.window", 0);
    int64_t begin = c->level_begin[level], n = c->level_begin[level + 1] - begin;
    return n > 0 ? begin + (int64_t)fm_rng_below(key, (uint64_t)k, (uint64_t)n) : 0;
}

int64_t fm_curriculum_window(const fm_curriculum *c, int64_t k, uint64_t seed, bool shuffle) {
    int64_t i = c->by_weights ? weighted(c, k, seed) : switched(c, k, seed, shuffle);
    return c->window ? c->window[i] : i;
}

void fm_curriculum_deinit(fm_curriculum *c) {
    fm_free(c->window);
    *c = (fm_curriculum){0};
}
