/* Inside of the metrics. A metric is one file and one row of metrics.def. */
#ifndef FM_EVAL_METRIC_H
#define FM_EVAL_METRIC_H

#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "fathom/eval.h"

/* Tokens of one text: pieces of `text`, in order. */
typedef struct fm_cut_text {
    fm_str text;
    fm_sv *token; /* into text */
    size_t n, cap;
    uint32_t *cp; /* work space: code points */
    size_t cap_cp, cap_cp2;
    uint32_t *cp2;
} fm_cut_text;
void fm_cut_text_deinit(fm_cut_text *c);
/* Cuts text anew; the storage of *c is reused. */
FM_MUST_CHECK fm_status fm_cut_run(fm_cut_text *c, fm_text text, fm_cut how, bool lowercase);

/* Numbers for the tokens of a few texts: equal tokens, equal numbers. */
typedef struct fm_interner {
    fm_sv *key;
    uint32_t *slot; /* [mask+1] number + 1, 0 = free */
    size_t mask, n, cap, cap_slot;
} fm_interner;
void fm_interner_deinit(fm_interner *t);
void fm_interner_clear(fm_interner *t);
/* Ids of c's tokens appended to *ids at `at` (grown). The tokens must stay where they are until the next clear. */
FM_MUST_CHECK fm_status fm_interner_ids(fm_interner *t, const fm_cut_text *c, uint32_t **ids, size_t *cap);

/* Counts of the n-grams of ids[n], sorted: run of equal ones at a time. */
typedef struct fm_ngram {
    uint32_t id[4]; /* unused places are 0 */
    uint32_t count;
} fm_ngram;
/* Fills *grams (grown) with the different n-grams of length `order` and their counts, sorted; *n_grams of them. */
FM_MUST_CHECK fm_status fm_ngrams(fm_ngram **grams, size_t *cap, size_t *n_grams, const uint32_t *ids, size_t n,
                                  int order);
int fm_ngram_order(const fm_ngram *a, const fm_ngram *b);
/* Sum of min(count) over the n-grams that both have. */
uint64_t fm_ngrams_common(const fm_ngram *a, size_t n_a, const fm_ngram *b, size_t n_b);

/* What corpus BLEU sums over rows, and the figure made of it. Counts are exact in a double. */
#define FM_BLEU_ORDER 4
typedef struct fm_bleu_counts {
    double match[FM_BLEU_ORDER], total[FM_BLEU_ORDER];
    double hyp_len, ref_len;
} fm_bleu_counts;
FM_MUST_CHECK fm_status fm_bleu_count(fm_bleu_counts *out, const fm_score_rows *rows, const fm_score_options *o);
/* precision [FM_BLEU_ORDER] in percent and *bp may be NULL. */
double fm_bleu_value(const fm_bleu_counts *b, const fm_score_options *o, double *precision, double *bp);

/* One class of a classification: what was right, what was said, what was true. */
typedef struct fm_class_counts {
    double right, said, truth;
} fm_class_counts;
/* Adds precision, recall, F1 and support of each class ("f1:LABEL") and their macro, weighted and micro averages, as
 * scikit-learn with zero_division 0. names [n]. */
FM_MUST_CHECK fm_status fm_score_classes(fm_score *s, char *const *names, const fm_class_counts *c, size_t n);

/* Names to numbers 0, 1 ... in order of first sight; sort, then find. */
typedef struct fm_label_set {
    fm_text *name; /* [n] sorted after fm_labels_sort */
    size_t n, cap;
} fm_label_set;
FM_MUST_CHECK fm_status fm_labels_add(fm_label_set *l, fm_text name);
/* Sorts (numbers by value, else by bytes: 2 before 10) and drops doubles; at most FM_SCORE_LABELS may stay. */
FM_MUST_CHECK fm_status fm_labels_sort(fm_label_set *l, const char *metric);
size_t fm_labels_find(const fm_label_set *l, fm_text name);
/* Copies into s->label. */
FM_MUST_CHECK fm_status fm_labels_copy(fm_score *s, const fm_label_set *l);
/* v [n] -> ranks from 1; equal values share the mean of theirs. */
FM_MUST_CHECK fm_status fm_ranks(double *v, size_t n);
fm_text fm_text_trim(fm_text t); /* blanks, tabs and line ends at both sides */
#define FM_SCORE_LABELS 20000

FM_MUST_CHECK fm_status fm_score_add(fm_score *s, const char *name, double value);

typedef fm_status (*fm_metric_fn)(fm_score *out, const fm_score_rows *rows, const fm_score_options *opt);
#define FM_METRIC(name, help)                                                                                          \
    fm_status fm_metric_##name(fm_score *out, const fm_score_rows *rows, const fm_score_options *opt);
#include "eval/metrics.def"
#undef FM_METRIC

#endif
