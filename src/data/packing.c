/* Best-fit decreasing with bounded lengths: windows are kept in lists by the room they have, and a tree over the rooms
 * finds the smallest one that is large enough. */
#include "data/packing.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/curriculum.h"

typedef struct packer {
    int32_t len;
    int32_t leaves;  /* power of two above len */
    int64_t *head;   /* [len+1] newest window with this room, -1 = none */
    int64_t *next;   /* [n] of a window */
    bool *any;       /* [2*leaves] tree: some window below has this room */
    int64_t *window; /* [n] of each document */
    int64_t *at;     /* [n] where each document is in the order */
    int64_t n_windows;
} packer;

static void mark(packer *k, int32_t room) {
    int32_t i = k->leaves + room;
    bool now = k->head[room] >= 0;
    for (k->any[i] = now; i > 1; i /= 2) {
        k->any[i / 2] = k->any[i] || k->any[i ^ 1];
    }
}

/* Smallest room >= n that some window has, or -1. */
static int32_t find(const packer *k, int32_t n) {
    int32_t i = k->leaves + n;
    if (k->any[i]) {
        return n;
    }
    while (i > 1 && (i % 2 == 1 || !k->any[i + 1])) {
        i /= 2;
    }
    if (i <= 1) {
        return -1;
    }
    for (i++; i < k->leaves;) {
        i = k->any[2 * i] ? 2 * i : 2 * i + 1;
    }
    return i - k->leaves;
}

static void place(packer *k, int64_t document, int32_t n) {
    int32_t room = find(k, n);
    int64_t w;
    if (room < 0) {
        w = k->n_windows++;
        room = k->len;
    } else {
        w = k->head[room];
        k->head[room] = k->next[w];
        mark(k, room);
    }
    k->window[document] = w;
    room -= n;
    k->next[w] = k->head[room];
    k->head[room] = w;
    mark(k, room);
}

/* Where documents of this level and length are counted: levels up, lengths down. */
static size_t bin(const packer *k, const uint8_t *level, int64_t i, int64_t len) {
    return (size_t)(level ? level[i] : 0) * ((size_t)k->len + 1) + (size_t)(k->len - len);
}

static fm_status too_long(const packer *k, const fm_dataset *d, int64_t begin, int64_t len) {
    char where[256] = "";
    int64_t doc;
    FM_TRY(fm_dataset_locate(d, begin, &doc, where, sizeof where));
    fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s has %lld tokens, a window %d", where, (long long)len, k->len);
    return fm_error_hint("raise cutoff_len, or pack the rows again with the smaller cutoff_len");
}

/* Fills order and group; count [bins] is zero. */
static fm_status sort_into(fm_packing *p, const packer *k, const fm_dataset *d, const uint8_t *level, int64_t *count,
                           size_t n_bins) {
    int64_t begin, len, at = 0;
    for (int64_t i = 0; i < p->n_documents; i++) {
        fm_dataset_document(d, i, &begin, &len);
        if (len > k->len) {
            return too_long(k, d, begin, len);
        }
        p->n_groups += count[bin(k, level, i, len)]++ == 0;
    }
    p->group = fm_malloc(((size_t)p->n_groups + 1) * sizeof *p->group);
    if (!p->group) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for packing %lld examples", (long long)p->n_documents);
    }
    int64_t *group = p->group;
    for (size_t b = 0; b < n_bins; b++) {
        int64_t c = count[b];
        if (c) {
            *group++ = at;
        }
        count[b] = at;
        at += c;
    }
    *group = at;
    for (int64_t i = 0; i < p->n_documents; i++) {
        fm_dataset_document(d, i, &begin, &len);
        p->order[count[bin(k, level, i, len)]++] = i;
    }
    return FM_OK;
}

static fm_status sort_documents(fm_packing *p, const packer *k, const fm_dataset *d, const uint8_t *level,
                                int n_levels) {
    size_t n_bins = (size_t)n_levels * ((size_t)k->len + 1);
    int64_t *count = fm_calloc(n_bins, sizeof *count);
    if (!count) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for packing %lld examples", (long long)p->n_documents);
    }
    fm_status s = sort_into(p, k, d, level, count, n_bins);
    fm_free(count);
    return s;
}

/* No window has room: a new level begins with windows of its own. */
static void close_windows(packer *k) {
    memset(k->head, 0xff, ((size_t)k->len + 1) * sizeof *k->head);
    memset(k->any, 0, 2 * (size_t)k->leaves * sizeof *k->any);
}

static fm_status pack(fm_packing *p, packer *k, const fm_dataset *d, const uint8_t *level, fm_curriculum *levels) {
    int n_levels = level ? levels->n_levels : 1;
    FM_TRY(sort_documents(p, k, d, level, n_levels));
    int64_t o = 0;
    for (int l = 0; l < n_levels; l++) {
        close_windows(k);
        for (; o < p->n_documents && (!level || level[p->order[o]] == l); o++) {
            int64_t begin, len;
            fm_dataset_document(d, p->order[o], &begin, &len);
            place(k, p->order[o], (int32_t)len);
            k->at[p->order[o]] = o;
        }
        if (level) {
            levels->level_begin[l + 1] = k->n_windows;
        }
    }
    p->n_windows = k->n_windows;
    p->begin = fm_calloc((size_t)p->n_windows + 2, sizeof *p->begin);
    if (!p->begin) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for packing %lld examples", (long long)p->n_documents);
    }
    for (int64_t i = 0; i < p->n_documents; i++) {
        p->begin[k->window[i] + 2]++;
    }
    for (int64_t w = 1; w <= p->n_windows; w++) {
        p->begin[w + 1] += p->begin[w];
    }
    for (int64_t i = 0; i < p->n_documents; i++) {
        p->place[p->begin[k->window[i] + 1]++] = k->at[i];
    }
    return FM_OK;
}

fm_status fm_packing_new(fm_packing **out, const fm_dataset *d, int32_t seq_len, const uint8_t *level,
                         fm_curriculum *levels) {
    fm_packing *p = *out = fm_calloc(1, sizeof *p);
    size_t n = (size_t)fm_dataset_documents(d);
    packer k = {.len = seq_len, .leaves = 1};
    while (k.leaves <= seq_len) {
        k.leaves *= 2;
    }
    k.head = fm_malloc(((size_t)seq_len + 1) * sizeof *k.head);
    k.next = fm_malloc(n * sizeof *k.next);
    k.any = fm_calloc(2 * (size_t)k.leaves, sizeof *k.any);
    k.window = fm_malloc(n * sizeof *k.window);
    k.at = fm_malloc(n * sizeof *k.at);
    fm_status s = FM_OK;
    if (p) {
        p->n_documents = (int64_t)n;
        p->place = fm_malloc(n * sizeof *p->place);
        p->order = fm_malloc(n * sizeof *p->order);
    }
    if (!p || !p->place || !p->order || !k.head || !k.next || !k.any || !k.window || !k.at) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for packing %zu examples", n);
    } else {
        s = pack(p, &k, d, level, levels);
    }
    fm_free(k.head);
    fm_free(k.next);
    fm_free(k.any);
    fm_free(k.window);
    fm_free(k.at);
    if (s != FM_OK) {
        fm_packing_free(p);
        *out = NULL;
    }
    return s;
}

int64_t fm_packing_document(const fm_packing *p, int64_t k, uint64_t seed, int64_t epoch) {
    int64_t lo = 0, hi = p->n_groups; /* the group of this place is in [lo,hi) */
    while (hi - lo > 1) {
        int64_t mid = (lo + hi) / 2;
        if (p->group[mid] <= p->place[k]) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    int64_t first = p->group[lo];
    fm_rng_key key = {.seed = seed, .stream = fm_rng_stream("data.packing"), .step = (uint32_t)epoch};
    uint32_t w[4];
    fm_rng_u32x4(w, key, (uint64_t)lo);
    uint64_t i =
        fm_permute((uint64_t)(p->place[k] - first), (uint64_t)(p->group[lo + 1] - first), (uint64_t)w[0] << 32 | w[1]);
    return p->order[first + (int64_t)i];
}

int64_t fm_packing_in_order(const fm_packing *p, int64_t k) {
    return p->order[p->place[k]];
}

void fm_packing_free(fm_packing *p) {
    if (p) {
        fm_free(p->begin);
        fm_free(p->place);
        fm_free(p->order);
        fm_free(p->group);
        fm_free(p);
    }
}
