/* Text generation with a KV cache.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_GENERATE_H
#define FATHOM_GENERATE_H

#include "fathom/grammar.h"
#include "fathom/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Added to the logit of a token; -infinity forbids it. */
typedef struct fm_logit_bias {
    int32_t id;
    double bias;
} fm_logit_bias;

typedef struct fm_sampling {
    size_t size;               /* sizeof(fm_sampling) */
    double temperature;        /* 0 = greedy */
    int64_t top_k;             /* 0 = off */
    double top_p, min_p;       /* 1 and 0 = off */
    double repetition_penalty; /* 1 = off (Keskar et al. 2019, as in transformers) */
    uint64_t seed;
    int64_t max_new_tokens;
    int logprobs; /* top alternatives to report per token; 0 = none, -1 = chosen token only */
    bool ignore_eos;
    bool use_cache;   /* default true; false recomputes the prefix each token (for checking) */
    double typical_p; /* 1 = off (Meister et al. 2022, as in transformers) */
    /* Taken from the logits of tokens generated before: once, and for each time. 0 = off. */
    double presence_penalty, frequency_penalty;
    const fm_logit_bias *bias; /* [n_bias], the caller's */
    int n_bias;
    fm_grammar *grammar; /* that the text must follow (kept while it is used; needs a tokenizer), or NULL. The text
                          * then ends where the grammar lets it, whatever ignore_eos says. */
} fm_sampling;
FM_API fm_sampling fm_sampling_default(void);

typedef struct fm_token_out {
    int32_t id;
    const char *text; /* complete UTF-8 that this token finished; may be "" */
    size_t text_len;
    double logprob; /* of the chosen token under the unmodified distribution; NaN unless asked for */
    const int32_t *top_ids;
    const double *top_logprobs;
    int n_top;
    bool last;
} fm_token_out;
/* Called for each token in order; return false to stop. */
typedef bool (*fm_token_fn)(void *user, const fm_token_out *t);

typedef enum fm_finish { FM_FINISH_LENGTH, FM_FINISH_EOS, FM_FINISH_STOPPED, FM_FINISH_CONTEXT } fm_finish;

/* A session keeps its cache between calls: a chat feeds only the new tokens. Not shared between threads. */
typedef struct fm_session fm_session;
FM_API FM_MUST_CHECK fm_status fm_session_new(fm_session **out, fm_model *m, int64_t max_context);
FM_API void fm_session_free(fm_session *s);
FM_API int64_t fm_session_length(const fm_session *s);
FM_API FM_MUST_CHECK fm_status fm_session_truncate(fm_session *s, int64_t n);
/* Appends ids, then samples. */
FM_API FM_MUST_CHECK fm_status fm_session_generate(fm_session *s, const int32_t *ids, int32_t n_ids,
                                                   const fm_sampling *o, fm_token_fn fn, void *user, fm_finish *finish);

#ifdef __cplusplus
}
#endif
#endif
