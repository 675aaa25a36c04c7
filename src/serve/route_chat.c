/* POST /v1/chat/completions */
#include "serve/chat_prompt.h"
#include "serve/completion.h"

static fm_status handle(fm_call *c) {
    fm_params_asked asked = {0};
    fm_tokens ids = {0};
    fm_chat_plan plan = {0};
    fm_status st = fm_params_read(&asked, c->s, c->body, true);
    st = st == FM_OK ? fm_chat_prompt(&ids, &plan, c->s, c->body) : st;
    st = st == FM_OK ? fm_chat_grammar(&asked.o.grammar, &plan, c->s, c->body) : st;
    if (st == FM_OK) {
        fm_completion_prompt p = {.ids = ids.ids, .n = (int32_t)FM_MIN(ids.n, (size_t)INT32_MAX)};
        st = fm_completion_start(c, FM_ANSWER_CHAT, &p, 1, &asked, &plan);
    }
    fm_tokens_free(&ids);
    fm_params_asked_free(&asked);
    return st;
}

const fm_route fm_route_chat = {.method = "POST", .path = "/v1/chat/completions|/chat/completions", .handle = handle};
