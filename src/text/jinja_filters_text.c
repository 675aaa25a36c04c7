/* Filters over text. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/jinja_filter.h"
#include "text/unicode.h"

fm_status fmj_str_call(fmj_run *r, fmj_value *out, const char *method, const fmj_value *self, fmj_value *args,
                       size_t n_args) {
    fmj_args a = {.pos = args, .n_pos = n_args};
    fmj_value text = {.type = FMJ_STR};
    FM_TRY(fmj_to_str(r, &text.u.s, self));
    return fmj_row_call(r, out, fmj_row_find(fmj_str_methods, method, strlen(method)), "filter", &text, &a);
}

#define METHOD_FILTER(name)                                                                                            \
    static fm_status f_##name(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {                  \
        (void)a;                                                                                                       \
        return fmj_str_call(r, out, #name, self, NULL, 0);                                                             \
    }
METHOD_FILTER(upper)
METHOD_FILTER(lower)
METHOD_FILTER(capitalize)
#undef METHOD_FILTER

static fm_status f_trim(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_value chars = a->v[0];
    return fmj_str_call(r, out, "strip", self, &chars, fmj_given(&chars));
}

static fm_status f_center(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_value width = fmj_given(&a->v[0]) ? a->v[0] : fmj_int(80);
    return fmj_str_call(r, out, "center", self, &width, 1);
}

static fm_status f_string(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)a;
    *out = *self;
    out->type = FMJ_STR;
    return fmj_to_str(r, &out->u.s, self);
}

static fm_status f_safe(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    FM_TRY(f_string(r, out, self, a));
    out->safe = true;
    return FM_OK;
}

static fm_status f_escape(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)a;
    if (self->type == FMJ_STR && self->safe) {
        *out = *self;
        return FM_OK;
    }
    return fmj_escape(r, out, self);
}

static fm_status f_forceescape(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)a;
    return fmj_escape(r, out, self);
}

/* A letter at the start, or behind one of -([{< and blanks, becomes upper case; all others lower. */
static fm_status f_title(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *s;
    fm_str text = {0};
    bool start = true;
    (void)a;
    FM_TRY(fmj_to_str(r, &s, self));
    FM_TRY(fmj_step(r, s->n / 32 + 1));
    const uint8_t *p = (const uint8_t *)s->p, *end = p + s->n;
    while (p < end) {
        uint32_t cp;
        p += fm_uni_next(&cp, p, end);
        bool border = fmj_is_space(cp) || (cp && cp < 128 && strchr("-({[<", (int)cp));
        fmj_put_case(&text, cp, start && !border ? FMJ_UPPER : FMJ_LOWER);
        start = border;
    }
    return fmj_str_take(r, out, &text);
}

static fm_status f_replace(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *s, *from, *to;
    int64_t max = -1;
    FM_TRY(fmj_to_str(r, &s, self));
    FM_TRY(fmj_to_str(r, &from, &a->v[0]));
    FM_TRY(fmj_to_str(r, &to, &a->v[1]));
    if (fmj_some(&a->v[2])) {
        FM_TRY(fmj_arg_int(&max, &a->v[2], -1, "count"));
    }
    return fmj_replace(r, out, s, from, to, max);
}

/* Lines of v as a list; they have lost their ends. */
static fm_status lines_of(fmj_run *r, fmj_list **out, const fmj_value *v) {
    fmj_value lines;
    FM_TRY(fmj_str_call(r, &lines, "splitlines", v, NULL, 0));
    *out = lines.u.list;
    return FM_OK;
}

static fm_status f_indent(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_value with, text;
    fmj_list *l;
    fmj_str nl = {.p = "\n", .n = 1, .chars = 1};
    fm_str s = {0};
    bool first = fmj_arg_bool(&a->v[1], false), blank = fmj_arg_bool(&a->v[2], false);
    if (self->type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(self);
    }
    if (self->type != FMJ_STR) {
        FM_FAIL(FM_ERR_DATA, "indent: a string is expected, not %s", fmj_type_name(self));
    }
    if (fmj_given(&a->v[0]) && a->v[0].type == FMJ_STR) {
        with = a->v[0];
    } else {
        fmj_value one;
        int64_t width;
        FM_TRY(fmj_arg_int(&width, &a->v[0], 4, "width"));
        FM_TRY(fmj_str_view(r, &one, " ", 1));
        fmj_value n = fmj_int(width);
        FM_TRY(fmj_binary(r, &with, '*', &one, &n));
    }
    FM_TRY(fmj_str_cat(r, &text, self->u.s, &nl)); /* so that the last line counts even when it is empty */
    FM_TRY(lines_of(r, &l, &text));
    fm_status st = FM_OK;
    for (size_t i = 0; st == FM_OK && i < l->n; i++) {
        const fmj_str *line = l->item[i].u.s;
        if (i > 0) {
            fm_str_putc(&s, '\n');
        }
        if (i == 0 ? first : blank || line->n > 0) {
            fm_str_append(&s, with.u.s->p, with.u.s->n);
        }
        fm_str_append(&s, line->p, line->n);
        st = fmj_step(r, 1 + with.u.s->n / 64);
        if (st == FM_OK && s.len > r->limits.memory) {
            st = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "indent makes a text of more than %zu MiB",
                              r->limits.memory >> 20);
        }
    }
    if (st != FM_OK) {
        fm_str_free(&s);
        return st;
    }
    return fmj_str_take(r, out, &s);
}

static fm_status f_truncate(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *s, *end, dots = {.p = "...", .n = 3, .chars = 3};
    int64_t length, leeway, n_all = fmj_len(self);
    fmj_value head;
    FM_TRY(fmj_arg_int(&length, &a->v[0], 255, "length"));
    FM_TRY(fmj_arg_str(&end, &a->v[2], "end"));
    end = end ? end : &dots;
    leeway = 5;
    if (fmj_some(&a->v[3])) {
        FM_TRY(fmj_arg_int(&leeway, &a->v[3], 5, "leeway"));
    }
    if (length < fmj_chars(end) || leeway < 0) {
        FM_FAIL(FM_ERR_DATA, "truncate: expected length >= %lld and leeway >= 0, got %lld and %lld",
                (long long)fmj_chars(end), (long long)length, (long long)leeway);
    }
    if (n_all >= 0 && (n_all <= length || n_all - length <= leeway)) { /* whatever it is */
        *out = *self;
        return FM_OK;
    }
    if (self->type != FMJ_STR) {
        FM_FAIL(FM_ERR_DATA, "truncate: a string is expected, not %s", fmj_type_name(self));
    }
    s = self->u.s;
    size_t n = fmj_char_offset(s, length - fmj_chars(end));
    if (!fmj_arg_bool(&a->v[1], false)) { /* back to the last blank */
        size_t cut = n;
        while (cut > 0 && s->p[cut - 1] != ' ') {
            cut--;
        }
        n = cut > 0 ? cut - 1 : n;
    }
    FM_TRY(fmj_step(r, s->n / 256 + 1));
    FM_TRY(fmj_str_view(r, &head, s->p, n));
    return fmj_str_cat(r, out, head.u.s, end);
}

static fm_status f_wordcount(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *s;
    int64_t n = 0;
    bool inside = false;
    (void)a;
    FM_TRY(fmj_to_str(r, &s, self));
    FM_TRY(fmj_step(r, s->n / 32 + 1));
    const uint8_t *p = (const uint8_t *)s->p, *end = p + s->n;
    while (p < end) {
        uint32_t cp;
        p += fm_uni_next(&cp, p, end);
        bool word = cp == '_' || (fm_uni_class(cp) & (FM_UNI_L | FM_UNI_N)) != 0;
        n += word && !inside;
        inside = word;
    }
    *out = fmj_int(n);
    return FM_OK;
}

static fm_status f_format(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *s;
    fmj_value args;
    FM_TRY(fmj_to_str(r, &s, self));
    if (a->n_kw > 0) {
        fmj_dict *d;
        if (a->n_pos > 0) {
            FM_FAIL(FM_ERR_DATA, "can't handle positional and keyword arguments at the same time");
        }
        FM_TRY(fmj_dict_new(r, &d, a->n_kw));
        for (size_t i = 0; i < a->n_kw; i++) {
            fmj_value key = {.type = FMJ_STR, .u.s = a->kw_name[i]};
            FM_TRY(fmj_dict_put(r, d, &key, &a->kw[i]));
        }
        args = fmj_of_dict(d);
    } else {
        fmj_list *l;
        FM_TRY(fmj_list_new(r, &l, a->n_pos));
        for (size_t i = 0; i < a->n_pos; i++) {
            l->item[i] = a->pos[i];
        }
        args = fmj_of_list(FMJ_TUPLE, l);
    }
    return fmj_percent(r, out, s, &args);
}

/* ---- URLs --------------------------------------------------------------------------------------- */

static fm_status quote(fmj_run *r, fm_str *out, const fmj_value *v, bool query) {
    fmj_str *s;
    FM_TRY(fmj_to_str(r, &s, v));
    FM_TRY(fmj_step(r, s->n / 16 + 1));
    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->p[i];
        bool plain = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || (c && strchr("_.-~", c));
        if (plain || (c == '/' && !query)) {
            fm_str_putc(out, (char)c);
        } else if (c == ' ' && query) {
            fm_str_putc(out, '+');
        } else {
            fm_str_printf(out, "%%%02X", c);
        }
    }
    return FM_OK;
}

/* key=value&key=value of a dict or of pairs. */
static fm_status quote_pairs(fmj_run *r, fm_str *out, const fmj_value *v) {
    fmj_list *l;
    FM_TRY(fmj_items(r, &l, v));
    for (size_t i = 0; i < l->n; i++) {
        fmj_value side[2] = {l->item[i], fmj_none()};
        if (v->type == FMJ_DICT) {
            side[1] = v->u.dict->e[i].value;
        } else {
            fmj_list *two;
            FM_TRY(fmj_items(r, &two, &l->item[i]));
            if (two->n != 2) {
                FM_FAIL(FM_ERR_DATA, "urlencode: pairs are expected, found %zu items", two->n);
            }
            side[0] = two->item[0];
            side[1] = two->item[1];
        }
        fm_str_puts(out, i ? "&" : "");
        FM_TRY(quote(r, out, &side[0], true));
        fm_str_putc(out, '=');
        FM_TRY(quote(r, out, &side[1], true));
    }
    return FM_OK;
}

static fm_status f_urlencode(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fm_str s = {0};
    (void)a;
    bool pairs = self->type != FMJ_STR && (fmj_len(self) >= 0 || self->type == FMJ_GENERATOR);
    fm_status st = pairs ? quote_pairs(r, &s, self) : quote(r, &s, self, false);
    if (st != FM_OK) {
        fm_str_free(&s);
        return st;
    }
    return fmj_str_take(r, out, &s);
}

const fmj_row fmj_filters_text[] = {
    {"capitalize", f_capitalize, ""},
    {"center", f_center, "width="},
    {"e", f_escape, ""},
    {"escape", f_escape, ""},
    {"forceescape", f_forceescape, ""},
    {"format", f_format, "*"},
    {"indent", f_indent, "width=,first=,blank="},
    {"lower", f_lower, ""},
    {"replace", f_replace, "old,new,count="},
    {"safe", f_safe, ""},
    {"string", f_string, ""},
    {"title", f_title, ""},
    {"trim", f_trim, "chars="},
    {"truncate", f_truncate, "length=,killwords=,end=,leeway="},
    {"upper", f_upper, ""},
    {"urlencode", f_urlencode, ""},
    {"wordcount", f_wordcount, ""},
    {"wordwrap", fmj_wordwrap, "width=,break_long_words=,wrapstring=,break_on_hyphens="},
    {0},
};

const fmj_row *const fmj_filter_tables[] = {fmj_filters_text, fmj_filters_seq, fmj_filters_num, NULL};

const fmj_row *fmj_filter_find(const char *name, size_t n) {
    const fmj_row *row = NULL;
    for (const fmj_row *const *t = fmj_filter_tables; *t && !row; t++) {
        row = fmj_row_find(*t, name, n);
    }
    return row;
}
