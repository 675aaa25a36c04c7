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

FM_MUST_CHECK fm_status fm_score_add(fm_score *s, const char *name, double value);

typedef fm_status (*fm_metric_fn)(fm_score *out, const fm_score_rows *rows, const fm_score_options *opt);
#define FM_METRIC(name, help)                                                                                          \
    fm_status fm_metric_##name(fm_score *out, const fm_score_rows *rows, const fm_score_options *opt);
#include "eval/metrics.def"
#undef FM_METRIC

#endif
