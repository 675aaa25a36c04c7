/* What the rules share, and Gopher's rules on repetition. */
#include "data/quality.h"

#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/textnorm.h"

const fm_quality_limits fm_quality_english = {
#define FM_X(name, en, zh) .name = (en),
    FM_QUALITY_LIMITS(FM_X)
#undef FM_X
};
const fm_quality_limits fm_quality_chinese = {
#define FM_X(name, en, zh) .name = (zh),
    FM_QUALITY_LIMITS(FM_X)
#undef FM_X
};

void fm_quality_free(fm_quality *q) {
    fm_word_list_free(&q->words);
    fm_word_list_free(&q->line_words);
    fm_free(q->at);
    fm_free(q->chars);
    fm_free(q->slot);
    fm_str_free(&q->joined);
    fm_str_free(&q->kept);
    fm_str_free(&q->line);
}

fm_status fm_quality_begin(fm_quality *q, const fm_words *tables, fm_sv text, bool chinese,
                           const fm_quality_limits *limit) {
    if (text.len >= INT32_MAX) {
        FM_FAIL(FM_ERR_DATA, "a text of %zu bytes is too long for the quality rules", text.len);
    }
    q->tables = tables;
    q->text = text;
    q->n_chars = fm_quality_chars(text);
    q->chinese = chinese;
    q->limit = limit;
    q->split = q->changed = false;
    q->found = q->allowed = 0;
    return FM_OK;
}

size_t fm_quality_chars(fm_sv v) {
    size_t n = 0;
    for (size_t i = 0; i < v.len; i++) {
        n += ((unsigned char)v.ptr[i] & 0xC0) != 0x80;
    }
    return n;
}

fm_sv fm_quality_strip(fm_sv v) {
    const char *p = v.ptr, *end = p + v.len;
    uint32_t c;
    int k;
    while ((k = fm_utf8_decode(&c, p, end)) > 0 && fm_is_space(c)) {
        p += k;
    }
    while (end > p) {
        const char *last = end - 1;
        while (last > p && ((unsigned char)*last & 0xC0) == 0x80) {
            last--;
        }
        if (fm_utf8_decode(&c, last, end) == 0 || !fm_is_space(c)) {
            break;
        }
        end = last;
    }
    return (fm_sv){p, (size_t)(end - p)};
}

bool fm_quality_ends(fm_sv v, const char *with) {
    size_t n = strlen(with);
    return v.len >= n && memcmp(v.ptr + v.len - n, with, n) == 0;
}

/* ---- words ------------------------------------------------------------------------------------ */

static bool is_wordy(uint32_t c) {
    utf8proc_category_t g = utf8proc_category((utf8proc_int32_t)c);
    return (g >= UTF8PROC_CATEGORY_LU && g <= UTF8PROC_CATEGORY_NO);
}

/* Chinese: each character of a script without blanks and each sign is a word, and so is a run of other letters. */
static fm_status split_chinese(fm_word_list *l, fm_sv text) {
    const char *p = text.ptr, *end = p + text.len, *run = NULL;
    l->n = l->n_words = 0;
    for (;;) {
        uint32_t c = ' ';
        int k = p < end ? fm_utf8_decode(&c, p, end) : 0;
        bool joins = k && is_wordy(c) && !fm_is_unspaced(c);
        const char *word = run && !joins ? run : NULL;
        for (int part = 0; part < 2; part++) { /* the run that ends here, then this character */
            if (part == 1) {
                word = k && !joins && !fm_is_space(c) ? p : NULL;
            }
            if (word) {
                void *q = l->item;
                FM_TRY(fm_grow(&q, &l->cap, l->n + 1, sizeof *l->item));
                l->item = q;
                size_t len = part == 0 ? (size_t)(p - word) : (size_t)k;
                l->item[l->n++] = (fm_word){(uint32_t)(word - text.ptr), (uint32_t)len, false};
            }
        }
        run = joins ? (run ? run : p) : NULL;
        if (p >= end) {
            l->n_words = l->n;
            return FM_OK;
        }
        p += FM_MAX(k, 1);
    }
}

fm_status fm_quality_split(fm_quality *q) {
    if (q->split) {
        return FM_OK;
    }
    FM_TRY(q->chinese ? split_chinese(&q->words, q->text) : fm_words_split(q->tables, &q->words, q->text));
    if (q->words.n_words + 1 > q->at_cap) {
        size_t cap = 2 * q->words.n_words + 256;
        uint32_t *at = fm_realloc(q->at, cap * sizeof *at);
        q->at = at ? at : q->at;
        uint32_t *chars = fm_realloc(q->chars, cap * sizeof *chars);
        q->chars = chars ? chars : q->chars;
        if (!at || !chars) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold %zu words", q->words.n_words);
        }
        q->at_cap = cap;
    }
    fm_str_clear(&q->joined);
    size_t n = 0, chars = 0;
    for (size_t i = 0; i < q->words.n; i++) {
        const fm_word *w = &q->words.item[i];
        if (!w->blank) {
            q->at[n] = (uint32_t)q->joined.len;
            q->chars[n++] = (uint32_t)chars;
            fm_str_append(&q->joined, q->text.ptr + w->at, w->len);
            fm_str_putc(&q->joined, ' ');
            chars += fm_quality_chars((fm_sv){q->text.ptr + w->at, w->len});
        }
    }
    q->at[n] = (uint32_t)q->joined.len;
    q->chars[n] = (uint32_t)chars;
    q->split = true;
    return fm_str_check(&q->joined);
}

/* ---- counting by hash ------------------------------------------------------------------------- */

fm_status fm_quality_fresh(fm_quality *q, size_t most) {
    size_t need = 1024;
    while (need < 2 * most) {
        need *= 2;
    }
    if (need > q->slots || q->stamp == UINT32_MAX) {
        need = FM_MAX(need, q->slots);
        fm_free(q->slot);
        q->slots = 0;
        q->slot = fm_calloc(need, sizeof *q->slot);
        if (!q->slot) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot count %zu pieces of a text", most);
        }
        q->slots = need;
        q->stamp = 0;
    }
    q->stamp++;
    return FM_OK;
}

fm_quality_slot *fm_quality_count(fm_quality *q, uint64_t hash, uint32_t index) {
    size_t mask = q->slots - 1, i = (size_t)hash & mask;
    while (q->slot[i].stamp == q->stamp && q->slot[i].key != hash) {
        i = (i + 1) & mask;
    }
    fm_quality_slot *s = &q->slot[i];
    if (s->stamp != q->stamp) {
        *s = (fm_quality_slot){.key = hash, .stamp = q->stamp, .first = index};
    }
    s->count++;
    return s;
}

/* ---- Gopher: repetition ----------------------------------------------------------------------- */

static bool above(fm_quality *q, double found, double allowed) {
    if (allowed == 0 || !(found > allowed)) {
        return false;
    }
    q->found = found;
    q->allowed = allowed;
    return true;
}

static size_t line_ends(fm_sv v) {
    size_t n = 0;
    for (const char *p = v.ptr, *end = p + v.len; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++) {
        n++;
    }
    return n;
}

/* Pieces of v between runs of `least` or more line ends: how many, how many came before, and their characters. */
static fm_status repeated(fm_quality *q, fm_sv v, size_t least, size_t *n, size_t *same, size_t *chars) {
    const char *p = v.ptr, *end = p + v.len, *from = p;
    *n = *same = *chars = 0;
    FM_TRY(fm_quality_fresh(q, line_ends(v) / least + 1));
    for (;;) {
        const char *e = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        size_t ends = 0;
        while (e && e + ends < end && e[ends] == '\n') {
            ends++;
        }
        if (e && ends < least) {
            p = e + ends;
            continue;
        }
        fm_sv piece = {from, (size_t)((e ? e : end) - from)};
        ++*n;
        if (fm_quality_count(q, fm_hash64(piece.ptr, piece.len, 0), 0)->count > 1) {
            ++*same;
            *chars += fm_quality_chars(piece);
        }
        if (!e) {
            return FM_OK;
        }
        from = p = e + ends;
    }
}

/* Characters of the n-gram that is there most often (of several the first), times how often. */
static fm_status top_chars(fm_quality *q, size_t n, size_t *out) {
    size_t total = q->words.n_words;
    uint32_t best = 0, first = 0;
    FM_TRY(fm_quality_fresh(q, total));
    for (size_t i = 0; i + n <= total; i++) {
        const fm_quality_slot *s =
            fm_quality_count(q, fm_hash64(q->joined.data + q->at[i], q->at[i + n] - q->at[i], 0), (uint32_t)i);
        if (s->count > best || (s->count == best && s->first < first)) {
            best = s->count;
            first = s->first;
        }
    }
    *out = (q->chars[first + n] - q->chars[first] + (q->chinese ? 0 : n - 1)) * best;
    return FM_OK;
}

/* Characters in n-grams that came before, without overlap. Equal means equal without the blanks between. */
static fm_status repeated_chars(fm_quality *q, size_t n, size_t *out) {
    size_t total = q->words.n_words;
    *out = 0;
    FM_TRY(fm_quality_fresh(q, total));
    for (size_t i = 0; i + n <= total;) {
        uint64_t h = fm_hash64(q->line.data + q->at[i] - i, q->at[i + n] - q->at[i] - n, 0);
        if (fm_quality_count(q, h, 0)->count > 1) {
            *out += q->chars[i + n] - q->chars[i];
            i += n;
        } else {
            i++;
        }
    }
    return FM_OK;
}

static fm_status repeated_words(fm_quality *q, const char **reason) {
    static const char *const top_name[] = {"top_2_gram", "top_3_gram", "top_4_gram"};
    static const char *const dup_name[] = {"duplicated_5_n_grams", "duplicated_6_n_grams", "duplicated_7_n_grams",
                                           "duplicated_8_n_grams", "duplicated_9_n_grams", "duplicated_10_n_grams"};
    const fm_quality_limits *l = q->limit;
    const double top[] = {l->top_2_gram, l->top_3_gram, l->top_4_gram};
    const double dup[] = {l->duplicated_5_n_grams, l->duplicated_6_n_grams, l->duplicated_7_n_grams,
                          l->duplicated_8_n_grams, l->duplicated_9_n_grams, l->duplicated_10_n_grams};
    size_t unit = q->chinese ? 2 : 1, chars; /* a Chinese word has two characters, more or less */
    FM_TRY(fm_quality_split(q));
    for (size_t i = 0; i < FM_ARRAY_LEN(top); i++) {
        if (q->words.n_words < (i + 2) * unit) {
            continue;
        }
        FM_TRY(top_chars(q, (i + 2) * unit, &chars));
        if (above(q, (double)chars / (double)q->n_chars, top[i])) {
            *reason = top_name[i];
            return FM_OK;
        }
    }
    fm_str_clear(&q->line); /* the words without the blanks between */
    for (size_t i = 0; i < q->words.n_words; i++) {
        fm_str_append(&q->line, q->joined.data + q->at[i], q->at[i + 1] - q->at[i] - 1);
    }
    FM_TRY(fm_str_check(&q->line));
    for (size_t i = 0; i < FM_ARRAY_LEN(dup); i++) {
        FM_TRY(repeated_chars(q, (i + 5) * unit, &chars));
        if (above(q, (double)chars / (double)q->n_chars, dup[i])) {
            *reason = dup_name[i];
            return FM_OK;
        }
    }
    return FM_OK;
}

fm_status fm_quality_gopher_repetition(fm_quality *q, const char **reason) {
    const fm_quality_limits *l = q->limit;
    size_t n, same, chars;
    *reason = NULL;
    if (q->text.len == 0) {
        *reason = "empty";
        return FM_OK;
    }
    FM_TRY(repeated(q, fm_quality_strip(q->text), 2, &n, &same, &chars));
    if (above(q, (double)same / (double)n, l->dup_para_frac)) {
        *reason = "dup_para_frac";
    } else if (above(q, (double)chars / (double)q->n_chars, l->dup_para_char_frac)) {
        *reason = "dup_para_char_frac";
    }
    if (*reason) {
        return FM_OK;
    }
    FM_TRY(repeated(q, q->text, 1, &n, &same, &chars));
    if (above(q, (double)same / (double)n, l->dup_line_frac)) {
        *reason = "dup_line_frac";
    } else if (above(q, (double)chars / (double)q->n_chars, l->dup_line_char_frac)) {
        *reason = "dup_line_char_frac";
    }
    return *reason ? FM_OK : repeated_words(q, reason);
}
