/* Unigram: the split of a piece whose tokens have the highest sum of scores (Viterbi). Positions are visited from left
 * to right; sums are made in the order of the tokenizers library (doubles) or, for a SentencePiece model, of its
 * library (floats), so that ties fall alike. A character that no token begins and ends with counts as the unknown token
 * with the lowest score less 10. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/unicode.h"

fm_status fm_vocab_trie_build(fm_tokenizer *t) {
    fm_trie_key *keys = fm_malloc(FM_MAX(t->n_ids, (size_t)1) * sizeof(*keys));
    if (!keys) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the trie of %zu tokens", t->n_ids);
    }
    size_t n = 0;
    for (size_t i = 0; i < t->n_ids; i++) {
        const fm_tok_entry *e = &t->entry[i];
        bool text = !t->spm || t->spm->type[i] == FM_TOKEN_NORMAL || t->spm->type[i] == FM_TOKEN_USER;
        if (text && (e->flags & FM_TOK_VOCAB) && !(e->flags & FM_TOK_SPECIAL)) {
            keys[n++] = (fm_trie_key){t->blob.data + e->off, e->len, (int32_t)i};
        }
    }
    fm_status s = fm_trie_build(&t->trie, keys, n);
    fm_free(keys);
    return s;
}

fm_status fm_unigram_build(fm_tokenizer *t) {
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < t->n_ids; i++) {
        if ((t->entry[i].flags & FM_TOK_VOCAB) && (!t->spm || t->spm->type[i] == FM_TOKEN_NORMAL)) {
            low = fmin(low, t->score[i]);
            high = fmax(high, t->score[i]);
        }
    }
    t->unk_score = t->spm ? (double)((float)low - 10.0F) : low - 10;
    if (t->spm) {
        t->spm->max_score = fmax(high, FLT_MIN); /* where the library begins */
    }
    for (int b = 0; b < 256; b++) {
        char name[8] = "<0x00>";
        static const char digit[] = "0123456789ABCDEF";
        uint32_t id;
        name[3] = digit[b >> 4];
        name[4] = digit[b & 15];
        t->byte_id[b] = t->byte_fallback && fm_strtab_get(&t->by_bytes, name, 6, &id) ? (int32_t)id : -1;
    }
    return fm_vocab_trie_build(t);
}

/* Score of a token where a SentencePiece model has it. */
static double spm_score(const fm_tokenizer *t, int32_t id, size_t n_bytes) {
    if (t->spm->type[id] == FM_TOKEN_USER) {
        return (double)((float)n_bytes * (float)t->spm->max_score) - 0.1;
    }
    return t->score[id];
}

static inline void offer(fm_lattice_node *to, size_t from, int32_t id, double score) {
    if (to->from == SIZE_MAX || score > to->score) {
        *to = (fm_lattice_node){score, from, id};
    }
}

static void fill_lattice(const fm_tokenizer *t, fm_lattice_node *node, const uint8_t *p, size_t n) {
    for (size_t i = 0; i <= n; i++) {
        node[i] = (fm_lattice_node){0, SIZE_MAX, -1};
    }
    for (size_t at = 0; at < n;) {
        uint32_t cp;
        size_t len = fm_uni_next(&cp, p + at, p + n);
        double here = node[at].score;
        bool single = false;
        int32_t s = 0;
        for (size_t i = at; i < n && (s = fm_trie_step(&t->trie, s, p[i])) >= 0; i++) {
            int32_t id = t->trie.node[s].value;
            if (id < 0) {
                continue;
            }
            size_t k = i + 1 - at;
            /* Only whole characters: a token may not end inside one. */
            double score = (t->spm ? spm_score(t, id, k) : t->score[id]) + here;
            score = t->spm ? (double)(float)score : score;
            offer(&node[i + 1], at, id, score);
            single |= k == len;
        }
        if (!single) {
            double score = t->unk_score + here;
            offer(&node[at + len], at, t->unk, t->spm ? (double)(float)score : score);
        }
        at += len;
    }
}

/* Ids of a stretch that is no token. */
static fm_status put_unknown(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n) {
    const fm_tokenizer *t = w->t;
    uint32_t id;
    if (!t->spm && fm_strtab_get(&t->by_bytes, p, n, &id) && !(t->entry[id].flags & FM_TOK_SPECIAL)) {
        return fm_tokens_push(out, (int32_t)id);
    }
    if (t->byte_fallback && fm_bytes_have_ids(t, p, n)) {
        for (size_t i = 0; i < n; i++) {
            FM_TRY(fm_tokens_push(out, t->byte_id[p[i]]));
        }
        return FM_OK;
    }
    if (t->unk < 0) {
        FM_FAIL(FM_ERR_DATA, "the text has a character that the vocabulary lacks, and there is no unknown token");
    }
    return fm_tokens_push(out, t->unk);
}

fm_status fm_unigram_run(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n) {
    if (w->cap_lattice < n + 1) {
        void *q = w->lattice;
        FM_TRY(fm_grow(&q, &w->cap_lattice, n + 1, sizeof(*w->lattice)));
        w->lattice = q;
    }
    fm_lattice_node *node = w->lattice;
    fill_lattice(w->t, node, p, n);
    /* The way back from the end, turned round in place: `from` becomes where the token after this one ends. */
    size_t at = n, next = SIZE_MAX;
    while (at != 0) {
        size_t from = node[at].from;
        node[at].from = next;
        next = at;
        at = from;
    }
    for (size_t from = 0; next != SIZE_MAX;) {
        size_t stop = next;
        int32_t id = node[stop].id;
        next = node[stop].from;
        if (id != w->t->unk) {
            FM_TRY(fm_tokens_push(out, id));
        } else {
            /* Neighbouring unknown characters are one. */
            while (next != SIZE_MAX && w->t->fuse_unk && node[next].id == w->t->unk) {
                stop = next;
                next = node[stop].from;
            }
            FM_TRY(put_unknown(w, out, p + from, stop - from));
        }
        from = stop;
    }
    return FM_OK;
}
