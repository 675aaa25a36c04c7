/* Generated answers. A completion belongs to the engine's thread once its requests are submitted; the client's going
 * away, on another thread, only cancels them. */
#include "serve/completion.h"

#include "serve/answer_reader.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "serve/responses.h"

typedef struct completion completion;

typedef struct choice {
    completion *k;
    int index;
    fm_request *r;
    fm_str text;     /* of a whole answer */
    fm_str logprobs; /* items of the list, or the four lists of text_completion */
    fm_str offsets, tops, values;
    size_t n_chars; /* so far */
    bool begun;     /* its first piece was sent */
    /* Of chats with parts: */
    fm_answer_reader *reader;  /* or NULL: all is text */
    fm_str reasoning, calls;   /* calls: items of the list, the last one up to its arguments */
    fm_str arguments, members; /* of the last call; of the delta that is sent next */
    fm_finish finish;
    fm_screen_text screen; /* of the output, when there is a content filter */
    fm_str passed;         /* what it let through of an event */
} choice;

struct completion {
    atomic_int uses;
    fm_call *c;
    fm_answer_form form;
    bool stream, include_usage, logprobs, begun;
    int n_choices, n_pending, n_done; /* of n_choices, n_pending were submitted */
    choice *choice;
    char id[64];
    fm_str piece;
    fm_responses responses; /* of that form */
    fm_status status;       /* the first failure */
    char message[1600];
    int64_t n_prompt, n_cached, n_generated, n_guessed, n_accepted, created;
    int per_prompt;
    fm_params_asked asked; /* its stops are in the body of the call */
    fm_completion_prompt *prompts;
    int32_t *ids;
    pthread_mutex_t lock; /* of `closed` and of r of the choices */
    bool closed;
};

static void completion_release(completion *k) {
    if (atomic_fetch_sub(&k->uses, 1) != 1) {
        return;
    }
    for (int i = 0; i < k->n_choices && k->choice; i++) {
        choice *h = &k->choice[i];
        fm_request_release(h->r);
        fm_str_free(&h->text);
        fm_str_free(&h->logprobs);
        fm_str_free(&h->offsets);
        fm_str_free(&h->tops);
        fm_str_free(&h->values);
        fm_str_free(&h->reasoning);
        fm_str_free(&h->calls);
        fm_str_free(&h->arguments);
        fm_str_free(&h->members);
        if (h->reader) {
            fm_answer_reader_deinit(h->reader);
            fm_free(h->reader);
        }
        fm_str_free(&h->passed);
        fm_screen_text_free(&h->screen);
    }
    fm_free(k->choice);
    fm_free(k->prompts);
    fm_free(k->ids);
    fm_params_asked_free(&k->asked);
    fm_str_free(&k->piece);
    fm_responses_free(&k->responses);
    pthread_mutex_destroy(&k->lock);
    fm_call_release(k->c);
    fm_free(k);
}

static void cancel_all(completion *k) {
    pthread_mutex_lock(&k->lock);
    k->closed = true;
    for (int i = 0; i < k->n_choices; i++) {
        if (k->choice[i].r) {
            fm_request_cancel(k->choice[i].r);
        }
    }
    pthread_mutex_unlock(&k->lock);
}

static void on_close(void *user) {
    completion *k = user;
    cancel_all(k);
    completion_release(k);
}

/* ---- parts of answers ------------------------------------------------------------------------ */

static const char *finish_name(const choice *h, fm_finish f) {
    if (h->screen.blocked) {
        return "content_filter";
    }
    if (f != FM_FINISH_LENGTH && f != FM_FINISH_CONTEXT && h->reader && h->reader->n_calls > 0) {
        return "tool_calls";
    }
    return f == FM_FINISH_LENGTH || f == FM_FINISH_CONTEXT ? "length" : "stop";
}

static size_t characters(const char *text, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return count;
}

static void json_number(fm_str *out, double v) {
    fm_str_printf(out, "%.9g", isfinite(v) ? v : -9999.0); /* as the API writes an impossible token */
}

static void json_token(fm_str *out, const fm_serve *s, int32_t id) {
    size_t n = 0;
    const char *p = s->tok ? fm_tokenizer_token(s->tok, id, &n) : NULL;
    fm_str_json(out, p ? p : "", p ? n : 0);
}

/* {"token":..,"logprob":..,"bytes":[..]  without the closing brace */
static void token_fields(fm_str *out, const fm_serve *s, int32_t id, double logprob) {
    size_t n = 0;
    const char *p = s->tok ? fm_tokenizer_token(s->tok, id, &n) : NULL;
    fm_str_puts(out, "{\"token\":");
    json_token(out, s, id);
    fm_str_puts(out, ",\"logprob\":");
    json_number(out, logprob);
    fm_str_puts(out, ",\"bytes\":[");
    for (size_t i = 0; p && i < n; i++) {
        fm_str_printf(out, i ? ",%d" : "%d", (unsigned char)p[i]);
    }
    fm_str_putc(out, ']');
}

static void comma(fm_str *s) {
    if (s->len > 0) {
        fm_str_putc(s, ',');
    }
}

/* A token's logprobs to the lists of its choice. */
static void add_logprobs(choice *h, const fm_engine_event *v) {
    const fm_serve *s = h->k->c->s;
    fm_str *out = &h->logprobs;
    if (h->k->form == FM_ANSWER_CHAT) {
        comma(out);
        token_fields(out, s, v->id, v->logprob);
        fm_str_puts(out, ",\"top_logprobs\":[");
        for (int i = 0; i < v->n_top; i++) {
            fm_str_puts(out, i ? "," : "");
            token_fields(out, s, v->top_ids[i], v->top_logprobs[i]);
            fm_str_putc(out, '}');
        }
        fm_str_puts(out, "]}");
        return;
    }
    comma(out);
    json_token(out, s, v->id);
    comma(&h->values);
    json_number(&h->values, v->logprob);
    comma(&h->offsets);
    fm_str_printf(&h->offsets, "%zu", h->n_chars);
    comma(&h->tops);
    fm_str_putc(&h->tops, '{');
    for (int i = 0; i < v->n_top; i++) {
        fm_str_puts(&h->tops, i ? "," : "");
        json_token(&h->tops, s, v->top_ids[i]);
        fm_str_putc(&h->tops, ':');
        json_number(&h->tops, v->top_logprobs[i]);
    }
    fm_str_putc(&h->tops, '}');
}

static void put_str(fm_str *out, const fm_str *s) {
    fm_str_append(out, s->data ? s->data : "", s->len);
}

static void write_logprobs(fm_str *out, const choice *h) {
    if (!h->k->logprobs) {
        fm_str_puts(out, ",\"logprobs\":null");
    } else if (h->k->form == FM_ANSWER_CHAT) {
        fm_str_puts(out, ",\"logprobs\":{\"content\":[");
        put_str(out, &h->logprobs);
        fm_str_puts(out, "],\"refusal\":null}");
    } else {
        fm_str_puts(out, ",\"logprobs\":{\"tokens\":[");
        put_str(out, &h->logprobs);
        fm_str_puts(out, "],\"token_logprobs\":[");
        put_str(out, &h->values);
        fm_str_puts(out, "],\"top_logprobs\":[");
        put_str(out, &h->tops);
        fm_str_puts(out, "],\"text_offset\":[");
        put_str(out, &h->offsets);
        fm_str_puts(out, "]}");
    }
}

static void write_head(fm_str *out, const completion *k) {
    const char *object = k->form == FM_ANSWER_TEXT ? "text_completion"
                         : k->stream               ? "chat.completion.chunk"
                                                   : "chat.completion";
    fm_str_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", k->id, object,
                  (long long)k->created);
    const char *name = k->asked.adapter ? k->asked.adapter : k->c->s->name;
    fm_str_json(out, name, strlen(name));
    fm_str_puts(out, ",\"system_fingerprint\":\"fathom-" FATHOM_VERSION "\",\"choices\":[");
}

static void write_usage(fm_str *out, const completion *k) {
    fm_str_printf(out,
                  "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":%lld}",
                  (long long)k->n_prompt, (long long)k->n_generated, (long long)k->n_prompt + (long long)k->n_generated,
                  (long long)k->n_cached);
    if (k->n_guessed > 0) {
        fm_str_printf(out,
                      ",\"completion_tokens_details\":{\"accepted_prediction_tokens\":%lld,"
                      "\"rejected_prediction_tokens\":%lld}",
                      (long long)k->n_accepted, (long long)(k->n_guessed - k->n_accepted));
    }
    fm_str_putc(out, '}');
}

/* ---- streams --------------------------------------------------------------------------------- */

static void send_piece(completion *k) {
    if (k->piece.failed) {
        fm_str_free(&k->piece);
        k->piece = (fm_str){0};
        return;
    }
    (void)fm_exchange_send(k->c->x, k->piece.data, k->piece.len); /* a client that is gone cancels by on_close */
    fm_str_clear(&k->piece);
}

static void begin_stream(completion *k) {
    if (!k->begun) {
        k->begun = true;
        fm_exchange_add_header(k->c->x, "Cache-Control", "no-cache");
        fm_exchange_add_header(k->c->x, "X-Accel-Buffering", "no");
        fm_exchange_begin(k->c->x, 200, "text/event-stream; charset=utf-8");
    }
}

/* One piece of a choice: of a chat h->members, else the text. finish NULL: it goes on. */
static void stream_choice(choice *h, const char *text, size_t n, const char *finish) {
    completion *k = h->k;
    fm_str *out = &k->piece;
    begin_stream(k);
    if (k->form == FM_ANSWER_RESPONSES) {
        fm_responses_text(out, &k->responses, text, n);
        h->begun = true;
        send_piece(k);
        return;
    }
    fm_str_puts(out, "data: ");
    write_head(out, k);
    fm_str_printf(out, "{\"index\":%d,", h->index);
    if (k->form == FM_ANSWER_CHAT) {
        fm_str_puts(out, "\"delta\":{");
        if (!h->begun) {
            fm_str_puts(out, "\"role\":\"assistant\",");
        }
        if (h->members.len > 0) {
            put_str(out, &h->members);
            fm_str_clear(&h->members);
        } else if (n > 0 || !h->begun) {
            fm_str_puts(out, "\"content\":");
            fm_str_json(out, text, n);
        }
        if (out->len > 0 && out->data && out->data[out->len - 1] == ',') {
            out->len--;
        }
        fm_str_putc(out, '}');
    } else {
        fm_str_puts(out, "\"text\":");
        fm_str_json(out, text, n);
    }
    write_logprobs(out, h);
    fm_str_clear(&h->logprobs);
    fm_str_clear(&h->values);
    fm_str_clear(&h->tops);
    fm_str_clear(&h->offsets);
    fm_str_puts(out, ",\"finish_reason\":");
    if (finish) {
        fm_str_printf(out, "\"%s\"}]", finish);
    } else {
        fm_str_puts(out, "null}]");
    }
    fm_str_puts(out, k->include_usage ? ",\"usage\":null}\n\n" : "}\n\n");
    h->begun = true;
    send_piece(k);
}

static fm_responses_end responses_end(const completion *k) {
    return (fm_responses_end){.status = k->status,
                              .message = k->message,
                              .finish = k->choice[0].finish,
                              .filtered = k->choice[0].screen.blocked,
                              .n_prompt = k->n_prompt,
                              .n_cached = k->n_cached,
                              .n_generated = k->n_generated};
}

static void end_stream(completion *k) {
    fm_str *out = &k->piece;
    begin_stream(k);
    if (k->form == FM_ANSWER_RESPONSES) {
        fm_responses_end e = responses_end(k);
        fm_responses_conclude(out, &k->responses, &e);
    } else if (k->status != FM_OK) {
        fm_str_puts(out, "data: ");
        fm_error_json(out, fm_http_code_of(k->status), NULL, NULL, k->message);
        fm_str_puts(out, "\n\n");
    } else if (k->include_usage) {
        fm_str_puts(out, "data: ");
        write_head(out, k);
        fm_str_puts(out, "],\"usage\":");
        write_usage(out, k);
        fm_str_puts(out, "}\n\n");
    }
    fm_str_puts(out, k->form == FM_ANSWER_RESPONSES ? "" : "data: [DONE]\n\n");
    send_piece(k);
    fm_call_done(k->c, k->status == FM_OK ? 200 : fm_http_code_of(k->status));
    fm_exchange_end(k->c->x);
}

/* ---- whole answers --------------------------------------------------------------------------- */

static void write_choice(fm_str *out, const choice *h) {
    const char *text = h->text.data ? h->text.data : "";
    fm_str_printf(out, "{\"index\":%d,", h->index);
    if (h->k->form == FM_ANSWER_CHAT) {
        fm_str_puts(out, "\"message\":{\"role\":\"assistant\",\"content\":");
        if (h->text.len == 0 && h->calls.len > 0) {
            fm_str_puts(out, "null");
        } else {
            fm_str_json(out, text, h->text.len);
        }
        if (h->reasoning.len > 0) {
            fm_str_puts(out, ",\"reasoning_content\":");
            fm_str_json(out, h->reasoning.data, h->reasoning.len);
        }
        if (h->calls.len > 0) {
            fm_str_puts(out, ",\"tool_calls\":[");
            put_str(out, &h->calls);
            fm_str_putc(out, ']');
        }
        fm_str_puts(out, ",\"refusal\":null}");
    } else {
        fm_str_puts(out, "\"text\":");
        fm_str_json(out, text, h->text.len);
    }
    write_logprobs(out, h);
    fm_str_printf(out, ",\"finish_reason\":\"%s\"}", finish_name(h, h->finish));
}

static void write_simple(fm_str *out, const completion *k) {
    fm_str_puts(out, k->form == FM_ANSWER_SIMPLE ? "{\"response\":" : "{\"prediction\":");
    fm_str_puts(out, k->n_choices > 1 ? "[" : "");
    for (int i = 0; i < k->n_choices; i++) {
        fm_str_puts(out, i ? "," : "");
        fm_str_json(out, k->choice[i].text.data ? k->choice[i].text.data : "", k->choice[i].text.len);
    }
    fm_str_puts(out, k->n_choices > 1 ? "]}" : "}");
}

static void answer_whole(completion *k) {
    fm_str *out = &k->piece;
    if (k->status != FM_OK) {
        fm_reply_status(k->c, k->status, k->message);
        return;
    }
    if (k->form == FM_ANSWER_SIMPLE || k->form == FM_ANSWER_PREDICTION) {
        write_simple(out, k);
    } else if (k->form == FM_ANSWER_RESPONSES) {
        fm_responses_end e = responses_end(k);
        const fm_str *text = &k->choice[0].text; /* what the reader of parts did not hand over */
        fm_responses_text(out, &k->responses, text->data ? text->data : "", text->len);
        fm_responses_conclude(out, &k->responses, &e);
    } else {
        write_head(out, k);
        for (int i = 0; i < k->n_choices; i++) {
            fm_str_puts(out, i ? "," : "");
            write_choice(out, &k->choice[i]);
        }
        fm_str_puts(out, "],\"usage\":");
        write_usage(out, k);
        fm_str_putc(out, '}');
    }
    for (int i = 0; i < k->n_choices; i++) {
        const choice *h = &k->choice[i];
        out->failed = out->failed || h->text.failed || h->logprobs.failed || h->reasoning.failed || h->calls.failed ||
                      h->arguments.failed;
    }
    fm_reply_json(k->c, 200, out);
}

/* ---- events ---------------------------------------------------------------------------------- */

static void finish_choice(choice *h, const fm_engine_event *v) {
    completion *k = h->k;
    fm_metrics_finish(&k->c->s->metrics, v);
    h->finish = v->finish;
    k->n_done++;
    if (h->index % k->per_prompt == 0) { /* the choices of a prompt share it */
        k->n_prompt += v->n_prompt;
        k->n_cached += v->n_cached;
    }
    k->n_generated += v->n_generated;
    k->n_guessed += v->n_guessed;
    k->n_accepted += v->n_accepted;
    k->c->n_prompt = k->n_prompt;
    k->c->n_generated = k->n_generated;
    if (v->status != FM_OK && k->status == FM_OK) {
        k->status = v->status;
        snprintf(k->message, sizeof k->message, "%s", v->message);
        cancel_all(k);
    }
}

/* All that was submitted is over: the rest of the answer. */
static void conclude(completion *k) {
    if (fm_exchange_off_close(k->c->x)) {
        completion_release(k); /* the reference of on_close */
    }
    if (k->stream && (k->begun || k->status == FM_OK)) {
        end_stream(k);
    } else {
        answer_whole(k);
    }
    completion_release(k);
}

/* The arguments of the last call are whole. */
static void end_call(choice *h) {
    if (h->calls.len > 0 && !h->k->stream) {
        fm_str_json(&h->calls, h->arguments.data ? h->arguments.data : "", h->arguments.len);
        fm_str_puts(&h->calls, "}}");
        fm_str_clear(&h->arguments);
    }
}

/* Of the call that began last: nobody can guess it. */
static uint64_t call_tag(const choice *h) {
    uint64_t seed[3] = {h->k->c->s->secret, (uint64_t)h->index, (uint64_t)h->reader->n_calls};
    return fm_hash64(h->k->id, strlen(h->k->id), fm_hash64(seed, sizeof seed, 0));
}

static void begin_call(choice *h, fm_str *out, const char *name, size_t n) {
    fm_str_printf(
        out, "\"id\":\"call_%016llx\",\"type\":\"function\",\"function\":{\"name\":", (unsigned long long)call_tag(h));
    fm_str_json(out, name, n);
    fm_str_puts(out, ",\"arguments\":");
}

static void stream_part(choice *h, fm_answer_part part, const char *text, size_t n) {
    fm_str *m = &h->members;
    if (part == FM_PART_TEXT || part == FM_PART_REASONING) {
        fm_str_puts(m, part == FM_PART_TEXT ? "\"content\":" : "\"reasoning_content\":");
        fm_str_json(m, text, n);
    } else {
        fm_str_printf(m, "\"tool_calls\":[{\"index\":%d,", h->reader->n_calls - 1);
        if (part == FM_PART_CALL) {
            begin_call(h, m, text, n);
            fm_str_puts(m, "\"\"}}]");
        } else {
            fm_str_puts(m, "\"function\":{\"arguments\":");
            fm_str_json(m, text, n);
            fm_str_puts(m, "}}]");
        }
    }
    stream_choice(h, "", 0, NULL);
}

/* Parts of an answer in the form of /v1/responses; reasoning stays in the text there. */
static void responses_part(choice *h, fm_answer_part part, const char *text, size_t n) {
    completion *k = h->k;
    if (k->stream) {
        begin_stream(k);
    }
    if (part == FM_PART_CALL) {
        fm_responses_call(&k->piece, &k->responses, text, n, call_tag(h));
    } else if (part == FM_PART_ARGUMENTS) {
        fm_responses_arguments(&k->piece, &k->responses, text, n);
    } else {
        fm_responses_text(&k->piece, &k->responses, text, n);
    }
    if (k->stream) {
        h->begun = true;
        send_piece(k);
    }
}

static void on_part(void *user, fm_answer_part part, const char *text, size_t n) {
    choice *h = user;
    if (h->k->form == FM_ANSWER_RESPONSES) {
        responses_part(h, part, text, n);
    } else if (h->k->stream) {
        stream_part(h, part, text, n);
    } else if (part == FM_PART_CALL) {
        end_call(h);
        fm_str_puts(&h->calls, h->calls.len > 0 ? ",{" : "{");
        begin_call(h, &h->calls, text, n);
    } else {
        fm_str_append(part == FM_PART_TEXT        ? &h->text
                      : part == FM_PART_REASONING ? &h->reasoning
                                                  : &h->arguments,
                      text, n);
    }
}

/* The text of an event through the reader; then what it did not send itself. */
static void read_parts(choice *h, const fm_engine_event *v) {
    fm_status st = fm_answer_reader_push(h->reader, v->text, v->text_len);
    st = st == FM_OK && v->last ? fm_answer_reader_end(h->reader) : st;
    if (st != FM_OK && h->k->status == FM_OK) {
        h->k->status = st;
        snprintf(h->k->message, sizeof h->k->message, "out of memory");
        cancel_all(h->k);
    }
    if (v->last) {
        end_call(h);
    }
    if (h->k->stream && v->status == FM_OK && (h->logprobs.len > 0 || v->last || !h->begun)) {
        stream_choice(h, "", 0, v->last ? finish_name(h, v->finish) : NULL);
    }
}

/* The event as the content filter lets it through. What is blocked ends there; a filter that fails lets nothing
 * through. */
static const fm_engine_event *filter_event(choice *h, const fm_engine_event *v, fm_engine_event *room) {
    bool was_blocked = h->screen.blocked;
    if (!h->screen.g) {
        return v;
    }
    fm_str_clear(&h->passed);
    if (fm_screen_push(&h->screen, v->text, v->text_len, v->last && v->status == FM_OK, &h->passed) != FM_OK) {
        h->screen.blocked = true;
    }
    if (h->screen.found) {
        snprintf(h->k->c->filter, sizeof h->k->c->filter, "%s", h->screen.found);
    }
    *room = *v;
    room->text = h->passed.data ? h->passed.data : "";
    room->text_len = h->passed.len;
    if (h->screen.blocked && !v->last && !was_blocked) {
        fm_request_cancel(h->r);
    }
    if (h->screen.blocked && v->last && v->status == FM_ERR_CANCELLED) {
        room->status = FM_OK;
        room->finish = FM_FINISH_STOPPED;
    }
    return room;
}

static void on_event(void *user, const fm_engine_event *raw) {
    choice *h = user;
    completion *k = h->k;
    fm_engine_event room;
    const fm_engine_event *v = filter_event(h, raw, &room);
    bool eos = v->last && v->finish == FM_FINISH_EOS;
    if (v->id >= 0 && k->logprobs && !eos) {
        add_logprobs(h, v);
    }
    h->n_chars += characters(v->text, v->text_len);
    if (k->stream && !h->begun && h->text.len > 0) {
        stream_choice(h, h->text.data, h->text.len, NULL); /* the echo */
    }
    if (h->reader) {
        read_parts(h, v);
    } else if (!k->stream) {
        fm_str_append(&h->text, v->text, v->text_len);
    } else if (v->status == FM_OK && (v->text_len > 0 || h->logprobs.len > 0 || v->last || !h->begun)) {
        stream_choice(h, v->text, v->text_len, v->last ? finish_name(h, v->finish) : NULL);
    }
    if (!v->last) {
        return;
    }
    finish_choice(h, v);
    if (k->n_done == k->n_pending) {
        conclude(k);
    }
}

/* ---- start ----------------------------------------------------------------------------------- */

static fm_status submit_choice(choice *h) {
    completion *k = h->k;
    fm_serve *s = k->c->s;
    const fm_completion_prompt *p = &k->prompts[h->index / k->per_prompt];
    fm_sampling o = k->asked.o;
    if (o.max_new_tokens < 0) {
        o.max_new_tokens = FM_MAX(fm_engine_ctx_size(s->e) - p->n, 0);
    }
    if (s->o.max_tokens > 0) {
        o.max_new_tokens = FM_MIN(o.max_new_tokens, s->o.max_tokens);
    }
    o.seed += (uint64_t)(h->index % k->per_prompt);
    fm_generation g = {.size = sizeof g,
                       .sampling = &o,
                       .stop = k->asked.stop,
                       .n_stop = k->asked.n_stop,
                       .client = k->c->client,
                       .adapter = k->asked.adapter,
                       .timeout_s = s->o.timeout_s,
                       .fn = on_event,
                       .user = h};
    pthread_mutex_lock(&k->lock);
    fm_status st = FM_OK;
    if (k->closed) {
        st = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "the client has gone");
    } else {
        st = fm_engine_submit(&h->r, s->e, p->ids, p->n, &g);
    }
    pthread_mutex_unlock(&k->lock);
    return st;
}

/* On the engine's thread: events come after it, so all choices are counted. */
static void submit_all(void *user, fm_model *m) {
    completion *k = user;
    int n = 0;
    if (!m) {
        k->status = fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "the server is ending");
    }
    while (k->status == FM_OK && n < k->n_choices) {
        k->status = submit_choice(&k->choice[n]);
        n += k->status == FM_OK;
    }
    if (k->status != FM_OK) {
        fm_error e = fm_error_get();
        snprintf(k->message, sizeof k->message, "%s%s%s%s", e.message, e.hint[0] ? " (" : "", e.hint,
                 e.hint[0] ? ")" : "");
        cancel_all(k);
    }
    k->n_pending = n;
    if (n == 0) {
        conclude(k);
    }
}

static fm_status copy_prompts(completion *k, const fm_completion_prompt *prompts, int n) {
    int64_t total = 0;
    for (int i = 0; i < n; i++) {
        total += prompts[i].n;
    }
    k->prompts = fm_calloc((size_t)n, sizeof *k->prompts);
    k->ids = fm_malloc((size_t)total * sizeof *k->ids);
    k->choice = fm_calloc((size_t)k->n_choices, sizeof *k->choice);
    if (!k->prompts || !k->ids || !k->choice) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an answer");
    }
    total = 0;
    for (int i = 0; i < n; i++) {
        if (prompts[i].n > 0) {
            memcpy(k->ids + total, prompts[i].ids, (size_t)prompts[i].n * sizeof *k->ids);
        }
        k->prompts[i] = (fm_completion_prompt){.ids = k->ids + total, .n = prompts[i].n};
        total += prompts[i].n;
    }
    for (int i = 0; i < k->n_choices; i++) {
        const char *echo = prompts[i / k->per_prompt].echo;
        k->choice[i].k = k;
        k->choice[i].index = i;
        if (fm_screen_watches(k->c->s->screen, true)) {
            k->choice[i].screen = (fm_screen_text){.g = k->c->s->screen, .output = true};
        }
        if (echo) {
            fm_str_puts(&k->choice[i].text, echo);
            k->choice[i].n_chars = characters(echo, strlen(echo));
        }
    }
    return FM_OK;
}

/* Chats whose answers have parts are read as they come. */
static fm_status make_readers(completion *k, const fm_chat_plan *plan) {
    if (!(plan->reasons && !plan->keep_reasoning) && (plan->choice == FM_TOOLS_NONE || !plan->tools)) {
        return FM_OK;
    }
    for (int i = 0; i < k->n_choices; i++) {
        choice *h = &k->choice[i];
        h->reader = fm_calloc(1, sizeof *h->reader);
        if (!h->reader) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an answer");
        }
        fm_answer_reader_init(h->reader, plan, on_part, h);
    }
    return FM_OK;
}

fm_status fm_completion_start(fm_call *c, fm_answer_form form, const fm_completion_prompt *prompts, int n_prompts,
                              fm_params_asked *asked, const fm_chat_plan *plan) {
    if (asked->logprobs && fm_screen_watches(c->s->screen, true)) {
        FM_FAIL(FM_ERR_ARGUMENT, "logprobs: are not given where a content filter reads the answers");
    }
    completion *k = fm_calloc(1, sizeof *k);
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an answer");
    }
    atomic_init(&k->uses, 2); /* the engine's and that of on_close */
    pthread_mutex_init(&k->lock, NULL);
    fm_call_keep(c);
    k->c = c;
    k->form = form;
    k->stream = asked->stream;
    k->include_usage = asked->include_usage;
    k->logprobs = asked->logprobs;
    k->n_choices = n_prompts * asked->n;
    k->per_prompt = asked->n;
    k->created = fm_unix_ms() / 1000;
    k->asked = *asked;
    asked->bias = NULL; /* taken over */
    asked->o.grammar = NULL;
    fm_responses_init(&k->responses, c, asked);
    fm_metrics_asked(&c->s->metrics, asked->n, asked->o.max_new_tokens);
    snprintf(k->id, sizeof k->id, "%s-%s", form == FM_ANSWER_CHAT ? "chatcmpl" : "cmpl", c->id);
    fm_status s = copy_prompts(k, prompts, n_prompts);
    s = s == FM_OK && plan ? make_readers(k, plan) : s;
    if (s == FM_OK) {
        fm_exchange_on_close(c->x, on_close, k);
        s = fm_engine_post(c->s->e, submit_all, k);
        if (s != FM_OK) {
            (void)fm_exchange_off_close(c->x); /* nobody can have gone: the request is still being handled */
        }
    }
    if (s != FM_OK) {
        completion_release(k);
        completion_release(k);
    }
    return s;
}
