/* neighbours: copies of rows with the answer of a similar row.
 *
 * A model that learns questions and answers by heart answers a new question no better than the words they share allow.
 * Pairing each question with what was said to another one like it lets training show what a new question needs: that
 * answers to similar questions are alike. Of the rows whose questions share most with a row's own (Jaccard over words,
 * or over pairs of letters in scripts without blanks) the one whose answer is nearest to its own is taken. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/progress.h"
#include "data/ranges.h"
#include "data/step.h"
#include "data/textnorm.h"
#include "text/unicode.h"

#define MOST_SEEN 20000 /* places that one row's words are looked up in, its rarest words first */

typedef struct neighbours_options {
    char *column, *answer, *mark;
    int64_t candidates;
    double least;
} neighbours_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(neighbours_options),
    {"answer", FM_OPT_STR, offsetof(neighbours_options, answer), "answer", 0, 0, NULL, NULL, "NAME",
     "column whose text comes from the similar row"},
    {"candidates", FM_OPT_INT, offsetof(neighbours_options, candidates), "8", 1, 100, NULL, NULL, NULL,
     "most similar rows among which the answers decide"},
    {"least", FM_OPT_FLOAT, offsetof(neighbours_options, least), "0.2", 0, 1, NULL, NULL, NULL,
     "how alike the two answers must be (F1 of their words)"},
    {"mark", FM_OPT_STR, offsetof(neighbours_options, mark), NULL, 0, 0, NULL, NULL, "NAME",
     "column that is true in the copies"},
    FM_STEP_OPTIONS_END,
};

/* What is kept of a row: its different words, sorted, of question and answer, and the answer itself. */
typedef struct text_of_row {
    size_t words, answer_words, answer;
    uint32_t n_words, n_answer_words, answer_len;
    uint64_t answer_hash;
    int64_t best; /* the similar row, -1 = none */
} text_of_row;

typedef struct place {
    uint64_t word;
    uint32_t row;
} place;

typedef struct state {
    text_of_row *row;
    size_t n, cap;
    uint64_t *word;
    size_t n_words, words_cap;
    fm_str answers;
    fm_str norm;
    int64_t n_found;
} state;

static fm_status neighbours_open(fm_step *step) {
    step->state = fm_calloc(1, sizeof(state));
    if (!step->state) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    return FM_OK;
}

static void neighbours_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_free(s->row);
        fm_free(s->word);
        fm_str_free(&s->answers);
        fm_str_free(&s->norm);
        fm_free(s);
        step->state = NULL;
    }
}

static fm_status neighbours_row(fm_step_ctx *x, fm_rec *r) {
    const neighbours_options *o = x->step->opt;
    fm_cell *cell;
    FM_TRY(fm_step_text(x, r, o->column, &cell));
    return cell ? fm_step_text(x, r, o->answer, &cell) : FM_OK;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static fm_status push_word(state *s, const void *p, size_t n) {
    void *v = s->word;
    FM_TRY(fm_grow(&v, &s->words_cap, s->n_words + 1, sizeof *s->word));
    s->word = v;
    s->word[s->n_words++] = fm_hash64(p, n, 7);
    return FM_OK;
}

/* Appends the different words of a text: words between blanks; of letters of scripts without blanks each pair. */
static fm_status add_words(state *s, fm_sv text, size_t *at, uint32_t *n) {
    FM_TRY(fm_textnorm(&s->norm, text, FM_NORM_TEXT));
    const uint8_t *p = (const uint8_t *)(s->norm.data ? s->norm.data : ""), *end = p + s->norm.len, *word = NULL;
    uint32_t before = 0;
    *at = s->n_words;
    while (p < end) {
        uint32_t cp;
        const uint8_t *here = p;
        p += fm_uni_next(&cp, p, end);
        bool pairs = fm_is_unspaced(cp), blank = cp == ' ';
        if (word && (pairs || blank)) {
            FM_TRY(push_word(s, word, (size_t)(here - word)));
            word = NULL;
        }
        if (pairs && before) {
            FM_TRY(push_word(s, (uint32_t[]){before, cp}, 2 * sizeof cp));
        }
        before = pairs ? cp : 0;
        word = !pairs && !blank && !word ? here : word;
    }
    if (word) {
        FM_TRY(push_word(s, word, (size_t)(end - word)));
    }
    size_t all = s->n_words - *at, kept = 0;
    uint64_t *w = s->word + *at;
    if (all > 0) {
        qsort(w, all, sizeof *w, by_value);
    }
    for (size_t i = 0; i < all; i++) {
        if (i == 0 || w[i] != w[kept - 1]) {
            w[kept++] = w[i];
        }
    }
    s->n_words = *at + kept;
    *n = (uint32_t)kept;
    return FM_OK;
}

static fm_status neighbours_observe(fm_step_ctx *x, fm_rec *r) {
    const neighbours_options *o = x->step->opt;
    state *s = x->step->state;
    const fm_cell *q = fm_rec_get(r, o->column), *a = fm_rec_get(r, o->answer);
    void *p = s->row;
    if (s->n >= UINT32_MAX || (a && a->text.len > UINT32_MAX)) {
        FM_FAIL(FM_ERR_DATA, "neighbours: more rows or longer answers than it can count");
    }
    FM_TRY(fm_grow(&p, &s->cap, s->n + 1, sizeof *s->row));
    s->row = p;
    text_of_row *t = &s->row[s->n++];
    *t = (text_of_row){.best = -1};
    if (!q || !a || !fm_rec_is_training(r)) {
        return FM_OK;
    }
    FM_TRY(add_words(s, q->text, &t->words, &t->n_words));
    FM_TRY(add_words(s, a->text, &t->answer_words, &t->n_answer_words));
    t->answer = s->answers.len;
    t->answer_len = (uint32_t)a->text.len;
    t->answer_hash = fm_hash64(a->text.ptr, a->text.len, 0);
    fm_str_append(&s->answers, a->text.ptr, a->text.len);
    return fm_str_check(&s->answers);
}

static int by_word(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->word != y->word ? (x->word < y->word ? -1 : 1) : (x->row > y->row) - (x->row < y->row);
}

/* The places of one word. */
typedef struct run {
    const place *at;
    size_t n;
} run;

static int by_length(const void *a, const void *b) {
    const run *x = a, *y = b;
    return x->n != y->n ? (x->n < y->n ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

/* The first place of a word, or the first behind its last one. */
static size_t bound(const place *all, size_t n, uint64_t word, bool behind) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (all[mid].word < word || (behind && all[mid].word == word)) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static run find(const place *all, size_t n, uint64_t word) {
    size_t first = bound(all, n, word, false);
    return (run){all + first, bound(all, n, word, true) - first};
}

/* F1 of the answers' words. */
static double likeness(const state *s, const text_of_row *a, const text_of_row *b) {
    size_t i = 0, j = 0, both = 0, n = a->n_answer_words, m = b->n_answer_words;
    const uint64_t *x = s->word + a->answer_words, *y = s->word + b->answer_words;
    while (i < n && j < m) {
        both += x[i] == y[j];
        size_t step_i = x[i] <= y[j], step_j = y[j] <= x[i];
        i += step_i;
        j += step_j;
    }
    return n + m > 0 ? 2.0 * (double)both / (double)(n + m) : 0;
}

/* Room for the search of one row. */
typedef struct search {
    const place *all;
    size_t n;
    uint32_t *shared; /* [rows] words that a row shares, 0 outside of a search */
    uint32_t *seen;   /* [MOST_SEEN] rows with some */
    run *runs;        /* [longest question] */
} search;

static void best_for(state *s, search *q, size_t i, const neighbours_options *o) {
    text_of_row *t = &s->row[i];
    size_t n_seen = 0, looked = 0;
    for (uint32_t k = 0; k < t->n_words; k++) {
        q->runs[k] = find(q->all, q->n, s->word[t->words + k]);
    }
    if (t->n_words > 0) {
        qsort(q->runs, t->n_words, sizeof *q->runs, by_length);
    }
    for (uint32_t k = 0; k < t->n_words && looked + q->runs[k].n <= MOST_SEEN; k++) {
        looked += q->runs[k].n;
        for (size_t j = 0; j < q->runs[k].n; j++) {
            uint32_t r = q->runs[k].at[j].row;
            if (q->shared[r]++ == 0) {
                q->seen[n_seen++] = r;
            }
        }
    }
    q->shared[i] = 0; /* not itself */
    double most = o->least;
    for (int64_t c = 0; c < o->candidates; c++) {
        double similar = 0;
        size_t best = 0;
        for (size_t k = 0; k < n_seen; k++) {
            uint32_t r = q->seen[k], both = q->shared[r];
            double v = both ? (double)both / (double)(t->n_words + s->row[r].n_words - both) : 0;
            if (v > similar || (v == similar && both && r < q->seen[best])) {
                similar = v;
                best = k;
            }
        }
        if (similar <= 0) {
            break;
        }
        uint32_t r = q->seen[best];
        q->shared[r] = 0;
        double alike = s->row[r].answer_hash == t->answer_hash ? 0 : likeness(s, t, &s->row[r]);
        if (alike > most || (alike == most && alike > 0 && t->best < 0)) {
            most = alike;
            t->best = r;
        }
    }
    s->n_found += t->best >= 0;
    for (size_t k = 0; k < n_seen; k++) {
        q->shared[q->seen[k]] = 0;
    }
}

static fm_status neighbours_resolve(fm_step *step) {
    const neighbours_options *o = step->opt;
    state *s = step->state;
    size_t n = 0;
    uint32_t longest = 1;
    for (size_t i = 0; i < s->n; i++) {
        n += s->row[i].n_words;
        longest = FM_MAX(longest, s->row[i].n_words);
    }
    place *all = fm_malloc((n + 1) * sizeof *all);
    search q = {.all = all,
                .n = n,
                .shared = fm_calloc(s->n + 1, sizeof *q.shared),
                .seen = fm_malloc(MOST_SEEN * sizeof *q.seen),
                .runs = fm_malloc(longest * sizeof *q.runs)};
    bool room = all && q.shared && q.seen && q.runs;
    n = 0;
    for (size_t i = 0; i < s->n && room; i++) {
        for (uint32_t k = 0; k < s->row[i].n_words; k++) {
            all[n++] = (place){s->word[s->row[i].words + k], (uint32_t)i};
        }
    }
    if (room && n > 0) {
        qsort(all, n, sizeof *all, by_word);
    }
    fm_meter meter;
    fm_meter_start(&meter, "neighbours", "rows", (double)s->n);
    for (size_t i = 0; i < s->n && room && !fm_cancelled(); i++) {
        best_for(s, &q, i, o);
        fm_meter_update(&meter, (double)(i + 1), "");
    }
    fm_free(all);
    fm_free(q.shared);
    fm_free(q.seen);
    fm_free(q.runs);
    if (!room) {
        FM_FAIL(FM_ERR_NO_MEMORY, "neighbours: no memory for the words of %zu rows", s->n);
    }
    if (fm_cancelled()) {
        FM_FAIL(FM_ERR_CANCELLED, "interrupted");
    }
    return FM_OK;
}

static fm_status neighbours_apply(fm_step_ctx *x, fm_rec *r) {
    const neighbours_options *o = x->step->opt;
    const state *s = x->step->state;
    int64_t best = s->row[r->ordinal].best;
    if (best < 0) {
        return FM_OK;
    }
    fm_rec *copy;
    FM_TRY(fm_step_emit(x, &copy, r));
    FM_TRY(fm_rec_set_text(x->arena, copy, o->answer, s->answers.data + s->row[best].answer, s->row[best].answer_len));
    FM_TRY(o->mark ? fm_rec_set_bool(x->arena, copy, o->mark, true) : FM_OK);
    return fm_step_count(x, "answers of similar rows", 1);
}

static fm_status neighbours_report(fm_step *step, fm_str *json) {
    const state *s = step->state;
    fm_str_printf(json, "{\"rows\": %zu, \"with_neighbour\": %lld}", s->n, (long long)s->n_found);
    return fm_str_check(json);
}

const fm_step_def fm_step_neighbours = {
    .name = "neighbours",
    .help = "adds copies of rows with the answer of a similar row",
    .about = "Questions that share words get each other's answers where those are alike too, so that a model which\n"
             "learns few rows by heart also learns that similar questions have similar answers. Behind 'split' only\n"
             "the part train changes. docs/augmentation.md.",
    .examples = "fathom data neighbours -i train.jsonl -o more.jsonl --column question --answer answer\n"
                "fathom data neighbours -i zh.jsonl -o more.jsonl --column instruction --answer output --least 0.3",
    .options = rows,
    .options_bytes = sizeof(neighbours_options),
    .memory = "the answers, and 24 bytes for each different word of a row",
    .open = neighbours_open,
    .close = neighbours_close,
    .row = neighbours_row,
    .observe = neighbours_observe,
    .resolve = neighbours_resolve,
    .apply = neighbours_apply,
    .report = neighbours_report,
};
