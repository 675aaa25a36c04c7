/* Several labels a row, separated by commas; none is an empty row. Averages as scikit-learn's over the indicator
 * matrix, zero_division 0. */
#include <string.h>

#include "eval/metric.h"

/* The next label of a row, trimmed; false at the end. */
static bool next(fm_text *rest, fm_text *label) {
    while (rest->len > 0) {
        const char *comma = memchr(rest->ptr, ',', rest->len);
        size_t n = comma ? (size_t)(comma - rest->ptr) : rest->len;
        *label = fm_text_trim((fm_text){rest->ptr, n});
        rest->ptr += n + (comma != NULL);
        rest->len -= n + (comma != NULL);
        if (label->len > 0) {
            return true;
        }
    }
    return false;
}

static fm_status collect(fm_label_set *l, const fm_text *row, size_t n) {
    for (size_t i = 0; i < n; i++) {
        fm_text rest = row[i], label;
        while (next(&rest, &label)) {
            FM_TRY(fm_labels_add(l, label));
        }
    }
    return FM_OK;
}

typedef struct sums {
    double equal, wrong, samples_f1;
} sums;

/* mark [n]: bit 0 said, bit 1 true. */
static void add_row(const fm_label_set *l, fm_class_counts *c, unsigned char *mark, fm_text hyp, fm_text ref, sums *s) {
    fm_text rest[2] = {hyp, ref}, label;
    double right = 0, either = 0, all = 0;
    memset(mark, 0, l->n + 1);
    for (int side = 0; side < 2; side++) {
        while (next(&rest[side], &label)) {
            mark[fm_labels_find(l, label)] |= (unsigned char)(1 << side);
        }
    }
    for (size_t k = 0; k < l->n; k++) {
        c[k].said += mark[k] & 1;
        c[k].truth += mark[k] >> 1;
        c[k].right += mark[k] == 3;
        right += mark[k] == 3;
        all += (mark[k] & 1) + (mark[k] >> 1);
        either += mark[k] == 1 || mark[k] == 2;
    }
    s->equal += either == 0;
    s->wrong += either;
    s->samples_f1 += all > 0 ? 2 * right / all : 0;
}

static fm_status run(fm_score *out, const fm_score_rows *rows, const fm_label_set *l) {
    fm_class_counts *c = fm_calloc(l->n + 1, sizeof *c);
    unsigned char *mark = fm_calloc(l->n + 1, 1);
    fm_status s =
        c && mark ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %zu labels", l->n);
    sums t = {0};
    double n = (double)rows->n;
    for (size_t i = 0; i < rows->n && s == FM_OK; i++) {
        add_row(l, c, mark, rows->hyp[i], rows->ref[i], &t);
    }
    s = s == FM_OK ? fm_score_classes(out, out->label, c, l->n) : s;
    out->value = fm_score_get(out, "micro_f1");
    s = s == FM_OK ? fm_score_add(out, "samples_f1", t.samples_f1 / n) : s;
    s = s == FM_OK ? fm_score_add(out, "subset_accuracy", t.equal / n) : s;
    s = s == FM_OK ? fm_score_add(out, "hamming_loss", l->n > 0 ? t.wrong / n / (double)l->n : 0) : s;
    fm_free(c);
    fm_free(mark);
    return s;
}

fm_status fm_metric_multilabel(fm_score *out, const fm_score_rows *rows, const fm_score_options *o) {
    FM_UNUSED(o);
    if (rows->n_refs != 1) {
        FM_FAIL(FM_ERR_ARGUMENT, "multilabel: expected one reference, found %zu", rows->n_refs);
    }
    fm_label_set l = {0};
    fm_status s = collect(&l, rows->hyp, rows->n);
    s = s == FM_OK ? collect(&l, rows->ref, rows->n) : s;
    s = s == FM_OK ? fm_labels_sort(&l, "multilabel") : s;
    s = s == FM_OK ? fm_labels_copy(out, &l) : s;
    s = s == FM_OK ? run(out, rows, &l) : s;
    snprintf(out->signature, sizeof out->signature, "multilabel|micro_f1|classes:%zu|zero_division:0|version:fathom-%s",
             l.n, FATHOM_VERSION);
    fm_free(l.name);
    return s;
}
