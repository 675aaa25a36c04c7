/* select: the rows about which a model is least sure, for labelling next (active learning; Settles 2009).
 *
 *   confidence  1 - p1, the probability of the likeliest label
 *   margin      1 - (p1 - p2)
 *   entropy     -sum p ln p, over ln of the number of labels
 * all from 0 (sure) to 1. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/step.h"

typedef enum by { BY_CONFIDENCE, BY_MARGIN, BY_ENTROPY } by;

typedef struct select_options {
    char *scores, *into;
    int64_t n;
    int by;
} select_options;

static const fm_option rows[] = {
    {"scores", FM_OPT_STR, offsetof(select_options, scores), "scores", 0, 0, NULL, NULL, "NAME",
     "column with the probability of each label: {label: p, ...} or [p, ...]"},
    {"rows", FM_OPT_INT, offsetof(select_options, n), "100", 1, 1e12, NULL, NULL, NULL, "so many rows"},
    {"by", FM_OPT_ENUM, offsetof(select_options, by), "entropy", 0, 0, "confidence|margin|entropy", NULL, NULL,
     "what makes a row doubtful"},
    {"into", FM_OPT_STR, offsetof(select_options, into), "uncertainty", 0, 0, NULL, NULL, "NAME", "column for it"},
    FM_STEP_OPTIONS_END,
};

typedef struct place {
    double doubt;
    int64_t at;
} place;

typedef struct state {
    place *item;
    size_t n, cap;
} state;

typedef struct sums {
    double sum, first, second, plogp;
    size_t n;
    bool bad;
} sums;

static fm_status add(void *arg, const char *key, fm_json *v) {
    sums *s = arg;
    double p = fm_json_num(v, -1);
    FM_UNUSED(key);
    s->bad = s->bad || !fm_json_is_number(v) || !(p >= 0) || !isfinite(p);
    s->sum += p;
    s->second = p > s->first ? s->first : p > s->second ? p : s->second;
    s->first = fmax(s->first, p);
    s->plogp += p > 0 ? p * log(p) : 0;
    s->n++;
    return FM_OK;
}

/* Of numbers that need not add up to 1; *why says what is wrong with them. */
static fm_status doubt_of(double *out, const char **why, const fm_cell *c, int how) {
    fm_json *doc = NULL;
    sums s = {0};
    *why = NULL;
    *out = 0;
    fm_status st = c->kind == FM_CELL_JSON ? fm_json_parse(&doc, c->text.ptr, c->text.len, "scores") : FM_OK;
    if (st == FM_OK && fm_json_is_object(doc)) {
        st = fm_json_each(doc, add, &s);
    }
    for (size_t i = 0; st == FM_OK && fm_json_is_array(doc) && i < fm_json_size(doc); i++) {
        st = add(&s, NULL, fm_json_at(doc, i));
    }
    fm_json_free(doc);
    if (st == FM_ERR_NO_MEMORY) {
        return st;
    }
    if (st != FM_OK || s.bad || s.n < 2 || !(s.sum > 0)) {
        fm_error_clear();
        *why = "no probabilities of two labels or more";
        return FM_OK;
    }
    double entropy = log(s.sum) - s.plogp / s.sum;
    *out = how == BY_CONFIDENCE ? 1 - s.first / s.sum
           : how == BY_MARGIN   ? 1 - (s.first - s.second) / s.sum
                                : entropy / log((double)s.n);
    return FM_OK;
}

static fm_status select_open(fm_step *s) {
    s->state = fm_calloc(1, sizeof(state));
    if (!s->state) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    return FM_OK;
}

static void select_close(fm_step *s) {
    state *k = s->state;
    if (k) {
        fm_free(k->item);
        fm_free(k);
        s->state = NULL;
    }
}

static fm_status select_row(fm_step_ctx *x, fm_rec *r) {
    const select_options *o = x->step->opt;
    const fm_cell *c = fm_rec_get(r, o->scores);
    const char *why = c ? NULL : "missing column";
    double doubt = 0;
    if (c) {
        FM_TRY(doubt_of(&doubt, &why, c, o->by));
    }
    return why ? fm_step_drop(x, r, why, o->scores) : fm_rec_set_float(x->arena, r, o->into, doubt);
}

static fm_status select_observe(fm_step_ctx *x, fm_rec *r) {
    state *k = x->step->state;
    const select_options *o = x->step->opt;
    void *p = k->item;
    double doubt = 0;
    FM_TRY(fm_grow(&p, &k->cap, k->n + 1, sizeof *k->item));
    k->item = p;
    const fm_cell *c = fm_rec_get(r, o->into);
    FM_ASSERT(c && fm_cell_number(c, &doubt));
    k->item[k->n++] = (place){doubt, r->ordinal};
    return FM_OK;
}

static int by_doubt(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->doubt != y->doubt ? (x->doubt > y->doubt ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

static int by_place(const void *a, const void *b) {
    const place *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static fm_status select_resolve(fm_step *s) {
    state *k = s->state;
    const select_options *o = s->opt;
    if (k->n) {
        qsort(k->item, k->n, sizeof *k->item, by_doubt);
        k->n = FM_MIN(k->n, (size_t)o->n);
        qsort(k->item, k->n, sizeof *k->item, by_place);
    }
    return FM_OK;
}

static fm_status select_apply(fm_step_ctx *x, fm_rec *r) {
    const state *k = x->step->state;
    place key = {.at = r->ordinal};
    bool stays = k->n && bsearch(&key, k->item, k->n, sizeof key, by_place);
    return stays ? FM_OK : fm_step_drop(x, r, "less doubtful", NULL);
}

const fm_step_def fm_step_select = {
    .name = "select",
    .help = "the rows a model is least sure about, for labelling next (active learning)",
    .about = "Rows need the probability of each label; they stay in their order, with the doubt from 0 to 1.",
    .examples = "fathom data select -i scored.jsonl -o next.jsonl --rows 200 --by margin",
    .options = rows,
    .options_bytes = sizeof(select_options),
    .memory = "16 bytes a row",
    .open = select_open,
    .close = select_close,
    .row = select_row,
    .observe = select_observe,
    .resolve = select_resolve,
    .apply = select_apply,
};
