/* The forms of /v1/responses. */
#include "serve/responses.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

void fm_responses_init(fm_responses *r, const fm_call *c, const fm_params_asked *asked) {
    *r = (fm_responses){.c = c,
                        .created = fm_unix_ms() / 1000,
                        .temperature = asked->o.temperature,
                        .top_p = asked->o.top_p,
                        .stream = asked->stream};
}

void fm_responses_free(fm_responses *r) {
    for (size_t i = 0; i < r->n; i++) {
        fm_str_free(&r->item[i].text);
        fm_str_free(&r->item[i].name);
    }
    fm_free(r->item);
}

static void part(fm_str *out, const char *text, size_t n) {
    fm_str_puts(out, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
    fm_str_json(out, text, n);
    fm_str_putc(out, '}');
}

static void item_id(fm_str *out, const fm_responses *r, size_t i) {
    fm_str_printf(out, r->item[i].call ? "fc_%s" : "msg_%s", r->c->id);
    if (i > 0) {
        fm_str_printf(out, "_%zu", i);
    }
}

static void json_text(fm_str *out, const fm_str *s) {
    fm_str_json(out, s->data ? s->data : "", s->len);
}

/* Item i; status "in_progress": still empty. */
static void item(fm_str *out, const fm_responses *r, size_t i, const char *status) {
    const fm_responses_item *x = &r->item[i];
    bool empty = strcmp(status, "in_progress") == 0;
    fm_str_puts(out, "{\"id\":\"");
    item_id(out, r, i);
    fm_str_printf(out, "\",\"type\":\"%s\",\"status\":\"%s\"", x->call ? "function_call" : "message", status);
    if (x->call) {
        fm_str_printf(out, ",\"call_id\":\"call_%016llx\",\"name\":", (unsigned long long)x->tag);
        json_text(out, &x->name);
        fm_str_puts(out, ",\"arguments\":");
        json_text(out, empty ? &(fm_str){0} : &x->text);
        fm_str_putc(out, '}');
        return;
    }
    fm_str_puts(out, ",\"role\":\"assistant\",\"content\":[");
    if (!empty) {
        part(out, x->text.data ? x->text.data : "", x->text.len);
    }
    fm_str_puts(out, "]}");
}

static const char *status_of(const fm_responses_end *e) {
    return !e                                                                ? "in_progress"
           : e->status != FM_OK                                              ? "failed"
           : e->filtered                                                     ? "incomplete"
           : e->finish == FM_FINISH_LENGTH || e->finish == FM_FINISH_CONTEXT ? "incomplete"
                                                                             : "completed";
}

/* The member `from` of the request as `key`, or what stands for none. */
static void echo_as(fm_str *out, const fm_responses *r, const char *key, const char *from, const char *none) {
    const fm_json *v = fm_json_get(r->c->body, from);
    fm_str_printf(out, ",\"%s\":", key);
    if (fm_json_is_null(v) || fm_json_dump(out, v, 0) != FM_OK) {
        fm_str_puts(out, none);
    }
}

static void echo(fm_str *out, const fm_responses *r, const char *key, const char *none) {
    echo_as(out, r, key, key, none);
}

/* e NULL: it has only begun. */
static void object(fm_str *out, const fm_responses *r, const fm_responses_end *e) {
    const char *status = status_of(e);
    fm_str_printf(out, "{\"id\":\"resp_%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"error\":",
                  r->c->id, (long long)r->created, status);
    if (e && e->status != FM_OK) {
        fm_str_puts(out, "{\"code\":\"server_error\",\"message\":");
        fm_str_json(out, e->message, strlen(e->message));
        fm_str_putc(out, '}');
    } else {
        fm_str_puts(out, "null");
    }
    fm_str_puts(out, ",\"incomplete_details\":");
    if (strcmp(status, "incomplete") == 0) {
        fm_str_printf(out, "{\"reason\":\"%s\"}", e && e->filtered ? "content_filter" : "max_output_tokens");
    } else {
        fm_str_puts(out, "null");
    }
    echo(out, r, "instructions", "null");
    echo(out, r, "max_output_tokens", "null");
    echo(out, r, "metadata", "{}");
    echo(out, r, "text", "{\"format\":{\"type\":\"text\"}}");
    fm_str_puts(out, ",\"model\":");
    fm_str_json(out, r->c->s->name, strlen(r->c->s->name));
    fm_str_puts(out, ",\"output\":[");
    for (size_t i = 0; e && e->status == FM_OK && i < r->n; i++) {
        fm_str_puts(out, i ? "," : "");
        item(out, r, i, i + 1 < r->n ? "completed" : status);
    }
    fm_str_putc(out, ']');
    echo(out, r, "parallel_tool_calls", "true");
    echo_as(out, r, "tool_choice", FM_RESPONSES_CHOICE, "\"auto\"");
    echo_as(out, r, "tools", FM_RESPONSES_TOOLS, "[]");
    fm_str_printf(out,
                  ",\"previous_response_id\":null,\"reasoning\":{\"effort\":null,\"summary\":null},\"store\":false,"
                  "\"temperature\":%.9g,\"top_p\":%.9g,\"truncation\":\"disabled\",\"usage\":",
                  r->temperature, r->top_p);
    if (e && e->status == FM_OK) {
        fm_str_printf(out,
                      "{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%lld},\"output_tokens\":%lld,"
                      "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":%lld}",
                      (long long)e->n_prompt, (long long)e->n_cached, (long long)e->n_generated,
                      (long long)e->n_prompt + (long long)e->n_generated);
    } else {
        fm_str_puts(out, "null");
    }
    fm_str_putc(out, '}');
}

/* The beginning of an event, up to its own members. */
static void event(fm_str *out, fm_responses *r, const char *type) {
    fm_str_printf(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%d", type, type, r->serial++);
}

static void end_event(fm_str *out) {
    fm_str_puts(out, "}\n\n");
}

static void whole_event(fm_str *out, fm_responses *r, const char *type, const fm_responses_end *e) {
    event(out, r, type);
    fm_str_puts(out, ",\"response\":");
    object(out, r, e);
    end_event(out);
}

static void item_event(fm_str *out, fm_responses *r, const char *type, const char *status) {
    event(out, r, type);
    fm_str_printf(out, ",\"output_index\":%zu,\"item\":", r->n - 1);
    item(out, r, r->n - 1, status);
    end_event(out);
}

/* The beginning of an event about the last item. */
static void about(fm_str *out, fm_responses *r, const char *type) {
    event(out, r, type);
    fm_str_puts(out, ",\"item_id\":\"");
    item_id(out, r, r->n - 1);
    fm_str_printf(out, "\",\"output_index\":%zu", r->n - 1);
}

/* An event about the text: `key` holds the text, or the part when it is "part". */
static void text_event(fm_str *out, fm_responses *r, const char *type, const char *key, const char *text, size_t n) {
    about(out, r, type);
    fm_str_printf(out, ",\"content_index\":0,\"%s\":", key);
    if (strcmp(key, "part") == 0) {
        part(out, text, n);
    } else {
        fm_str_json(out, text, n);
        fm_str_puts(out, ",\"logprobs\":[]");
    }
    end_event(out);
}

static void begin(fm_str *out, fm_responses *r) {
    if (!r->begun && r->stream) {
        whole_event(out, r, "response.created", NULL);
        whole_event(out, r, "response.in_progress", NULL);
    }
    r->begun = true;
}

/* The last item is whole. */
static void close_item(fm_str *out, fm_responses *r, const char *status) {
    if (!r->open) {
        return;
    }
    const fm_responses_item *x = &r->item[r->n - 1];
    const char *text = x->text.data ? x->text.data : "";
    r->open = false;
    if (!r->stream) {
        return;
    }
    if (x->call) {
        about(out, r, "response.function_call_arguments.done");
        fm_str_puts(out, ",\"name\":");
        json_text(out, &x->name);
        fm_str_puts(out, ",\"arguments\":");
        json_text(out, &x->text);
        end_event(out);
    } else {
        text_event(out, r, "response.output_text.done", "text", text, x->text.len);
        text_event(out, r, "response.content_part.done", "part", text, x->text.len);
    }
    item_event(out, r, "response.output_item.done", status);
}

static fm_responses_item *open_item(fm_str *out, fm_responses *r, fm_responses_item x) {
    void *p = r->item;
    begin(out, r);
    close_item(out, r, "completed");
    if (fm_grow(&p, &r->cap, r->n + 1, sizeof *r->item) != FM_OK) {
        fm_error_clear();
        r->failed = true;
        fm_str_free(&x.name);
        return NULL;
    }
    r->item = p;
    r->item[r->n++] = x;
    r->open = true;
    if (r->stream) {
        item_event(out, r, "response.output_item.added", "in_progress");
    }
    return &r->item[r->n - 1];
}

/* The message that grows, a new one when there is none. */
static fm_responses_item *message(fm_str *out, fm_responses *r) {
    if (r->open && !r->item[r->n - 1].call) {
        return &r->item[r->n - 1];
    }
    fm_responses_item *x = open_item(out, r, (fm_responses_item){0});
    if (x && r->stream) {
        text_event(out, r, "response.content_part.added", "part", "", 0);
    }
    return x;
}

void fm_responses_text(fm_str *out, fm_responses *r, const char *text, size_t n) {
    begin(out, r);
    fm_responses_item *x = n > 0 ? message(out, r) : NULL;
    if (!x) {
        return;
    }
    fm_str_append(&x->text, text, n);
    r->failed = r->failed || x->text.failed;
    if (r->stream) {
        text_event(out, r, "response.output_text.delta", "delta", text, n);
    }
}

void fm_responses_call(fm_str *out, fm_responses *r, const char *name, size_t n, uint64_t tag) {
    fm_responses_item x = {.call = true, .tag = tag};
    fm_str_append(&x.name, name, n);
    r->failed = r->failed || x.name.failed;
    (void)open_item(out, r, x);
}

void fm_responses_arguments(fm_str *out, fm_responses *r, const char *text, size_t n) {
    if (!r->open || !r->item[r->n - 1].call || n == 0) {
        return;
    }
    fm_responses_item *x = &r->item[r->n - 1];
    fm_str_append(&x->text, text, n);
    r->failed = r->failed || x->text.failed;
    if (r->stream) {
        about(out, r, "response.function_call_arguments.delta");
        fm_str_puts(out, ",\"delta\":");
        fm_str_json(out, text, n);
        end_event(out);
    }
}

void fm_responses_conclude(fm_str *out, fm_responses *r, const fm_responses_end *e) {
    const char *status = status_of(e);
    begin(out, r);
    if (e->status == FM_OK && r->n == 0) { /* nothing was said: a message without text */
        (void)message(out, r);
    }
    if (e->status == FM_OK) {
        close_item(out, r, status);
    }
    out->failed = out->failed || r->failed;
    if (!r->stream) {
        object(out, r, e);
    } else if (e->status != FM_OK) {
        whole_event(out, r, "response.failed", e);
    } else {
        whole_event(out, r, strcmp(status, "incomplete") == 0 ? "response.incomplete" : "response.completed", e);
    }
}
