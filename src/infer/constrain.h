/* Tokens that a grammar lets come next, for both loops that sample. */
#ifndef FM_INFER_CONSTRAIN_H
#define FM_INFER_CONSTRAIN_H

#include "infer/grammar.h"
#include "model/model.h"

/* Bits [vocab] of the tokens that may come next, those that end the text among them where it may end. *over: it is
 * complete, nothing can follow, and the model has no token to say so. FM_ERR_DATA when no token can go on. */
FM_MUST_CHECK fm_status fm_constrain(uint32_t *bits, bool *over, fm_matcher *g, const fm_vocab_order *order,
                                     const fm_model *m, const fm_tokenizer *tok);
/* The text goes on by an allowed token that does not end it. */
FM_MUST_CHECK fm_status fm_constrain_follow(fm_matcher *g, const fm_vocab_order *order, int32_t id);

/* How many of the tokens that may come next, from the first, the grammar allows; the text does not go on by them. */
int32_t fm_constrain_prefix(fm_matcher *g, const fm_vocab_order *order, const int32_t *ids, int32_t n);

#endif
