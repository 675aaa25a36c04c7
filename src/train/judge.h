/* What an evaluation says of one head: losses of rows from its scores, and counts that become metrics. */
#ifndef FM_TRAIN_JUDGE_H
#define FM_TRAIN_JUDGE_H

#include "data/entities.h"
#include "model/heads.h"
#include "train/objective.h"

typedef struct fm_judge {
    fm_head_kind kind;
    fm_problem problem;
    int32_t n_outputs;
    const char **name;      /* [n_outputs] of tags, borrowed from the dataset; NULL without data */
    int32_t *said, *wanted; /* [seq_len] tags of one text */
    fm_entity_counts entities;
    int64_t n, n_right, *tp, *fp, *fn; /* [n_outputs] */
    double f1, se, ae, sx, sy, sxx, syy, sxy;
    int64_t n_numbers;
} fm_judge;

/* `labels` (an array of names, or NULL) and `where` are of the dataset; for a tagging head there must be a name for
 * each output when labels is not NULL. */
FM_MUST_CHECK fm_status fm_judge_init(fm_judge *j, const fm_head_config *h, const fm_json *labels, const char *where,
                                      int32_t seq_len);
void fm_judge_deinit(fm_judge *j);
/* A text: scores [n_outputs] against a label, or numbers [n_outputs]. Returns its loss. */
double fm_judge_text(fm_judge *j, const float *scores, int32_t label, const float *values);
/* Tags of the n tokens of one text: scores [n,n_outputs], targets [n], below 0 = none. Returns the sum of losses. */
double fm_judge_tags(fm_judge *j, const float *scores, const int32_t *targets, int32_t n);
/* Ends of an answer in the n tokens of one text: scores [n,2], the answer is [begin, end]. Only tokens from `first` can
 * be answered with. Returns the loss. */
double fm_judge_span(fm_judge *j, const float *scores, int32_t n, int32_t first, int32_t begin, int32_t end);
/* Metrics of what was judged, which begins anew; returns how many. */
int fm_judge_metrics(fm_judge *j, fm_metric_value out[FM_MAX_METRICS]);

/* Names that fm_judge_metrics gives, NULL-terminated. */
extern const char *const fm_judge_label_metrics[], *const fm_judge_number_metrics[], *const fm_judge_tag_metrics[];

#endif
