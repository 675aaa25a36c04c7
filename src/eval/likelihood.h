/* Log-likelihoods of continuations of contexts: what multiple choice and perplexity are made of.
 *
 * Items are taken in order, many in one forward pass. Tokens that contexts have in common at their beginning (few-shot
 * examples, a description) are computed once; the continuations of a context read its keys from the cache. Rows of the
 * kernels do not depend on their neighbours, so a likelihood has the same bits however it was batched. */
#ifndef FM_EVAL_LIKELIHOOD_H
#define FM_EVAL_LIKELIHOOD_H

#include "model/model.h"

typedef struct fm_ll_seq {
    const int32_t *ids;
    int32_t n;
} fm_ll_seq;

typedef struct fm_ll_item {
    const int32_t *context; /* [n_context] */
    int32_t n_context;      /* at least 1 */
    const fm_ll_seq *cont;  /* [n_cont] of at least one token each */
    int32_t n_cont;
    double *logprob; /* [n_cont] sum of log p(token | everything before), nats */
    bool *greedy;    /* [n_cont] every token is the most likely one; or NULL */
} fm_ll_item;

typedef struct fm_likelihood fm_likelihood;
/* batch_tokens: of one forward pass, 0 = 1024. The model outlives it. */
FM_MUST_CHECK fm_status fm_likelihood_new(fm_likelihood **out, fm_model *m, int32_t batch_tokens);
void fm_likelihood_free(fm_likelihood *l);
/* Fills logprob and greedy of all items. Context and continuation together, without the last token, must fit into the
 * model's context. Progress is reported under `what`. */
FM_MUST_CHECK fm_status fm_likelihood_run(fm_likelihood *l, const fm_ll_item *items, size_t n_items, const char *what);
/* Tokens computed and tokens that a shared beginning saved, since the beginning. */
void fm_likelihood_counts(const fm_likelihood *l, int64_t *computed, int64_t *saved);

#endif
