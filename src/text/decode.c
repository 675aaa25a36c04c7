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

fm_status fm_tokenizer_decode(char **out, size_t *n_out, const fm_tokenizer *t, const int32_t *ids, size_t n,
                              const fm_decode_options *opt) {
    fm_str s = {0};
    for (size_t i = 0; i < n; i++) {
        append_token(&s, t, ids[i], opt && opt->skip_special);
    }
    fm_str_append(&s, "", 0);
    fm_status st = fm_str_check(&s);
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

fm_status fm_token_decoder_push(fm_token_decoder *d, int32_t id, const char **text, size_t *n) {
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
    d->held[d->n_held] = 0;
    *text = d->held;
    *n = d->n_held;
    d->n_held = 0;
}
