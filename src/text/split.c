#include "text/split.h"

#include <string.h>

#include "text/unicode.h"

/* How the scanners follow the patterns: alternatives are tried in order at each position and the
 * quantifiers are greedy, so the class of the first one or two characters decides which alternative
 * wins. The only backtracking is in the white-space alternatives, which white_space() resolves in
 * one pass. */

#define CONTRACTIONS   "'s|'t|'re|'ve|'m|'ll|'d"
#define WORDS          "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define OTHER_NEWLINES " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define SPACES         "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#define REGEX_GPT2   CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define REGEX_LLAMA3 "(?i:" CONTRACTIONS ")|" WORDS "|\\p{N}{1,3}|" OTHER_NEWLINES "|" SPACES
#define REGEX_QWEN2  "(?i:" CONTRACTIONS ")|" WORDS "|\\p{N}|" OTHER_NEWLINES "|" SPACES
#define REGEX_DS_N   "\\p{N}{1,3}"
#define REGEX_DS_CJK "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+"
#define REGEX_DS                                                                                                       \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"               \
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES

/* The published file writes the second stage of numbers as a Digits pre-tokenizer, which pretokenize.c knows. */
#define REGEX_LINE_END   "[\\r\\n]"
#define REGEX_WIDE       "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+"
#define REGEX_CASED_WORD "\\s?[" FM_REGEX_CASED "]+"
#define REGEX_MARKS                                                                                                    \
    "\\s?[!-/"                                                                                                         \
    ":-~\xEF\xBC\x81-\xEF\xBC\x8F\xEF\xBC\x9A-\xEF\xBD\x9E\xE2\x80\x98-\xE2\x80\x9F\xE3\x80\x80-\xE3\x80\x82]+"

#define MAX_STAGES 7
static const struct {
    const char *name;
    const char *regex[MAX_STAGES]; /* ends in NULL */
} splits[FM_SPLIT_COUNT] = {
    [FM_SPLIT_NONE] = {"none", {NULL}},
    [FM_SPLIT_GPT2] = {"gpt2", {REGEX_GPT2}},
    [FM_SPLIT_LLAMA3] = {"llama3", {REGEX_LLAMA3}},
    [FM_SPLIT_QWEN2] = {"qwen2", {REGEX_QWEN2}},
    [FM_SPLIT_DEEPSEEK_V3] = {"deepseek_v3", {REGEX_DS_N, REGEX_DS_CJK, REGEX_DS}},
    [FM_SPLIT_DEEPSEEK_LLM] = {"deepseek_llm",
                               {REGEX_LINE_END, REGEX_CASED_WORD, REGEX_MARKS, "\\s+$", REGEX_WIDE, "\\p{N}"}},
    [FM_SPLIT_DEEPSEEK_CODER] = {"deepseek_coder",
                                 {REGEX_LINE_END, "\\s?\\p{L}+", "\\s?\\p{P}+", REGEX_WIDE, "\\p{N}"}},
};

const char *fm_split_name(fm_split_kind kind) {
    return (unsigned)kind < FM_SPLIT_COUNT ? splits[kind].name : "?";
}

fm_split_kind fm_split_find(const char *name) {
    for (int k = 0; k < FM_SPLIT_COUNT; k++) {
        const char *a = name, *b = splits[k].name;
        while (*a && (*a == *b || (*a == '-' && *b == '_'))) {
            a++;
            b++;
        }
        if (!*a && !*b) {
            return (fm_split_kind)k;
        }
    }
    return FM_SPLIT_COUNT;
}

const char *fm_split_regex(fm_split_kind kind, int i) {
    return i >= 0 && i < MAX_STAGES ? splits[kind].regex[i] : NULL;
}

unsigned fm_uni_prev(uint32_t *cp, const uint8_t *begin, const uint8_t *p) {
    for (unsigned n = 1; n <= 4 && (size_t)(p - begin) >= n; n++) {
        if (fm_uni_next(cp, p - n, p) == n && (n > 1 || p[-1] < 0x80)) {
            return n;
        }
    }
    *cp = 0xFFFD;
    return 1;
}

/* Class of the character at p; *n its length. At the end: class 0, length 0. */
static inline unsigned class_at(const uint8_t *p, const uint8_t *end, unsigned *n) {
    if (p >= end) {
        *n = 0;
        return 0;
    }
    if (*p < 0x80) {
        *n = 1;
        return fm_uni_bits[0][*p];
    }
    uint32_t cp;
    *n = fm_uni_next(&cp, p, end);
    return fm_uni_class(cp);
}

/* End of the run of characters whose class has a bit of `mask`. */
static inline const uint8_t *run_of(const uint8_t *p, const uint8_t *end, unsigned mask) {
    while (p < end) {
        unsigned n, k = class_at(p, end, &n);
        if (!(k & mask)) {
            break;
        }
        p += n;
    }
    return p;
}

static inline const uint8_t *run_not_of(const uint8_t *p, const uint8_t *end, unsigned mask) {
    while (p < end) {
        unsigned n, k = class_at(p, end, &n);
        if (k & mask) {
            break;
        }
        p += n;
    }
    return p;
}

static inline const uint8_t *run_newlines(const uint8_t *p, const uint8_t *end) {
    while (p < end && (*p == '\r' || *p == '\n')) {
        p++;
    }
    return p;
}

/* \s*[\r\n]+ (only with `newlines`), \s+(?!\S), \s+ at a white-space character. */
static const uint8_t *white_space(const uint8_t *p, const uint8_t *end, bool newlines) {
    const uint8_t *begin = p, *last = p, *after_newline = NULL;
    while (p < end) {
        unsigned n, k = class_at(p, end, &n);
        if (!(k & FM_UNI_Z)) {
            break;
        }
        last = p;
        if (*p == '\r' || *p == '\n') {
            after_newline = p + n;
        }
        p += n;
    }
    if (newlines && after_newline) {
        return after_newline;
    }
    /* All but the last blank, which goes with the word that follows, unless there is just one. */
    return p == end || last == begin ? p : last;
}

/* Length of 's 't 're 've 'm 'll 'd at p (an apostrophe), 0 for none. The long s (U+017F) folds to s. */
static size_t contraction(const uint8_t *p, const uint8_t *end, bool any_case) {
    size_t left = (size_t)(end - p);
    if (left < 2) {
        return 0;
    }
    uint8_t fold = any_case && p[1] < 0x80 ? 0x20 : 0;
    uint8_t a = (uint8_t)(p[1] | fold);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
        return 2;
    }
    if (left < 3) {
        return 0;
    }
    uint8_t b = (uint8_t)(p[2] | (any_case && p[2] < 0x80 ? 0x20 : 0));
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) {
        return 3;
    }
    return any_case && p[1] == 0xC5 && p[2] == 0xBF ? 3 : 0;
}

static const uint8_t *next_gpt2(const uint8_t *p, const uint8_t *end) {
    unsigned n, k = class_at(p, end, &n);
    if (*p == '\'') {
        size_t c = contraction(p, end, false);
        if (c) {
            return p + c;
        }
    }
    const uint8_t *q = p;
    if (*p == ' ') {
        q = p + 1;
        k = class_at(q, end, &n);
        if (q == end) {
            return end;
        }
    }
    if (k & FM_UNI_L) {
        return run_of(q + n, end, FM_UNI_L);
    }
    if (k & FM_UNI_N) {
        return run_of(q + n, end, FM_UNI_N);
    }
    if (!(k & FM_UNI_Z)) {
        return run_not_of(q + n, end, FM_UNI_L | FM_UNI_N | FM_UNI_Z);
    }
    return white_space(p, end, false);
}

static const uint8_t *next_llama3(const uint8_t *p, const uint8_t *end, int max_digits) {
    unsigned n, k = class_at(p, end, &n);
    if (k & FM_UNI_L) {
        return run_of(p + n, end, FM_UNI_L);
    }
    if (k & FM_UNI_N) {
        for (int i = 0; i < max_digits && (k & FM_UNI_N); i++) {
            p += n;
            k = class_at(p, end, &n);
        }
        return p;
    }
    if (*p == '\'') {
        size_t c = contraction(p, end, true);
        if (c) {
            return p + c;
        }
    }
    unsigned n2, k2 = class_at(p + n, end, &n2);
    if (*p != '\r' && *p != '\n' && (k2 & FM_UNI_L)) {
        return run_of(p + n + n2, end, FM_UNI_L);
    }
    if (!(k & FM_UNI_Z) || (*p == ' ' && n2 && !(k2 & (FM_UNI_L | FM_UNI_N | FM_UNI_Z)))) {
        return run_newlines(run_not_of(p + n, end, FM_UNI_L | FM_UNI_N | FM_UNI_Z), end);
    }
    return white_space(p, end, true);
}

static inline bool ascii_letter(uint8_t c) {
    return (uint8_t)((c | 0x20) - 'a') < 26;
}

/* The third DeepSeek pattern. What it leaves unmatched stays one piece up to the next match. */
static const uint8_t *next_deepseek(const uint8_t *p, const uint8_t *end) {
    unsigned n, k = class_at(p, end, &n);
    if (*p < 0x80 && (k & (FM_UNI_P | FM_UNI_S)) && p + 1 < end && ascii_letter(p[1])) {
        p += 2;
        while (p < end && ascii_letter(*p)) {
            p++;
        }
        return p;
    }
    if (k & (FM_UNI_L | FM_UNI_M)) {
        return run_of(p + n, end, FM_UNI_L | FM_UNI_M);
    }
    if (k & (FM_UNI_P | FM_UNI_S)) {
        return run_newlines(run_of(p + n, end, FM_UNI_P | FM_UNI_S), end);
    }
    unsigned n2, k2 = class_at(p + n, end, &n2);
    if (*p != '\r' && *p != '\n' && (k2 & (FM_UNI_L | FM_UNI_M))) {
        return run_of(p + n + n2, end, FM_UNI_L | FM_UNI_M);
    }
    if (*p == ' ' && (k2 & (FM_UNI_P | FM_UNI_S))) {
        return run_newlines(run_of(p + n + n2, end, FM_UNI_P | FM_UNI_S), end);
    }
    if (k & FM_UNI_Z) {
        return white_space(p, end, true);
    }
    for (;;) {
        p += n;
        k = k2;
        n = n2;
        if (!n || (k & (FM_UNI_L | FM_UNI_M | FM_UNI_P | FM_UNI_S | FM_UNI_Z))) {
            return p;
        }
        k2 = class_at(p + n, end, &n2);
        if (k2 & (FM_UNI_L | FM_UNI_M)) {
            return p;
        }
    }
}

/* U+4E00-9FA5, U+3040-30FF: the second DeepSeek pattern. p[0] >= 0x80. */
static inline bool deepseek_cjk(const uint8_t *p, const uint8_t *end) {
    if (end - p < 3 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80 || (p[0] & 0xF0) != 0xE0) {
        return false;
    }
    uint32_t cp = ((p[0] & 0x0Fu) << 12) | ((p[1] & 0x3Fu) << 6) | (p[2] & 0x3Fu);
    return (cp >= 0x4E00 && cp <= 0x9FA5) || (cp >= 0x3040 && cp <= 0x30FF);
}

/* The first two DeepSeek patterns cut the text into numbers, CJK runs and the rest. Sets segment_end;
 * true when the segment is a finished piece. */
static bool deepseek_segment(fm_splitter *s) {
    const uint8_t *p = s->p, *end = s->end;
    unsigned n, k = class_at(p, end, &n);
    if (k & FM_UNI_N) {
        for (int i = 0; i < 3 && (k & FM_UNI_N); i++) {
            p += n;
            k = class_at(p, end, &n);
        }
        s->segment_end = p;
        return true;
    }
    if (*p >= 0x80 && deepseek_cjk(p, end)) {
        do {
            p += 3;
        } while (p < end && *p >= 0x80 && deepseek_cjk(p, end));
        s->segment_end = p;
        return false;
    }
    while (p < end) {
        if (*p < 0x80) {
            if ((uint8_t)(*p - '0') < 10) {
                break;
            }
            p++;
            continue;
        }
        k = class_at(p, end, &n);
        if ((k & FM_UNI_N) || deepseek_cjk(p, end)) {
            break;
        }
        p += n;
    }
    s->segment_end = p;
    return false;
}

void fm_splitter_init(fm_splitter *s, fm_split_kind kind, const void *text, size_t n) {
    s->p = text;
    s->end = s->p + n;
    s->segment_end = s->p;
    s->kind = kind;
    for (int k = 0; k < FM_SPLIT_LEVELS; k++) {
        s->level[k] = s->p;
    }
}

size_t fm_splitter_next(fm_splitter *s, const uint8_t **piece) {
    const uint8_t *p = s->p;
    if (p == s->end) {
        return 0;
    }
    *piece = p;
    switch (s->kind) {
    case FM_SPLIT_GPT2:
        s->p = next_gpt2(p, s->end);
        break;
    case FM_SPLIT_LLAMA3:
        s->p = next_llama3(p, s->end, 3);
        break;
    case FM_SPLIT_QWEN2:
        s->p = next_llama3(p, s->end, 1);
        break;
    case FM_SPLIT_DEEPSEEK_V3:
        if (p == s->segment_end && deepseek_segment(s)) {
            s->p = s->segment_end;
        } else {
            s->p = next_deepseek(p, s->segment_end);
        }
        break;
    case FM_SPLIT_DEEPSEEK_LLM:
    case FM_SPLIT_DEEPSEEK_CODER:
        s->p = fm_split_levels_next(s->level, s->kind == FM_SPLIT_DEEPSEEK_CODER, p, s->end);
        break;
    case FM_SPLIT_NONE:
    case FM_SPLIT_COUNT:
    default:
        s->p = s->end;
        break;
    }
    return (size_t)(s->p - p);
}
