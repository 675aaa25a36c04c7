/* Filters over numbers and single values: conversions, rounding, defaults, JSON. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/jinja_filter.h"

/* ---- Reading numbers as Python does ------------------------------------------------------------- */

/* The text without blanks around it and without single underscores between digits, NUL-terminated in buf; false when
 * it cannot be a number. */
static bool number_text(char buf[400], const fmj_str *s) {
    size_t begin, end, n = 0;
    fmj_strip(s, NULL, true, true, &begin, &end);
    if (begin == end || end - begin >= 400) {
        return false;
    }
    for (size_t i = begin; i < end; i++) {
        char c = s->p[i];
        if (c == '_') {
            bool between = i > begin && i + 1 < end && isxdigit((unsigned char)s->p[i - 1]) &&
                           isxdigit((unsigned char)s->p[i + 1]);
            if (!between) {
                return false;
            }
        } else if (c == '\0' || (unsigned char)c >= 128) {
            return false;
        } else {
            buf[n++] = c;
        }
    }
    buf[n] = '\0';
    return true;
}

static bool read_float(double *out, const fmj_str *s) {
    char buf[400], *rest;
    if (!number_text(buf, s) || isspace((unsigned char)buf[0]) || strpbrk(buf, "xXpP(")) {
        return false; /* strtod reads hexadecimal numbers and nan(...), Python does not */
    }
    *out = strtod(buf, &rest);
    return rest != buf && *rest == '\0';
}

/* *ok false when Python's int(text, base) raises ValueError; FM_ERR_DATA beyond 64 bits. */
static fm_status read_int(int64_t *out, bool *ok, const fmj_str *s, int64_t base) {
    char buf[400];
    bool negative;
    uint64_t v = 0;
    *out = 0;
    *ok = number_text(buf, s) && (base == 0 || (base >= 2 && base <= 36));
    if (!*ok) {
        return FM_OK;
    }
    const char *p = buf;
    negative = *p == '-';
    p += *p == '-' || *p == '+';
    int prefix = p[0] != '0' ? 0 : (p[1] | 32) == 'x' ? 16 : (p[1] | 32) == 'o' ? 8 : (p[1] | 32) == 'b' ? 2 : 0;
    bool zero_led = base == 0 && p[0] == '0' && !prefix;
    if (prefix && (base == 0 || base == prefix)) {
        base = prefix;
        p += 2;
    }
    base = base == 0 ? 10 : base;
    *ok = *p != '\0';
    for (; *p && *ok; p++) {
        int c = tolower((unsigned char)*p), d = isdigit(c) ? c - '0' : isalpha(c) ? c - 'a' + 10 : 99;
        *ok = d < base && !(zero_led && d > 0);
        if (*ok && (__builtin_mul_overflow(v, (uint64_t)base, &v) || __builtin_add_overflow(v, (uint64_t)d, &v))) {
            FM_FAIL(FM_ERR_DATA, "the integer %.40s exceeds 64 bits", buf);
        }
    }
    if (*ok && v > (uint64_t)INT64_MAX + negative) {
        FM_FAIL(FM_ERR_DATA, "the integer %.40s exceeds 64 bits", buf);
    }
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return FM_OK;
}

/* int(f); *ok false for infinities and NaN. */
static fm_status float_to_int(int64_t *out, bool *ok, double f) {
    *ok = isfinite(f);
    if (*ok && !(f > -0x1p63 && f < 0x1p63)) {
        FM_FAIL(FM_ERR_DATA, "the integer %g exceeds 64 bits", f);
    }
    *out = *ok ? (int64_t)f : 0;
    return FM_OK;
}

static fm_status f_int(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    int64_t base, v = 0;
    bool ok = false;
    double f;
    (void)r;
    FM_TRY(fmj_arg_int(&base, &a->v[1], 10, "base"));
    if (self->type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(self);
    }
    if (fmj_is_int(self)) {
        v = fmj_as_int(self);
        ok = true;
    } else if (self->type == FMJ_FLOAT) {
        FM_TRY(float_to_int(&v, &ok, self->u.f));
        if (!ok && isinf(self->u.f)) {
            FM_FAIL(FM_ERR_DATA, "cannot convert float infinity to integer");
        }
    } else if (self->type == FMJ_STR) {
        FM_TRY(read_int(&v, &ok, self->u.s, base));
        if (!ok && read_float(&f, self->u.s)) { /* "42.5" | int is 42 */
            FM_TRY(float_to_int(&v, &ok, f));
        }
    }
    *out = ok ? fmj_int(v) : fmj_given(&a->v[0]) ? a->v[0] : fmj_int(0);
    return FM_OK;
}

static fm_status f_float(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    double f = 0;
    (void)r;
    if (self->type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(self);
    }
    bool ok = fmj_is_number(self);
    if (ok) {
        f = fmj_as_float(self);
    } else if (self->type == FMJ_STR) {
        ok = read_float(&f, self->u.s);
    }
    *out = ok ? fmj_float(f) : fmj_given(&a->v[0]) ? a->v[0] : fmj_float(0);
    return FM_OK;
}

/* ---- Arithmetic --------------------------------------------------------------------------------- */

static fm_status need_number(const fmj_value *v, const char *filter) {
    if (v->type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(v);
    }
    if (!fmj_is_number(v)) {
        FM_FAIL(FM_ERR_DATA, "%s: a number is expected, not %s", filter, fmj_type_name(v));
    }
    return FM_OK;
}

static fm_status f_abs(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)a;
    FM_TRY(need_number(self, "abs"));
    if (self->type == FMJ_FLOAT) {
        *out = fmj_float(fabs(self->u.f));
        return FM_OK;
    }
    fmj_value zero = fmj_int(0), v = fmj_int(fmj_as_int(self));
    return fmj_binary(r, out, v.u.i < 0 ? '-' : '+', &zero, &v);
}

/* round(i, -digits): to the even multiple of a power of ten. */
static fm_status round_int(fmj_value *out, int64_t i, int64_t digits) {
    int64_t unit = 1;
    for (; digits < 0 && unit <= INT64_MAX / 10; digits++) {
        unit *= 10;
    }
    if (digits < 0) {
        *out = fmj_int(0); /* the unit is beyond twice any value */
        return FM_OK;
    }
    int64_t low = i % unit, base = i - low;
    if (low < 0) {
        low += unit;
        if (__builtin_sub_overflow(base, unit, &base)) {
            FM_FAIL(FM_ERR_DATA, "an integer result exceeds 64 bits");
        }
    }
    bool up = low > unit - low || (low == unit - low && (base / unit) % 2 != 0);
    if (unit > 1 && up && __builtin_add_overflow(base, unit, &base)) {
        FM_FAIL(FM_ERR_DATA, "an integer result exceeds 64 bits");
    }
    *out = fmj_int(base);
    return FM_OK;
}

static double round_float(double f, int64_t digits) {
    char buf[800];
    if (!isfinite(f) || digits > 323 || f == 0) {
        return f;
    }
    if (digits < -308) {
        return copysign(0, f);
    }
    if (digits >= 0) { /* printf rounds the exact value to even, as Python does */
        snprintf(buf, sizeof buf, "%.*f", (int)digits, f);
        return strtod(buf, NULL);
    }
    double unit = pow(10, (double)-digits);
    return nearbyint(f / unit) * unit;
}

static fm_status f_round(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    int64_t digits;
    fmj_str *method;
    (void)r;
    FM_TRY(need_number(self, "round"));
    FM_TRY(fmj_arg_int(&digits, &a->v[0], 0, "precision"));
    FM_TRY(fmj_arg_str(&method, &a->v[1], "method"));
    bool ceil_it = method && fmj_str_eq(method, "ceil"), floor_it = method && fmj_str_eq(method, "floor");
    if (method && !ceil_it && !floor_it && !fmj_str_eq(method, "common")) {
        FM_FAIL(FM_ERR_DATA, "method must be common, ceil or floor");
    }
    if (ceil_it || floor_it) {
        double unit = pow(10, (double)digits), v = fmj_as_float(self) * unit;
        if (!isfinite(v) || !isfinite(unit) || unit == 0) {
            FM_FAIL(FM_ERR_DATA, "round: the number is too large");
        }
        *out = fmj_float((ceil_it ? ceil(v) : floor(v)) / unit);
        out->u.f += 0; /* Python goes through an integer, which has no negative zero */
        return FM_OK;
    }
    if (fmj_is_int(self)) {
        return round_int(out, fmj_as_int(self), digits);
    }
    *out = fmj_float(round_float(self->u.f, digits));
    if (isinf(out->u.f) && isfinite(self->u.f)) {
        FM_FAIL(FM_ERR_DATA, "rounded value too large to represent");
    }
    return FM_OK;
}

static fm_status f_filesizeformat(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    static const char letters[] = "kMGTPEZY";
    char buf[64];
    double v = 0, base = fmj_arg_bool(&a->v[0], false) ? 1024 : 1000, unit = base;
    if (self->type == FMJ_STR ? !read_float(&v, self->u.s) : !fmj_is_number(self)) {
        FM_FAIL(FM_ERR_DATA, "filesizeformat: a number is expected, not %s", fmj_type_name(self));
    }
    v = self->type == FMJ_STR ? v : fmj_as_float(self);
    if (v == 1) {
        return fmj_str_copy(r, out, "1 Byte", 6);
    }
    if (v < base) {
        snprintf(buf, sizeof buf, "%.0f Bytes", trunc(v));
    } else {
        size_t i = 0;
        for (; i + 1 < sizeof letters - 1 && v >= unit * base; i++) {
            unit *= base;
        }
        char letter = base == 1024 && i == 0 ? 'K' : letters[i];
        snprintf(buf, sizeof buf, "%.1f %c%sB", v / unit, letter, base == 1024 ? "i" : "");
    }
    return fmj_str_copy(r, out, buf, strlen(buf));
}

/* ---- Single values ------------------------------------------------------------------------------ */

static fm_status f_default(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    bool use = self->type == FMJ_UNDEFINED || (fmj_arg_bool(&a->v[1], false) && !fmj_truth(self));
    if (use && !fmj_given(&a->v[0])) {
        return fmj_str_view(r, out, "", 0);
    }
    *out = use ? a->v[0] : *self;
    return FM_OK;
}

static fm_status f_attr(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *name;
    fmj_value bare = *self;
    FM_TRY(fmj_to_str(r, &name, &a->v[0]));
    if (self->type == FMJ_DICT) { /* the members of a dict are no attributes of it */
        fmj_dict *empty;
        FM_TRY(fmj_dict_new(r, &empty, 0));
        bare = fmj_of_dict(empty);
    }
    FM_TRY(fmj_get_attr(r, out, &bare, name));
    if (out->type == FMJ_METHOD) {
        out->u.method->self = *self;
    }
    return FM_OK;
}

/* indent=2, "\t" or none. */
static fm_status json_indent(fmj_run *r, fmj_json_format *f, const fmj_value *v) {
    int64_t n;
    if (!fmj_some(v)) {
        return FM_OK;
    }
    f->item = ",";
    f->n_item = 1;
    if (v->type == FMJ_STR) {
        f->indent = v->u.s->p;
        f->n_indent = v->u.s->n;
        return FM_OK;
    }
    FM_TRY(fmj_arg_int(&n, v, 0, "indent"));
    n = n < 0 ? 0 : n;
    if (n > 1000) {
        FM_FAIL(FM_ERR_DATA, "tojson: an indent of %lld is too large", (long long)n);
    }
    char *blanks = fmj_alloc(r, (size_t)n);
    FMJ_CHECK(blanks);
    memset(blanks, ' ', (size_t)n);
    f->indent = blanks;
    f->n_indent = (size_t)n;
    return FM_OK;
}

static fm_status f_tojson(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_json_format f = {.ensure_ascii = fmj_arg_bool(&a->v[0], false),
                         .sort_keys = fmj_arg_bool(&a->v[3], false),
                         .item = ", ",
                         .n_item = 2,
                         .key = ": ",
                         .n_key = 2};
    fm_str text = {0};
    FM_TRY(json_indent(r, &f, &a->v[1]));
    if (fmj_some(&a->v[2])) {
        fmj_list *l;
        FM_TRY(fmj_items(r, &l, &a->v[2]));
        if (l->n != 2 || l->item[0].type != FMJ_STR || l->item[1].type != FMJ_STR) {
            FM_FAIL(FM_ERR_DATA, "tojson: separators are two strings");
        }
        f.item = l->item[0].u.s->p;
        f.n_item = l->item[0].u.s->n;
        f.key = l->item[1].u.s->p;
        f.n_key = l->item[1].u.s->n;
    }
    fm_status s = fmj_dump_json(r, &text, self, &f);
    if (s != FM_OK) {
        fm_str_free(&text);
        return s;
    }
    return fmj_str_take(r, out, &text);
}

const fmj_row fmj_filters_num[] = {
    {"abs", f_abs, ""},
    {"attr", f_attr, "name"},
    {"d", f_default, "default_value=,boolean="},
    {"default", f_default, "default_value=,boolean="},
    {"filesizeformat", f_filesizeformat, "binary="},
    {"float", f_float, "default="},
    {"int", f_int, "default=,base="},
    {"round", f_round, "precision=,method="},
    {"tojson", f_tojson, "ensure_ascii=,indent=,separators=,sort_keys="},
    {0},
};
