/* Likeness to a domain by a classifier: logistic regression (linear.h) over hashed words, pairs of words and runs of
 * characters, learnt with the target's texts as the one kind and the rows as the other.
 *
 * Rows teach the classifier that judges them, and one that has seen a row remembers that it was among the rows. So the
 * texts are dealt into folds by their content (equal texts share one), each fold is judged by a classifier that saw
 * the others alone, and the probabilities are fitted to what these say. A probability of 0.5: as likely a text of the
 * target as one of the rows, where both were equally many. */
#ifndef FM_DATA_DOMAIN_JUDGE_H
#define FM_DATA_DOMAIN_JUDGE_H

#include "data/domain.h"

/* Of each kind at most so many texts and features are learnt from, drawn by the seed. */
#define FM_JUDGE_ROWS     200000
#define FM_JUDGE_FEATURES 16000000
#define FM_JUDGE_LEAST    10 /* texts of each kind */

typedef struct fm_domain_judge fm_domain_judge;
/* Spools of fm_domain_spool_put with n texts each; they are read from their beginning. Same texts, cost and seed: same
 * bits. FM_ERR_DATA where there are too few texts. */
FM_MUST_CHECK fm_status fm_domain_judge_fit(fm_domain_judge **out, fm_spool *target, size_t n_target, fm_spool *raw,
                                            size_t n_raw, double cost, uint64_t seed);
void fm_domain_judge_free(fm_domain_judge *j);
/* The probability that the text is one of the target's. */
double fm_domain_judge_ask(fm_domain_judge *j, const fm_domain_text *t);
/* Appends a JSON object: texts learnt from, how well they are told apart. */
void fm_domain_judge_report(const fm_domain_judge *j, fm_str *json);

#endif
