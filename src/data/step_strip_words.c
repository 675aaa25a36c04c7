/* strip-words: stop words and punctuation out of a text, for classifiers over words.
 *
 * A word is a run of letters and digits with apostrophes or hyphens inside; between characters of scripts without
 * blanks the longest stop word that begins at each place is taken out. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/step.h"
#include "data/textnorm.h"

typedef struct strip_options {
    char *column;
    fm_strlist stop, keep;
    bool punctuation, digits;
} strip_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(strip_options),
    {"stop_words", FM_OPT_LIST, offsetof(strip_options, stop), "en,zh", 0, 0, NULL, NULL, "LISTS",
     "lists of words to take out: en, zh, or files with a word a line; empty = none"},
    {"keep_words", FM_OPT_LIST, offsetof(strip_options, keep), NULL, 0, 0, NULL, NULL, "WORDS",
     "words of the lists that stay (not,no)"},
    {"punctuation", FM_OPT_BOOL, offsetof(strip_options, punctuation), "true", 0, 0, NULL, NULL, NULL,
     "marks of punctuation and symbols become blanks"},
    {"digits", FM_OPT_BOOL, offsetof(strip_options, digits), "false", 0, 0, NULL, NULL, NULL,
     "words of digits alone are taken out"},
    FM_STEP_OPTIONS_END,
};

/* Function words; contractions are looked up whole ("don't"). */
static const char english[] =
    "a about above after again against all am an and any are aren't as at be because been before being below between "
    "both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each few for from "
    "further had hadn't has hasn't have haven't having he he'd he'll he's her here hers herself him himself his how i "
    "i'd i'll i'm i've if in into is isn't it it'd it'll it's its itself just me mightn't more most mustn't my myself "
    "needn't no nor not now of off on once only or other our ours ourselves out over own same shan't she she'd she'll "
    "she's should should've shouldn't so some such than that that'll that's the their theirs them themselves then "
    "there there's these they they'd they'll they're they've this those through to too under until up very was wasn't "
    "we we'd we'll we're we've were weren't what when where which while who whom why will with won't would wouldn't "
    "you you'd you'll you're you've your yours yourself yourselves";
static const char chinese[] =
    "的 了 在 是 和 与 及 或 而 且 也 都 就 很 又 还 把 被 让 给 对 从 向 到 于 以 为 因 由 这 那 其 之 所 者 着 过 吗 "
    "呢 吧 啊 呀 嘛 哦 我 你 您 他 她 它 我们 你们 他们 她们 它们 咱们 自己 这个 那个 这些 那些 这里 那里 这样 那样 "
    "什么 怎么 怎样 哪里 哪个 哪些 为什么 因为 所以 但是 可是 然而 不过 而且 并且 或者 以及 如果 虽然 即使 由于 因此 "
    "于是 为了 关于 对于 至于 按照 根据 通过 随着 除了 已经 正在 曾经 将要 一个 一些 一下 一样 之一 之间 之前 之后 "
    "以及 以上 以下 等等 们 地 得 个 些";

typedef struct state {
    char **word; /* of all lists, sorted and each once */
    size_t n, cap;
    size_t longest; /* bytes */
} state;

static fm_status add_word(state *s, const char *p, size_t n) {
    void *q = s->word;
    fm_str small = {0};
    FM_TRY(fm_grow(&q, &s->cap, s->n + 1, sizeof *s->word));
    s->word = q;
    fm_status st = fm_textnorm(&small, (fm_sv){p, n}, FM_NORM_LOWER);
    if (st == FM_OK && small.len > 0) {
        s->longest = FM_MAX(s->longest, small.len);
        s->word[s->n] = fm_str_take(&small);
        s->n++;
    }
    fm_str_free(&small);
    return st;
}

static fm_status add_list(state *s, const char *p, size_t n) {
    for (size_t a = 0, b; a < n; a = b + 1) {
        for (b = a; b < n && p[b] != ' ' && p[b] != '\n' && p[b] != '\r'; b++) {
        }
        if (b > a) {
            FM_TRY(add_word(s, p + a, b - a));
        }
    }
    return FM_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool stops(const state *s, const char *word) {
    return s->n && bsearch(&word, s->word, s->n, sizeof *s->word, by_text);
}

static void take_out(state *s, const char *word) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        bool out = strcmp(s->word[i], word) == 0 || (n && strcmp(s->word[i], s->word[n - 1]) == 0);
        if (out) {
            fm_free(s->word[i]);
        } else {
            s->word[n++] = s->word[i];
        }
    }
    s->n = n;
}

static fm_status strip_open(fm_step *step) {
    const strip_options *o = step->opt;
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    for (size_t i = 0; i < o->stop.n; i++) {
        if (strcmp(o->stop.item[i], "en") == 0) {
            FM_TRY(add_list(s, english, sizeof english - 1));
        } else if (strcmp(o->stop.item[i], "zh") == 0) {
            FM_TRY(add_list(s, chinese, sizeof chinese - 1));
        } else {
            char *text = NULL;
            size_t n;
            FM_TRY(fm_file_read(&text, &n, o->stop.item[i], (size_t)64 << 20));
            fm_status st = fm_utf8_valid(text, n) ? add_list(s, text, n) : FM_ERR_DATA;
            fm_free(text);
            if (st == FM_ERR_DATA) {
                FM_FAIL(FM_ERR_DATA, "'%s': a list of stop words must be UTF-8", o->stop.item[i]);
            }
            FM_TRY(st);
        }
    }
    if (s->n == 0 && !o->punctuation && !o->digits) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "strip-words has nothing to do");
        return fm_error_hint("give stop_words, punctuation or digits");
    }
    if (s->n) {
        qsort(s->word, s->n, sizeof *s->word, by_text);
        take_out(s, ""); /* doubles */
    }
    for (size_t i = 0; i < o->keep.n; i++) {
        take_out(s, o->keep.item[i]);
    }
    return FM_OK;
}

static void strip_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_names_free(s->word, s->n);
        fm_free(s);
        step->state = NULL;
    }
}

/* What a character is for this step. */
typedef enum kind { BLANK, LETTER, DIGIT, SINGLE, JOINER, MARK } kind;

static kind kind_of(uint32_t c) {
    if (c == '\'' || c == '-' || c == 0x2019) {
        return JOINER;
    }
    if (c < 0x80 ? c == ' ' || (c >= '\t' && c <= '\r') : fm_is_space(c)) {
        return BLANK;
    }
    if (c >= 0x80 && fm_is_unspaced(c)) {
        return SINGLE;
    }
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return DIGIT;
    default:
        return MARK;
    }
}

typedef struct stripper {
    const strip_options *o;
    const state *s;
    fm_str *out, *word;
    int64_t n_stop, n_marks, n_digits;
} stripper;

/* The end of the word that begins at p; all_digits tells its kind. */
static const char *word_end(const char *p, const char *end, bool *all_digits) {
    *all_digits = true;
    while (p < end) {
        uint32_t c, next;
        int n = fm_utf8_decode(&c, p, end);
        kind k = n ? kind_of(c) : MARK;
        if (k == JOINER) { /* inside words only */
            int m = p + n < end ? fm_utf8_decode(&next, p + n, end) : 0;
            kind after = m ? kind_of(next) : BLANK;
            k = after == LETTER || after == DIGIT ? LETTER : BLANK;
        }
        if (k != LETTER && k != DIGIT) {
            break;
        }
        *all_digits = *all_digits && k == DIGIT;
        p += n;
    }
    return p;
}

/* Bytes of the longest stop word at p, in a script without blanks. */
static fm_status longest_stop(stripper *t, const char *p, const char *end, size_t *best) {
    *best = 0;
    fm_str_clear(t->word);
    for (const char *q = p; q < end && t->word->len < t->s->longest;) {
        uint32_t c;
        int n = fm_utf8_decode(&c, q, end);
        if (n == 0 || kind_of(c) != SINGLE) {
            break;
        }
        fm_str_append(t->word, q, (size_t)n);
        q += n;
        FM_TRY(fm_str_check(t->word));
        if (stops(t->s, t->word->data)) {
            *best = (size_t)(q - p);
        }
    }
    return FM_OK;
}

static fm_status strip_word(stripper *t, const char *p, size_t n, bool digits) {
    fm_str_clear(t->word);
    for (size_t i = 0; i < n;) {
        uint32_t c;
        char utf8[4];
        int k = fm_utf8_decode(&c, p + i, p + n);
        c = c == 0x2019 ? '\'' : fm_utf8_lower(c); /* ’ is written for ' */
        fm_str_append(t->word, utf8, (size_t)fm_utf8_encode(utf8, c));
        i += (size_t)k;
    }
    FM_TRY(fm_str_check(t->word));
    if (digits && t->o->digits) {
        t->n_digits++;
    } else if (stops(t->s, t->word->data)) {
        t->n_stop++;
    } else {
        fm_str_append(t->out, p, n);
        return FM_OK;
    }
    fm_str_putc(t->out, ' ');
    return FM_OK;
}

static fm_status strip(stripper *t, fm_sv text) {
    const char *p = text.ptr, *end = p + text.len;
    while (p < end) {
        uint32_t c;
        int n = fm_utf8_decode(&c, p, end);
        if (n == 0) { /* cells are valid UTF-8 */
            p++;
            continue;
        }
        kind k = kind_of(c);
        if (k == LETTER || k == DIGIT) {
            bool digits;
            const char *e = word_end(p, end, &digits);
            FM_TRY(strip_word(t, p, (size_t)(e - p), digits));
            p = e;
        } else if (k == SINGLE) {
            size_t stop;
            FM_TRY(longest_stop(t, p, end, &stop));
            t->n_stop += stop > 0;
            if (stop) {
                fm_str_putc(t->out, ' ');
            } else {
                fm_str_append(t->out, p, (size_t)n);
            }
            p += stop ? stop : (size_t)n;
        } else {
            bool mark = k != BLANK && t->o->punctuation;
            t->n_marks += mark;
            fm_str_append(t->out, mark ? " " : p, mark ? 1 : (size_t)n);
            p += n;
        }
    }
    return fm_str_check(t->out);
}

static fm_status strip_row(fm_step_ctx *x, fm_rec *r) {
    stripper t = {.o = x->step->opt, .s = x->step->state, .out = &x->tmp[0], .word = &x->tmp[1]};
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, t.o->column, &c));
    if (!c) {
        return FM_OK;
    }
    fm_str_clear(t.out);
    FM_TRY(strip(&t, c->text));
    if (t.n_stop + t.n_marks + t.n_digits == 0) {
        return FM_OK;
    }
    fm_str_clear(t.word);
    FM_TRY(fm_textnorm(t.word, (fm_sv){t.out->data, t.out->len}, FM_NORM_SPACES));
    FM_TRY(fm_cell_set_text(x->arena, c, t.word->data ? t.word->data : "", t.word->len));
    FM_TRY(fm_step_count(x, "stop words", t.n_stop));
    FM_TRY(fm_step_count(x, "punctuation", t.n_marks));
    FM_TRY(fm_step_count(x, "numbers", t.n_digits));
    return t.word->len == 0 ? fm_step_drop(x, r, "nothing left", NULL) : FM_OK;
}

const fm_step_def fm_step_strip_words = {
    .name = "strip-words",
    .help = "takes out stop words and punctuation, for classifiers over words",
    .about =
        "Not for texts that a language model learns from. Case does not matter and stays. Chinese is not split\n"
        "into words: the longest stop word at each place goes, so give a list of your own where single characters\n"
        "must stay.",
    .examples = "fathom data strip-words -i reviews.jsonl -o words.jsonl --keep-words not,no\n"
                "fathom data strip-words -i zh.jsonl -o words.jsonl --stop-words zh,own.txt --digits",
    .options = rows,
    .options_bytes = sizeof(strip_options),
    .open = strip_open,
    .close = strip_close,
    .row = strip_row,
};
