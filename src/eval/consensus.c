/* Of several answers to one question the one that agrees best with the others: minimum Bayes risk (Kumar and Byrne
 * 2004) with sentence BLEU as the gain and the answers themselves as the distribution. */
#include "eval/task.h"

#include "eval/metric.h"

/* Agreement of `a` with `b`, 0 to 100. */
static fm_status agreement(double *out, fm_text a, fm_text b, fm_cut cut) {
    fm_score_options o = {
        .size = sizeof o, .cut = cut, .smooth = FM_SMOOTH_ADD_K, .smooth_value = 1, .effective_order = true};
    fm_score_rows rows = {.n = 1, .n_refs = 1, .hyp = &a, .ref = &b};
    fm_bleu_counts c;
    FM_TRY(fm_bleu_count(&c, &rows, &o));
    *out = fm_bleu_value(&c, &o, NULL, NULL);
    return FM_OK;
}

fm_status fm_eval_consensus(size_t *best, const fm_text *answer, size_t n, fm_cut cut) {
    double most = -1;
    *best = 0;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < n; k++) {
            double one = 0;
            if (k != i) {
                FM_TRY(agreement(&one, answer[i], answer[k], cut));
            }
            sum += one;
        }
        if (sum > most) { /* the earlier one of equals: the greedy answer comes first */
            most = sum;
            *best = i;
        }
    }
    return FM_OK;
}
