/* Routes of administrators, with keys of their own:
 *   GET  /admin/adapters                  {"adapters": [name]}
 *   POST /admin/adapters                  {"name", "path"}: adds one while requests run
 *   POST /admin/adapters/remove           {"name"}: takes it away; requests that use it end with it
 *   POST /admin/reload                    a new process takes over when it is ready (SIGUSR2 does the same)
 * /v1/load_lora_adapter and /v1/unload_lora_adapter are the names of vLLM for the same. */
#include <string.h>

#include "base/mem.h"
#include "serve/serve.h"

typedef struct job {
    fm_call *c;
    bool add;
    const char *name, *path; /* of the body of the call */
} job;

static void reply_adapters(fm_call *c) {
    char name[256];
    fm_str out = {0};
    fm_str_puts(&out, "{\"adapters\":[");
    for (int i = 0; fm_engine_adapter_name(name, sizeof name, c->s->e, i); i++) {
        fm_str_puts(&out, i ? "," : "");
        fm_str_json(&out, name, strlen(name));
    }
    fm_str_puts(&out, "]}");
    fm_reply_json(c, 200, &out);
    fm_str_free(&out);
}

static fm_status list(fm_call *c) {
    reply_adapters(c);
    return FM_OK;
}

/* Reading an adapter takes its time and waits for a pass: not on the thread of all connections. */
static void *work(void *arg) {
    job *j = arg;
    fm_serve *s = j->c->s;
    fm_status st = j->add ? fm_engine_add_adapter(s->e, j->name, j->path) : fm_engine_remove_adapter(s->e, j->name);
    if (st == FM_ERR_EXISTS) {
        fm_reply_error(j->c, 409, "name", NULL, fm_error_get().message);
    } else if (st != FM_OK) {
        fm_reply_failure(j->c, st);
    } else {
        reply_adapters(j->c);
    }
    fm_call_release(j->c);
    fm_free(j);
    atomic_fetch_sub(&s->admin_jobs, 1);
    return NULL;
}

static fm_status start(fm_call *c, bool add) {
    pthread_t thread;
    pthread_attr_t how;
    const char *name = NULL, *path = NULL;
    FM_TRY(fm_json_get_str(&name, c->body, fm_json_get(c->body, "lora_name") ? "lora_name" : "name", NULL));
    FM_TRY(fm_json_get_str(&path, c->body, fm_json_get(c->body, "lora_path") ? "lora_path" : "path", NULL));
    if (!name || !*name) {
        return fm_bad_field("name", "the name of an adapter");
    }
    if (add && (!path || !*path)) {
        return fm_bad_field("path", "the folder of an adapter");
    }
    job *j = fm_calloc(1, sizeof *j);
    if (!j) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a request");
    }
    *j = (job){.c = c, .add = add, .name = name, .path = path};
    fm_call_keep(c);
    atomic_fetch_add(&c->s->admin_jobs, 1);
    pthread_attr_init(&how);
    pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &how, work, j);
    pthread_attr_destroy(&how);
    if (rc != 0) {
        atomic_fetch_sub(&c->s->admin_jobs, 1);
        fm_call_release(c);
        fm_free(j);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot start a thread");
    }
    return FM_OK;
}

static fm_status add(fm_call *c) {
    return start(c, true);
}

static fm_status take_away(fm_call *c) {
    return start(c, false);
}

static fm_status reload(fm_call *c) {
    static const char text[] = "{\"status\":\"reloading\"}";
    atomic_store(&c->s->reload, true);
    fm_reply_text(c, 202, "application/json", text, sizeof text - 1);
    return FM_OK;
}

const fm_route fm_route_adapters = {.method = "GET", .path = "/admin/adapters", .admin = true, .handle = list};
const fm_route fm_route_adapter_add = {
    .method = "POST", .path = "/admin/adapters|/v1/load_lora_adapter", .admin = true, .handle = add};
const fm_route fm_route_adapter_remove = {
    .method = "POST", .path = "/admin/adapters/remove|/v1/unload_lora_adapter", .admin = true, .handle = take_away};
const fm_route fm_route_reload = {
    .method = "POST", .path = "/admin/reload", .admin = true, .body_optional = true, .handle = reload};
