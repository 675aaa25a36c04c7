/* Added tokens: found in text before it is split, the leftmost one first and of those the longest. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/unicode.h"

void fm_added_set_free(fm_added_set *s) {
    fm_pairmap_free(&s->edges);
    fm_free(s->token);
    *s = (fm_added_set){0};
}

static fm_status new_node(fm_added_set *s, uint32_t *node) {
    void *p = s->token;
    FM_TRY(fm_grow(&p, &s->cap, s->n_nodes + 1, sizeof(*s->token)));
    s->token = p;
    s->token[s->n_nodes] = -1;
    *node = (uint32_t)s->n_nodes++;
    return FM_OK;
}

static fm_status add_token(fm_added_set *s, const char *text, size_t n, int32_t index) {
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)text[i];
        const fm_pairmap_slot *e = fm_pairmap_get(&s->edges, node, c);
        if (e) {
            node = e->x;
            continue;
        }
        uint32_t child;
        FM_TRY(new_node(s, &child));
        FM_TRY(fm_pairmap_put(&s->edges, node, c, child, 0));
        node = child;
    }
    s->token[node] = index;
    s->first[(uint8_t)text[0]] = true;
    s->n_tokens++;
    return FM_OK;
}

/* A token that is looked for in normalised text is normalised, too, and decodes to that. */
static fm_status normalize_entry(fm_tokenizer *t, fm_tok_entry *e) {
    fm_norm_scratch scratch = {0};
    const uint8_t *p = (const uint8_t *)t->blob.data + e->off;
    size_t n = e->len;
    bool at_zero = true;
    fm_status st = fm_norm_run(&t->norm, &scratch, &p, &n, &at_zero);
    if (st == FM_OK && n && n <= UINT32_MAX && (n != e->len || memcmp(p, t->blob.data + e->off, n) != 0)) {
        e->off = t->blob.len;
        e->len = (uint32_t)n;
        fm_str_append(&t->blob, (const char *)p, n);
        st = fm_str_check(&t->blob);
    }
    fm_norm_scratch_free(&scratch);
    return st;
}

fm_status fm_added_set_build(fm_added_set *s, fm_tokenizer *t, bool normalized) {
    uint32_t root;
    s->only_first = -1;
    FM_TRY(new_node(s, &root));
    for (size_t i = 0; i < t->n_added; i++) {
        const fm_added_token *a = &t->added[i];
        fm_tok_entry *e = &t->entry[a->id];
        /* Unigram of SentencePiece chooses user-defined symbols by their scores. */
        if (t->spm && t->spm->unigram && !a->special) {
            continue;
        }
        if (a->normalized == normalized && e->len) {
            if (normalized && t->norm.n && !t->spm) {
                FM_TRY(normalize_entry(t, e));
            }
            FM_TRY(add_token(s, t->blob.data + e->off, e->len, (int32_t)i));
        }
    }
    int n_first = 0;
    for (int c = 0; c < 256; c++) {
        if (s->first[c]) {
            s->only_first = n_first++ ? -1 : c;
        }
    }
    return FM_OK;
}

/* Longest token at p, or -1. */
static int32_t match_at(const fm_added_set *s, const uint8_t *p, const uint8_t *end, size_t *len) {
    uint32_t node = 0;
    int32_t best = -1;
    for (const uint8_t *q = p; q < end; q++) {
        const fm_pairmap_slot *e = fm_pairmap_get(&s->edges, node, *q);
        if (!e) {
            break;
        }
        node = e->x;
        if (s->token[node] >= 0) {
            best = s->token[node];
            *len = (size_t)(q + 1 - p);
        }
    }
    return best;
}

static bool is_word(uint32_t cp) {
    return fm_uni_class(cp) & FM_UNI_W;
}

static bool stands_alone(const uint8_t *text, size_t n, size_t start, size_t stop) {
    uint32_t cp;
    if (start > 0) {
        fm_uni_prev(&cp, text, text + start);
        if (is_word(cp)) {
            return false;
        }
    }
    if (stop < n) {
        fm_uni_next(&cp, text + stop, text + n);
        return !is_word(cp);
    }
    return true;
}

bool fm_added_find(fm_added_match *m, const fm_added_set *s, const fm_tokenizer *t, const uint8_t *text, size_t n,
                   size_t from, size_t floor, bool allow_special) {
    const uint8_t *end = text + n;
    for (const uint8_t *p = text + from; s->n_tokens && p < end;) {
        if (s->only_first >= 0) {
            p = memchr(p, s->only_first, (size_t)(end - p));
            if (!p) {
                return false;
            }
        } else if (!s->first[*p]) {
            p++;
            continue;
        }
        size_t len = 0;
        int32_t i = match_at(s, p, end, &len);
        if (i < 0) {
            p++;
            continue;
        }
        const fm_added_token *a = &t->added[i];
        size_t start = (size_t)(p - text), stop = start + len;
        p += len;
        if ((a->special && !allow_special) || (a->single_word && !stands_alone(text, n, start, stop))) {
            continue;
        }
        m->resume = stop;
        uint32_t cp;
        while (a->lstrip && start > floor) {
            unsigned k = fm_uni_prev(&cp, text, text + start);
            if (!(fm_uni_class(cp) & FM_UNI_Z)) {
                break;
            }
            start -= k;
        }
        while (a->rstrip && stop < n) {
            unsigned k = fm_uni_next(&cp, text + stop, end);
            if (!(fm_uni_class(cp) & FM_UNI_Z)) {
                break;
            }
            stop += k;
        }
        m->start = start;
        m->stop = stop;
        m->id = a->id;
        return true;
    }
    return false;
}
