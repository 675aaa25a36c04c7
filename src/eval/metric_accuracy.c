/* Classification: a row is one label on each side. Averages as scikit-learn's with zero_division 0: classes are those
 * seen on either side. */
#include <stdlib.h>
#include <string.h>

#include "eval/metric.h"

#define MAX_LABELS 20000

/* qsort and bsearch want one object each. */
typedef struct label_ref {
    fm_text text;
} label_ref;

static fm_text trim(fm_text t) {
    while (t.len > 0 && strchr(" \t\r\n", t.ptr[t.len - 1])) {
        t.len--;
    }
    while (t.len > 0 && strchr(" \t\r\n", t.ptr[0])) {
        t.ptr++;
        t.len--;
    }
    return t;
}

/* Numbers by value, else by bytes: 2 before 10. */
static int compare(const void *a, const void *b) {
    fm_text x = ((const label_ref *)a)->text, y = ((const label_ref *)b)->text;
    size_t n = FM_MIN(x.len, y.len);
    bool digits = x.len > 0 && y.len > 0 && x.len < 10 && y.len < 10;
    for (size_t i = 0; digits && i < FM_MAX(x.len, y.len); i++) {
        digits = (i >= x.len || (x.ptr[i] >= '0' && x.ptr[i] <= '9')) &&
                 (i >= y.len || (y.ptr[i] >= '0' && y.ptr[i] <= '9'));
    }
    if (digits && x.len != y.len) {
        return x.len < y.len ? -1 : 1;
    }
    int c = n > 0 ? memcmp(x.ptr, y.ptr, n) : 0;
    return c != 0 ? c : (x.len > y.len) - (x.len < y.len);
}

static fm_status collect(fm_score *out, const fm_score_rows *rows, label_ref **labels, size_t *n_labels) {
    size_t total = rows->n * 2, n = 0;
    label_ref *l = fm_calloc(total, sizeof *l);
    if (!l) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu labels", total);
    }
    *labels = l;
    for (size_t i = 0; i < rows->n; i++) {
        l[2 * i].text = trim(rows->hyp[i]);
        l[2 * i + 1].text = trim(rows->ref[i]);
    }
    qsort(l, total, sizeof *l, compare);
    for (size_t i = 0; i < total; i++) {
        if (n == 0 || compare(&l[n - 1], &l[i]) != 0) {
            l[n++] = l[i];
        }
    }
    *n_labels = n;
    if (n > MAX_LABELS) {
        FM_FAIL(FM_ERR_ARGUMENT, "accuracy: %zu different labels; at most %d are compared", n, MAX_LABELS);
    }
    out->confusion = fm_calloc(n * n, sizeof *out->confusion);
    out->label = fm_calloc(n, sizeof *out->label);
    if (!out->confusion || !out->label) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the confusion matrix of %zu labels", n);
    }
    for (size_t i = 0; i < n; i++) {
        out->label[i] = fm_strndup(l[i].text.len ? l[i].text.ptr : "", l[i].text.len);
        if (!out->label[i]) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu labels", n);
        }
        out->n_labels = i + 1;
    }
    return FM_OK;
}

static size_t index_of(const label_ref *labels, size_t n, fm_text t) {
    label_ref key = {trim(t)};
    const label_ref *at = bsearch(&key, labels, n, sizeof key, compare);
    return (size_t)(at - labels);
}

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0;
}

static fm_status averages(fm_score *out, size_t n_rows) {
    size_t n = out->n_labels;
    double macro[3] = {0}, weighted[3] = {0}, hits = 0;
    for (size_t k = 0; k < n; k++) {
        double tp = (double)out->confusion[k * n + k], truth = 0, said = 0;
        for (size_t j = 0; j < n; j++) {
            truth += (double)out->confusion[k * n + j];
            said += (double)out->confusion[j * n + k];
        }
        double v[3] = {ratio(tp, said), ratio(tp, truth), ratio(2 * tp, said + truth)};
        hits += tp;
        for (int i = 0; i < 3; i++) {
            macro[i] += v[i] / (double)n;
            weighted[i] += v[i] * truth / (double)n_rows;
        }
        static const char *const part[3] = {"precision", "recall", "f1"};
        for (int i = 0; i < 3; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s:%.48s", part[i], out->label[k]);
            FM_TRY(fm_score_add(out, name, v[i]));
        }
    }
    out->value = hits / (double)n_rows;
    static const char *const names[] = {"macro_precision",    "macro_recall",    "macro_f1",
                                        "weighted_precision", "weighted_recall", "weighted_f1"};
    for (int i = 0; i < 6; i++) {
        FM_TRY(fm_score_add(out, names[i], i < 3 ? macro[i] : weighted[i - 3]));
    }
    /* One label a row: micro precision, recall and F1 are the accuracy. */
    return fm_score_add(out, "micro_f1", out->value);
}

fm_status fm_metric_accuracy(fm_score *out, const fm_score_rows *rows, const fm_score_options *o) {
    FM_UNUSED(o);
    if (rows->n_refs != 1) {
        FM_FAIL(FM_ERR_ARGUMENT, "accuracy: expected one reference, found %zu", rows->n_refs);
    }
    label_ref *labels = NULL;
    size_t n = 0;
    fm_status s = collect(out, rows, &labels, &n);
    for (size_t i = 0; i < rows->n && s == FM_OK; i++) {
        out->confusion[index_of(labels, n, rows->ref[i]) * n + index_of(labels, n, rows->hyp[i])]++;
    }
    fm_free(labels);
    FM_TRY(s);
    FM_TRY(averages(out, rows->n));
    snprintf(out->signature, sizeof out->signature, "accuracy|classes:%zu|zero_division:0|version:fathom-%s", n,
             FATHOM_VERSION);
    return FM_OK;
}
