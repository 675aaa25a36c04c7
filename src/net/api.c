/* See api.h. */
#include "net/api.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/http.h"

#define MAX_ANSWER ((size_t)256 << 20)

struct fm_api {
    char *url, *token, *auth_scheme, *token_hint;
    fm_api_options o;
    pthread_mutex_t lock;
    fm_http **idle; /* connections that nobody uses */
    size_t n_idle, idle_cap;
    double not_before; /* fm_now() before which nothing is asked */
    int64_t retries;
};

void fm_api_free(fm_api *a) {
    if (a) {
        for (size_t i = 0; i < a->n_idle; i++) {
            fm_http_free(a->idle[i]);
        }
        fm_free(a->idle);
        fm_free(a->url);
        fm_free(a->token);
        fm_free(a->auth_scheme);
        fm_free(a->token_hint);
        (void)pthread_mutex_destroy(&a->lock);
        fm_free(a);
    }
}

static fm_status copy(char **out, const char *s) {
    if (s && !(*out = fm_strdup(s))) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an API client");
    }
    return FM_OK;
}

static fm_status fill(fm_api *a, const fm_api_options *o) {
    FM_TRY(copy(&a->url, o->url));
    FM_TRY(copy(&a->token, o->token));
    FM_TRY(copy(&a->auth_scheme, o->auth_scheme));
    FM_TRY(copy(&a->token_hint, o->token_hint ? o->token_hint : "the key"));
    for (size_t n = strlen(a->url); n && a->url[n - 1] == '/'; n--) {
        a->url[n - 1] = '\0';
    }
    void *p = NULL;
    FM_TRY(fm_grow(&p, &a->idle_cap, 1, sizeof(fm_http *)));
    a->idle = p;
    FM_TRY(fm_http_new(&a->idle[0])); /* opens the library, which only one thread may do */
    a->n_idle = 1;
    return FM_OK;
}

fm_status fm_api_new(fm_api **out, const fm_api_options *o) {
    char origin[300];
    *out = NULL;
    if (!o->url || !fm_url_origin(origin, sizeof origin, o->url)) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "'%s' is no http or https URL", o->url ? o->url : "");
        return fm_error_hint("such as http://127.0.0.1:8080/v1");
    }
    if (o->token && *o->token && !o->clear_token && !fm_url_private(o->url)) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "the key would go to %s without encryption", origin);
        return fm_error_hint("use https, unset %s, or allow it (insecure_key=true) in a network that you trust",
                             o->token_hint ? o->token_hint : "the key");
    }
    fm_api *a = fm_calloc(1, sizeof *a);
    if (!a) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an API client");
    }
    a->o = *o;
    (void)pthread_mutex_init(&a->lock, NULL);
    fm_status s = fill(a, o);
    if (s != FM_OK) {
        fm_api_free(a);
        return s;
    }
    *out = a;
    return FM_OK;
}

int64_t fm_api_retries(const fm_api *a) {
    return a->retries;
}

/* ---- connections ------------------------------------------------------------------------------ */

static fm_status take(fm_api *a, fm_http **out) {
    (void)pthread_mutex_lock(&a->lock);
    *out = a->n_idle ? a->idle[--a->n_idle] : NULL;
    (void)pthread_mutex_unlock(&a->lock);
    return *out ? FM_OK : fm_http_new(out);
}

static void give(fm_api *a, fm_http *h) {
    (void)pthread_mutex_lock(&a->lock);
    void *p = a->idle;
    bool kept = fm_grow(&p, &a->idle_cap, a->n_idle + 1, sizeof(fm_http *)) == FM_OK;
    a->idle = p;
    if (kept) {
        a->idle[a->n_idle++] = h;
    }
    (void)pthread_mutex_unlock(&a->lock);
    if (!kept) {
        fm_http_free(h);
    }
}

/* ---- answers ---------------------------------------------------------------------------------- */

static fm_status into_text(void *user, const void *data, size_t n, bool restart) {
    fm_str *s = user;
    FM_UNUSED(restart);
    if (n > MAX_ANSWER - s->len) {
        FM_FAIL(FM_ERR_IO, "an answer of more than %zu bytes", MAX_ANSWER);
    }
    fm_str_append(s, data, n);
    return fm_str_check(s);
}

/* What the server says about its error, in the forms that APIs have: into buf, "" when it says nothing. */
static void server_words(char *buf, size_t cap, const fm_str *text) {
    static const char *const keys[] = {"message", "detail", "error"};
    fm_json *doc = NULL;
    const char *found = NULL;
    size_t n = 0;
    buf[0] = '\0';
    fm_status s = fm_json_parse(&doc, text->data ? text->data : "", text->len, "answer");
    if (s != FM_OK) {
        fm_error_clear();
        found = text->data;
        n = found ? strcspn(found, "\r\n") : 0;
        found = found && *found != '<' ? found : NULL; /* a page of a proxy */
    }
    const fm_json *from = doc;
    const fm_json *inner = fm_json_is_object(doc) ? fm_json_get(doc, "error") : NULL;
    from = fm_json_is_object(inner) ? inner : from;
    for (size_t i = 0; i < FM_ARRAY_LEN(keys) && !found && fm_json_is_object(from); i++) {
        found = fm_json_str(fm_json_get(from, keys[i]), &n);
    }
    if (!found && s == FM_OK && text->len) {
        found = text->data;
        n = text->len;
    }
    n = fm_utf8_complete_prefix(found ? found : "", found ? FM_MIN(n, cap - 1) : 0);
    memcpy(buf, found ? found : "", n);
    buf[n] = '\0';
    fm_json_free(doc);
}

static fm_status refuse(const fm_api *a, const char *method, const char *path, const fm_http_reply *r,
                        const fm_str *text) {
    char words[400];
    server_words(words, sizeof words, text);
    fm_status code = r->code == 404                                       ? FM_ERR_NOT_FOUND
                     : r->code == 400 || r->code == 413 || r->code == 422 ? FM_ERR_DATA
                                                                          : FM_ERR_IO;
    (void)fm_error_set(code, __FILE__, __LINE__, "%s %s%s: %s%s%s", method, a->url, path, r->error, *words ? ": " : "",
                       words);
    if (r->code == 401 || r->code == 403) {
        (void)fm_error_hint("%s %s", a->token && *a->token ? "check" : "a key is needed: set", a->token_hint);
    } else if (r->code == 404) {
        (void)fm_error_hint("is %s the right address, and does what is asked for exist there?", a->url);
    } else if (r->code == 0) {
        (void)fm_error_hint("is the server running at %s?", a->url);
    }
    return code;
}

static fm_status attempt(fm_api *a, const fm_http_request *q, fm_http_reply *r, fm_str *text) {
    fm_http *h = NULL;
    (void)pthread_mutex_lock(&a->lock);
    double pause = a->not_before - fm_now();
    (void)pthread_mutex_unlock(&a->lock);
    if (pause > 0) {
        FM_TRY(fm_http_wait(pause));
    }
    FM_TRY(take(a, &h));
    fm_str_clear(text);
    fm_status s = fm_http_get(h, q, r);
    give(a, h);
    return s;
}

static fm_status ask(fm_api *a, fm_json **out, const fm_http_request *q, const char *method, const char *path,
                     fm_str *text) {
    for (int64_t tries = 1;; tries++) {
        fm_http_reply r;
        FM_TRY(attempt(a, q, &r, text));
        if (!*r.error) {
            bool empty = true;
            for (size_t i = 0; i < text->len && empty; i++) {
                empty = (unsigned char)text->data[i] <= ' ';
            }
            return empty ? FM_OK : fm_json_parse(out, text->data, text->len, q->url);
        }
        if (!r.transient || tries > a->o.retries) {
            return refuse(a, method, path, &r, text);
        }
        double wait = fm_http_backoff(a->o.retry_wait, tries, &r);
        fm_info("%s: %s; trying again in %.3g s", q->url, r.error, wait);
        (void)pthread_mutex_lock(&a->lock);
        a->retries++;
        if (r.retry_after > 0) {
            a->not_before = FM_MAX(a->not_before, fm_now() + FM_MIN(r.retry_after, 600));
        }
        (void)pthread_mutex_unlock(&a->lock);
        FM_TRY(fm_http_wait(wait));
    }
}

fm_status fm_api_call(fm_api *a, fm_json **out, const char *method, const char *path, const char *body, size_t n) {
    fm_str url = {0}, text = {0};
    *out = NULL;
    fm_str_printf(&url, "%s%s", a->url, path);
    fm_status s = fm_str_check(&url);
    if (s == FM_OK) {
        fm_http_request q = {.url = url.data,
                             .token = a->token,
                             .sink = into_text,
                             .user = &text,
                             .method = method,
                             .body = body,
                             .body_bytes = n,
                             .auth_scheme = a->auth_scheme,
                             .timeout_s = a->o.timeout_s,
                             .clear_token = a->o.clear_token,
                             .any_code = true};
        s = ask(a, out, &q, method, path, &text);
    }
    fm_str_free(&url);
    fm_str_free(&text);
    return s;
}
