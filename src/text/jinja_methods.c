/* Methods of strings, dicts and lists. Those that would change a value are refused, as Jinja's immutable sandbox does.
 */
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "text/jinja.h"
#include "text/unicode.h"

fm_status fmj_arg_int(int64_t *out, const fmj_value *v, int64_t def, const char *name) {
    *out = def;
    if (v->type != FMJ_UNSET) {
        if (!fmj_is_int(v)) {
            FM_FAIL(FM_ERR_DATA, "%s: an integer is expected, not %s", name, fmj_type_name(v));
        }
        *out = fmj_as_int(v);
    }
    return FM_OK;
}

fm_status fmj_arg_str(fmj_str **out, const fmj_value *v, const char *name) {
    if (v->type == FMJ_UNSET || v->type == FMJ_NONE) {
        *out = NULL;
        return FM_OK;
    }
    if (v->type != FMJ_STR) {
        FM_FAIL(FM_ERR_DATA, "%s: a string is expected, not %s", name, fmj_type_name(v));
    }
    *out = v->u.s;
    return FM_OK;
}

static fm_status need_str(fmj_str **out, const fmj_value *v, const char *name) {
    FM_TRY(fmj_arg_str(out, v, name));
    if (!*out) {
        FM_FAIL(FM_ERR_DATA, "%s: a string is expected, not None", name);
    }
    return FM_OK;
}

/* ---- Strings: cutting --------------------------------------------------------------------------- */

static fm_status strip_with(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a, bool l, bool e) {
    size_t begin, end;
    fmj_str *set;
    FM_TRY(fmj_arg_str(&set, &a->v[0], "strip"));
    FM_TRY(fmj_step(r, self->u.s->n / 256 + 1));
    fmj_strip(self->u.s, set, l, e, &begin, &end);
    return fmj_str_view(r, out, self->u.s->p + begin, end - begin);
}

static fm_status m_strip(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return strip_with(r, out, self, a, true, true);
}

static fm_status m_lstrip(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return strip_with(r, out, self, a, true, false);
}

static fm_status m_rstrip(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return strip_with(r, out, self, a, false, true);
}

typedef struct parts {
    fm_sv *item;
    size_t n, cap;
} parts;

static fm_status add_part(fmj_run *r, parts *l, const char *p, const char *end) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 8;
        fm_sv *more = fmj_alloc(r, cap * sizeof *more);
        FMJ_CHECK(more);
        for (size_t i = 0; i < l->n; i++) {
            more[i] = l->item[i];
        }
        l->item = more;
        l->cap = cap;
    }
    l->item[l->n++] = (fm_sv){p, (size_t)(end - p)};
    return fmj_step(r, 1);
}

static fm_status parts_list(fmj_run *r, fmj_value *out, const parts *l, bool backwards) {
    fmj_list *list;
    FM_TRY(fmj_list_new(r, &list, l->n));
    for (size_t i = 0; i < l->n; i++) {
        const fm_sv *p = &l->item[backwards ? l->n - 1 - i : i];
        FM_TRY(fmj_str_view(r, &list->item[i], p->ptr, p->len));
    }
    *out = fmj_of_list(FMJ_LIST, list);
    return FM_OK;
}

/* The blank character that begins (or ends) at p, in bytes; 0 when there is none. */
static unsigned blank_at(const char *p, const char *end) {
    uint32_t cp;
    unsigned n = fm_uni_next(&cp, (const uint8_t *)p, (const uint8_t *)end);
    return fmj_is_space(cp) ? n : 0;
}

static fm_status split_blanks(fmj_run *r, parts *l, const fmj_str *s, int64_t max) {
    const char *p = s->p, *end = p + s->n;
    while (p < end) {
        unsigned n;
        while (p < end && (n = blank_at(p, end)) > 0) {
            p += n;
        }
        if (p == end) {
            break;
        }
        const char *q = p;
        if (max >= 0 && (int64_t)l->n >= max) {
            size_t b, e;
            fmj_str rest = {.p = p, .n = (size_t)(end - p), .chars = -1};
            fmj_strip(&rest, NULL, false, true, &b, &e);
            return add_part(r, l, p, p + e);
        }
        while (q < end && blank_at(q, end) == 0) {
            q++;
        }
        FM_TRY(add_part(r, l, p, q));
        p = q;
    }
    return FM_OK;
}

static fm_status rsplit_blanks(fmj_run *r, parts *l, const fmj_str *s, int64_t max) {
    const char *begin = s->p, *end = begin + s->n;
    for (;;) {
        size_t b, e;
        fmj_str rest = {.p = begin, .n = (size_t)(end - begin), .chars = -1};
        fmj_strip(&rest, NULL, false, true, &b, &e);
        end = begin + e;
        if (begin == end) {
            return FM_OK;
        }
        if (max >= 0 && (int64_t)l->n >= max) {
            fmj_strip(&rest, NULL, true, true, &b, &e);
            return add_part(r, l, begin + b, begin + e);
        }
        const char *p = end;
        while (p > begin) {
            const char *q = p - 1;
            while (q > begin && ((unsigned char)*q & 0xC0) == 0x80) {
                q--;
            }
            if (blank_at(q, end) > 0) {
                break;
            }
            p = q;
        }
        FM_TRY(add_part(r, l, p, end));
        end = p;
    }
}

static const char *find_last(const char *p, size_t n, const fmj_str *what) {
    if (what->n > n) {
        return NULL;
    }
    for (const char *q = p + (n - what->n);; q--) {
        if (memcmp(q, what->p, what->n) == 0) {
            return q;
        }
        if (q == p) {
            return NULL;
        }
    }
}

static fm_status split(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a, bool right) {
    const fmj_str *s = self->u.s;
    fmj_str *sep;
    int64_t max;
    parts l = {0};
    FM_TRY(fmj_arg_str(&sep, &a->v[0], "split"));
    FM_TRY(fmj_arg_int(&max, &a->v[1], -1, "maxsplit"));
    FM_TRY(fmj_step(r, s->n / 64 * (right && sep ? sep->n / 16 + 1 : 1) + 1));
    if (sep && sep->n == 0) {
        FM_FAIL(FM_ERR_DATA, "empty separator");
    }
    if (!sep) {
        FM_TRY(right ? rsplit_blanks(r, &l, s, max) : split_blanks(r, &l, s, max));
        return parts_list(r, out, &l, right);
    }
    const char *p = s->p, *end = p + s->n;
    while (max < 0 || (int64_t)l.n < max) {
        size_t n = (size_t)(end - p);
        const char *at = right ? find_last(p, n, sep) : memmem(p, n, sep->p, sep->n);
        if (!at) {
            break;
        }
        if (right) {
            FM_TRY(add_part(r, &l, at + sep->n, end));
            end = at;
        } else {
            FM_TRY(add_part(r, &l, p, at));
            p = at + sep->n;
        }
    }
    FM_TRY(add_part(r, &l, p, end));
    return parts_list(r, out, &l, right);
}

static fm_status m_split(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return split(r, out, self, a, false);
}

static fm_status m_rsplit(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return split(r, out, self, a, true);
}

static bool is_line_break(uint32_t cp) {
    return (cp >= 10 && cp <= 13) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

static fm_status m_splitlines(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    const char *p = self->u.s->p, *end = p + self->u.s->n, *from = p;
    bool keep = fmj_arg_bool(&a->v[0], false);
    parts l = {0};
    FM_TRY(fmj_step(r, self->u.s->n / 64 + 1));
    while (p < end) {
        uint32_t cp;
        const char *q = p + fm_uni_next(&cp, (const uint8_t *)p, (const uint8_t *)end);
        if (is_line_break(cp)) {
            q += cp == '\r' && q < end && *q == '\n';
            FM_TRY(add_part(r, &l, from, keep ? q : p));
            from = q;
        }
        p = q;
    }
    if (from < end) {
        FM_TRY(add_part(r, &l, from, end));
    }
    return parts_list(r, out, &l, false);
}

static fm_status partition(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a, bool right) {
    const fmj_str *s = self->u.s;
    fmj_str *sep;
    fmj_list *l;
    FM_TRY(need_str(&sep, &a->v[0], "partition"));
    FM_TRY(fmj_step(r, s->n / 64 * (right ? sep->n / 16 + 1 : 1) + 1));
    if (sep->n == 0) {
        FM_FAIL(FM_ERR_DATA, "empty separator");
    }
    const char *at = right ? find_last(s->p, s->n, sep) : memmem(s->p, s->n, sep->p, sep->n);
    const char *end = s->p + s->n, *cut[4] = {s->p, at, at ? at + sep->n : NULL, end};
    if (!at) {
        cut[1] = cut[2] = right ? s->p : end;
    }
    FM_TRY(fmj_list_new(r, &l, 3));
    for (int i = 0; i < 3; i++) {
        FM_TRY(fmj_str_view(r, &l->item[i], cut[i], (size_t)(cut[i + 1] - cut[i])));
    }
    *out = fmj_of_list(FMJ_TUPLE, l);
    return FM_OK;
}

static fm_status m_partition(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return partition(r, out, self, a, false);
}

static fm_status m_rpartition(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return partition(r, out, self, a, true);
}

/* ---- Strings: searching ------------------------------------------------------------------------- */

/* The part that the optional begin and end (in characters, at v[1] and v[2]) choose; false when begin is behind it. */
static fm_status range_of(bool *ok, fmj_str *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *s = self->u.s;
    int64_t n = fmj_chars(s), at[2] = {0, n};
    for (int i = 0; i < 2; i++) {
        if (a->v[1 + i].type != FMJ_NONE) {
            FM_TRY(fmj_arg_int(&at[i], &a->v[1 + i], at[i], "start and end"));
        }
        at[i] += at[i] < 0 ? n : 0;
        at[i] = at[i] < 0 ? 0 : at[i];
    }
    at[1] = FM_MIN(at[1], n);
    *ok = at[0] <= at[1];
    size_t b = *ok ? fmj_char_offset(s, at[0]) : 0, e = *ok ? fmj_char_offset(s, at[1]) : 0;
    *out = (fmj_str){.p = s->p + b, .n = e - b, .chars = -1};
    return FM_OK;
}

static fm_status starts_or_ends(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a, bool start) {
    fmj_value one = a->v[0];
    fmj_list single = {.n = 1, .item = &one}, *l = one.type == FMJ_TUPLE ? one.u.list : &single;
    fmj_str part;
    bool ok, yes = false;
    FM_TRY(range_of(&ok, &part, self, a));
    FM_TRY(fmj_step(r, l->n));
    for (size_t i = 0; i < l->n; i++) {
        fmj_str *what;
        FM_TRY(need_str(&what, &l->item[i], start ? "startswith" : "endswith"));
        yes = yes ||
              (ok && what->n <= part.n && memcmp(start ? part.p : part.p + part.n - what->n, what->p, what->n) == 0);
    }
    *out = fmj_bool(yes);
    return FM_OK;
}

static fm_status m_startswith(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return starts_or_ends(r, out, self, a, true);
}

static fm_status m_endswith(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return starts_or_ends(r, out, self, a, false);
}

static fm_status find(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a, bool last, bool must) {
    fmj_str *what, part;
    bool ok;
    FM_TRY(need_str(&what, &a->v[0], "find"));
    FM_TRY(range_of(&ok, &part, self, a));
    FM_TRY(fmj_step(r, part.n / 64 * (last ? what->n / 16 + 1 : 1) + 1));
    const char *at = !ok ? NULL : last ? find_last(part.p, part.n, what) : memmem(part.p, part.n, what->p, what->n);
    if (!at && must) {
        FM_FAIL(FM_ERR_DATA, "substring not found");
    }
    fmj_str before = {.p = self->u.s->p, .n = at ? (size_t)(at - self->u.s->p) : 0, .chars = -1};
    *out = fmj_int(at ? fmj_chars(&before) : -1);
    return FM_OK;
}

static fm_status m_find(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return find(r, out, self, a, false, false);
}

static fm_status m_rfind(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return find(r, out, self, a, true, false);
}

static fm_status m_index(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return find(r, out, self, a, false, true);
}

static fm_status m_rindex(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return find(r, out, self, a, true, true);
}

static fm_status m_count(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *what, part;
    bool ok;
    int64_t n = 0;
    FM_TRY(need_str(&what, &a->v[0], "count"));
    FM_TRY(range_of(&ok, &part, self, a));
    FM_TRY(fmj_step(r, part.n / 64 + 1));
    if (what->n == 0) {
        *out = fmj_int(ok ? fmj_chars(&part) + 1 : 0);
        return FM_OK;
    }
    const char *p = part.p, *end = p + part.n;
    while (ok && (p = memmem(p, (size_t)(end - p), what->p, what->n))) {
        p += what->n;
        n++;
    }
    *out = fmj_int(n);
    return FM_OK;
}

static fm_status remove_fix(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a, bool prefix) {
    const fmj_str *s = self->u.s;
    fmj_str *fix;
    FM_TRY(need_str(&fix, &a->v[0], prefix ? "removeprefix" : "removesuffix"));
    bool yes = fix->n <= s->n && memcmp(prefix ? s->p : s->p + s->n - fix->n, fix->p, fix->n) == 0;
    size_t n = yes ? fix->n : 0;
    return fmj_str_view(r, out, s->p + (prefix ? n : 0), s->n - n);
}

static fm_status m_removeprefix(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return remove_fix(r, out, self, a, true);
}

static fm_status m_removesuffix(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return remove_fix(r, out, self, a, false);
}

/* ---- Strings: making ---------------------------------------------------------------------------- */

fm_status fmj_replace(fmj_run *r, fmj_value *out, const fmj_str *s, const fmj_str *from, const fmj_str *to,
                      int64_t max) {
    const char *p = s->p, *end = p + s->n;
    fm_str text = {0};
    fm_status st = fmj_step(r, s->n / 64 + 1);
    while (st == FM_OK && max != 0) {
        const char *at = p;
        if (from->n > 0) {
            at = memmem(p, (size_t)(end - p), from->p, from->n);
            if (!at) {
                break;
            }
            fm_str_append(&text, p, (size_t)(at - p));
        }
        fm_str_append(&text, to->p, to->n);
        max--;
        st = fmj_step(r, 1 + to->n / 64);
        if (st == FM_OK && text.len > r->limits.memory) {
            st = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "replace makes a text of more than %zu MiB",
                              r->limits.memory >> 20);
        }
        p = at + from->n;
        if (from->n == 0) { /* between all characters */
            if (p == end) {
                break;
            }
            uint32_t cp;
            unsigned n = fm_uni_next(&cp, (const uint8_t *)p, (const uint8_t *)end);
            fm_str_append(&text, p, n);
            p += n;
        }
    }
    fm_str_append(&text, p, (size_t)(end - p));
    if (st != FM_OK) {
        fm_str_free(&text);
        return st;
    }
    return fmj_str_take(r, out, &text);
}

static fm_status m_replace(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *from, *to;
    int64_t max;
    FM_TRY(need_str(&from, &a->v[0], "replace"));
    FM_TRY(need_str(&to, &a->v[1], "replace"));
    FM_TRY(fmj_arg_int(&max, &a->v[2], -1, "count"));
    return fmj_replace(r, out, self->u.s, from, to, max);
}

typedef enum case_how { CASE_LOWER, CASE_UPPER, CASE_CAPITAL, CASE_TITLE, CASE_SWAP } case_how;

static fm_status change_case(fmj_run *r, fmj_value *out, const fmj_value *self, case_how how) {
    const uint8_t *p = (const uint8_t *)self->u.s->p, *end = p + self->u.s->n;
    fm_str text = {0};
    bool inside = false;
    FM_TRY(fmj_step(r, self->u.s->n / 32 + 1));
    while (p < end) {
        uint32_t cp;
        p += fm_uni_next(&cp, p, end);
        int to = how == CASE_UPPER ? FMJ_UPPER : FMJ_LOWER;
        if (how == CASE_SWAP) {
            to = utf8proc_islower((utf8proc_int32_t)cp) ? FMJ_UPPER : FMJ_LOWER;
        } else if ((how == CASE_CAPITAL || how == CASE_TITLE) && !inside) {
            to = FMJ_TITLE;
        }
        fmj_put_case(&text, cp, to);
        inside = how == CASE_CAPITAL || utf8proc_islower((utf8proc_int32_t)cp) ||
                 utf8proc_isupper((utf8proc_int32_t)cp) ||
                 utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LT;
    }
    return fmj_str_take(r, out, &text);
}

#define CASE_METHOD(name, how)                                                                                         \
    static fm_status m_##name(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {                  \
        (void)a;                                                                                                       \
        return change_case(r, out, self, how);                                                                         \
    }
CASE_METHOD(lower, CASE_LOWER)
CASE_METHOD(upper, CASE_UPPER)
CASE_METHOD(capitalize, CASE_CAPITAL)
CASE_METHOD(title, CASE_TITLE)
CASE_METHOD(swapcase, CASE_SWAP)
#undef CASE_METHOD

static fm_status m_casefold(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    const uint8_t *p = (const uint8_t *)self->u.s->p, *end = p + self->u.s->n;
    fm_str text = {0};
    (void)a;
    FM_TRY(fmj_step(r, self->u.s->n / 16 + 1));
    while (p < end) {
        utf8proc_int32_t folded[4];
        uint32_t cp;
        int last = 0;
        char utf8[4];
        p += fm_uni_next(&cp, p, end);
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, folded, 4, UTF8PROC_CASEFOLD, &last);
        for (utf8proc_ssize_t i = 0; i < n && i < 4; i++) {
            fm_str_append(&text, utf8, (size_t)fm_utf8_encode(utf8, (uint32_t)folded[i]));
        }
    }
    return fmj_str_take(r, out, &text);
}

/* Tabs to the next multiple of tabsize columns; a newline begins at column 0. */
static fm_status m_expandtabs(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    int64_t size, column = 0;
    fm_str text = {0};
    FM_TRY(fmj_arg_int(&size, &a->v[0], 8, "tabsize"));
    if (size > 1000) {
        FM_FAIL(FM_ERR_DATA, "expandtabs: a tab size of %lld is too large", (long long)size);
    }
    FM_TRY(fmj_step(r, self->u.s->n * (size_t)(size > 0 ? size : 0) / 64 + 1));
    for (size_t i = 0; i < self->u.s->n; i++) {
        char c = self->u.s->p[i];
        if (c == '\t') {
            for (int64_t k = size > 0 ? size - column % size : 0; k > 0; k--, column++) {
                fm_str_putc(&text, ' ');
            }
            continue;
        }
        fm_str_putc(&text, c);
        column = c == '\n' || c == '\r' ? 0 : column + (((unsigned char)c & 0xC0) != 0x80);
    }
    return fmj_str_take(r, out, &text);
}

static fm_status m_join(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_list *l;
    fm_str text = {0};
    FM_TRY(fmj_items(r, &l, &a->v[0]));
    fm_status s = fmj_step(r, l->n);
    for (size_t i = 0; s == FM_OK && i < l->n; i++) {
        if (l->item[i].type != FMJ_STR) {
            s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "sequence item %zu: expected str instance, %s found", i,
                             fmj_type_name(&l->item[i]));
            break;
        }
        fm_str_append(&text, self->u.s->p, i ? self->u.s->n : 0);
        s = fmj_print(r, &text, &l->item[i]);
    }
    if (s != FM_OK) {
        fm_str_free(&text);
        return s;
    }
    return fmj_str_take(r, out, &text);
}

static fm_status m_format(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return fmj_format(r, out, self->u.s, a);
}

static fm_status justify(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a, char how) {
    fmj_str *fill, blank = {.p = " ", .n = 1, .chars = 1};
    int64_t width, n = fmj_chars(self->u.s);
    fm_str text = {0};
    FM_TRY(fmj_arg_int(&width, &a->v[0], 0, "width"));
    FM_TRY(fmj_arg_str(&fill, &a->v[1], "fillchar"));
    fill = fill ? fill : &blank;
    if (fmj_chars(fill) != 1) {
        FM_FAIL(FM_ERR_DATA, "the fill character must be exactly one character long");
    }
    int64_t gap = width > n ? width - n : 0, left = how == 'l' ? 0 : how == 'r' ? gap : gap / 2 + (gap & width & 1);
    if ((uint64_t)gap > r->limits.memory / 4) {
        FM_FAIL(FM_ERR_DATA, "a width of %lld is too large", (long long)width);
    }
    FM_TRY(fmj_step(r, (size_t)gap / 16 + 1));
    for (int64_t i = 0; i < gap; i++) {
        if (i == left) {
            fm_str_append(&text, self->u.s->p, self->u.s->n);
        }
        fm_str_append(&text, fill->p, fill->n);
    }
    if (left == gap) {
        fm_str_append(&text, self->u.s->p, self->u.s->n);
    }
    return fmj_str_take(r, out, &text);
}

static fm_status m_ljust(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return justify(r, out, self, a, 'l');
}

static fm_status m_rjust(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return justify(r, out, self, a, 'r');
}

static fm_status m_center(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return justify(r, out, self, a, 'c');
}

static fm_status m_zfill(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    const fmj_str *s = self->u.s;
    int64_t width, n = fmj_chars(self->u.s);
    fm_str text = {0};
    FM_TRY(fmj_arg_int(&width, &a->v[0], 0, "width"));
    if (width > (int64_t)(r->limits.memory / 4)) {
        FM_FAIL(FM_ERR_DATA, "a width of %lld is too large", (long long)width);
    }
    FM_TRY(fmj_step(r, width > 0 ? (size_t)width / 16 + 1 : 1));
    size_t head = s->n > 0 && (s->p[0] == '-' || s->p[0] == '+');
    fm_str_append(&text, s->p, head);
    for (; n < width; n++) {
        fm_str_putc(&text, '0');
    }
    fm_str_append(&text, s->p + head, s->n - head);
    return fmj_str_take(r, out, &text);
}

/* ---- Strings: asking ---------------------------------------------------------------------------- */

typedef enum ask { ASK_ALPHA, ASK_DIGIT, ASK_DECIMAL, ASK_NUMERIC, ASK_ALNUM, ASK_SPACE, ASK_ASCII } ask;

static bool has_class(uint32_t cp, ask what) {
    unsigned c = fm_uni_class(cp);
    utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)cp);
    switch (what) {
    case ASK_ALPHA:
        return (c & FM_UNI_L) != 0;
    case ASK_DIGIT: /* decimal digits and raised or lowered ones */
        return cat == UTF8PROC_CATEGORY_ND || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || cp == 0x2070 ||
               (cp >= 0x2074 && cp <= 0x2079) || (cp >= 0x2080 && cp <= 0x2089) || (cp >= 0x2460 && cp <= 0x2468);
    case ASK_DECIMAL:
        return cat == UTF8PROC_CATEGORY_ND;
    case ASK_NUMERIC:
        return (c & FM_UNI_N) != 0;
    case ASK_ALNUM:
        return (c & (FM_UNI_L | FM_UNI_N)) != 0;
    case ASK_SPACE:
        return fmj_is_space(cp);
    default:
        return cp < 128;
    }
}

static fm_status ask_all(fmj_run *r, fmj_value *out, const fmj_value *self, ask what) {
    const uint8_t *p = (const uint8_t *)self->u.s->p, *end = p + self->u.s->n;
    bool yes = p < end || what == ASK_ASCII;
    FM_TRY(fmj_step(r, self->u.s->n / 64 + 1));
    while (p < end && yes) {
        uint32_t cp;
        p += fm_uni_next(&cp, p, end);
        yes = has_class(cp, what);
    }
    *out = fmj_bool(yes);
    return FM_OK;
}

#define ASK_METHOD(name, what)                                                                                         \
    static fm_status m_##name(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {                  \
        (void)a;                                                                                                       \
        return ask_all(r, out, self, what);                                                                            \
    }
ASK_METHOD(isalpha, ASK_ALPHA)
ASK_METHOD(isdigit, ASK_DIGIT)
ASK_METHOD(isdecimal, ASK_DECIMAL)
ASK_METHOD(isnumeric, ASK_NUMERIC)
ASK_METHOD(isalnum, ASK_ALNUM)
ASK_METHOD(isspace, ASK_SPACE)
ASK_METHOD(isascii, ASK_ASCII)
#undef ASK_METHOD

static fm_status is_case(fmj_run *r, fmj_value *out, const fmj_value *self, bool upper) {
    const uint8_t *p = (const uint8_t *)self->u.s->p, *end = p + self->u.s->n;
    bool yes = true, any = false;
    FM_TRY(fmj_step(r, self->u.s->n / 64 + 1));
    while (p < end && yes) {
        uint32_t cp;
        p += fm_uni_next(&cp, p, end);
        bool up = utf8proc_isupper((utf8proc_int32_t)cp), low = utf8proc_islower((utf8proc_int32_t)cp);
        yes = upper ? !low : !up;
        any = any || up || low;
    }
    *out = fmj_bool(yes && any);
    return FM_OK;
}

static fm_status m_isupper(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)a;
    return is_case(r, out, self, true);
}

static fm_status m_islower(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)a;
    return is_case(r, out, self, false);
}

/* Capitals begin words, small letters go on with them. */
static fm_status m_istitle(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    const uint8_t *p = (const uint8_t *)self->u.s->p, *end = p + self->u.s->n;
    bool yes = true, any = false, inside = false;
    (void)a;
    FM_TRY(fmj_step(r, self->u.s->n / 64 + 1));
    while (p < end && yes) {
        uint32_t cp;
        p += fm_uni_next(&cp, p, end);
        bool low = utf8proc_islower((utf8proc_int32_t)cp);
        bool up =
            utf8proc_isupper((utf8proc_int32_t)cp) || utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LT;
        yes = !(up && inside) && !(low && !inside);
        inside = up || low;
        any = any || inside;
    }
    *out = fmj_bool(yes && any);
    return FM_OK;
}

const fmj_row fmj_str_methods[] = {
    {"capitalize", m_capitalize, ""},
    {"casefold", m_casefold, ""},
    {"center", m_center, "width,fillchar="},
    {"count", m_count, "sub,start=,end="},
    {"endswith", m_endswith, "suffix,start=,end="},
    {"expandtabs", m_expandtabs, "tabsize="},
    {"find", m_find, "sub,start=,end="},
    {"format", m_format, "*"},
    {"index", m_index, "sub,start=,end="},
    {"isalnum", m_isalnum, ""},
    {"isalpha", m_isalpha, ""},
    {"isascii", m_isascii, ""},
    {"isdecimal", m_isdecimal, ""},
    {"isdigit", m_isdigit, ""},
    {"islower", m_islower, ""},
    {"isnumeric", m_isnumeric, ""},
    {"isspace", m_isspace, ""},
    {"istitle", m_istitle, ""},
    {"isupper", m_isupper, ""},
    {"join", m_join, "iterable"},
    {"ljust", m_ljust, "width,fillchar="},
    {"lower", m_lower, ""},
    {"lstrip", m_lstrip, "chars="},
    {"partition", m_partition, "sep"},
    {"removeprefix", m_removeprefix, "prefix"},
    {"removesuffix", m_removesuffix, "suffix"},
    {"replace", m_replace, "old,new,count="},
    {"rfind", m_rfind, "sub,start=,end="},
    {"rindex", m_rindex, "sub,start=,end="},
    {"rjust", m_rjust, "width,fillchar="},
    {"rpartition", m_rpartition, "sep"},
    {"rsplit", m_rsplit, "sep=,maxsplit="},
    {"rstrip", m_rstrip, "chars="},
    {"split", m_split, "sep=,maxsplit="},
    {"splitlines", m_splitlines, "keepends="},
    {"startswith", m_startswith, "prefix,start=,end="},
    {"strip", m_strip, "chars="},
    {"swapcase", m_swapcase, ""},
    {"title", m_title, ""},
    {"upper", m_upper, ""},
    {"zfill", m_zfill, "width"},
    {0},
};
