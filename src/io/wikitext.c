/* Wikitext to text: see wikitext.h.
 *
 * First comments and elements that are no text go. One pass with a stack then finds which {{, [[, {| and -{ end where,
 * so that the second pass, which writes, never searches for an end. */
#include "io/wikitext.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/jsonl.h"

#define MAX_DEPTH 60

typedef struct fm_wiki_pair {
    size_t begin, end; /* of the opening and of the closing mark; end 0: none */
    size_t up;         /* the pair around it on the stack while they are found */
    char kind;         /* '{', '[', '|' (table), '-' */
} pair;

void fm_wikitext_free(fm_wikitext *w) {
    fm_str_free(&w->text);
    fm_str_free(&w->categories);
    fm_str_free(&w->raw);
    fm_str_free(&w->buf);
    fm_free(w->pair);
    memset(w, 0, sizeof *w);
}

static bool starts(const char *p, const char *end, const char *s) {
    size_t n = strlen(s);
    return (size_t)(end - p) >= n && strncasecmp(p, s, n) == 0;
}

bool fm_wikitext_is_redirect(const char *p, size_t n) {
    const char *end = p + n;
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) {
        p++;
    }
    return starts(p, end, "#redirect") || starts(p, end, "#重定向") || starts(p, end, "#weiterleitung") ||
           starts(p, end, "#redirección") || starts(p, end, "#redirection") || starts(p, end, "#перенаправление") ||
           starts(p, end, "#転送") || starts(p, end, "#넘겨주기");
}

/* ---- elements --------------------------------------------------------------------------------- */

/* Elements whose content is no text of the article. */
static const char *const dropped[] = {"ref",   "gallery",         "timeline", "imagemap", "score",   "hiero",
                                      "graph", "templatestyles",  "mapframe", "maplink",  "section", "references",
                                      "chem",  "categorytree",    "inputbox", "ce",       "phonos",  "indicator",
                                      "style", "syntaxhighlight", "source"};

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static size_t name_length(const char *p, const char *end) {
    size_t n = 0;
    while (p + n < end && (is_letter(p[n]) || (n && p[n] >= '0' && p[n] <= '9'))) {
        n++;
    }
    return n;
}

/* Where "</name" begins, or NULL. */
static const char *find_close(const char *p, const char *end, const char *name, size_t n) {
    while ((p = memchr(p, '<', (size_t)(end - p))) != NULL) {
        if (end - p >= (ptrdiff_t)n + 2 && p[1] == '/' && strncasecmp(p + 2, name, n) == 0) {
            return p;
        }
        p++;
    }
    return NULL;
}

static const char *find(const char *p, const char *end, const char *what) {
    return p < end ? memmem(p, (size_t)(end - p), what, strlen(what)) : NULL;
}

/* An element at p ('<'); returns what is behind it, p itself when it is none. */
static const char *element(fm_str *out, const char *p, const char *end, bool *unclosed) {
    const char *name = p + 1 + (p + 1 < end && p[1] == '/');
    size_t n = name_length(name, end);
    const char *gt = n ? memchr(name + n, '>', FM_MIN((size_t)(end - name - (ptrdiff_t)n), (size_t)4096)) : NULL;
    if (!gt) {
        return p;
    }
    const char *behind = gt + 1;
    if (name != p + 1) { /* an end by itself */
        return behind;
    }
    bool empty = gt[-1] == '/';
    for (size_t i = 0; i < FM_ARRAY_LEN(dropped); i++) {
        if (strlen(dropped[i]) == n && strncasecmp(name, dropped[i], n) == 0) {
            const char *close = empty || unclosed[i] ? NULL : find_close(behind, end, name, n);
            if (!close) {
                unclosed[i] = unclosed[i] || !empty; /* none further on either: do not look again */
                return behind;
            }
            gt = memchr(close, '>', (size_t)(end - close));
            return gt ? gt + 1 : end;
        }
    }
    if (n == 6 && strncasecmp(name, "nowiki", n) == 0 && !empty) {
        const char *close = find_close(behind, end, name, n);
        for (; close && behind < close; behind++) { /* marks lose their meaning: a zero byte between two of them */
            fm_str_putc(out, *behind);
            if (strchr("{[]}'=-|", *behind) && *behind) {
                fm_str_putc(out, '\0');
            }
        }
        return behind;
    }
    if ((n == 2 && strncasecmp(name, "br", 2) == 0) || (n == 1 && (*name | 32) == 'p') ||
        (n == 3 && strncasecmp(name, "div", 3) == 0)) {
        fm_str_putc(out, '\n');
    }
    return behind;
}

/* Comments and elements. */
static void strip_elements(fm_str *out, const char *p, size_t n) {
    const char *end = p + n;
    bool unclosed[FM_ARRAY_LEN(dropped)] = {false};
    while (p < end) {
        const char *lt = memchr(p, '<', (size_t)(end - p));
        const char *stop = lt ? lt : end;
        for (const char *z; (z = memchr(p, '\0', (size_t)(stop - p))) != NULL; p = z + 1) {
            fm_str_append(out, p, (size_t)(z - p));
        }
        fm_str_append(out, p, (size_t)(stop - p));
        if (!lt) {
            return;
        }
        if (starts(lt, end, "<!--")) {
            const char *close = find(lt + 4, end, "-->");
            p = close ? close + 3 : end;
            continue;
        }
        const char *behind = element(out, lt, end, unclosed);
        if (behind == lt) {
            fm_str_putc(out, '<');
            behind++;
        }
        p = behind;
    }
}

/* ---- what ends where -------------------------------------------------------------------------- */

static fm_status find_pairs(fm_wikitext *w) {
    const char *p = w->raw.data;
    size_t n = w->raw.len, top = SIZE_MAX;
    size_t open[128] = {0}; /* how many of a kind are on the stack */
    w->n_pairs = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        char a = p[i], b = p[i + 1];
        bool line = i == 0 || p[i - 1] == '\n';
        char begins = a == '{' && b == '{' ? '{' : a == '[' && b == '[' ? '[' : a == '-' && b == '{' ? '-' : '\0';
        if (a == '{' && b == '|') {
            size_t k = i;
            while (k > 0 && (p[k - 1] == ' ' || p[k - 1] == ':' || p[k - 1] == '\t')) {
                k--;
            }
            begins = line || k == 0 || p[k - 1] == '\n' ? '|' : '\0';
        }
        char ends = a == '}' && b == '}'                                                   ? '{'
                    : a == ']' && b == ']'                                                 ? '['
                    : a == '}' && b == '-'                                                 ? '-'
                    : a == '|' && b == '}' && (i + 2 == n || p[i + 2] != '}' || open['|']) ? '|'
                                                                                           : '\0';
        if (ends == '{' && open['{'] == 0 && open['-'] && i + 2 < n && p[i + 2] == '-') {
            continue; /* "}}-" after "-{": the second brace closes */
        }
        if (ends && open[(int)ends]) {
            while (w->pair[top].kind != ends) { /* what was opened inside and not closed is no mark */
                open[(int)w->pair[top].kind]--;
                top = w->pair[top].up;
            }
            w->pair[top].end = i;
            open[(int)ends]--;
            top = w->pair[top].up;
            i++;
        } else if (begins) {
            void *q = w->pair;
            FM_TRY(fm_grow(&q, &w->pairs_cap, w->n_pairs + 1, sizeof *w->pair));
            w->pair = q;
            w->pair[w->n_pairs] = (pair){.begin = i, .up = top, .kind = begins};
            top = w->n_pairs++;
            open[(int)begins]++;
            i++;
        }
    }
    return FM_OK;
}

/* The pair that begins at `at` and is closed, or NULL. */
static const pair *pair_at(const fm_wikitext *w, size_t at) {
    size_t lo = 0, hi = w->n_pairs;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (w->pair[mid].begin < at) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < w->n_pairs && w->pair[lo].begin == at && w->pair[lo].end ? &w->pair[lo] : NULL;
}

/* ---- writing ---------------------------------------------------------------------------------- */

static void run(fm_wikitext *w, size_t from, size_t to, int depth);

/* The next '|' at this level from `at` on, or `to`. */
static size_t next_bar(const fm_wikitext *w, size_t at, size_t to) {
    const char *p = w->raw.data;
    while (at < to && p[at] != '|') {
        const pair *k = p[at] == '{' || p[at] == '[' || p[at] == '-' ? pair_at(w, at) : NULL;
        at = k && k->end < to ? k->end + 2 : at + 1;
    }
    return at;
}

static bool word_is(const char *p, size_t n, const char *list) {
    while (n && (*p == ' ' || *p == '\n')) {
        p++;
        n--;
    }
    while (n && (p[n - 1] == ' ' || p[n - 1] == '\n')) {
        n--;
    }
    for (const char *l = list; *l;) {
        size_t k = strcspn(l, "|");
        if (k == n && strncasecmp(l, p, n) == 0) {
            return true;
        }
        l += k + (l[k] != '\0');
    }
    return false;
}

/* Templates that stand for one of their arguments; `arg` from 1. */
static const struct {
    const char *names;
    int arg;
} kept[] = {
    {"nowrap|nobr|small|big|abbr|tooltip|ruby|bo|quote|cquote|blockquote|em|strong|sic|as "
     "written|nihongo|langnf|zh-hans|"
     "link-en|internal link helper/en|le|tsl-text|color box text|underline|sub|sup|keep|noitalic|linktext|bdo|midsize",
     1},
    {"lang|lang-x|le-text|color|font color|transliteration|transl|script|nts-text|rtl-lang|lang2|ill-text", 2},
};

/* {{name|arg|...}} */
static void template_(fm_wikitext *w, const pair *k, int depth) {
    const char *p = w->raw.data;
    size_t to = k->end, at = k->begin + 2, bar = next_bar(w, at, to);
    const char *name = p + at;
    size_t n = bar - at;
    int want = 0;
    for (size_t i = 0; i < FM_ARRAY_LEN(kept) && !want; i++) {
        want = word_is(name, n, kept[i].names) ? kept[i].arg : 0;
    }
    bool convert = word_is(name, n, "convert|cvt");
    for (int arg = 1; bar < to && (want || convert); arg++) {
        at = bar + 1;
        bar = next_bar(w, at, to);
        if (arg == want) {
            const char *eq = memchr(p + at, '=', FM_MIN(bar - at, (size_t)4)); /* "1=text" */
            run(w, eq && eq > p + at ? (size_t)(eq - p) + 1 : at, bar, depth + 1);
            return;
        }
        if (convert && arg <= 2) { /* {{convert|5|km|mi}}: 5 km */
            if (arg == 2) {
                fm_str_putc(&w->text, ' ');
            }
            run(w, at, bar, depth + 1);
        }
    }
}

/* Is the part before ':' a namespace of files or categories? Their names in the larger Wikipedias. */
static int link_space(const char *p, size_t n) {
    const char *colon = memchr(p, ':', n);
    if (!colon) {
        return 0;
    }
    size_t k = (size_t)(colon - p);
    if (word_is(
            p, k,
            "category|kategorie|categoría|categoria|catégorie|категория|kategorija|カテゴリ|분류|分类|分類|categorie|"
            "kategoria|kategori|thể loại|تصنيف|หมวดหมู่|श्रेणी")) {
        return 1;
    }
    return word_is(
               p, k,
               "file|image|datei|bild|archivo|imagen|fichier|файл|изображение|ファイル|画像|파일|그림|文件|档案|檔案|"
               "图像|圖像|imagem|ficheiro|bestand|afbeelding|plik|attēls|fails|media|tập tin|ملف")
               ? 2
               : 0;
}

static void add_category(fm_wikitext *w, const char *p, size_t n) {
    const char *bar = memchr(p, '|', n);
    n = bar ? (size_t)(bar - p) : n;
    while (n && (*p == ' ')) {
        p++;
        n--;
    }
    while (n && p[n - 1] == ' ') {
        n--;
    }
    if (n && !memchr(p, '\0', n)) {
        fm_str_puts(&w->categories, w->categories.len ? "," : "[");
        fm_jsonl_put_text(&w->categories, p, n);
    }
}

/* Two or three small letters and a colon: the page in another language. */
static bool is_interwiki(const char *p, size_t n) {
    size_t k = 0;
    while (k < n && ((p[k] >= 'a' && p[k] <= 'z') || (k > 1 && p[k] == '-'))) {
        k++;
    }
    return k >= 2 && k <= 12 && k < n && p[k] == ':' && k + 1 < n && p[k + 1] != ' ' && (k <= 3 || memchr(p, '-', k));
}

/* [[page|text]] */
static void link_(fm_wikitext *w, const pair *k, int depth) {
    const char *p = w->raw.data;
    size_t at = k->begin + 2, to = k->end, bar = next_bar(w, at, to);
    int space = link_space(p + at, bar - at);
    if (space) {
        if (space == 1) {
            const char *colon = memchr(p + at, ':', bar - at);
            add_category(w, colon + 1, (size_t)(p + to - colon - 1));
        }
        return;
    }
    if (bar == to && is_interwiki(p + at, to - at)) {
        return;
    }
    size_t last = bar;
    while (bar < to) { /* the text is behind the last bar */
        last = bar;
        bar = next_bar(w, bar + 1, to);
    }
    if (last < to && last + 1 < to) {
        run(w, last + 1, to, depth + 1);
        return;
    }
    at += at < to && p[at] == ':';
    size_t stop = last;
    if (last < to) { /* "[[Name (kind)|]]" stands for Name */
        const char *paren = memchr(p + at, '(', last - at);
        stop = paren && paren > p + at ? (size_t)(paren - p) : last;
        while (stop > at && p[stop - 1] == ' ') {
            stop--;
        }
    }
    run(w, at, stop, depth + 1);
}

/* -{zh-hans:a;zh-hant:b}- or -{text}- */
static void variant(fm_wikitext *w, const pair *k, int depth) {
    const char *p = w->raw.data;
    size_t at = k->begin + 2, to = k->end, best = at, best_end = to;
    const char *bar = memchr(p + at, '|', FM_MIN(to - at, (size_t)4)); /* flags: "H|", "zh-hans|" */
    if (bar) {
        if (memchr(p + at, 'H', (size_t)(bar - p) - at) || memchr(p + at, 'T', (size_t)(bar - p) - at)) {
            return; /* a rule or title, not text */
        }
        best = at = (size_t)(bar - p) + 1;
    }
    static const char *const order[] = {"zh-hans:", "zh-cn:", "zh:", "zh-sg:", "zh-hant:", "zh-tw:", "zh-hk:"};
    size_t rank = FM_ARRAY_LEN(order);
    for (size_t i = at; i < to;) {
        const char *semi = memchr(p + i, ';', to - i);
        size_t stop = semi ? (size_t)(semi - p) : to, from = i;
        while (from < stop && (p[from] == ' ' || p[from] == '\n')) {
            from++;
        }
        for (size_t r = 0; r < rank; r++) {
            if (starts(p + from, p + stop, order[r])) {
                rank = r;
                best = from + strlen(order[r]);
                best_end = stop;
            }
        }
        i = stop + 1;
    }
    run(w, best, best_end, depth + 1);
}

/* "[http://x text]" at i; returns what is behind it, i itself when it is none. */
static size_t outer_link(fm_wikitext *w, size_t i, size_t to, int depth) {
    const char *p = w->raw.data, *end = p + to;
    if (!starts(p + i + 1, end, "http://") && !starts(p + i + 1, end, "https://") && !starts(p + i + 1, end, "//") &&
        !starts(p + i + 1, end, "ftp://") && !starts(p + i + 1, end, "mailto:")) {
        return i;
    }
    size_t stop = i + 1;
    while (stop < to && p[stop] != ']' && p[stop] != '\n') {
        const pair *k = p[stop] == '{' || p[stop] == '[' ? pair_at(w, stop) : NULL;
        stop = k && k->end < to ? k->end + 2 : stop + 1;
    }
    if (stop >= to || p[stop] != ']') {
        return i;
    }
    const char *blank = memchr(p + i, ' ', stop - i);
    if (blank) {
        run(w, (size_t)(blank - p) + 1, stop, depth + 1);
    }
    return stop + 1;
}

/* Writes raw[from..to). */
static void run(fm_wikitext *w, size_t from, size_t to, int depth) {
    const char *p = w->raw.data;
    if (depth > MAX_DEPTH) {
        return;
    }
    for (size_t i = from; i < to;) {
        size_t plain = i;
        while (plain < to && p[plain] != '{' && p[plain] != '[' && p[plain] != '\'' && p[plain] != '-' &&
               p[plain] != '_' && p[plain] != ']' && p[plain] != '}') {
            plain++;
        }
        fm_str_append(&w->text, p + i, plain - i);
        i = plain;
        if (i >= to) {
            return;
        }
        const pair *k = p[i] == '{' || p[i] == '[' || p[i] == '-' ? pair_at(w, i) : NULL;
        if (k && k->end + 2 <= to) {
            if (k->kind == '{') {
                template_(w, k, depth);
            } else if (k->kind == '[') {
                link_(w, k, depth);
            } else if (k->kind == '-') {
                variant(w, k, depth);
            }
            i = k->end + 2;
            continue;
        }
        if (p[i] == '[') {
            size_t behind = outer_link(w, i, to, depth);
            if (behind > i) {
                i = behind;
                continue;
            }
        }
        if (p[i] == '\'' && i + 1 < to && p[i + 1] == '\'') {
            while (i < to && p[i] == '\'') {
                i++;
            }
            continue;
        }
        if (p[i] == '_' && i + 1 < to && p[i + 1] == '_') { /* __TOC__ */
            size_t e = i + 2;
            while (e < to && is_letter(p[e])) {
                e++;
            }
            if (e > i + 2 && e + 1 < to && p[e] == '_' && p[e + 1] == '_') {
                i = e + 2;
                continue;
            }
        }
        bool doubled = i + 1 < to && p[i + 1] == p[i] && strchr("{}[]", p[i]);
        if (doubled) { /* an opening or closing that has no partner */
            i += 2;
            continue;
        }
        fm_str_putc(&w->text, p[i]);
        i++;
    }
}

/* ---- lines and characters --------------------------------------------------------------------- */

static const struct {
    const char *name, *text;
} entities[] = {
    {"nbsp", " "},  {"amp", "&"},   {"lt", "<"},     {"gt", ">"},     {"quot", "\""}, {"apos", "'"},  {"ndash", "–"},
    {"mdash", "—"}, {"minus", "−"}, {"hellip", "…"}, {"thinsp", " "}, {"ensp", " "},  {"emsp", " "},  {"middot", "·"},
    {"bull", "•"},  {"deg", "°"},   {"times", "×"},  {"laquo", "«"},  {"raquo", "»"}, {"lsquo", "‘"}, {"rsquo", "’"},
    {"ldquo", "“"}, {"rdquo", "”"}, {"shy", ""},     {"zwj", ""},     {"zwnj", ""},   {"prime", "′"}, {"euro", "€"},
    {"pound", "£"}, {"sup2", "²"},  {"frac12", "½"}, {"plusmn", "±"},
};

/* A character reference at p ('&'); its length, or 0. */
static size_t entity(fm_str *out, const char *p, const char *end) {
    const char *semi = memchr(p, ';', FM_MIN((size_t)(end - p), (size_t)12));
    if (!semi || semi == p + 1) {
        return 0;
    }
    size_t n = (size_t)(semi - p);
    if (p[1] == '#') {
        bool hex = n > 2 && (p[2] | 32) == 'x';
        uint32_t c = 0;
        char utf8[4];
        for (const char *q = p + 2 + hex; q < semi; q++) {
            int d = *q >= '0' && *q <= '9'                        ? *q - '0'
                    : hex && (*q | 32) >= 'a' && (*q | 32) <= 'f' ? (*q | 32) - 87
                                                                  : -1;
            if (d < 0) {
                return 0;
            }
            c = c * (hex ? 16 : 10) + (uint32_t)d;
        }
        int k = c >= 32 || c == 10 ? fm_utf8_encode(utf8, c) : 0;
        fm_str_append(out, utf8, (size_t)k);
        return n + 1;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(entities); i++) {
        if (strlen(entities[i].name) == n - 1 && memcmp(entities[i].name, p + 1, n - 1) == 0) {
            fm_str_puts(out, entities[i].text);
            return n + 1;
        }
    }
    return 0;
}

/* What a template took away leaves brackets around nothing: "Toronto (, )". True when the ')' that comes now closes
 * such a pair, which is then gone. */
static bool drop_empty_brackets(fm_str *out, size_t at) {
    size_t i = out->len;
    while (i > at && strchr(" ,;:/", out->data[i - 1])) {
        i--;
    }
    if (i == at || out->data[i - 1] != '(') {
        if (i < out->len && i > at) { /* "(one, )" */
            out->len = i;
        }
        return false;
    }
    i--;
    while (i > at && out->data[i - 1] == ' ') {
        i--;
    }
    out->len = i;
    out->data[i] = '\0';
    return true;
}

/* A line's text with references resolved and blanks in runs of one. */
static void put_line(fm_str *out, const char *p, const char *end) {
    size_t at = out->len;
    while (p < end) {
        if (*p == '&') {
            size_t before = out->len, k = entity(out, p, end);
            bool blank = !out->failed && out->len == before + 1 && out->data[before] == ' ';
            if (blank && (before == at || out->data[before - 1] == ' ')) {
                out->data[--out->len] = '\0';
            }
            if (k) {
                p += k;
                continue;
            }
        }
        bool blank = *p == ' ' || *p == '\t' || *p == '\0' || *p == '\r';
        bool after = out->len == at || (out->len && out->data[out->len - 1] == ' ');
        if (*p == ')' && !out->failed && out->len > at && drop_empty_brackets(out, at)) {
            p++;
            continue;
        }
        if (*p && !(blank && after)) {
            fm_str_putc(out, blank ? ' ' : *p);
        }
        p++;
    }
    while (out->len > at && !out->failed && out->data[out->len - 1] == ' ') {
        out->data[--out->len] = '\0';
    }
}

/* 1 .. 6 for a line "== x ==", with p and end moved inside; else 0. */
static int heading(const char **p, const char **end) {
    const char *a = *p, *b = *end;
    while (b > a && (b[-1] == ' ' || b[-1] == '\t' || b[-1] == '\r')) {
        b--;
    }
    int level = 0;
    while (level < 6 && b - a > 2 && *a == '=' && b[-1] == '=') {
        a++;
        b--;
        level++;
    }
    if (level) {
        *p = a;
        *end = b;
    }
    return level;
}

/* Headings wait until something stands under them. */
typedef struct writer {
    fm_str *out;
    fm_str waiting;
    int levels[8];
    size_t starts[8];
    int n;
    bool gap; /* an empty line is due */
} writer;

static void put_heading(writer *k, int level, const char *p, const char *end) {
    while (k->n && k->levels[k->n - 1] >= level) {
        k->waiting.len = k->starts[--k->n];
    }
    if (k->n < 8) {
        k->levels[k->n] = level;
        k->starts[k->n++] = k->waiting.len;
        put_line(&k->waiting, p, end);
        fm_str_putc(&k->waiting, '\n');
    }
    k->gap = true;
}

static void put_text_line(writer *k, const char *p, const char *end) {
    const char *mark = p;
    while (p < end && (*p == '*' || *p == '#' || *p == ':' || *p == ';' || *p == ' ')) {
        p++;
    }
    bool item = memchr(mark, '*', (size_t)(p - mark)) || memchr(mark, '#', (size_t)(p - mark));
    fm_str *out = k->out;
    size_t before = out->len;
    for (size_t at = 0; k->n && at < k->waiting.len;) { /* headings, each a paragraph */
        const char *nl = memchr(k->waiting.data + at, '\n', k->waiting.len - at);
        fm_str_puts(out, out->len ? "\n\n" : "");
        fm_str_append(out, k->waiting.data + at, (size_t)(nl - k->waiting.data) - at);
        at = (size_t)(nl - k->waiting.data) + 1;
        k->gap = true;
    }
    fm_str_puts(out, !out->len ? "" : k->gap ? "\n\n" : "\n");
    size_t begun = out->len;
    fm_str_puts(out, item ? "- " : "");
    put_line(out, p, end);
    if (out->failed) {
        return;
    }
    size_t got = out->len - begun - (item ? 2 : 0);
    bool marks_only = true; /* what a template left: "()", ",": no line */
    for (size_t i = out->len - got; i < out->len; i++) {
        marks_only = marks_only && strchr("(),.;:-*| ", out->data[i]);
    }
    if (marks_only) {
        out->len = before;
        if (out->data) {
            out->data[out->len] = '\0';
        }
        return;
    }
    k->n = 0;
    out->failed = out->failed || k->waiting.failed;
    fm_str_clear(&k->waiting);
    k->gap = false;
}

static fm_status put_lines(fm_wikitext *w) {
    writer k = {.out = &w->buf};
    const char *p = w->text.data ? w->text.data : "", *end = p + w->text.len;
    fm_str_clear(&w->buf);
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end, *a = p, *b = stop;
        int level = *p == '=' ? heading(&a, &b) : 0;
        bool blank = true;
        for (const char *q = a; q < b && blank; q++) {
            blank = *q == ' ' || *q == '\t' || *q == '\r' || *q == '\0';
        }
        if (level) {
            put_heading(&k, level, a, b);
        } else if (blank) {
            k.gap = true;
        } else {
            put_text_line(&k, a, b);
        }
        p = nl ? nl + 1 : end;
    }
    fm_status s = fm_str_check(&k.waiting);
    fm_str_free(&k.waiting);
    FM_TRY(s);
    FM_TRY(fm_str_check(&w->buf));
    fm_str swap = w->text;
    w->text = w->buf;
    w->buf = swap;
    return FM_OK;
}

fm_status fm_wikitext_plain(fm_wikitext *w, const char *p, size_t n) {
    fm_str_clear(&w->text);
    fm_str_clear(&w->categories);
    fm_str_clear(&w->raw);
    strip_elements(&w->raw, p, n);
    FM_TRY(fm_str_check(&w->raw));
    if (w->raw.len == 0) {
        return FM_OK;
    }
    FM_TRY(find_pairs(w));
    run(w, 0, w->raw.len, 0);
    FM_TRY(fm_str_check(&w->text));
    if (w->categories.len) {
        fm_str_putc(&w->categories, ']');
    }
    FM_TRY(fm_str_check(&w->categories));
    return put_lines(w);
}
