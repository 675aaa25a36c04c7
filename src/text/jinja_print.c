/* Values as text: Python's str() and repr(), and json.dumps(). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/jinja.h"
#include "text/unicode.h"

#define MAX_DEPTH 200

/* Shortest digits that read back as f; exponent form below 1e-4 and from 1e16, as Python's repr does it. */
void fmj_print_float(fm_str *out, double f) {
    char buf[40], digits[24];
    if (isnan(f) || isinf(f)) {
        fm_str_puts(out, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    int prec = 0;
    for (; prec < 17; prec++) {
        snprintf(buf, sizeof buf, "%.*e", prec, f);
        if (strtod(buf, NULL) == f) {
            break;
        }
    }
    const char *p = buf + (buf[0] == '-');
    int n = 0, e = atoi(strchr(buf, 'e') + 1);
    for (; *p != 'e'; p++) {
        if (*p >= '0' && *p <= '9') { /* whatever the decimal point is in this locale */
            digits[n++] = *p;
        }
    }
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    if (signbit(f)) {
        fm_str_putc(out, '-');
    }
    if (e < -4 || e >= 16) {
        fm_str_append(out, digits, 1);
        if (n > 1) {
            fm_str_putc(out, '.');
            fm_str_append(out, digits + 1, (size_t)n - 1);
        }
        fm_str_printf(out, "e%c%02d", e < 0 ? '-' : '+', abs(e));
        return;
    }
    if (e < 0) {
        fm_str_puts(out, "0.");
        for (int i = -1; i > e; i--) {
            fm_str_putc(out, '0');
        }
        fm_str_append(out, digits, (size_t)n);
        return;
    }
    for (int i = 0; i < n || i <= e; i++) {
        if (i == e + 1) {
            fm_str_putc(out, '.');
        }
        fm_str_putc(out, i < n ? digits[i] : '0');
    }
    if (n <= e + 1) {
        fm_str_puts(out, ".0");
    }
}

static void repr_str(fm_str *out, const fmj_str *s) {
    char quote = memchr(s->p, '\'', s->n) && !memchr(s->p, '"', s->n) ? '"' : '\'';
    const uint8_t *p = (const uint8_t *)s->p, *end = p + s->n;
    fm_str_putc(out, quote);
    while (p < end) {
        uint32_t cp;
        unsigned n = fm_uni_next(&cp, p, end);
        if (cp == (uint32_t)quote || cp == '\\') {
            fm_str_putc(out, '\\');
            fm_str_putc(out, (char)cp);
        } else if (cp == '\n' || cp == '\r' || cp == '\t') {
            fm_str_puts(out, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        } else if (cp == ' ' || (fm_uni_class(cp) & (FM_UNI_L | FM_UNI_N | FM_UNI_M | FM_UNI_P | FM_UNI_S)) != 0) {
            fm_str_append(out, (const char *)p, n);
        } else {
            fm_str_printf(out, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)cp);
        }
        p += n;
    }
    fm_str_putc(out, quote);
}

/* Keeps what is printed within the memory a template may take. */
static fm_status bounded(fmj_run *r, const fm_str *out) {
    FM_TRY(fmj_step(r, 1));
    if (out->len > r->limits.memory) {
        FM_FAIL(FM_ERR_DATA, "the template makes a text of more than %zu MiB", r->limits.memory >> 20);
    }
    return fm_str_check(out);
}

static fm_status repr(fmj_run *r, fm_str *out, const fmj_value *v, int depth);

static fm_status repr_list(fmj_run *r, fm_str *out, const fmj_value *v, int depth) {
    const fmj_list *l = v->u.list;
    bool tuple = v->type == FMJ_TUPLE;
    if (v->type == FMJ_VIEW) {
        fm_str_printf(out, "%s(", l->kind);
    }
    fm_str_putc(out, tuple ? '(' : '[');
    for (size_t i = 0; i < l->n; i++) {
        fm_str_puts(out, i ? ", " : "");
        FM_TRY(repr(r, out, &l->item[i], depth + 1));
    }
    fm_str_puts(out, tuple ? l->n == 1 ? ",)" : ")" : "]");
    fm_str_puts(out, v->type == FMJ_VIEW ? ")" : "");
    return FM_OK;
}

static fm_status repr_dict(fmj_run *r, fm_str *out, const fmj_value *v, int depth) {
    const fmj_dict *d = v->u.dict;
    fm_str_puts(out, v->type == FMJ_NAMESPACE ? "<Namespace {" : "{");
    for (size_t i = 0; i < d->n; i++) {
        fm_str_puts(out, i ? ", " : "");
        FM_TRY(repr(r, out, &d->e[i].key, depth + 1));
        fm_str_puts(out, ": ");
        FM_TRY(repr(r, out, &d->e[i].value, depth + 1));
    }
    fm_str_puts(out, v->type == FMJ_NAMESPACE ? "}>" : "}");
    return FM_OK;
}

static fm_status repr(fmj_run *r, fm_str *out, const fmj_value *v, int depth) {
    FM_TRY(bounded(r, out));
    if (depth > MAX_DEPTH) {
        FM_FAIL(FM_ERR_DATA, "a value of more than %d levels cannot be printed", MAX_DEPTH);
    }
    switch (v->type) {
    case FMJ_UNSET:
        break;
    case FMJ_UNDEFINED:
        fm_str_puts(out, "Undefined");
        break;
    case FMJ_NONE:
        fm_str_puts(out, "None");
        break;
    case FMJ_BOOL:
        fm_str_puts(out, v->u.b ? "True" : "False");
        break;
    case FMJ_INT:
        fm_str_printf(out, "%lld", (long long)v->u.i);
        break;
    case FMJ_FLOAT:
        fmj_print_float(out, v->u.f);
        break;
    case FMJ_STR:
        fm_str_puts(out, v->safe ? "Markup(" : "");
        repr_str(out, v->u.s);
        fm_str_puts(out, v->safe ? ")" : "");
        break;
    case FMJ_LIST:
    case FMJ_TUPLE:
    case FMJ_VIEW:
        return repr_list(r, out, v, depth);
    case FMJ_RANGE: {
        const fmj_list *l = v->u.list;
        fm_str_printf(out, "range(%lld, %lld", (long long)l->start, (long long)l->stop);
        fm_str_printf(out, l->step == 1 ? ")" : ", %lld)", (long long)l->step);
        break;
    }
    case FMJ_DICT:
    case FMJ_NAMESPACE:
        return repr_dict(r, out, v, depth);
    default:
        fm_str_printf(out, "<%s>", fmj_type_name(v));
        break;
    }
    return FM_OK;
}

fm_status fmj_repr(fmj_run *r, fm_str *out, const fmj_value *v) {
    return repr(r, out, v, 0);
}

fm_status fmj_print(fmj_run *r, fm_str *out, const fmj_value *v) {
    if (v->type == FMJ_STR) {
        fm_str_append(out, v->u.s->p, v->u.s->n);
        return bounded(r, out);
    }
    return v->type == FMJ_UNDEFINED ? FM_OK : repr(r, out, v, 0);
}

fm_status fmj_to_str(fmj_run *r, fmj_str **out, const fmj_value *v) {
    if (v->type == FMJ_STR) {
        *out = v->u.s;
        return FM_OK;
    }
    fm_str s = {0};
    fmj_value text;
    fm_status st = fmj_print(r, &s, v);
    if (st != FM_OK) {
        fm_str_free(&s);
        return st;
    }
    FM_TRY(fmj_str_take(r, &text, &s));
    *out = text.u.s;
    return FM_OK;
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static void json_str(fm_str *out, const fmj_str *s, bool ascii) {
    static const char plain[] = "\"\\\n\r\t\f\b", letter[] = "\"\\nrtfb";
    const char *p = s->p, *end = p + s->n;
    fm_str_putc(out, '"');
    while (p < end) {
        const char *from = p;
        while (p < end && (unsigned char)*p >= ' ' && *p != '"' && *p != '\\' && (!ascii || (*p & 0x80) == 0)) {
            p++;
        }
        fm_str_append(out, from, (size_t)(p - from));
        if (p == end) {
            break;
        }
        const char *k = *p ? strchr(plain, *p) : NULL;
        uint32_t cp;
        unsigned n = fm_uni_next(&cp, (const uint8_t *)p, (const uint8_t *)end);
        if (k) {
            fm_str_putc(out, '\\');
            fm_str_putc(out, letter[k - plain]);
        } else if (cp >= 0x10000) {
            fm_str_printf(out, "\\u%04x\\u%04x", 0xD7C0 + (cp >> 10), 0xDC00 + (cp & 0x3FF));
        } else {
            fm_str_printf(out, "\\u%04x", cp);
        }
        p += n;
    }
    fm_str_putc(out, '"');
}

static void json_float(fm_str *out, double f) {
    if (isnan(f) || isinf(f)) {
        fm_str_puts(out, isnan(f) ? "NaN" : f < 0 ? "-Infinity" : "Infinity");
    } else {
        fmj_print_float(out, f);
    }
}

static void new_line(fm_str *out, const fmj_json_format *f, int depth) {
    if (f->indent) {
        fm_str_putc(out, '\n');
        for (int i = 0; i < depth; i++) {
            fm_str_append(out, f->indent, f->n_indent);
        }
    }
}

static fm_status json(fmj_run *r, fm_str *out, const fmj_value *v, const fmj_json_format *f, int depth);

static fm_status json_key(fmj_run *r, fm_str *out, const fmj_value *k, const fmj_json_format *f, int depth) {
    if (k->type == FMJ_STR) {
        json_str(out, k->u.s, f->ensure_ascii);
        return FM_OK;
    }
    if (!fmj_is_number(k) && k->type != FMJ_NONE) {
        FM_FAIL(FM_ERR_DATA, "keys must be str, int, float, bool or None, not %s", fmj_type_name(k));
    }
    fm_str_putc(out, '"');
    FM_TRY(json(r, out, k, f, depth));
    fm_str_putc(out, '"');
    return FM_OK;
}

/* Entries in the order of their keys (binary insertion: objects are small, and equal keys cannot be). */
static fm_status sorted_entries(fmj_run *r, fmj_entry **out, const fmj_dict *d) {
    fmj_entry *e = fmj_alloc(r, d->n * sizeof *e);
    FMJ_CHECK(e);
    for (size_t i = 0; i < d->n; i++) {
        size_t lo = 0, hi = i;
        while (lo < hi) {
            size_t mid = (lo + hi) / 2;
            int c;
            FM_TRY(fmj_order(r, &c, &d->e[i].key, &e[mid].key, "<"));
            if (c < 0) {
                hi = mid;
            } else {
                lo = mid + 1;
            }
        }
        FM_TRY(fmj_step(r, (i - lo) / 8));
        memmove(e + lo + 1, e + lo, (i - lo) * sizeof *e);
        e[lo] = d->e[i];
    }
    *out = e;
    return FM_OK;
}

static fm_status json_dict(fmj_run *r, fm_str *out, const fmj_dict *d, const fmj_json_format *f, int depth) {
    fmj_entry *e = d->e;
    if (f->sort_keys) {
        FM_TRY(sorted_entries(r, &e, d));
    }
    fm_str_putc(out, '{');
    for (size_t i = 0; i < d->n; i++) {
        fm_str_append(out, f->item, i ? f->n_item : 0);
        new_line(out, f, depth + 1);
        FM_TRY(json_key(r, out, &e[i].key, f, depth + 1));
        fm_str_append(out, f->key, f->n_key);
        FM_TRY(json(r, out, &e[i].value, f, depth + 1));
    }
    if (d->n > 0) {
        new_line(out, f, depth);
    }
    fm_str_putc(out, '}');
    return FM_OK;
}

static fm_status json(fmj_run *r, fm_str *out, const fmj_value *v, const fmj_json_format *f, int depth) {
    FM_TRY(bounded(r, out));
    if (depth > MAX_DEPTH) {
        FM_FAIL(FM_ERR_DATA, "a value of more than %d levels cannot be written as JSON", MAX_DEPTH);
    }
    switch (v->type) {
    case FMJ_STR:
        json_str(out, v->u.s, f->ensure_ascii);
        return FM_OK;
    case FMJ_NONE:
        fm_str_puts(out, "null");
        return FM_OK;
    case FMJ_BOOL:
        fm_str_puts(out, v->u.b ? "true" : "false");
        return FM_OK;
    case FMJ_INT:
        fm_str_printf(out, "%lld", (long long)v->u.i);
        return FM_OK;
    case FMJ_FLOAT:
        json_float(out, v->u.f);
        return FM_OK;
    case FMJ_DICT:
        return json_dict(r, out, v->u.dict, f, depth);
    case FMJ_LIST:
    case FMJ_TUPLE:
        fm_str_putc(out, '[');
        for (size_t i = 0; i < v->u.list->n; i++) {
            fm_str_append(out, f->item, i ? f->n_item : 0);
            new_line(out, f, depth + 1);
            FM_TRY(json(r, out, &v->u.list->item[i], f, depth + 1));
        }
        if (v->u.list->n > 0) {
            new_line(out, f, depth);
        }
        fm_str_putc(out, ']');
        return FM_OK;
    default:
        FM_FAIL(FM_ERR_DATA, "Object of type %s is not JSON serializable", fmj_type_name(v));
    }
}

fm_status fmj_dump_json(fmj_run *r, fm_str *out, const fmj_value *v, const fmj_json_format *f) {
    return json(r, out, v, f, 0);
}
