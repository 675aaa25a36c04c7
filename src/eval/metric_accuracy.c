/* Classification: a row is one label on each side. Averages as scikit-learn's with zero_division 0: classes are those
 * seen on either side. */
#include <math.h>
#include <string.h>

#include "eval/metric.h"

/* Matthews' correlation of several classes (Gorodkin 2004), Cohen's kappa (1960), mean recall of the true classes. */
static fm_status agreement(fm_score *out, const fm_class_counts *c, size_t n, double rows) {
    double right = 0, pt = 0, pp = 0, tt = 0, recall = 0, n_true = 0;
    for (size_t k = 0; k < n; k++) {
        right += c[k].right;
        pt += c[k].said * c[k].truth;
        pp += c[k].said * c[k].said;
        tt += c[k].truth * c[k].truth;
        recall += c[k].truth > 0 ? c[k].right / c[k].truth : 0;
        n_true += c[k].truth > 0;
    }
    double below = sqrt((rows * rows - pp) * (rows * rows - tt)), chance = pt / rows;
    FM_TRY(fm_score_add(out, "balanced_accuracy", recall / n_true));
    FM_TRY(fm_score_add(out, "matthews", below > 0 ? (right * rows - pt) / below : 0));
    return fm_score_add(out, "kappa", rows > chance ? (right - chance) / (rows - chance) : (double)NAN);
}

static fm_status count(fm_score *out, const fm_score_rows *rows, const fm_label_set *labels) {
    size_t n = labels->n;
    out->confusion = fm_calloc(n * n, sizeof *out->confusion);
    fm_class_counts *c = fm_calloc(n, sizeof *c);
    fm_status s = FM_OK;
    if (!out->confusion || !c) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for the confusion matrix of %zu labels", n);
    }
    double right = 0;
    for (size_t i = 0; i < rows->n && s == FM_OK; i++) {
        size_t truth = fm_labels_find(labels, fm_text_trim(rows->ref[i]));
        size_t said = fm_labels_find(labels, fm_text_trim(rows->hyp[i]));
        out->confusion[truth * n + said]++;
        c[truth].truth++;
        c[said].said++;
        c[truth].right += truth == said;
        right += truth == said;
    }
    out->value = right / (double)rows->n;
    s = s == FM_OK ? fm_score_classes(out, out->label, c, n) : s;
    s = s == FM_OK ? agreement(out, c, n, (double)rows->n) : s;
    fm_free(c);
    return s;
}

fm_status fm_metric_accuracy(fm_score *out, const fm_score_rows *rows, const fm_score_options *o) {
    FM_UNUSED(o);
    if (rows->n_refs != 1) {
        FM_FAIL(FM_ERR_ARGUMENT, "accuracy: expected one reference, found %zu", rows->n_refs);
    }
    fm_label_set labels = {0};
    fm_status s = FM_OK;
    for (size_t i = 0; i < rows->n && s == FM_OK; i++) {
        s = fm_labels_add(&labels, fm_text_trim(rows->hyp[i]));
        s = s == FM_OK ? fm_labels_add(&labels, fm_text_trim(rows->ref[i])) : s;
    }
    s = s == FM_OK ? fm_labels_sort(&labels, "accuracy") : s;
    s = s == FM_OK ? fm_labels_copy(out, &labels) : s;
    s = s == FM_OK ? count(out, rows, &labels) : s;
    snprintf(out->signature, sizeof out->signature, "accuracy|classes:%zu|zero_division:0|version:fathom-%s", labels.n,
             FATHOM_VERSION);
    fm_free(labels.name);
    return s;
}
