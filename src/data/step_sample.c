/* sample: some of the rows, chosen by the hash of their place and the seed. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/step.h"

typedef struct sample_options {
    int64_t n;
    double fraction;
    char *by;
} sample_options;

static const fm_option rows[] = {
    {"rows", FM_OPT_INT, offsetof(sample_options, n), "0", 0, 1e12, NULL, NULL, NULL,
     "exactly so many rows (all, when there are fewer)"},
    {"fraction", FM_OPT_FLOAT, offsetof(sample_options, fraction), "0", 0, 1, NULL, NULL, NULL,
     "or this share of them"},
    {"by", FM_OPT_STR, offsetof(sample_options, by), NULL, 0, 0, NULL, NULL, "NAME",
     "so many rows, or this share, of each value of the column"},
    FM_STEP_OPTIONS_END,
};

/* A row that was seen: group, then key, then place. */
typedef struct seen {
    uint64_t group, key;
} seen;

typedef struct sampler {
    seen *item;
    size_t n, cap;
    seen *cut; /* [n_groups] sorted: rows with a key up to it stay */
    size_t n_groups;
} sampler;

static fm_status sample_open(fm_step *s) {
    const sample_options *o = s->opt;
    if ((o->n > 0) == (o->fraction > 0)) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "sample needs rows or fraction, one of them");
        return fm_error_hint("such as --rows 1000, or --fraction 0.01");
    }
    s->state = fm_calloc(1, sizeof(sampler));
    if (!s->state) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the sample");
    }
    return FM_OK;
}

static void sample_close(fm_step *s) {
    sampler *k = s->state;
    if (k) {
        fm_free(k->item);
        fm_free(k->cut);
        fm_free(k);
        s->state = NULL;
    }
}

static seen place(const fm_step_ctx *x, const fm_rec *r) {
    const sample_options *o = x->step->opt;
    seen e = {.key = fm_hash64(&r->ordinal, sizeof r->ordinal, x->step->seed)};
    const fm_cell *c = o->by ? fm_rec_get(r, o->by) : NULL;
    e.group = c ? fm_hash64(c->text.ptr, c->text.len, 1) : 0;
    return e;
}

static fm_status sample_observe(fm_step_ctx *x, fm_rec *r) {
    sampler *k = x->step->state;
    void *p = k->item;
    FM_TRY(fm_grow(&p, &k->cap, k->n + 1, sizeof *k->item));
    k->item = p;
    k->item[k->n++] = place(x, r);
    return FM_OK;
}

static int by_group(const void *a, const void *b) {
    const seen *x = a, *y = b;
    return x->group != y->group ? (x->group < y->group ? -1 : 1) : (x->key > y->key) - (x->key < y->key);
}

static fm_status sample_resolve(fm_step *s) {
    const sample_options *o = s->opt;
    sampler *k = s->state;
    if (k->n == 0) {
        return FM_OK;
    }
    qsort(k->item, k->n, sizeof *k->item, by_group);
    size_t groups = 0;
    for (size_t i = 0; i < k->n; i++) {
        groups += i == 0 || k->item[i].group != k->item[i - 1].group;
    }
    k->cut = fm_calloc(groups, sizeof *k->cut);
    if (!k->cut) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu groups of the sample", groups);
    }
    for (size_t i = 0; i < k->n;) {
        size_t e = i;
        while (e < k->n && k->item[e].group == k->item[i].group) {
            e++;
        }
        double share = o->fraction * (double)(e - i);
        size_t take = o->n > 0 ? (size_t)FM_MIN(o->n, (int64_t)(e - i)) : (size_t)(share + 0.5);
        if (take) { /* a group of which nothing is taken has no row here */
            k->cut[k->n_groups++] = k->item[i + take - 1];
        }
        i = e;
    }
    fm_free(k->item);
    k->item = NULL;
    k->n = k->cap = 0;
    return FM_OK;
}

static fm_status sample_apply(fm_step_ctx *x, fm_rec *r) {
    const sampler *k = x->step->state;
    seen e = place(x, r);
    size_t lo = 0, hi = k->n_groups;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (k->cut[mid].group < e.group) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    bool stays = lo < k->n_groups && k->cut[lo].group == e.group && e.key <= k->cut[lo].key;
    return stays ? FM_OK : fm_step_drop(x, r, "not in the sample", NULL);
}

const fm_step_def fm_step_sample = {
    .name = "sample",
    .help = "some of the rows at random: so many, or a share; of each class on request",
    .examples = "fathom data sample -i big.jsonl.zst -o small.jsonl --rows 10000\n"
                "fathom data sample -i all.csv -o balanced.csv --rows 500 --by label",
    .options = rows,
    .options_bytes = sizeof(sample_options),
    .memory = "16 bytes a row",
    .open = sample_open,
    .close = sample_close,
    .observe = sample_observe,
    .resolve = sample_resolve,
    .apply = sample_apply,
};
