/* Requests without a chat: one text in, its continuation out. */
#ifndef FM_SERVE_SIMPLE_H
#define FM_SERVE_SIMPLE_H

#include "serve/completion.h"

/* Continues body[key] by "max_length" tokens, "num_return_sequences" times. */
FM_MUST_CHECK fm_status fm_simple_generate(fm_call *c, const char *key, fm_answer_form form);

#endif
