/* Answers in the form of /v1/responses: the object, and the events of a stream. Items of the output come one behind the
 * other: a message, calls of functions. */
#ifndef FM_SERVE_RESPONSES_H
#define FM_SERVE_RESPONSES_H

#include "serve/params.h"

typedef struct fm_responses_item {
    bool call;    /* of a function; else a message */
    fm_str text;  /* so far: of the message, or the arguments */
    fm_str name;  /* of the function */
    uint64_t tag; /* of a call: its id */
} fm_responses_item;

typedef struct fm_responses {
    const fm_call *c;
    int64_t created;
    double temperature, top_p;
    int serial;  /* of events */
    bool stream; /* events are written; else items are only collected */
    bool begun, failed;
    fm_responses_item *item; /* [n]; while `open` the last one grows */
    size_t n, cap;
    bool open;
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
/* One more piece of a message (n 0: the answer begins), the beginning of a call, a piece of its arguments. Events are
 * added to out when it is a stream. */
void fm_responses_text(fm_str *out, fm_responses *r, const char *text, size_t n);
void fm_responses_call(fm_str *out, fm_responses *r, const char *name, size_t n, uint64_t tag);
void fm_responses_arguments(fm_str *out, fm_responses *r, const char *text, size_t n);
/* The end: its events, or the whole object without a stream. */
void fm_responses_conclude(fm_str *out, fm_responses *r, const fm_responses_end *e);

/* Members of the body that a chat's readers get in another form are kept under these names for the answer. */
#define FM_RESPONSES_TOOLS  "responses_tools"
#define FM_RESPONSES_CHOICE "responses_tool_choice"

#endif
