/* POST /generate {"prompt", "max_length", "num_return_sequences"} -> {"response"} */
#include "serve/simple.h"
#include "serve/text_input.h"

fm_status fm_simple_generate(fm_call *c, const char *key, fm_answer_form form) {
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
    st = st == FM_OK ? fm_text_input_read(&in, c->s, c->body, key) : st;
    if (st == FM_OK && in.n != 1) {
        st = fm_bad_field(key, "one text");
    }
    if (st == FM_OK) {
        asked.n = (int)n;
        asked.stream = asked.logprobs = false;
        asked.o.logprobs = 0;
        asked.o.max_new_tokens = asked.o.max_new_tokens < 0 ? length : asked.o.max_new_tokens;
        fm_completion_prompt p = {.ids = in.ids.ids, .n = in.offsets[1]};
        st = fm_completion_start(c, form, &p, 1, &asked, NULL);
    }
    fm_text_input_free(&in);
    fm_params_asked_free(&asked);
    return st;
}

static fm_status handle(fm_call *c) {
    return fm_simple_generate(c, "prompt", FM_ANSWER_SIMPLE);
}

const fm_route fm_route_generate = {.method = "POST", .path = "/generate", .handle = handle};
