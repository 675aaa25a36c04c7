/* Inside of the service: routes are rows of routes.def, each with a file of its own. */
#ifndef FM_SERVE_SERVE_H
#define FM_SERVE_SERVE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "fathom/serve.h"
#include "fathom/template.h"
#include "net/server.h"
#include "net/keys.h"
#include "serve/screen.h"
#include "serve/metrics.h"

typedef struct fm_text_batcher fm_text_batcher;

struct fm_serve {
    fm_serve_options o; /* strings are not kept */
    fm_model *m;
    const fm_tokenizer *tok; /* or NULL */
    fm_model_info info;
    fm_engine *e;
    fm_text_batcher *texts; /* of encoders, classifiers, embeddings */
    fm_server *http;
    fm_template *chat; /* or NULL: no tokenizer */
    fm_screen *screen; /* or NULL: no content filter */
    fm_keys *keys;     /* or NULL: none are asked for */
    struct fm_grammars *grammars;
    fm_metrics metrics;
    char name[128];
    char *cors; /* or NULL */
    double default_temperature, default_top_p, default_repetition_penalty;
    int64_t default_top_k;
    int64_t created;
    fm_keys *admins;                    /* of /admin/ routes, or NULL */
    atomic_bool draining, handing_over; /* handing_over: answers close their connections */
    atomic_bool reload;                 /* was asked for */
    atomic_int admin_jobs;              /* threads of administrators */
    atomic_ullong serial;               /* of requests; makes ids and seeds */
    uint64_t secret;                    /* seeds differ between starts */
    pthread_mutex_t log_lock;
};

/* A request on its way through a route. Its answer may come later, from another thread: then the route keeps it. */
typedef struct fm_call {
    atomic_int uses;
    fm_serve *s;
    fm_exchange *x;
    const struct fm_route *route;
    fm_json *body;   /* of a POST, else NULL */
    uint64_t client; /* who asks: the key, else the address */
    fm_key *key;     /* or NULL */
    char id[32];     /* of the request */
    char filter[64]; /* rule of the content filter that found something, or "" */
    double start_s;
    int code;                      /* of the answer */
    int64_t n_prompt, n_generated; /* for the log */
} fm_call;
void fm_call_keep(fm_call *c);
void fm_call_release(fm_call *c);

typedef struct fm_route {
    const char *method, *path; /* several paths: separated by '|'; one that ends in "*" takes all that begin so */
    bool open;                 /* needs no key, and is served while draining */
    bool admin;                /* takes keys of administrators alone */
    bool body_optional;        /* a POST without one has {}; text may be in the query */
    /* FM_OK: answered, or kept and answered later. Else the error record is the answer. */
    fm_status (*handle)(fm_call *c);
} fm_route;
extern const fm_route *const fm_routes[];
extern const int fm_n_routes;

/* Answers. Each ends the call; nothing else may be sent after it. */
void fm_reply_json(fm_call *c, int code, const fm_str *json);
void fm_reply_text(fm_call *c, int code, const char *type, const char *text, size_t n);
/* The OpenAI form of an error. type NULL: from the code. param and name may be NULL. */
void fm_reply_error(fm_call *c, int code, const char *param, const char *name, const char *message);
/* The same from the error record; the status chooses the code. */
void fm_reply_failure(fm_call *c, fm_status s);
void fm_reply_status(fm_call *c, fm_status s, const char *message);
/* {"error":{...}} appended to out. */
void fm_error_json(fm_str *out, int code, const char *param, const char *name, const char *message);
int fm_http_code_of(fm_status s);
/* The call is over: log and counters. For answers in pieces; the functions above do it themselves. */
void fm_call_done(fm_call *c, int code);

/* FM_ERR_ARGUMENT "key: ..." */
FM_MUST_CHECK fm_status fm_bad_field(const char *key, const char *expected);

#endif
