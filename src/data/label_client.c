/* A Label Studio server. Its tokens are of two kinds: legacy ones ("Token ..."), and personal access tokens, JWTs that
 * are exchanged for an access token of a few minutes ("Bearer ..."). */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/label.h"
#include "net/api.h"

#define ACCESS_S 180.0 /* an access token lives five minutes */

struct fm_ls_client {
    const fm_label_settings *o;
    fm_api *api;
    const char *token;
    char hint[160];
    bool refresh; /* the token is exchanged */
    double since; /* when it was */
};

void fm_ls_client_free(fm_ls_client *c) {
    if (c) {
        fm_api_free(c->api);
        fm_free(c);
    }
}

static fm_status connect_with(fm_ls_client *c, const char *token, const char *scheme) {
    fm_api_options o = {.url = c->o->url,
                        .token = token,
                        .auth_scheme = scheme,
                        .token_hint = c->hint,
                        .timeout_s = c->o->openai.timeout,
                        .retries = c->o->openai.retries,
                        .retry_wait = c->o->openai.retry_wait,
                        .clear_token = c->o->openai.insecure_key};
    fm_api_free(c->api);
    c->api = NULL;
    return fm_api_new(&c->api, &o);
}

static fm_status exchange(fm_ls_client *c) {
    fm_str body = {0};
    fm_json *doc = NULL;
    fm_str_puts(&body, "{\"refresh\":");
    fm_str_json(&body, c->token, strlen(c->token));
    fm_str_putc(&body, '}');
    fm_status s = fm_str_check(&body);
    s = s == FM_OK ? connect_with(c, NULL, NULL) : s;
    s = s == FM_OK ? fm_api_call(c->api, &doc, "POST", "/api/token/refresh", body.data, body.len) : s;
    const char *access = fm_json_is_object(doc) ? fm_json_str(fm_json_get(doc, "access"), NULL) : NULL;
    if (s == FM_OK && !access) {
        s = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "%s gave no access token", c->o->url);
    }
    s = s == FM_OK ? connect_with(c, access, "Bearer") : s;
    c->since = fm_now();
    fm_json_free(doc);
    fm_str_free(&body);
    return s;
}

fm_status fm_ls_client_new(fm_ls_client **out, const fm_label_settings *o) {
    fm_ls_client *c = *out = fm_calloc(1, sizeof *c);
    if (!c) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a client");
    }
    c->o = o;
    c->token = o->token_env ? getenv(o->token_env) : NULL;
    (void)snprintf(c->hint, sizeof c->hint, "the environment variable %s",
                   o->token_env ? o->token_env : "of token_env");
    const char *dot = c->token ? strchr(c->token, '.') : NULL;
    c->refresh = dot && strchr(dot + 1, '.');
    fm_status s = c->refresh ? exchange(c) : connect_with(c, c->token, "Token");
    if (s != FM_OK) {
        fm_ls_client_free(c);
        *out = NULL;
    }
    return s;
}

fm_status fm_ls_call(fm_ls_client *c, fm_json **out, const char *method, const char *path, const fm_str *body) {
    *out = NULL;
    if (c->refresh && fm_now() - c->since > ACCESS_S) {
        FM_TRY(exchange(c));
    }
    return fm_api_call(c->api, out, method, path, body ? body->data : NULL, body ? body->len : 0);
}
