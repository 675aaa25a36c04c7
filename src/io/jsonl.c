/* The scanner. A string is passed eight bytes at a time while nothing in it needs a look; nesting is
 * kept in a bit stack, so a deep document costs no call stack. */
#include "io/jsonl.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define MAX_DEPTH 512

typedef struct scan {
    const char *p, *end;
    const char *why; /* set with the first error; p is then its place */
} scan;

static bool bad(scan *s, const char *at, const char *why) {
    if (!s->why) {
        s->p = at;
        s->why = why;
    }
    return false;
}

static void skip_space(scan *s) {
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) {
        s->p++;
    }
}

#define EACH(byte) (0x0101010101010101u * (byte))

/* A high bit in each byte that is '"', '\\', below 0x20 or at least 0x80 (no false hits below the first). */
static uint64_t special(uint64_t w) {
    uint64_t quote = w ^ EACH(0x22), slash = w ^ EACH(0x5C);
    uint64_t hit = ((quote - EACH(1)) & ~quote) | ((slash - EACH(1)) & ~slash) | ((w - EACH(0x20)) & ~w) | w;
    return hit & EACH(0x80);
}

/* First byte that is not plain text. */
static const char *plain_run(const char *p, const char *end) {
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        uint64_t hit = special(w);
        if (hit) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            return p + (__builtin_ctzll(hit) >> 3);
#else
            break;
#endif
        }
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\') {
        p++;
    }
    return p;
}

/* Well-formed UTF-8 of more than one byte, as long as it lasts; NULL where it is broken. Three-byte
 * characters (most CJK text) take the short way. */
static const char *wide_run(const char *p, const char *end, const char **at) {
    while (p < end && (unsigned char)*p >= 0x80) {
        const unsigned char *u = (const unsigned char *)p;
        if (end - p >= 3 && u[0] > 0xE0 && u[0] < 0xF0 && u[0] != 0xED && (u[1] & 0xC0) == 0x80 &&
            (u[2] & 0xC0) == 0x80) {
            p += 3;
            continue;
        }
        uint32_t cp;
        int n = fm_utf8_decode(&cp, p, end);
        if (n == 0) {
            *at = p;
            return NULL;
        }
        p += n;
    }
    return p;
}

/* Value of four hex digits, or -1. */
static int hex4(const char *p, const char *end) {
    int v = 0;
    if (end - p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int c = (unsigned char)p[i];
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0) {
            return -1;
        }
        v = v << 4 | d;
    }
    return v;
}

/* At a backslash: passes the escape, both halves when it is a surrogate pair. */
static bool escape(scan *s) {
    const char *at = s->p;
    if (s->end - s->p < 2) {
        return bad(s, at, "string without an end");
    }
    char c = s->p[1];
    if (c != 'u') {
        if (!c || !strchr("\"\\/bfnrt", c)) {
            return bad(s, at, "unknown escape");
        }
        s->p += 2;
        return true;
    }
    int v = hex4(s->p + 2, s->end);
    if (v < 0) {
        return bad(s, at, "\\u needs four hex digits");
    }
    s->p += 6;
    if (v >= 0xDC00 && v <= 0xDFFF) {
        return bad(s, at, "second half of a surrogate pair without the first");
    }
    if (v >= 0xD800 && v <= 0xDBFF) {
        bool follows = s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u';
        int low = follows ? hex4(s->p + 2, s->end) : -1;
        if (low < 0xDC00 || low > 0xDFFF) {
            return bad(s, at, "first half of a surrogate pair without the second");
        }
        s->p += 6;
    }
    return true;
}

/* At the opening quote. */
static bool string(scan *s, fm_json_value *v) {
    const char *open = s->p++;
    v->kind = FM_JSON_STRING;
    v->escaped = false;
    v->raw.ptr = s->p;
    for (;;) {
        s->p = plain_run(s->p, s->end);
        if (s->p == s->end) {
            return bad(s, open, "string without an end");
        }
        unsigned char c = (unsigned char)*s->p;
        if (c == '"') {
            v->raw.len = (size_t)(s->p - v->raw.ptr);
            s->p++;
            return true;
        }
        if (c == '\\') {
            v->escaped = true;
            if (!escape(s)) {
                return false;
            }
        } else if (c >= 0x80) {
            const char *at = NULL, *q = wide_run(s->p, s->end, &at);
            if (!q) {
                return bad(s, at, "invalid UTF-8");
            }
            s->p = q;
        } else {
            return bad(s, s->p, "control character in a string");
        }
    }
}

static size_t digits(scan *s) {
    const char *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        s->p++;
    }
    return (size_t)(s->p - from);
}

static bool number(scan *s, fm_json_value *v) {
    const char *from = s->p;
    s->p += *s->p == '-';
    bool zero = s->p < s->end && *s->p == '0';
    size_t n = digits(s);
    if (n == 0 || (zero && n > 1)) {
        return bad(s, from, "not a number");
    }
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (digits(s) == 0) {
            return bad(s, from, "not a number");
        }
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        s->p += s->p < s->end && (*s->p == '+' || *s->p == '-');
        if (digits(s) == 0) {
            return bad(s, from, "not a number");
        }
    }
    v->kind = FM_JSON_NUMBER;
    v->raw.ptr = from;
    v->raw.len = (size_t)(s->p - from);
    return true;
}

static bool word(scan *s, fm_json_value *v, const char *text, fm_json_kind kind) {
    size_t n = strlen(text);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n) != 0) {
        return bad(s, s->p, "expected a value");
    }
    v->kind = kind;
    v->raw.ptr = s->p;
    v->raw.len = n;
    s->p += n;
    return true;
}

/* A value that is neither array nor object. */
static bool scalar(scan *s, fm_json_value *v) {
    v->escaped = false;
    switch (s->p < s->end ? *s->p : '\0') {
    case '"':
        return string(s, v);
    case 't':
        return word(s, v, "true", FM_JSON_TRUE);
    case 'f':
        return word(s, v, "false", FM_JSON_FALSE);
    case 'n':
        return word(s, v, "null", FM_JSON_NULL);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return number(s, v);
    default:
        return bad(s, s->p, s->p < s->end ? "expected a value" : "the text ends too early");
    }
}

/* "key" : at p. */
static bool key(scan *s, fm_json_value *name) {
    if (s->p == s->end || *s->p != '"') {
        return bad(s, s->p, s->p < s->end ? "expected a key in quotes" : "the text ends too early");
    }
    if (!string(s, name)) {
        return false;
    }
    skip_space(s);
    if (s->p == s->end || *s->p != ':') {
        return bad(s, s->p, "expected ':'");
    }
    s->p++;
    skip_space(s);
    return true;
}

/* One value of any kind. Containers are walked with a stack of bits: 1 = object. */
static bool value(scan *s, fm_json_value *v) {
    if (s->p == s->end || (*s->p != '{' && *s->p != '[')) {
        return scalar(s, v);
    }
    const char *from = s->p;
    uint64_t stack[MAX_DEPTH / 64] = {0};
    size_t depth = 0;
    fm_json_value skip;
    bool opening = true; /* at '{' or '[' */
    for (;;) {
        if (opening) {
            if (depth == MAX_DEPTH) {
                return bad(s, s->p, "nested too deep");
            }
            bool object = *s->p == '{';
            stack[depth / 64] &= ~((uint64_t)1 << depth % 64);
            stack[depth / 64] |= (uint64_t)object << depth % 64;
            depth++;
            s->p++;
            skip_space(s);
            if (s->p < s->end && *s->p == (object ? '}' : ']')) {
                opening = false;
            } else if (object && !key(s, &skip)) {
                return false;
            }
        }
        if (opening) { /* a first or further value */
            if (s->p < s->end && (*s->p == '{' || *s->p == '[')) {
                continue;
            }
            if (!scalar(s, &skip)) {
                return false;
            }
            opening = false;
            skip_space(s);
        }
        bool object = stack[(depth - 1) / 64] >> (depth - 1) % 64 & 1;
        if (s->p == s->end) {
            return bad(s, s->p, "the text ends too early");
        }
        if (*s->p == (object ? '}' : ']')) {
            s->p++;
            depth--;
            if (depth == 0) {
                v->kind = object ? FM_JSON_OBJECT : FM_JSON_ARRAY;
                v->escaped = false;
                v->raw.ptr = from;
                v->raw.len = (size_t)(s->p - from);
                return true;
            }
            skip_space(s);
            continue;
        }
        if (*s->p != ',') {
            return bad(s, s->p, object ? "expected ',' or '}'" : "expected ',' or ']'");
        }
        s->p++;
        skip_space(s);
        if (object && !key(s, &skip)) {
            return false;
        }
        if (s->p < s->end && (*s->p == '{' || *s->p == '[')) {
            opening = true;
            continue;
        }
        if (!scalar(s, &skip)) {
            return false;
        }
        skip_space(s);
    }
}

static bool name_is(const fm_json_value *key_text, const char *name) {
    if (!key_text->escaped) {
        return fm_sv_eq(key_text->raw, name);
    }
    fm_str plain = {0};
    fm_jsonl_text(&plain, key_text);
    bool same = !plain.failed && plain.data && plain.len == strlen(name) && memcmp(plain.data, name, plain.len) == 0;
    fm_str_free(&plain);
    return same;
}

/* A walk over an object's members; `status` is the callback's own failure. */
static bool object(scan *s, fm_jsonl_member_fn fn, void *arg, fm_status *status) {
    skip_space(s);
    if (s->p == s->end || *s->p != '{') {
        return bad(s, s->p, "expected an object");
    }
    s->p++;
    skip_space(s);
    if (s->p < s->end && *s->p == '}') {
        s->p++;
    } else {
        for (;;) {
            fm_json_value k, v;
            if (!key(s, &k) || !value(s, &v)) {
                return false;
            }
            *status = fn(arg, &k, &v);
            if (*status != FM_OK) {
                return false;
            }
            skip_space(s);
            if (s->p < s->end && *s->p == '}') {
                s->p++;
                break;
            }
            if (s->p == s->end || *s->p != ',') {
                return bad(s, s->p, s->p < s->end ? "expected ',' or '}'" : "the text ends too early");
            }
            s->p++;
            skip_space(s);
        }
    }
    skip_space(s);
    return s->p == s->end || bad(s, s->p, "text after the end of the object");
}

fm_status fm_jsonl_members(const char *line, size_t n, fm_jsonl_member_fn fn, void *arg) {
    scan s = {line, line + n, NULL};
    fm_status status = FM_OK;
    if (!object(&s, fn, arg, &status)) {
        FM_TRY(status);
        FM_FAIL(FM_ERR_DATA, "column %zu: %s", (size_t)(s.p - line) + 1, s.why);
    }
    return FM_OK;
}

typedef struct wanted {
    const char *const *names;
    size_t n;
    fm_json_value *values;
} wanted;

static fm_status take_wanted(void *arg, const fm_json_value *k, const fm_json_value *v) {
    const wanted *w = arg;
    for (size_t i = 0; i < w->n; i++) {
        if (name_is(k, w->names[i])) {
            w->values[i] = *v;
        }
    }
    return FM_OK;
}

fm_status fm_jsonl_scan(const char *line, size_t n, const char *const *names, size_t n_names, fm_json_value *values) {
    if (n_names) {
        memset(values, 0, n_names * sizeof *values);
    }
    wanted w = {names, n_names, values};
    return fm_jsonl_members(line, n, take_wanted, &w);
}

const char *fm_jsonl_value(fm_json_value *out, const char *p, const char *end, const char **why, const char **at) {
    scan s = {p, end, NULL};
    skip_space(&s);
    if (!value(&s, out)) {
        *why = s.why;
        *at = s.p;
        return NULL;
    }
    return s.p;
}

void fm_jsonl_text(fm_str *out, const fm_json_value *v) {
    if (v->kind != FM_JSON_STRING || !v->escaped) {
        fm_str_append(out, v->raw.ptr, v->raw.len);
        return;
    }
    const char *p = v->raw.ptr, *end = p + v->raw.len;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        fm_str_append(out, p, (size_t)((slash ? slash : end) - p));
        if (!slash) {
            return;
        }
        static const char letter[] = "\"\\/bfnrt", plain[] = "\"\\/\b\f\n\r\t";
        p = slash + 1;
        if (*p != 'u') {
            fm_str_putc(out, plain[strchr(letter, *p) - letter]);
            p++;
            continue;
        }
        uint32_t cp = (uint32_t)hex4(p + 1, end); /* checked by the scan */
        p += 5;
        if (cp >= 0xD800 && cp <= 0xDBFF) {
            cp = 0x10000 + ((cp - 0xD800) << 10) + ((uint32_t)hex4(p + 2, end) - 0xDC00);
            p += 6;
        }
        char utf8[4];
        fm_str_append(out, utf8, (size_t)fm_utf8_encode(utf8, cp));
    }
}

/* A high bit in each byte that JSON wants escaped. */
static uint64_t must_escape(uint64_t w) {
    uint64_t quote = w ^ EACH(0x22), slash = w ^ EACH(0x5C);
    return (((quote - EACH(1)) & ~quote) | ((slash - EACH(1)) & ~slash) | ((w - EACH(0x20)) & ~w)) & EACH(0x80);
}

void fm_jsonl_put_text(fm_str *out, const char *p, size_t n) {
    const char *end = p + n;
    fm_str_putc(out, '"');
    while (p < end) {
        const char *run = p;
        while (end - p >= 8) {
            uint64_t w;
            memcpy(&w, p, 8);
            if (must_escape(w)) {
                break;
            }
            p += 8;
        }
        while (p < end && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\') {
            p++;
        }
        fm_str_append(out, run, (size_t)(p - run));
        if (p == end) {
            break;
        }
        static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
        const char *known = *p ? strchr(plain, *p) : NULL;
        if (known) {
            char two[2] = {'\\', letter[known - plain]};
            fm_str_append(out, two, 2);
        } else {
            fm_str_printf(out, "\\u%04x", (unsigned)(unsigned char)*p);
        }
        p++;
    }
    fm_str_putc(out, '"');
}

fm_status fm_jsonl_number(double *out, const fm_json_value *v) {
    char buf[64];
    if (v->kind != FM_JSON_NUMBER || v->raw.len >= sizeof buf) {
        FM_FAIL(FM_ERR_DATA, "expected a number, found '%.*s'", (int)FM_MIN(v->raw.len, (size_t)40),
                v->raw.ptr ? v->raw.ptr : "");
    }
    memcpy(buf, v->raw.ptr, v->raw.len);
    buf[v->raw.len] = '\0';
    *out = strtod(buf, NULL);
    return FM_OK;
}

bool fm_jsonl_next(fm_sv *rest, fm_json_value *item) {
    scan s = {rest->ptr, rest->ptr + rest->len, NULL};
    skip_space(&s);
    if (s.p == s.end || (*s.p != '[' && *s.p != ',')) {
        return false; /* ']' or not an array */
    }
    s.p++;
    skip_space(&s);
    if (s.p == s.end || *s.p == ']' || !value(&s, item)) {
        return false;
    }
    rest->ptr = s.p;
    rest->len = (size_t)(s.end - s.p);
    return true;
}
