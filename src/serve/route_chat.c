/* POST /v1/chat/completions */
#include "serve/chat_prompt.h"
#include "serve/completion.h"
#include "serve/constraint.h"

static fm_status constrain(fm_params_asked *asked, const fm_call *c) {
    fm_str rules = {0};
    bool any = false;
    fm_status st = fm_constraint_read(&rules, &any, c->body);
    if (st == FM_OK && any) {
        st = fm_grammars_get(&asked->o.grammar, c->s->grammars, &rules, "fm-body");
    }
    fm_str_free(&rules);
    return st;
}

static fm_status handle(fm_call *c) {
    fm_params_asked asked = {0};
    fm_tokens ids = {0};
    FM_TRY(fm_check_model(c->s, c->body));
    fm_status st = fm_params_read(&asked, c->s, c->body, true);
    st = st == FM_OK ? fm_chat_prompt(&ids, c->s, c->body) : st;
    st = st == FM_OK ? constrain(&asked, c) : st;
    if (st == FM_OK) {
        fm_completion_prompt p = {.ids = ids.ids, .n = (int32_t)FM_MIN(ids.n, (size_t)INT32_MAX)};
        st = fm_completion_start(c, FM_ANSWER_CHAT, &p, 1, &asked);
    }
    fm_tokens_free(&ids);
    fm_params_asked_free(&asked);
    return st;
}

const fm_route fm_route_chat = {.method = "POST", .path = "/v1/chat/completions|/chat/completions", .handle = handle};
