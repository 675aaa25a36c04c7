/* Regular expressions to GBNF: what has the same meaning in ECMAScript, PCRE and Python, without look-around and back
 * references. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "infer/grammar.h"

#define MAX_RANGES 256
#define MAX_DEPTH  100

typedef struct range {
    uint32_t lo, hi;
} range;

typedef struct set {
    range r[MAX_RANGES];
    int n;
} set;

typedef struct regex {
    fm_str *out;
    const char *begin, *at, *end;
    bool json;
    int depth;
} regex;

static fm_status fail(const regex *x, const char *what) {
    FM_FAIL(FM_ERR_ARGUMENT, "regular expression, character %d: %s", (int)(x->at - x->begin) + 1, what);
}

static fm_status put(const regex *x, set *s, uint32_t lo, uint32_t hi) {
    if (s->n >= MAX_RANGES) {
        return fail(x, "a class of more than 256 ranges");
    }
    s->r[s->n++] = (range){lo, hi};
    return FM_OK;
}

static int by_low(const void *a, const void *b) {
    const range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

static fm_status negate(const regex *x, set *s) {
    set y = {.n = 0};
    uint32_t next = 0;
    qsort(s->r, (size_t)s->n, sizeof *s->r, by_low);
    for (int i = 0; i < s->n; i++) {
        if (s->r[i].lo > next) {
            FM_TRY(put(x, &y, next, s->r[i].lo - 1));
        }
        next = FM_MAX(next, s->r[i].hi + 1);
    }
    if (next <= 0x10ffff) {
        FM_TRY(put(x, &y, next, 0x10ffff));
    }
    *s = y;
    return FM_OK;
}

static bool has(const set *s, uint32_t c) {
    for (int i = 0; i < s->n; i++) {
        if (c >= s->r[i].lo && c <= s->r[i].hi) {
            return true;
        }
    }
    return false;
}

/* Bounds of what stands in a JSON string as it is: control characters, the quote and the backslash do not. */
static void put_plain(fm_str *out, uint32_t lo, uint32_t hi, bool json) {
    static const uint32_t from[] = {0x20, 0x23, 0x5d}, to[] = {0x21, 0x5b, 0x10ffff};
    for (int i = 0; i < (json ? 3 : 1); i++) {
        uint32_t a = json ? FM_MAX(lo, from[i]) : lo, z = json ? FM_MIN(hi, to[i]) : hi;
        if (a <= z) {
            fm_str_printf(out, "\\U%08x-\\U%08x", a, z);
        }
    }
}

static void write_set(const regex *x, const set *s) {
    static const struct {
        uint32_t c;
        const char *gbnf;
    } escaped[] = {{'"', " | \"\\\\\\\"\""},
                   {'\\', " | \"\\\\\\\\\""},
                   {'\n', " | \"\\\\n\""},
                   {'\r', " | \"\\\\r\""},
                   {'\t', " | \"\\\\t\""}};
    fm_str body = {0};
    for (int i = 0; i < s->n; i++) {
        put_plain(&body, s->r[i].lo, s->r[i].hi, x->json);
    }
    fm_str_putc(x->out, '(');
    if (body.len > 0) {
        fm_str_printf(x->out, "[%s]", body.data);
    }
    bool any = body.len > 0;
    for (size_t i = 0; x->json && i < FM_ARRAY_LEN(escaped); i++) {
        if (has(s, escaped[i].c)) {
            fm_str_puts(x->out, escaped[i].gbnf + (any ? 0 : 3));
            any = true;
        }
    }
    fm_str_puts(x->out, ") ");
    x->out->failed = x->out->failed || body.failed;
    fm_str_free(&body);
}

/* \d and its like into s; false when c is none of them. */
static bool shorthand(const regex *x, set *s, char c, fm_status *st) {
    set y = {.n = 0};
    switch (c) {
    case 'd':
    case 'D':
        y = (set){.r = {{'0', '9'}}, .n = 1};
        break;
    case 'w':
    case 'W':
        y = (set){.r = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, .n = 4};
        break;
    case 's':
    case 'S':
        y = (set){.r = {{'\t', '\r'}, {' ', ' '}}, .n = 2};
        break;
    default:
        return false;
    }
    if (c >= 'A' && c <= 'Z') {
        *st = negate(x, &y);
    }
    for (int i = 0; i < y.n && *st == FM_OK; i++) {
        *st = put(x, s, y.r[i].lo, y.r[i].hi);
    }
    return true;
}

static fm_status read_hex(regex *x, int digits, uint32_t *cp) {
    *cp = 0;
    for (; digits > 0; digits--) {
        char c = x->at < x->end ? *x->at : '\0', *end = NULL, text[2] = {c, '\0'};
        unsigned long d = strtoul(text, &end, 16);
        if (!c || *end) {
            return fail(x, "expected hexadecimal digits");
        }
        *cp = *cp << 4 | (uint32_t)d;
        x->at++;
    }
    return *cp < 0xd800 || *cp > 0xdfff ? FM_OK : fail(x, "half of a surrogate pair");
}

/* Behind a backslash. *one: the code point it stands for; else `s` got a class. */
static fm_status read_escape(regex *x, set *s, bool *one, uint32_t *cp) {
    fm_status st = FM_OK;
    *one = false;
    if (x->at >= x->end) {
        return fail(x, "it ends behind a backslash");
    }
    char c = *x->at++;
    if (shorthand(x, s, c, &st)) {
        return st;
    }
    *one = true;
    switch (c) {
    case 'n':
        *cp = '\n';
        return FM_OK;
    case 'r':
        *cp = '\r';
        return FM_OK;
    case 't':
        *cp = '\t';
        return FM_OK;
    case 'x':
        return read_hex(x, 2, cp);
    case 'u':
        return read_hex(x, 4, cp);
    default:
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80) {
            x->at--;
            return fail(x, "this escape is not supported");
        }
        *cp = (uint32_t)(unsigned char)c;
        return FM_OK;
    }
}

/* A character or an escape of a class. */
static fm_status read_one(regex *x, set *s, bool *one, uint32_t *cp) {
    if (*x->at == '\\') {
        x->at++;
        return read_escape(x, s, one, cp);
    }
    int n = fm_utf8_decode(cp, x->at, x->end);
    x->at += n;
    *one = true;
    return n > 0 ? FM_OK : fail(x, "not UTF-8");
}

static fm_status read_class(regex *x, set *s) {
    bool negated = x->at < x->end && *x->at == '^', first = true;
    x->at += negated;
    for (; x->at < x->end && (*x->at != ']' || first); first = false) {
        bool one, two = false;
        uint32_t lo = 0, hi = 0;
        FM_TRY(read_one(x, s, &one, &lo));
        if (!one) {
            continue;
        }
        hi = lo;
        if (x->end - x->at > 1 && *x->at == '-' && x->at[1] != ']') {
            x->at++;
            FM_TRY(read_one(x, s, &two, &hi));
            if (!two || hi < lo) {
                return fail(x, "a range that ends before it begins");
            }
        }
        FM_TRY(put(x, s, lo, hi));
    }
    if (x->at >= x->end) {
        return fail(x, "a class lacks its ]");
    }
    x->at++;
    return negated ? negate(x, s) : FM_OK;
}

static fm_status read_alternatives(regex *x);

static fm_status read_group(regex *x) {
    if (x->at < x->end && *x->at == '?') {
        if (x->end - x->at < 2 || x->at[1] != ':') {
            return fail(x, "groups with ? other than (?: are not supported");
        }
        x->at += 2;
    }
    if (++x->depth > MAX_DEPTH) {
        return fail(x, "too many groups inside each other");
    }
    fm_str_putc(x->out, '(');
    FM_TRY(read_alternatives(x));
    if (x->at >= x->end) {
        return fail(x, "a group lacks its )");
    }
    x->at++;
    x->depth--;
    fm_str_puts(x->out, ") ");
    return FM_OK;
}

static fm_status read_quantifier(regex *x) {
    char c = x->at < x->end ? *x->at : '\0';
    if (c == '*' || c == '+' || c == '?') {
        x->at++;
        fm_str_putc(x->out, c);
    } else if (c == '{') {
        const char *close = memchr(x->at, '}', (size_t)(x->end - x->at));
        if (!close || strspn(x->at + 1, "0123456789,") < (size_t)(close - x->at - 1)) {
            return fail(x, "expected {m}, {m,} or {m,n}");
        }
        fm_str_append(x->out, x->at, (size_t)(close - x->at + 1));
        x->at = close + 1;
    } else {
        return FM_OK;
    }
    fm_str_putc(x->out, ' ');
    if (x->at < x->end && (*x->at == '?' || *x->at == '+')) {
        if (*x->at == '+') {
            return fail(x, "possessive quantifiers are not supported");
        }
        x->at++; /* which match is preferred changes nothing here */
    }
    return FM_OK;
}

static fm_status read_item(regex *x) {
    set s = {.n = 0};
    char c = *x->at;
    if (c == '(') {
        x->at++;
        FM_TRY(read_group(x));
        return read_quantifier(x);
    }
    if (strchr("*+?{", c)) {
        return fail(x, "nothing to repeat");
    }
    if (c == '^' || c == '$') {
        return fail(x, "^ and $ are supported at the ends only");
    }
    if (c == '[') {
        x->at++;
        FM_TRY(read_class(x, &s));
    } else if (c == '.') {
        x->at++;
        FM_TRY(put(x, &s, '\n', '\n'));
        FM_TRY(negate(x, &s));
    } else {
        bool one;
        uint32_t cp = 0;
        FM_TRY(read_one(x, &s, &one, &cp));
        if (one) {
            FM_TRY(put(x, &s, cp, cp));
        }
    }
    write_set(x, &s);
    return read_quantifier(x);
}

static fm_status read_alternatives(regex *x) {
    bool any = false;
    while (x->at < x->end && *x->at != ')') {
        if (*x->at == '|') {
            x->at++;
            fm_str_puts(x->out, any ? "| " : "\"\" | ");
            any = false;
        } else {
            FM_TRY(read_item(x));
            any = true;
        }
    }
    fm_str_puts(x->out, any ? "" : "\"\" ");
    return FM_OK;
}

fm_status fm_grammar_from_regex(fm_str *out, const char *text, size_t n, bool json) {
    regex x = {.out = out, .begin = text, .at = text, .end = text + n, .json = json};
    bool from_start = !json || (n > 0 && *text == '^'), to_end = !json;
    x.at += n > 0 && *text == '^';
    if (x.end > x.at && x.end[-1] == '$') {
        size_t slashes = 0;
        while (x.end - 1 - slashes > x.at && x.end[-2 - (ptrdiff_t)slashes] == '\\') {
            slashes++;
        }
        if (slashes % 2 == 0) {
            x.end--;
            to_end = true;
        }
    }
    fm_str_puts(out, from_start ? "(" : "json-char* (");
    FM_TRY(read_alternatives(&x));
    if (x.at < x.end) {
        return fail(&x, "a ) without its (");
    }
    fm_str_puts(out, to_end ? ")" : ") json-char*");
    return fm_str_check(out);
}
