/* Messages to tokens. */
#include "serve/chat_prompt.h"

#include <string.h>

#include "base/mem.h"

/* Content in parts becomes one text; images and the like are refused. */
static fm_status write_content(fm_str *out, const fm_json *v, size_t i) {
    size_t n;
    const char *text = fm_json_str(v, &n);
    fm_str all = {0};
    fm_status s = FM_OK;
    if (text || fm_json_is_null(v)) {
        fm_str_json(out, text ? text : "", text ? n : 0);
        return FM_OK;
    }
    if (!fm_json_is_array(v)) {
        FM_FAIL(FM_ERR_ARGUMENT, "messages[%zu].content: expected a string or a list of parts", i);
    }
    for (size_t k = 0; k < fm_json_size(v) && s == FM_OK; k++) {
        const fm_json *part = fm_json_at(v, k);
        const char *type = fm_json_str(fm_json_get(part, "type"), NULL);
        text = fm_json_str(fm_json_get(part, "text"), &n);
        if (!type || strcmp(type, "text") != 0 || !text) {
            s = fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__,
                             "messages[%zu].content[%zu]: expected {\"type\":\"text\",\"text\":...}; this model reads "
                             "text only",
                             i, k);
        } else {
            fm_str_append(&all, text, n);
        }
    }
    if (s == FM_OK) {
        fm_str_json(out, all.data ? all.data : "", all.len);
        s = fm_str_check(&all);
    }
    fm_str_free(&all);
    return s;
}

typedef struct member_writer {
    fm_str *out;
    size_t i;
    bool any;
} member_writer;

static fm_status write_member(void *arg, const char *key, fm_json *value) {
    member_writer *w = arg;
    fm_str_puts(w->out, w->any ? "," : "");
    w->any = true;
    fm_str_json(w->out, key, strlen(key));
    fm_str_putc(w->out, ':');
    return strcmp(key, "content") == 0 ? write_content(w->out, value, w->i) : fm_json_dump(w->out, value, 0);
}

static fm_status write_messages(fm_str *out, const fm_json *list) {
    if (!fm_json_is_array(list) || fm_json_size(list) == 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "messages: expected a list with at least one message");
    }
    fm_str_putc(out, '[');
    for (size_t i = 0; i < fm_json_size(list); i++) {
        fm_json *m = fm_json_at(list, i);
        const char *role = fm_json_str(fm_json_get(m, "role"), NULL);
        if (!role) {
            FM_FAIL(FM_ERR_ARGUMENT, "messages[%zu].role: expected a string", i);
        }
        if (!fm_json_get(m, "content") && !fm_json_get(m, "tool_calls")) {
            FM_FAIL(FM_ERR_ARGUMENT, "messages[%zu].content: expected a string or a list of parts", i);
        }
        fm_str_puts(out, i ? ",{" : "{");
        member_writer w = {.out = out, .i = i};
        FM_TRY(fm_json_each(m, write_member, &w));
        fm_str_putc(out, '}');
    }
    fm_str_putc(out, ']');
    return fm_str_check(out);
}

/* Text of a member that is an object or a list; *out stays empty when it is missing. */
static fm_status member_text(fm_str *out, const fm_json *body, const char *key, bool list) {
    const fm_json *v = fm_json_get(body, key);
    if (fm_json_is_null(v)) {
        return FM_OK;
    }
    if (list ? !fm_json_is_array(v) : !fm_json_is_object(v)) {
        return fm_bad_field(key, list ? "a list" : "an object");
    }
    FM_TRY(fm_json_dump(out, v, 0));
    return fm_str_check(out);
}

static fm_status render(fm_tokens *out, const fm_serve *s, const fm_json *body, fm_str *messages, fm_str *tools,
                        fm_str *vars) {
    FM_TRY(write_messages(messages, fm_json_get(body, "messages")));
    FM_TRY(member_text(tools, body, "tools", true));
    FM_TRY(member_text(vars, body, "chat_template_kwargs", false));
    bool generation = fm_json_bool(fm_json_get(body, "add_generation_prompt"), true);
    fm_template_options o = {
        .size = sizeof o, .add_generation_prompt = generation, .tools = tools->data, .vars = vars->data};
    fm_template_result r;
    FM_TRY(fm_template_render(&r, s->chat, messages->data, messages->len, &o));
    fm_encode_options e = {.size = sizeof e, .allow_special = true, .n_threads = 1};
    fm_status st = fm_tokenizer_encode(out, s->tok, r.text, r.n, &e);
    fm_template_result_free(&r);
    return st;
}

fm_status fm_chat_prompt(fm_tokens *out, const fm_serve *s, const fm_json *body) {
    fm_str messages = {0}, tools = {0}, vars = {0};
    if (!s->chat) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "the model has no tokenizer: only token ids can be completed");
    }
    fm_status st = render(out, s, body, &messages, &tools, &vars);
    fm_str_free(&messages);
    fm_str_free(&tools);
    fm_str_free(&vars);
    return st;
}
