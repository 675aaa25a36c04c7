/* POST /tokenize {"prompt" or "content" or "messages", "add_special_tokens"} and /detokenize {"tokens"} */
#include <string.h>

#include "fathom/option.h"
#include "serve/chat_prompt.h"
#include "serve/text_input.h"

static fm_status need_tokenizer(const fm_call *c) {
    if (!c->s->tok) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "the model has no tokenizer");
    }
    return FM_OK;
}

static void write_ids(fm_str *out, const fm_serve *s, const fm_tokens *ids) {
    fm_str_printf(out, "{\"count\":%zu,\"max_model_len\":%lld,\"tokens\":[", ids->n,
                  (long long)fm_engine_ctx_size(s->e));
    for (size_t i = 0; i < ids->n; i++) {
        fm_str_printf(out, i ? ",%d" : "%d", (int)ids->ids[i]);
    }
    fm_str_puts(out, "]}");
}

static fm_status encode(fm_tokens *out, const fm_call *c) {
    size_t n;
    bool special = true;
    const fm_json *v = fm_json_get(c->body, "prompt");
    const char *text = fm_json_str(v ? v : fm_json_get(c->body, "content"), &n);
    if (fm_json_get(c->body, "messages")) {
        return fm_chat_prompt(out, NULL, c->s, c->body);
    }
    if (!text) {
        return fm_bad_field("prompt", "a string");
    }
    FM_TRY(fm_json_get_bool(&special, c->body, v ? "add_special_tokens" : "add_special", v != NULL));
    fm_encode_options o = {.size = sizeof o, .allow_special = true, .add_special = special, .n_threads = 1};
    return fm_tokenizer_encode(out, c->s->tok, text, n, &o);
}

static fm_status tokenize(fm_call *c) {
    fm_tokens ids = {0};
    FM_TRY(need_tokenizer(c));
    fm_status st = encode(&ids, c);
    if (st == FM_OK) {
        fm_str out = {0};
        write_ids(&out, c->s, &ids);
        fm_reply_json(c, 200, &out);
        fm_str_free(&out);
    }
    fm_tokens_free(&ids);
    return st;
}

static fm_status detokenize(fm_call *c) {
    fm_text_input in = {0};
    char *text = NULL;
    size_t n = 0;
    FM_TRY(need_tokenizer(c));
    if (!fm_json_is_array(fm_json_get(c->body, "tokens"))) {
        return fm_bad_field("tokens", "a list of token ids");
    }
    if (fm_json_size(fm_json_get(c->body, "tokens")) > 0) {
        FM_TRY(fm_text_input_read(&in, c->s, c->body, "tokens"));
    }
    fm_status st = fm_tokenizer_decode(&text, &n, c->s->tok, in.ids.ids, in.ids.n, NULL);
    if (st == FM_OK) {
        fm_str out = {0};
        fm_str_puts(&out, "{\"prompt\":");
        fm_str_json(&out, text, n);
        fm_str_puts(&out, ",\"content\":");
        fm_str_json(&out, text, n);
        fm_str_putc(&out, '}');
        fm_reply_json(c, 200, &out);
        fm_str_free(&out);
    }
    fm_string_free(text);
    fm_text_input_free(&in);
    return st;
}

const fm_route fm_route_tokenize = {.method = "POST", .path = "/tokenize", .handle = tokenize};
const fm_route fm_route_detokenize = {.method = "POST", .path = "/detokenize", .handle = detokenize};
