/* Texts through an encoder, a classifier or the trunk of a decoder, many requests in one pass: while the engine is
 * busy jobs gather, and its next turn takes as many as a pass holds. Between turns running generations go on. A text's
 * result does not depend on what shares its pass. */
#ifndef FM_SERVE_TEXT_BATCH_H
#define FM_SERVE_TEXT_BATCH_H

#include "serve/text_input.h"

#define FM_TEXT_EMBED (-1) /* in place of a head: vectors of length 1 */

typedef struct fm_text_job fm_text_job;
struct fm_text_job {
    fm_call *c;
    fm_text_input in;
    int head;  /* or FM_TEXT_EMBED */
    void *ask; /* the route's, from fm_malloc, freed with the job */
    /* On the engine's thread, once: FM_OK and out, or what went wrong, with its record. Answers the call. */
    void (*done)(fm_text_job *j, fm_status s);
    float *out; /* [n or number of tokens, width] */
    int width;
    bool per_token;
    /* of text_batch.c */
    atomic_int uses;
    atomic_bool gone; /* the client has left */
    int at;           /* texts done */
    double submitted_s, begun_s;
    fm_text_job *next;
};

typedef struct fm_text_stats {
    int32_t waiting;                 /* requests */
    uint64_t batches, texts, tokens; /* computed */
} fm_text_stats;

FM_MUST_CHECK fm_status fm_text_batcher_new(fm_text_batcher **out, fm_serve *s, int max_waiting);
/* After the engine's end. */
void fm_text_batcher_free(fm_text_batcher *b);
void fm_text_batcher_stats(fm_text_stats *out, fm_text_batcher *b);

/* A job of a call, which it keeps. */
FM_MUST_CHECK fm_status fm_text_job_new(fm_text_job **out, fm_call *c, size_t ask_bytes);
/* Of a job that was not submitted. */
void fm_text_job_free(fm_text_job *j);
/* Checks lengths and ids, then queues. The job is taken over when FM_OK. FM_ERR_STATE: too many wait. */
FM_MUST_CHECK fm_status fm_text_job_submit(fm_text_job *j);

#endif
