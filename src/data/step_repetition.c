/* repetition: shares of a row's n-grams that stand in it more than once, and that stood in earlier rows.
 *
 * The second needs every n-gram of every row: {hash, row} records are sorted within the memory given and on disk; of
 * equal hashes the first row has the n-gram anew, the others had it before them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/sorter.h"
#include "data/step.h"
#include "data/textnorm.h"
#include "data/units.h"

#define MOST_N 64 /* twice the largest n */

typedef enum action { ACT_DROP, ACT_MARK } action;

typedef struct repetition_options {
    char *column, *inside_into, *before_into;
    int64_t n, memory;
    double max_inside, max_before;
    int action;
} repetition_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(repetition_options),
    {"n", FM_OPT_INT, offsetof(repetition_options, n), "5", 1, 32, NULL, NULL, NULL,
     "words of an n-gram; of text without blanks twice as many characters"},
    {"max_repeated", FM_OPT_FLOAT, offsetof(repetition_options, max_inside), "0.3", 0, 1, NULL, NULL, NULL,
     "largest share of n-grams that repeat one of the same row"},
    {"max_seen", FM_OPT_FLOAT, offsetof(repetition_options, max_before), "0.3", 0, 1, NULL, NULL, NULL,
     "largest share of different n-grams that an earlier row has"},
    {"action", FM_OPT_ENUM, offsetof(repetition_options, action), "drop", 0, 0, "drop|mark", NULL, NULL,
     "drop rows over a limit, or write the shares into columns and drop nothing"},
    {"repeated_into", FM_OPT_STR, offsetof(repetition_options, inside_into), "repeated", 0, 0, NULL, NULL, "NAME",
     "column for mark"},
    {"seen_into", FM_OPT_STR, offsetof(repetition_options, before_into), "seen_before", 0, 0, NULL, NULL, "NAME",
     "column for mark"},
    {"memory", FM_OPT_BYTES, offsetof(repetition_options, memory), "512MiB", 1 << 20, 1e15, NULL, NULL, NULL,
     "for sorting; the rest goes to disk"},
    FM_STEP_OPTIONS_END,
};

/* What `row` leaves for `observe`. */
typedef struct grams {
    uint64_t *hash; /* [n] different ones */
    size_t n, total;
} grams;

typedef struct seen {
    uint32_t total, different, before;
} seen;

typedef struct state {
    fm_sorter *sorter;
    seen *row;
    size_t n, cap;
    double inside, before; /* sums of shares */
    int64_t n_shares, over_inside, over_before;
} state;

static fm_status repetition_open(fm_step *step) {
    const repetition_options *o = step->opt;
    char path[4096], name[32];
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    snprintf(name, sizeof name, "repetition-%d", (int)step->index);
    FM_TRY(fm_path_join(path, sizeof path, step->env->work_dir, name));
    return fm_sorter_new(&s->sorter, 2, o->memory, path);
}

static void repetition_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_sorter_free(s->sorter);
        fm_free(s->row);
        fm_free(s);
        step->state = NULL;
    }
}

static int by_value(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static fm_status repetition_row(fm_step_ctx *x, fm_rec *r) {
    const repetition_options *o = x->step->opt;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    const char *p = c->text.ptr, *end = p + c->text.len;
    const size_t n = (size_t)o->n * (fm_mostly_unspaced(c->text) ? 2 : 1);
    grams *g = fm_bump_alloc(x->arena, sizeof *g);
    if (!g) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot look at a row's n-grams");
    }
    *g = (grams){0};
    r->aux = g;
    uint64_t ring[MOST_N], h;
    size_t units = 0;
    for (const char *q = p; fm_unit_next(&q, end, 0, &h);) {
        units++;
    }
    if (units < n) {
        return FM_OK;
    }
    g->total = units - n + 1;
    g->hash = fm_bump_alloc(x->arena, g->total * sizeof *g->hash);
    if (!g->hash) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold %zu n-grams of a row", g->total);
    }
    size_t at = 0;
    for (size_t i = 0; i < units && fm_unit_next(&p, end, 0, &h); i++) {
        ring[i % n] = h;
        if (i + 1 >= n) {
            uint64_t sum = 0;
            for (size_t k = 0; k < n; k++) { /* from the oldest */
                sum = (sum ^ ring[(i + 1 + k) % n]) * UINT64_C(0x9E3779B97F4A7C15);
                sum ^= sum >> 29;
            }
            g->hash[at++] = sum;
        }
    }
    g->total = at;
    if (at) {
        qsort(g->hash, at, sizeof *g->hash, by_value);
    }
    for (size_t i = 0; i < at; i++) {
        g->hash[g->n] = g->hash[i];
        g->n += i + 1 == at || g->hash[i] != g->hash[i + 1];
    }
    return FM_OK;
}

static fm_status repetition_observe(fm_step_ctx *x, fm_rec *r) {
    state *s = x->step->state;
    const grams *g = r->aux;
    void *p = s->row;
    FM_TRY(fm_grow(&p, &s->cap, s->n + 1, sizeof *s->row));
    s->row = p;
    s->row[s->n] = (seen){0};
    if (g && g->total <= UINT32_MAX) {
        s->row[s->n] = (seen){.total = (uint32_t)g->total, .different = (uint32_t)g->n};
        for (size_t i = 0; i < g->n; i++) {
            const uint64_t record[2] = {g->hash[i], s->n};
            FM_TRY(fm_sorter_push(s->sorter, record));
        }
    }
    s->n++;
    return FM_OK;
}

static double inside_of(const seen *k) {
    return k->total ? 1 - (double)k->different / k->total : 0;
}

static double before_of(const seen *k) {
    return k->different ? (double)k->before / k->different : 0;
}

static fm_status repetition_resolve(fm_step *step) {
    const repetition_options *o = step->opt;
    state *s = step->state;
    const uint64_t *r;
    uint64_t last = 0;
    bool any = false;
    FM_TRY(fm_sorter_sort(s->sorter));
    for (;;) {
        FM_TRY(fm_sorter_next(s->sorter, &r));
        if (!r) {
            break;
        }
        s->row[r[1]].before += any && r[0] == last; /* equal hashes come in the order of rows */
        last = r[0];
        any = true;
    }
    fm_sorter_free(s->sorter);
    s->sorter = NULL;
    for (size_t i = 0; i < s->n; i++) {
        const seen *k = &s->row[i];
        if (k->total) {
            s->n_shares++;
            s->inside += inside_of(k);
            s->before += before_of(k);
            s->over_inside += inside_of(k) > o->max_inside;
            s->over_before += before_of(k) > o->max_before;
        }
    }
    return FM_OK;
}

static fm_status repetition_apply(fm_step_ctx *x, fm_rec *r) {
    const repetition_options *o = x->step->opt;
    const state *s = x->step->state;
    FM_ASSERT(r->ordinal >= 0 && (size_t)r->ordinal < s->n);
    const seen *k = &s->row[r->ordinal];
    const double inside = inside_of(k), before = before_of(k);
    if (o->action == ACT_MARK) {
        FM_TRY(o->inside_into ? fm_rec_set_float(x->arena, r, o->inside_into, inside) : FM_OK);
        return o->before_into ? fm_rec_set_float(x->arena, r, o->before_into, before) : FM_OK;
    }
    char detail[64];
    snprintf(detail, sizeof detail, "%.1f%% inside, %.1f%% in earlier rows", 100 * inside, 100 * before);
    return inside > o->max_inside   ? fm_step_drop(x, r, "repeats itself", detail)
           : before > o->max_before ? fm_step_drop(x, r, "repeats earlier rows", detail)
                                    : FM_OK;
}

static fm_status repetition_report(fm_step *step, fm_str *json) {
    const state *s = step->state;
    const double n = s->n_shares ? (double)s->n_shares : 1;
    fm_str_printf(json,
                  "{\"rows\": %lld, \"mean_repeated\": %.6f, \"mean_seen_before\": %.6f, \"over_max_repeated\": %lld, "
                  "\"over_max_seen\": %lld}",
                  (long long)s->n_shares, s->inside / n, s->before / n, (long long)s->over_inside,
                  (long long)s->over_before);
    return fm_str_check(json);
}

const fm_step_def fm_step_repetition = {
    .name = "repetition",
    .help = "share of each row's n-grams that repeat, inside the row and from earlier rows",
    .about = "Words are runs of letters and digits without case, each Chinese character is one. Earlier rows count "
             "whether they\nstay or go. The manifest has the means of both shares and the rows over each limit.",
    .examples = "fathom data repetition -i corpus.jsonl -o fresh.jsonl --rejects repeated.jsonl\n"
                "fathom data repetition -i corpus.jsonl -o marked.jsonl --action mark --n 8",
    .options = rows,
    .options_bytes = sizeof(repetition_options),
    .memory = "12 bytes a row; 16 bytes a different n-gram of a row are sorted within --memory and on disk",
    .open = repetition_open,
    .close = repetition_close,
    .row = repetition_row,
    .observe = repetition_observe,
    .resolve = repetition_resolve,
    .apply = repetition_apply,
    .report = repetition_report,
};
