/* The forms of /v1/responses. */
#include "serve/responses.h"

#include <string.h>

#include "base/file.h"

void fm_responses_init(fm_responses *r, const fm_call *c, const fm_params_asked *asked) {
    *r = (fm_responses){.c = c,
                        .created = fm_unix_ms() / 1000,
                        .max_tokens = asked->o.max_new_tokens,
                        .temperature = asked->o.temperature,
                        .top_p = asked->o.top_p};
}

void fm_responses_free(fm_responses *r) {
    fm_str_free(&r->text);
}

static void part(fm_str *out, const char *text, size_t n) {
    fm_str_puts(out, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
    fm_str_json(out, text, n);
    fm_str_putc(out, '}');
}

/* The message; status "in_progress": still empty. */
static void item(fm_str *out, const fm_responses *r, const char *status) {
    fm_str_printf(out, "{\"id\":\"msg_%s\",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\",\"content\":[",
                  r->c->id, status);
    if (strcmp(status, "in_progress") != 0) {
        part(out, r->text.data ? r->text.data : "", r->text.len);
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

/* The member of the request, or what stands for none. */
static void echo(fm_str *out, const fm_responses *r, const char *key, const char *none) {
    const fm_json *v = fm_json_get(r->c->body, key);
    fm_str_printf(out, ",\"%s\":", key);
    if (fm_json_is_null(v) || fm_json_dump(out, v, 0) != FM_OK) {
        fm_str_puts(out, none);
    }
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
    if (e && e->status == FM_OK) {
        item(out, r, status);
    }
    fm_str_printf(out,
                  "],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"reasoning\":{\"effort\":null,"
                  "\"summary\":null},\"store\":false,\"temperature\":%.9g,\"tool_choice\":\"auto\",\"tools\":[],"
                  "\"top_p\":%.9g,\"truncation\":\"disabled\",\"usage\":",
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
    fm_str_puts(out, ",\"output_index\":0,\"item\":");
    item(out, r, status);
    end_event(out);
}

/* An event about the text: `key` holds the text, or the part when it is "part". */
static void text_event(fm_str *out, fm_responses *r, const char *type, const char *key, const char *text, size_t n) {
    event(out, r, type);
    fm_str_printf(out, ",\"item_id\":\"msg_%s\",\"output_index\":0,\"content_index\":0,\"%s\":", r->c->id, key);
    if (strcmp(key, "part") == 0) {
        part(out, text, n);
    } else {
        fm_str_json(out, text, n);
        fm_str_puts(out, ",\"logprobs\":[]");
    }
    end_event(out);
}

static void begin(fm_str *out, fm_responses *r) {
    if (!r->begun) {
        r->begun = true;
        whole_event(out, r, "response.created", NULL);
        whole_event(out, r, "response.in_progress", NULL);
        item_event(out, r, "response.output_item.added", "in_progress");
        text_event(out, r, "response.content_part.added", "part", "", 0);
    }
}

void fm_responses_piece(fm_str *out, fm_responses *r, const char *text, size_t n) {
    begin(out, r);
    if (n > 0) {
        fm_str_append(&r->text, text, n);
        text_event(out, r, "response.output_text.delta", "delta", text, n);
    }
}

void fm_responses_conclude(fm_str *out, fm_responses *r, const fm_responses_end *e) {
    const char *text = r->text.data ? r->text.data : "", *status = status_of(e);
    begin(out, r);
    if (e->status != FM_OK) {
        whole_event(out, r, "response.failed", e);
        return;
    }
    text_event(out, r, "response.output_text.done", "text", text, r->text.len);
    text_event(out, r, "response.content_part.done", "part", text, r->text.len);
    item_event(out, r, "response.output_item.done", status);
    whole_event(out, r, strcmp(status, "incomplete") == 0 ? "response.incomplete" : "response.completed", e);
}

void fm_responses_whole(fm_str *out, fm_responses *r, const char *text, size_t n, const fm_responses_end *e) {
    fm_str_clear(&r->text);
    fm_str_append(&r->text, text, n);
    object(out, r, e);
    out->failed = out->failed || r->text.failed;
}
