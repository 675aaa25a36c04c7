/* POST /v1/responses, stateless: nothing is stored, so there is no previous_response_id. The request becomes that of a
 * chat, the answer has the form of responses.h. */
#include <string.h>

#include "serve/chat_prompt.h"
#include "base/error.h"
#include "serve/completion.h"
#include "serve/responses.h"

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

/* Sets text members; a value that is no string is an error naming it. */
static fm_status copy_string(fm_json *to, const char *key, const fm_json *from, const char *from_key, size_t i) {
    size_t n;
    const char *text = fm_json_str(fm_json_get(from, from_key), &n);
    if (!text) {
        FM_FAIL(FM_ERR_ARGUMENT, "input[%zu].%s: expected a string", i, from_key);
    }
    return fm_json_set(to, key, fm_json_new_strn(text, n));
}

/* The list of calls of the last message, which becomes one of the assistant when it is none. */
static fm_status last_calls(fm_json **out, fm_json *messages) {
    fm_json *last = fm_json_at(messages, fm_json_size(messages) ? fm_json_size(messages) - 1 : 0);
    const char *role = fm_json_str(fm_json_get(last, "role"), NULL);
    if (!role || strcmp(role, "assistant") != 0) {
        FM_TRY(add_message(messages, "assistant", fm_json_new_null()));
        last = fm_json_at(messages, fm_json_size(messages) - 1);
    }
    if (!fm_json_get(last, "tool_calls")) {
        FM_TRY(fm_json_set(last, "tool_calls", fm_json_new_array()));
    }
    *out = fm_json_get(last, "tool_calls");
    return FM_OK;
}

/* Calls that stand behind each other were made together. */
static fm_status add_call(fm_json *messages, const fm_json *v, size_t i) {
    fm_json *calls, *call, *function;
    FM_TRY(last_calls(&calls, messages));
    call = fm_json_new_object();
    FM_TRY(fm_json_append(calls, call));
    FM_TRY(copy_string(call, "id", v, "call_id", i));
    FM_TRY(fm_json_set(call, "type", fm_json_new_str("function")));
    function = fm_json_new_object();
    FM_TRY(fm_json_set(call, "function", function));
    FM_TRY(copy_string(function, "name", v, "name", i));
    return copy_string(function, "arguments", v, "arguments", i);
}

/* The function of an earlier call: templates name it beside its result. */
static const char *called(const fm_json *messages, const char *id) {
    for (size_t i = fm_json_size(messages); i-- > 0;) {
        const fm_json *calls = fm_json_get(fm_json_at(messages, i), "tool_calls");
        for (size_t k = 0; k < fm_json_size(calls); k++) {
            const char *other = fm_json_str(fm_json_get(fm_json_at(calls, k), "id"), NULL);
            if (other && strcmp(other, id) == 0) {
                return fm_json_str(fm_json_get(fm_json_get(fm_json_at(calls, k), "function"), "name"), NULL);
            }
        }
    }
    return NULL;
}

static fm_status add_output(fm_json *messages, const fm_json *v, size_t i) {
    const char *id = fm_json_str(fm_json_get(v, "call_id"), NULL);
    fm_json *content = NULL;
    if (!id) {
        FM_FAIL(FM_ERR_ARGUMENT, "input[%zu].call_id: expected a string", i);
    }
    const char *name = called(messages, id);
    if (!name) {
        FM_FAIL(FM_ERR_ARGUMENT, "input[%zu].call_id: no function_call before it has the id \"%.60s\"", i, id);
    }
    FM_TRY(chat_content(&content, fm_json_get(v, "output"), i));
    FM_TRY(add_message(messages, "tool", content));
    fm_json *m = fm_json_at(messages, fm_json_size(messages) - 1);
    FM_TRY(fm_json_set(m, "tool_call_id", fm_json_new_str(id)));
    return fm_json_set(m, "name", fm_json_new_str(name));
}

static fm_status add_item(fm_json *messages, const fm_json *v, size_t i) {
    const char *type = fm_json_str(fm_json_get(v, "type"), NULL), *role = fm_json_str(fm_json_get(v, "role"), NULL);
    fm_json *content = NULL;
    if (type && strcmp(type, "reasoning") == 0) {
        return FM_OK; /* of an earlier answer; templates leave it out too */
    }
    if (type && strcmp(type, "function_call") == 0) {
        return add_call(messages, v, i);
    }
    if (type && strcmp(type, "function_call_output") == 0) {
        return add_output(messages, v, i);
    }
    if (!role || (type && strcmp(type, "message") != 0)) {
        FM_FAIL(FM_ERR_ARGUMENT,
                "input[%zu]: expected a message with a role, a function_call or a function_call_output", i);
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
    return FM_OK;
}

/* Member `key` of body in another form; what was there stays under `kept` for the answer. */
static fm_status replace(fm_json *body, const char *key, const char *kept, fm_json *form) {
    fm_json *copy = NULL;
    fm_status s = fm_json_copy(&copy, fm_json_get(body, key));
    s = s == FM_OK ? fm_json_set(body, kept, copy) : s;
    if (s != FM_OK) {
        fm_json_free(form);
        return s;
    }
    return fm_json_set(body, key, form);
}

/* {"type":"function","name":...} as the chat has it: {"type":"function","function":{"name":...}}. */
static fm_status set_tools(fm_json *body) {
    const fm_json *list = fm_json_get(body, "tools");
    static const char *const member[] = {"name", "description", "parameters", "strict"};
    if (fm_json_is_null(list)) {
        return FM_OK;
    }
    if (!fm_json_is_array(list)) {
        return fm_bad_field("tools", "a list");
    }
    fm_json *chat = fm_json_new_array(), *copy;
    fm_status s = chat ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for tools");
    for (size_t i = 0; i < fm_json_size(list) && s == FM_OK; i++) {
        const fm_json *v = fm_json_at(list, i);
        const char *type = fm_json_str(fm_json_get(v, "type"), NULL);
        if (!type || strcmp(type, "function") != 0 || !fm_json_str(fm_json_get(v, "name"), NULL)) {
            s = fm_error_set(
                FM_ERR_ARGUMENT, __FILE__, __LINE__,
                "tools[%zu]: expected {\"type\":\"function\",\"name\":...}; nothing else can be called here", i);
            break;
        }
        fm_json *tool = fm_json_new_object(), *function = fm_json_new_object();
        s = fm_json_append(chat, tool);
        s = s == FM_OK ? fm_json_set(tool, "type", fm_json_new_str("function")) : s;
        s = s == FM_OK ? fm_json_set(tool, "function", function) : s;
        for (size_t k = 0; k < FM_ARRAY_LEN(member) && s == FM_OK; k++) {
            const fm_json *x = fm_json_get(v, member[k]);
            if (!fm_json_is_null(x)) {
                s = fm_json_copy(&copy, x);
                s = s == FM_OK ? fm_json_set(function, member[k], copy) : s;
            }
        }
    }
    if (s != FM_OK) {
        fm_json_free(chat);
        return s;
    }
    return replace(body, "tools", FM_RESPONSES_TOOLS, chat);
}

static fm_status set_choice(fm_json *body) {
    const fm_json *v = fm_json_get(body, "tool_choice");
    const char *name = fm_json_str(fm_json_get(v, "name"), NULL);
    if (fm_json_is_null(v)) {
        return FM_OK;
    }
    fm_json *copy = NULL;
    if (!name) {
        FM_TRY(fm_json_copy(&copy, v));
        return fm_json_set(body, FM_RESPONSES_CHOICE, copy);
    }
    fm_json *chat = fm_json_new_object(), *function = fm_json_new_object();
    fm_status s = fm_json_set(chat, "function", function);
    s = s == FM_OK ? fm_json_set(function, "name", fm_json_new_str(name)) : s;
    s = s == FM_OK ? fm_json_set(chat, "type", fm_json_new_str("function")) : s;
    if (s != FM_OK) {
        fm_json_free(chat);
        return s;
    }
    return replace(body, "tool_choice", FM_RESPONSES_CHOICE, chat);
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
    FM_TRY(set_tools(body));
    FM_TRY(set_choice(body));
    FM_TRY(fm_json_set(body, "reasoning_format", fm_json_new_str("none")));
    const fm_json *most = fm_json_get(body, "max_output_tokens");
    if (fm_json_is_null(most)) {
        return FM_OK;
    }
    if (!fm_json_is_int(most)) {
        return fm_bad_field("max_output_tokens", "a whole number");
    }
    return fm_json_set(body, "max_completion_tokens", fm_json_new_int(fm_json_int(most, 0)));
}

static fm_status handle(fm_call *c) {
    fm_params_asked asked = {0};
    fm_tokens ids = {0};
    fm_chat_plan plan = {0};
    FM_TRY(to_chat(c->body));
    fm_status st = fm_params_read(&asked, c->s, c->body, true);
    st = st == FM_OK ? fm_chat_prompt(&ids, &plan, c->s, c->body) : st;
    st = st == FM_OK ? fm_chat_grammar(&asked.o.grammar, &plan, c->s, c->body) : st;
    if (st == FM_OK) {
        asked.n = 1;
        asked.logprobs = false;
        asked.o.logprobs = 0;
        fm_completion_prompt p = {.ids = ids.ids, .n = (int32_t)FM_MIN(ids.n, (size_t)INT32_MAX)};
        st = fm_completion_start(c, FM_ANSWER_RESPONSES, &p, 1, &asked, &plan);
    }
    fm_tokens_free(&ids);
    fm_params_asked_free(&asked);
    return st;
}

const fm_route fm_route_responses = {.method = "POST", .path = "/v1/responses|/responses", .handle = handle};
