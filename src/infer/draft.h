/* Speculative decoding (Leviathan et al. 2023; Chen et al. 2023): a cheap guess of the next tokens, checked by the
 * model in one pass.
 *
 * A guess is right when it is the token that the model itself would have sampled at that place, with the random number
 * of that place. So what is generated is bit for bit what would have been generated without guesses, greedy or
 * sampled; a drafting model guesses with the same random numbers, which makes its guesses right as often as the two
 * distributions agree. */
#ifndef FM_INFER_DRAFT_H
#define FM_INFER_DRAFT_H

#include "infer/engine.h"

#define FM_MAX_DRAFT 64

/* What the options ask for; *out stays NULL when they ask for nothing. After cache and blocks were made. */
FM_MUST_CHECK fm_status fm_drafter_new(fm_drafter **out, fm_engine *e, const fm_engine_options *o);
void fm_drafter_free(fm_drafter *d);
/* Bytes of cache of one token that drafting needs besides the model's own. */
int64_t fm_drafter_kv_bytes(const fm_engine *e, const fm_engine_options *o);
/* Guesses for all running requests that generate: ids[n .. n + n_draft) of each. Takes blocks for them where there are
 * any. A failure means no guesses. */
void fm_draft(fm_engine *e);
/* A new request: nothing is known of its guesses. */
void fm_draft_begin(const fm_engine *e, fm_request *r);
/* The first guess of the pass was right or wrong. */
void fm_draft_judge(const fm_engine *e, fm_request *r, bool right);
/* Prediction layers: what the pass computed is used; after its tokens were handed out, before the next pass. */
void fm_draft_after(fm_engine *e);
/* Of a request's text as many tokens are known to the drafter; blocks up to there may be shared. */
int32_t fm_draft_kept(const fm_engine *e, const fm_request *r);

#endif
