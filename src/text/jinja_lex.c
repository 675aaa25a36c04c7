/* Text to tokens. The rules for blanks around tags are Jinja's with trim_blocks and lstrip_blocks:
 *   {%- and -%}  strip all blanks on that side;
 *   a block or comment alone at the start of a line loses the blanks before it, unless it begins {%+;
 *   one newline after a block or comment goes, unless it ends +%}. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/jinja.h"
#include "text/unicode.h"

#define MAX_BRACKETS 200

typedef struct lexer {
    fmj_arena *arena;
    const char *name, *begin, *p, *end;
    int32_t line;
    const char *counted; /* newlines before this are in `line` */
    fmj_token *tok;
    size_t n, cap;
    bool line_start; /* the text so far ends with a newline, or is empty */
} lexer;

static int32_t line_at(lexer *l, const char *p) {
    for (; l->counted < p; l->counted++) {
        l->line += *l->counted == '\n';
    }
    return l->line;
}

#define LEX_FAIL(l, at, ...)                                                                                           \
    do {                                                                                                               \
        (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, __VA_ARGS__);                                            \
        return fm_error_context("%s:%d", (l)->name, line_at((l), (at)));                                               \
    } while (0)

static fm_status push(lexer *l, fmj_token t, const char *at) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        fmj_token *more = fmj_arena_alloc(l->arena, cap * sizeof *more);
        if (!more) {
            return fmj_arena_failed(l->arena);
        }
        memcpy(more, l->n ? (void *)l->tok : (void *)more, l->n * sizeof *more);
        l->tok = more;
        l->cap = cap;
    }
    t.line = line_at(l, at);
    l->tok[l->n++] = t;
    return FM_OK;
}

static bool starts(const char *p, const char *end, const char *with) {
    size_t n = strlen(with);
    return (size_t)(end - p) >= n && memcmp(p, with, n) == 0;
}

static const char *skip_blanks(const char *p, const char *end) {
    while (p < end) {
        uint32_t cp;
        unsigned k = fm_uni_next(&cp, (const uint8_t *)p, (const uint8_t *)end);
        if (!fmj_is_space(cp)) {
            break;
        }
        p += k;
    }
    return p;
}

static const char *strip_end(const char *begin, const char *end) {
    fmj_str s = {.p = begin, .n = (size_t)(end - begin), .chars = -1};
    size_t b, e;
    fmj_strip(&s, NULL, false, true, &b, &e);
    return begin + e;
}

/* Data before a tag with this sign ('-', '+' or 0); `block`: lstrip_blocks applies. */
static fm_status push_data(lexer *l, const char *from, const char *to, char sign, bool block) {
    if (sign == '-') {
        to = strip_end(from, to);
    } else if (sign != '+' && block) {
        const char *nl = to;
        while (nl > from && nl[-1] != '\n') {
            nl--;
        }
        if ((nl > from || l->line_start) && skip_blanks(nl, to) == to) {
            to = nl;
        }
    }
    if (to == from) {
        return FM_OK;
    }
    return push(l, (fmj_token){.type = FMJ_T_DATA, .text = {from, (size_t)(to - from)}}, from);
}

/* If a block, variable or comment ends here, moves behind it with the blanks it takes along. */
static bool take_end(lexer *l, const char *mark, bool plus, bool trim) {
    const char *p = l->p;
    bool minus = p < l->end && *p == '-' && starts(p + 1, l->end, mark);
    if (minus) {
        l->p = skip_blanks(p + 3, l->end);
    } else if (plus && p < l->end && *p == '+' && starts(p + 1, l->end, mark)) {
        l->p = p + 3;
    } else if (starts(p, l->end, mark)) {
        l->p = p + 2;
        l->p += trim && l->p < l->end && *l->p == '\n';
    } else {
        return false;
    }
    l->line_start = l->p[-1] == '\n';
    return true;
}

/* ---- Inside a tag ------------------------------------------------------------------------------- */

static int hex_digits(uint32_t *out, const char *p, const char *end, int n) {
    *out = 0;
    for (int i = 0; i < n; i++) {
        char c = p + i < end ? p[i] : 'x';
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0) {
            return 0;
        }
        *out = *out * 16 + (uint32_t)d;
    }
    return n;
}

/* One escape at p (behind the backslash) as Python's unicode-escape reads it; returns what it takes, 0 = bad. */
static int unescape(fm_str *out, const char *p, const char *end) {
    static const char plain[] = "\\'\"abfnrtv", value[] = "\\'\"\a\b\f\n\r\t\v";
    const char *k = *p ? strchr(plain, *p) : NULL;
    uint32_t cp = 0;
    int n = 0;
    if (k) {
        fm_str_putc(out, value[k - plain]);
        return 1;
    }
    if (*p == '\n') {
        return 1;
    }
    if (*p == 'x' || *p == 'u' || *p == 'U') {
        int want = *p == 'x' ? 2 : *p == 'u' ? 4 : 8;
        n = hex_digits(&cp, p + 1, end, want);
        if (n == 0) {
            return 0;
        }
        n++;
    } else if (*p >= '0' && *p <= '7') {
        while (n < 3 && p + n < end && p[n] >= '0' && p[n] <= '7') {
            cp = cp * 8 + (uint32_t)(p[n++] - '0');
        }
    } else if (*p == 'N') {
        return 0;
    } else { /* an unknown escape stays as it is */
        fm_str_putc(out, '\\');
        return -1;
    }
    char utf8[4];
    int bytes = fm_utf8_encode(utf8, cp);
    fm_str_append(out, utf8, (size_t)bytes);
    return bytes > 0 ? n : 0;
}

static fm_status lex_string(lexer *l) {
    const char *at = l->p, *p = at + 1;
    char quote = *at;
    bool escaped = false;
    while (p < l->end && *p != quote) {
        escaped = escaped || *p == '\\';
        p += *p == '\\' && p + 1 < l->end ? 2 : 1;
    }
    if (p >= l->end) {
        LEX_FAIL(l, at, "a string that is not closed");
    }
    fm_sv text = {at + 1, (size_t)(p - at - 1)};
    if (escaped) {
        fm_str s = {0};
        for (const char *q = at + 1; q < p; q++) {
            if (*q != '\\') {
                fm_str_putc(&s, *q);
                continue;
            }
            int n = unescape(&s, q + 1, p);
            if (n == 0) {
                fm_str_free(&s);
                LEX_FAIL(l, q, "an escape in a string that is not a character: \\%c", q[1]);
            }
            q += n > 0 ? n : 0;
        }
        char *copy = fm_str_check(&s) == FM_OK ? fmj_arena_alloc(l->arena, s.len + 1) : NULL;
        fm_status st = s.failed ? FM_ERR_NO_MEMORY : copy ? FM_OK : fmj_arena_failed(l->arena);
        if (copy && s.len) {
            memcpy(copy, s.data, s.len);
        }
        text = (fm_sv){copy, s.len};
        fm_str_free(&s);
        FM_TRY(st);
    }
    l->p = p + 1;
    return push(l, (fmj_token){.type = FMJ_T_STRING, .text = text}, at);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Digits with single underscores between them, appended without the underscores. */
static const char *digits(const char *p, const char *end, char *buf, size_t *n, size_t cap) {
    while (p < end && (is_digit(*p) || (*p == '_' && p + 1 < end && is_digit(p[1])))) {
        if (*p != '_' && *n < cap) {
            buf[(*n)++] = *p;
        }
        p++;
    }
    return p;
}

static fm_status lex_number(lexer *l) {
    char buf[400];
    size_t n = 0, cap = sizeof buf - 1;
    const char *at = l->p, *p = at, *end = l->end;
    int base = p[0] == '0' && p + 1 < end ? ((p[1] | 32) == 'x'   ? 16
                                             : (p[1] | 32) == 'o' ? 8
                                             : (p[1] | 32) == 'b' ? 2
                                                                  : 10)
                                          : 10;
    char *rest;
    fmj_token t = {.type = FMJ_T_INT};
    if (base != 10) {
        for (p += 2; p < end && (*p == '_' || is_digit(*p) || (base == 16 && strchr("abcdef", *p | 32))); p++) {
            if (*p != '_' && n < cap) {
                buf[n++] = *p;
            }
        }
    } else {
        p = digits(p, end, buf, &n, cap);
        const char *q = p;
        size_t kept = n;
        if (q + 1 < end && *q == '.' && is_digit(q[1]) && n < cap) {
            buf[n++] = '.';
            p = q = digits(q + 1, end, buf, &n, cap);
            t.type = FMJ_T_FLOAT;
            kept = n;
        }
        if (q + 1 < end && (*q | 32) == 'e' && n + 2 < cap) {
            buf[n++] = *q++;
            if (*q == '+' || *q == '-') {
                buf[n++] = *q++;
            }
            if (q < end && is_digit(*q)) {
                p = digits(q, end, buf, &n, cap);
                t.type = FMJ_T_FLOAT;
                kept = n;
            }
        }
        n = kept;
    }
    buf[n] = '\0';
    if (n == 0 || n >= cap) {
        LEX_FAIL(l, at, "a number that cannot be read");
    }
    if (t.type == FMJ_T_FLOAT) {
        t.u.f = strtod(buf, NULL);
    } else {
        unsigned long long v = strtoull(buf, &rest, base);
        size_t zeros = strspn(buf, "0");
        if (*rest || v > INT64_MAX || (base == 10 && zeros > 0 && zeros < n)) {
            LEX_FAIL(l, at, "an integer that is not one or exceeds 64 bits: %.40s", buf);
        }
        t.u.i = (int64_t)v;
    }
    l->p = p;
    return push(l, t, at);
}

static bool is_name(const char *p, const char *end, unsigned *n) {
    uint32_t cp;
    if (p >= end) {
        return false;
    }
    *n = fm_uni_next(&cp, (const uint8_t *)p, (const uint8_t *)end);
    return cp == '_' || (cp < 128 ? is_digit((char)cp) || ((cp | 32) >= 'a' && (cp | 32) <= 'z')
                                  : (fm_uni_class(cp) & (FM_UNI_L | FM_UNI_W)) != 0);
}

static fm_status lex_op(lexer *l, char *bracket, size_t *n_brackets) {
    static const struct {
        char text[3], op;
    } two[] = {{"**", FMJ_OP_POW}, {"//", FMJ_OP_FLOORDIV}, {"==", FMJ_OP_EQ},
               {"!=", FMJ_OP_NE},  {">=", FMJ_OP_GE},       {"<=", FMJ_OP_LE}};
    const char *at = l->p;
    fmj_token t = {.type = FMJ_T_OP, .op = *at};
    size_t n = 1;
    for (size_t i = 0; i < FM_ARRAY_LEN(two); i++) {
        if (starts(at, l->end, two[i].text)) {
            t.op = two[i].op;
            n = 2;
        }
    }
    if (n == 1 && !(*at && strchr("+-/*%~[](){}><=.:|,;", *at))) {
        LEX_FAIL(l, at, "a character that has no place here: '%c'", *at >= ' ' && *at < 127 ? *at : '?');
    }
    if (n == 1 && *at == '=') {
        t.op = FMJ_OP_ASSIGN;
    }
    if (n == 1 && strchr("([{", *at)) {
        if (*n_brackets == MAX_BRACKETS) {
            LEX_FAIL(l, at, "more than %d brackets inside each other", MAX_BRACKETS);
        }
        bracket[(*n_brackets)++] = *at == '(' ? ')' : *at == '[' ? ']' : '}';
    } else if (n == 1 && strchr(")]}", *at)) {
        if (*n_brackets == 0 || bracket[--*n_brackets] != *at) {
            LEX_FAIL(l, at, "'%c' that was not opened", *at);
        }
    }
    l->p = at + n;
    return push(l, t, at);
}

/* From behind the opening mark to behind the closing one. */
static fm_status lex_tag(lexer *l, bool block) {
    char bracket[MAX_BRACKETS];
    size_t n_brackets = 0;
    const char *begin = l->p;
    for (;;) {
        unsigned n;
        l->p = skip_blanks(l->p, l->end);
        const char *at = l->p;
        if (at >= l->end) {
            LEX_FAIL(l, begin, "a tag that is not closed: '%s' is missing", block ? "%}" : "}}");
        }
        if (n_brackets == 0 && take_end(l, block ? "%}" : "}}", block, block)) {
            return push(l, (fmj_token){.type = block ? FMJ_T_BLOCK_END : FMJ_T_VAR_END}, at);
        }
        if (is_digit(*at)) {
            FM_TRY(lex_number(l));
        } else if (is_name(at, l->end, &n)) {
            while (is_name(l->p, l->end, &n)) {
                l->p += n;
            }
            FM_TRY(push(l, (fmj_token){.type = FMJ_T_NAME, .text = {at, (size_t)(l->p - at)}}, at));
        } else if (*at == '"' || *at == '\'') {
            FM_TRY(lex_string(l));
        } else {
            FM_TRY(lex_op(l, bracket, &n_brackets));
        }
    }
}

/* ---- Outside ------------------------------------------------------------------------------------ */

/* {% raw %}, with l->p behind "{%" and its sign; moves behind the whole when it is one. */
static fm_status lex_raw(lexer *l, bool *found) {
    const char *at = l->p, *p = skip_blanks(at, l->end);
    *found = false;
    if (!starts(p, l->end, "raw")) {
        return FM_OK;
    }
    p = skip_blanks(p + 3, l->end);
    if (starts(p, l->end, "-%}")) {
        p = skip_blanks(p + 3, l->end);
    } else if (starts(p, l->end, "%}")) {
        p += 2;
    } else {
        return FM_OK;
    }
    *found = true;
    l->line_start = p[-1] == '\n';
    for (const char *q = p; q < l->end; q++) {
        if (!starts(q, l->end, "{%")) {
            continue;
        }
        char sign = q + 2 < l->end && (q[2] == '-' || q[2] == '+') ? q[2] : 0;
        const char *e = skip_blanks(q + 2 + (sign != 0), l->end);
        if (!starts(e, l->end, "endraw")) {
            continue;
        }
        l->p = skip_blanks(e + 6, l->end);
        bool start = l->line_start;
        if (take_end(l, "%}", true, true)) {
            bool after = l->line_start;
            l->line_start = start;
            FM_TRY(push_data(l, p, q, sign, true));
            l->line_start = after;
            return FM_OK;
        }
    }
    LEX_FAIL(l, at, "{%% raw %%} without {%% endraw %%}");
}

static fm_status lex_comment(lexer *l) {
    const char *at = l->p;
    while (l->p < l->end) {
        if (take_end(l, "#}", true, true)) {
            return FM_OK;
        }
        l->p++;
    }
    LEX_FAIL(l, at, "a comment that is not closed: '#}' is missing");
}

fm_status fmj_lex(fmj_token **out, size_t *n, fmj_arena *a, const char *text, size_t n_text, const char *name) {
    lexer l = {.arena = a,
               .name = name,
               .begin = text,
               .p = text,
               .end = text + n_text,
               .line = 1,
               .counted = text,
               .line_start = true};
    while (l.p < l.end) {
        const char *from = l.p, *open = from;
        for (; open < l.end; open++) {
            open = memchr(open, '{', (size_t)(l.end - open));
            if (!open || open + 1 >= l.end) {
                open = l.end;
                break;
            }
            if (open[1] == '%' || open[1] == '{' || open[1] == '#') {
                break;
            }
        }
        if (open == l.end) {
            FM_TRY(push(&l, (fmj_token){.type = FMJ_T_DATA, .text = {from, (size_t)(open - from)}}, from));
            break;
        }
        char kind = open[1], sign = open + 2 < l.end && (open[2] == '-' || open[2] == '+') ? open[2] : 0;
        FM_TRY(push_data(&l, from, open, sign, kind != '{'));
        l.p = open + 2 + (sign != 0);
        if (kind == '#') {
            FM_TRY(lex_comment(&l));
            continue;
        }
        bool raw = false;
        if (kind == '%') {
            FM_TRY(lex_raw(&l, &raw));
        }
        if (!raw) {
            FM_TRY(push(&l, (fmj_token){.type = kind == '%' ? FMJ_T_BLOCK_BEGIN : FMJ_T_VAR_BEGIN}, open));
            FM_TRY(lex_tag(&l, kind == '%'));
        }
    }
    FM_TRY(push(&l, (fmj_token){.type = FMJ_T_END}, l.end));
    *out = l.tok;
    *n = l.n;
    return FM_OK;
}
