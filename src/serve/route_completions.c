/* POST /v1/completions */
#include <string.h>

#include "base/mem.h"
#include "serve/completion.h"
#include "serve/constraint.h"
#include "serve/text_input.h"

#define MAX_ANSWERS 256 /* choices times prompts */

static fm_status refuse(const fm_json *body, const fm_params_asked *asked) {
    if (!fm_json_is_null(fm_json_get(body, "suffix"))) {
        FM_FAIL(FM_ERR_ARGUMENT, "suffix: is not supported");
    }
    if (fm_json_int(fm_json_get(body, "best_of"), asked->n) != asked->n) {
        FM_FAIL(FM_ERR_ARGUMENT, "best_of: other numbers than n are not supported");
    }
    if (fm_json_bool(fm_json_get(body, "echo"), false) && asked->logprobs) {
        FM_FAIL(FM_ERR_ARGUMENT, "echo: is not supported together with logprobs");
    }
    return FM_OK;
}

static fm_status start(fm_call *c, const fm_text_input *in, fm_params_asked *asked) {
    fm_completion_prompt *p = fm_calloc((size_t)in->n, sizeof *p);
    bool echo = fm_json_bool(fm_json_get(c->body, "echo"), false);
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d prompts", in->n);
    }
    for (int i = 0; i < in->n; i++) {
        p[i] = (fm_completion_prompt){.ids = in->ids.ids + in->offsets[i],
                                      .n = in->offsets[i + 1] - in->offsets[i],
                                      .echo = echo ? in->text[i] : NULL};
    }
    fm_status st = fm_completion_start(c, FM_ANSWER_TEXT, p, in->n, asked, NULL);
    fm_free(p);
    return st;
}

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
    fm_text_input in = {0};
    fm_status st = fm_params_read(&asked, c->s, c->body, false);
    st = st == FM_OK ? refuse(c->body, &asked) : st;
    st = st == FM_OK ? constrain(&asked, c) : st;
    st = st == FM_OK ? fm_text_input_read(&in, c->s, c->body, "prompt") : st;
    if (st == FM_OK && in.n * asked.n > MAX_ANSWERS) {
        st = fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "n: %d answers to %d prompts are more than %d", asked.n,
                          in.n, MAX_ANSWERS);
    }
    if (st == FM_OK) {
        asked.o.max_new_tokens = asked.o.max_new_tokens < 0 ? 16 : asked.o.max_new_tokens; /* as the API has it */
        st = start(c, &in, &asked);
    }
    fm_text_input_free(&in);
    fm_params_asked_free(&asked);
    return st;
}

const fm_route fm_route_completions = {.method = "POST", .path = "/v1/completions|/completions", .handle = handle};
