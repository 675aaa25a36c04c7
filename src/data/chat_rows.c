/* Rows to conversations. */
#include "data/chat_rows.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

#define MAX_MESSAGES 100000

typedef struct maker {
    fm_conversation *c;
    const fm_rec *row;
    const fm_columns *col;
    const char *reason;
} maker;

static const fm_cell *first_of(const maker *m, const char *named, const char *const *usual) {
    if (named) {
        const fm_cell *c = fm_rec_get(m->row, named);
        return c && c->kind != FM_CELL_NULL ? c : NULL;
    }
    for (; *usual; usual++) {
        const fm_cell *c = fm_rec_get(m->row, *usual);
        if (c && c->kind != FM_CELL_NULL) {
            return c;
        }
    }
    return NULL;
}

/* Of the next message. */
static fm_status add_weight(maker *m, double w) {
    fm_conversation *c = m->c;
    void *p = c->weight;
    FM_TRY(fm_grow(&p, &c->cap, c->n_messages + 1, sizeof *c->weight));
    c->weight = p;
    c->weight[c->n_messages++] = w;
    c->n_answers += w >= 0;
    return FM_OK;
}

/* Text put together from a cell and, on its own line, a second one. */
static void put_content(fm_str *out, fm_sv a, fm_sv b) {
    if (b.len == 0) {
        fm_str_json(out, a.ptr, a.len);
        return;
    }
    fm_str text = {0};
    fm_str_append(&text, a.ptr, a.len);
    fm_str_puts(&text, a.len ? "\n" : "");
    fm_str_append(&text, b.ptr, b.len);
    fm_str_json(out, text.data ? text.data : "", text.len);
    out->failed |= text.failed;
    fm_str_free(&text);
}

static fm_status add_text(maker *m, const char *role, fm_sv a, fm_sv b) {
    fm_str *out = &m->c->messages;
    fm_str_printf(out, "%s{\"role\": \"%s\", \"content\": ", m->c->n_messages ? ", " : "[", role);
    put_content(out, a, b);
    fm_str_putc(out, '}');
    bool answer = strcmp(role, "assistant") == 0;
    if (answer && a.len + b.len == 0) {
        m->reason = "an answer is empty";
    }
    return add_weight(m, answer ? 1 : -1);
}

/* Roles of sharegpt and its relatives. */
static const char *role_of(const char *from) {
    static const char *const map[][2] = {{"human", "user"},          {"user", "user"},
                                         {"gpt", "assistant"},       {"assistant", "assistant"},
                                         {"chatgpt", "assistant"},   {"bot", "assistant"},
                                         {"model", "assistant"},     {"system", "system"},
                                         {"developer", "developer"}, {"observation", "tool"},
                                         {"tool", "tool"},           {"function_response", "tool"},
                                         {"function", "tool"},       {"function_call", "function_call"}};
    for (size_t i = 0; i < FM_ARRAY_LEN(map); i++) {
        if (strcmp(from, map[i][0]) == 0) {
            return map[i][1];
        }
    }
    return NULL;
}

/* A call written as JSON text becomes a message with tool_calls. */
static fm_status set_call(maker *m, fm_json *o, const char *text, size_t n) {
    fm_json *call = NULL;
    if (fm_json_parse(&call, text, n, "function_call") != FM_OK) {
        m->reason = "a function call is no JSON";
        return FM_OK;
    }
    fm_json *list = fm_json_new_array(), *item = fm_json_new_object();
    fm_status s = fm_json_set(item, "type", fm_json_new_str("function"));
    s = s == FM_OK ? fm_json_set(item, "function", call) : s;
    s = s == FM_OK ? fm_json_append(list, item) : s;
    s = s == FM_OK ? fm_json_set(o, "tool_calls", list) : s;
    return s == FM_OK ? fm_json_set(o, "content", fm_json_new_str("")) : s;
}

static fm_status weight_of(maker *m, const fm_json *o, const fm_json *content) {
    size_t n = 0;
    const char *text = fm_json_str(content, &n);
    bool call = fm_json_size(fm_json_get(o, "tool_calls")) > 0;
    bool parts = fm_json_is_array(content) && fm_json_size(content) > 0;
    if (!call && !parts && (!text || n == 0)) {
        m->reason = "an answer is empty";
        return FM_OK;
    }
    double w = fm_json_num(fm_json_get(o, "weight"), 1);
    w = fm_json_bool(fm_json_get(o, "train"), true) && fm_json_bool(fm_json_get(o, "loss"), true) ? w : 0;
    if (!(w >= 0 && w <= 1e6)) {
        m->reason = "a message has a weight that is no number from 0 up";
        return FM_OK;
    }
    return add_weight(m, w);
}

static fm_status add_message(maker *m, fm_json *o) {
    bool share = !fm_json_is_null(fm_json_get(o, "from"));
    size_t n = 0;
    const char *from = fm_json_str(fm_json_get(o, share ? "from" : "role"), NULL);
    const char *role = from ? role_of(from) : NULL;
    fm_json *content = fm_json_get(o, share ? "value" : "content");
    if (!role) {
        m->reason = from ? "a message has a role that is not known" : "a message has no role";
        return FM_OK;
    }
    if (fm_json_is_null(content) && fm_json_size(fm_json_get(o, "tool_calls")) == 0) {
        m->reason = "a message has no content";
        return FM_OK;
    }
    if (share || strcmp(role, from) != 0) { /* in the usual words, the role first */
        bool call = strcmp(role, "function_call") == 0;
        const char *text = fm_json_str(content, &n);
        fm_json *value = text ? fm_json_new_strn(text, n) : NULL;
        role = call ? "assistant" : role;
        fm_json_remove(o, "role");
        fm_json_remove(o, "from");
        fm_status s = fm_json_set(o, "role", fm_json_new_str(role));
        if (s == FM_OK && call && text) {
            s = set_call(m, o, fm_json_str(value, NULL), n);
        } else if (s == FM_OK && text) {
            fm_json_remove(o, "content");
            s = fm_json_set(o, "content", value);
            value = NULL;
        } else if (s == FM_OK && share) {
            m->reason = "a message's value is no text";
        }
        fm_json_free(value);
        FM_TRY(s);
        fm_json_remove(o, "value");
        content = fm_json_get(o, "content");
    }
    fm_str_puts(&m->c->messages, m->c->n_messages ? ", " : "[");
    if (!m->reason) {
        FM_TRY(strcmp(role, "assistant") == 0 ? weight_of(m, o, content) : add_weight(m, -1));
    }
    return fm_json_dump(&m->c->messages, o, 0);
}

static fm_status from_list(maker *m, const fm_cell *cell) {
    fm_json *list = NULL;
    if (fm_json_parse(&list, cell->text.ptr, cell->text.len, "messages") != FM_OK || !fm_json_is_array(list) ||
        fm_json_size(list) == 0 || fm_json_size(list) > MAX_MESSAGES) {
        fm_json_free(list);
        m->reason = "the messages are no list of objects";
        return FM_OK;
    }
    fm_status s = FM_OK;
    for (size_t i = 0; i < fm_json_size(list) && s == FM_OK && !m->reason; i++) {
        fm_json *o = fm_json_at(list, i);
        if (!fm_json_is_object(o)) {
            m->reason = "the messages are no list of objects";
        } else {
            s = add_message(m, o);
        }
    }
    fm_json_free(list);
    return s;
}

/* [[question, answer], ...] of turns before this one. */
static fm_status add_history(maker *m, const fm_cell *cell) {
    fm_json *list = NULL;
    if (cell->kind == FM_CELL_TEXT && cell->text.len == 0) {
        return FM_OK;
    }
    if (fm_json_parse(&list, cell->text.ptr, cell->text.len, "history") != FM_OK || !fm_json_is_array(list)) {
        fm_json_free(list);
        m->reason = "the history is no list of [question, answer]";
        return FM_OK;
    }
    fm_status s = FM_OK;
    for (size_t i = 0; i < fm_json_size(list) && s == FM_OK && !m->reason; i++) {
        const fm_json *turn = fm_json_at(list, i);
        fm_sv q = {0}, a = {0};
        q.ptr = fm_json_is_array(turn) ? fm_json_str(fm_json_at(turn, 0), &q.len) : NULL;
        a.ptr = fm_json_is_array(turn) ? fm_json_str(fm_json_at(turn, 1), &a.len) : NULL;
        if (!q.ptr || !a.ptr) {
            m->reason = "the history is no list of [question, answer]";
            break;
        }
        s = add_text(m, "user", q, (fm_sv){0});
        s = s == FM_OK ? add_text(m, "assistant", a, (fm_sv){0}) : s;
    }
    fm_json_free(list);
    return s;
}

static fm_status from_columns(maker *m, const fm_cell *system) {
    static const char *const prompts[] = {"instruction", "prompt", "question", NULL};
    static const char *const queries[] = {"input", NULL};
    static const char *const answers[] = {"output", "response", "completion", "answer", NULL};
    static const char *const histories[] = {"history", NULL};
    const fm_cell *p = first_of(m, m->col->prompt, prompts), *a = first_of(m, m->col->response, answers);
    const fm_cell *q = first_of(m, m->col->query, queries), *h = first_of(m, m->col->history, histories);
    fm_sv none = {0};
    if (!p && q && m->col->query == NULL) { /* {"input", "output"} alone */
        p = q;
        q = NULL;
    }
    if (!p || !a) {
        m->reason = !p ? "there is no question column (prompt_column)" : "there is no answer column (response_column)";
        return FM_OK;
    }
    if (p->text.len == 0 && (!q || q->text.len == 0)) {
        m->reason = "the question is empty";
        return FM_OK;
    }
    if (system && system->text.len > 0) {
        FM_TRY(add_text(m, "system", system->text, none));
    }
    if (h) {
        FM_TRY(add_history(m, h));
    }
    FM_TRY(add_text(m, "user", p->text, q ? q->text : none));
    return add_text(m, "assistant", a->text, none);
}

fm_status fm_conversation_from_row(fm_conversation *c, const fm_rec *row, const fm_columns *columns,
                                   const char **reason) {
    static const char *const lists[] = {"messages", "conversations", NULL};
    static const char *const systems[] = {"system", NULL};
    static const char *const tools[] = {"tools", NULL};
    maker m = {.c = c, .row = row, .col = columns};
    fm_str_clear(&c->messages);
    fm_str_clear(&c->tools);
    c->n_answers = c->n_messages = 0;
    const fm_cell *list = first_of(&m, columns->messages, lists), *system = first_of(&m, columns->system, systems);
    const fm_cell *tool = first_of(&m, columns->tools, tools);
    if (list && list->kind == FM_CELL_JSON) {
        if (system && system->kind == FM_CELL_TEXT && system->text.len > 0) {
            FM_TRY(add_text(&m, "system", system->text, (fm_sv){0}));
        }
        FM_TRY(from_list(&m, list));
    } else if (list && columns->messages) {
        m.reason = "the messages are no list of objects";
    } else {
        FM_TRY(from_columns(&m, system));
    }
    fm_str_putc(&c->messages, ']');
    if (tool && tool->text.len > 0 && tool->text.ptr[0] == '[') {
        fm_str_append(&c->tools, tool->text.ptr, tool->text.len);
    }
    if (!m.reason && c->n_answers == 0) {
        m.reason = "there is no answer";
    }
    *reason = m.reason;
    FM_TRY(fm_str_check(&c->tools));
    return fm_str_check(&c->messages);
}

void fm_conversation_free(fm_conversation *c) {
    fm_str_free(&c->messages);
    fm_str_free(&c->tools);
    fm_free(c->weight);
    *c = (fm_conversation){0};
}
