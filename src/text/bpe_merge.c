/* Merging the bytes of one piece: the pair of lowest rank first, the leftmost of equal ones, until no
 * pair has a merge.
 *
 * Three paths. Most pieces of real text were seen shortly before: a direct-mapped cache of pieces up to
 * 32 bytes answers them with one cache line. Short pieces are merged in arrays on the stack with a scan
 * for the minimum, which beats any cleverer structure at that size. Long ones (a line of Chinese, a
 * megabyte of 'a') use a heap of candidate pairs over a linked list: O(n log n). */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"

#define NO_PAIR   UINT64_MAX
#define SHORT_MAX 64
#define NO_NODE   UINT32_MAX

fm_status fm_bpe_worker_new(fm_bpe_worker **out, const fm_tokenizer *t) {
    fm_bpe_worker *w = fm_calloc(1, sizeof(*w));
    if (!w) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an encoder");
    }
    w->t = t;
    w->rank_limit = UINT32_MAX;
    w->cache = fm_calloc(FM_PIECE_CACHE, sizeof(*w->cache));
    if (!w->cache) {
        fm_bpe_worker_free(w);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the piece cache of an encoder");
    }
    *out = w;
    return FM_OK;
}

void fm_bpe_worker_free(fm_bpe_worker *w) {
    if (!w) {
        return;
    }
    fm_free(w->cache);
    fm_free(w->node);
    fm_free(w->pair);
    fm_free(w->heap);
    fm_str_free(&w->text);
    fm_norm_scratch_free(&w->scratch);
    fm_pre_work_free(&w->pre);
    fm_free(w->lattice);
    fm_free(w);
}

fm_status fm_bpe_worker_acquire(fm_bpe_worker **out, const fm_tokenizer *t) {
    /* The slots are the only part of a tokenizer that changes after it was built. */
    fm_tokenizer *shared = (fm_tokenizer *)(uintptr_t)t;
    for (int i = 0; i < FM_TOK_SLOTS; i++) {
        if (atomic_load_explicit(&shared->slots[i], memory_order_relaxed)) {
            fm_bpe_worker *w = atomic_exchange(&shared->slots[i], NULL);
            if (w) {
                *out = w;
                return FM_OK;
            }
        }
    }
    return fm_bpe_worker_new(out, t);
}

void fm_bpe_worker_release(fm_bpe_worker *w) {
    fm_tokenizer *shared = (fm_tokenizer *)(uintptr_t)w->t;
    /* Scratch of an unusually long piece is not kept. */
    if (w->cap_nodes > (1u << 20)) {
        fm_bpe_worker_free(w);
        return;
    }
    for (int i = 0; i < FM_TOK_SLOTS; i++) {
        fm_bpe_worker *none = NULL;
        if (atomic_compare_exchange_strong(&shared->slots[i], &none, w)) {
            return;
        }
    }
    fm_bpe_worker_free(w);
}

static inline uint64_t pair_of(const fm_bpe_worker *w, uint32_t a, uint32_t b) {
    const fm_pairmap_slot *s = fm_pairmap_get(&w->t->pairs, a, b);
    return s && s->x < w->rank_limit ? (uint64_t)s->x << 32 | s->y : NO_PAIR;
}

/* Pairs of the first ids, pair[0 .. n-2]; n ids of the len bytes at p. */
static void first_pairs(const fm_bpe_worker *w, uint64_t *pair, const uint32_t *id, size_t n, const uint8_t *p) {
    const uint64_t *table = w->t->byte_pairs;
    if (!table) {
        for (size_t i = 0; i + 1 < n; i++) {
            pair[i] = pair_of(w, id[i], id[i + 1]);
        }
        return;
    }
    for (size_t i = 0; i + 1 < n; i++) {
        uint64_t v = table[(size_t)p[i] << 8 | p[i + 1]];
        pair[i] = v >> 32 < w->rank_limit ? v : NO_PAIR;
    }
}

fm_status fm_tokens_reserve(fm_tokens *out, size_t more) {
    if (out->cap - out->n >= more) {
        return FM_OK;
    }
    void *p = out->ids;
    FM_TRY(fm_grow(&p, &out->cap, out->n + more, sizeof(*out->ids)));
    out->ids = p;
    return FM_OK;
}

fm_status fm_tokens_push(fm_tokens *out, int32_t id) {
    FM_TRY(fm_tokens_reserve(out, 1));
    out->ids[out->n++] = id;
    return FM_OK;
}

/* Ids of the single bytes. A byte without a token becomes the unknown token, or nothing when there is
 * none (as the Hugging Face library does). */
static size_t first_ids(const fm_tokenizer *t, uint32_t *ids, const uint8_t *p, size_t n) {
    size_t k = 0;
    bool last_unk = false;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[p[i]];
        if (id >= 0) {
            ids[k++] = (uint32_t)id;
            last_unk = false;
        } else if (t->unk_token && t->unk >= 0 && !(last_unk && t->fuse_unk)) {
            ids[k++] = (uint32_t)t->unk;
            last_unk = true;
        }
    }
    return k;
}

/* Merges id[n] in place with pair[n - 1]; returns how many remain. */
static size_t merge_array(const fm_bpe_worker *w, uint32_t *id, uint64_t *pair, size_t n) {
    while (n > 1) {
        size_t best = 0;
        uint64_t low = pair[0];
        for (size_t i = 1; i + 1 < n; i++) {
            if (pair[i] >> 32 < low >> 32) { /* of one rank the leftmost */
                low = pair[i];
                best = i;
            }
        }
        if (low == NO_PAIR) {
            break;
        }
        id[best] = (uint32_t)low;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            id[i] = id[i + 1];
            pair[i - 1] = pair[i];
        }
        if (best + 1 < n) {
            pair[best] = pair_of(w, id[best], id[best + 1]);
        }
        if (best > 0) {
            pair[best - 1] = pair_of(w, id[best - 1], id[best]);
        }
    }
    return n;
}

static size_t merge_short(const fm_bpe_worker *w, int32_t *out, const uint8_t *p, size_t len) {
    uint32_t id[SHORT_MAX];
    uint64_t pair[SHORT_MAX];
    size_t n = first_ids(w->t, id, p, len);
    first_pairs(w, pair, id, n, p);
    n = merge_array(w, id, pair, n);
    for (size_t i = 0; i < n; i++) {
        out[i] = (int32_t)id[i];
    }
    return n;
}

static void sift_down(uint64_t *heap, size_t n, size_t i) {
    uint64_t v = heap[i];
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n) {
            break;
        }
        c += c + 1 < n && heap[c + 1] < heap[c];
        if (heap[c] >= v) {
            break;
        }
        heap[i] = heap[c];
        i = c;
    }
    heap[i] = v;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t v) {
    size_t i = (*n)++;
    while (i > 0 && heap[(i - 1) / 2] > v) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = v;
}

fm_status fm_bpe_reserve(fm_bpe_worker *w, size_t n) {
    if (n <= w->cap_nodes) {
        return FM_OK;
    }
    if (n >= NO_NODE / 4) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "a piece of %zu bytes without a place to split is too long to merge", n);
    }
    fm_free(w->node);
    fm_free(w->pair);
    fm_free(w->heap);
    size_t cap = FM_MAX(n + n / 2, (size_t)1024);
    w->cap_nodes = 0;
    w->node = fm_malloc(3 * cap * sizeof(*w->node));
    w->pair = fm_malloc(cap * sizeof(*w->pair));
    w->heap = fm_malloc(3 * cap * sizeof(*w->heap));
    if (!w->node || !w->pair || !w->heap) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to merge a piece of %zu bytes", n);
    }
    w->cap_nodes = cap;
    return FM_OK;
}

/* Each merge pushes at most two candidates, so 3n heap entries are enough. An entry is stale when the
 * pair now at its position has another rank. */
static fm_status merge_heap(fm_bpe_worker *w, fm_tokens *out, size_t n) {
    uint32_t *id = w->node, *prev = id + w->cap_nodes, *next = prev + w->cap_nodes;
    uint64_t *pair = w->pair, *heap = w->heap;
    size_t n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        prev[i] = i ? (uint32_t)(i - 1) : NO_NODE;
        next[i] = i + 1 < n ? (uint32_t)(i + 1) : NO_NODE;
        if (i + 1 == n) {
            pair[i] = NO_PAIR;
        } else if (pair[i] != NO_PAIR) {
            heap[n_heap++] = (pair[i] & 0xFFFFFFFF00000000u) | i;
        }
    }
    for (size_t i = n_heap / 2; i-- > 0;) {
        sift_down(heap, n_heap, i);
    }
    while (n_heap) {
        uint64_t top = heap[0];
        heap[0] = heap[--n_heap];
        if (n_heap) {
            sift_down(heap, n_heap, 0);
        }
        uint32_t i = (uint32_t)top;
        if (pair[i] == NO_PAIR || pair[i] >> 32 != top >> 32) {
            continue;
        }
        uint32_t gone = next[i], after = next[gone], before = prev[i];
        id[i] = (uint32_t)pair[i];
        pair[gone] = NO_PAIR;
        next[i] = after;
        pair[i] = NO_PAIR;
        if (after != NO_NODE) {
            prev[after] = i;
            pair[i] = pair_of(w, id[i], id[after]);
            if (pair[i] != NO_PAIR) {
                heap_push(heap, &n_heap, (pair[i] & 0xFFFFFFFF00000000u) | i);
            }
        }
        if (before != NO_NODE) {
            pair[before] = pair_of(w, id[before], id[i]);
            if (pair[before] != NO_PAIR) {
                heap_push(heap, &n_heap, (pair[before] & 0xFFFFFFFF00000000u) | before);
            }
        }
    }
    for (uint32_t i = 0; n && i != NO_NODE; i = next[i]) {
        FM_TRY(fm_tokens_reserve(out, 1));
        out->ids[out->n++] = (int32_t)id[i];
    }
    return FM_OK;
}

fm_status fm_bpe_merge(fm_bpe_worker *w, fm_tokens *out, size_t n) {
    for (size_t i = 0; i + 1 < n; i++) {
        w->pair[i] = pair_of(w, w->node[i], w->node[i + 1]);
    }
    if (n > SHORT_MAX) {
        return merge_heap(w, out, n);
    }
    n = merge_array(w, w->node, w->pair, n);
    FM_TRY(fm_tokens_reserve(out, n));
    for (size_t i = 0; i < n; i++) {
        out->ids[out->n++] = (int32_t)w->node[i];
    }
    return FM_OK;
}

/* A piece that the cache does not have. */
static fm_status run_model(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n) {
    uint32_t id;
    if (w->t->model) {
        return w->t->model(w, out, p, n);
    }
    if (w->t->ignore_merges && fm_strtab_get(&w->t->by_bytes, p, n, &id)) {
        return fm_tokens_push(out, (int32_t)id);
    }
    if (n > SHORT_MAX) {
        FM_TRY(fm_bpe_reserve(w, n));
        size_t k = first_ids(w->t, w->node, p, n);
        first_pairs(w, w->pair, w->node, k, p);
        return merge_heap(w, out, k);
    }
    FM_TRY(fm_tokens_reserve(out, n));
    out->n += merge_short(w, out->ids + out->n, p, n);
    return FM_OK;
}

/* n (1 to 8) bytes as a number; reads past them only below `end`. */
static inline uint64_t load_bytes(const uint8_t *p, size_t n, const uint8_t *end) {
    uint64_t v = 0;
    if (end - p >= 8) {
        memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap64(v);
#endif
        return v & (UINT64_MAX >> (64 - 8 * n));
    }
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

fm_status fm_bpe_piece(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n, const uint8_t *end) {
    if (n > FM_PIECE_MAX) {
        return run_model(w, out, p, n);
    }
    FM_TRY(fm_tokens_reserve(out, FM_PIECE_IDS));
    int32_t *ids = out->ids + out->n;
    uint64_t key[4] = {load_bytes(p, FM_MIN(n, (size_t)8), end), 0, 0, 0};
    uint64_t h = key[0] * 0x9E3779B97F4A7C15u + n;
    for (size_t i = 8, k = 1; i < n; i += 8, k++) {
        key[k] = load_bytes(p + i, FM_MIN(n - i, (size_t)8), end);
        h = (h ^ (h >> 29) ^ key[k]) * 0x9E3779B97F4A7C15u;
    }
    fm_piece_slot *s = &w->cache[(h ^ (h >> 17)) >> 40 & (FM_PIECE_CACHE - 1)];
    if (s->len == n && s->key[0] == key[0] && s->key[1] == key[1] && s->key[2] == key[2] && s->key[3] == key[3]) {
        memcpy(ids, s->ids, sizeof(s->ids));
        out->n += s->n;
        return FM_OK;
    }
    size_t before = out->n;
    FM_TRY(run_model(w, out, p, n));
    size_t k = out->n - before;
    if (k <= FM_PIECE_IDS) {
        memcpy(s->key, key, sizeof(key));
        memcpy(s->ids, out->ids + before, k * sizeof(*s->ids));
        s->len = (uint8_t)n;
        s->n = (uint8_t)k;
    }
    return FM_OK;
}

fm_status fm_bpe_plain(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n) {
    fm_splitter s;
    fm_splitter_init(&s, w->t->split, p, n);
    const uint8_t *piece;
    for (size_t len; (len = fm_splitter_next(&s, &piece)) != 0;) {
        FM_TRY(fm_bpe_piece(w, out, piece, len, p + n));
    }
    return FM_OK;
}
