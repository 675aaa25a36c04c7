/* Ids to bytes, at once or as a stream. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"

static void append_token(fm_str *s, const fm_tokenizer *t, int32_t id, bool skip_special) {
    if (id < 0 || (size_t)id >= t->n_ids) {
        return;
    }
    const fm_tok_entry *e = &t->entry[id];
    if (e->len && !(skip_special && (e->flags & FM_TOK_SPECIAL))) {
        fm_str_append(s, t->blob.data + e->off, e->len);
    }
}

/* The texts of the ids through the decoder. Added tokens of byte-level vocabularies are literal; the rest is given in
 * the form of the file, which a decoder expects. */
static fm_status decode_texts(fm_str *out, const fm_tokenizer *t, const int32_t *ids, size_t n, bool skip_special) {
    fm_token_texts list = {0}, other = {0};
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        bool known = ids[i] >= 0 && (size_t)ids[i] < t->n_ids && t->entry[ids[i]].flags;
        if (!known || (skip_special && (t->entry[ids[i]].flags & FM_TOK_SPECIAL))) {
            continue;
        }
        const fm_tok_entry *e = &t->entry[ids[i]];
        if (t->byte_level && !(e->flags & (FM_TOK_ADDED | FM_TOK_LITERAL))) {
            fm_bytes_to_mapped(&list.text, t->blob.data + e->off, e->len);
        } else {
            fm_str_append(&list.text, e->len ? t->blob.data + e->off : "", e->len);
        }
        s = fm_token_texts_end(&list);
    }
    if (s == FM_OK && list.n) {
        s = fm_dec_run(&t->dec, &list, &other);
    }
    if (s == FM_OK && list.text.len) {
        fm_str_append(out, list.text.data, list.text.len);
    }
    fm_token_texts_free(&list);
    fm_token_texts_free(&other);
    return s;
}

/* Bytes of tokens, one after another, without lists. */
static bool is_direct(const fm_tokenizer *t) {
    return t->byte_level && (t->dec.n == 0 || fm_dec_is_byte_level(&t->dec)) && !t->dec.none;
}

fm_status fm_tokenizer_decode(char **out, size_t *n_out, const fm_tokenizer *t, const int32_t *ids, size_t n,
                              const fm_decode_options *opt) {
    fm_str s = {0};
    fm_status st = FM_OK;
    if (is_direct(t)) {
        for (size_t i = 0; i < n; i++) {
            append_token(&s, t, ids[i], opt && opt->skip_special);
        }
    } else {
        st = decode_texts(&s, t, ids, n, opt && opt->skip_special);
    }
    if (st == FM_OK) {
        st = fm_text_end(&s);
    }
    if (st != FM_OK) {
        fm_str_free(&s);
        return st;
    }
    if (n_out) {
        *n_out = s.len;
    }
    *out = fm_str_take(&s);
    return FM_OK;
}

struct fm_token_decoder {
    const fm_tokenizer *t;
    bool skip_special;
    fm_str text; /* what the last push gave, then the held-back bytes */
    size_t given;
    char held[4];
    size_t n_held;
    /* Other decoders look at neighbouring tokens: new text is what decoding the last ids gives beyond what the ids
     * before the newest gave. */
    int32_t *ids;
    size_t n_ids, cap_ids, n_shown; /* ids[0 .. n_shown) were handed out */
    fm_str shown, all;              /* decoded ids[0 .. n_shown), and all */
};

fm_status fm_token_decoder_new(fm_token_decoder **out, const fm_tokenizer *t, const fm_decode_options *opt) {
    fm_token_decoder *d = fm_calloc(1, sizeof(*d));
    if (!d) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a token decoder");
    }
    d->t = t;
    d->skip_special = opt && opt->skip_special;
    *out = d;
    return FM_OK;
}

void fm_token_decoder_free(fm_token_decoder *d) {
    if (d) {
        fm_str_free(&d->text);
        fm_str_free(&d->shown);
        fm_str_free(&d->all);
        fm_free(d->ids);
        fm_free(d);
    }
}

/* Bytes at the end of p[n] that start a character which further bytes can complete: 0 to 3. */
static size_t incomplete_tail(const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text;
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        uint8_t c = p[n - k];
        if ((c & 0xC0) == 0x80) {
            continue;
        }
        size_t need = c >= 0xF0 && c < 0xF5 ? 4 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xC2 && c < 0xE0 ? 2 : 1;
        return need > k ? k : 0;
    }
    return 0;
}

/* True when a text may still change with the next token: it ends in an incomplete character. */
static bool ends_open(const fm_str *s) {
    return (s->len >= 3 && memcmp(s->data + s->len - 3, "\xEF\xBF\xBD", 3) == 0) ||
           (s->len && incomplete_tail(s->data, s->len));
}

static fm_status push_texts(fm_token_decoder *d, int32_t id, const char **text, size_t *n) {
    *text = "";
    *n = 0;
    void *p = d->ids;
    FM_TRY(fm_grow(&p, &d->cap_ids, d->n_ids + 1, sizeof(*d->ids)));
    d->ids = p;
    d->ids[d->n_ids++] = id;
    fm_str_clear(&d->all);
    FM_TRY(decode_texts(&d->all, d->t, d->ids, d->n_ids, d->skip_special));
    FM_TRY(fm_text_end(&d->all));
    bool longer =
        d->all.len > d->shown.len && memcmp(d->all.data, d->shown.data ? d->shown.data : "", d->shown.len) == 0;
    if (!longer || (ends_open(&d->all) && d->n_ids - d->n_shown < 16)) {
        return FM_OK;
    }
    fm_str_clear(&d->text);
    fm_str_append(&d->text, d->all.data + d->shown.len, d->all.len - d->shown.len);
    FM_TRY(fm_text_end(&d->text));
    *text = d->text.data;
    *n = d->text.len;
    /* What was shown stays as context for one step; older ids go. */
    if (d->n_shown) {
        memmove(d->ids, d->ids + d->n_shown, (d->n_ids - d->n_shown) * sizeof(*d->ids));
        d->n_ids -= d->n_shown;
    }
    d->n_shown = d->n_ids;
    fm_str_clear(&d->shown);
    FM_TRY(decode_texts(&d->shown, d->t, d->ids, d->n_shown, d->skip_special));
    return fm_text_end(&d->shown);
}

fm_status fm_token_decoder_push(fm_token_decoder *d, int32_t id, const char **text, size_t *n) {
    if (!is_direct(d->t)) {
        return push_texts(d, id, text, n);
    }
    fm_str_clear(&d->text);
    fm_str_append(&d->text, d->held, d->n_held);
    append_token(&d->text, d->t, id, d->skip_special);
    if (!d->text.len) {
        *text = "";
        *n = 0;
        return fm_str_check(&d->text);
    }
    FM_TRY(fm_str_check(&d->text));
    d->n_held = incomplete_tail(d->text.data, d->text.len);
    d->text.len -= d->n_held;
    memcpy(d->held, d->text.data + d->text.len, d->n_held);
    d->text.data[d->text.len] = 0;
    *text = d->text.data;
    *n = d->text.len;
    return FM_OK;
}

void fm_token_decoder_flush(fm_token_decoder *d, const char **text, size_t *n) {
    if (!is_direct(d->t)) {
        /* `all` holds what the last push found, shown or not. */
        bool longer = d->n_ids > d->n_shown && d->all.len > d->shown.len;
        *text = longer ? d->all.data + d->shown.len : "";
        *n = longer ? d->all.len - d->shown.len : 0;
        d->n_ids = d->n_shown = 0;
        fm_str_clear(&d->shown);
        return;
    }
    d->held[d->n_held] = 0;
    *text = d->held;
    *n = d->n_held;
    d->n_held = 0;
}
