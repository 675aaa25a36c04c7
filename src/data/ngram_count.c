/* Counting of n-grams: a hash table for each order; when together they outgrow half of the memory they are emptied
 * into sorters. */
#include <string.h>
#include <stdio.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/ngram_train.h"

#define FIRST_SLOTS ((size_t)1 << 10)

/* ---- tables ---- */

fm_status fm_ngram_sorter(fm_ngram_trainer *t, fm_sorter **out, int words, int64_t memory) {
    char path[4096], name[32];
    snprintf(name, sizeof name, "sort-%d", t->temporary++);
    FM_TRY(fm_path_join(path, sizeof path, t->dir, name));
    return fm_sorter_new(out, words, memory, path);
}

static fm_ngram_seen *find(const fm_ngram_counts *c, uint64_t key) {
    size_t i = (size_t)key & c->mask;
    while (c->slot[i].key && c->slot[i].key != key) {
        i = (i + 1) & c->mask;
    }
    return &c->slot[i];
}

/* All counts into the sorters. */
static fm_status empty(fm_ngram_trainer *t) {
    for (int n = 0; n < t->o.order; n++) {
        fm_ngram_counts *c = &t->at[n];
        if (!c->sorter) {
            FM_TRY(fm_ngram_sorter(t, &c->sorter, 4, t->o.memory / (2 * t->o.order)));
        }
        for (size_t i = 0; c->slot && c->n && i <= c->mask; i++) {
            const fm_ngram_seen *s = &c->slot[i];
            if (s->key) {
                const uint64_t record[4] = {s->key, s->context, s->rest, s->count};
                FM_TRY(fm_sorter_push(c->sorter, record));
                c->slot[i].key = 0;
            }
        }
        c->n = 0;
    }
    return FM_OK;
}

static fm_status grow(fm_ngram_trainer *t, fm_ngram_counts *c) {
    size_t slots = c->slot ? 2 * (c->mask + 1) : FIRST_SLOTS, bytes = slots * sizeof *c->slot;
    if (c->slot && t->table_bytes + bytes > (size_t)t->o.memory / 2) {
        return empty(t);
    }
    fm_ngram_counts more = {.slot = fm_calloc(slots, sizeof *c->slot), .n = c->n, .mask = slots - 1};
    if (!more.slot) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot count %zu n-grams", c->n);
    }
    for (size_t i = 0; c->slot && i <= c->mask; i++) {
        if (c->slot[i].key) {
            *find(&more, c->slot[i].key) = c->slot[i];
        }
    }
    t->table_bytes += bytes - (c->slot ? bytes / 2 : 0);
    fm_free(c->slot);
    c->slot = more.slot;
    c->mask = more.mask;
    return FM_OK;
}

static fm_status count(fm_ngram_trainer *t, fm_ngram_counts *c, fm_ngram_seen seen) {
    if (!c->slot || c->n * 3 > c->mask * 2) {
        FM_TRY(grow(t, c));
    }
    fm_ngram_seen *s = find(c, seen.key);
    if (s->key) {
        s->count += 2;
    } else {
        *s = seen;
        s->count += 2;
        c->n++;
    }
    return FM_OK;
}

static fm_status add_line(fm_ngram_trainer *t) {
    uint64_t before[FM_NGRAM_MOST_ORDER] = {0}, key[FM_NGRAM_MOST_ORDER] = {0}; /* [i]: of i + 1 words */
    const size_t n = t->line.n;
    for (size_t i = 0; i < n + 2; i++) { /* <s>, the line's units, </s> */
        for (size_t k = 0; k < (size_t)t->o.order && k <= i; k++) {
            size_t first = i - k;
            uint64_t w = first == 0 ? FM_NGRAM_BOS : first == n + 1 ? FM_NGRAM_EOS : t->line.item[first - 1];
            key[k] = fm_ngram_key(k ? key[k - 1] : 0, w);
            key[k] += key[k] == 0;
            const fm_ngram_seen s = {
                .key = key[k], .context = k ? before[k - 1] : 0, .rest = k ? key[k - 1] : 0, .count = first == 0};
            FM_TRY(count(t, &t->at[k], s));
        }
        memcpy(before, key, sizeof before);
    }
    t->n_units += (int64_t)n + 1;
    t->n_lines++;
    return FM_OK;
}

fm_status fm_ngram_train_add(fm_ngram_trainer *t, fm_sv text) {
    fm_sv v;
    for (size_t at = 0; fm_ngram_next_line(text, &at, &v);) {
        FM_TRY(fm_ngram_split(&t->line, v, t->o.unit, t->o.lowercase));
        if (t->line.n) {
            FM_TRY(add_line(t));
        }
    }
    return FM_OK;
}

/* One order's sorted counts into its spool, equal keys together. */
static fm_status merge(fm_sorter *sorter, fm_spool *to) {
    const uint64_t *r;
    uint64_t sum[4] = {0};
    FM_TRY(fm_sorter_sort(sorter));
    for (;;) {
        FM_TRY(fm_sorter_next(sorter, &r));
        if (sum[0] && (!r || r[0] != sum[0])) {
            FM_TRY(fm_spool_put(to, sum));
            sum[0] = 0;
        }
        if (!r) {
            return FM_OK;
        }
        if (sum[0]) {
            sum[3] += r[3] & ~UINT64_C(1);
        } else {
            memcpy(sum, r, sizeof sum);
        }
    }
}

fm_status fm_ngram_counts_finish(fm_ngram_trainer *t) {
    FM_TRY(empty(t));
    for (int n = 0; n < t->o.order; n++) {
        fm_free(t->at[n].slot);
        t->at[n].slot = NULL;
    }
    t->table_bytes = 0;
    for (int n = 0; n < t->o.order; n++) {
        FM_TRY(fm_spool_open(&t->seen[n], 4, t->dir));
        FM_TRY(merge(t->at[n].sorter, &t->seen[n]));
        fm_sorter_free(t->at[n].sorter);
        t->at[n].sorter = NULL;
    }
    return FM_OK;
}

void fm_ngram_counts_free(fm_ngram_trainer *t) {
    for (int n = 0; n < FM_NGRAM_MOST_ORDER; n++) {
        fm_free(t->at[n].slot);
        fm_sorter_free(t->at[n].sorter);
        fm_spool_close(&t->seen[n]);
    }
}
