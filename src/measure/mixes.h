/* Random mixes of requests, whose logits are compared bit for bit with those of the same requests one at a time.
 *
 * A mix is an engine with a random number of places, size of passes, size of blocks, size of the cache (often too
 * small, so that requests are preempted), with or without prefix cache and guesses, and requests that come at random
 * moments, share beginnings, use adapters, and of which some are cancelled. Every second mix goes on with the engine,
 * and so the cache, of the one before. The same seed gives the same mixes; what the threads make of them differs from
 * run to run. */
#ifndef FM_MEASURE_MIXES_H
#define FM_MEASURE_MIXES_H

#include "model/model.h"

typedef struct fm_mixes_options {
    int n_mixes;
    uint64_t seed;
    fm_model *reference;        /* the same weights, opened otherwise (threads), for the runs alone; NULL = m */
    fm_model *draft;            /* guesses in a part of the mixes besides those from the text; or NULL */
    const char *const *adapter; /* [n_adapters] PEFT folders */
    int n_adapters;
    const char *kv_dtype; /* as fm_engine_options */
    bool mtp;             /* a part of the mixes with the model's own prediction layer */
} fm_mixes_options;

/* What was met, for those who want to know that it was. */
typedef struct fm_mixes_report {
    int64_t mixes, requests, cancelled; /* cancelled before their end */
    int64_t rows;                       /* of logits compared, each over the whole vocabulary */
    int64_t engines, passes;
    int64_t preemptions, cached_tokens, guessed, guessed_right, with_adapter;
} fm_mixes_report;

/* FM_ERR_STATE, naming mix, request and token, when a row of logits, a token or its log-probability differs. The
 * models must not be used by others meanwhile. */
FM_MUST_CHECK fm_status fm_mixes_check(fm_mixes_report *out, fm_model *m, const fm_mixes_options *o);

#endif
