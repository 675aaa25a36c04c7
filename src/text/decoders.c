/* Decoders of tokenizer.json: each turns a list of token texts into another; the end result is joined. One row of
 * `kinds` each. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/pipe.h"

typedef struct dec_kind dec_kind;

struct fm_dec_step {
    const dec_kind *kind;
    fm_str text;        /* WordPiece: prefix; Metaspace: replacement; BPEDecoder: suffix; Strip, Replace: content */
    fm_pattern pattern; /* Replace */
    bool flag;          /* WordPiece, CTC: clean up; Metaspace: leading marks are dropped */
    fm_str second;      /* CTC: the delimiter of words */
    size_t start, stop; /* Strip */
};

typedef struct dec_run {
    const fm_dec_step *step;
    const fm_token_texts *in;
    fm_token_texts *out;
} dec_run;

struct dec_kind {
    const char *name;
    fm_status (*load)(fm_dec_step *s, const fm_json *o, const char *name);
    fm_status (*run)(dec_run *r);
};

/* ---- lists of texts ---- */

fm_status fm_token_texts_end(fm_token_texts *t) {
    void *p = t->end;
    FM_TRY(fm_str_check(&t->text));
    FM_TRY(fm_grow(&p, &t->cap, t->n + 1, sizeof(*t->end)));
    t->end = p;
    t->end[t->n++] = t->text.len;
    return FM_OK;
}

void fm_token_texts_free(fm_token_texts *t) {
    fm_str_free(&t->text);
    fm_free(t->end);
    *t = (fm_token_texts){0};
}

static fm_sv item(const fm_token_texts *t, size_t i) {
    size_t from = i ? t->end[i - 1] : 0;
    return (fm_sv){t->text.data ? t->text.data + from : "", t->end[i] - from};
}

static void put(dec_run *r, fm_sv s) {
    fm_str_append(&r->out->text, s.ptr, s.len);
}

static bool starts_with(fm_sv s, const fm_str *prefix) {
    return s.len >= prefix->len && (prefix->len == 0 || memcmp(s.ptr, prefix->data, prefix->len) == 0);
}

static fm_status load_text(fm_str *out, const fm_json *o, const char *key, const char *def, const char *name) {
    size_t n = def ? strlen(def) : 0;
    const fm_json *v = fm_json_get(o, key);
    const char *s = v ? fm_json_str(v, &n) : def;
    if (!s) {
        FM_FAIL(FM_ERR_FORMAT, "%s: decoder \"%s\" has no text \"%s\"", name, fm_part_type(o), key);
    }
    fm_str_append(out, s, n);
    return fm_text_end(out);
}

/* ---- bytes ---- */

static fm_status run_byte_level(dec_run *r) {
    for (size_t i = 0; i < r->in->n; i++) {
        fm_sv s = item(r->in, i);
        if (!fm_mapped_to_bytes(&r->out->text, s.ptr, s.len)) {
            put(r, s);
        }
    }
    return fm_token_texts_end(r->out);
}

/* The byte of "<0x41>", or -1. */
static int byte_of(fm_sv s) {
    if (s.len != 6 || memcmp(s.ptr, "<0x", 3) != 0 || s.ptr[5] != '>') {
        return -1;
    }
    int v = 0;
    for (int k = 3; k < 5; k++) {
        char c = s.ptr[k];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                       : -1;
        if (d < 0) {
            return -1;
        }
        v = v * 16 + d;
    }
    return v;
}

/* A run of bytes is a text when it is UTF-8, else one U+FFFD for each byte. */
static fm_status run_byte_fallback(dec_run *r) {
    fm_str bytes = {0};
    fm_status s = FM_OK;
    for (size_t i = 0; s == FM_OK && i <= r->in->n; i++) {
        int b = i < r->in->n ? byte_of(item(r->in, i)) : -1;
        if (b >= 0) {
            fm_str_putc(&bytes, (char)(uint8_t)b);
            continue;
        }
        if (bytes.len && fm_utf8_valid(bytes.data, bytes.len)) {
            put(r, (fm_sv){bytes.data, bytes.len});
            s = fm_token_texts_end(r->out);
        } else {
            for (size_t k = 0; s == FM_OK && k < bytes.len; k++) {
                fm_str_puts(&r->out->text, "\xEF\xBF\xBD");
                s = fm_token_texts_end(r->out);
            }
        }
        r->out->text.failed |= bytes.failed;
        fm_str_clear(&bytes);
        if (s == FM_OK && i < r->in->n) {
            put(r, item(r->in, i));
            s = fm_token_texts_end(r->out);
        }
    }
    fm_str_free(&bytes);
    return s;
}

/* ---- words ---- */

/* Removes blanks that English writes without, in the last token of out. */
static void clean_up(fm_str *s, size_t from) {
    static const char *const pairs[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                           {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                           {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t k = 0; k < FM_ARRAY_LEN(pairs) && !s->failed; k++) {
        size_t n = strlen(pairs[k][0]), m = strlen(pairs[k][1]), to = from;
        for (size_t i = from; i < s->len;) {
            if (s->len - i >= n && memcmp(s->data + i, pairs[k][0], n) == 0) {
                memcpy(s->data + to, pairs[k][1], m); /* never longer than what it replaces */
                to += m;
                i += n;
            } else {
                s->data[to++] = s->data[i++];
            }
        }
        s->len = FM_MAX(to, from);
    }
}

static fm_status load_word_piece(fm_dec_step *s, const fm_json *o, const char *name) {
    s->flag = fm_json_bool(fm_json_get(o, "cleanup"), true);
    return load_text(&s->text, o, "prefix", "##", name);
}

static fm_status run_word_piece(dec_run *r) {
    for (size_t i = 0; i < r->in->n; i++) {
        fm_sv s = item(r->in, i);
        size_t from = r->out->text.len;
        if (i && starts_with(s, &r->step->text)) {
            s = (fm_sv){s.ptr + r->step->text.len, s.len - r->step->text.len};
        } else if (i) {
            fm_str_putc(&r->out->text, ' ');
        }
        put(r, s);
        if (r->step->flag) {
            clean_up(&r->out->text, from);
        }
        FM_TRY(fm_token_texts_end(r->out));
    }
    return FM_OK;
}

/* Appends s with each `what` replaced. */
static void put_replaced(dec_run *r, fm_sv s, const fm_str *what, const char *with) {
    for (size_t i = 0; i < s.len;) {
        if (what->len && s.len - i >= what->len && memcmp(s.ptr + i, what->data, what->len) == 0) {
            fm_str_puts(&r->out->text, with);
            i += what->len;
        } else {
            fm_str_putc(&r->out->text, s.ptr[i++]);
        }
    }
}

static fm_status load_metaspace(fm_dec_step *s, const fm_json *o, const char *name) {
    const char *scheme = fm_json_str(fm_json_get(o, "prepend_scheme"), NULL);
    s->flag = scheme ? strcmp(scheme, "never") != 0 : fm_json_bool(fm_json_get(o, "add_prefix_space"), true);
    return load_text(&s->text, o, "replacement", "\xe2\x96\x81", name);
}

static fm_status run_metaspace(dec_run *r) {
    for (size_t i = 0; i < r->in->n; i++) {
        put_replaced(r, item(r->in, i), &r->step->text, i == 0 && r->step->flag ? "" : " ");
        FM_TRY(fm_token_texts_end(r->out));
    }
    return FM_OK;
}

static fm_status load_suffix(fm_dec_step *s, const fm_json *o, const char *name) {
    return load_text(&s->text, o, "suffix", "</w>", name);
}

static fm_status run_bpe(dec_run *r) {
    for (size_t i = 0; i < r->in->n; i++) {
        put_replaced(r, item(r->in, i), &r->step->text, i + 1 < r->in->n ? " " : "");
        FM_TRY(fm_token_texts_end(r->out));
    }
    return FM_OK;
}

static fm_status load_ctc(fm_dec_step *s, const fm_json *o, const char *name) {
    s->flag = fm_json_bool(fm_json_get(o, "cleanup"), true);
    FM_TRY(load_text(&s->second, o, "word_delimiter_token", "|", name));
    return load_text(&s->text, o, "pad_token", "<pad>", name);
}

static fm_status run_ctc(dec_run *r) {
    fm_sv last = {NULL, 0};
    for (size_t i = 0; i < r->in->n; i++) {
        fm_sv s = item(r->in, i);
        bool same = last.ptr && s.len == last.len && memcmp(s.ptr, last.ptr, s.len) == 0;
        last = s;
        if (same) {
            continue;
        }
        size_t from = r->out->text.len;
        fm_str kept = {0};
        dec_run to = {r->step, r->in, r->out};
        put_replaced(&to, s, &r->step->text, "");
        if (r->step->flag) {
            clean_up(&r->out->text, from);
            fm_str_append(&kept, r->out->text.data + from, r->out->text.len - from);
            r->out->text.len = from;
            put_replaced(r, (fm_sv){kept.data ? kept.data : "", kept.len}, &r->step->second, " ");
            r->out->text.failed |= kept.failed;
            fm_str_free(&kept);
        }
        if (r->out->text.len > from || r->out->text.failed) {
            FM_TRY(fm_token_texts_end(r->out));
        }
    }
    return FM_OK;
}

/* ---- the rest ---- */

static fm_status run_fuse(dec_run *r) {
    fm_str_append(&r->out->text, r->in->text.data ? r->in->text.data : "", r->in->text.len);
    return fm_token_texts_end(r->out);
}

static fm_status load_strip(fm_dec_step *s, const fm_json *o, const char *name) {
    int64_t a = fm_json_int(fm_json_get(o, "start"), 0), b = fm_json_int(fm_json_get(o, "stop"), 0);
    s->start = (size_t)FM_MAX(a, 0);
    s->stop = (size_t)FM_MAX(b, 0);
    return load_text(&s->text, o, "content", " ", name);
}

static fm_status run_strip(dec_run *r) {
    const fm_str *c = &r->step->text;
    for (size_t i = 0; i < r->in->n; i++) {
        fm_sv s = item(r->in, i);
        for (size_t k = 0; k < r->step->start && c->len && starts_with(s, c); k++) {
            s = (fm_sv){s.ptr + c->len, s.len - c->len};
        }
        for (size_t k = 0; k < r->step->stop && c->len && s.len >= c->len; k++) {
            if (memcmp(s.ptr + s.len - c->len, c->data, c->len) != 0) {
                break;
            }
            s.len -= c->len;
        }
        put(r, s);
        FM_TRY(fm_token_texts_end(r->out));
    }
    return FM_OK;
}

static fm_status load_replace(fm_dec_step *s, const fm_json *o, const char *name) {
    FM_TRY(load_text(&s->text, o, "content", NULL, name));
    return fm_pattern_load(&s->pattern, fm_json_get(o, "pattern"), name);
}

static fm_status run_replace(dec_run *r) {
    for (size_t i = 0; i < r->in->n; i++) {
        fm_sv s = item(r->in, i);
        FM_TRY(fm_pattern_replace(&r->out->text, &r->step->pattern, (const uint8_t *)s.ptr, s.len, &r->step->text));
        FM_TRY(fm_token_texts_end(r->out));
    }
    return FM_OK;
}

/* ---- the table ---- */

static const dec_kind kinds[] = {
    {"ByteLevel", NULL, run_byte_level},
    {"ByteFallback", NULL, run_byte_fallback},
    {"WordPiece", load_word_piece, run_word_piece},
    {"Metaspace", load_metaspace, run_metaspace},
    {"BPEDecoder", load_suffix, run_bpe},
    {"CTC", load_ctc, run_ctc},
    {"Fuse", NULL, run_fuse},
    {"Strip", load_strip, run_strip},
    {"Replace", load_replace, run_replace},
};

static fm_status load_at(fm_dec *d, const fm_json *o, const char *name, int depth) {
    const char *type = fm_part_type(o);
    if (!strcmp(type, "Sequence")) {
        const fm_json *list = fm_json_get(o, "decoders");
        if (!fm_json_is_array(list) || depth > 8) {
            FM_FAIL(FM_ERR_FORMAT, "%s: decoder \"Sequence\" has no list \"decoders\" or is too deep", name);
        }
        for (size_t i = 0; i < fm_json_size(list); i++) {
            FM_TRY(load_at(d, fm_json_at(list, i), name, depth + 1));
        }
        return FM_OK;
    }
    for (size_t k = 0; k < FM_ARRAY_LEN(kinds); k++) {
        if (!strcmp(type, kinds[k].name)) {
            void *p = d->step;
            FM_TRY(fm_grow(&p, &d->cap, d->n + 1, sizeof(*d->step)));
            d->step = p;
            fm_dec_step *s = &d->step[d->n++];
            *s = (fm_dec_step){.kind = &kinds[k]};
            return kinds[k].load ? kinds[k].load(s, o, name) : FM_OK;
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s: decoder \"%.80s\" is not supported", name, type);
}

fm_status fm_dec_load(fm_dec *d, const fm_json *o, const char *name) {
    d->none = fm_json_is_null(o);
    return d->none ? FM_OK : load_at(d, o, name, 0);
}

void fm_dec_free(fm_dec *d) {
    for (size_t i = 0; i < d->n; i++) {
        fm_str_free(&d->step[i].text);
        fm_str_free(&d->step[i].second);
        fm_pattern_free(&d->step[i].pattern);
    }
    fm_free(d->step);
    *d = (fm_dec){0};
}

bool fm_dec_is_byte_level(const fm_dec *d) {
    return d->n == 1 && d->step[0].kind == &kinds[0];
}

fm_status fm_dec_run(const fm_dec *d, fm_token_texts *t, fm_token_texts *other) {
    for (size_t i = 0; i < d->n; i++) {
        fm_str_clear(&other->text);
        other->n = 0;
        FM_TRY(d->step[i].kind->run(&(dec_run){&d->step[i], t, other}));
        fm_token_texts swap = *t;
        *t = *other;
        *other = swap;
    }
    if (d->none && t->n > 1) {
        fm_str_clear(&other->text);
        other->n = 0;
        for (size_t i = 0; i < t->n; i++) {
            fm_sv s = item(t, i);
            fm_str_append(&other->text, " ", i > 0);
            fm_str_append(&other->text, s.ptr, s.len);
        }
        FM_TRY(fm_token_texts_end(other));
        fm_token_texts swap = *t;
        *t = *other;
        *other = swap;
    }
    return fm_str_check(&t->text);
}
