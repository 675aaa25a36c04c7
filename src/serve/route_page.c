/* GET / and /ui/NAME: the web page. It loads nothing from elsewhere, and the browser is told to let it load nothing. */
#include <string.h>

#include "serve/serve.h"
#include "serve/web_files.h"

/* Styles may stand in a page because reports of runs, shown in a frame without scripts, bring their own. */
static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'";

static const char *type_of(const char *name) {
    const char *end = strrchr(name, '.');
    return !end                        ? "application/octet-stream"
           : strcmp(end, ".html") == 0 ? "text/html; charset=utf-8"
           : strcmp(end, ".css") == 0  ? "text/css; charset=utf-8"
                                       : "text/javascript; charset=utf-8";
}

static fm_status handle(fm_call *c) {
    const char *path = fm_exchange_path(c->x), *name = strcmp(path, "/") == 0 ? "index.html" : path + strlen("/ui/");
    for (int i = 0; i < fm_n_web_files && !c->s->o.no_page; i++) {
        const fm_web_file *f = &fm_web_files[i];
        if (strcmp(f->name, name) == 0) {
            fm_exchange_add_header(c->x, "Content-Security-Policy", policy);
            fm_exchange_add_header(c->x, "X-Content-Type-Options", "nosniff");
            fm_exchange_add_header(c->x, "Referrer-Policy", "no-referrer");
            fm_exchange_add_header(c->x, "Cache-Control", "no-cache");
            fm_reply_text(c, 200, type_of(name), (const char *)f->data, f->n);
            return FM_OK;
        }
    }
    fm_reply_error(c, 404, NULL, NULL, "there is no such path");
    return FM_OK;
}

const fm_route fm_route_page = {.method = "GET", .path = "/|/ui/*", .open = true, .handle = handle};
