/* Answers made of generated choices, whole or streamed, in the forms of the OpenAI API. */
#ifndef FM_SERVE_COMPLETION_H
#define FM_SERVE_COMPLETION_H

#include "serve/params.h"
#include "serve/tools.h"

typedef enum fm_answer_form {
    FM_ANSWER_CHAT,       /* chat.completion, chat.completion.chunk */
    FM_ANSWER_TEXT,       /* text_completion */
    FM_ANSWER_SIMPLE,     /* {"response": ...} */
    FM_ANSWER_PREDICTION, /* {"prediction": ...} */
    FM_ANSWER_RESPONSES,  /* response, and its events */
} fm_answer_form;

typedef struct fm_completion_prompt {
    const int32_t *ids;
    int32_t n;
    const char *echo; /* text that the answer begins with, or NULL */
} fm_completion_prompt;

/* Generates asked->n choices for each prompt and answers the call when they are done, or as they come. Everything is
 * copied, bias and grammar of `asked` are taken over. plan (of chats, or NULL) may borrow from the body of the
 * call. On failure nothing was answered. */
FM_MUST_CHECK fm_status fm_completion_start(fm_call *c, fm_answer_form form, const fm_completion_prompt *prompts,
                                            int n_prompts, fm_params_asked *asked, const fm_chat_plan *plan);

#endif
