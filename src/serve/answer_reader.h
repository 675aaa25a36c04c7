/* Reads an answer as it comes: reasoning, text, and calls of tools with their arguments piece by piece. */
#ifndef FM_SERVE_ANSWER_READER_H
#define FM_SERVE_ANSWER_READER_H

#include "base/str.h"
#include "serve/tools.h"

typedef enum fm_answer_part {
    FM_PART_REASONING,
    FM_PART_TEXT,
    FM_PART_CALL,      /* a call begins; the text is its name */
    FM_PART_ARGUMENTS, /* of the call that began last: JSON text in pieces */
} fm_answer_part;
typedef void (*fm_answer_part_fn)(void *user, fm_answer_part part, const char *text, size_t n);

typedef struct fm_answer_reader {
    fm_chat_plan plan; /* its tools are not read */
    const fm_json *tools;
    fm_answer_part_fn fn;
    void *user;
    int state;
    fm_str held;   /* not decided yet */
    fm_str blanks; /* at the end of a part: they go when nothing follows */
    bool any_text;
    int n_calls;
    /* A call as an object. */
    fm_str raw;             /* all of it as long as it may turn out to be text */
    fm_str key, value;      /* what is being read; of the value what is not handed out as it comes */
    fm_str name, arguments; /* arguments that came before the name */
    bool named, has_arguments;
    int at, depth;
    bool in_string, escaped, streams;
} fm_answer_reader;

/* plan and its body must live until the reader is done. */
void fm_answer_reader_init(fm_answer_reader *r, const fm_chat_plan *plan, fm_answer_part_fn fn, void *user);
/* FM_ERR_NO_MEMORY only. */
FM_MUST_CHECK fm_status fm_answer_reader_push(fm_answer_reader *r, const char *text, size_t n);
/* The answer is over: what was held back is handed out. */
FM_MUST_CHECK fm_status fm_answer_reader_end(fm_answer_reader *r);
void fm_answer_reader_deinit(fm_answer_reader *r);

#endif
