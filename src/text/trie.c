/* Double-array trie: the child of node s by byte c is t = base[s] + c when check[t] == s. Built from sorted keys; a
 * node's children are placed together at the first base where all their cells are free. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/pipe.h"

#define MAX_NODES ((size_t)1 << 27)

static int by_text(const void *a, const void *b) {
    const fm_trie_key *x = a, *y = b;
    int c = memcmp(x->ptr, y->ptr, FM_MIN(x->len, y->len));
    if (c || x->len != y->len) {
        return c ? c : x->len < y->len ? -1 : 1;
    }
    return (x->value > y->value) - (x->value < y->value);
}

void fm_trie_free(fm_trie *t) {
    fm_free(t->node);
    *t = (fm_trie){0};
}

typedef struct range {
    size_t lo, hi, depth; /* keys[lo..hi) share `depth` bytes */
    int32_t node;
} range;

typedef struct builder {
    fm_trie *t;
    size_t cap, search; /* cells below `search` are taken or not worth trying */
    range *todo;
    size_t n_todo, cap_todo;
} builder;

static fm_status grow_to(builder *b, size_t n) {
    if (n > MAX_NODES) {
        FM_FAIL(FM_ERR_FORMAT, "the vocabulary has too many bytes for a trie (limit %zu nodes)", MAX_NODES);
    }
    size_t old = b->cap;
    void *p = b->t->node;
    FM_TRY(fm_grow(&p, &b->cap, n, sizeof(*b->t->node)));
    b->t->node = p;
    for (size_t i = old; i < b->cap; i++) {
        b->t->node[i] = (fm_trie_node){0, -1, -1};
    }
    b->t->n = FM_MAX(b->t->n, n);
    return FM_OK;
}

/* The base at which the cells of all labels are free. */
static fm_status find_base(builder *b, const uint8_t *label, int n_labels, size_t *base) {
    size_t taken = 0, from = FM_MAX(b->search, (size_t)label[0] + 1);
    bool first = true;
    for (size_t at = from;; at++) {
        FM_TRY(grow_to(b, at + 256));
        const fm_trie_node *node = b->t->node;
        if (node[at].check != -1) {
            taken++;
            continue;
        }
        if (first) {
            b->search = at;
            first = false;
        }
        size_t try_base = at - label[0];
        int k = 1;
        while (k < n_labels && node[try_base + label[k]].check == -1) {
            k++;
        }
        if (k == n_labels) {
            /* A nearly full stretch is not searched again. */
            if (at - from >= 64 && taken * 20 >= (at - from) * 19) {
                b->search = at;
            }
            *base = try_base;
            return FM_OK;
        }
        if (at - b->search > 4096) { /* crowded: give up on the holes behind */
            b->search = at - 2048;
        }
    }
}

static fm_status place_children(builder *b, const fm_trie_key *keys, range r) {
    uint8_t label[256];
    size_t begin[257];
    int n_labels = 0;
    size_t i = r.lo;
    while (i < r.hi && keys[i].len == r.depth) {
        b->t->node[r.node].value = keys[i++].value;
    }
    while (i < r.hi) {
        uint8_t c = (uint8_t)keys[i].ptr[r.depth];
        label[n_labels] = c;
        begin[n_labels++] = i;
        /* The end of the run of c, by bisection: runs are long near the root. */
        size_t lo = i + 1, hi = r.hi;
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            if ((uint8_t)keys[mid].ptr[r.depth] == c) {
                lo = mid + 1;
            } else {
                hi = mid;
            }
        }
        i = lo;
    }
    begin[n_labels] = r.hi;
    if (!n_labels) {
        return FM_OK;
    }
    size_t base;
    FM_TRY(find_base(b, label, n_labels, &base));
    b->t->node[r.node].base = (int32_t)base;
    void *p = b->todo;
    FM_TRY(fm_grow(&p, &b->cap_todo, b->n_todo + (size_t)n_labels, sizeof(*b->todo)));
    b->todo = p;
    for (int k = n_labels - 1; k >= 0; k--) {
        b->t->node[base + label[k]].check = r.node;
        b->todo[b->n_todo++] = (range){begin[k], begin[k + 1], r.depth + 1, (int32_t)(base + label[k])};
    }
    return FM_OK;
}

fm_status fm_trie_build(fm_trie *t, fm_trie_key *keys, size_t n) {
    *t = (fm_trie){0};
    if (n > 1) {
        qsort(keys, n, sizeof(*keys), by_text);
    }
    size_t skip = 0;
    while (skip < n && keys[skip].len == 0) {
        skip++;
    }
    builder b = {.t = t, .search = 1};
    fm_status s = grow_to(&b, 512);
    if (s == FM_OK) {
        t->node[0].check = INT32_MAX; /* taken, and nobody's child */
        s = place_children(&b, keys, (range){skip, n, 0, 0});
    }
    while (s == FM_OK && b.n_todo) {
        s = place_children(&b, keys, b.todo[--b.n_todo]);
    }
    fm_free(b.todo);
    if (s != FM_OK) {
        fm_trie_free(t);
    }
    return s;
}
