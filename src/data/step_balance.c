/* balance: classes of the training rows brought nearer to each other in number.
 *
 * Over-sampling copies rows of small classes, under-sampling leaves rows of large ones out: of a class with n rows that
 * is to have t, each row comes t / n times and the t % n with the least hash once more. SMOTE makes new rows on the
 * line between a row and one of its k nearest of the same class (Chawla et al., 2002; numbers of rows per class as
 * imbalanced-learn: all classes up to the largest). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/ranges.h"
#include "data/smote.h"
#include "data/step.h"

#define WARN_RATIO   3
#define MOST_CLASSES 100000

typedef enum method { BY_REPORT, BY_OVER, BY_UNDER, BY_SMOTE } method;

typedef struct balance_options {
    char *label, *synthetic;
    fm_strlist numeric;
    int method;
    double ratio;
    int64_t neighbours;
} balance_options;

static const fm_option rows[] = {
    {"label", FM_OPT_STR, offsetof(balance_options, label), "label", 0, 0, NULL, NULL, "NAME", "column with the class"},
    {"method", FM_OPT_ENUM, offsetof(balance_options, method), "report", 0, 0, "report|over|under|smote", NULL, NULL,
     "count only; copy rows of small classes; leave out rows of large ones; make new rows between those of small ones"},
    {"ratio", FM_OPT_FLOAT, offsetof(balance_options, ratio), "1", 1, 1e9, NULL, NULL, NULL,
     "the largest class may then have so many times the rows of the smallest"},
    {"numeric", FM_OPT_LIST, offsetof(balance_options, numeric), NULL, 0, 0, NULL, NULL, "NAMES",
     "smote: columns with numbers, or with lists of numbers of one length (embeddings)"},
    {"neighbours", FM_OPT_INT, offsetof(balance_options, neighbours), "5", 1, 1000, NULL, NULL, NULL,
     "smote: nearest rows of the same class among which one is drawn"},
    {"synthetic", FM_OPT_STR, offsetof(balance_options, synthetic), "synthetic", 0, 0, NULL, NULL, "NAME",
     "smote: column that is true in new rows; empty = none"},
    FM_STEP_OPTIONS_END,
};

typedef struct class_row {
    uint64_t class, key;
} class_row;

typedef struct class_info {
    uint64_t hash;
    char *name;
    fm_cell_kind kind;
    int64_t n, target;
    uint64_t cut; /* rows with a key up to it come once more */
    bool any;     /* whether such rows exist */
} class_info;

typedef struct state {
    class_row *row;
    size_t n, cap;
    class_info *class;
    size_t n_classes, classes_cap;
    fm_smote smote;
    int64_t n_missing;
} state;

static fm_status balance_open(fm_step *step) {
    const balance_options *o = step->opt;
    if (o->method == BY_SMOTE && o->numeric.n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "balance: smote needs numeric columns");
        return fm_error_hint("such as --numeric age,weight, or --numeric embedding");
    }
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    return FM_OK;
}

static void balance_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        for (size_t i = 0; i < s->n_classes; i++) {
            fm_free(s->class[i].name);
        }
        fm_free(s->class);
        fm_free(s->row);
        fm_smote_free(&s->smote);
        fm_free(s);
        step->state = NULL;
    }
}

static class_info *find(const state *s, uint64_t hash) {
    for (size_t i = 0; i < s->n_classes; i++) {
        if (s->class[i].hash == hash) {
            return &s->class[i];
        }
    }
    return NULL;
}

static const fm_cell *label_of(const balance_options *o, const fm_rec *r, uint64_t *hash) {
    const fm_cell *c = fm_rec_get(r, o->label);
    if (!c || fm_cell_is_empty(c)) {
        return NULL;
    }
    *hash = fm_hash64(c->text.ptr, c->text.len, 1);
    return c;
}

static fm_status balance_row(fm_step_ctx *x, fm_rec *r) {
    const balance_options *o = x->step->opt;
    uint64_t hash;
    return label_of(o, r, &hash) ? FM_OK : fm_step_drop(x, r, "missing column", o->label);
}

static uint64_t key_of(const fm_step *step, const fm_rec *r) {
    return fm_hash64(&r->ordinal, sizeof r->ordinal, step->seed);
}

static fm_status add_class(state *s, const fm_cell *label, uint64_t hash, class_info **out) {
    void *p = s->class;
    if (s->n_classes == MOST_CLASSES) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "balance: more than %d different classes", MOST_CLASSES);
        return fm_error_hint("is '%.*s' the column with the class?", (int)label->name.len, label->name.ptr);
    }
    FM_TRY(fm_grow(&p, &s->classes_cap, s->n_classes + 1, sizeof *s->class));
    s->class = p;
    class_info *c = &s->class[s->n_classes];
    *c = (class_info){.hash = hash, .kind = label->kind, .name = fm_strndup(label->text.ptr, label->text.len)};
    if (!c->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold the name of a class");
    }
    s->n_classes++;
    *out = c;
    return FM_OK;
}

static fm_status balance_observe(fm_step_ctx *x, fm_rec *r) {
    const balance_options *o = x->step->opt;
    state *s = x->step->state;
    uint64_t hash;
    const fm_cell *label = label_of(o, r, &hash);
    if (!label || !fm_rec_is_training(r)) {
        return FM_OK;
    }
    class_info *c = find(s, hash);
    if (!c) {
        FM_TRY(add_class(s, label, hash, &c));
    }
    c->n++;
    if (o->method == BY_OVER || o->method == BY_UNDER) {
        void *p = s->row;
        FM_TRY(fm_grow(&p, &s->cap, s->n + 1, sizeof *s->row));
        s->row = p;
        s->row[s->n++] = (class_row){hash, key_of(x->step, r)};
    }
    if (o->method == BY_SMOTE) {
        bool complete;
        FM_TRY(fm_smote_add(&s->smote, r, &o->numeric, (int32_t)(c - s->class), &complete));
        s->n_missing += !complete;
        c->n -= !complete; /* counts what new rows can be made of */
    }
    return FM_OK;
}

static int by_class(const void *a, const void *b) {
    const class_row *x = a, *y = b;
    return x->class != y->class ? (x->class < y->class ? -1 : 1) : (x->key > y->key) - (x->key < y->key);
}

static fm_status set_cuts(state *s) {
    if (s->n) {
        qsort(s->row, s->n, sizeof *s->row, by_class);
    }
    for (size_t i = 0, e; i < s->n; i = e) {
        class_info *c = find(s, s->row[i].class);
        for (e = i; e < s->n && s->row[e].class == s->row[i].class; e++) {
        }
        FM_ASSERT(c && c->n == (int64_t)(e - i));
        int64_t more = c->target % c->n;
        c->any = more > 0;
        c->cut = more ? s->row[i + (size_t)more - 1].key : 0;
    }
    fm_free(s->row);
    s->row = NULL;
    s->n = s->cap = 0;
    return FM_OK;
}

static fm_status balance_resolve(fm_step *step) {
    const balance_options *o = step->opt;
    state *s = step->state;
    int64_t least = INT64_MAX, most = 0;
    for (size_t i = 0; i < s->n_classes; i++) {
        least = FM_MIN(least, s->class[i].n);
        most = FM_MAX(most, s->class[i].n);
    }
    if (s->n_classes && o->method == BY_REPORT && (double)most > WARN_RATIO * (double)least) {
        fm_warn("balance: the largest class has %lld training rows, the smallest %lld: more than %d to 1",
                (long long)most, (long long)least, WARN_RATIO);
    }
    for (size_t i = 0; i < s->n_classes; i++) {
        class_info *c = &s->class[i];
        c->target = c->n;
        if (o->method == BY_OVER || o->method == BY_SMOTE) {
            c->target = FM_MAX(c->n, (int64_t)ceil((double)most / o->ratio));
        } else if (o->method == BY_UNDER) {
            c->target = FM_MIN(c->n, (int64_t)floor((double)least * o->ratio));
        }
    }
    if (o->method == BY_SMOTE) {
        return fm_smote_prepare(&s->smote, (int)s->n_classes);
    }
    return set_cuts(s);
}

static fm_status balance_apply(fm_step_ctx *x, fm_rec *r) {
    const balance_options *o = x->step->opt;
    const state *s = x->step->state;
    uint64_t hash;
    if ((o->method != BY_OVER && o->method != BY_UNDER) || !fm_rec_is_training(r) || !label_of(o, r, &hash)) {
        return FM_OK;
    }
    const class_info *c = find(s, hash);
    FM_ASSERT(c && c->n > 0);
    int64_t copies = c->target / c->n + (c->any && key_of(x->step, r) <= c->cut);
    if (copies == 0) {
        return fm_step_drop(x, r, "class too large", c->name);
    }
    for (int64_t i = 1; i < copies; i++) {
        fm_rec *copy;
        FM_TRY(fm_step_emit(x, &copy, r));
    }
    return fm_step_count(x, "copies", copies - 1);
}

/* One new row: numbers, class, mark. */
static fm_status emit_new(fm_step_ctx *x, const class_info *c, const double *v) {
    const balance_options *o = x->step->opt;
    const state *s = x->step->state;
    fm_rec *r;
    FM_TRY(fm_step_emit(x, &r, NULL));
    FM_TRY(fm_smote_put(&s->smote, x->arena, r, &o->numeric, v, &x->tmp[0]));
    FM_TRY(c->kind == FM_CELL_TEXT ? fm_rec_set_text(x->arena, r, o->label, c->name, strlen(c->name))
                                   : fm_rec_set_json(x->arena, r, o->label, c->name, strlen(c->name)));
    if (c->kind != FM_CELL_TEXT) {
        r->cell[r->n - 1].kind = c->kind;
    }
    r->part = s->smote.part;
    r->source = -1;
    return o->synthetic ? fm_rec_set_bool(x->arena, r, o->synthetic, true) : FM_OK;
}

static fm_status balance_tail(fm_step_ctx *x) {
    const balance_options *o = x->step->opt;
    state *s = x->step->state;
    double *v = NULL;
    fm_status st = FM_OK;
    if (o->method != BY_SMOTE || s->smote.width == 0) {
        return FM_OK;
    }
    v = fm_calloc(s->smote.width, sizeof *v);
    if (!v) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot make new rows");
    }
    for (size_t k = 0; st == FM_OK && k < s->n_classes; k++) {
        const class_info *c = &s->class[k];
        fm_rng_key rng = {.seed = x->step->seed, .stream = fm_rng_stream("smote"), .step = (uint32_t)k};
        for (int64_t i = 0; st == FM_OK && c->n > 0 && i < c->target - c->n; i++) {
            st = fm_smote_make(&s->smote, (int)k, (int)o->neighbours, rng, (uint64_t)i, v);
            if (st == FM_OK) {
                st = emit_new(x, c, v);
            }
        }
        if (st == FM_OK) {
            st = fm_step_count(x, "new rows", c->n > 0 ? c->target - c->n : 0);
        }
    }
    fm_free(v);
    return st;
}

static fm_status balance_report(fm_step *step, fm_str *json) {
    const state *s = step->state;
    int64_t least = INT64_MAX, most = 0, least_after = INT64_MAX, most_after = 0;
    fm_str_puts(json, "{\"classes\": {");
    for (size_t i = 0; i < s->n_classes; i++) {
        const class_info *c = &s->class[i];
        least = FM_MIN(least, c->n);
        most = FM_MAX(most, c->n);
        least_after = FM_MIN(least_after, c->target);
        most_after = FM_MAX(most_after, c->target);
        fm_str_puts(json, i ? ", " : "");
        fm_str_json(json, c->name, strlen(c->name));
        fm_str_printf(json, ": {\"rows\": %lld, \"after\": %lld}", (long long)c->n, (long long)c->target);
    }
    fm_str_puts(json, "}");
    if (s->n_classes && least > 0) {
        fm_str_printf(json, ", \"ratio\": %.6g, \"ratio_after\": %.6g", (double)most / (double)least,
                      (double)most_after / (double)least_after);
    }
    fm_str_printf(json, ", \"without_numbers\": %lld}", (long long)s->n_missing);
    return fm_str_check(json);
}

const fm_step_def fm_step_balance = {
    .name = "balance",
    .help = "ratio of classes; over- and under-sampling and SMOTE of the training rows",
    .about =
        "Behind 'split' only the part train changes. The manifest has the rows of each class before and after;\n"
        "report warns when the largest class has more than 3 times the rows of the smallest. New rows of smote have\n"
        "the numeric columns and the label alone.",
    .examples = "fathom data balance -i train.csv -o same.csv\n"
                "fathom data balance -i train.jsonl -o balanced.jsonl --method over --ratio 3\n"
                "fathom data balance -i lab.csv -o balanced.csv --method smote --numeric age,glucose --label diagnosis",
    .options = rows,
    .options_bytes = sizeof(balance_options),
    .memory = "16 bytes a training row (over, under), 8 bytes a number (smote), nothing for report",
    .open = balance_open,
    .close = balance_close,
    .row = balance_row,
    .observe = balance_observe,
    .resolve = balance_resolve,
    .apply = balance_apply,
    .tail = balance_tail,
    .report = balance_report,
};
