/* The vocabulary in the order of its bytes: what a token gives is found by decoding it behind another one, since what
 * files hold may be spelled otherwise (a blank as U+2581, a byte as <0x41>). */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fathom/option.h"
#include "infer/grammar.h"

#define LONGEST 4096 /* bytes of a token that can be chosen under a grammar */

/* A token of plain text for others to stand behind. */
static fm_status find_anchor(int32_t *out, const fm_tokenizer *tok) {
    static const char *const texts[] = {"a", "0", ".", "e"};
    *out = -1;
    for (size_t i = 0; i < FM_ARRAY_LEN(texts) && *out < 0; i++) {
        fm_tokens ids = {0};
        fm_encode_options o = {.size = sizeof o, .n_threads = 1};
        FM_TRY(fm_tokenizer_encode(&ids, tok, texts[i], 1, &o));
        if (ids.n > 0 && !fm_tokenizer_is_special(tok, ids.ids[ids.n - 1])) {
            *out = ids.ids[ids.n - 1];
        }
        fm_tokens_free(&ids);
    }
    return FM_OK;
}

/* The value of "<0x41>", or -1. */
static int byte_of(const char *p, size_t n) {
    char hex[3] = {0}, *end = NULL;
    if (!p || n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') {
        return -1;
    }
    memcpy(hex, p + 3, 2);
    long v = strtol(hex, &end, 16);
    return *end ? -1 : (int)v;
}

/* Appends the bytes of a token; nothing when it has none of its own. */
static fm_status add_text(fm_str *out, const fm_tokenizer *tok, int32_t anchor, const char *before, size_t n_before,
                          int32_t id) {
    size_t n_raw = 0, n = 0;
    const char *raw = fm_tokenizer_token(tok, id, &n_raw);
    char *text = NULL;
    if (!raw || n_raw == 0 || n_raw > LONGEST || fm_tokenizer_is_special(tok, id)) {
        return FM_OK;
    }
    if (anchor < 0) {
        fm_str_append(out, raw, n_raw);
        return FM_OK;
    }
    int32_t pair[2] = {anchor, id};
    FM_TRY(fm_tokenizer_decode(&text, &n, tok, pair, 2, NULL));
    bool behind = n >= n_before && n - n_before <= LONGEST && memcmp(text, before, n_before) == 0;
    bool as_it_is = behind && n - n_before == n_raw && memcmp(text + n_before, raw, n_raw) == 0;
    int byte = as_it_is ? -1 : byte_of(raw, n_raw);
    if (byte >= 0) {
        fm_str_putc(out, (char)(uint8_t)byte);
    } else if (behind) {
        fm_str_append(out, text + n_before, n - n_before);
    }
    fm_string_free(text);
    return FM_OK;
}

static int by_bytes(const void *a, const void *b) {
    const fm_vocab_entry *x = a, *y = b;
    int c = memcmp(x->text, y->text, FM_MIN(x->n, y->n));
    return c ? c : x->n != y->n ? (x->n > y->n) - (x->n < y->n) : (x->id > y->id) - (x->id < y->id);
}

static fm_status read_texts(fm_str *all, size_t *end, const fm_tokenizer *tok, int32_t vocab_size) {
    char *before = NULL;
    size_t n_before = 0;
    int32_t anchor;
    FM_TRY(find_anchor(&anchor, tok));
    if (anchor >= 0) {
        FM_TRY(fm_tokenizer_decode(&before, &n_before, tok, &anchor, 1, NULL));
    }
    fm_status s = FM_OK;
    for (int32_t id = 0; id < vocab_size && s == FM_OK; id++) {
        s = add_text(all, tok, anchor, before, n_before, id);
        end[id] = all->len;
    }
    fm_string_free(before);
    return s == FM_OK ? fm_str_check(all) : s;
}

/* The texts again, one behind the other as they are gone through. */
static void lay_out(fm_vocab_order *v) {
    char *p = v->text;
    for (size_t i = 0; i < v->n; i++) {
        fm_vocab_entry *e = &v->at[i];
        memcpy(p, e->text, e->n);
        e->text = p;
        p += e->n;
        v->place[e->id] = (int32_t)i;
        v->longest = FM_MAX(v->longest, e->n);
        for (uint32_t most = i ? FM_MIN(e->n, e[-1].n) : 0; e->shared < most; e->shared++) {
            if (e->text[e->shared] != e[-1].text[e->shared]) {
                break;
            }
        }
    }
}

fm_status fm_vocab_order_new(fm_vocab_order **out, const fm_tokenizer *tok, int32_t vocab_size) {
    static atomic_ullong serial;
    fm_str all = {0};
    *out = NULL;
    fm_vocab_order *v = fm_calloc(1, sizeof *v);
    size_t *end = fm_calloc((size_t)vocab_size + 1, sizeof *end);
    fm_status s = FM_OK;
    if (v) {
        v->at = fm_calloc((size_t)vocab_size + 1, sizeof *v->at);
        v->place = fm_calloc((size_t)vocab_size + 1, sizeof *v->place);
    }
    if (!v || !end || !v->at || !v->place) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a vocabulary of %d", (int)vocab_size);
    }
    s = s == FM_OK ? read_texts(&all, end, tok, vocab_size) : s;
    if (s == FM_OK) {
        v->text = fm_malloc(all.len + 1);
        if (!v->text) {
            s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a vocabulary");
        }
    }
    if (s == FM_OK) {
        size_t from = 0;
        v->vocab_size = vocab_size;
        v->serial = atomic_fetch_add(&serial, 1) + 1;
        for (int32_t id = 0; id < vocab_size; from = end[id++]) {
            v->place[id] = -1;
            if (end[id] > from) {
                v->at[v->n++] = (fm_vocab_entry){.text = all.data + from, .n = (uint32_t)(end[id] - from), .id = id};
            }
        }
        qsort(v->at, v->n, sizeof *v->at, by_bytes);
        lay_out(v);
        *out = v;
        v = NULL;
    }
    fm_vocab_order_free(v);
    fm_free(end);
    fm_str_free(&all);
    return s;
}

void fm_vocab_order_free(fm_vocab_order *v) {
    if (v) {
        fm_free(v->at);
        fm_free(v->place);
        fm_free(v->text);
        fm_free(v);
    }
}
