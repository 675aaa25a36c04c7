/* Many generations at once: one model, one cache, one thread that computes.
 *
 * Requests join and leave the running batch at any token (continuous batching). The KV cache is paged: sequences share
 * the blocks of a common beginning, and when blocks run out the youngest sequence gives its own back and is computed
 * again later. What a request generates does not depend on what else is running: with the same seed it is the same
 * bytes, token for token.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_ENGINE_H
#define FATHOM_ENGINE_H

#include "fathom/generate.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_engine fm_engine;
typedef struct fm_request fm_request;

typedef struct fm_engine_options {
    size_t size;          /* sizeof(fm_engine_options); other fields 0 = default */
    int64_t ctx_size;     /* tokens of one sequence, prompt included; 0 = what the model allows and memory holds */
    int64_t kv_bytes;     /* memory of the cache; 0 = what ctx_size * parallel needs, at most 40% of what is free */
    int32_t parallel;     /* sequences computed at once, 16 */
    int32_t max_queue;    /* requests that may wait, 256 */
    int32_t batch_tokens; /* of one forward pass, 512 */
    int32_t block_tokens; /* of one cache block, 16 */
    const char *kv_dtype; /* "auto" (as the model computes), "f32", "bf16", "q8_0" (blocks of 32 int8) */
    bool no_prefix_cache;
    /* Speculative decoding: at most one of them. What is generated does not change. */
    fm_model *draft;   /* a smaller model with the same tokenizer, not used by others; or NULL */
    bool lookup;       /* guesses from what occurred in the text before */
    bool mtp;          /* the model's own prediction layer (DeepSeek V3) */
    int32_t draft_max; /* tokens guessed at once, 8 */
    bool warm;         /* computes a token first, so that weights are in memory and packed before any request comes */
} fm_engine_options;

/* Starts the thread. The model must not be used by others until fm_engine_free. A model that generates no text gets an
 * engine that only takes fm_engine_post. */
FM_API FM_MUST_CHECK fm_status fm_engine_new(fm_engine **out, fm_model *m, const fm_engine_options *opt);
/* Ends what is running (status FM_ERR_CANCELLED), then the thread. All requests must have been released or be so
 * later. */
FM_API void fm_engine_free(fm_engine *e);
FM_API fm_model *fm_engine_model(const fm_engine *e);
FM_API int64_t fm_engine_ctx_size(const fm_engine *e);

/* LoRA adapters (PEFT folders) by name: requests with different ones are computed in one pass, each as if its adapter
 * were the only one. Adding waits for the pass that runs; a removed one stays for the requests that use it.
 * FM_ERR_EXISTS, FM_ERR_NOT_FOUND; FM_ERR_UNSUPPORTED for adapters on experts, on the compressed keys of latent
 * attention, with magnitudes, or with whole modules. Any thread. */
FM_API FM_MUST_CHECK fm_status fm_engine_add_adapter(fm_engine *e, const char *name, const char *dir);
FM_API FM_MUST_CHECK fm_status fm_engine_remove_adapter(fm_engine *e, const char *name);
/* e NULL: there is none. */
FM_API bool fm_engine_has_adapter(fm_engine *e, const char *name);
/* Name of the i-th into out; false past the last. e NULL: there is none. */
FM_API bool fm_engine_adapter_name(char *out, size_t cap, fm_engine *e, int i);
/* Requests of the i-th that are computed and that wait; false past the last. */
FM_API bool fm_engine_adapter_requests(int *running, int *waiting, fm_engine *e, int i);

typedef struct fm_engine_event {
    int32_t id;       /* the token, -1 for none (an end without a token) */
    const char *text; /* what can be shown now: whole UTF-8 characters, nothing of a stop string */
    size_t text_len;
    double logprob; /* as fm_token_out */
    const int32_t *top_ids;
    const double *top_logprobs;
    int n_top;
    bool last;
    /* With last: */
    fm_status status; /* FM_OK, FM_ERR_CANCELLED, or what went wrong */
    const char *message;
    fm_finish finish;                        /* FM_FINISH_STOPPED: a stop string */
    int32_t n_prompt, n_cached, n_generated; /* tokens; n_cached of the prompt were found in the cache */
    int32_t n_guessed, n_accepted;           /* tokens guessed by speculative decoding; of these, right ones */
    double queue_s, prefill_s, decode_s;     /* waiting, to the first token, from there on */
} fm_engine_event;
/* Called on the engine's thread, in order, until and with `last`; strings live as long as the call. Must not block. */
typedef void (*fm_engine_fn)(void *user, const fm_engine_event *event);

typedef struct fm_generation {
    size_t size;                 /* sizeof(fm_generation) */
    const fm_sampling *sampling; /* NULL = fm_sampling_default(); use_cache is not read */
    const char *const *stop;     /* [n_stop] */
    int n_stop;
    uint64_t client;     /* requests of one client wait for each other rather than for those of others */
    const char *adapter; /* by its name; NULL or "" = the base model */
    double timeout_s;    /* ends with FM_ERR_CANCELLED after so long, waiting included; 0 = never */
    fm_engine_fn fn;
    void *user;
} fm_generation;

/* Everything given is copied. FM_ERR_ARGUMENT: a prompt that is empty or longer than ctx_size - 1, ids outside the
 * vocabulary, bad options. FM_ERR_STATE: the queue is full, or the engine is ending. Any thread. */
FM_API FM_MUST_CHECK fm_status fm_engine_submit(fm_request **out, fm_engine *e, const int32_t *ids, int32_t n_ids,
                                                const fm_generation *g);
/* Any thread, any time before fm_request_release; the last event follows soon. */
FM_API void fm_request_cancel(fm_request *r);
FM_API void fm_request_release(fm_request *r);

/* Runs fn on the engine's thread between two passes: the way to other uses of the model. Any thread; must not block
 * long. fn is also called, with m NULL, when the engine ends before. */
FM_API FM_MUST_CHECK fm_status fm_engine_post(fm_engine *e, void (*fn)(void *user, fm_model *m), void *user);

#define FM_PASS_BUCKETS 13
typedef struct fm_engine_stats {
    size_t size; /* sizeof(fm_engine_stats) */
    int32_t running, waiting;
    int32_t blocks, blocks_used, block_tokens;
    int64_t kv_bytes, work_bytes;                 /* of the cache; of a pass, when it was planned */
    int64_t prefix_queries, prefix_hits;          /* tokens of prompts, of these found in the cache */
    int64_t drafts, draft_tokens, draft_accepted; /* passes of a sequence with guesses, guesses, right ones */
    int64_t preemptions, prompt_tokens, generation_tokens, passes, pass_tokens;
    int64_t pass_sequences;                        /* texts in passes, all together */
    int64_t passes_by_tokens[FM_PASS_BUCKETS + 1]; /* passes of at most 1, 8, 16, 32 ... 16384 tokens; of more */
} fm_engine_stats;
FM_API void fm_engine_get_stats(fm_engine_stats *out, fm_engine *e);

#ifdef __cplusplus
}
#endif
#endif
