/* Counting pre-tokens of a corpus in bounded memory.
 *
 * Texts are read into batches of fixed size. Threads count a batch into tables of their own, one per
 * shard (the upper hash bits choose it); then each shard is added to the global one by one thread. Counts
 * are sums, so they do not depend on who counted what. When the tables outgrow the limit, the rarest
 * pre-tokens are dropped, after a batch and by global counts, so that does not depend on threads either. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/progress.h"
#include "text/bpe.h"

/* A long text is counted in parts of about this size. */
#define PART_BYTES ((size_t)64 << 10)

typedef struct word_shards {
    fm_word_table shard[FM_WORD_SHARDS];
} word_shards;

struct fm_word_counter {
    fm_split_kind split;
    fm_pool *pool;
    int64_t max_memory;
    word_shards total;
    word_shards *local; /* [threads]; NULL with one thread, which counts into total */
    char *batch;        /* texts of the batch, one after the other */
    size_t batch_len, batch_cap, batch_target;
    size_t *part_end; /* [n_parts] ends in batch; none inside a pre-token */
    size_t n_parts, cap_parts;
    int64_t lost[FM_WORD_SHARDS];
};

static void table_free(fm_word_table *t) {
    fm_free(t->slot);
    fm_str_free(&t->blob);
    *t = (fm_word_table){0};
}

static void table_clear(fm_word_table *t) {
    if (t->n) {
        memset(t->slot, 0, (t->mask + 1) * sizeof(*t->slot));
    }
    t->n = 0;
    fm_str_clear(&t->blob);
}

static fm_status table_resize(fm_word_table *t, size_t want) {
    size_t cap = t->slot ? t->mask + 1 : 0;
    fm_word *slot = fm_calloc(want, sizeof(*slot));
    if (!slot) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu pre-tokens", want);
    }
    for (size_t i = 0; i < cap; i++) {
        if (t->slot[i].hash) {
            size_t j = (size_t)t->slot[i].hash & (want - 1);
            while (slot[j].hash) {
                j = (j + 1) & (want - 1);
            }
            slot[j] = t->slot[i];
        }
    }
    fm_free(t->slot);
    t->slot = slot;
    t->mask = want - 1;
    return FM_OK;
}

static fm_status table_add(fm_word_table *t, const char *p, size_t n, uint64_t hash, uint64_t count) {
    if (!t->slot || t->n + 1 > (t->mask + 1) / 4 * 3) {
        FM_TRY(table_resize(t, t->slot ? 2 * (t->mask + 1) : 64));
    }
    size_t i = (size_t)hash & t->mask;
    for (;; i = (i + 1) & t->mask) {
        fm_word *w = &t->slot[i];
        /* A word with a hash has its text. NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
        if (w->hash == hash && w->len == n && !memcmp(t->blob.data + w->off, p, n)) {
            w->count += count;
            return FM_OK;
        }
        if (!w->hash) {
            break;
        }
    }
    size_t off = t->blob.len;
    fm_str_append(&t->blob, p, n);
    FM_TRY(fm_str_check(&t->blob));
    t->slot[i] = (fm_word){count, hash, off, (uint32_t)n};
    t->n++;
    return FM_OK;
}

fm_status fm_word_counter_new(fm_word_counter **out, fm_split_kind split, int64_t max_memory, fm_pool *pool) {
    fm_word_counter *c = fm_calloc(1, sizeof(*c));
    if (!c) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a pre-token counter");
    }
    c->split = split;
    c->pool = pool;
    c->max_memory = max_memory;
    c->batch_target = (size_t)FM_MIN(FM_MAX(max_memory / 16, (int64_t)1 << 16), (int64_t)8 << 20);
    int n = fm_pool_threads(pool);
    if (n > 1 && !(c->local = fm_calloc((size_t)n, sizeof(*c->local)))) {
        fm_free(c);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the pre-token tables of %d threads", n);
    }
    *out = c;
    return FM_OK;
}

static void free_local(fm_word_counter *c) {
    for (int k = 0; c->local && k < fm_pool_threads(c->pool); k++) {
        for (int i = 0; i < FM_WORD_SHARDS; i++) {
            table_free(&c->local[k].shard[i]);
        }
    }
    fm_free(c->local);
    fm_free(c->batch);
    fm_free(c->part_end);
    c->local = NULL;
    c->batch = NULL;
    c->part_end = NULL;
}

void fm_word_counter_free(fm_word_counter *c) {
    if (!c) {
        return;
    }
    free_local(c);
    for (int i = 0; i < FM_WORD_SHARDS; i++) {
        table_free(&c->total.shard[i]);
    }
    fm_free(c);
}

const fm_word_table *fm_word_counter_shard(const fm_word_counter *c, int i) {
    return &c->total.shard[i];
}

static fm_status add_part(fm_word_counter *c, size_t end) {
    void *p = c->part_end;
    FM_TRY(fm_grow(&p, &c->cap_parts, c->n_parts + 1, sizeof(*c->part_end)));
    c->part_end = p;
    c->part_end[c->n_parts++] = end;
    return FM_OK;
}

static bool ascii_letter(char c) {
    return (uint8_t)((c | 0x20) - 'a') < 26;
}

/* Cuts a long text where every pattern cuts too: between one line end after a visible ASCII character and
 * an ASCII letter. */
static fm_status add_text(fm_word_counter *c, const char *text, size_t n) {
    size_t base = c->batch_len;
    if (n > SIZE_MAX / 2 - base) {
        FM_FAIL(FM_ERR_DATA, "a text of %zu bytes is too long", n);
    }
    void *p = c->batch;
    FM_TRY(fm_grow(&p, &c->batch_cap, base + n, 1));
    c->batch = p;
    memcpy(c->batch + base, text, n);
    c->batch_len += n;
    size_t from = 0;
    while (c->split != FM_SPLIT_NONE && n - from > PART_BYTES) {
        const char *q = text + from + PART_BYTES;
        size_t cut = 0;
        while (q && q < text + n) {
            q = memchr(q, '\n', (size_t)(text + n - q));
            if (q && q + 1 < text + n && ascii_letter(q[1]) && q[-1] > ' ' && q[-1] < 0x7F) {
                cut = (size_t)(q + 1 - text);
                break;
            }
            q = q ? q + 1 : NULL;
        }
        if (!cut) {
            break;
        }
        FM_TRY(add_part(c, base + cut));
        from = cut;
    }
    return add_part(c, c->batch_len);
}

static fm_status count_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    fm_word_counter *c = arg;
    word_shards *to = c->local ? &c->local[thread] : &c->total;
    size_t begin = part ? c->part_end[part - 1] : 0;
    fm_splitter s;
    fm_splitter_init(&s, c->split, c->batch + begin, c->part_end[part] - begin);
    const uint8_t *piece;
    for (size_t n; (n = fm_splitter_next(&s, &piece)) != 0;) {
        if (n > UINT32_MAX) {
            FM_FAIL(FM_ERR_DATA, "a pre-token of %zu bytes is too long", n);
        }
        uint64_t hash = fm_hash64(piece, n, 0);
        hash += hash == 0;
        FM_TRY(table_add(&to->shard[hash >> 58], (const char *)piece, n, hash, 1));
    }
    return FM_OK;
}

static fm_status merge_shard(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    fm_word_counter *c = arg;
    for (int k = 0; k < fm_pool_threads(c->pool); k++) {
        fm_word_table *from = &c->local[k].shard[part];
        for (size_t i = 0; from->n && i <= from->mask; i++) {
            const fm_word *w = &from->slot[i];
            if (w->hash) {
                FM_TRY(table_add(&c->total.shard[part], from->blob.data + w->off, w->len, w->hash, w->count));
            }
        }
        table_clear(from);
    }
    return FM_OK;
}

/* What the tables and, later, the words as symbols with their pair positions take; by contents, not by
 * capacity, so that it is the same for any number of threads. */
static int64_t memory_use(const fm_word_counter *c) {
    size_t n = 0, bytes = 0;
    for (int i = 0; i < FM_WORD_SHARDS; i++) {
        n += c->total.shard[i].n;
        bytes += c->total.shard[i].blob.len;
    }
    return (int64_t)(n * 2 * sizeof(fm_word) + bytes * 13);
}

typedef struct prune_job {
    fm_word_counter *c;
    uint64_t threshold;
} prune_job;

/* Rebuilds a shard without the words of count <= threshold. */
static fm_status prune_shard(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    prune_job *j = arg;
    fm_word_table *old = &j->c->total.shard[part], new = {0};
    int64_t lost = 0;
    for (size_t i = 0; old->n && i <= old->mask; i++) {
        const fm_word *w = &old->slot[i];
        if (w->hash && w->count > j->threshold) {
            fm_status s = table_add(&new, old->blob.data + w->off, w->len, w->hash, w->count);
            if (s != FM_OK) {
                table_free(&new);
                return s;
            }
        } else if (w->hash) {
            lost += (int64_t)w->count;
        }
    }
    table_free(old);
    *old = new;
    j->c->lost[part] += lost;
    return FM_OK;
}

static fm_status count_batch(fm_word_counter *c, fm_bpe_train_info *info) {
    if (!c->n_parts) {
        return FM_OK;
    }
    FM_TRY(fm_pool_run_dynamic(c->pool, (int64_t)c->n_parts, count_part, c));
    if (c->local) {
        FM_TRY(fm_pool_run_dynamic(c->pool, FM_WORD_SHARDS, merge_shard, c));
    }
    c->n_parts = 0;
    c->batch_len = 0;
    if (memory_use(c) <= c->max_memory) {
        return FM_OK;
    }
    prune_job j = {c, 0};
    /* Some room, or the next batch would prune again. */
    while (memory_use(c) > c->max_memory / 4 * 3) {
        j.threshold += 1 + j.threshold / 4;
        FM_TRY(fm_pool_run_dynamic(c->pool, FM_WORD_SHARDS, prune_shard, &j));
    }
    info->prune_threshold += (int64_t)j.threshold;
    return FM_OK;
}

fm_status fm_word_counter_read(fm_word_counter *c, fm_text_next_fn next, void *user, fm_bpe_train_info *info) {
    fm_meter meter;
    fm_meter_start(&meter, "counting pre-tokens", "bytes", 0);
    for (;;) {
        fm_text text = {0};
        bool end = false;
        FM_TRY(next(user, &text, &end));
        if (end) {
            break;
        }
        if (text.len) {
            FM_TRY(add_text(c, text.ptr, text.len));
        }
        info->n_texts++;
        info->n_bytes += (int64_t)text.len;
        if (c->batch_len >= c->batch_target) {
            FM_TRY(count_batch(c, info));
            fm_meter_update(&meter, (double)info->n_bytes, "");
            if (fm_cancelled()) {
                FM_FAIL(FM_ERR_CANCELLED, "tokenizer: stopped while counting pre-tokens");
            }
        }
    }
    FM_TRY(count_batch(c, info));
    fm_meter_end(&meter, (double)info->n_bytes, "");
    for (int i = 0; i < FM_WORD_SHARDS; i++) {
        const fm_word_table *t = &c->total.shard[i];
        info->n_unique += (int64_t)t->n;
        info->n_pruned += c->lost[i];
        for (size_t k = 0; t->n && k <= t->mask; k++) {
            info->n_pieces += (int64_t)t->slot[k].count;
        }
    }
    info->n_pieces += info->n_pruned;
    free_local(c);
    return FM_OK;
}
