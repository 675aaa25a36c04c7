/* Best-fit decreasing with bounded lengths: windows are kept in lists by the room they have, and a tree over the rooms
 * finds the smallest one that is large enough. */
#include "data/packing.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/curriculum.h"

typedef struct packer {
    int32_t len;
    int32_t leaves;  /* power of two above len */
    int64_t *head;   /* [len+1] newest window with this room, -1 = none */
    int64_t *next;   /* [n] of a window */
    bool *any;       /* [2*leaves] tree: some window below has this room */
    int64_t *order;  /* [n] documents by falling length */
    int64_t *window; /* [n] of each document */
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

/* Documents by falling length, equal ones in order. */
static fm_status sort_documents(packer *k, const fm_dataset *d) {
    int64_t n = fm_dataset_documents(d), begin, len;
    int64_t *count = fm_calloc((size_t)k->len + 2, sizeof *count);
    if (!count) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for packing %lld examples", (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        fm_dataset_document(d, i, &begin, &len);
        if (len > k->len) {
            fm_free(count);
            char where[256] = "";
            int64_t doc;
            FM_TRY(fm_dataset_locate(d, begin, &doc, where, sizeof where));
            fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s has %lld tokens, a window %d", where, (long long)len,
                         k->len);
            return fm_error_hint("raise cutoff_len, or pack the rows again with the smaller cutoff_len");
        }
        count[len]++;
    }
    int64_t at = 0;
    for (int32_t l = k->len; l >= 0; l--) {
        int64_t c = count[l];
        count[l] = at;
        at += c;
    }
    for (int64_t i = 0; i < n; i++) {
        fm_dataset_document(d, i, &begin, &len);
        k->order[count[len]++] = i;
    }
    fm_free(count);
    return FM_OK;
}

/* No window has room: a new level begins with windows of its own. */
static void close_windows(packer *k) {
    memset(k->head, 0xff, ((size_t)k->len + 1) * sizeof *k->head);
    memset(k->any, 0, 2 * (size_t)k->leaves * sizeof *k->any);
}

static fm_status pack(fm_packing *p, packer *k, const fm_dataset *d, const uint8_t *level, fm_curriculum *levels) {
    FM_TRY(sort_documents(k, d));
    for (int l = 0; l < (level ? levels->n_levels : 1); l++) {
        close_windows(k);
        for (int64_t i = 0; i < p->n_documents; i++) {
            int64_t begin, len;
            if (!level || level[k->order[i]] == l) {
                fm_dataset_document(d, k->order[i], &begin, &len);
                place(k, k->order[i], (int32_t)len);
            }
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
        p->document[p->begin[k->window[i] + 1]++] = i;
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
    k.order = fm_malloc(n * sizeof *k.order);
    k.window = fm_malloc(n * sizeof *k.window);
    fm_status s = FM_OK;
    if (p) {
        p->n_documents = (int64_t)n;
        p->document = fm_malloc(n * sizeof *p->document);
    }
    if (!p || !p->document || !k.head || !k.next || !k.any || !k.order || !k.window) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for packing %zu examples", n);
    } else {
        s = pack(p, &k, d, level, levels);
    }
    fm_free(k.head);
    fm_free(k.next);
    fm_free(k.any);
    fm_free(k.order);
    fm_free(k.window);
    if (s != FM_OK) {
        fm_packing_free(p);
        *out = NULL;
    }
    return s;
}

void fm_packing_free(fm_packing *p) {
    if (p) {
        fm_free(p->begin);
        fm_free(p->document);
        fm_free(p);
    }
}
