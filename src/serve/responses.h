/* Answers in the form of /v1/responses: the object, and the events of a stream. */
#ifndef FM_SERVE_RESPONSES_H
#define FM_SERVE_RESPONSES_H

#include "serve/params.h"

typedef struct fm_responses {
    const fm_call *c;
    int64_t created, max_tokens; /* max_tokens -1: not given */
    double temperature, top_p;
    int serial; /* of events */
    bool begun;
    fm_str text; /* so far */
} fm_responses;

typedef struct fm_responses_end {
    fm_status status;
    const char *message; /* of a failure */
    fm_finish finish;
    bool filtered;
    int64_t n_prompt, n_cached, n_generated;
} fm_responses_end;

void fm_responses_init(fm_responses *r, const fm_call *c, const fm_params_asked *asked);
void fm_responses_free(fm_responses *r);
/* The events of one more piece of text, behind those of the beginning when it is the first. */
void fm_responses_piece(fm_str *out, fm_responses *r, const char *text, size_t n);
/* The events of the end. */
void fm_responses_conclude(fm_str *out, fm_responses *r, const fm_responses_end *e);
/* The whole answer without a stream. */
void fm_responses_whole(fm_str *out, fm_responses *r, const char *text, size_t n, const fm_responses_end *e);

#endif
