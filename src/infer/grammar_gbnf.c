/* GBNF text to rules over bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "infer/grammar.h"

#define MAX_STEPS  1000000
#define MAX_DEPTH  200
#define MAX_REPEAT 2000

typedef struct name {
    char *text;
    size_t n;
    bool defined;
    int32_t next; /* of its bucket */
} name;

#define BUCKETS 1024

typedef struct parser {
    fm_grammar *g;
    const char *begin, *at, *end;
    name *names; /* [n_names]; rule i of the text is names[i].rule */
    int32_t *rule_of;
    size_t n_names, cap_names, cap_rule_of;
    int32_t bucket[BUCKETS];
    int depth;
} parser;

/* Steps that are being gathered: the body of one rule. */
typedef struct body {
    fm_grammar_step *step;
    size_t n, cap;
} body;

static fm_status fail(const parser *p, const char *what) {
    int line = 1;
    for (const char *q = p->begin; q < p->at; q++) {
        line += *q == '\n';
    }
    FM_FAIL(FM_ERR_ARGUMENT, "grammar, line %d: %s", line, what);
}

static fm_status add(body *b, fm_grammar_step s) {
    if (b->n >= MAX_STEPS) {
        FM_FAIL(FM_ERR_ARGUMENT, "the grammar is too large: a rule has more than %d steps", MAX_STEPS);
    }
    FM_TRY(fm_grow((void **)&b->step, &b->cap, b->n + 1, sizeof *b->step));
    b->step[b->n++] = s;
    return FM_OK;
}

static fm_status add_all(body *b, const fm_grammar_step *s, size_t n) {
    if (b->n + n > MAX_STEPS) {
        FM_FAIL(FM_ERR_ARGUMENT, "the grammar is too large: a rule has more than %d steps", MAX_STEPS);
    }
    FM_TRY(fm_grow((void **)&b->step, &b->cap, b->n + n, sizeof *b->step));
    if (n > 0) {
        memcpy(b->step + b->n, s, n * sizeof *s);
    }
    b->n += n;
    return FM_OK;
}

static fm_status new_rule(fm_grammar *g, int32_t *out) {
    FM_TRY(fm_grow((void **)&g->first, &g->cap_rules, g->n_rules + 1, sizeof *g->first));
    g->first[g->n_rules] = -1;
    *out = (int32_t)g->n_rules++;
    return FM_OK;
}

static fm_status finish_rule(fm_grammar *g, int32_t rule, const body *b) {
    if (g->n_steps + b->n + 1 > MAX_STEPS) {
        FM_FAIL(FM_ERR_ARGUMENT, "the grammar is too large: more than %d steps", MAX_STEPS);
    }
    FM_TRY(fm_grow((void **)&g->step, &g->cap_steps, g->n_steps + b->n + 1, sizeof *g->step));
    g->first[rule] = (int32_t)g->n_steps;
    if (b->n > 0) {
        memcpy(g->step + g->n_steps, b->step, b->n * sizeof *b->step);
    }
    g->n_steps += b->n;
    g->step[g->n_steps++] = (fm_grammar_step){.op = FM_GRAMMAR_END};
    return FM_OK;
}

static fm_status rule_from(parser *p, const body *b, int32_t *rule) {
    FM_TRY(new_rule(p->g, rule));
    return finish_rule(p->g, *rule, b);
}

/* ---- characters ------------------------------------------------------------------------------ */

/* Alternatives for the code points lo..hi that have the same length in UTF-8: byte by byte, splitting where the
 * continuation bytes do not span their whole range. */
static fm_status add_range_bytes(body *b, const uint8_t *lo, const uint8_t *hi, int n, fm_grammar_step *prefix,
                                 int n_prefix) {
    int k = 0;
    while (k < n && lo[k] == hi[k]) {
        prefix[n_prefix++] = (fm_grammar_step){.op = FM_GRAMMAR_BYTE, .lo = lo[k], .hi = lo[k]};
        k++;
    }
    bool low_ok = true, high_ok = true;
    for (int i = k + 1; i < n; i++) {
        low_ok = low_ok && lo[i] == 0x80;
        high_ok = high_ok && hi[i] == 0xbf;
    }
    if (k >= n - 1 || (low_ok && high_ok)) {
        if (b->n > 0) {
            FM_TRY(add(b, (fm_grammar_step){.op = FM_GRAMMAR_ALT}));
        }
        FM_TRY(add_all(b, prefix, (size_t)n_prefix));
        for (int i = k; i < n; i++) {
            FM_TRY(add(b, (fm_grammar_step){.op = FM_GRAMMAR_BYTE, .lo = lo[i], .hi = hi[i]}));
        }
        return FM_OK;
    }
    uint8_t from = lo[k], to = hi[k], edge[4];
    if (!low_ok) { /* lo .. lo[k] BF BF */
        memset(edge, 0xbf, sizeof edge);
        memcpy(edge, lo, (size_t)k + 1);
        FM_TRY(add_range_bytes(b, lo + k, edge + k, n - k, prefix, n_prefix));
        from++;
    }
    if (!high_ok) {
        to--;
    }
    if (from <= to) {
        uint8_t a[4], z[4];
        memset(a, 0x80, sizeof a);
        memset(z, 0xbf, sizeof z);
        a[0] = from;
        z[0] = to;
        FM_TRY(add_range_bytes(b, a, z, n - k, prefix, n_prefix));
    }
    if (!high_ok) {
        memset(edge, 0x80, sizeof edge);
        memcpy(edge, hi, (size_t)k + 1);
        FM_TRY(add_range_bytes(b, edge + k, hi + k, n - k, prefix, n_prefix));
    }
    return FM_OK;
}

static fm_status add_range(body *b, uint32_t lo, uint32_t hi) {
    static const uint32_t last[] = {0x7f, 0x7ff, 0xd7ff, 0xffff, 0x10ffff}, first[] = {0, 0x80, 0x800, 0xe000, 0x10000};
    for (int i = 0; i < 5; i++) {
        uint32_t a = FM_MAX(lo, first[i]), z = FM_MIN(hi, last[i]);
        char x[4], y[4];
        fm_grammar_step prefix[4];
        if (a > z) {
            continue;
        }
        int n = fm_utf8_encode(x, a);
        (void)fm_utf8_encode(y, z);
        FM_TRY(add_range_bytes(b, (const uint8_t *)x, (const uint8_t *)y, n, prefix, 0));
    }
    return FM_OK;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One character of a literal or class, escapes read. */
static fm_status read_char(parser *p, uint32_t *cp) {
    if (p->at >= p->end) {
        return fail(p, "the text ends in the midst of a literal");
    }
    if (*p->at != '\\') {
        int n = fm_utf8_decode(cp, p->at, p->end);
        if (n == 0) {
            return fail(p, "not UTF-8");
        }
        p->at += n;
        return FM_OK;
    }
    if (++p->at >= p->end) {
        return fail(p, "the text ends behind a backslash");
    }
    char c = *p->at++;
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    *cp = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : (uint32_t)(unsigned char)c;
    if (digits == 0) {
        return (unsigned char)c < 0x80 ? FM_OK : fail(p, "a backslash before a character that needs none");
    }
    for (*cp = 0; digits > 0; digits--) {
        int d = p->at < p->end ? hex_digit(*p->at) : -1;
        if (d < 0) {
            return fail(p, "expected hexadecimal digits");
        }
        *cp = *cp << 4 | (uint32_t)d;
        p->at++;
    }
    return *cp <= 0x10ffff && (*cp < 0xd800 || *cp > 0xdfff) ? FM_OK : fail(p, "not a code point");
}

static fm_status read_literal(parser *p, body *b) {
    p->at++;
    while (p->at < p->end && *p->at != '"') {
        uint32_t cp;
        char utf8[4];
        FM_TRY(read_char(p, &cp));
        int n = fm_utf8_encode(utf8, cp);
        for (int i = 0; i < n; i++) {
            uint8_t v = (uint8_t)utf8[i];
            FM_TRY(add(b, (fm_grammar_step){.op = FM_GRAMMAR_BYTE, .lo = v, .hi = v}));
        }
    }
    if (p->at >= p->end) {
        return fail(p, "a literal lacks its closing quote");
    }
    p->at++;
    return FM_OK;
}

typedef struct range {
    uint32_t lo, hi;
} range;

static int by_low(const void *a, const void *b) {
    const range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Sorted and merged, then complemented when `negated`; as a rule of its own unless it is one ASCII range. */
static fm_status add_class(parser *p, body *b, range *r, size_t n, bool negated) {
    body alts = {0};
    size_t kept = 0;
    uint32_t next = 0;
    fm_status s = FM_OK;
    if (n > 1) {
        qsort(r, n, sizeof *r, by_low);
    }
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && r[i].lo <= r[kept - 1].hi + 1) {
            r[kept - 1].hi = FM_MAX(r[kept - 1].hi, r[i].hi);
        } else {
            r[kept++] = r[i];
        }
    }
    for (size_t i = 0; i < kept && s == FM_OK; i++) {
        if (!negated) {
            s = add_range(&alts, r[i].lo, r[i].hi);
        } else if (r[i].lo > next) {
            s = add_range(&alts, next, r[i].lo - 1);
        }
        next = r[i].hi + 1;
    }
    if (s == FM_OK && negated && next <= 0x10ffff) {
        s = add_range(&alts, next, 0x10ffff);
    }
    int32_t rule;
    if (s == FM_OK && alts.n == 0) {
        s = fail(p, "a class that no character is in");
    } else if (s == FM_OK && alts.n == 1) {
        s = add(b, alts.step[0]);
    } else if (s == FM_OK) {
        s = rule_from(p, &alts, &rule);
        s = s == FM_OK ? add(b, (fm_grammar_step){.op = FM_GRAMMAR_RULE, .rule = rule}) : s;
    }
    fm_free(alts.step);
    return s;
}

static fm_status gather_class(parser *p, range **r, size_t *n) {
    size_t cap = 0;
    while (p->at < p->end && *p->at != ']') {
        uint32_t lo = 0, hi = 0;
        FM_TRY(read_char(p, &lo));
        hi = lo;
        if (p->at + 1 < p->end && *p->at == '-' && p->at[1] != ']') {
            p->at++;
            FM_TRY(read_char(p, &hi));
        }
        if (hi < lo) {
            return fail(p, "a range that ends before it begins");
        }
        FM_TRY(fm_grow((void **)r, &cap, *n + 1, sizeof **r));
        (*r)[(*n)++] = (range){lo, hi};
    }
    if (p->at >= p->end) {
        return fail(p, "a class lacks its ]");
    }
    p->at++;
    return FM_OK;
}

static fm_status read_class(parser *p, body *b) {
    range *r = NULL;
    size_t n = 0;
    p->at++;
    bool negated = p->at < p->end && *p->at == '^';
    p->at += negated;
    fm_status s = gather_class(p, &r, &n);
    s = s == FM_OK ? add_class(p, b, r, n, negated) : s;
    fm_free(r);
    return s;
}

/* ---- structure ------------------------------------------------------------------------------- */

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Blanks and comments; line ends too when they mean nothing here. */
static void skip(parser *p, bool lines) {
    while (p->at < p->end) {
        if (*p->at == '#') {
            while (p->at < p->end && *p->at != '\n') {
                p->at++;
            }
        } else if (*p->at == ' ' || *p->at == '\t' || *p->at == '\r' || (lines && *p->at == '\n')) {
            p->at++;
        } else {
            return;
        }
    }
}

static fm_status find_name(parser *p, const char *text, size_t n, size_t *out) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (unsigned char)text[i]) * 16777619u;
    }
    int32_t *bucket = &p->bucket[h % BUCKETS];
    for (int32_t i = *bucket; i >= 0; i = p->names[i].next) {
        FM_ASSERT(p->names);
        if (p->names[i].n == n && memcmp(p->names[i].text, text, n) == 0) {
            *out = (size_t)i;
            return FM_OK;
        }
    }
    FM_TRY(fm_grow((void **)&p->names, &p->cap_names, p->n_names + 1, sizeof *p->names));
    FM_TRY(fm_grow((void **)&p->rule_of, &p->cap_rule_of, p->n_names + 1, sizeof *p->rule_of));
    char *copy = fm_strndup(text, n);
    if (!copy) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a grammar");
    }
    p->names[p->n_names] = (name){.text = copy, .n = n, .next = *bucket};
    *bucket = (int32_t)p->n_names;
    *out = p->n_names++;
    return new_rule(p->g, &p->rule_of[*out]);
}

static fm_status read_name(parser *p, size_t *out) {
    const char *from = p->at;
    while (p->at < p->end && is_name(*p->at)) {
        p->at++;
    }
    return p->at > from ? find_name(p, from, (size_t)(p->at - from), out) : fail(p, "expected a name");
}

static fm_status read_number(parser *p, int *out) {
    *out = 0;
    if (p->at >= p->end || *p->at < '0' || *p->at > '9') {
        return fail(p, "expected a number");
    }
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
        *out = *out * 10 + (*p->at++ - '0');
        if (*out > MAX_REPEAT) {
            return fail(p, "repeated more than 2000 times");
        }
    }
    return FM_OK;
}

/* What is repeated, b->step[from..n), becomes min..max of it; max -1: no end. */
static fm_status repeat(parser *p, body *b, size_t from, int min, int max) {
    body once = {0};
    int32_t rest = -1;
    fm_status s = b->n > from ? add_all(&once, b->step + from, b->n - from) : FM_OK;
    b->n = from;
    for (int i = 0; i < min && s == FM_OK; i++) {
        s = add_all(b, once.step, once.n);
    }
    if (max < 0 && s == FM_OK) { /* R ::= once R | */
        body loop = {0};
        s = new_rule(p->g, &rest);
        s = s == FM_OK ? add_all(&loop, once.step, once.n) : s;
        s = s == FM_OK ? add(&loop, (fm_grammar_step){.op = FM_GRAMMAR_RULE, .rule = rest}) : s;
        s = s == FM_OK ? add(&loop, (fm_grammar_step){.op = FM_GRAMMAR_ALT}) : s;
        s = s == FM_OK ? finish_rule(p->g, rest, &loop) : s;
        fm_free(loop.step);
    }
    for (int i = min; i < max && s == FM_OK; i++) { /* R ::= once R' | , innermost first */
        body more = {0};
        s = add_all(&more, once.step, once.n);
        if (s == FM_OK && rest >= 0) {
            s = add(&more, (fm_grammar_step){.op = FM_GRAMMAR_RULE, .rule = rest});
        }
        s = s == FM_OK ? add(&more, (fm_grammar_step){.op = FM_GRAMMAR_ALT}) : s;
        s = s == FM_OK ? rule_from(p, &more, &rest) : s;
        fm_free(more.step);
    }
    if (s == FM_OK && rest >= 0) {
        s = add(b, (fm_grammar_step){.op = FM_GRAMMAR_RULE, .rule = rest});
    }
    fm_free(once.step);
    return s;
}

static fm_status read_repeat(parser *p, body *b, size_t from) {
    int min = 0, max = -1;
    skip(p, false);
    char c = p->at < p->end ? *p->at : '\0';
    if (c != '*' && c != '+' && c != '?' && c != '{') {
        return FM_OK;
    }
    p->at++;
    if (c == '+' || c == '?') {
        min = c == '+';
        max = c == '?' ? 1 : -1;
    } else if (c == '{') {
        skip(p, false);
        if (p->at < p->end && *p->at != ',') {
            FM_TRY(read_number(p, &min));
        }
        skip(p, false);
        max = min;
        if (p->at < p->end && *p->at == ',') {
            p->at++;
            skip(p, false);
            max = -1;
            if (p->at < p->end && *p->at != '}') {
                FM_TRY(read_number(p, &max));
            }
            skip(p, false);
        }
        if (p->at >= p->end || *p->at != '}' || (max >= 0 && max < min)) {
            return fail(p, "expected {m}, {m,}, {,n} or {m,n}");
        }
        p->at++;
    }
    return repeat(p, b, from, min, max);
}

static fm_status read_alternatives(parser *p, body *b, bool nested);

static fm_status read_group(parser *p, body *b) {
    body inner = {0};
    int32_t rule;
    if (++p->depth > MAX_DEPTH) {
        return fail(p, "too many parentheses inside each other");
    }
    p->at++;
    fm_status s = read_alternatives(p, &inner, true);
    if (s == FM_OK && (p->at >= p->end || *p->at != ')')) {
        s = fail(p, "expected )");
    }
    p->at += s == FM_OK;
    p->depth--;
    s = s == FM_OK ? rule_from(p, &inner, &rule) : s;
    s = s == FM_OK ? add(b, (fm_grammar_step){.op = FM_GRAMMAR_RULE, .rule = rule}) : s;
    fm_free(inner.step);
    return s;
}

static fm_status read_item(parser *p, body *b) {
    size_t from = b->n, i = 0;
    char c = *p->at;
    if (c == '"') {
        FM_TRY(read_literal(p, b));
    } else if (c == '[') {
        FM_TRY(read_class(p, b));
    } else if (c == '.') {
        p->at++;
        range all = {0, 0x10ffff};
        FM_TRY(add_class(p, b, &all, 1, false));
    } else if (c == '(') {
        FM_TRY(read_group(p, b));
    } else if (is_name(c)) {
        FM_TRY(read_name(p, &i));
        FM_TRY(add(b, (fm_grammar_step){.op = FM_GRAMMAR_RULE, .rule = p->rule_of[i]}));
    } else {
        return fail(p, "expected a literal, a class, a name, . or (");
    }
    return read_repeat(p, b, from);
}

/* "name ::=" begins here: the rule before it ends though the line may not have. */
static bool at_rule(const parser *p) {
    const char *q = p->at;
    while (q < p->end && is_name(*q)) {
        q++;
    }
    if (q == p->at) {
        return false;
    }
    while (q < p->end && (*q == ' ' || *q == '\t')) {
        q++;
    }
    return p->end - q >= 3 && memcmp(q, "::=", 3) == 0;
}

static fm_status read_alternatives(parser *p, body *b, bool nested) {
    for (;;) {
        skip(p, nested);
        if (p->at >= p->end || *p->at == ')') {
            return FM_OK;
        }
        if (*p->at == '|') {
            p->at++;
            FM_TRY(add(b, (fm_grammar_step){.op = FM_GRAMMAR_ALT}));
            skip(p, true);
        } else if (*p->at == '\n') {
            skip(p, true);
            if (p->at >= p->end || *p->at != '|') { /* a rule may go on with an alternative in the next line */
                return FM_OK;
            }
        } else if (!nested && at_rule(p)) {
            return FM_OK;
        } else {
            FM_TRY(read_item(p, b));
        }
    }
}

static fm_status read_rules(parser *p, const char *start) {
    size_t i;
    for (skip(p, true); p->at < p->end; skip(p, true)) {
        body b = {0};
        FM_TRY(read_name(p, &i));
        skip(p, false);
        if (p->end - p->at < 3 || memcmp(p->at, "::=", 3) != 0) {
            return fail(p, "expected ::= behind the name of a rule");
        }
        p->at += 3;
        skip(p, true);
        if (p->names[i].defined) {
            return fail(p, "a rule with this name is there already");
        }
        p->names[i].defined = true;
        fm_status s = read_alternatives(p, &b, false);
        if (s == FM_OK && p->at < p->end && *p->at == ')') {
            s = fail(p, "a ) without its (");
        }
        s = s == FM_OK ? finish_rule(p->g, p->rule_of[i], &b) : s;
        fm_free(b.step);
        FM_TRY(s);
    }
    for (i = 0; i < p->n_names; i++) {
        if (!p->names[i].defined) {
            FM_FAIL(FM_ERR_ARGUMENT, "grammar: there is no rule \"%s\"", p->names[i].text);
        }
    }
    FM_TRY(find_name(p, start, strlen(start), &i));
    if (!p->names[i].defined) {
        FM_FAIL(FM_ERR_ARGUMENT, "grammar: there is no rule \"%s\"", start);
    }
    p->g->root = p->rule_of[i];
    return FM_OK;
}

fm_status fm_grammar_parse(fm_grammar *g, const char *text, size_t n, const char *start) {
    parser p = {.g = g, .begin = text, .at = text, .end = text + n};
    memset(p.bucket, 0xff, sizeof p.bucket);
    fm_status s = read_rules(&p, start);
    for (size_t i = 0; i < p.n_names; i++) {
        fm_free(p.names[i].text);
    }
    fm_free(p.names);
    fm_free(p.rule_of);
    return s;
}
