/* GET /v1/models, /v1/models/NAME */
#include <string.h>

#include "base/error.h"
#include "serve/serve.h"

#define MOST_LABELS 1000 /* of a head that are listed */

/* What /predict can be asked for: the main head when it judges, and those by name. */
static void write_heads(fm_str *out, const fm_model *m) {
    int n = fm_model_head_count(m), written = 0;
    for (int i = 0; i < n; i++) {
        fm_head_info h;
        if (fm_model_head_info(&h, m, i) != FM_OK) {
            fm_error_clear();
            continue;
        }
        if (h.n_outputs < 1 || strcmp(h.kind, "lm") == 0) {
            continue;
        }
        fm_str_puts(out, written++ ? ",{\"name\":" : ",\"heads\":[{\"name\":");
        fm_str_json(out, h.name, strlen(h.name));
        fm_str_printf(out, ",\"kind\":\"%s\",\"outputs\":%d,\"labels\":[", h.kind, (int)h.n_outputs);
        for (int32_t k = 0; k < FM_MIN(h.n_outputs, MOST_LABELS); k++) {
            const char *label = fm_model_label(m, i, k);
            fm_str_puts(out, k ? "," : "");
            if (label) {
                fm_str_json(out, label, strlen(label));
            } else {
                fm_str_puts(out, "null");
            }
        }
        fm_str_puts(out, "]}");
    }
    fm_str_puts(out, written ? "]" : "");
}

/* adapter NULL: the model itself. */
static void write_model(fm_str *out, const fm_serve *s, const char *adapter) {
    const char *name = adapter ? adapter : s->name;
    fm_str_puts(out, "{\"id\":");
    fm_str_json(out, name, strlen(name));
    fm_str_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"fathom\",\"max_model_len\":%lld",
                  (long long)s->created, (long long)fm_engine_ctx_size(s->e));
    if (!adapter) {
        write_heads(out, s->m);
    }
    if (adapter) {
        fm_str_puts(out, ",\"parent\":");
        fm_str_json(out, s->name, strlen(s->name));
    }
    fm_str_putc(out, '}');
}

static fm_status list(fm_call *c) {
    fm_str out = {0};
    char name[128];
    fm_str_puts(&out, "{\"object\":\"list\",\"data\":[");
    write_model(&out, c->s, NULL);
    for (int i = 0; fm_engine_adapter_name(name, sizeof name, c->s->e, i); i++) {
        fm_str_putc(&out, ',');
        write_model(&out, c->s, name);
    }
    fm_str_puts(&out, "]}");
    fm_reply_json(c, 200, &out);
    fm_str_free(&out);
    return FM_OK;
}

static fm_status one(fm_call *c) {
    const char *path = fm_exchange_path(c->x), *name = strstr(path, "/models/") + strlen("/models/");
    fm_str out = {0};
    bool adapter = strcmp(name, c->s->name) != 0;
    if (adapter && !fm_engine_has_adapter(c->s->e, name)) {
        FM_FAIL(FM_ERR_NOT_FOUND, "there is no model \"%s\" here; this server has \"%s\"", name, c->s->name);
    }
    write_model(&out, c->s, adapter ? name : NULL);
    fm_reply_json(c, 200, &out);
    fm_str_free(&out);
    return FM_OK;
}

const fm_route fm_route_models = {.method = "GET", .path = "/v1/models|/models", .handle = list};
const fm_route fm_route_model = {.method = "GET", .path = "/v1/models/*|/models/*", .handle = one};
