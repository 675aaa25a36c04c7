/* What server.h is in a build without libmicrohttpd. */
#include "base/error.h"
#include "net/server.h"

#ifndef FM_HAVE_MICROHTTPD

fm_status fm_server_start(fm_server **out, const fm_server_options *o) {
    FM_UNUSED(o);
    *out = NULL;
    (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "this build has no HTTP server");
    return fm_error_hint("install libmicrohttpd-dev and build again");
}
int fm_server_listen_fd(const fm_server *s) {
    FM_UNUSED(s);
    return -1;
}
int fm_server_connections(fm_server *s) {
    FM_UNUSED(s);
    return 0;
}
int fm_server_port(const fm_server *s) {
    FM_UNUSED(s);
    return 0;
}
void fm_server_stop_listening(fm_server *s) {
    FM_UNUSED(s);
}
int fm_server_open(fm_server *s) {
    FM_UNUSED(s);
    return 0;
}
void fm_server_free(fm_server *s) {
    FM_UNUSED(s);
}
const char *fm_exchange_method(const fm_exchange *x) {
    FM_UNUSED(x);
    return "";
}
const char *fm_exchange_path(const fm_exchange *x) {
    FM_UNUSED(x);
    return "";
}
const char *fm_exchange_header(const fm_exchange *x, const char *name) {
    FM_UNUSED(x);
    FM_UNUSED(name);
    return NULL;
}
const char *fm_exchange_query(const fm_exchange *x, const char *name) {
    FM_UNUSED(x);
    FM_UNUSED(name);
    return NULL;
}
const char *fm_exchange_body(const fm_exchange *x, size_t *n) {
    FM_UNUSED(x);
    *n = 0;
    return "";
}
const char *fm_exchange_peer(const fm_exchange *x) {
    FM_UNUSED(x);
    return "";
}
bool fm_exchange_too_large(const fm_exchange *x) {
    FM_UNUSED(x);
    return false;
}
void fm_exchange_keep(fm_exchange *x) {
    FM_UNUSED(x);
}
void fm_exchange_release(fm_exchange *x) {
    FM_UNUSED(x);
}
void fm_exchange_on_close(fm_exchange *x, void (*fn)(void *user), void *user) {
    FM_UNUSED(x);
    FM_UNUSED(fn);
    FM_UNUSED(user);
}
bool fm_exchange_off_close(fm_exchange *x) {
    FM_UNUSED(x);
    return false;
}
void fm_exchange_add_header(fm_exchange *x, const char *name, const char *value) {
    FM_UNUSED(x);
    FM_UNUSED(name);
    FM_UNUSED(value);
}
void fm_exchange_reply(fm_exchange *x, int code, const char *type, const void *data, size_t n) {
    FM_UNUSED(x);
    FM_UNUSED(code);
    FM_UNUSED(type);
    FM_UNUSED(data);
    FM_UNUSED(n);
}
void fm_exchange_begin(fm_exchange *x, int code, const char *type) {
    FM_UNUSED(x);
    FM_UNUSED(code);
    FM_UNUSED(type);
}
bool fm_exchange_send(fm_exchange *x, const void *data, size_t n) {
    FM_UNUSED(x);
    FM_UNUSED(data);
    FM_UNUSED(n);
    return false;
}
void fm_exchange_end(fm_exchange *x) {
    FM_UNUSED(x);
}

#else
extern int fm_server_is_real; /* a file of C needs something */
#endif
