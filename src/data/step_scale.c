/* scale: numeric columns to 0..1 by ranges of the training rows, which are kept for later use. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/job.h"
#include "data/ranges.h"
#include "data/step.h"

typedef enum missing { MISSING_KEEP, MISSING_DROP, MISSING_MEAN } missing;

typedef struct scale_options {
    fm_strlist numeric;
    char *load, *save;
    int missing;
    bool clip;
} scale_options;

static const fm_option rows[] = {
    {"numeric", FM_OPT_LIST, offsetof(scale_options, numeric), NULL, 0, 0, NULL, NULL, "NAMES", "numeric columns"},
    {"load", FM_OPT_STR, offsetof(scale_options, load), NULL, 0, 0, NULL, NULL, "FILE",
     "ranges that an earlier run saved, instead of measuring"},
    {"save", FM_OPT_STR, offsetof(scale_options, save), NULL, 0, 0, NULL, NULL, "FILE",
     "where the ranges go; default: OUT.ranges.json, or ranges.json in the output folder"},
    {"missing", FM_OPT_ENUM, offsetof(scale_options, missing), "keep", 0, 0, "keep|drop|mean", NULL, NULL,
     "what becomes of a row without a number there: left as it is, dropped, or filled with the mean of the training "
     "rows"},
    {"clip", FM_OPT_BOOL, offsetof(scale_options, clip), "false", 0, 0, NULL, NULL, NULL,
     "numbers outside the range become 0 or 1 (rows outside training can have such)"},
    FM_STEP_OPTIONS_END,
};

static fm_status scale_open(fm_step *s) {
    const scale_options *o = s->opt;
    if (o->numeric.n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "scale needs columns (numeric)");
        return fm_error_hint("such as --numeric age,height");
    }
    fm_ranges *r = s->state = fm_calloc(1, sizeof *r);
    if (!r) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    return o->load ? fm_ranges_load(r, &o->numeric, o->load) : fm_ranges_new(r, &o->numeric);
}

static void scale_close(fm_step *s) {
    if (s->state) {
        fm_ranges_free(s->state);
        fm_free(s->state);
        s->state = NULL;
    }
}

static fm_status scale_observe(fm_step_ctx *x, fm_rec *r) {
    const scale_options *o = x->step->opt;
    fm_ranges *k = x->step->state;
    double v;
    for (size_t i = 0; !o->load && fm_rec_is_training(r) && i < k->n; i++) {
        if (fm_rec_number(r, k->item[i].name, &v)) {
            fm_range_add(&k->item[i], v);
        }
    }
    return FM_OK;
}

static fm_status scale_resolve(fm_step *s) {
    const scale_options *o = s->opt;
    const fm_ranges *k = s->state;
    char path[4096];
    if (o->load) {
        return FM_OK;
    }
    for (size_t i = 0; i < k->n; i++) {
        if (k->item[i].n == 0) {
            FM_FAIL(FM_ERR_DATA, "scale: no training row has a number in the column '%s'", k->item[i].name);
        }
    }
    if (o->save) {
        return fm_ranges_save(k, o->save);
    }
    if (!s->env->output || strcmp(s->env->output, "-") == 0) {
        return FM_OK; /* the manifest has them */
    }
    FM_TRY(fm_job_beside(path, sizeof path, s->env->output, "ranges.json"));
    return fm_ranges_save(k, path);
}

static fm_status scale_apply(fm_step_ctx *x, fm_rec *r) {
    const scale_options *o = x->step->opt;
    const fm_ranges *k = x->step->state;
    for (size_t i = 0; i < k->n; i++) {
        const fm_range *c = &k->item[i];
        double v;
        bool has = fm_rec_number(r, c->name, &v);
        if (!has && o->missing == MISSING_KEEP) {
            FM_TRY(fm_step_count(x, "without a number", 1));
            continue;
        }
        if (!has && o->missing == MISSING_DROP) {
            return fm_step_drop(x, r, "no number", c->name);
        }
        FM_TRY(has ? FM_OK : fm_step_count(x, "filled with the mean", 1));
        v = fm_range_scale(c, has ? v : c->mean);
        if (v < 0 || v > 1) {
            FM_TRY(fm_step_count(x, "outside the range", 1));
            v = o->clip ? FM_MIN(FM_MAX(v, 0), 1) : v;
        }
        FM_TRY(fm_rec_set_float(x->arena, r, c->name, v));
        FM_TRY(fm_step_count(x, "scaled", 1));
    }
    return FM_OK;
}

static fm_status scale_report(fm_step *s, fm_str *json) {
    return fm_ranges_put_json(s->state, json);
}

const fm_step_def fm_step_scale = {
    .name = "scale",
    .help = "numeric columns to 0..1, by ranges that are measured on training rows and kept",
    .about =
        "Behind 'split' only the part train is measured, and all parts are scaled. The file of ranges has minimum,\n"
        "maximum, mean and deviation of each column; load applies it to rows that come later.",
    .examples =
        "fathom data scale -i patients.csv -o scaled.csv --numeric age,weight\n"
        "fathom data scale -i new.csv -o new-scaled.csv --numeric age,weight --load scaled.csv.ranges.json --clip",
    .options = rows,
    .options_bytes = sizeof(scale_options),
    .memory = "nothing for a row",
    .open = scale_open,
    .close = scale_close,
    .observe = scale_observe,
    .resolve = scale_resolve,
    .apply = scale_apply,
    .report = scale_report,
};
