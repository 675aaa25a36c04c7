/* Cutting texts into tokens the way published metrics do. Rules come from their definitions: mteval-v13a and -v14 and
 * the Chinese rule as sacrebleu 2 applies them, words as rouge-score 0.1 applies them. A regular expression that is
 * replaced everywhere is one pass over the code points. */
#include <string.h>

#include "eval/metric.h"
#include "text/unicode.h"

static const char *const cut_names[] = {"default", "none", "13a", "intl", "zh", "char", "word", "mixed"};

const char *fm_cut_name(fm_cut c) {
    return (size_t)c < FM_ARRAY_LEN(cut_names) ? cut_names[c] : "?";
}

bool fm_cut_parse(fm_cut *out, const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(cut_names); i++) {
        if (strcmp(cut_names[i], name) == 0) {
            *out = (fm_cut)i;
            return true;
        }
    }
    return false;
}

void fm_cut_text_deinit(fm_cut_text *c) {
    fm_str_free(&c->text);
    fm_free(c->token);
    fm_free(c->cp);
    fm_free(c->cp2);
    *c = (fm_cut_text){0};
}

/* What Python's str.split() takes for blanks: white space and the ASCII separators. */
static bool is_blank(uint32_t c) {
    return (c >= 0x1C && c <= 0x1F) || (fm_uni_class(c) & FM_UNI_Z) != 0;
}
static bool is_digit(uint32_t c) {
    return c >= '0' && c <= '9';
}

/* ---- code point buffers ---- */

typedef struct points {
    uint32_t *p;
    size_t n;
} points;

/* A pass writes at most `factor` code points for each one it reads. */
static fm_status room(uint32_t **p, size_t *cap, size_t n, size_t factor) {
    if (n > SIZE_MAX / 16) {
        FM_FAIL(FM_ERR_NO_MEMORY, "a text of %zu characters is too long", n);
    }
    return fm_grow((void **)p, cap, n * factor + 8, sizeof **p);
}

/* Lower case by the full rules where a text can meet them: I with a dot gets two code points, a last sigma its own
 * form. */
static size_t lower(uint32_t *out, uint32_t cp, uint32_t before, const uint8_t *next, const uint8_t *end) {
    uint32_t after = 0;
    switch (cp) {
    case 0x130:
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    case 0x3A3:
        if (next < end) {
            (void)fm_uni_next(&after, next, end);
        }
        out[0] = (fm_uni_class(before) & FM_UNI_L) && !(fm_uni_class(after) & FM_UNI_L) ? 0x3C2 : 0x3C3;
        return 1;
    default:
        out[0] = fm_utf8_lower(cp);
        return 1;
    }
}

static fm_status decode(fm_cut_text *c, fm_text text, points *out, bool lowercase) {
    FM_TRY(room(&c->cp, &c->cap_cp, text.len, 1)); /* a character of two code points has two bytes or more */
    const uint8_t *p = (const uint8_t *)text.ptr, *end = p + text.len;
    size_t n = 0;
    uint32_t cp = 0, before = 0;
    while (p < end) {
        before = cp;
        p += fm_uni_next(&cp, p, end);
        if (lowercase) {
            n += lower(c->cp + n, cp, before, p, end);
        } else {
            c->cp[n++] = cp;
        }
    }
    while (n > 0 && is_blank(c->cp[n - 1])) {
        n--;
    }
    *out = (points){c->cp, n};
    return FM_OK;
}

/* Swaps the buffers: what a pass wrote is what the next one reads. */
static void swap(fm_cut_text *c, points *x, size_t n) {
    FM_ASSERT(x->p == c->cp);
    uint32_t *p = c->cp;
    size_t cap = c->cap_cp;
    c->cp = c->cp2;
    c->cap_cp = c->cap_cp2;
    c->cp2 = p;
    c->cap_cp2 = cap;
    *x = (points){c->cp, n};
}

/* ---- passes ---- */

static bool in_set(uint32_t c, const void *what) {
    return strchr(what, (int)c) != NULL;
}
static bool starts(points x, size_t i, const char *word) {
    for (; *word; word++, i++) {
        if (i >= x.n || x.p[i] != (uint32_t)(unsigned char)*word) {
            return false;
        }
    }
    return true;
}

/* "<skipped>" and hyphens at line ends vanish, line ends become blanks, entities characters. */
static fm_status clean_13a(fm_cut_text *c, points *x) {
    static const struct {
        const char *from;
        uint32_t to; /* 0 = nothing */
    } rule[] = {{"<skipped>", 0}, {"-\n", 0}, {"\n", ' '}};
    static const struct {
        const char *from;
        uint32_t to;
    } entity[] = {{"&quot;", '"'}, {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}};
    /* One pass a rule: a later rule sees what an earlier one made ("&amp;lt;" ends as "<"). */
    for (size_t r = 0; r < FM_ARRAY_LEN(rule) + FM_ARRAY_LEN(entity); r++) {
        bool e = r >= FM_ARRAY_LEN(rule);
        const char *from = e ? entity[r - FM_ARRAY_LEN(rule)].from : rule[r].from;
        uint32_t to = e ? entity[r - FM_ARRAY_LEN(rule)].to : rule[r].to;
        size_t n = 0, len = strlen(from);
        FM_TRY(room(&c->cp2, &c->cap_cp2, x->n, 1));
        for (size_t i = 0; i < x->n;) {
            if (starts(*x, i, from)) {
                i += len;
                if (to) {
                    c->cp2[n++] = to;
                }
            } else {
                c->cp2[n++] = x->p[i++];
            }
        }
        swap(c, x, n);
    }
    return FM_OK;
}

/* Blanks around every character that `is` holds for. */
static fm_status isolate(fm_cut_text *c, points *x, bool (*is)(uint32_t)) {
    size_t n = 0;
    FM_TRY(room(&c->cp2, &c->cap_cp2, x->n, 3));
    for (size_t i = 0; i < x->n; i++) {
        bool hit = is(x->p[i]);
        if (hit) {
            c->cp2[n++] = ' ';
        }
        c->cp2[n++] = x->p[i];
        if (hit) {
            c->cp2[n++] = ' ';
        }
    }
    swap(c, x, n);
    return FM_OK;
}

/* Pairs (a, b), not overlapping: "a b " when `after`, else " a b". */
static fm_status part_pairs(fm_cut_text *c, points *x, bool (*a)(uint32_t), bool (*b)(uint32_t), bool after) {
    size_t n = 0;
    FM_TRY(room(&c->cp2, &c->cap_cp2, x->n, 2));
    for (size_t i = 0; i < x->n;) {
        if (i + 1 < x->n && a(x->p[i]) && b(x->p[i + 1])) {
            if (!after) {
                c->cp2[n++] = ' ';
            }
            c->cp2[n++] = x->p[i];
            c->cp2[n++] = ' ';
            c->cp2[n++] = x->p[i + 1];
            if (after) {
                c->cp2[n++] = ' ';
            }
            i += 2;
        } else {
            c->cp2[n++] = x->p[i++];
        }
    }
    swap(c, x, n);
    return FM_OK;
}

static bool latin_mark(uint32_t c) { /* [{-~[-` -&(-+:-@/] */
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
           (c >= ':' && c <= '@') || c == '/';
}
static bool not_digit(uint32_t c) {
    return !is_digit(c);
}
static bool period_comma(uint32_t c) {
    return c != 0 && c < 128 && in_set(c, ".,");
}
static bool hyphen(uint32_t c) {
    return c == '-';
}
static bool is_number(uint32_t c) {
    return (fm_uni_class(c) & FM_UNI_N) != 0;
}
static bool not_number(uint32_t c) {
    return !is_number(c);
}
static bool is_punct(uint32_t c) {
    return (fm_uni_class(c) & FM_UNI_P) != 0;
}
static bool is_symbol(uint32_t c) {
    return (fm_uni_class(c) & FM_UNI_S) != 0;
}

static fm_status latin_passes(fm_cut_text *c, points *x) {
    FM_TRY(isolate(c, x, latin_mark));
    FM_TRY(part_pairs(c, x, not_digit, period_comma, true));
    FM_TRY(part_pairs(c, x, period_comma, not_digit, false));
    return part_pairs(c, x, is_digit, hyphen, true);
}

/* sacrebleu writes the ranges beyond the basic plane as two characters each; what it compares is this. */
static bool is_zh(uint32_t c) {
    static const uint32_t range[][2] = {{0x2001, 0x2A6D}, {0x2E80, 0x2FDF}, {0x2FF0, 0x303F}, {0x3100, 0x312F},
                                        {0x31A0, 0x31EF}, {0x3200, 0x4DB5}, {0x4E00, 0x9FBB}, {0xF900, 0xFA2D},
                                        {0xFA30, 0xFA6A}, {0xFA70, 0xFAD9}, {0xFE10, 0xFE1F}, {0xFE30, 0xFE4F},
                                        {0xFF00, 0xFFEF}};
    for (size_t i = 0; i < FM_ARRAY_LEN(range); i++) {
        if (c >= range[i][0] && c <= range[i][1]) {
            return true;
        }
    }
    return false;
}

static bool any_char(uint32_t c) {
    (void)c;
    return true;
}

/* rouge-score lower-cases as Unicode does and then keeps a-z and 0-9: two characters become ASCII that way. */
static uint32_t rouge_char(uint32_t c) {
    if (c >= 'A' && c <= 'Z') {
        return c + 32;
    }
    return c == 0x212A ? 'k' : c == 0x130 ? 'i' : c;
}
static bool rouge_keeps(uint32_t c) {
    return (c >= 'a' && c <= 'z') || is_digit(c);
}

static fm_status words(fm_cut_text *c, points *x, bool mixed) {
    size_t n = 0;
    FM_TRY(room(&c->cp2, &c->cap_cp2, x->n, 3));
    for (size_t i = 0; i < x->n; i++) {
        uint32_t ch = rouge_char(x->p[i]);
        if (rouge_keeps(ch)) {
            c->cp2[n++] = ch;
            if (x->p[i] == 0x130) {
                c->cp2[n++] = ' '; /* its lower case ends with a combining dot */
            }
        } else {
            c->cp2[n++] = ' ';
            if (mixed && (fm_uni_class(ch) & (FM_UNI_L | FM_UNI_N | FM_UNI_M)) != 0) {
                c->cp2[n++] = fm_utf8_lower(ch);
                c->cp2[n++] = ' ';
            }
        }
    }
    swap(c, x, n);
    return FM_OK;
}

/* ---- tokens ---- */

static fm_status split(fm_cut_text *c, points x) {
    c->n = 0;
    fm_str_clear(&c->text);
    for (size_t i = 0; i < x.n;) {
        while (i < x.n && is_blank(x.p[i])) {
            i++;
        }
        size_t begin = c->text.len;
        for (; i < x.n && !is_blank(x.p[i]); i++) {
            char utf8[4];
            int len = fm_utf8_encode(utf8, x.p[i]);
            fm_str_append(&c->text, utf8, (size_t)len);
        }
        if (c->text.len > begin) {
            FM_TRY(fm_grow((void **)&c->token, &c->cap, c->n + 1, sizeof *c->token));
            /* The text may move while it grows: offsets now, addresses below. */
            c->token[c->n++] = (fm_sv){.ptr = NULL, .len = c->text.len - begin};
        }
    }
    FM_TRY(fm_str_check(&c->text));
    const char *at = c->text.data;
    for (size_t i = 0; i < c->n; i++) {
        c->token[i].ptr = at;
        at += c->token[i].len;
    }
    return FM_OK;
}

/* The pattern passes of 13a look at a text with a blank at each end. */
static fm_status pad(fm_cut_text *c, points *x) {
    FM_TRY(room(&c->cp2, &c->cap_cp2, x->n + 2, 1));
    c->cp2[0] = ' ';
    if (x->n > 0) {
        memcpy(c->cp2 + 1, x->p, x->n * sizeof *x->p);
    }
    c->cp2[x->n + 1] = ' ';
    swap(c, x, x->n + 2);
    return FM_OK;
}

fm_status fm_cut_run(fm_cut_text *c, fm_text text, fm_cut how, bool lowercase) {
    points x;
    FM_TRY(decode(c, text, &x, lowercase));
    switch (how) {
    case FM_CUT_13A:
        FM_TRY(clean_13a(c, &x));
        FM_TRY(pad(c, &x));
        FM_TRY(latin_passes(c, &x));
        break;
    case FM_CUT_ZH:
        while (x.n > 0 && is_blank(x.p[0])) {
            memmove(x.p, x.p + 1, --x.n * sizeof *x.p);
        }
        FM_TRY(isolate(c, &x, is_zh));
        FM_TRY(latin_passes(c, &x));
        break;
    case FM_CUT_INTL:
        FM_TRY(part_pairs(c, &x, not_number, is_punct, true));
        FM_TRY(part_pairs(c, &x, is_punct, not_number, false));
        FM_TRY(isolate(c, &x, is_symbol));
        break;
    case FM_CUT_CHAR:
        FM_TRY(isolate(c, &x, any_char));
        break;
    case FM_CUT_WORD:
    case FM_CUT_MIXED:
        FM_TRY(words(c, &x, how == FM_CUT_MIXED));
        break;
    case FM_CUT_DEFAULT:
    case FM_CUT_NONE:
        break;
    }
    return split(c, x);
}
