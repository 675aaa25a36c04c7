/* Windows over a packed dataset.
 *
 * Window i of an epoch is the i-th run of seq_len tokens, so all windows together hold each token once. When the last
 * one would be short it begins earlier, and targets that the window before it has already trained are masked: shapes
 * stay constant and no token counts twice. */
#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/curriculum.h"
#include "data/packing.h"

#define IGNORE (-100)

fm_status fm_sampler_init(fm_sampler *s, const fm_dataset *d, int32_t seq_len, uint64_t seed, bool shuffle) {
    return fm_sampler_init_levels(s, d, seq_len, seed, shuffle, NULL, NULL);
}

/* The caller's levels, moved. */
static fm_status take_levels(fm_sampler *s, fm_curriculum *levels) {
    s->levels = levels ? fm_malloc(sizeof *s->levels) : NULL;
    if (levels && !s->levels) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for levels");
    }
    if (levels) {
        *s->levels = *levels;
        *levels = (fm_curriculum){0};
    }
    return FM_OK;
}

fm_status fm_sampler_init_levels(fm_sampler *s, const fm_dataset *d, int32_t seq_len, uint64_t seed, bool shuffle,
                                 fm_curriculum *levels, const uint8_t *level) {
    *s = (fm_sampler){.data = d, .seq_len = seq_len, .seed = seed, .shuffle = shuffle};
    int64_t n = fm_dataset_tokens(d);
    if (seq_len < 1 || seq_len > INT32_MAX / 4) {
        FM_FAIL(FM_ERR_ARGUMENT, "window length is %d, expected 1 to %d", seq_len, INT32_MAX / 4);
    }
    if (fm_dataset_is_examples(d)) {
        FM_TRY(take_levels(s, levels));
        FM_TRY(fm_packing_new(&s->packing, d, seq_len, level, s->levels));
        s->n_samples = s->packing->n_windows;
        return FM_OK;
    }
    if (n < seq_len) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "dataset %s has %lld tokens, fewer than one window of %d",
                     fm_dataset_dir(d), (long long)n, seq_len);
        return fm_error_hint("lower cutoff_len to %lld or less, or add data", (long long)n);
    }
    s->n_samples = (n + seq_len - 1) / seq_len;
    return take_levels(s, levels);
}

void fm_sampler_deinit(fm_sampler *s) {
    fm_packing_free(s->packing);
    s->packing = NULL;
    if (s->levels) {
        fm_curriculum_deinit(s->levels);
        fm_free(s->levels);
        s->levels = NULL;
    }
}

/* Number of the next window. */
static uint64_t next_window(fm_sampler *s) {
    if (s->at.index >= s->n_samples) {
        s->at = (fm_cursor){.epoch = s->at.epoch + 1, .index = 0};
    }
    uint64_t i = (uint64_t)s->at.index;
    if (s->levels) {
        int64_t draw = s->at.epoch * s->n_samples + s->at.index;
        return (uint64_t)fm_curriculum_window(s->levels, draw, s->seed, s->shuffle);
    }
    if (s->shuffle) {
        fm_rng_key key = {.seed = s->seed, .stream = fm_rng_stream("data.order"), .step = (uint32_t)s->at.epoch};
        uint32_t w[4];
        fm_rng_u32x4(w, key, 0);
        i = fm_permute(i, (uint64_t)s->n_samples, (uint64_t)w[0] << 32 | w[1]);
    }
    return i;
}

fm_status fm_sampler_next(fm_sampler *s, int32_t *ids, int32_t *pos, int32_t *targets, int32_t base, int32_t *offsets,
                          int32_t *n_segments, int64_t *row) {
    FM_ASSERT(!s->packing);
    uint64_t i = next_window(s);
    const int32_t n = s->seq_len;
    int64_t total = fm_dataset_tokens(s->data), nominal = (int64_t)i * n, begin = FM_MIN(nominal, total - n);
    int32_t trained_before = (int32_t)(nominal - begin); /* targets of these positions belong to the window before */
    *row = begin;
    /* One token more than the window: it is the last target. */
    bool *start = fm_malloc((size_t)n + 1);
    if (!start) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a window of %d tokens", n);
    }
    fm_status st = fm_dataset_read(s->data, begin, n, ids, start);
    int32_t next = 0;
    start[n] = true;
    if (st == FM_OK && begin + n < total) {
        st = fm_dataset_read(s->data, begin + n, 1, &next, &start[n]);
    }
    if (st != FM_OK) {
        fm_free(start);
        return st;
    }
    int32_t p = 0, count = *n_segments;
    for (int32_t t = 0; t < n; t++) {
        p = start[t] ? 0 : p;
        pos[t] = p++;
        if (start[t + 1]) {
            targets[t] = IGNORE;
        } else {
            targets[t] = t + 1 < n ? ids[t + 1] : next;
        }
        /* Position t predicts t+1; the window before ended by predicting this window's nominal first token. */
        if (t < trained_before) {
            targets[t] = IGNORE;
        }
        if (t + 1 == n || start[t + 1]) {
            offsets[count++] = base + t + 1;
        }
    }
    *n_segments = count;
    fm_free(start);
    s->at.index++;
    return FM_OK;
}

fm_status fm_sampler_next_examples(fm_sampler *s, int32_t *ids, int32_t *pos, int32_t *targets, int16_t *mark,
                                   int64_t *document, int32_t *offsets, int32_t *n_segments, int64_t *row) {
    FM_ASSERT(s->packing);
    const fm_packing *p = s->packing;
    int64_t w = (int64_t)next_window(s), epoch = s->levels ? 0 : s->at.epoch; /* passes over levels are no epochs */
    int32_t at = 0, count = 0;
    bool *start = fm_malloc((size_t)s->seq_len);
    if (!start) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a window of %d tokens", s->seq_len);
    }
    fm_status st = FM_OK;
    for (int64_t k = p->begin[w]; k < p->begin[w + 1] && st == FM_OK; k++) {
        int64_t doc = s->shuffle ? fm_packing_document(p, k, s->seed, epoch) : fm_packing_in_order(p, k), begin, n;
        fm_dataset_document(s->data, doc, &begin, &n);
        st = fm_dataset_read(s->data, begin, (int32_t)n, ids + at, start);
        fm_dataset_marks(s->data, begin, n, mark + at);
        if (count == 0) {
            *row = begin;
        }
        for (int32_t t = 0; t < n; t++) {
            pos[at + t] = t;
            targets[at + t] = t + 1 < n ? ids[at + t + 1] : IGNORE;
        }
        at += (int32_t)n;
        document[count] = doc;
        offsets[count++] = at;
    }
    fm_free(start);
    FM_TRY(st);
    if (at < s->seq_len) {
        document[count] = -1;
        for (int32_t t = 0; at < s->seq_len; at++, t++) {
            ids[at] = 0;
            pos[at] = t;
            targets[at] = IGNORE;
            mark[at] = 0;
        }
        offsets[count++] = at;
    }
    *n_segments = count;
    s->at.index++;
    return FM_OK;
}
