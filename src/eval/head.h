/* Inside of the kind `head`: what a head says of a text, against what stands in the row. */
#ifndef FM_EVAL_HEAD_H
#define FM_EVAL_HEAD_H

#include "eval/task.h"

typedef enum fm_judged {
    FM_JUDGED_LABEL,
    FM_JUDGED_LABELS,
    FM_JUDGED_NUMBERS,
    FM_JUDGED_TAGS,
    FM_JUDGED_SPAN
} fm_judged;

typedef struct fm_judged_head {
    int index;
    fm_judged what;
    int32_t n_outputs;
    const char **name; /* [n_outputs] labels; NULL for numbers and spans */
} fm_judged_head;

/* One text on its way. */
typedef struct fm_judged_text {
    const float *scores;  /* [n_outputs], or [n_tokens,n_outputs] for tags and spans */
    const int16_t *marks; /* [n_tokens] tag + 1 of first tokens of words; span: 1 = may be answered with */
    int32_t n_tokens;
    const float *values; /* label id; 0 or 1 of each label; numbers; first and last token of the answer */
} fm_judged_text;

/* Declares the measures of a head. */
FM_MUST_CHECK fm_status fm_head_measures(fm_eval *e, const fm_judged_head *h);
/* Row i: its numbers, its rank and what was said. Numbers of regression heads come by fm_head_numbers. */
FM_MUST_CHECK fm_status fm_head_judge(const fm_eval *e, const fm_judged_head *h, fm_eval_scores *s, size_t i,
                                      const fm_judged_text *t);
/* All rows of a regression head: said and truth [n_rows,n_outputs]. */
FM_MUST_CHECK fm_status fm_head_numbers(const fm_eval *e, const fm_judged_head *h, fm_eval_scores *s,
                                        const double *said, const double *truth);

#endif
