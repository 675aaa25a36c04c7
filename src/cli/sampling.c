/* Sampling options. */
#include "cli/sampling.h"

fm_sampling sampling_from(const sampling_args *a) {
    fm_sampling s = fm_sampling_default();
    s.temperature = a->temperature;
    s.top_k = a->top_k;
    s.top_p = a->top_p;
    s.min_p = a->min_p;
    s.repetition_penalty = a->repetition_penalty;
    s.seed = (uint64_t)a->seed;
    s.max_new_tokens = a->max_new_tokens;
    s.logprobs = (int)a->logprobs;
    s.ignore_eos = a->ignore_eos;
    s.use_cache = !a->no_cache;
    return s;
}
