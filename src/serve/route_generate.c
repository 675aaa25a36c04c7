/* POST /generate {"prompt", "max_length", "num_return_sequences"} -> {"response"} */
#include "serve/completion.h"
#include "serve/text_input.h"

static fm_status handle(fm_call *c) {
    fm_params_asked asked = {0};
    fm_text_input in = {0};
    int64_t length = 100, n = 1;
    FM_TRY(fm_json_get_i64(&length, c->body, "max_length", 100));
    FM_TRY(fm_json_get_i64(&n, c->body, "num_return_sequences", 1));
    if (length < 1 || length > INT32_MAX) {
        return fm_bad_field("max_length", "a number of tokens, 1 or more");
    }
    if (n < 1 || n > FM_MAX_CHOICES) {
        return fm_bad_field("num_return_sequences", "1 to 128");
    }
    fm_status st = fm_params_read(&asked, c->s, c->body, false);
    st = st == FM_OK ? fm_text_input_read(&in, c->s, c->body, "prompt") : st;
    if (st == FM_OK && in.n != 1) {
        st = fm_bad_field("prompt", "one text");
    }
    if (st == FM_OK) {
        asked.n = (int)n;
        asked.stream = asked.logprobs = false;
        asked.o.logprobs = 0;
        asked.o.max_new_tokens = asked.o.max_new_tokens < 0 ? length : asked.o.max_new_tokens;
        fm_completion_prompt p = {.ids = in.ids.ids, .n = in.offsets[1]};
        st = fm_completion_start(c, FM_ANSWER_SIMPLE, &p, 1, &asked);
    }
    fm_text_input_free(&in);
    fm_params_asked_free(&asked);
    return st;
}

const fm_route fm_route_generate = {.method = "POST", .path = "/generate", .handle = handle};
