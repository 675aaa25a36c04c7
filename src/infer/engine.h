/* Inside of the engine: what engine.c (requests, thread) and schedule.c (passes) share. */
#ifndef FM_INFER_ENGINE_H
#define FM_INFER_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/error.h"
#include "fathom/engine.h"
#include "infer/blocks.h"
#include "infer/grammar.h"
#include "infer/sampler.h"
#include "infer/stops.h"
#include "model/model.h"

typedef struct fm_drafter fm_drafter;
typedef struct fm_engine_adapter fm_engine_adapter; /* infer/adapters.h */

/* What a drafting model's guesses have been worth to one request; moving averages over first guesses of a pass. */
typedef struct fm_draft_pace {
    float said, right; /* the probability it gave them; the share that was right */
    float first;       /* the probability of this pass's first guess */
    float all;         /* that all guesses so far of this pass are right */
    int32_t rest;      /* passes without guesses from now on */
    int32_t next_rest; /* how many there will be after the next failure */
} fm_draft_pace;

struct fm_request {
    fm_engine *e;
    atomic_int uses;
    atomic_bool cancelled;
    fm_sampling o;
    fm_logit_bias *bias;
    fm_engine_fn fn;
    void *user;
    uint64_t client, number; /* number: order of submission */
    fm_request *next;        /* in the inbox or the waiting list */

    /* The text: ids[0..n), of which the cache holds [0,n_kept). */
    int32_t *ids; /* [most] */
    int32_t n, n_prompt, n_kept, most;
    int32_t n_found; /* tokens of the prompt that were in the cache when the request was admitted first */
    int32_t *blocks; /* [n_blocks] of the cache, in order */
    int32_t n_blocks, n_linked;
    fm_block_link link; /* after the n_linked published or found ones */

    fm_token_decoder *decoder; /* or NULL: no tokenizer */
    fm_stops stops;
    fm_str text;
    fm_matcher *matcher;        /* of its grammar, or NULL */
    fm_engine_adapter *adapter; /* or NULL: the base */
    bool grammar_over;          /* the text is complete, and no token can say so */

    /* Guesses (infer/draft.h): ids[n .. n + n_draft). */
    int32_t n_draft, n_draft_wanted;
    int32_t n_drafted;             /* tokens whose keys the drafter has */
    int32_t n_right;               /* guesses of the last pass that were right */
    fm_draft_pace pace;            /* of a drafting model's */
    int32_t guess;                 /* of this round */
    int32_t mtp_guess;             /* -1 = none */
    int32_t n_guessed, n_accepted; /* of the whole request */
    int32_t pass_begin, pass_row;  /* first token of this pass, and its row there */

    /* This pass. */
    int32_t n_now, row; /* tokens; row of its logits, -1 = none */
    int32_t id;
    double logprob;
    int32_t *top_ids; /* [o.logprobs] */
    double *top_logprobs;
    int n_top;
    fm_error_record error; /* status FM_OK: none */

    bool admitted;                                       /* at some time */
    double submitted_s, admitted_s, first_s, deadline_s; /* deadline 0: none */
};

typedef struct fm_engine_post_item fm_engine_post_item;

struct fm_engine {
    fm_model *m;
    const fm_tokenizer *tok;
    int32_t ctx_size, parallel, max_queue, batch_tokens, block_tokens, max_blocks, n_blocks;
    bool generates, prefix_cache, speculates, mtp;

    pthread_t thread;
    pthread_mutex_t lock; /* of the fields up to `stats` */
    pthread_cond_t wake;
    bool stopping;
    fm_request *inbox, **inbox_end;
    fm_engine_post_item *posts, **posts_end;
    int32_t n_inbox;
    uint64_t n_submitted;
    fm_engine_stats stats;
    fm_engine_adapter *adapters; /* the newest first */
    uint32_t n_adapters;         /* that ever were */

    /* The thread's own. */
    fm_request *waiting; /* preempted ones first, then by number */
    int32_t n_waiting;
    fm_request **running; /* [n_running], by number */
    int32_t n_running;
    fm_kv_cache *kv;
    fm_blocks *blocks;
    fm_ctx *c;
    fm_vocab_order *order;     /* made for the first grammar */
    fm_token_sampler *sampler; /* [pool threads] */
    uint32_t *allowed;         /* [pool threads, (vocab+31)/32] */
    int32_t *ids, *pos, *slots, *q_offsets, *kv_offsets, *table, *rows;
    const float *logits; /* of this pass */
    fm_tensor *hidden;   /* the same, of its tokens */
    fm_drafter *drafter; /* or NULL */
    fm_lora_mix mix;     /* of this pass; parts [parallel] */
    int32_t *mix_rows;   /* [batch_tokens] */
    int32_t draft_max;
    int64_t work_bytes;
    int64_t preemptions, prefix_queries, prefix_hits;

    /* For checks; set before the first request: gets the logits [vocab] from which token `at` of the text is chosen.
     * Called on any thread of the pool, one at a time for a request; `user` is the request's. */
    void (*watch)(void *user, int32_t at, const float *logits);
};

/* The engine's arrays as one pass of n_tokens in n_segments over a cache. */
fm_batch fm_engine_batch(const fm_engine *e, fm_kv_cache *kv, int32_t n_tokens, int32_t n_segments);
/* One step: drops what was cancelled, admits what fits, computes a pass and hands out its tokens. */
void fm_engine_step(fm_engine *e);
/* Brings the statistics up to date. */
void fm_engine_count(fm_engine *e);
/* Cache, arena and arrays. */
FM_MUST_CHECK fm_status fm_engine_prepare(fm_engine *e, const fm_engine_options *o);
/* A pass of one token that nobody asked for: it reads and packs the weights. Before the thread starts. */
FM_MUST_CHECK fm_status fm_engine_warm(fm_engine *e);
void fm_engine_unprepare(fm_engine *e);
/* A context for the largest pass, also with the adapter `more` (or NULL); the old one stays when it fails. */
FM_MUST_CHECK fm_status fm_engine_plan_ctx(fm_engine *e, const fm_engine_adapter *more);
/* Gives the blocks back, says goodbye to the user and lets the request go. The error record says why when s is not
 * FM_OK. */
void fm_engine_finish(fm_engine *e, fm_request *r, fm_status s, fm_finish finish, int32_t id);

#endif
