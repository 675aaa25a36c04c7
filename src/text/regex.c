/* Regular expressions of tokenizer.json. They are written for oniguruma in Ruby syntax; PCRE2 runs them after a few
 * rewrites:
 *   \s \S \h \H   by their characters: PCRE2's \s lacks U+0085 in some modes, and Ruby's \h is a hexadecimal digit
 *   \w \W \b \B   by their characters: PCRE2's \w has other numbers and lacks marks
 *   \p{Greek}     \p{sc:Greek}: without it PCRE2 takes script extensions
 *   {,n}          {0,n}
 *   [a[bc]]       nested classes are flattened; && has no counterpart and is refused
 *   (?m)          dot matches line ends: (?s)
 *   ^ $           match at lines: PCRE2_MULTILINE
 * JIT is used where it exists. Each search has a limit of matching steps, so that nested quantifiers end in an error
 * instead of hours. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/pipe.h"

#define MATCH_LIMIT 20000000u
#define MAX_PATTERN 65536u
#define BLANKS      "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define HEX         "0-9a-fA-F"
/* Properties beyond categories, and scripts apart from script extensions, are known from 10.40 on. */
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
#define ALPHABETIC "\\p{Alphabetic}"
#define SCRIPT     "sc:"
#else
#define ALPHABETIC "\\p{L}\\p{Nl}"
#define SCRIPT     ""
#endif
#define WORD ALPHABETIC "\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}" /* and those of Latin-1 */

struct fm_regex {
    pcre2_code *code;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
};

static void *take(size_t n, void *user) {
    FM_UNUSED(user);
    return fm_malloc(n);
}

static void give(void *p, void *user) {
    FM_UNUSED(user);
    fm_free(p);
}

typedef struct rewriter {
    const char *p, *end;
    fm_str *out;
    const char *what;
} rewriter;

static fm_status refuse(const rewriter *r, const char *why) {
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s: the pattern has %s, which is not supported", r->what, why);
}

/* \p{...} at p. Names of categories are common to both; long ones are spelt out; all others are scripts. */
static void rewrite_property(rewriter *r) {
    static const char *const names[][2] = {
        {"Letter", "L"},
        {"Mark", "M"},
        {"Number", "N"},
        {"Punctuation", "P"},
        {"Symbol", "S"},
        {"Separator", "Z"},
        {"Other", "C"},
        {"Lowercase_Letter", "Ll"},
        {"Uppercase_Letter", "Lu"},
        {"Digit", "Nd"},
        {"Decimal_Number", "Nd"},
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
        {"Alpha", "Alphabetic"},
        {"Alphabetic", "Alphabetic"},
        {"Lower", "Lowercase"},
        {"Upper", "Uppercase"},
        {"Space", "White_Space"},
        {"White_Space", "White_Space"},
        {"ASCII", "ASCII"},
        {"Emoji", "Emoji"},
        {"Extended_Pictographic", "Extended_Pictographic"},
#endif
        {"Any", "Any"},
    };
    const char *from = r->p + 3, *stop = from;
    while (stop < r->end && *stop != '}') {
        stop++;
    }
    bool turned = from < stop && *from == '^';
    from += turned;
    size_t n = (size_t)(stop - from);
    fm_str_printf(r->out, "\\%c{%s", r->p[1], turned ? "^" : "");
    const char *known = n <= 2 ? "" : NULL;
    for (size_t i = 0; i < FM_ARRAY_LEN(names) && !known; i++) {
        known = strlen(names[i][0]) == n && memcmp(names[i][0], from, n) == 0 ? names[i][1] : NULL;
    }
    if (known && *known) {
        fm_str_puts(r->out, known);
    } else {
        fm_str_puts(r->out, known ? "" : SCRIPT);
        fm_str_append(r->out, from, n);
    }
    fm_str_puts(r->out, stop < r->end ? "}" : "");
    r->p = stop + (stop < r->end);
}

/* An escape at p, copied or spelt out. */
static void rewrite_escape(rewriter *r, bool in_class) {
    char c = r->p + 1 < r->end ? r->p[1] : 0;
    const char *set = c == 's' || c == 'S' ? BLANKS : c == 'h' || c == 'H' ? HEX : c == 'w' || c == 'W' ? WORD : NULL;
    bool negative = c == 'S' || c == 'H' || c == 'W';
    if ((c == 'p' || c == 'P') && r->end - r->p > 3 && r->p[2] == '{') {
        rewrite_property(r);
        return;
    }
    if ((c == 'b' || c == 'B') && !in_class) {
        fm_str_puts(r->out, c == 'b' ? "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"
                                     : "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
    } else if (set && in_class && !negative) {
        fm_str_puts(r->out, set);
    } else if (set && !in_class) {
        fm_str_printf(r->out, "[%s%s]", negative ? "^" : "", set);
    } else {
        fm_str_append(r->out, r->p, FM_MIN((size_t)2, (size_t)(r->end - r->p)));
    }
    r->p += FM_MIN(2, r->end - r->p);
}

/* A bracket class at p; nested ones become part of the outer. */
static fm_status rewrite_class(rewriter *r) {
    int depth = 1;
    bool first = true;
    fm_str_putc(r->out, '[');
    r->p++;
    if (r->p < r->end && *r->p == '^') {
        fm_str_putc(r->out, *r->p++);
    }
    for (; r->p < r->end && depth; first = false) {
        char c = *r->p;
        if (c == '\\') {
            rewrite_escape(r, true);
        } else if (c == '[' && r->p + 1 < r->end && r->p[1] == ':') {
            const char *close = r->p + 2;
            while (close < r->end && *close != ']') {
                close++;
            }
            fm_str_append(r->out, r->p, (size_t)(close - r->p));
            fm_str_putc(r->out, ']');
            r->p = close < r->end ? close + 1 : r->end;
        } else if (c == '[') {
            if (r->p + 1 < r->end && r->p[1] == '^') {
                return refuse(r, "a negated class inside a class");
            }
            depth++;
            r->p++;
        } else if (c == ']' && !first) {
            depth--;
            r->p++;
        } else if (c == '&' && r->p + 1 < r->end && r->p[1] == '&') {
            return refuse(r, "an intersection of classes (&&)");
        } else {
            if (c == ']') {
                fm_str_putc(r->out, '\\');
            }
            fm_str_putc(r->out, c);
            r->p++;
        }
    }
    fm_str_putc(r->out, ']');
    return depth ? refuse(r, "a class without an end") : FM_OK;
}

static fm_status rewrite(rewriter *r) {
    while (r->p < r->end) {
        if (*r->p == '\\') {
            rewrite_escape(r, false);
        } else if (*r->p == '[') {
            FM_TRY(rewrite_class(r));
        } else if (r->end - r->p > 3 && memcmp(r->p, "(?m", 3) == 0 && (r->p[3] == ')' || r->p[3] == ':')) {
            fm_str_puts(r->out, "(?s");
            r->p += 3;
        } else if (r->end - r->p > 2 && r->p[0] == '{' && r->p[1] == ',' && r->p[2] >= '0' && r->p[2] <= '9') {
            fm_str_puts(r->out, "{0");
            r->p++;
        } else {
            fm_str_putc(r->out, *r->p++);
        }
    }
    return fm_text_end(r->out);
}

fm_status fm_regex_compile(fm_regex **out, const char *pattern, size_t n, const char *what) {
    *out = NULL;
    if (n > MAX_PATTERN) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: a pattern of %zu bytes is too long (limit %u)", what, n, MAX_PATTERN);
    }
    fm_str text = {0};
    fm_status s = rewrite(&(rewriter){pattern, pattern + n, &text, what});
    if (s != FM_OK) {
        fm_str_free(&text);
        return s;
    }
    fm_regex *r = fm_calloc(1, sizeof(*r));
    if (!r) {
        fm_str_free(&text);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a pattern");
    }
    r->memory = pcre2_general_context_create(take, give, NULL);
    r->limits = r->memory ? pcre2_match_context_create(r->memory) : NULL;
    pcre2_compile_context *how = r->memory ? pcre2_compile_context_create(r->memory) : NULL;
    if (!r->limits || !how) {
        pcre2_compile_context_free(how);
        FM_FAIL_GOTO(s, failed, FM_ERR_NO_MEMORY, "no memory for a pattern");
    }
    pcre2_set_parens_nest_limit(how, 200);
    (void)pcre2_set_match_limit(r->limits, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(r->limits, 256u << 10); /* KiB */
    int code;
    PCRE2_SIZE at;
    r->code = pcre2_compile((PCRE2_SPTR)text.data, text.len,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
                            &code, &at, how);
    pcre2_compile_context_free(how);
    if (!r->code) {
        PCRE2_UCHAR why[160] = "";
        (void)pcre2_get_error_message(code, why, sizeof(why));
        FM_FAIL_GOTO(s, failed, code == PCRE2_ERROR_HEAP_FAILED ? FM_ERR_NO_MEMORY : FM_ERR_UNSUPPORTED,
                     "%s: pattern \"%.*s\": %s at %zu", what, (int)FM_MIN(n, (size_t)200), pattern, (const char *)why,
                     (size_t)at);
    }
    /* Without JIT the pattern runs in the interpreter. */
    (void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
    fm_str_free(&text);
    *out = r;
    return FM_OK;
failed:
    fm_str_free(&text);
    fm_regex_free(r);
    return s;
}

void fm_regex_free(fm_regex *r) {
    if (r) {
        pcre2_code_free(r->code);
        pcre2_match_context_free(r->limits);
        pcre2_general_context_free(r->memory);
        fm_free(r);
    }
}

void fm_regex_search_end(fm_regex_search *s) {
    pcre2_match_data_free(s->match);
    s->match = NULL;
}

fm_status fm_regex_next(fm_regex_search *s, bool *found, size_t *start, size_t *stop, const uint8_t *p, size_t n,
                        size_t from) {
    if (!s->match) {
        s->match = pcre2_match_data_create(1, s->regex->memory);
        if (!s->match) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory to match a pattern");
        }
    }
    int rc = pcre2_match(s->regex->code, p, n, from, 0, s->match, s->regex->limits);
    *found = rc >= 0;
    if (rc >= 0) {
        const PCRE2_SIZE *o = pcre2_get_ovector_pointer(s->match);
        *start = o[0];
        *stop = FM_MAX(o[0], o[1]); /* \K may put the start behind the end */
        return FM_OK;
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
        return FM_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to match a pattern");
    }
    PCRE2_UCHAR why[160] = "";
    (void)pcre2_get_error_message(rc, why, sizeof(why));
    FM_FAIL(FM_ERR_DATA, "the tokenizer's pattern cannot be matched at byte %zu of a text of %zu: %s", from, n,
            (const char *)why);
}
