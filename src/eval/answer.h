/* Short answers: what em and f1 compare. */
#ifndef FM_EVAL_ANSWER_H
#define FM_EVAL_ANSWER_H

#include "eval/metric.h"

/* The tokens of an answer: cut, and with `normalize` lower-cased, without punctuation and the English articles (the
 * rule of SQuAD's script; punctuation of every script). Equal token lists are equal answers. */
FM_MUST_CHECK fm_status fm_answer_cut(fm_cut_text *c, fm_str *work, fm_text text, const fm_score_options *o);

#endif
