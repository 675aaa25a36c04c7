/* Messages of the chat API as token ids. */
#ifndef FM_SERVE_CHAT_PROMPT_H
#define FM_SERVE_CHAT_PROMPT_H

#include "serve/tools.h"

/* Renders body's messages, tools and chat_template_kwargs by the model's template and appends the ids. *plan (or NULL)
 * says what the answer may consist of; it borrows from body. */
FM_MUST_CHECK fm_status fm_chat_prompt(fm_tokens *out, fm_chat_plan *plan, const fm_serve *s, const fm_json *body);

#endif
