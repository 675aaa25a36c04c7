/* serve: the ML backend that Label Studio asks for suggestions: GET /health, POST /setup, /predict, /webhook. A
 * language model labels the texts by the guide's definitions, or a model does that was trained to (label_model.h).
 *
 * The server's thread only takes requests; a few threads ask the model. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/label_model.h"
#include "data/synth.h"
#include "net/http.h"
#include "net/server.h"

#define WORKERS   4
#define MAX_QUEUE 256

typedef struct backend {
    fm_label_job *j;
    fm_guide guide;
    fm_label_model *model; /* NULL: the chat of the job */
    fm_str labels;         /* of the guide, for prompts */
    fm_server *server;
    pthread_t worker[WORKERS];
    int n_workers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    fm_exchange *queue[MAX_QUEUE];
    int first, n;
    bool stop;
    int64_t n_predicted, n_failed, n_events;
} backend;

static void reply_error(fm_exchange *x, int code, const char *message) {
    fm_str out = {0};
    fm_str_puts(&out, "{\"error\":");
    fm_str_json(&out, message, strlen(message));
    fm_str_putc(&out, '}');
    fm_exchange_reply(x, code, "application/json", out.data ? out.data : "{}", out.data ? out.len : 2);
    fm_str_free(&out);
}

/* ---- a suggestion ----------------------------------------------------------------------------- */

static const char choose_text[] = "Labels:\n{labels}\nText:\n\n{text}\n\nWhich {one} of these labels fits the text? "
                                  "Answer with {form}, nothing else.";
static const char mark_text[] =
    "Labels:\n{labels}\nText:\n\n{text}\n\nMark every piece of the text that has one of these labels. Answer with one "
    "JSON "
    "object a line, {\"text\": the piece as it stands in the text, \"label\": its label}, and nothing else.";

/* Pieces that the model named, as code points of their places. */
typedef struct marking {
    const backend *b;
    fm_sv text;
    fm_str taken; /* a byte for each of the text: 1 where a piece is */
    fm_json *list;
} marking;

static int64_t chars_to(fm_sv text, size_t byte) {
    int64_t n = 0;
    for (size_t i = 0; i < byte; i++) {
        n += ((unsigned char)text.ptr[i] & 0xC0) != 0x80;
    }
    return n;
}

/* The first place of the piece that no other has. */
static fm_status mark(void *arg, const fm_json *object) {
    marking *m = arg;
    fm_sv piece = fm_synth_member(object, "text"), label = fm_synth_member(object, "label");
    if (piece.len == 0 || fm_label_names_find(&m->b->guide.labels, label.ptr, label.len) < 0) {
        return FM_OK;
    }
    for (size_t at = 0; at + piece.len <= m->text.len;) {
        const char *p = memmem(m->text.ptr + at, m->text.len - at, piece.ptr, piece.len);
        if (!p) {
            break;
        }
        at = (size_t)(p - m->text.ptr);
        if (memchr(m->taken.data + at, 1, piece.len)) {
            at++;
            continue;
        }
        memset(m->taken.data + at, 1, piece.len);
        fm_json *e = fm_json_new_object();
        FM_TRY(fm_json_append(m->list, e));
        FM_TRY(fm_json_set(e, "start", fm_json_new_int(chars_to(m->text, at))));
        FM_TRY(fm_json_set(e, "end", fm_json_new_int(chars_to(m->text, at + piece.len))));
        return fm_json_set(e, "label", fm_json_new_strn(label.ptr, label.len));
    }
    return FM_OK;
}

/* Labels that the answer names, as a JSON list. */
static fm_status named_labels(const backend *b, fm_sv answer, fm_str *list) {
    size_t n = 0;
    for (size_t i = 0; i < b->guide.labels.n; i++) {
        const char *name = b->guide.labels.name[i];
        size_t len = strlen(name);
        bool whole = answer.len == len && memcmp(answer.ptr, name, len) == 0;
        const char *p = whole ? answer.ptr : memmem(answer.ptr, answer.len, name, len);
        if (!p || (n && !b->guide.multiple && !whole)) {
            continue;
        }
        if (whole) {
            fm_str_clear(list);
            n = 0;
        }
        fm_str_puts(list, n++ ? "," : "");
        fm_str_json(list, name, len);
        if (whole) {
            break;
        }
    }
    return fm_str_check(list);
}

static fm_status suggest(const backend *b, fm_sv text, fm_str *result) {
    const fm_label_settings *o = b->j->o;
    bool spans = b->guide.kind == FM_GUIDE_ENTITIES;
    fm_str messages = {0}, copy = {0}, list = {0};
    fm_chat_answer a = {.size = sizeof a};
    fm_str_append(&copy, text.ptr, text.len);
    fm_status s = fm_str_check(&copy);
    const char *const pairs[] = {"labels", b->labels.data,
                                 "text",   copy.data ? copy.data : "",
                                 "one",    b->guide.multiple ? "ones" : "one",
                                 "form",   b->guide.multiple ? "their names, a line each" : "its name",
                                 NULL};
    s = s == FM_OK ? fm_synth_fill(&messages, spans ? mark_text : choose_text, pairs) : s;
    if (s == FM_OK) {
        fm_chat_ask q = {.size = sizeof q,
                         .messages = messages.data,
                         .messages_bytes = messages.len,
                         .top_p = 1,
                         .max_tokens = 1024};
        s = b->j->chat(b->j->user, &q, &a);
    }
    if (s == FM_OK && spans) {
        marking m = {.b = b, .text = text, .list = fm_json_new_array()};
        for (size_t i = 0; i < text.len; i++) {
            fm_str_putc(&m.taken, '\0');
        }
        s = fm_str_check(&m.taken);
        s = s == FM_OK ? fm_synth_objects(fm_synth_answer(a.text), "label", mark, &m) : s;
        s = s == FM_OK ? fm_ls_spans(result, text, m.list, o) : s;
        fm_json_free(m.list);
        fm_str_free(&m.taken);
    } else if (s == FM_OK) {
        s = named_labels(b, fm_synth_answer(a.text), &list);
        s = s == FM_OK ? fm_ls_choices(result, (fm_sv){list.data, list.len}, o) : s;
    }
    fm_free(a.text);
    fm_str_free(&messages);
    fm_str_free(&copy);
    fm_str_free(&list);
    return s == FM_OK ? fm_str_check(result) : s;
}

/* ---- calls ------------------------------------------------------------------------------------ */

static fm_status predict(backend *b, const fm_json *body, fm_str *out) {
    const fm_label_settings *o = b->j->o;
    const fm_json *tasks = fm_json_is_object(body) ? fm_json_get(body, "tasks") : NULL;
    if (!fm_json_is_array(tasks)) {
        FM_FAIL(FM_ERR_ARGUMENT, "the request has no list of tasks");
    }
    fm_str_puts(out, "{\"results\":[");
    for (size_t i = 0; i < fm_json_size(tasks); i++) {
        const fm_json *task = fm_json_at(tasks, i), *data = fm_json_is_object(task) ? fm_json_get(task, "data") : NULL;
        size_t n = 0;
        const char *text = fm_json_is_object(data) ? fm_json_str(fm_json_get(data, o->text), &n) : NULL;
        fm_str_printf(out, "%s{\"result\":", i ? "," : "");
        fm_str result = {0};
        double score = 0;
        fm_status s = !text      ? FM_OK
                      : b->model ? fm_label_model_suggest(b->model, (fm_sv){text, n}, &result, &score)
                                 : suggest(b, (fm_sv){text, n}, &result);
        fm_str_append(out, result.data ? result.data : "[]", result.data ? result.len : 2);
        fm_str_free(&result);
        FM_TRY(s);
        fm_str_printf(out, ",\"score\":%.9g,\"model_version\":", score);
        fm_str_json(out, o->model_version, strlen(o->model_version));
        fm_str_putc(out, '}');
    }
    fm_str_puts(out, "]}");
    return fm_str_check(out);
}

/* Events are kept as they come, a line each. */
static fm_status keep_event(backend *b, const fm_json *body) {
    fm_str line = {0};
    fm_status s = fm_json_dump(&line, body, 0);
    fm_str_putc(&line, '\n');
    s = s == FM_OK ? fm_str_check(&line) : s;
    (void)pthread_mutex_lock(&b->lock);
    b->n_events++;
    FILE *f = s == FM_OK && b->j->o->log ? fopen(b->j->o->log, "ab") : NULL;
    if (s == FM_OK && b->j->o->log) {
        bool good = f && fwrite(line.data, 1, line.len, f) == line.len;
        good = f && fclose(f) == 0 && good;
        s = good ? FM_OK
                 : fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write '%s': %s", b->j->o->log, strerror(errno));
    }
    (void)pthread_mutex_unlock(&b->lock);
    fm_str_free(&line);
    return s;
}

static void work(backend *b, fm_exchange *x) {
    size_t n = 0;
    const char *text = fm_exchange_body(x, &n);
    bool webhook = strcmp(fm_exchange_path(x), "/webhook") == 0;
    fm_json *body = NULL;
    fm_str out = {0};
    fm_status s = fm_json_parse(&body, text ? text : "", n, "request");
    if (s == FM_OK) {
        s = webhook ? keep_event(b, body) : predict(b, body, &out);
    } else {
        s = FM_ERR_ARGUMENT;
    }
    if (s == FM_OK && webhook) {
        fm_exchange_reply(x, 201, "application/json", "{}", 2);
    } else if (s == FM_OK) {
        fm_exchange_reply(x, 200, "application/json", out.data, out.len);
    } else {
        fm_warn("%s", fm_error_get().message);
        reply_error(x, s == FM_ERR_ARGUMENT ? 400 : 502, fm_error_get().message);
    }
    (void)pthread_mutex_lock(&b->lock);
    b->n_predicted += s == FM_OK && !webhook;
    b->n_failed += s != FM_OK;
    (void)pthread_mutex_unlock(&b->lock);
    fm_json_free(body);
    fm_str_free(&out);
    fm_exchange_release(x);
}

static void *worker(void *arg) {
    backend *b = arg;
    for (;;) {
        (void)pthread_mutex_lock(&b->lock);
        while (!b->n && !b->stop) {
            (void)pthread_cond_wait(&b->wake, &b->lock);
        }
        fm_exchange *x = b->n ? b->queue[b->first] : NULL;
        if (x) {
            b->first = (b->first + 1) % MAX_QUEUE;
            b->n--;
        }
        (void)pthread_mutex_unlock(&b->lock);
        if (!x) {
            return NULL;
        }
        work(b, x);
    }
}

static void say_version(backend *b, fm_exchange *x, const char *before) {
    fm_str out = {0};
    fm_str_puts(&out, before);
    fm_str_json(&out, b->j->o->model_version, strlen(b->j->o->model_version));
    fm_str_putc(&out, '}');
    fm_exchange_reply(x, 200, "application/json", out.data ? out.data : "{}", out.data ? out.len : 2);
    fm_str_free(&out);
}

static void handle(void *user, fm_exchange *x) {
    backend *b = user;
    const char *path = fm_exchange_path(x), *method = fm_exchange_method(x);
    bool post = strcmp(method, "POST") == 0;
    if (fm_exchange_too_large(x)) {
        reply_error(x, 413, "the request is too large");
    } else if (!post && (strcmp(path, "/health") == 0 || strcmp(path, "/") == 0)) {
        say_version(b, x, "{\"status\":\"UP\",\"model_class\":\"Fathom\",\"model_version\":");
    } else if (post && strcmp(path, "/setup") == 0) {
        say_version(b, x, "{\"model_version\":");
    } else if (post && (strcmp(path, "/predict") == 0 || strcmp(path, "/webhook") == 0)) {
        (void)pthread_mutex_lock(&b->lock);
        bool room = b->n < MAX_QUEUE && !b->stop;
        if (room) {
            fm_exchange_keep(x);
            b->queue[(b->first + b->n++) % MAX_QUEUE] = x;
            (void)pthread_cond_signal(&b->wake);
        }
        (void)pthread_mutex_unlock(&b->lock);
        if (!room) {
            fm_exchange_add_header(x, "Retry-After", "1");
            reply_error(x, 503, "too many requests wait");
        }
    } else {
        reply_error(x, 404, "there are /health, /setup, /predict and /webhook");
    }
}

static fm_status start(backend *b) {
    const fm_label_settings *o = b->j->o;
    const bool trained = !b->j->chat;
    FM_TRY(fm_label_needs("serve", "guide FILE", o->guide || trained));
    if (o->guide) {
        FM_TRY(fm_guide_load(&b->guide, o->guide));
        if (b->guide.kind > FM_GUIDE_ENTITIES) {
            FM_FAIL(FM_ERR_CONFIG, "%s: suggestions are made for classification and entities", o->guide);
        }
        FM_TRY(fm_guide_text(&b->labels, &b->guide));
    }
    if (trained) {
        FM_TRY(fm_label_model_open(&b->model, o, o->guide ? &b->guide : NULL));
    }
    fm_server_options so = {.host = o->host,
                            .port = (int)o->port,
                            .max_body = (size_t)64 << 20,
                            .max_unsent = (size_t)64 << 20,
                            .max_connections = 256,
                            .idle_s = 60,
                            .handle = handle,
                            .user = b};
    for (; b->n_workers < WORKERS; b->n_workers++) {
        if (pthread_create(&b->worker[b->n_workers], NULL, worker, b) != 0) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no more threads");
        }
    }
    FM_TRY(fm_server_start(&b->server, &so));
    fm_info("suggestions are served at http://%s:%d", o->host, fm_server_port(b->server));
    return FM_OK;
}

static void finish(backend *b) {
    (void)pthread_mutex_lock(&b->lock);
    b->stop = true;
    (void)pthread_cond_broadcast(&b->wake);
    (void)pthread_mutex_unlock(&b->lock);
    for (int i = 0; i < b->n_workers; i++) {
        (void)pthread_join(b->worker[i], NULL);
    }
    fm_server_free(b->server);
    (void)pthread_cond_destroy(&b->wake);
    (void)pthread_mutex_destroy(&b->lock);
    fm_label_model_close(b->model);
    fm_guide_free(&b->guide);
    fm_str_free(&b->labels);
}

static fm_status serve(fm_label_job *j) {
    backend *b = fm_calloc(1, sizeof *b);
    if (!b) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a server");
    }
    b->j = j;
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_cond_init(&b->wake, NULL);
    fm_status s = start(b);
    while (s == FM_OK && !fm_cancelled()) {
        s = fm_http_wait(0.2);
        s = s == FM_ERR_CANCELLED ? FM_OK : s;
    }
    finish(b);
    s = s == FM_OK ? fm_json_set(j->report, "predictions", fm_json_new_int(b->n_predicted)) : s;
    s = s == FM_OK ? fm_json_set(j->report, "events", fm_json_new_int(b->n_events)) : s;
    s = s == FM_OK ? fm_json_set(j->report, "failed", fm_json_new_int(b->n_failed)) : s;
    fm_free(b);
    return s;
}

static fm_status run(fm_label_job *j) {
    fm_openai *client = NULL;
    if (!j->chat && !j->o->local_model) {
        FM_TRY(fm_label_needs("serve", "endpoint URL or --local-model DIR", j->o->openai.endpoint != NULL));
        FM_TRY(fm_openai_new(&client, &j->o->openai));
        j->chat = fm_openai_chat;
        j->user = client;
    }
    fm_status s = serve(j);
    fm_openai_free(client);
    return s;
}

const fm_label_action fm_label_action_serve = {
    .name = "serve",
    .help = "the ML backend of Label Studio: suggestions by a trained model, or a language model and the guide",
    .run = run,
};
