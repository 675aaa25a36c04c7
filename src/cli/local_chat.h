/* A model of this machine that answers fm_chat_ask. */
#ifndef FM_CLI_LOCAL_CHAT_H
#define FM_CLI_LOCAL_CHAT_H

#include "fathom/synth.h"

typedef struct cli_local_chat cli_local_chat;
FM_MUST_CHECK fm_status cli_local_chat_new(cli_local_chat **out, const char *path);
void cli_local_chat_free(cli_local_chat *c);
/* An fm_chat_fn with the cli_local_chat as `user`. Requests of several threads are computed together. */
FM_MUST_CHECK fm_status cli_local_chat_ask(void *chat, const fm_chat_ask *ask, fm_chat_answer *answer);

#endif
