/* The table of metrics and the result they fill. */
#include <math.h>
#include <string.h>

#include "eval/metric.h"

typedef struct metric_row {
    const char *name, *help;
    fm_metric_fn run;
} metric_row;

static const metric_row metrics[] = {
#define FM_METRIC(name, help) {#name, help, fm_metric_##name},
#include "eval/metrics.def"
#undef FM_METRIC
};

const char *fm_metric_name(int i, const char **help) {
    if (i < 0 || i >= (int)FM_ARRAY_LEN(metrics)) {
        return NULL;
    }
    if (help) {
        *help = metrics[i].help;
    }
    return metrics[i].name;
}

fm_status fm_score_add(fm_score *s, const char *name, double value) {
    size_t cap = s->n_parts;
    /* Parts are few and grow by one; the capacity is not kept. */
    FM_TRY(fm_grow((void **)&s->part, &cap, s->n_parts + 1, sizeof *s->part));
    fm_score_part *p = &s->part[s->n_parts++];
    size_t n = FM_MIN(strlen(name), sizeof p->name - 1);
    n = fm_utf8_complete_prefix(name, n);
    memcpy(p->name, name, n);
    p->name[n] = '\0';
    p->value = value;
    return FM_OK;
}

double fm_score_get(const fm_score *s, const char *name) {
    for (size_t i = 0; i < s->n_parts; i++) {
        if (strcmp(s->part[i].name, name) == 0) {
            return s->part[i].value;
        }
    }
    return (double)NAN;
}

void fm_score_deinit(fm_score *s) {
    fm_free(s->part);
    for (size_t i = 0; i < s->n_labels; i++) {
        fm_free(s->label[i]);
    }
    fm_free(s->label);
    fm_free(s->confusion);
    *s = (fm_score){0};
}

fm_status fm_score_run(fm_score *out, const char *metric, const fm_score_rows *rows, const fm_score_options *opt) {
    static const fm_score_options none = {.size = sizeof none};
    *out = (fm_score){0};
    const char *names[FM_ARRAY_LEN(metrics)];
    const metric_row *row = NULL;
    for (size_t i = 0; i < FM_ARRAY_LEN(metrics); i++) {
        names[i] = metrics[i].name;
        row = strcmp(metrics[i].name, metric) == 0 ? &metrics[i] : row;
    }
    if (!row) {
        int near = fm_nearest_name(metric, names, (int)FM_ARRAY_LEN(names));
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "metric \"%s\" is not known", metric);
        return near >= 0 ? fm_error_hint("did you mean %s?", names[near])
                         : fm_error_hint("metrics: bleu, rouge, em, f1, accuracy, entity, multilabel, regression");
    }
    if (rows->n == 0 || rows->n_refs == 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s: there are no rows to compare", metric);
    }
    fm_status s = row->run(out, rows, opt ? opt : &none);
    if (s != FM_OK) {
        fm_score_deinit(out);
    }
    return s;
}
