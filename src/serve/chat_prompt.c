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

/* Templates differ in what they take for a call that was made: its arguments as an object or as text, and no content or
 * an empty one. */
typedef struct history_form {
    bool arguments_text, empty_content;
} history_form;

typedef struct member_writer {
    fm_str *out;
    size_t i;
    bool any;
    const history_form *form;
} member_writer;

static fm_status write_member(void *arg, const char *key, fm_json *value);

/* {"function":{"arguments":"{...}"}}: the text becomes the object. */
static fm_status write_arguments(fm_str *out, const fm_json *v, const history_form *form, size_t i) {
    size_t n;
    const char *text = fm_json_str(v, &n);
    fm_json *parsed = NULL;
    if (!text || form->arguments_text) {
        return fm_json_dump(out, v, 0);
    }
    if (n == 0) {
        fm_str_puts(out, "{}");
        return FM_OK;
    }
    if (fm_json_parse(&parsed, text, n, "arguments") != FM_OK) {
        FM_FAIL(FM_ERR_ARGUMENT, "messages[%zu].tool_calls: the arguments are not JSON", i);
    }
    fm_status s = fm_json_dump(out, parsed, 0);
    fm_json_free(parsed);
    return s;
}

static fm_status write_object(fm_str *out, fm_json *o, size_t i, const history_form *form) {
    member_writer w = {.out = out, .i = i, .form = form};
    fm_str_putc(out, '{');
    FM_TRY(fm_json_each(o, write_member, &w));
    fm_str_putc(out, '}');
    return FM_OK;
}

static fm_status write_calls(fm_str *out, const fm_json *list, size_t i, const history_form *form) {
    fm_str_putc(out, '[');
    for (size_t k = 0; k < fm_json_size(list); k++) {
        fm_json *call = fm_json_at(list, k);
        if (!fm_json_is_object(call) || !fm_json_is_object(fm_json_get(call, "function"))) {
            FM_FAIL(FM_ERR_ARGUMENT, "messages[%zu].tool_calls[%zu]: expected {\"function\":{\"name\":...}}", i, k);
        }
        fm_str_puts(out, k ? "," : "");
        FM_TRY(write_object(out, call, i, form));
    }
    fm_str_putc(out, ']');
    return FM_OK;
}

static fm_status write_member(void *arg, const char *key, fm_json *value) {
    member_writer *w = arg;
    fm_str_puts(w->out, w->any ? "," : "");
    w->any = true;
    fm_str_json(w->out, key, strlen(key));
    fm_str_putc(w->out, ':');
    if (strcmp(key, "content") == 0 && fm_json_is_null(value) && !w->form->empty_content) {
        fm_str_puts(w->out, "null");
        return FM_OK;
    }
    if (strcmp(key, "tool_calls") == 0 && fm_json_is_array(value)) {
        return write_calls(w->out, value, w->i, w->form);
    }
    if (strcmp(key, "function") == 0 && fm_json_is_object(value)) {
        return write_object(w->out, value, w->i, w->form);
    }
    if (strcmp(key, "arguments") == 0) {
        return write_arguments(w->out, value, w->form, w->i);
    }
    return strcmp(key, "content") == 0 ? write_content(w->out, value, w->i) : fm_json_dump(w->out, value, 0);
}

/* *calls: a message has calls in it, so that other forms may be tried. */
static fm_status write_messages(fm_str *out, bool *calls, const fm_json *list, const history_form *form) {
    *calls = false;
    if (!fm_json_is_array(list) || fm_json_size(list) == 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "messages: expected a list with at least one message");
    }
    fm_str_putc(out, '[');
    for (size_t i = 0; i < fm_json_size(list); i++) {
        fm_json *m = fm_json_at(list, i);
        const char *role = fm_json_str(fm_json_get(m, "role"), NULL);
        bool has_calls = fm_json_size(fm_json_get(m, "tool_calls")) > 0;
        history_form plain = {.empty_content = true};
        if (!role) {
            FM_FAIL(FM_ERR_ARGUMENT, "messages[%zu].role: expected a string", i);
        }
        if (!fm_json_get(m, "content") && !has_calls) {
            FM_FAIL(FM_ERR_ARGUMENT, "messages[%zu].content: expected a string or a list of parts", i);
        }
        *calls = *calls || has_calls;
        fm_str_puts(out, i ? "," : "");
        FM_TRY(write_object(out, m, i, has_calls ? form : &plain));
        if (has_calls && !fm_json_get(m, "content")) { /* templates read the member */
            out->len -= out->failed ? 0 : 1;
            fm_str_puts(out, form->empty_content ? ",\"content\":\"\"}" : ",\"content\":null}");
        }
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

typedef struct texts {
    fm_str messages, tools, vars;
} texts;

/* Renders in the first form that the template takes. */
static fm_status render_messages(fm_template_result *r, const fm_serve *s, const fm_json *body, texts *t,
                                 const fm_template_options *o) {
    static const history_form forms[] = {{false, false}, {false, true}, {true, false}, {true, true}};
    fm_status st = FM_OK;
    bool calls = true;
    for (size_t i = 0; i < FM_ARRAY_LEN(forms) && calls; i++) {
        fm_str_clear(&t->messages);
        FM_TRY(write_messages(&t->messages, &calls, fm_json_get(body, "messages"), &forms[i]));
        st = fm_template_render(r, s->chat, t->messages.data, t->messages.len, o);
        if (st != FM_ERR_DATA) {
            return st;
        }
    }
    return st;
}

static fm_status render(fm_tokens *out, fm_chat_plan *plan, const fm_serve *s, const fm_json *body, texts *t) {
    fm_chat_plan own;
    plan = plan ? plan : &own;
    FM_TRY(fm_chat_plan_read(plan, body, fm_template_source(s->chat)));
    if (plan->choice != FM_TOOLS_NONE) {
        FM_TRY(member_text(&t->tools, body, "tools", true));
    }
    FM_TRY(member_text(&t->vars, body, "chat_template_kwargs", false));
    bool generation = fm_json_bool(fm_json_get(body, "add_generation_prompt"), true);
    fm_template_options o = {
        .size = sizeof o, .add_generation_prompt = generation, .tools = t->tools.data, .vars = t->vars.data};
    fm_template_result r;
    FM_TRY(render_messages(&r, s, body, t, &o));
    fm_chat_plan_prompt(plan, r.text, r.n);
    fm_encode_options e = {.size = sizeof e, .allow_special = true, .n_threads = 1};
    fm_status st = fm_tokenizer_encode(out, s->tok, r.text, r.n, &e);
    fm_template_result_free(&r);
    return st;
}

fm_status fm_chat_prompt(fm_tokens *out, fm_chat_plan *plan, const fm_serve *s, const fm_json *body) {
    texts t = {0};
    if (!s->chat) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "the model has no tokenizer: only token ids can be completed");
    }
    fm_status st = render(out, plan, s, body, &t);
    fm_str_free(&t.messages);
    fm_str_free(&t.tools);
    fm_str_free(&t.vars);
    return st;
}
