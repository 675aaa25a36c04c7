/* outliers: rows whose numbers lie far from the others, by deviation, quartiles or percentiles of the training rows. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/ranges.h"
#include "data/sorter.h"
#include "data/step.h"

typedef enum method { BY_ZSCORE, BY_IQR, BY_PERCENTILE } method;
typedef enum action { ACT_DROP, ACT_CLIP, ACT_MARK } action;

typedef struct outliers_options {
    fm_strlist numeric;
    char *into;
    int method, action;
    double limit, low, high;
    int64_t memory;
} outliers_options;

static const fm_option rows[] = {
    {"numeric", FM_OPT_LIST, offsetof(outliers_options, numeric), NULL, 0, 0, NULL, NULL, "NAMES", "numeric columns"},
    {"method", FM_OPT_ENUM, offsetof(outliers_options, method), "zscore", 0, 0, "zscore|iqr|percentile", NULL, NULL,
     "standard deviations from the mean, interquartile ranges beyond the quartiles, or percentiles"},
    {"limit", FM_OPT_FLOAT, offsetof(outliers_options, limit), "0", 0, 1e9, NULL, NULL, NULL,
     "how many deviations (0 = 3), or interquartile ranges (0 = 1.5)"},
    {"low", FM_OPT_FLOAT, offsetof(outliers_options, low), "0", 0, 100, NULL, NULL, NULL,
     "percentile: what is below it is an outlier"},
    {"high", FM_OPT_FLOAT, offsetof(outliers_options, high), "100", 0, 100, NULL, NULL, NULL,
     "percentile: what is above it is an outlier"},
    {"action", FM_OPT_ENUM, offsetof(outliers_options, action), "drop", 0, 0, "drop|clip|mark", NULL, NULL,
     "drop the row, set the number to the nearest allowed one, or write the columns' names into a column"},
    {"into", FM_OPT_STR, offsetof(outliers_options, into), "outlier", 0, 0, NULL, NULL, "NAME", "column for mark"},
    {"memory", FM_OPT_BYTES, offsetof(outliers_options, memory), "256MiB", 1 << 20, 1e15, NULL, NULL, NULL,
     "for sorting the numbers (iqr, percentile); the rest goes to disk"},
    FM_STEP_OPTIONS_END,
};

typedef struct column {
    fm_sorter *sorter; /* of the numbers, as words that sort as they do */
    double low, high;  /* allowed */
} column;

typedef struct state {
    fm_ranges ranges;
    column *column;
} state;

static fm_status outliers_open(fm_step *step) {
    const outliers_options *o = step->opt;
    if (o->numeric.n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "outliers needs columns (numeric)");
        return fm_error_hint("such as --numeric age,height");
    }
    if (o->method == BY_PERCENTILE && o->low >= o->high) {
        FM_FAIL(FM_ERR_CONFIG, "outliers: low (%g) must be below high (%g)", o->low, o->high);
    }
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s || !(s->column = fm_calloc(o->numeric.n, sizeof *s->column))) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    FM_TRY(fm_ranges_new(&s->ranges, &o->numeric));
    for (size_t i = 0; o->method != BY_ZSCORE && i < o->numeric.n; i++) {
        char path[4096], name[64];
        snprintf(name, sizeof name, "outliers-%d-%zu", (int)step->index, i);
        FM_TRY(fm_path_join(path, sizeof path, step->env->work_dir, name));
        FM_TRY(fm_sorter_new(&s->column[i].sorter, 1, o->memory / (int64_t)o->numeric.n, path));
    }
    return FM_OK;
}

static void outliers_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        for (size_t i = 0; s->column && i < s->ranges.n; i++) {
            fm_sorter_free(s->column[i].sorter);
        }
        fm_ranges_free(&s->ranges);
        fm_free(s->column);
        fm_free(s);
        step->state = NULL;
    }
}

/* Doubles as words in the same order, and back: the sign bit flipped, all bits for negative ones. */
static uint64_t word_of(double v) {
    uint64_t w;
    memcpy(&w, &v, sizeof w);
    return w >> 63 ? ~w : w | UINT64_C(1) << 63;
}

static double of_word(uint64_t w) {
    double v;
    w = w >> 63 ? w & ~(UINT64_C(1) << 63) : ~w;
    memcpy(&v, &w, sizeof v);
    return v;
}

static fm_status outliers_observe(fm_step_ctx *x, fm_rec *r) {
    state *s = x->step->state;
    double v;
    for (size_t i = 0; fm_rec_is_training(r) && i < s->ranges.n; i++) {
        if (fm_rec_number(r, s->ranges.item[i].name, &v)) {
            fm_range_add(&s->ranges.item[i], v);
            if (s->column[i].sorter) {
                uint64_t w = word_of(v);
                FM_TRY(fm_sorter_push(s->column[i].sorter, &w));
            }
        }
    }
    return FM_OK;
}

/* Quantiles a < b of n sorted numbers, linear between ranks as numpy's default. */
static fm_status quantiles(fm_sorter *sorter, int64_t n, double a, double b, double out[2]) {
    const double at[2] = {a * (double)(n - 1), b * (double)(n - 1)};
    double before = 0;
    const uint64_t *w;
    int k = 0;
    FM_TRY(fm_sorter_sort(sorter));
    for (int64_t i = 0; i < n && k < 2; i++) {
        FM_TRY(fm_sorter_next(sorter, &w));
        FM_ASSERT(w);
        double v = of_word(*w);
        before = i ? before : v;
        for (; k < 2 && at[k] <= (double)i; k++) {
            out[k] = v - (v - before) * ((double)i - at[k]);
        }
        before = v;
    }
    return FM_OK;
}

static fm_status outliers_resolve(fm_step *step) {
    const outliers_options *o = step->opt;
    state *s = step->state;
    for (size_t i = 0; i < s->ranges.n; i++) {
        const fm_range *k = &s->ranges.item[i];
        column *c = &s->column[i];
        double q[2] = {0};
        if (k->n == 0) {
            FM_FAIL(FM_ERR_DATA, "outliers: no training row has a number in the column '%s'", k->name);
        }
        if (o->method == BY_ZSCORE) {
            double reach = (o->limit > 0 ? o->limit : 3) * fm_range_sd(k);
            c->low = k->mean - reach;
            c->high = k->mean + reach;
            continue;
        }
        bool iqr = o->method == BY_IQR;
        FM_TRY(quantiles(c->sorter, k->n, iqr ? 0.25 : o->low / 100, iqr ? 0.75 : o->high / 100, q));
        double reach = iqr ? (o->limit > 0 ? o->limit : 1.5) * (q[1] - q[0]) : 0;
        c->low = q[0] - reach;
        c->high = q[1] + reach;
        fm_sorter_free(c->sorter);
        c->sorter = NULL;
    }
    return FM_OK;
}

static fm_status outliers_apply(fm_step_ctx *x, fm_rec *r) {
    const outliers_options *o = x->step->opt;
    const state *s = x->step->state;
    fm_str *names = &x->tmp[0];
    fm_str_clear(names);
    for (size_t i = 0; i < s->ranges.n; i++) {
        const column *c = &s->column[i];
        const char *name = s->ranges.item[i].name;
        double v;
        if (!fm_rec_number(r, name, &v)) {
            FM_TRY(fm_step_count(x, "without a number", 1));
            continue;
        }
        if (v >= c->low && v <= c->high) {
            continue;
        }
        FM_TRY(fm_step_count(x, name, 1));
        if (o->action == ACT_DROP) {
            char detail[160];
            snprintf(detail, sizeof detail, "%s: %g, allowed %g to %g", name, v, c->low, c->high);
            return fm_step_drop(x, r, "outlier", detail);
        }
        if (o->action == ACT_CLIP) {
            FM_TRY(fm_rec_set_float(x->arena, r, name, v < c->low ? c->low : c->high));
        }
        fm_str_puts(names, names->len ? "," : "");
        fm_str_puts(names, name);
    }
    FM_TRY(fm_str_check(names));
    if (o->action != ACT_MARK) {
        return FM_OK;
    }
    return names->len ? fm_rec_set_text(x->arena, r, o->into, names->data, names->len)
                      : fm_rec_set_null(x->arena, r, o->into);
}

static fm_status outliers_report(fm_step *step, fm_str *json) {
    const state *s = step->state;
    fm_str_putc(json, '{');
    for (size_t i = 0; i < s->ranges.n; i++) {
        const fm_range *k = &s->ranges.item[i];
        fm_str_puts(json, i ? ", " : "");
        fm_str_json(json, k->name, strlen(k->name));
        fm_str_printf(json, ": {\"low\": %.17g, \"high\": %.17g, \"mean\": %.17g, \"sd\": %.17g, \"rows\": %lld}",
                      s->column[i].low, s->column[i].high, k->mean, fm_range_sd(k), (long long)k->n);
    }
    fm_str_putc(json, '}');
    return fm_str_check(json);
}

const fm_step_def fm_step_outliers = {
    .name = "outliers",
    .help = "rows with numbers far from the others: by deviation, quartiles or percentiles",
    .about =
        "Bounds are measured on the training rows (behind 'split': the part train) and applied to all; the manifest\n"
        "has them. Rows without a number there stay. With method percentile this also cuts a column such as\n"
        "perplexity: --high 30 keeps the 30 percent that are easiest.",
    .examples = "fathom data outliers -i lab.csv -o clean.csv --numeric glucose,weight\n"
                "fathom data outliers -i lab.csv -o clipped.csv --numeric glucose --method iqr --action clip\n"
                "fathom data outliers -i scored.jsonl -o head.jsonl --numeric perplexity --method percentile --high 30",
    .options = rows,
    .options_bytes = sizeof(outliers_options),
    .memory = "zscore: nothing for a row; else 8 bytes a row and column, sorted within --memory and on disk",
    .open = outliers_open,
    .close = outliers_close,
    .observe = outliers_observe,
    .resolve = outliers_resolve,
    .apply = outliers_apply,
    .report = outliers_report,
};
