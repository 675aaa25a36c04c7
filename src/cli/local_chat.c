/* See local_chat.h. */
#include "cli/local_chat.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "fathom/engine.h"
#include "fathom/template.h"

struct cli_local_chat {
    fm_model *model;
    const fm_tokenizer *tok;
    fm_template *template_;
    fm_engine *engine;
};

void cli_local_chat_free(cli_local_chat *c) {
    if (c) {
        fm_engine_free(c->engine);
        fm_template_free(c->template_);
        fm_model_close(c->model);
        free(c);
    }
}

static fm_status open_all(cli_local_chat *c, const char *path) {
    fm_status s = fm_model_open(&c->model, path, NULL);
    s = s == FM_OK ? fm_model_tokenizer(&c->tok, c->model) : s;
    s = s == FM_OK ? fm_template_open(&c->template_, NULL, c->tok) : s;
    if (s == FM_ERR_NOT_FOUND && c->tok) { /* a base model: what fathom serve gives it too */
        s = fm_template_open(&c->template_, "chatml", c->tok);
    }
    fm_engine_options o = {.size = sizeof o};
    return s == FM_OK ? fm_engine_new(&c->engine, c->model, &o) : s;
}

fm_status cli_local_chat_new(cli_local_chat **out, const char *path) {
    cli_local_chat *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) {
        return FM_ERR_NO_MEMORY;
    }
    fm_status s = open_all(c, path);
    if (s != FM_OK) {
        cli_local_chat_free(c);
        return s;
    }
    *out = c;
    return FM_OK;
}

/* One answer while it comes. */
typedef struct reply {
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool last, no_memory;
    fm_status status;
    char *text;
    size_t n, cap;
    fm_chat_answer *answer;
} reply;

static void on_event(void *user, const fm_engine_event *e) {
    reply *r = user;
    (void)pthread_mutex_lock(&r->lock);
    if (r->n + e->text_len + 1 > r->cap) {
        size_t cap = 2 * (r->n + e->text_len) + 256;
        char *p = realloc(r->text, cap);
        r->no_memory = r->no_memory || !p;
        r->text = p ? p : r->text;
        r->cap = p ? cap : r->cap;
    }
    if (!r->no_memory && e->text_len) {
        memcpy(r->text + r->n, e->text, e->text_len);
        r->n += e->text_len;
    }
    if (e->last) {
        r->status = e->status;
        r->answer->cut = e->finish == FM_FINISH_LENGTH || e->finish == FM_FINISH_CONTEXT;
        r->answer->prompt_tokens = e->n_prompt;
        r->answer->completion_tokens = e->n_generated;
        r->last = true;
        (void)pthread_cond_signal(&r->done);
    }
    (void)pthread_mutex_unlock(&r->lock);
}

/* A prompt that is too long costs this request alone. */
static fm_status submit(cli_local_chat *c, fm_request **request, const fm_tokens *ids, const fm_chat_ask *ask,
                        reply *r) {
    fm_sampling sampling = fm_sampling_default();
    sampling.temperature = ask->temperature;
    sampling.top_p = ask->top_p;
    sampling.seed = ask->seed;
    int64_t room = fm_engine_ctx_size(c->engine) - (int64_t)ids->n;
    sampling.max_new_tokens = ask->max_tokens < room || room < 1 ? ask->max_tokens : room;
    fm_generation g = {.size = sizeof g, .sampling = &sampling, .fn = on_event, .user = r};
    fm_status s = fm_engine_submit(request, c->engine, ids->ids, (int32_t)ids->n, &g);
    return s == FM_ERR_ARGUMENT ? FM_ERR_DATA : s;
}

static fm_status take_text(reply *r) {
    if (r->status != FM_OK) {
        return r->status;
    }
    if (r->no_memory || !r->text) {
        return FM_ERR_NO_MEMORY;
    }
    return fm_chat_answer_text(r->answer, r->text, r->n);
}

fm_status cli_local_chat_ask(void *chat, const fm_chat_ask *ask, fm_chat_answer *answer) {
    cli_local_chat *c = chat;
    fm_template_options to = {.size = sizeof to, .add_generation_prompt = true};
    fm_encode_options eo = {.size = sizeof eo, .allow_special = true, .n_threads = 1};
    fm_template_result text = {0};
    fm_tokens ids = {0};
    fm_request *request = NULL;
    reply r = {.answer = answer};
    fm_status s = fm_template_render(&text, c->template_, ask->messages, ask->messages_bytes, &to);
    s = s == FM_OK ? fm_tokenizer_encode(&ids, c->tok, text.text, text.n, &eo) : s;
    (void)pthread_mutex_init(&r.lock, NULL);
    (void)pthread_cond_init(&r.done, NULL);
    s = s == FM_OK ? submit(c, &request, &ids, ask, &r) : s;
    if (s == FM_OK) {
        (void)pthread_mutex_lock(&r.lock);
        while (!r.last) {
            (void)pthread_cond_wait(&r.done, &r.lock);
        }
        (void)pthread_mutex_unlock(&r.lock);
        fm_request_release(request);
        s = take_text(&r);
    }
    (void)pthread_cond_destroy(&r.done);
    (void)pthread_mutex_destroy(&r.lock);
    free(r.text);
    fm_template_result_free(&text);
    fm_tokens_free(&ids);
    return s;
}
