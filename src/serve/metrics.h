/* Counters of the service in Prometheus' text form, with the names and buckets of vLLM and the names of llama.cpp, so
 * that boards made for either work. */
#ifndef FM_SERVE_METRICS_H
#define FM_SERVE_METRICS_H

#include <pthread.h>

#include "base/str.h"
#include "fathom/engine.h"

#define FM_METRIC_BUCKETS 24
#define FM_METRIC_ROUTES  33

struct fm_serve;

typedef struct fm_histogram {
    uint64_t count[FM_METRIC_BUCKETS + 1]; /* the last is +Inf */
    uint64_t n;
    double sum;
} fm_histogram;

/* X(field, name, help, scale) */
#define FM_HISTOGRAM_LIST(X)                                                                                           \
    X(ttft, "time_to_first_token_seconds", "Time to first token in seconds.", first)                                   \
    X(tpot, "time_per_output_token_seconds", "Time per output token in seconds.", token)                               \
    X(e2e, "e2e_request_latency_seconds", "End to end request latency in seconds.", request)                           \
    X(queue, "request_queue_time_seconds", "Time a request waited in seconds.", request)                               \
    X(prefill, "request_prefill_time_seconds", "Time a request's prompt took in seconds.", request)                    \
    X(decode, "request_decode_time_seconds", "Time a request's tokens took in seconds.", request)                      \
    X(inference, "request_inference_time_seconds", "Time a request ran in seconds.", request)                          \
    X(prompt, "request_prompt_tokens", "Tokens of prompts.", tokens)                                                   \
    X(generation, "request_generation_tokens", "Tokens generated for a request.", tokens)

typedef struct fm_metrics {
    pthread_mutex_t lock;
#define FM_X(field, name, help, scale) fm_histogram field;
    FM_HISTOGRAM_LIST(FM_X)
#undef FM_X
    uint64_t finished_stop, finished_length, finished_abort;
    uint64_t prompt_tokens, generation_tokens;
    double prompt_s, generation_s;
    uint64_t answers[6];                 /* by hundreds of the code */
    fm_histogram http[FM_METRIC_ROUTES]; /* seconds of answers, by route; the last: of no route */
    fm_histogram choices, most_tokens;   /* what requests asked for */
} fm_metrics;

/* A generation that is over; v its last event. */
void fm_metrics_finish(fm_metrics *m, const fm_engine_event *v);
/* route: its place in fm_routes, or -1. */
void fm_metrics_answer(fm_metrics *m, int code, int route, double seconds);
/* What a request asks for: n choices; max_tokens below 0: it does not say. */
void fm_metrics_asked(fm_metrics *m, int n, int64_t max_tokens);
void fm_metrics_write(fm_str *out, struct fm_serve *s);

#endif
