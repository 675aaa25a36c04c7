/* GET /v1/models, /v1/models/NAME */
#include <string.h>

#include "serve/serve.h"

static void write_model(fm_str *out, const fm_serve *s) {
    fm_str_puts(out, "{\"id\":");
    fm_str_json(out, s->name, strlen(s->name));
    fm_str_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"fathom\",\"max_model_len\":%lld}",
                  (long long)s->created, (long long)fm_engine_ctx_size(s->e));
}

static fm_status list(fm_call *c) {
    fm_str out = {0};
    fm_str_puts(&out, "{\"object\":\"list\",\"data\":[");
    write_model(&out, c->s);
    fm_str_puts(&out, "]}");
    fm_reply_json(c, 200, &out);
    fm_str_free(&out);
    return FM_OK;
}

static fm_status one(fm_call *c) {
    const char *path = fm_exchange_path(c->x), *name = strstr(path, "/models/") + strlen("/models/");
    fm_str out = {0};
    if (strcmp(name, c->s->name) != 0) {
        FM_FAIL(FM_ERR_NOT_FOUND, "there is no model \"%s\" here; this server has \"%s\"", name, c->s->name);
    }
    write_model(&out, c->s);
    fm_reply_json(c, 200, &out);
    fm_str_free(&out);
    return FM_OK;
}

const fm_route fm_route_models = {.method = "GET", .path = "/v1/models|/models", .handle = list};
const fm_route fm_route_model = {.method = "GET", .path = "/v1/models/*|/models/*", .handle = one};
