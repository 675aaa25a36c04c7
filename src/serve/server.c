/* The service: start and end, dispatch, keys, errors, logs. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/model.h"
#include "serve/constraint.h"
#include "serve/serve.h"
#include "serve/text_batch.h"
#include "serve/user.h"

#define FM_ROUTE(sym) extern const fm_route fm_route_##sym;
#include "serve/routes.def"
#undef FM_ROUTE
const fm_route *const fm_routes[] = {
#define FM_ROUTE(sym) &fm_route_##sym,
#include "serve/routes.def"
#undef FM_ROUTE
};
const int fm_n_routes = (int)FM_ARRAY_LEN(fm_routes);
_Static_assert(FM_ARRAY_LEN(fm_routes) < FM_METRIC_ROUTES, "each route has a histogram");

/* ---- calls ----------------------------------------------------------------------------------- */

void fm_call_keep(fm_call *c) {
    atomic_fetch_add(&c->uses, 1);
}

void fm_call_release(fm_call *c) {
    if (atomic_fetch_sub(&c->uses, 1) != 1) {
        return;
    }
    fm_json_free(c->body);
    fm_exchange_release(c->x);
    fm_free(c);
}

static int route_index(const fm_route *route) {
    for (int i = 0; i < fm_n_routes && route; i++) {
        if (fm_routes[i] == route) {
            return i;
        }
    }
    return -1;
}

void fm_call_done(fm_call *c, int code) {
    fm_serve *s = c->s;
    c->code = code;
    fm_metrics_answer(&s->metrics, code, route_index(c->route), fm_now() - c->start_s);
    if (c->key) {
        fm_key_spend(s->keys, c->key, fm_now(), c->n_prompt + c->n_generated);
    }
    if (!s->o.access_log) {
        return;
    }
    char when[32];
    fm_str line = {0};
    fm_str_printf(&line, "{\"time\":\"%s\",\"id\":\"%s\",\"client\":", fm_format_utc(when, sizeof when, fm_unix_ms()),
                  c->id);
    const char *who = c->key ? fm_key_name(c->key) : fm_exchange_peer(c->x), *path = fm_exchange_path(c->x);
    fm_str_json(&line, who, strlen(who));
    fm_str_puts(&line, ",\"method\":");
    fm_str_json(&line, fm_exchange_method(c->x), strlen(fm_exchange_method(c->x)));
    fm_str_puts(&line, ",\"path\":");
    fm_str_json(&line, path, strlen(path));
    fm_str_printf(&line, ",\"status\":%d,\"ms\":%.1f,\"prompt_tokens\":%lld,\"completion_tokens\":%lld", code,
                  (fm_now() - c->start_s) * 1e3, (long long)c->n_prompt, (long long)c->n_generated);
    if (c->filter[0]) {
        fm_str_puts(&line, ",\"filter\":");
        fm_str_json(&line, c->filter, strlen(c->filter));
    }
    fm_str_putc(&line, '}');
    if (fm_str_check(&line) == FM_OK) {
        pthread_mutex_lock(&s->log_lock);
        s->o.access_log(s->o.user, line.data);
        pthread_mutex_unlock(&s->log_lock);
    }
    fm_str_free(&line);
}

void fm_reply_text(fm_call *c, int code, const char *type, const char *text, size_t n) {
    fm_call_done(c, code);
    fm_exchange_reply(c->x, code, type, text, n);
}

void fm_reply_json(fm_call *c, int code, const fm_str *json) {
    if (json->failed) {
        static const char text[] = "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
                                   "\"param\":null,\"code\":null}}";
        fm_reply_text(c, 503, "application/json", text, sizeof text - 1);
        return;
    }
    fm_reply_text(c, code, "application/json", json->data ? json->data : "", json->len);
}

static const char *type_of(int code) {
    switch (code) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 501:
        return "not_supported_error";
    case 503:
        return "unavailable_error";
    default:
        return code < 500 ? "invalid_request_error" : "server_error";
    }
}

static void json_or_null(fm_str *out, const char *s) {
    if (s) {
        fm_str_json(out, s, strlen(s));
    } else {
        fm_str_puts(out, "null");
    }
}

void fm_error_json(fm_str *out, int code, const char *param, const char *name, const char *message) {
    fm_str_puts(out, "{\"error\":{\"message\":");
    fm_str_json(out, message, strlen(message));
    fm_str_printf(out, ",\"type\":\"%s\",\"param\":", type_of(code));
    json_or_null(out, param);
    fm_str_puts(out, ",\"code\":");
    if (name) {
        json_or_null(out, name);
    } else {
        fm_str_printf(out, "%d", code);
    }
    fm_str_puts(out, "}}");
}

void fm_reply_error(fm_call *c, int code, const char *param, const char *name, const char *message) {
    fm_str out = {0};
    fm_error_json(&out, code, param, name, message);
    fm_reply_json(c, code, &out);
    fm_str_free(&out);
}

int fm_http_code_of(fm_status s) {
    switch (s) {
    case FM_ERR_ARGUMENT:
    case FM_ERR_CONFIG:
    case FM_ERR_DATA:
    case FM_ERR_FORMAT:
    case FM_ERR_UNSUPPORTED:
        return 400;
    case FM_ERR_NOT_FOUND:
        return 404;
    case FM_ERR_STATE:
    case FM_ERR_NO_MEMORY:
    case FM_ERR_CANCELLED:
        return 503;
    default:
        return 500;
    }
}

void fm_reply_status(fm_call *c, fm_status s, const char *message) {
    int code = fm_http_code_of(s);
    if (code == 503) {
        fm_exchange_add_header(c->x, "Retry-After", "1");
    }
    bool context = s == FM_ERR_ARGUMENT && strstr(message, "the context is");
    fm_reply_error(c, code, context ? "messages" : NULL,
                   context                 ? "context_length_exceeded"
                   : s == FM_ERR_NOT_FOUND ? "model_not_found"
                                           : NULL,
                   message);
}

void fm_reply_failure(fm_call *c, fm_status s) {
    fm_error e = fm_error_get();
    char text[sizeof(fm_error_record)];
    snprintf(text, sizeof text, "%s%s%s%s", e.message, e.hint[0] ? " (" : "", e.hint, e.hint[0] ? ")" : "");
    fm_reply_status(c, s, text);
}

fm_status fm_bad_field(const char *key, const char *expected) {
    FM_FAIL(FM_ERR_ARGUMENT, "%s: expected %s", key, expected);
}

/* ---- dispatch -------------------------------------------------------------------------------- */

static bool path_fits(const char *paths, const char *path) {
    while (*paths) {
        size_t n = strcspn(paths, "|");
        if (n > 0 && paths[n - 1] == '*' ? strncmp(path, paths, n - 1) == 0
                                         : strlen(path) == n && strncmp(path, paths, n) == 0) {
            return true;
        }
        paths += n + (paths[n] == '|');
    }
    return false;
}

/* *other: a route has the path, but for another method. */
static const fm_route *find_route(const char *method, const char *path, bool *other) {
    *other = false;
    for (int i = 0; i < fm_n_routes; i++) {
        if (path_fits(fm_routes[i]->path, path)) {
            if (strcmp(method, fm_routes[i]->method) == 0) {
                return fm_routes[i];
            }
            *other = true;
        }
    }
    return NULL;
}

/* Answers and returns false when the caller may not. */
static bool admit(fm_call *c) {
    fm_serve *s = c->s;
    const char *peer = fm_exchange_peer(c->x);
    c->client = fm_hash64(peer, strlen(peer), 0);
    fm_keys *keys = c->route->admin ? s->admins : s->keys;
    if (c->route->admin && !keys) {
        fm_reply_error(c, 404, NULL, NULL, "there is no such path");
        return false;
    }
    if (!keys || c->route->open) {
        return true;
    }
    const char *auth = fm_exchange_header(c->x, "Authorization"), *key = NULL;
    if (auth && strncasecmp(auth, "Bearer ", 7) == 0) {
        key = auth + 7;
    }
    key = key ? key : fm_exchange_header(c->x, "X-Api-Key");
    fm_key *found = key ? fm_keys_find(keys, key) : NULL;
    if (!found) {
        fm_exchange_add_header(c->x, "WWW-Authenticate", "Bearer");
        fm_reply_error(c, 401, NULL, "invalid_api_key",
                       key ? "the API key is not known here" : "an API key is needed: Authorization: Bearer KEY");
        return false;
    }
    if (c->route->admin) {
        return true;
    }
    c->key = found;
    c->client = (uint64_t)fm_key_index(keys, c->key);
    double wait = 0;
    if (!fm_key_take(s->keys, c->key, fm_now(), &wait)) {
        char after[32];
        snprintf(after, sizeof after, "%.0f", ceil(wait));
        fm_exchange_add_header(c->x, "Retry-After", after);
        c->key = NULL; /* a refused request costs nothing */
        fm_reply_error(c, 429, NULL, "rate_limit_exceeded", "the limit of this API key is reached");
        return false;
    }
    return true;
}

static fm_status text_of_query(fm_call *c) {
    const char *text = fm_exchange_query(c->x, "text");
    if (!text || fm_json_get(c->body, "text")) {
        return FM_OK;
    }
    if (!fm_utf8_valid(text, strlen(text))) {
        FM_FAIL(FM_ERR_ARGUMENT, "text: expected UTF-8");
    }
    return fm_json_set(c->body, "text", fm_json_new_str(text));
}

static fm_status parse_body(fm_call *c) {
    size_t n;
    const char *body = fm_exchange_body(c->x, &n);
    if (strcmp(c->route->method, "POST") != 0) {
        return FM_OK;
    }
    if (n == 0 && c->route->body_optional) {
        body = "{}";
        n = 2;
    }
    FM_TRY(fm_json_parse(&c->body, body, n, "the body of the request"));
    if (!fm_json_is_object(c->body)) {
        FM_FAIL(FM_ERR_FORMAT, "the body of the request: expected a JSON object");
    }
    return c->route->body_optional ? text_of_query(c) : FM_OK;
}

/* Answers and returns false when the content filter refuses the request. */
static bool pass_filter(fm_call *c) {
    bool blocked = false;
    const char *found = NULL;
    fm_status st = fm_screen_request(c->s->screen, &c->body, &blocked, &found);
    snprintf(c->filter, sizeof c->filter, "%s", found ? found : "");
    if (st != FM_OK) {
        fm_reply_failure(c, st);
    } else if (blocked) {
        fm_reply_error(c, 400, NULL, "content_filter", "the request has content that is not taken here");
    }
    return st == FM_OK && !blocked;
}

static void handle_call(fm_call *c) {
    bool filter = c->body && fm_screen_watches(c->s->screen, false);
    if (filter && !pass_filter(c)) {
        return;
    }
    fm_status st = c->route->handle(c);
    if (st != FM_OK) {
        fm_reply_failure(c, st);
    }
}

/* On the engine's thread, which a classifier of the filter needs. */
static void on_filter_turn(void *user, fm_model *m) {
    fm_call *c = user;
    if (m) {
        handle_call(c);
    } else {
        fm_reply_status(c, FM_ERR_STATE, "the server is ending");
    }
    fm_call_release(c);
}

static void handle_or_post(fm_call *c) {
    fm_status st = parse_body(c);
    if (st == FM_OK && !(c->body && fm_screen_computes(c->s->screen, false))) {
        handle_call(c);
        return;
    }
    if (st == FM_OK) {
        fm_call_keep(c);
        st = fm_engine_post(c->s->e, on_filter_turn, c);
        if (st != FM_OK) {
            fm_call_release(c);
        }
    }
    if (st != FM_OK) {
        fm_reply_failure(c, st);
    }
}

static void add_cors(fm_call *c) {
    const char *origin = fm_exchange_header(c->x, "Origin"), *list = c->s->cors;
    if (!origin || !list) {
        return;
    }
    bool all = strcmp(list, "*") == 0, found = all;
    for (const char *p = list; *p && !found;) {
        size_t n = strcspn(p, ",");
        found = strlen(origin) == n && strncmp(p, origin, n) == 0;
        p += n + (p[n] == ',');
    }
    if (found) {
        fm_exchange_add_header(c->x, "Access-Control-Allow-Origin", all ? "*" : origin);
        fm_exchange_add_header(c->x, "Access-Control-Allow-Methods", "GET, POST");
        fm_exchange_add_header(c->x, "Access-Control-Allow-Headers", "Authorization, Content-Type");
    }
}

static void dispatch(fm_call *c) {
    const char *path = fm_exchange_path(c->x), *method = fm_exchange_method(c->x);
    bool other;
    add_cors(c);
    if (atomic_load(&c->s->handing_over)) {
        fm_exchange_add_header(c->x, "Connection", "close");
    }
    if (strcmp(method, "OPTIONS") == 0) {
        fm_reply_text(c, 204, "text/plain", "", 0);
        return;
    }
    c->route = find_route(strcmp(method, "HEAD") == 0 ? "GET" : method, path, &other);
    if (fm_exchange_too_large(c->x)) {
        fm_reply_error(c, 413, NULL, NULL, "the body of the request is too large");
    } else if (!c->route) {
        fm_reply_error(c, other ? 405 : 404, NULL, NULL,
                       other ? "this path does not take this method" : "there is no such path");
    } else if (atomic_load(&c->s->draining) && !c->route->open) {
        fm_exchange_add_header(c->x, "Retry-After", "1");
        fm_reply_error(c, 503, NULL, NULL, "the server is ending");
    } else if (admit(c)) {
        handle_or_post(c);
    }
}

static void on_exchange(void *user, fm_exchange *x) {
    fm_serve *s = user;
    fm_call *c = fm_calloc(1, sizeof *c);
    if (!c) {
        fm_exchange_reply(x, 503, "text/plain", "out of memory\n", 14);
        return;
    }
    atomic_init(&c->uses, 1);
    c->s = s;
    c->x = x;
    c->start_s = fm_now();
    fm_exchange_keep(x);
    snprintf(c->id, sizeof c->id, "%08llx%08llx", (unsigned long long)(s->secret & 0xffffffff),
             (unsigned long long)atomic_fetch_add(&s->serial, 1));
    fm_exchange_add_header(x, "X-Request-Id", c->id);
    dispatch(c);
    fm_call_release(c);
}

/* ---- start and end --------------------------------------------------------------------------- */

static fm_status sampling_defaults(fm_serve *s, const fm_json *g) {
    double top_k;
    FM_TRY(fm_json_get_f64(&s->default_temperature, g, "temperature", 1));
    FM_TRY(fm_json_get_f64(&s->default_top_p, g, "top_p", 1));
    FM_TRY(fm_json_get_f64(&top_k, g, "top_k", 0));
    s->default_top_k = (int64_t)top_k;
    return fm_json_get_f64(&s->default_repetition_penalty, g, "repetition_penalty", 1);
}

static void choose_name(fm_serve *s, const char *name) {
    if (name && *name) {
        snprintf(s->name, sizeof s->name, "%s", name);
        return;
    }
    const char *path = s->m->path ? s->m->path : "model", *end = path + strlen(path);
    while (end > path && end[-1] == '/') {
        end--;
    }
    const char *begin = end;
    while (begin > path && begin[-1] != '/') {
        begin--;
    }
    snprintf(s->name, sizeof s->name, "%.*s", (int)(end - begin), begin);
    if (strcmp(s->name, ".") == 0 || strcmp(s->name, "..") == 0 || !s->name[0]) {
        snprintf(s->name, sizeof s->name, "model");
    }
}

static fm_status listen_with(fm_serve *s, const fm_serve_options *o) {
    char *cert = NULL, *key = NULL;
    size_t n;
    fm_status st = FM_OK;
    if (!o->tls_cert != !o->tls_key) {
        FM_FAIL(FM_ERR_CONFIG, "tls_cert and tls_key belong together");
    }
    if (o->tls_cert) {
        st = fm_file_read(&cert, &n, o->tls_cert, 1 << 20);
        st = st == FM_OK ? fm_file_read(&key, &n, o->tls_key, 1 << 20) : st;
    }
    fm_server_options h = {.host = o->host ? o->host : "127.0.0.1",
                           .port = o->port,
                           .listen_fd = o->listen_fd,
                           .cert = cert,
                           .key = key,
                           .max_body = (size_t)o->max_body,
                           .max_connections = o->max_connections,
                           .read_s = o->read_timeout_s,
                           .handle = on_exchange,
                           .user = s};
    st = st == FM_OK ? fm_server_start(&s->http, &h) : st;
    st = st == FM_OK && o->run_as && *o->run_as ? fm_become_user(o->run_as) : st;
    fm_free(cert);
    fm_free(key);
    return st;
}

static fm_status start(fm_serve *s, const fm_serve_options *o) {
    FM_TRY(fm_model_get_info(&s->info, s->m));
    fm_status st = fm_model_tokenizer(&s->tok, s->m);
    if (st != FM_OK && st != FM_ERR_NOT_FOUND) {
        return st;
    }
    FM_TRY(sampling_defaults(s, s->m->generation));
    if (s->tok && s->info.chat_template) {
        FM_TRY(fm_template_open(&s->chat, NULL, s->tok));
    } else if (s->tok) { /* a base model: a form that most have seen */
        FM_TRY(fm_template_open(&s->chat, "chatml", s->tok));
    }
    FM_TRY(fm_grammars_new(&s->grammars));
    if (o->api_key_file) {
        FM_TRY(fm_keys_load(&s->keys, o->api_key_file));
    }
    if (o->admin_key_file) {
        FM_TRY(fm_keys_load(&s->admins, o->admin_key_file));
    }
    if (o->content_filter && *o->content_filter) {
        FM_TRY(fm_screen_load(&s->screen, o->content_filter));
    }
    if (o->cors_origins && *o->cors_origins) {
        s->cors = fm_strdup(o->cors_origins);
        if (!s->cors) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a list of origins");
        }
    }
    fm_engine_options e = o->engine;
    e.size = sizeof e;
    e.warm = true; /* a server that replaces another takes requests when it is as fast as that one was */
    FM_TRY(fm_engine_new(&s->e, s->m, &e));
    FM_TRY(fm_text_batcher_new(&s->texts, s, e.max_queue > 0 ? e.max_queue : 256));
    return listen_with(s, o);
}

fm_status fm_serve_new(fm_serve **out, fm_model *m, const fm_serve_options *opt) {
    *out = NULL;
    fm_serve_options o = opt ? *opt : (fm_serve_options){.size = sizeof o};
    if (o.size != sizeof o) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_serve_options: expected size %zu, found %zu", sizeof o, o.size);
    }
    fm_serve *s = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a server");
    }
    s->m = m;
    s->o = o;
    s->o.timeout_s = o.timeout_s > 0 ? o.timeout_s : 600;
    s->created = fm_unix_ms() / 1000;
    if (getrandom(&s->secret, sizeof s->secret, GRND_NONBLOCK) != (ssize_t)sizeof s->secret) {
        s->secret = (uint64_t)fm_unix_ms();
    }
    pthread_mutex_init(&s->metrics.lock, NULL);
    pthread_mutex_init(&s->log_lock, NULL);
    choose_name(s, o.name);
    fm_status st = start(s, &o);
    if (st != FM_OK) {
        fm_serve_free(s);
        return st;
    }
    *out = s;
    return FM_OK;
}

int fm_serve_port(const fm_serve *s) {
    return fm_server_port(s->http);
}

const char *fm_serve_name(const fm_serve *s) {
    return s->name;
}

fm_engine *fm_serve_engine(fm_serve *s) {
    return s->e;
}

bool fm_serve_drain(fm_serve *s, double seconds) {
    double end = fm_now() + seconds;
    atomic_store(&s->draining, true);
    while (fm_now() < end) {
        fm_engine_stats st;
        fm_engine_get_stats(&st, s->e);
        if (st.running + st.waiting == 0 && fm_server_open(s->http) == 0) {
            fm_server_stop_listening(s->http);
            return true;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    fm_server_stop_listening(s->http);
    return false;
}

int fm_serve_listen_fd(const fm_serve *s) {
    return fm_server_listen_fd(s->http);
}

bool fm_serve_reload_asked(fm_serve *s) {
    return atomic_exchange(&s->reload, false);
}

bool fm_serve_handover(fm_serve *s, double seconds) {
    double begin = fm_now(), idle = FM_MIN(5.0, seconds);
    atomic_store(&s->handing_over, true);
    fm_server_stop_listening(s->http);
    while (fm_now() < begin + seconds) {
        fm_engine_stats st;
        fm_engine_get_stats(&st, s->e);
        bool busy = st.running + st.waiting > 0 || fm_server_open(s->http) > 0;
        if (!busy && (fm_server_connections(s->http) == 0 || fm_now() > begin + idle)) {
            return true;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return false;
}

void fm_serve_free(fm_serve *s) {
    if (!s) {
        return;
    }
    atomic_store(&s->draining, true);
    while (atomic_load(&s->admin_jobs) > 0) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    fm_server_free(s->http); /* first: its requests use the engine; what the engine still sends goes nowhere */
    fm_engine_free(s->e);
    fm_text_batcher_free(s->texts);
    fm_template_free(s->chat);
    fm_grammars_free(s->grammars);
    fm_screen_free(s->screen);
    fm_keys_free(s->keys);
    fm_keys_free(s->admins);
    fm_free(s->cors);
    pthread_mutex_destroy(&s->metrics.lock);
    pthread_mutex_destroy(&s->log_lock);
    fm_free(s);
}
