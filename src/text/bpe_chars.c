/* BPE over characters: SentencePiece vocabularies, and those with prefixes or suffixes of subwords. The first ids of a
 * piece are those of its characters; a character without a token becomes its bytes, the unknown token, or nothing. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/unicode.h"

enum { CONTINUING = 1, LAST = 2 };
static const char mark[] = "\xe2\x96\x81"; /* U+2581 */

bool fm_bytes_have_ids(const fm_tokenizer *t, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (t->byte_id[p[i]] < 0) {
            return false;
        }
    }
    return true;
}

/* A token as a character: its text without prefix and suffix is one character. */
static fm_status put_char(fm_tokenizer *t, const char *text, size_t n, uint32_t variant, uint32_t id) {
    uint32_t cp;
    if (n == 0 || n > 4 || fm_uni_next(&cp, (const uint8_t *)text, (const uint8_t *)text + n) != n) {
        return FM_OK;
    }
    if (n == 1 && (uint8_t)*text >= 0x80) {
        return FM_OK;
    }
    return fm_pairmap_put(&t->chars, cp, variant, id, 0);
}

/* A pair (x, U+2581) inside the result of a merge, x another character: the border may be crossed. */
static bool crosses(const char *text, size_t n) {
    for (size_t i = 3; i + 3 <= n; i++) {
        if (memcmp(text + i, mark, 3) == 0 && memcmp(text + i - 3, mark, 3) != 0) {
            return true;
        }
    }
    /* x may be shorter than the mark */
    return n >= 4 && ((n >= 4 && memcmp(text + 1, mark, 3) == 0) || (n >= 5 && memcmp(text + 2, mark, 3) == 0));
}

fm_status fm_bpe_chars_build(fm_tokenizer *t) {
    size_t n_before = t->continuing ? strlen(t->continuing) : 0, n_after = t->ending ? strlen(t->ending) : 0;
    if (t->byte_fallback && (n_before || n_after)) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "model: byte_fallback together with a prefix or suffix of subwords is not supported");
    }
    for (int b = 0; b < 256; b++) {
        t->byte_id[b] = -1;
    }
    FM_TRY(fm_pairmap_reserve(&t->chars, 1));
    for (size_t i = 0; i < t->n_ids; i++) {
        const fm_tok_entry *e = &t->entry[i];
        if (!(e->flags & FM_TOK_VOCAB)) {
            continue;
        }
        const char *s = t->blob.data + e->off;
        size_t n = e->len;
        bool after = n_after && n >= n_after && memcmp(s + n - n_after, t->ending, n_after) == 0;
        bool before = n_before && n >= n_before && memcmp(s, t->continuing, n_before) == 0;
        /* Which of the four spellings a token is follows from the affixes that exist. */
        for (uint32_t v = 0; v < 4; v++) {
            bool cut_before = (v & CONTINUING) && n_before, cut_after = (v & LAST) && n_after;
            if ((cut_before && !before) || (cut_after && !after)) {
                continue;
            }
            size_t skip = cut_before ? n_before : 0, drop = cut_after ? n_after : 0;
            if (n > skip + drop) {
                FM_TRY(put_char(t, s + skip, n - skip - drop, v, (uint32_t)i));
            }
        }
    }
    for (int b = 0; b < 256 && t->byte_fallback; b++) {
        static const char digit[] = "0123456789ABCDEF";
        const char name[] = {'<', '0', 'x', digit[b >> 4], digit[b & 15], '>'};
        uint32_t id;
        if (fm_strtab_get(&t->by_bytes, name, sizeof(name), &id)) {
            t->byte_id[b] = (int32_t)id;
        }
    }
    t->word_borders = !t->ignore_merges && !n_before && !n_after && fm_pairmap_get(&t->chars, 0x2581, 0);
    for (size_t i = 0; i < t->n_merges && t->word_borders; i++) {
        const fm_tok_entry *e = &t->entry[t->merges[i].id];
        t->word_borders = !crosses(t->blob.data + e->off, e->len);
    }
    return FM_OK;
}

/* Ids of the characters of p[n] into w->node; the unknown token waits until the next known character, so that several
 * can become one. */
static fm_status first_ids(fm_bpe_worker *w, size_t *count, const uint8_t *p, size_t n) {
    const fm_tokenizer *t = w->t;
    const uint8_t *end = p + n;
    uint32_t *id = w->node;
    bool waiting = false;
    size_t k = 0;
    for (const uint8_t *at = p; at < end;) {
        uint32_t cp;
        unsigned len = fm_uni_next(&cp, at, end);
        bool stray = len == 1 && *at >= 0x80;
        uint32_t variant = (uint32_t)(at > p ? CONTINUING : 0) | (uint32_t)(at + len == end ? LAST : 0);
        const fm_pairmap_slot *s = stray ? NULL : fm_pairmap_get(&t->chars, cp, variant);
        if (s) {
            if (waiting) {
                id[k++] = (uint32_t)t->unk;
                waiting = false;
            }
            id[k++] = s->x;
        } else if (t->byte_fallback && fm_bytes_have_ids(t, at, len)) {
            for (unsigned i = 0; i < len; i++) {
                id[k++] = (uint32_t)t->byte_id[at[i]];
            }
        } else if (t->unk_token) {
            if (t->unk < 0) {
                FM_FAIL(FM_ERR_DATA, "the text has a character that the vocabulary lacks, and it lacks \"%.80s\", too",
                        t->unk_token);
            }
            if (waiting && !t->fuse_unk) {
                id[k++] = (uint32_t)t->unk;
            }
            waiting = true;
        }
        at += len;
    }
    if (waiting) {
        id[k++] = (uint32_t)t->unk;
    }
    *count = k;
    return FM_OK;
}

fm_status fm_bpe_chars_run(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n) {
    uint32_t whole;
    if (w->t->ignore_merges && fm_strtab_get(&w->t->by_bytes, p, n, &whole)) {
        return fm_tokens_push(out, (int32_t)whole);
    }
    if (w->t->word_borders) {
        /* Each word through the cache; a word is marks, then anything up to the next mark. */
        const uint8_t *end = p + n, *q = p;
        while (end - q >= 3 && memcmp(q, mark, 3) == 0) {
            q += 3;
        }
        while (q < end && (*q != 0xE2 || end - q < 3 || memcmp(q, mark, 3) != 0)) {
            q++;
        }
        if (q < end) {
            for (const uint8_t *from = p; from < end;) {
                for (q = from; end - q >= 3 && memcmp(q, mark, 3) == 0;) {
                    q += 3;
                }
                while (q < end && (*q != 0xE2 || end - q < 3 || memcmp(q, mark, 3) != 0)) {
                    q++;
                }
                FM_TRY(fm_bpe_piece(w, out, from, (size_t)(q - from), end));
                from = q;
            }
            return FM_OK;
        }
    }
    size_t k;
    FM_TRY(fm_bpe_reserve(w, n));
    FM_TRY(first_ids(w, &k, p, n));
    return fm_bpe_merge(w, out, k);
}
