/* Conversations from rows, whatever their form: messages (OpenAI), conversations (sharegpt), instruction, input, output
 * (alpaca), prompt and completion, question and answer. */
#ifndef FM_DATA_CHAT_ROWS_H
#define FM_DATA_CHAT_ROWS_H

#include "data/columns.h"
#include "data/rec.h"

typedef struct fm_conversation {
    fm_str messages; /* JSON: [{"role": ..., "content": ...}, ...]; other members of a message stay */
    fm_str tools;    /* JSON, or empty */
    double *weight;  /* [n_messages] of the assistant's: 1, or its "weight", or 0 with "train": false; of others -1 */
    size_t n_messages, n_answers, cap;
} fm_conversation;

/* Fills *c (zero-initialised, or used before). *reason is NULL, or why the row is no example (static text). Statuses
 * other than FM_OK are lack of memory. */
FM_MUST_CHECK fm_status fm_conversation_from_row(fm_conversation *c, const fm_rec *row, const fm_columns *columns,
                                                 const char **reason);
void fm_conversation_free(fm_conversation *c);

#endif
