/* Gopher's rules on quality, C4's and FineWeb's. */
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/file.h"
#include "data/quality.h"
#include "data/textnorm.h"

static bool outside(fm_quality *q, bool is_outside, double found, double allowed) {
    if (is_outside) {
        q->found = found;
        q->allowed = allowed;
    }
    return is_outside;
}
#define ABOVE(q, found, allowed) outside(q, (allowed) != 0 && (found) > (allowed), found, allowed)
#define BELOW(q, found, allowed) outside(q, (allowed) != 0 && (found) < (allowed), found, allowed)

static size_t count_of(fm_sv v, const char *what) {
    size_t n = 0, len = strlen(what);
    for (const char *p = v.ptr, *end = p + v.len; (p = memmem(p, (size_t)(end - p), what, len)); p += len) {
        n++;
    }
    return n;
}

/* Python's str.splitlines: the next line at *p without its end. */
static fm_sv next_line(const char **p, const char *end) {
    const char *from = *p, *q = from;
    while (q < end) {
        unsigned char b = (unsigned char)*q;
        size_t n = 0;
        if ((b >= 10 && b <= 13) || (b >= 0x1C && b <= 0x1E)) {
            n = b == '\r' && q + 1 < end && q[1] == '\n' ? 2 : 1;
        } else if (b == 0xC2 && q + 1 < end && (unsigned char)q[1] == 0x85) {
            n = 2;
        } else if (b == 0xE2 && q + 2 < end && (unsigned char)q[1] == 0x80 &&
                   ((unsigned char)q[2] == 0xA8 || (unsigned char)q[2] == 0xA9)) {
            n = 3;
        }
        if (n) {
            *p = q + n;
            return (fm_sv){from, (size_t)(q - from)};
        }
        q++;
    }
    *p = end;
    return (fm_sv){from, (size_t)(end - from)};
}

static bool begins(fm_sv v, const char *with) {
    size_t n = strlen(with);
    return v.len >= n && memcmp(v.ptr, with, n) == 0;
}

/* ---- Gopher ----------------------------------------------------------------------------------- */

typedef struct word_counts {
    size_t wordy, wordy_chars, alpha; /* not of signs alone; their characters; with a letter */
    unsigned stop;                    /* which stop words are there */
} word_counts;

static void look_at_word(fm_sv w, word_counts *k) {
    bool alpha = false, wordy = false;
    size_t chars = 0;
    const char *p = w.ptr, *end = p + w.len;
    while (p < end) {
        uint32_t c = (unsigned char)*p;
        int n = c < 0x80 ? 1 : fm_utf8_decode(&c, p, end);
        p += FM_MAX(n, 1);
        chars++;
        if (c < 0x80) {
            alpha = alpha || ((c | 32) >= 'a' && (c | 32) <= 'z');
            wordy = wordy || !(fm_norm_is_punct(c) || fm_is_terminal(c));
            continue;
        }
        utf8proc_category_t g = utf8proc_category((utf8proc_int32_t)c);
        alpha = alpha || (g >= UTF8PROC_CATEGORY_LU && g <= UTF8PROC_CATEGORY_LO);
        wordy = wordy || !(fm_norm_is_punct(c) || fm_is_terminal(c));
    }
    k->alpha += alpha;
    k->wordy += wordy;
    k->wordy_chars += wordy ? chars : 0;
}

static void look_at_words(const fm_quality *q, word_counts *k) {
    static const char *const english[] = {"the", "be", "to", "of", "and", "that", "have", "with", NULL};
    static const char *const chinese[] = {"的", "是", "在", "了", "和", "有", "不", "这", "我", "为", "也", "就", NULL};
    const char *const *stop = q->chinese ? chinese : english;
    memset(k, 0, sizeof *k);
    for (size_t i = 0; i < q->words.n; i++) {
        const fm_word *w = &q->words.item[i];
        if (w->blank) {
            continue;
        }
        fm_sv v = {q->text.ptr + w->at, w->len};
        look_at_word(v, k);
        for (unsigned s = 0; v.len <= 4 && stop[s]; s++) {
            k->stop |= (unsigned)fm_sv_eq(v, stop[s]) << s;
        }
    }
}

static void look_at_lines(const fm_quality *q, size_t *n, size_t *bullets, size_t *ellipses) {
    static const char *const bullet[] = {"•", "-", "·", "●", "■", "◆", "※"};
    const char *p = q->text.ptr, *end = p + q->text.len;
    size_t kinds = q->chinese ? FM_ARRAY_LEN(bullet) : 2;
    *n = *bullets = *ellipses = 0;
    while (p < end) {
        fm_sv line = fm_quality_strip(next_line(&p, end));
        bool is_bullet = false;
        ++*n;
        for (size_t i = 0; i < kinds; i++) {
            is_bullet = is_bullet || begins(line, bullet[i]);
        }
        *bullets += is_bullet;
        *ellipses += fm_quality_ends(line, "...") || fm_quality_ends(line, "…") ||
                     (q->chinese && fm_quality_ends(line, "。。。"));
    }
}

fm_status fm_quality_gopher(fm_quality *q, const char **reason) {
    const fm_quality_limits *l = q->limit;
    word_counts k;
    *reason = NULL;
    FM_TRY(fm_quality_split(q));
    look_at_words(q, &k);
    double words = (double)q->words.n_words, wordy = (double)k.wordy;
    if (BELOW(q, wordy, l->min_doc_words)) {
        *reason = "gopher_short_doc";
        return FM_OK;
    }
    if (ABOVE(q, wordy, l->max_doc_words)) {
        *reason = "gopher_long_doc";
        return FM_OK;
    }
    double length = wordy > 0 ? (double)k.wordy_chars / wordy : 0;
    double hashes = words > 0 ? (double)count_of(q->text, "#") / words : 0;
    double dots = words > 0 ? (double)(count_of(q->text, "...") + count_of(q->text, "…")) / words : 0;
    size_t lines, bullets, ellipses;
    look_at_lines(q, &lines, &bullets, &ellipses);
    double n_lines = (double)FM_MAX(lines, (size_t)1), stop = (double)__builtin_popcount(k.stop);
    if (BELOW(q, length, l->min_avg_word_length)) {
        *reason = "gopher_below_avg_threshold";
    } else if (ABOVE(q, length, l->max_avg_word_length)) {
        *reason = "gopher_above_avg_threshold";
    } else if (ABOVE(q, hashes, l->max_symbol_word_ratio)) {
        *reason = "gopher_too_many_hashes";
    } else if (ABOVE(q, dots, l->max_symbol_word_ratio)) {
        *reason = "gopher_too_many_ellipsis";
    } else if (ABOVE(q, (double)bullets / n_lines, l->max_bullet_lines_ratio)) {
        *reason = "gopher_too_many_bullets";
    } else if (ABOVE(q, (double)ellipses / n_lines, l->max_ellipsis_lines_ratio)) {
        *reason = "gopher_too_many_end_ellipsis";
    } else if (words > 0 && BELOW(q, (double)k.alpha / words, l->max_non_alpha_words_ratio)) {
        *reason = "gopher_below_alpha_threshold";
    } else if (BELOW(q, stop, l->min_stop_words)) {
        *reason = "gopher_enough_stop_words";
    }
    return FM_OK;
}

/* ---- C4 --------------------------------------------------------------------------------------- */

/* Blank-separated words of a line, and the characters of the longest. */
static size_t line_words(fm_sv line, size_t *longest) {
    const char *p = line.ptr, *end = p + line.len;
    size_t n = 0, chars = 0;
    *longest = 0;
    while (p < end) {
        uint32_t c = (unsigned char)*p;
        int k = c < 0x80 ? 1 : fm_utf8_decode(&c, p, end);
        p += FM_MAX(k, 1);
        if (fm_is_space(c)) {
            chars = 0;
            continue;
        }
        n += chars == 0;
        chars++;
        *longest = FM_MAX(*longest, chars);
    }
    return n;
}

/* Bytes of "[12]", "[]", "[edit]" or "[citation needed]" at p, or 0. */
static size_t citation(const char *p, const char *end) {
    static const char *const word[] = {"[edit]", "[citation needed]"};
    for (size_t i = 0; i < FM_ARRAY_LEN(word); i++) {
        size_t n = strlen(word[i]);
        if ((size_t)(end - p) >= n && memcmp(p, word[i], n) == 0) {
            return n;
        }
    }
    const char *q = p + 1;
    uint32_t c;
    int k;
    while ((k = fm_utf8_decode(&c, q, end)) > 0 &&
           (c < 0x80 ? c >= '0' && c <= '9' : utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND)) {
        q += k;
    }
    return q < end && *q == ']' ? (size_t)(q + 1 - p) : 0;
}

/* The line without citations: itself, or in q->line. */
static fm_status without_citations(fm_quality *q, fm_sv *line) {
    const char *p = line->ptr, *end = p + line->len, *from = p;
    bool any = false;
    while ((p = p < end ? memchr(p, '[', (size_t)(end - p)) : NULL)) {
        size_t n = citation(p, end);
        if (n == 0) {
            p++;
            continue;
        }
        if (!any) {
            fm_str_clear(&q->line);
        }
        any = true;
        fm_str_append(&q->line, from, (size_t)(p - from));
        from = p += n;
    }
    if (!any) {
        return FM_OK;
    }
    fm_str_append(&q->line, from, (size_t)(end - from));
    FM_TRY(fm_str_check(&q->line));
    *line = (fm_sv){q->line.data ? q->line.data : "", q->line.len};
    return FM_OK;
}

/* Finds an ASCII phrase without regard to case. */
static bool mentions(fm_sv line, const char *phrase) {
    size_t n = strlen(phrase);
    for (size_t i = 0; i + n <= line.len; i++) {
        size_t k = 0;
        while (k < n && (line.ptr[i + k] | (line.ptr[i + k] >= 'A' && line.ptr[i + k] <= 'Z' ? 32 : 0)) == phrase[k]) {
            k++;
        }
        if (k == n) {
            return true;
        }
    }
    return false;
}

static bool is_policy(const fm_quality *q, fm_sv line) {
    static const char *const english[] = {"terms of use", "privacy policy", "cookie policy",
                                          "uses cookies", "use of cookies", "use cookies"};
    static const char *const chinese[] = {"使用条款", "隐私政策", "隐私声明", "服务条款", "免责声明", "版权所有"};
    for (size_t i = 0; i < FM_ARRAY_LEN(english); i++) {
        if (mentions(line, english[i])) {
            return true;
        }
    }
    for (size_t i = 0; q->chinese && i < FM_ARRAY_LEN(chinese); i++) {
        if (memmem(line.ptr, line.len, chinese[i], strlen(chinese[i]))) {
            return true;
        }
    }
    return false;
}

static size_t chinese_sentences(fm_sv line) {
    static const char *const mark[] = {"。", "！", "？", "；", "…", ".", "!", "?"};
    size_t n = 0;
    for (size_t i = 0; i < line.len; i++) {
        for (size_t k = 0; k < FM_ARRAY_LEN(mark); k++) {
            n += begins((fm_sv){line.ptr + i, line.len - i}, mark[k]);
        }
    }
    return FM_MAX(n, (size_t)1);
}

/* A line as it stands in the text has the words of the text there; another one is split anew. *at: first word that may
 * lie in the line. */
static fm_status sentences_of(fm_quality *q, fm_sv line, size_t *at, size_t *n) {
    if (q->chinese) {
        *n = chinese_sentences(line);
        return FM_OK;
    }
    if (line.ptr < q->text.ptr || line.ptr > q->text.ptr + q->text.len) {
        FM_TRY(fm_words_split(q->tables, &q->line_words, line));
        *n = fm_words_sentences(&q->line_words, line);
        return FM_OK;
    }
    FM_TRY(fm_quality_split(q));
    size_t from = (size_t)(line.ptr - q->text.ptr), to = from + line.len;
    while (*at < q->words.n && q->words.item[*at].at < from) {
        ++*at;
    }
    size_t last = *at;
    while (last < q->words.n && q->words.item[last].at < to) {
        last++;
    }
    const fm_word_list part = {.item = q->words.item + *at, .n = last - *at};
    *n = fm_words_sentences(&part, q->text);
    *at = last;
    return FM_OK;
}

static bool has_end_mark(fm_sv line) {
    static const char *const mark[] = {".", "?", "!", "\"", "'"};
    for (size_t i = 0; i < FM_ARRAY_LEN(mark); i++) {
        if (fm_quality_ends(line, mark[i])) {
            return !fm_quality_ends(line, "...");
        }
    }
    return false;
}

/* Whether a line stays; *reason when the whole document goes. */
static fm_status line_stays(fm_quality *q, fm_sv *line, bool *stays, const char **reason) {
    const fm_quality_limits *l = q->limit;
    size_t longest, words = line_words(*line, &longest);
    *stays = false;
    if (l->max_word_length >= 0 && (double)longest > l->max_word_length && !q->chinese) {
        return FM_OK;
    }
    FM_TRY(without_citations(q, line));
    if (l->filter_no_terminal_punct != 0 && !has_end_mark(*line)) {
        return FM_OK;
    }
    if (q->chinese) { /* a line of Chinese is one run */
        words = fm_quality_chars(*line);
    }
    if ((double)words < l->min_words_per_line) {
        return FM_OK;
    }
    if (mentions(*line, "lorem ipsum")) {
        *reason = "lorem_ipsum";
        return FM_OK;
    }
    if (mentions(*line, "javascript")) {
        return FM_OK;
    }
    if (memchr(line->ptr, '{', line->len)) {
        *reason = "curly_bracket";
        return FM_OK;
    }
    *stays = !is_policy(q, *line);
    return FM_OK;
}

fm_status fm_quality_c4(fm_quality *q, const char **reason) {
    const char *p = q->text.ptr, *end = p + q->text.len;
    size_t sentences = 0, at = 0, n;
    bool first = true;
    *reason = NULL;
    fm_str_clear(&q->kept);
    while (p < end) {
        fm_sv line = fm_quality_strip(next_line(&p, end));
        bool stays;
        FM_TRY(line_stays(q, &line, &stays, reason));
        if (*reason) {
            return FM_OK;
        }
        if (!stays) {
            continue;
        }
        if (q->limit->min_num_sentences >= 0) {
            FM_TRY(sentences_of(q, line, &at, &n));
            sentences += n;
        }
        if (!first) {
            fm_str_putc(&q->kept, '\n');
        }
        first = false;
        fm_str_append(&q->kept, line.ptr, line.len);
    }
    FM_TRY(fm_str_check(&q->kept));
    if (outside(q, (double)sentences < q->limit->min_num_sentences, (double)sentences, q->limit->min_num_sentences)) {
        *reason = "too_few_sentences";
        return FM_OK;
    }
    fm_sv kept = fm_quality_strip((fm_sv){q->kept.data ? q->kept.data : "", q->kept.len});
    if (kept.len != q->text.len || memcmp(kept.ptr, q->text.ptr, kept.len) != 0) {
        q->text = kept;
        q->n_chars = fm_quality_chars(kept);
        q->split = false;
        q->changed = true;
    }
    return FM_OK;
}

/* ---- FineWeb ---------------------------------------------------------------------------------- */

/* The last character ends a sentence; in Chinese also a closing quotation mark or bracket, an ellipsis, a semicolon. */
static bool line_ends(const fm_quality *q, fm_sv line) {
    static const char *const closing[] = {"”", "’", "」", "』", "）", "】", "》", "…", "；", "："};
    if (line.len == 0) {
        return false;
    }
    const char *end = line.ptr + line.len, *last = end - 1;
    while (last > line.ptr && ((unsigned char)*last & 0xC0) == 0x80) {
        last--;
    }
    uint32_t c;
    if (fm_utf8_decode(&c, last, end) && fm_is_terminal(c)) {
        return true;
    }
    for (size_t i = 0; q->chinese && i < FM_ARRAY_LEN(closing); i++) {
        if (fm_quality_ends(line, closing[i])) {
            return true;
        }
    }
    return false;
}

fm_status fm_quality_fineweb(fm_quality *q, const char **reason) {
    const fm_quality_limits *l = q->limit;
    const char *p = q->text.ptr, *end = p + q->text.len;
    size_t lines = 0, ended = 0, brief = 0, same = 0, breaks = 0;
    *reason = NULL;
    FM_TRY(fm_quality_fresh(q, count_of(q->text, "\n") + 1));
    for (bool more = q->text.len > 0; more;) {
        const char *e = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        fm_sv line = {p, (size_t)((e ? e : end) - p)};
        more = e != NULL;
        p = e ? e + 1 : end;
        breaks += more;
        if (fm_quality_strip(line).len == 0) {
            continue;
        }
        size_t chars = fm_quality_chars(line);
        lines++;
        ended += line_ends(q, line);
        brief += (double)chars <= l->short_line_length;
        same += fm_quality_count(q, fm_hash64(line.ptr, line.len, 0), 0)->count > 1 ? chars : 0;
    }
    if (lines == 0) {
        *reason = "empty";
        return FM_OK;
    }
    double n = (double)lines;
    if (BELOW(q, (double)ended / n, l->line_punct_thr)) {
        *reason = "line_punct_ratio";
    } else if (ABOVE(q, (double)brief / n, l->short_line_thr)) {
        *reason = "short_line_ratio";
    } else if (ABOVE(q, (double)same / (double)(q->n_chars - breaks), l->char_duplicates_ratio)) {
        *reason = "char_dup_ratio";
    }
    if (*reason) {
        return FM_OK;
    }
    FM_TRY(fm_quality_split(q));
    if (ABOVE(q, (double)breaks / (double)q->words.n_words, l->new_line_ratio)) {
        *reason = "list_ratio";
    }
    return FM_OK;
}
