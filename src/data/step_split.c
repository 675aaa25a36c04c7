/* split: each row into one of the parts train, val and test.
 *
 * A row's part depends on the hash of its text (or of its group) and the seed alone, so it stays where it is when rows
 * are added, and rows of one group never meet in two parts. Stratified: rows of each class are ranked by that hash and
 * the ranks are cut at the shares, so that each class has them exactly. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/step.h"

typedef struct split_options {
    char *column, *group, *stratify;
    double train, val, test;
} split_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(split_options),
    {"train", FM_OPT_FLOAT, offsetof(split_options, train), "0.8", 0, 1, NULL, NULL, NULL,
     "share of the training part"},
    {"val", FM_OPT_FLOAT, offsetof(split_options, val), "0.1", 0, 1, NULL, NULL, NULL, "share of the validation part"},
    {"test", FM_OPT_FLOAT, offsetof(split_options, test), "0.1", 0, 1, NULL, NULL, NULL, "share of the test part"},
    {"group", FM_OPT_STR, offsetof(split_options, group), NULL, 0, 0, NULL, NULL, "NAME",
     "column whose equal values stay in one part (a topic, a patient, a document)"},
    {"stratify", FM_OPT_STR, offsetof(split_options, stratify), NULL, 0, 0, NULL, NULL, "NAME",
     "column whose values have the same shares in every part (a class)"},
    FM_STEP_OPTIONS_END,
};

/* A row, or with a group the whole group. */
typedef struct unit {
    uint64_t key, stratum;
    int64_t rows;
} unit;

typedef struct splitter {
    unit *unit;
    size_t n, cap;
    /* After resolve: strata sorted, with the keys where val and test begin. */
    size_t n_strata;
    unit *cut_val, *cut_test;
} splitter;

static const char *const part_name[] = {"train", "val", "test"};

static fm_status split_open(fm_step *s) {
    const split_options *o = s->opt;
    double sum = o->train + o->val + o->test;
    if (sum < 0.999999 || sum > 1.000001) {
        FM_FAIL(FM_ERR_CONFIG, "train, val and test are shares: expected a sum of 1, found %g", sum);
    }
    s->state = fm_calloc(1, sizeof(splitter));
    if (!s->state) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the split");
    }
    return FM_OK;
}

static void split_close(fm_step *s) {
    splitter *k = s->state;
    if (k) {
        fm_free(k->unit);
        fm_free(k->cut_val);
        fm_free(k->cut_test);
        fm_free(k);
        s->state = NULL;
    }
}

/* The columns the split goes by; drops rows that miss one. */
static fm_status keys(fm_step_ctx *x, fm_rec *r, uint64_t *key, uint64_t *stratum) {
    const split_options *o = x->step->opt;
    const char *name = o->group ? o->group : o->column;
    const fm_cell *c = fm_rec_get(r, name);
    if (!c && !o->group) { /* rows of other forms: all columns together */
        *key = fm_rec_hash(r) ^ x->step->seed;
        *key = fm_hash64(key, sizeof *key, x->step->seed);
    } else if (!c || fm_cell_is_empty(c)) {
        return fm_step_drop(x, r, "missing column", name);
    } else {
        *key = fm_hash64(c->text.ptr, c->text.len, x->step->seed);
    }
    *stratum = 0;
    if (o->stratify) {
        const fm_cell *l = fm_rec_get(r, o->stratify);
        if (!l) {
            return fm_step_drop(x, r, "missing column", o->stratify);
        }
        *stratum = fm_hash64(l->text.ptr, l->text.len, 1);
    }
    return FM_OK;
}

static fm_status split_row(fm_step_ctx *x, fm_rec *r) {
    uint64_t key = 0, stratum = 0;
    return keys(x, r, &key, &stratum);
}

static fm_status split_observe(fm_step_ctx *x, fm_rec *r) {
    const split_options *o = x->step->opt;
    splitter *k = x->step->state;
    unit u = {.rows = 1};
    if (!o->stratify) {
        return FM_OK;
    }
    FM_TRY(keys(x, r, &u.key, &u.stratum));
    void *p = k->unit;
    FM_TRY(fm_grow(&p, &k->cap, k->n + 1, sizeof *k->unit));
    k->unit = p;
    k->unit[k->n++] = u;
    return FM_OK;
}

static int by_key(const void *a, const void *b) {
    const unit *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->stratum > y->stratum) - (x->stratum < y->stratum);
}

static int by_stratum(const void *a, const void *b) {
    const unit *x = a, *y = b;
    return x->stratum != y->stratum ? (x->stratum < y->stratum ? -1 : 1) : (x->key > y->key) - (x->key < y->key);
}

/* Where the first `rows` rows of sorted units [a, b) end: the key of the unit behind them. */
static uint64_t cut_at(const unit *a, const unit *b, double want) {
    double sum = 0;
    for (; a < b; a++) {
        if (sum + (double)a->rows / 2 > want) {
            return a->key;
        }
        sum += (double)a->rows;
    }
    return UINT64_MAX;
}

static fm_status split_resolve(fm_step *s) {
    const split_options *o = s->opt;
    splitter *k = s->state;
    if (!o->stratify || k->n == 0) {
        return FM_OK;
    }
    if (o->group) { /* one unit a group; it belongs to the class of its first rows by key order */
        qsort(k->unit, k->n, sizeof *k->unit, by_key);
        size_t n = 0;
        for (size_t i = 0; i < k->n; i++) {
            if (n && k->unit[n - 1].key == k->unit[i].key) {
                k->unit[n - 1].rows++;
            } else {
                k->unit[n++] = k->unit[i];
            }
        }
        k->n = n;
    }
    qsort(k->unit, k->n, sizeof *k->unit, by_stratum);
    size_t strata = 0;
    for (size_t i = 0; i < k->n; i++) {
        strata += i == 0 || k->unit[i].stratum != k->unit[i - 1].stratum;
    }
    k->cut_val = fm_calloc(strata, sizeof *k->cut_val);
    k->cut_test = fm_calloc(strata, sizeof *k->cut_test);
    if (!k->cut_val || !k->cut_test) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu classes", strata);
    }
    for (size_t i = 0; i < k->n;) {
        size_t e = i;
        double total = 0;
        for (; e < k->n && k->unit[e].stratum == k->unit[i].stratum; e++) {
            total += (double)k->unit[e].rows;
        }
        unit *v = &k->cut_val[k->n_strata], *t = &k->cut_test[k->n_strata++];
        v->stratum = t->stratum = k->unit[i].stratum;
        v->key = cut_at(&k->unit[i], k->unit + e, o->train * total);
        t->key = cut_at(&k->unit[i], k->unit + e, (o->train + o->val) * total);
        i = e;
    }
    return FM_OK;
}

static int part_by_share(const split_options *o, uint64_t key) {
    double u = (double)(key >> 11) * 0x1p-53;
    return u < o->train ? 0 : u < o->train + o->val || o->test == 0 ? 1 : 2;
}

/* The class under which a group was ranked. */
static uint64_t stratum_of_group(const splitter *k, uint64_t key, uint64_t own) {
    for (size_t i = 0; i < k->n_strata; i++) {
        unit want = {.key = key, .stratum = k->cut_val[i].stratum};
        if (bsearch(&want, k->unit, k->n, sizeof *k->unit, by_stratum)) {
            return want.stratum;
        }
    }
    return own;
}

static fm_status split_apply(fm_step_ctx *x, fm_rec *r) {
    const split_options *o = x->step->opt;
    const splitter *k = x->step->state;
    uint64_t key = 0, stratum = 0;
    FM_TRY(keys(x, r, &key, &stratum));
    int part = part_by_share(o, key);
    if (o->stratify) {
        if (o->group) {
            stratum = stratum_of_group(k, key, stratum);
        }
        size_t lo = 0, hi = k->n_strata;
        while (hi - lo > 1) {
            size_t mid = (lo + hi) / 2;
            if (k->cut_val[mid].stratum <= stratum) {
                lo = mid;
            } else {
                hi = mid;
            }
        }
        part = key < k->cut_val[lo].key ? 0 : key < k->cut_test[lo].key ? 1 : 2;
    }
    r->part = part_name[part];
    return fm_step_count(x, part_name[part], 1);
}

const fm_step_def fm_step_split = {
    .name = "split",
    .help = "parts train, val and test by row hash: stable, by group, stratified",
    .about = "Into a folder the parts are train.jsonl, val.jsonl and test.jsonl; beside a file OUT.jsonl they are\n"
             "OUT.train.jsonl and so on.",
    .examples =
        "fathom data split -i all.jsonl -o parts/\n"
        "fathom data split -i all.csv -o parts/ --stratify label --group patient --train 0.9 --val 0.1 --test 0",
    .options = rows,
    .options_bytes = sizeof(split_options),
    .memory = "24 bytes a row with stratify, nothing without",
    .open = split_open,
    .close = split_close,
    .row = split_row,
    .observe = split_observe,
    .resolve = split_resolve,
    .apply = split_apply,
};
