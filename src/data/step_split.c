/* split: each row into one of the parts train, val and test.
 *
 * A row's part depends on the hash of its text (or of its group) and the seed alone, so it stays where it is when rows
 * are added, and rows of one group never meet in two parts. Texts are compared without case, punctuation and runs of
 * blanks, as dedup does: equal ones are a group. Stratified: groups are ranked by that hash within the class that most
 * of their rows have, and the ranks are cut at the shares, so that each class has them to the size of a group. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/step.h"
#include "data/textnorm.h"

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
     "column whose equal values stay in one part (a topic, a patient, a document); else equal texts do"},
    {"stratify", FM_OPT_STR, offsetof(split_options, stratify), NULL, 0, 0, NULL, NULL, "NAME",
     "column whose values have the same shares in every part (a class)"},
    FM_STEP_OPTIONS_END,
};

/* A row, later the whole group. */
typedef struct unit {
    uint64_t key, stratum;
    int64_t rows;
} unit;

typedef struct splitter {
    unit *unit;
    size_t n, cap;
    unit *moved; /* by key: groups of several classes, with the one they are ranked in */
    size_t n_moved, moved_cap;
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
        fm_free(k->moved);
        fm_free(k->cut_val);
        fm_free(k->cut_test);
        fm_free(k);
        s->state = NULL;
    }
}

static uint64_t class_of(const fm_cell *label) {
    return fm_hash64(label->text.ptr, label->text.len, 1);
}

/* The columns the split goes by; drops rows that miss one. */
static fm_status keys(fm_step_ctx *x, fm_rec *r, uint64_t *key, uint64_t *stratum) {
    const split_options *o = x->step->opt;
    const char *name = o->group ? o->group : o->column;
    const fm_cell *c = fm_rec_get(r, name);
    fm_sv value = {0};
    if (!c && !o->group) { /* rows of other forms: all columns together */
        *key = fm_rec_hash(r) ^ x->step->seed;
        *key = fm_hash64(key, sizeof *key, x->step->seed);
    } else if (!c || fm_cell_is_empty(c)) {
        return fm_step_drop(x, r, "missing column", name);
    } else {
        value = c->text;
        if (!o->group) {
            FM_TRY(fm_textnorm(&x->tmp[0], c->text, FM_NORM_TEXT));
            value = x->tmp[0].len ? (fm_sv){x->tmp[0].data, x->tmp[0].len} : value;
        }
        *key = fm_hash64(value.ptr, value.len, x->step->seed);
    }
    *stratum = 0;
    if (o->stratify) {
        const fm_cell *l = fm_rec_get(r, o->stratify);
        if (!l) {
            return fm_step_drop(x, r, "missing column", o->stratify);
        }
        *stratum = class_of(l);
    }
    return FM_OK;
}

/* What the row goes by, for observe. */
static fm_status split_row(fm_step_ctx *x, fm_rec *r) {
    unit *u = fm_bump_alloc(x->arena, sizeof *u);
    if (!u) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold the key of a row");
    }
    *u = (unit){.rows = 1};
    r->aux = u;
    return keys(x, r, &u->key, &u->stratum);
}

static fm_status split_observe(fm_step_ctx *x, fm_rec *r) {
    const split_options *o = x->step->opt;
    splitter *k = x->step->state;
    const unit *u = r->aux;
    FM_ASSERT(u);
    r->note = u->key;
    if (!o->stratify) {
        return FM_OK;
    }
    void *p = k->unit;
    FM_TRY(fm_grow(&p, &k->cap, k->n + 1, sizeof *k->unit));
    k->unit = p;
    k->unit[k->n++] = *u;
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

/* Of rows one unit a group. */
static fm_status make_groups(splitter *k) {
    qsort(k->unit, k->n, sizeof *k->unit, by_key);
    size_t n = 0;
    for (size_t i = 0, e; i < k->n; i = e) {
        const unit first = k->unit[i];
        unit group = first;
        int64_t most = 0;
        for (e = i; e < k->n && k->unit[e].key == first.key;) { /* runs of a class; of equal ones the first */
            size_t run = e;
            while (e < k->n && k->unit[e].key == first.key && k->unit[e].stratum == k->unit[run].stratum) {
                e++;
            }
            if ((int64_t)(e - run) > most) {
                most = (int64_t)(e - run);
                group.stratum = k->unit[run].stratum;
            }
        }
        group.rows = (int64_t)(e - i);
        if (most < group.rows) {
            void *p = k->moved;
            FM_TRY(fm_grow(&p, &k->moved_cap, k->n_moved + 1, sizeof *k->moved));
            k->moved = p;
            k->moved[k->n_moved++] = group;
        }
        k->unit[n++] = group;
    }
    k->n = n;
    return FM_OK;
}

static fm_status split_resolve(fm_step *s) {
    const split_options *o = s->opt;
    splitter *k = s->state;
    if (!o->stratify || k->n == 0) {
        return FM_OK;
    }
    FM_TRY(make_groups(k));
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

static int key_only(const void *a, const void *b) {
    const unit *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

/* The class in which the row's group was ranked. */
static uint64_t stratum_of(const splitter *k, uint64_t key, const fm_cell *label) {
    const unit want = {.key = key};
    const unit *moved = k->n_moved ? bsearch(&want, k->moved, k->n_moved, sizeof *k->moved, key_only) : NULL;
    FM_ASSERT(label);
    return moved ? moved->stratum : class_of(label);
}

static fm_status split_apply(fm_step_ctx *x, fm_rec *r) {
    const split_options *o = x->step->opt;
    const splitter *k = x->step->state;
    const uint64_t key = r->note;
    int part = part_by_share(o, key);
    if (o->stratify) {
        const uint64_t stratum = stratum_of(k, key, fm_rec_get(r, o->stratify));
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
    .memory = "24 bytes a row with stratify, and 24 a group of several classes; nothing without",
    .open = split_open,
    .close = split_close,
    .row = split_row,
    .observe = split_observe,
    .resolve = split_resolve,
    .apply = split_apply,
};
