/* The filter wordwrap: lines broken as Python's textwrap does it. */
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "text/jinja_filter.h"
#include "text/unicode.h"

typedef struct wrap {
    fmj_run *r;
    fm_str *out;
    const uint32_t *cp; /* [n] the line, by characters */
    size_t n;
    int64_t width;
    bool break_long, hyphens;
    const fmj_str *newline;
    bool any; /* a line of the text was written */
} wrap;

static bool is_blank(uint32_t c) { /* textwrap looks at these alone */
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_word(uint32_t c) {
    return c == '_' || (fm_uni_class(c) & (FM_UNI_L | FM_UNI_N)) != 0;
}

static bool is_letter(uint32_t c) { /* a word character that is no digit */
    return is_word(c) && utf8proc_category((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_ND;
}

static bool is_word_or_mark(uint32_t c) {
    return is_word(c) || (c && c < 128 && strchr("!\"'&.,?", (int)c));
}

/* Two dashes or more at `at`, between a word and a word: where they end, else 0. */
static size_t em_dash(const wrap *w, size_t at) {
    size_t e = at;
    while (e < w->n && w->cp[e] == '-') {
        e++;
    }
    bool yes = at > 0 && e - at >= 2 && e < w->n && is_word_or_mark(w->cp[at - 1]) && is_word(w->cp[e]);
    return yes ? e : 0;
}

/* A hyphen at e inside a word, behind which the word may be broken. */
static bool breaks_behind(const wrap *w, size_t e) {
    const uint32_t *cp = w->cp;
    size_t q = e + 1;
    bool before = (e >= 2 && is_letter(cp[e - 2]) && is_letter(cp[e - 1])) ||
                  (e >= 3 && is_letter(cp[e - 3]) && cp[e - 2] == '-' && is_word_or_mark(cp[e - 1]));
    if (!before || q + 1 >= w->n || !is_letter(cp[q])) {
        return false;
    }
    return is_letter(cp[q + 1]) || (cp[q + 1] == '-' && q + 2 < w->n && is_letter(cp[q + 2]));
}

/* End of the piece that begins at `at` and is never broken: blanks, a word, a part of one, or a dash. */
static size_t piece_end(const wrap *w, size_t at) {
    size_t e = at;
    if (is_blank(w->cp[at])) {
        while (e < w->n && is_blank(w->cp[e])) {
            e++;
        }
        return e;
    }
    if (w->hyphens && w->cp[at] == '-' && em_dash(w, at) > 0) {
        return em_dash(w, at);
    }
    for (e = at + 1; e < w->n && !is_blank(w->cp[e]); e++) {
        if (w->hyphens && w->cp[e] == '-') {
            if (breaks_behind(w, e)) {
                return e + 1;
            }
            if (em_dash(w, e) > 0) {
                return e;
            }
        }
    }
    return e;
}

static bool all_blank(const wrap *w, size_t from, size_t to) {
    while (from < to && fmj_is_space(w->cp[from])) {
        from++;
    }
    return from == to;
}

static fm_status put_line(wrap *w, size_t from, size_t to) {
    char utf8[4];
    if (w->any) {
        fm_str_append(w->out, w->newline->p, w->newline->n);
    }
    w->any = true;
    for (size_t i = from; i < to; i++) {
        fm_str_append(w->out, utf8, (size_t)fm_utf8_encode(utf8, w->cp[i]));
    }
    FM_TRY(fmj_step(w->r, 1 + w->newline->n / 64));
    if (w->out->len > w->r->limits.memory) {
        FM_FAIL(FM_ERR_DATA, "wordwrap makes a text of more than %zu MiB", w->r->limits.memory >> 20);
    }
    return FM_OK;
}

/* How much of the long piece [at, end) goes on a line with `room` left. */
static size_t cut_long(const wrap *w, size_t at, size_t end, size_t room) {
    size_t cut = at + room;
    if (w->hyphens && end - at > room) {
        for (size_t h = cut; h > at + 1; h--) {
            if (w->cp[h - 1] == '-') { /* behind the last hyphen, if there is more than hyphens before it */
                for (size_t i = at; i < h - 1; i++) {
                    if (w->cp[i] != '-') {
                        return h;
                    }
                }
                break;
            }
        }
    }
    return cut;
}

static fm_status wrap_line(wrap *w) {
    size_t at = 0, width = (size_t)w->width;
    bool first = true;
    while (at < w->n) {
        size_t end = piece_end(w, at);
        if (!first && all_blank(w, at, end)) { /* blanks at a break are dropped */
            at = end;
            if (at == w->n) {
                break;
            }
            end = piece_end(w, at);
        }
        size_t from = at, last = at; /* the line is [from, at), its last piece begins at `last` */
        while (at < w->n && end - from <= width) {
            last = at;
            at = end;
            end = at < w->n ? piece_end(w, at) : at;
        }
        if (at < w->n && end - at > width) {
            if (w->break_long) {
                last = at;
                at = cut_long(w, at, end, width - (at - from));
            } else if (at == from) {
                last = at;
                at = end;
            }
        }
        size_t stop = at > from && all_blank(w, last, at) ? last : at;
        if (stop > from) {
            FM_TRY(put_line(w, from, stop));
            first = false;
        }
    }
    return FM_OK;
}

static fm_status wrap_lines(wrap *w, const fmj_list *lines) {
    for (size_t k = 0; k < lines->n; k++) {
        fmj_str *s = lines->item[k].u.s;
        const uint8_t *p = (const uint8_t *)s->p, *end = p + s->n;
        size_t n = (size_t)fmj_chars(s);
        uint32_t *cp = fmj_alloc(w->r, n * sizeof *cp);
        if (!cp) {
            return fmj_arena_failed(&w->r->arena);
        }
        FM_TRY(fmj_step(w->r, n / 8 + 1));
        for (size_t i = 0; i < n && p < end; i++) {
            p += fm_uni_next(&cp[i], p, end);
        }
        w->cp = cp;
        w->n = n;
        if (k > 0) {
            fm_str_append(w->out, w->newline->p, w->newline->n);
        }
        w->any = false;
        FM_TRY(wrap_line(w));
    }
    return FM_OK;
}

fm_status fmj_wordwrap(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *newline, plain = {.p = "\n", .n = 1, .chars = 1};
    fmj_value lines;
    fm_str text = {0};
    wrap w = {
        .r = r, .out = &text, .break_long = fmj_arg_bool(&a->v[1], true), .hyphens = fmj_arg_bool(&a->v[3], true)};
    if (self->type != FMJ_STR) {
        FM_FAIL(FM_ERR_DATA, "wordwrap: a string is expected, not %s", fmj_type_name(self));
    }
    FM_TRY(fmj_arg_int(&w.width, &a->v[0], 79, "width"));
    FM_TRY(fmj_arg_str(&newline, &a->v[2], "wrapstring"));
    w.newline = newline ? newline : &plain;
    FM_TRY(fmj_str_call(r, &lines, "splitlines", self, NULL, 0));
    if (w.width <= 0 && lines.u.list->n > 0) {
        FM_FAIL(FM_ERR_DATA, "invalid width %lld (must be > 0)", (long long)w.width);
    }
    fm_status s = wrap_lines(&w, lines.u.list);
    if (s != FM_OK) {
        fm_str_free(&text);
        return s;
    }
    return fmj_str_take(r, out, &text);
}
