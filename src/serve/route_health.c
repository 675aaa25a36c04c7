/* GET /health: the process lives. GET /ready: it takes requests. GET /metrics. */
#include <string.h>

#include "serve/serve.h"

static fm_status health(fm_call *c) {
    static const char ok[] = "{\"status\":\"ok\"}";
    fm_reply_text(c, 200, "application/json", ok, strlen(ok));
    return FM_OK;
}

static fm_status ready(fm_call *c) {
    if (atomic_load(&c->s->draining)) {
        fm_exchange_add_header(c->x, "Retry-After", "1");
        fm_reply_error(c, 503, NULL, NULL, "the server is ending");
        return FM_OK;
    }
    return health(c);
}

static fm_status metrics(fm_call *c) {
    fm_str out = {0};
    fm_metrics_write(&out, c->s);
    fm_status st = fm_str_check(&out);
    if (st == FM_OK) {
        fm_reply_text(c, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len);
    }
    fm_str_free(&out);
    return st;
}

const fm_route fm_route_health = {.method = "GET", .path = "/health|/v1/health", .open = true, .handle = health};
const fm_route fm_route_ready = {.method = "GET", .path = "/ready", .open = true, .handle = ready};
const fm_route fm_route_metrics = {.method = "GET", .path = "/metrics", .open = true, .handle = metrics};
