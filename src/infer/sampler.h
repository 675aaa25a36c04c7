/* Choosing the next token from logits. */
#ifndef FM_INFER_SAMPLER_H
#define FM_INFER_SAMPLER_H

#include "base/rng.h"
#include "fathom/generate.h"

/* Work space for one vocabulary; reused for every token. */
typedef struct fm_token_sampler {
    int32_t vocab;
    double *score;  /* [vocab] logits after the penalty, then candidates' probabilities */
    int32_t *order; /* [vocab] candidate ids */
    uint8_t *seen;  /* [vocab] marks of the penalty */
    double *shift;  /* [vocab] how untypical a candidate is; made at first use */
    int32_t *top_ids;
    double *top_logprobs;
    int32_t cap_top;
} fm_token_sampler;

FM_MUST_CHECK fm_status fm_token_sampler_init(fm_token_sampler *s, int32_t vocab);
void fm_token_sampler_deinit(fm_token_sampler *s);

/* Range checks of the options; FM_ERR_ARGUMENT names the field. */
FM_MUST_CHECK fm_status fm_sampling_check(const fm_sampling *o);

/* The id chosen from logits [vocab]. In the order of transformers: repetition penalty over `past` [n_past],
 * temperature, top-k, top-p, min-p, then one draw. `draw` is uniform in [0,1). With top-k or top-p the candidates are
 * walked from the most likely down (equal ones by rising id), else by rising id. FM_ERR_NUMERIC when no logit is
 * finite. */
FM_MUST_CHECK fm_status fm_token_sampler_choose(int32_t *id, fm_token_sampler *s, const float *logits,
                                                const int32_t *past, int64_t n_past, const fm_sampling *o, double draw);

/* What a choice may depend on besides the logits. */
typedef struct fm_token_past {
    const int32_t *ids; /* [n] prompt and what was generated */
    int64_t n, n_prompt;
    const uint32_t *allowed; /* bits [vocab]: the others are not chosen; or NULL */
} fm_token_past;
/* The same with everything: logit bias first, then repetition penalty over all of `past`, presence and frequency
 * penalties over what was generated; typical-p comes last. FM_ERR_NUMERIC also when no allowed token is finite. */
FM_MUST_CHECK fm_status fm_token_sampler_pick(int32_t *id, fm_token_sampler *s, const float *logits,
                                              const fm_token_past *past, const fm_sampling *o, double draw);

/* Log-probability of `id` under softmax(logits), and the n_top most likely ids with theirs (in s->top_ids,
 * s->top_logprobs). */
FM_MUST_CHECK fm_status fm_token_sampler_logprobs(double *logprob, fm_token_sampler *s, const float *logits, int32_t id,
                                                  int32_t n_top);

#endif
