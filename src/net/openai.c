/* The only file that knows the OpenAI API from the side of who asks. See openai.h. */
#include "net/openai.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/api.h"

struct fm_openai {
    fm_api *api;
    char *model;
};

void fm_openai_free(fm_openai *c) {
    if (c) {
        fm_api_free(c->api);
        fm_free(c->model);
        fm_free(c);
    }
}

const char *fm_openai_model(const fm_openai *c) {
    return c->model;
}

int64_t fm_openai_retries(const fm_openai *c) {
    return fm_api_retries(c->api);
}

static fm_status first_model(fm_openai *c) {
    fm_json *doc = NULL;
    FM_TRY(fm_api_call(c->api, &doc, "GET", "/models", NULL, 0));
    const fm_json *data = fm_json_is_object(doc) ? fm_json_get(doc, "data") : NULL;
    const fm_json *one = fm_json_is_array(data) ? fm_json_at(data, 0) : NULL;
    const char *id = fm_json_is_object(one) ? fm_json_str(fm_json_get(one, "id"), NULL) : NULL;
    fm_status s = FM_OK;
    if (!id) {
        (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "the server's /models lists no model");
        s = fm_error_hint("name one with --model, and check that the endpoint ends in /v1");
    } else if (!(c->model = fm_strdup(id))) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a model's name");
    }
    fm_json_free(doc);
    return s;
}

static fm_status open_client(fm_openai *c, const fm_openai_options *o) {
    char hint[160];
    const char *key = o->key_env ? getenv(o->key_env) : NULL;
    (void)snprintf(hint, sizeof hint, "the environment variable %s", o->key_env ? o->key_env : "(key_env is empty)");
    fm_api_options api = {.url = o->endpoint,
                          .token = key,
                          .token_hint = hint,
                          .timeout_s = o->timeout,
                          .retries = o->retries,
                          .retry_wait = o->retry_wait,
                          .clear_token = o->insecure_key};
    FM_TRY(fm_api_new(&c->api, &api));
    if (!o->model) {
        return first_model(c);
    }
    c->model = fm_strdup(o->model);
    if (!c->model) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a model's name");
    }
    return FM_OK;
}

fm_status fm_openai_new(fm_openai **out, const fm_openai_options *o) {
    fm_openai *c = fm_calloc(1, sizeof *c);
    *out = NULL;
    if (!c) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a client");
    }
    fm_status s = open_client(c, o);
    if (s != FM_OK) {
        fm_openai_free(c);
        return s;
    }
    *out = c;
    return FM_OK;
}

fm_status fm_chat_answer_text(fm_chat_answer *a, const char *text, size_t n) {
    a->text = fm_strndup(text, n);
    if (!a->text) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an answer of %zu bytes", n);
    }
    return FM_OK;
}

static fm_status read_answer(fm_chat_answer *out, const fm_json *doc) {
    const fm_json *choices = fm_json_is_object(doc) ? fm_json_get(doc, "choices") : NULL;
    const fm_json *choice = fm_json_is_array(choices) ? fm_json_at(choices, 0) : NULL;
    const fm_json *message = fm_json_is_object(choice) ? fm_json_get(choice, "message") : NULL;
    const fm_json *content = fm_json_is_object(message) ? fm_json_get(message, "content") : NULL;
    const fm_json *usage = fm_json_is_object(doc) ? fm_json_get(doc, "usage") : NULL;
    size_t n = 0;
    const char *text = fm_json_str(content, &n);
    if (!text && !(message && fm_json_is_null(content))) {
        FM_FAIL(FM_ERR_FORMAT, "the server's answer has no choices[0].message.content");
    }
    const char *finish = fm_json_str(fm_json_get(choice, "finish_reason"), NULL);
    out->cut = finish && strcmp(finish, "length") == 0;
    if (fm_json_is_object(usage)) {
        out->prompt_tokens = fm_json_int(fm_json_get(usage, "prompt_tokens"), 0);
        out->completion_tokens = fm_json_int(fm_json_get(usage, "completion_tokens"), 0);
    }
    return fm_chat_answer_text(out, text ? text : "", n);
}

fm_status fm_openai_chat(void *client, const fm_chat_ask *ask, fm_chat_answer *answer) {
    fm_openai *c = client;
    fm_str body = {0};
    fm_json *doc = NULL;
    fm_str_puts(&body, "{\"model\":");
    fm_str_json(&body, c->model, strlen(c->model));
    fm_str_puts(&body, ",\"messages\":");
    fm_str_append(&body, ask->messages, ask->messages_bytes);
    fm_str_printf(&body, ",\"temperature\":%.9g,\"top_p\":%.9g,\"max_tokens\":%lld,\"seed\":%llu}", ask->temperature,
                  ask->top_p, (long long)ask->max_tokens, (unsigned long long)(ask->seed & 0x7FFFFFFF));
    fm_status s = fm_str_check(&body);
    if (s == FM_OK) {
        s = fm_api_call(c->api, &doc, "POST", "/chat/completions", body.data, body.len);
    }
    if (s == FM_OK) {
        s = read_answer(answer, doc);
    }
    fm_json_free(doc);
    fm_str_free(&body);
    return s;
}
