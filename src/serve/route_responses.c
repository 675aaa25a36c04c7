/* POST /v1/responses, stateless: nothing is stored, so there is no previous_response_id. The request becomes that of a
 * chat, the answer has the form of responses.h. */
#include <string.h>

#include "serve/chat_prompt.h"
#include "serve/completion.h"
#include "serve/constraint.h"

/* Parts of type input_text and output_text are what the chat calls text. */
static fm_status chat_content(fm_json **out, const fm_json *v, size_t i) {
    if (fm_json_is_string(v)) {
        size_t n;
        const char *text = fm_json_str(v, &n);
        *out = fm_json_new_strn(text, n);
        return FM_OK;
    }
    if (!fm_json_is_array(v)) {
        FM_FAIL(FM_ERR_ARGUMENT, "input[%zu].content: expected a string or a list of parts", i);
    }
    fm_str all = {0};
    for (size_t k = 0; k < fm_json_size(v); k++) {
        const fm_json *p = fm_json_at(v, k);
        size_t n = 0;
        const char *type = fm_json_str(fm_json_get(p, "type"), NULL), *text = fm_json_str(fm_json_get(p, "text"), &n);
        bool known =
            type && (strcmp(type, "input_text") == 0 || strcmp(type, "output_text") == 0 || strcmp(type, "text") == 0);
        if (!known || !text) {
            fm_str_free(&all);
            FM_FAIL(FM_ERR_ARGUMENT, "input[%zu].content[%zu]: expected a text; this model reads text only", i, k);
        }
        fm_str_append(&all, text, n);
    }
    *out = all.failed ? NULL : fm_json_new_strn(all.data ? all.data : "", all.len);
    fm_str_free(&all);
    return FM_OK;
}

static fm_status add_message(fm_json *messages, const char *role, fm_json *content) {
    fm_json *m = fm_json_new_object();
    fm_status st = fm_json_set(m, "role", fm_json_new_str(strcmp(role, "developer") == 0 ? "system" : role));
    fm_status with = fm_json_set(m, "content", content);
    st = st == FM_OK ? with : st;
    if (st != FM_OK) {
        fm_json_free(m);
        return st;
    }
    return fm_json_append(messages, m);
}

static fm_status add_item(fm_json *messages, const fm_json *v, size_t i) {
    const char *type = fm_json_str(fm_json_get(v, "type"), NULL), *role = fm_json_str(fm_json_get(v, "role"), NULL);
    fm_json *content = NULL;
    if (type && strcmp(type, "reasoning") == 0) {
        return FM_OK; /* of an earlier answer; templates leave it out too */
    }
    if (!role || (type && strcmp(type, "message") != 0)) {
        FM_FAIL(FM_ERR_ARGUMENT, "input[%zu]: expected a message with a role; tools are taken by /v1/chat/completions",
                i);
    }
    FM_TRY(chat_content(&content, fm_json_get(v, "content"), i));
    return add_message(messages, role, content);
}

static fm_status fill_messages(fm_json *messages, const fm_json *body) {
    const fm_json *input = fm_json_get(body, "input");
    size_t n;
    const char *text = fm_json_str(fm_json_get(body, "instructions"), &n);
    if (text) {
        FM_TRY(add_message(messages, "system", fm_json_new_strn(text, n)));
    }
    text = fm_json_str(input, &n);
    if (text) {
        return add_message(messages, "user", fm_json_new_strn(text, n));
    }
    if (!fm_json_is_array(input) || fm_json_size(input) == 0) {
        return fm_bad_field("input", "a string, or a list of messages");
    }
    for (size_t i = 0; i < fm_json_size(input); i++) {
        FM_TRY(add_item(messages, fm_json_at(input, i), i));
    }
    return FM_OK;
}

static fm_status refuse(const fm_json *body) {
    static const char *const none[] = {"previous_response_id", "conversation", "prompt"};
    for (size_t i = 0; i < FM_ARRAY_LEN(none); i++) {
        if (!fm_json_is_null(fm_json_get(body, none[i]))) {
            FM_FAIL(FM_ERR_ARGUMENT, "%s: nothing is stored here; send the conversation in input", none[i]);
        }
    }
    if (fm_json_size(fm_json_get(body, "tools")) > 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "tools: are taken by /v1/chat/completions");
    }
    return FM_OK;
}

/* text.format as response_format. */
static fm_status set_format(fm_json *body) {
    const fm_json *format = fm_json_get(fm_json_get(body, "text"), "format");
    const char *type = fm_json_str(fm_json_get(format, "type"), NULL);
    if (fm_json_is_null(format)) {
        return FM_OK;
    }
    if (!type || (strcmp(type, "text") != 0 && strcmp(type, "json_object") != 0 && strcmp(type, "json_schema") != 0)) {
        return fm_bad_field("text.format.type", "\"text\", \"json_object\" or \"json_schema\"");
    }
    fm_str text = {0};
    fm_json *v = NULL;
    fm_str_puts(&text, "{\"type\":");
    fm_str_json(&text, type, strlen(type));
    fm_str_puts(&text, ",\"json_schema\":");
    fm_status st = fm_json_dump(&text, format, 0);
    fm_str_putc(&text, '}');
    st = st == FM_OK ? fm_str_check(&text) : st;
    st = st == FM_OK ? fm_json_parse(&v, text.data, text.len, "text.format") : st;
    fm_str_free(&text);
    return st == FM_OK ? fm_json_set(body, "response_format", v) : st;
}

/* Puts what the chat's readers look for into the body. */
static fm_status to_chat(fm_json *body) {
    FM_TRY(refuse(body));
    fm_json *messages = fm_json_new_array();
    fm_status st = fill_messages(messages, body);
    if (st != FM_OK) {
        fm_json_free(messages);
        return st;
    }
    FM_TRY(fm_json_set(body, "messages", messages));
    FM_TRY(set_format(body));
    const fm_json *most = fm_json_get(body, "max_output_tokens");
    if (fm_json_is_null(most)) {
        return FM_OK;
    }
    if (!fm_json_is_int(most)) {
        return fm_bad_field("max_output_tokens", "a whole number");
    }
    return fm_json_set(body, "max_completion_tokens", fm_json_new_int(fm_json_int(most, 0)));
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
    fm_tokens ids = {0};
    FM_TRY(to_chat(c->body));
    fm_status st = fm_params_read(&asked, c->s, c->body, true);
    st = st == FM_OK ? fm_chat_prompt(&ids, NULL, c->s, c->body) : st;
    st = st == FM_OK ? constrain(&asked, c) : st;
    if (st == FM_OK) {
        asked.n = 1;
        asked.logprobs = false;
        asked.o.logprobs = 0;
        fm_completion_prompt p = {.ids = ids.ids, .n = (int32_t)FM_MIN(ids.n, (size_t)INT32_MAX)};
        st = fm_completion_start(c, FM_ANSWER_RESPONSES, &p, 1, &asked, NULL);
    }
    fm_tokens_free(&ids);
    fm_params_asked_free(&asked);
    return st;
}

const fm_route fm_route_responses = {.method = "POST", .path = "/v1/responses|/responses", .handle = handle};
