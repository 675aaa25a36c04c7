/* Numbers for tokens, and counts of n-grams. */
#include <stdlib.h>
#include <string.h>

#include "eval/metric.h"

void fm_interner_deinit(fm_interner *t) {
    fm_free(t->key);
    fm_free(t->slot);
    *t = (fm_interner){0};
}

void fm_interner_clear(fm_interner *t) {
    t->n = 0;
    if (t->slot) {
        memset(t->slot, 0, (t->mask + 1) * sizeof *t->slot);
    }
}

static uint64_t hash(fm_sv s) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < s.len; i++) {
        h = (h ^ (uint8_t)s.ptr[i]) * 1099511628211u;
    }
    return h ^ (h >> 29);
}

static fm_status reserve(fm_interner *t, size_t n) {
    if (t->slot && n * 2 <= t->mask + 1) {
        return FM_OK;
    }
    size_t want = 64;
    while (want < n * 2) {
        want *= 2;
    }
    uint32_t *slot = fm_calloc(want, sizeof *slot);
    if (!slot) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu tokens", n);
    }
    fm_free(t->slot);
    t->slot = slot;
    t->mask = want - 1;
    for (size_t k = 0; k < t->n; k++) {
        size_t i = (size_t)hash(t->key[k]) & t->mask;
        while (slot[i]) {
            i = (i + 1) & t->mask;
        }
        slot[i] = (uint32_t)k + 1;
    }
    return FM_OK;
}

fm_status fm_interner_ids(fm_interner *t, const fm_cut_text *c, uint32_t **ids, size_t *cap) {
    if (c->n > UINT32_MAX / 4) {
        FM_FAIL(FM_ERR_ARGUMENT, "a text of %zu tokens is too long", c->n);
    }
    FM_TRY(fm_grow((void **)ids, cap, c->n + 1, sizeof **ids));
    FM_TRY(fm_grow((void **)&t->key, &t->cap, t->n + c->n + 1, sizeof *t->key));
    FM_TRY(reserve(t, t->n + c->n + 1));
    for (size_t k = 0; k < c->n; k++) {
        fm_sv s = c->token[k];
        size_t i = (size_t)hash(s) & t->mask;
        while (t->slot[i]) {
            fm_sv o = t->key[t->slot[i] - 1];
            if (o.len == s.len && memcmp(o.ptr, s.ptr, s.len) == 0) {
                break;
            }
            i = (i + 1) & t->mask;
        }
        if (!t->slot[i]) {
            t->key[t->n++] = s;
            t->slot[i] = (uint32_t)t->n;
        }
        (*ids)[k] = t->slot[i];
    }
    return FM_OK;
}

int fm_ngram_order(const fm_ngram *a, const fm_ngram *b) {
    for (int i = 0; i < 4; i++) {
        if (a->id[i] != b->id[i]) {
            return a->id[i] < b->id[i] ? -1 : 1;
        }
    }
    return 0;
}

static int compare(const void *a, const void *b) {
    return fm_ngram_order(a, b);
}

fm_status fm_ngrams(fm_ngram **grams, size_t *cap, size_t *n_grams, const uint32_t *ids, size_t n, int order) {
    FM_ASSERT(order >= 1 && order <= 4);
    *n_grams = 0;
    if (n < (size_t)order) {
        return FM_OK;
    }
    size_t m = n - (size_t)order + 1, used = 0;
    FM_TRY(fm_grow((void **)grams, cap, m, sizeof **grams));
    for (size_t i = 0; i < m; i++) {
        fm_ngram *g = &(*grams)[i];
        *g = (fm_ngram){.count = 1};
        memcpy(g->id, ids + i, (size_t)order * sizeof *ids);
    }
    qsort(*grams, m, sizeof **grams, compare);
    for (size_t i = 0; i < m; i++) {
        if (used > 0 && fm_ngram_order(&(*grams)[used - 1], &(*grams)[i]) == 0) {
            (*grams)[used - 1].count++;
        } else {
            (*grams)[used++] = (*grams)[i];
        }
    }
    *n_grams = used;
    return FM_OK;
}

uint64_t fm_ngrams_common(const fm_ngram *a, size_t n_a, const fm_ngram *b, size_t n_b) {
    uint64_t sum = 0;
    for (size_t i = 0, j = 0; i < n_a && j < n_b;) {
        int c = fm_ngram_order(&a[i], &b[j]);
        if (c == 0) {
            sum += FM_MIN(a[i].count, b[j].count);
        }
        i += c <= 0;
        j += c >= 0;
    }
    return sum;
}
