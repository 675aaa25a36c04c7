/* GET /v1/runs, /v1/runs/ID, /v1/runs/ID/report: the registry of runs, when the server was started to show it. */
#include <string.h>

#include "base/mem.h"
#include "fathom/option.h"
#include "fathom/runs.h"
#include "serve/serve.h"

/* A registry that is not there is an empty one. */
static fm_status open_registry(fm_registry **out, const fm_call *c) {
    *out = NULL;
    if (!c->s->o.runs) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "runs are not shown by this server");
        return fm_error_hint("start it with --runs");
    }
    return fm_registry_open(out, NULL, false);
}

static fm_status list(fm_call *c) {
    fm_registry *r = NULL;
    char *json = NULL;
    FM_TRY(open_registry(&r, c));
    fm_run_filter f = {.kind = fm_exchange_query(c->x, "kind"), .tag = fm_exchange_query(c->x, "tag"), .limit = 500};
    fm_status st = r ? fm_registry_list(&json, r, &f) : FM_OK;
    if (st == FM_OK) {
        fm_reply_text(c, 200, "application/json", json ? json : "[]", json ? strlen(json) : 2);
    }
    fm_string_free(json);
    fm_registry_close(r);
    return st;
}

static fm_status one(fm_call *c) {
    static const char tail[] = "/report";
    const char *which = strstr(fm_exchange_path(c->x), "/runs/") + strlen("/runs/");
    size_t n = strlen(which), n_tail = sizeof tail - 1;
    bool page = n > n_tail && strcmp(which + n - n_tail, tail) == 0;
    fm_registry *r = NULL;
    char *text = NULL, *name = NULL;
    FM_TRY(open_registry(&r, c));
    name = fm_strndup(which, page ? n - n_tail : n);
    fm_status st = FM_OK;
    if (!name) {
        st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for the name of a run");
    } else if (!r) {
        st = fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "there is no registry of runs here");
    } else {
        st = page ? fm_registry_html(&text, r, name) : fm_registry_show(&text, r, name);
    }
    if (st == FM_OK) {
        if (page) {
            fm_exchange_add_header(c->x, "Content-Security-Policy",
                                   "default-src 'none'; style-src 'unsafe-inline'; sandbox");
        }
        fm_reply_text(c, 200, page ? "text/html; charset=utf-8" : "application/json", text, strlen(text));
    }
    fm_string_free(text);
    fm_free(name);
    fm_registry_close(r);
    return st;
}

const fm_route fm_route_runs = {.method = "GET", .path = "/v1/runs", .handle = list};
const fm_route fm_route_run = {.method = "GET", .path = "/v1/runs/*", .handle = one};
