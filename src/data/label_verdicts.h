/* Rows of annotations with what reviewers said about them.
 *
 * Three levels: own check (the annotator looks again), lead (another person), expert (another person, over a sample
 * that the seed and the row decide, so that rows that come later change nothing). A level counts only when those before
 * it were passed; "accept" and "fixed" pass. */
#ifndef FM_DATA_LABEL_VERDICTS_H
#define FM_DATA_LABEL_VERDICTS_H

#include "data/label.h"

typedef enum fm_verdict { FM_VERDICT_NONE, FM_VERDICT_ACCEPT, FM_VERDICT_REJECT, FM_VERDICT_FIXED } fm_verdict;
extern const char *const fm_verdict_names[4];

typedef struct fm_judged {
    uint64_t key, task, value; /* hashes of task and annotation, of the task, of what was annotated */
    int32_t who;               /* in people */
    uint8_t verdict[FM_LEVELS];
    bool sampled;
    char *fixed; /* JSON of the label that a reviewer put in its place, or NULL */
} fm_judged;

typedef struct fm_verdicts {
    const fm_label_settings *o;
    fm_judged *item; /* [n] in the order of the rows */
    size_t n, cap;
    uint32_t *order; /* [n] by key */
    fm_label_names people;
    fm_tallies refused; /* verdicts that were not taken */
} fm_verdicts;

typedef struct fm_level_counts {
    int64_t judged, accepted, rejected, fixed;
} fm_level_counts;

FM_MUST_CHECK fm_status fm_verdicts_load(fm_verdicts *v, const fm_label_job *j); /* rows, then the log if it is there */
void fm_verdicts_free(fm_verdicts *v);
/* One verdict (a row of the log, or a new one when reviewer is not NULL). *why: NULL, or why it is not taken. */
FM_MUST_CHECK fm_status fm_verdicts_apply(fm_verdicts *v, const fm_rec *row, int level, const char *reviewer,
                                          const char **why);
/* The row passed the level and those before it; for the expert's level: it was not rejected there. */
bool fm_verdicts_passed(const fm_judged *r, int level);
void fm_verdicts_count(const fm_verdicts *v, int32_t who, int level, fm_level_counts *out, int64_t *n_sampled,
                       int64_t *n_rows);
double fm_level_error(const fm_level_counts *c); /* share of rejected and fixed ones; NaN when none was judged */
/* Hash of what was annotated: the column, or entities, labels, answer, chosen, score. */
const fm_cell *fm_annotated(const fm_rec *row, const char *column);

#endif
