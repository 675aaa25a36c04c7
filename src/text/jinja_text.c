/* Text helpers of filters and methods: case, blanks, escaping, and both of Python's format languages. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "text/jinja.h"
#include "text/unicode.h"

#define MAX_WIDTH 1000000

bool fmj_is_space(uint32_t cp) {
    return cp < 128 ? cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x1F)
                    : (fm_uni_class(cp) & FM_UNI_Z) != 0;
}

void fmj_put_case(fm_str *out, uint32_t cp, int how) {
    char utf8[4];
    if (cp < 128) {
        fm_str_putc(out, (char)(how == FMJ_LOWER ? tolower((int)cp) : toupper((int)cp)));
        return;
    }
    if (cp == 0xDF && how != FMJ_LOWER) { /* the one letter in common use that becomes two */
        fm_str_puts(out, how == FMJ_UPPER ? "SS" : "Ss");
        return;
    }
    utf8proc_int32_t c = (utf8proc_int32_t)cp;
    c = how == FMJ_LOWER ? utf8proc_tolower(c) : how == FMJ_UPPER ? utf8proc_toupper(c) : utf8proc_totitle(c);
    fm_str_append(out, utf8, (size_t)fm_utf8_encode(utf8, (uint32_t)c));
}

static bool in_set(const fmj_str *set, const char *p, unsigned n, uint32_t cp) {
    return set ? memmem(set->p, set->n, p, n) != NULL : fmj_is_space(cp);
}

void fmj_strip(const fmj_str *s, const fmj_str *set, bool left, bool right, size_t *begin, size_t *end) {
    const uint8_t *p = (const uint8_t *)s->p, *e = p + s->n;
    uint32_t cp;
    while (left && p < e) {
        unsigned n = fm_uni_next(&cp, p, e);
        if (!in_set(set, (const char *)p, n, cp)) {
            break;
        }
        p += n;
    }
    while (right && e > p) {
        const uint8_t *q = e - 1;
        while (q > p && (*q & 0xC0) == 0x80) {
            q--;
        }
        unsigned n = fm_uni_next(&cp, q, e);
        if (!in_set(set, (const char *)q, n, cp)) {
            break;
        }
        e = q;
    }
    *begin = (size_t)(p - (const uint8_t *)s->p);
    *end = (size_t)(e - (const uint8_t *)s->p);
}

fm_status fmj_escape(fmj_run *r, fmj_value *out, const fmj_value *v) {
    static const char from[] = "&<>'\"";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    fmj_str *s;
    fm_str text = {0};
    FM_TRY(fmj_to_str(r, &s, v));
    FM_TRY(fmj_step(r, s->n / 64 + 1));
    for (size_t i = 0; i < s->n; i++) {
        const char *k = s->p[i] ? strchr(from, s->p[i]) : NULL;
        if (k) {
            fm_str_puts(&text, to[k - from]);
        } else {
            fm_str_putc(&text, s->p[i]);
        }
    }
    FM_TRY(fmj_str_take(r, out, &text));
    out->safe = true;
    return FM_OK;
}

/* ---- One value in a format ---------------------------------------------------------------------- */

typedef struct spec {
    fm_sv fill; /* one character */
    char align; /* < > ^ = or 0 */
    char sign;  /* + - blank or 0 */
    bool alt, zero, comma, under;
    int64_t width, prec; /* -1 = not given */
    char type;           /* 0 = not given */
} spec;

static void repeat(fm_str *out, fm_sv fill, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        fm_str_append(out, fill.ptr, fill.len);
    }
}

/* `text` of `chars` characters padded to the width; `head`: leading bytes (sign, 0x) that stay left with '='. */
static void pad(fm_str *out, const spec *f, const char *text, size_t n, int64_t chars, size_t head, char align) {
    int64_t gap = f->width > chars ? f->width - chars : 0;
    int64_t before = align == '<' ? 0 : align == '^' ? gap / 2 : gap;
    if (align == '=') {
        fm_str_append(out, text, head);
        repeat(out, f->fill, gap);
        fm_str_append(out, text + head, n - head);
        return;
    }
    repeat(out, f->fill, before);
    fm_str_append(out, text, n);
    repeat(out, f->fill, gap - before);
}

static void group_digits(fm_str *out, const char *digits, char sep) {
    size_t n = strspn(digits, "0123456789");
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) {
            fm_str_putc(out, sep);
        }
        fm_str_putc(out, digits[i]);
    }
    fm_str_puts(out, digits + n);
}

static fm_status format_number(fm_str *out, const spec *f, const fmj_value *v) {
    char body[512], fmt[16];
    char type = f->type;
    bool whole = fmj_is_int(v) && !(type && strchr("eEfFgG%", type));
    fm_str text = {0};
    bool negative;
    if (whole) {
        int64_t i = fmj_as_int(v);
        uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
        negative = i < 0;
        int at = (int)sizeof body - 1;
        unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
        body[at] = '\0';
        do {
            body[--at] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
            u /= base;
        } while (u > 0);
        memmove(body, body + at, sizeof body - (size_t)at);
    } else {
        double d = fmj_as_float(v);
        negative = signbit(d) && !isnan(d);
        d = fabs(d);
        int64_t prec = f->prec < 0 ? 6 : f->prec > 100 ? 100 : f->prec;
        if (!type && f->prec < 0) {
            fm_str s = {0};
            fmj_print_float(&s, d);
            snprintf(body, sizeof body, "%s", s.data ? s.data : "");
            fm_str_free(&s);
        } else {
            char c = !type ? 'g' : type == '%' ? 'f' : type;
            snprintf(fmt, sizeof fmt, "%%%s.*%c", f->alt ? "#" : "", c);
            snprintf(body, sizeof body, fmt, (int)prec, type == '%' ? d * 100 : d);
            if (type == '%') {
                strncat(body, "%", sizeof body - strlen(body) - 1);
            }
        }
    }
    fm_str_puts(&text, negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "");
    if (f->alt && whole && type && strchr("xXob", type)) {
        fm_str_putc(&text, '0');
        fm_str_putc(&text, type);
    }
    size_t head = text.len;
    if (f->comma || f->under) {
        group_digits(&text, body, f->comma ? ',' : '_');
    } else {
        int64_t digits = (int64_t)strlen(body); /* %.5d asks for at least five */
        for (; whole && f->prec > digits && digits < 400; digits++) {
            fm_str_putc(&text, '0');
        }
        fm_str_puts(&text, body);
    }
    fm_status s = fm_str_check(&text);
    if (s == FM_OK) {
        pad(out, f, text.data ? text.data : "", text.len, (int64_t)text.len, head,
            f->align  ? f->align
            : f->zero ? '='
                      : '>');
    }
    fm_str_free(&text);
    return s;
}

static fm_status format_text(fmj_run *r, fm_str *out, const spec *f, fmj_str *s, char align) {
    int64_t chars = fmj_chars(s);
    size_t n = s->n;
    if (f->prec >= 0 && f->prec < chars) {
        chars = f->prec;
        n = fmj_char_offset(s, chars);
    }
    FM_TRY(fmj_step(r, (size_t)(f->width > 0 ? f->width : 0) / 16 + n / 256 + 1));
    pad(out, f, s->p, n, chars, 0, align);
    return FM_OK;
}

/* ---- "..." % args ------------------------------------------------------------------------------- */

typedef struct percent {
    const fmj_value *args;
    size_t n, at;
    const fmj_dict *dict; /* for %(name)s */
} percent;

static fm_status percent_number(int64_t *out, const char **p, const char *end, percent *a) {
    *out = 0;
    if (*p < end && **p == '*') {
        if (a->at >= a->n || !fmj_is_int(&a->args[a->at])) {
            FM_FAIL(FM_ERR_DATA, "* wants int");
        }
        *out = fmj_as_int(&a->args[a->at++]);
        ++*p;
    }
    while (*p < end && isdigit((unsigned char)**p) && *out <= MAX_WIDTH) {
        *out = *out * 10 + (*(*p)++ - '0');
    }
    if (*out > MAX_WIDTH || *out < -MAX_WIDTH) {
        FM_FAIL(FM_ERR_DATA, "a width in a format is larger than %d", MAX_WIDTH);
    }
    return FM_OK;
}

static fm_status percent_value(fmj_run *r, fm_str *out, spec *f, const fmj_value *v) {
    fm_str text = {0};
    fmj_value s;
    char type = f->type, align = f->align ? f->align : '>';
    if (type == 's' || type == 'r' || type == 'a') {
        f->fill = fm_sv_of(" ");
        fm_status st = type == 's' ? fmj_print(r, &text, v) : fmj_repr(r, &text, v);
        if (st != FM_OK) {
            fm_str_free(&text);
            return st;
        }
        FM_TRY(fmj_str_take(r, &s, &text));
        return format_text(r, out, f, s.u.s, align);
    }
    if (type == 'c') {
        char utf8[4];
        if (v->type == FMJ_STR && fmj_chars(v->u.s) == 1) {
            return format_text(r, out, f, v->u.s, align);
        }
        int n = v->type == FMJ_INT && v->u.i >= 0 && v->u.i <= 0x10FFFF ? fm_utf8_encode(utf8, (uint32_t)v->u.i) : 0;
        if (n == 0) {
            FM_FAIL(FM_ERR_DATA, "%%c requires int or char");
        }
        FM_TRY(fmj_str_copy(r, &s, utf8, (size_t)n));
        return format_text(r, out, f, s.u.s, align);
    }
    if (!strchr("diuxXoeEfFgG", type)) {
        FM_FAIL(FM_ERR_DATA, "unsupported format character '%c'", type >= ' ' && type < 127 ? type : '?');
    }
    if (!fmj_is_number(v) || (strchr("xXo", type) && v->type == FMJ_FLOAT)) {
        FM_FAIL(FM_ERR_DATA, "%%%c format: a real number is required, not %s", type, fmj_type_name(v));
    }
    fmj_value num = *v;
    if (strchr("diu", type)) {
        if (v->type == FMJ_FLOAT) {
            if (!(v->u.f > -0x1p63 && v->u.f < 0x1p63)) {
                FM_FAIL(FM_ERR_DATA, "a float beyond 64 bits cannot be written with %%d");
            }
            num = fmj_int((int64_t)v->u.f);
        }
        f->type = 'd';
    }
    FM_TRY(fmj_step(r, (size_t)f->width / 16 + 1));
    return format_number(out, f, &num);
}

/* One conversion, *p behind the percent sign. */
static fm_status conversion(fmj_run *r, fm_str *out, const char **p, const char *end, percent *a) {
    spec f = {.fill = fm_sv_of(" "), .width = 0, .prec = -1};
    const fmj_value *v = NULL;
    if (*p < end && **p == '(') {
        const char *close = memchr(*p, ')', (size_t)(end - *p));
        if (!close || !a->dict) {
            FM_FAIL(FM_ERR_DATA, !close ? "incomplete format key" : "format requires a mapping");
        }
        v = fmj_dict_find_str(a->dict, *p + 1, (size_t)(close - *p - 1));
        if (!v) {
            FM_FAIL(FM_ERR_DATA, "format: no key '%.*s'", (int)FM_MIN(close - *p - 1, 60), *p + 1);
        }
        *p = close + 1;
    }
    for (; *p < end && **p && strchr("#0- +", **p); ++*p) {
        f.alt |= **p == '#';
        f.zero |= **p == '0';
        f.align = **p == '-' ? '<' : f.align;
        f.sign = **p == '+' || (**p == ' ' && !f.sign) ? **p : f.sign;
    }
    FM_TRY(percent_number(&f.width, p, end, a));
    if (f.width < 0) {
        f.width = -f.width;
        f.align = '<';
    }
    if (*p < end && **p == '.') {
        ++*p;
        FM_TRY(percent_number(&f.prec, p, end, a));
        f.prec = f.prec < 0 ? 0 : f.prec;
    }
    while (*p < end && **p && strchr("hlL", **p)) {
        ++*p;
    }
    if (*p >= end || !**p) {
        FM_FAIL(FM_ERR_DATA, "incomplete format");
    }
    f.type = *(*p)++;
    f.fill = f.zero && !f.align ? fm_sv_of("0") : f.fill;
    if (f.type == '%') {
        fm_str_putc(out, '%');
        return FM_OK;
    }
    if (!v) {
        if (a->at >= a->n) {
            FM_FAIL(FM_ERR_DATA, "not enough arguments for format string");
        }
        v = &a->args[a->at++];
    }
    return percent_value(r, out, &f, v);
}

fm_status fmj_percent(fmj_run *r, fmj_value *out, const fmj_str *fmt, const fmj_value *args) {
    const char *p = fmt->p, *end = p + fmt->n;
    fm_str text = {0};
    fm_status s = fmj_step(r, fmt->n / 64 + 1);
    percent a = {.args = args, .n = 1};
    if (args->type == FMJ_TUPLE) {
        a.args = args->u.list->item;
        a.n = args->u.list->n;
    } else if (args->type == FMJ_DICT) {
        a.dict = args->u.dict;
    }
    while (s == FM_OK && p < end) {
        const char *next = memchr(p, '%', (size_t)(end - p));
        next = next ? next : end;
        fm_str_append(&text, p, (size_t)(next - p));
        p = next;
        if (p < end) {
            p++;
            s = conversion(r, &text, &p, end, &a);
        }
    }
    bool subscriptable = args->type == FMJ_LIST || args->type == FMJ_RANGE || args->type == FMJ_UNDEFINED || a.dict;
    if (s == FM_OK && a.at < a.n && !subscriptable) { /* Python forgives what could be a mapping */
        s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "not all arguments converted during string formatting");
    }
    if (s != FM_OK) {
        fm_str_free(&text);
        return s;
    }
    return fmj_str_take(r, out, &text);
}

/* ---- "...".format(...) -------------------------------------------------------------------------- */

typedef struct fields {
    const fmj_args *a;
    int64_t next; /* automatic number; -1 after a written one */
} fields;

static fm_status parse_spec(spec *f, fm_sv text) {
    const char *p = text.ptr, *end = p + text.len;
    unsigned n = 0;
    uint32_t cp;
    *f = (spec){.fill = fm_sv_of(" "), .width = 0, .prec = -1};
    if (p < end) {
        n = fm_uni_next(&cp, (const uint8_t *)p, (const uint8_t *)end);
    }
    if (n > 0 && p + n < end && strchr("<>^=", p[n]) && p[n]) {
        f->fill = (fm_sv){p, n};
        f->align = p[n];
        p += n + 1;
    } else if (p < end && *p && strchr("<>^=", *p)) {
        f->align = *p++;
    }
    if (p < end && *p && strchr("+- ", *p)) {
        f->sign = *p++;
    }
    f->alt = p < end && *p == '#';
    p += f->alt;
    if (p < end && *p == '0') {
        f->zero = true;
        f->fill = f->align ? f->fill : fm_sv_of("0");
        p++;
    }
    for (int i = 0; i < 2; i++) {
        int64_t *v = i == 0 ? &f->width : &f->prec;
        if (i == 1) {
            if (p < end && (*p == ',' || *p == '_')) {
                *(*p == ',' ? &f->comma : &f->under) = true;
                p++;
            }
            if (p >= end || *p != '.') {
                break;
            }
            p++;
            *v = 0;
        }
        for (; p < end && isdigit((unsigned char)*p); p++) {
            *v = *v * 10 + (*p - '0');
            if (*v > MAX_WIDTH) {
                FM_FAIL(FM_ERR_DATA, "a width in a format is larger than %d", MAX_WIDTH);
            }
        }
    }
    f->type = p < end ? *p++ : 0;
    if (p < end || (f->type && !strchr("sdnbxXoeEfFgG%c", f->type))) {
        FM_FAIL(FM_ERR_DATA, "invalid format specifier '%.*s'", (int)FM_MIN(text.len, (size_t)60), text.ptr);
    }
    f->type = f->type == 'n' ? 'd' : f->type;
    return FM_OK;
}

static fm_status format_value(fmj_run *r, fm_str *out, const fmj_value *v, char convert, fm_sv text) {
    spec f;
    fmj_value as_text = *v;
    FM_TRY(parse_spec(&f, text));
    if (convert) {
        fm_str s = {0};
        fm_status st = convert == 's' ? fmj_print(r, &s, v) : fmj_repr(r, &s, v);
        if (st != FM_OK) {
            fm_str_free(&s);
            return st;
        }
        FM_TRY(fmj_str_take(r, &as_text, &s));
    }
    if (fmj_is_number(&as_text) && (as_text.type != FMJ_BOOL || f.type) && f.type != 's' && f.type != 'c') {
        if (as_text.type == FMJ_FLOAT && f.type && strchr("dxXob", f.type)) {
            FM_FAIL(FM_ERR_DATA, "Unknown format code '%c' for object of type 'float'", f.type);
        }
        FM_TRY(fmj_step(r, (size_t)f.width / 16 + 1));
        return format_number(out, &f, &as_text);
    }
    if ((f.type && f.type != 's') || (as_text.type != FMJ_STR && text.len > 0)) {
        FM_FAIL(FM_ERR_DATA, "Unknown format code for object of type '%s'", fmj_type_name(&as_text));
    }
    fmj_str *s;
    FM_TRY(fmj_to_str(r, &s, &as_text));
    return format_text(r, out, &f, s, f.align ? f.align : '<');
}

/* name.attr[key] of a field. */
static fm_status field_value(fmj_run *r, fmj_value *out, fm_sv name, fields *fs) {
    const char *p = name.ptr, *end = p + name.len, *q = p;
    while (q < end && *q != '.' && *q != '[') {
        q++;
    }
    size_t n = (size_t)(q - p);
    bool number = n > 0 && strspn(p, "0123456789") >= n;
    if (n == 0 || number) {
        int64_t i = n == 0 ? fs->next : n > 9 ? INT64_MAX : (int64_t)strtoul(p, NULL, 10);
        if ((n == 0 && fs->next < 0) || (n > 0 && fs->next > 0)) {
            FM_FAIL(FM_ERR_DATA, "numbered and automatic fields cannot be mixed in a format");
        }
        fs->next = n == 0 ? fs->next + 1 : -1;
        if (i < 0 || (uint64_t)i >= fs->a->n_pos) {
            FM_FAIL(FM_ERR_DATA, "Replacement index %lld out of range for positional args tuple", (long long)i);
        }
        *out = fs->a->pos[i];
    } else {
        size_t k = 0;
        while (k < fs->a->n_kw && !(fs->a->kw_name[k]->n == n && memcmp(fs->a->kw_name[k]->p, p, n) == 0)) {
            k++;
        }
        if (k == fs->a->n_kw) {
            FM_FAIL(FM_ERR_DATA, "format: no key '%.*s'", (int)FM_MIN(n, (size_t)60), p);
        }
        *out = fs->a->kw[k];
    }
    while (q < end) {
        bool item = *q == '[';
        const char *from = ++q;
        while (q < end && (item ? *q != ']' : *q != '.' && *q != '[')) {
            q++;
        }
        fmj_value key, next;
        FM_TRY(fmj_str_view(r, &key, from, (size_t)(q - from)));
        if (item && key.u.s->n > 0 && key.u.s->n < 10 && strspn(from, "0123456789") >= key.u.s->n) {
            key = fmj_int((int64_t)strtoul(from, NULL, 10));
        }
        FM_TRY(item ? fmj_get_item(r, &next, out, &key) : fmj_get_attr(r, &next, out, key.u.s));
        if (next.type == FMJ_UNDEFINED) {
            return fmj_fail_undefined(&next);
        }
        *out = next;
        q += item && q < end;
    }
    return FM_OK;
}

/* One field, *p behind the brace. */
static fm_status field(fmj_run *r, fm_str *out, const char **p, const char *end, fields *fs) {
    const char *at = *p, *name_end, *spec_at = NULL;
    char convert = 0;
    while (*p < end && **p != '}' && **p != ':' && **p != '!' && **p != '{') {
        *p += **p == '[' && memchr(*p, ']', (size_t)(end - *p)) ? (const char *)memchr(*p, ']', (size_t)(end - *p)) - *p
                                                                : 1;
    }
    name_end = *p;
    if (*p + 1 < end && **p == '!') {
        convert = (*p)[1];
        *p += 2;
        if (convert != 's' && convert != 'r' && convert != 'a') {
            FM_FAIL(FM_ERR_DATA, "unknown conversion in a format");
        }
    }
    if (*p < end && **p == ':') {
        spec_at = ++*p;
        while (*p < end && **p != '}' && **p != '{') {
            ++*p;
        }
    }
    if (*p >= end || **p != '}') {
        FM_FAIL(FM_ERR_DATA, "expected '}' before end of string");
    }
    fm_sv text = {spec_at ? spec_at : *p, spec_at ? (size_t)(*p - spec_at) : 0};
    fmj_value v;
    ++*p;
    FM_TRY(field_value(r, &v, (fm_sv){at, (size_t)(name_end - at)}, fs));
    return format_value(r, out, &v, convert, text);
}

fm_status fmj_format(fmj_run *r, fmj_value *out, const fmj_str *fmt, const fmj_args *a) {
    const char *p = fmt->p, *end = p + fmt->n;
    fields fs = {.a = a};
    fm_str text = {0};
    fm_status s = fmj_step(r, fmt->n / 64 + 1);
    while (s == FM_OK && p < end) {
        bool brace = *p == '{' || *p == '}';
        if (brace && p + 1 < end && p[1] == *p) {
            fm_str_putc(&text, *p);
            p += 2;
        } else if (*p == '{') {
            p++;
            s = field(r, &text, &p, end, &fs);
        } else if (*p == '}') {
            s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "single '}' encountered in format string");
        } else {
            fm_str_putc(&text, *p++);
        }
    }
    if (s != FM_OK) {
        fm_str_free(&text);
        return s;
    }
    return fmj_str_take(r, out, &text);
}
