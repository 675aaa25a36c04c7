/* HTTP server over libmicrohttpd, which is opened at run time: connections, parsing, limits, TLS. It knows nothing of
 * what is served: each complete request becomes an exchange and goes to one function.
 *
 * An exchange is answered at once by fm_exchange_reply, or later and in pieces by any thread: begin, send ..., end.
 * While there is nothing to send its connection rests and costs no thread. A client that goes away is noticed within
 * about a tenth of a second, also while it only waits. */
#ifndef FM_NET_SERVER_H
#define FM_NET_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_server fm_server;
typedef struct fm_exchange fm_exchange;

typedef struct fm_server_options {
    const char *host;       /* "127.0.0.1", "::", a name */
    int port;               /* 0: any free one */
    int listen_fd;          /* a listening socket to take over in place of these; 0 = none */
    const char *cert, *key; /* PEM text for TLS, or NULL */
    size_t max_body;        /* bytes; a longer body is refused before it is read when its length is announced */
    size_t max_unsent;      /* bytes of an answer that may wait for a slow client; then the connection is closed */
    int max_connections, idle_s;
    int read_s; /* longest time for a request to arrive, 60: who sends a byte now and then holds no connection */
    /* Called on the server's thread when a request is complete; must not block. The exchange is the callee's to keep
     * (fm_exchange_keep) until it has answered. */
    void (*handle)(void *user, fm_exchange *x);
    void *user;
} fm_server_options;

/* FM_ERR_UNSUPPORTED when libmicrohttpd is not there; FM_ERR_IO when the address is taken. Strings are copied. */
FM_MUST_CHECK fm_status fm_server_start(fm_server **out, const fm_server_options *o);
int fm_server_port(const fm_server *s);
int fm_server_listen_fd(const fm_server *s); /* -1 when it listens no longer */
int fm_server_connections(fm_server *s);
void fm_server_stop_listening(fm_server *s); /* what is open goes on */
int fm_server_open(fm_server *s);            /* exchanges not yet answered or sent */
/* Closes what is open. Exchanges that are kept stay valid, what they send goes nowhere. */
void fm_server_free(fm_server *s);

const char *fm_exchange_method(const fm_exchange *x);
const char *fm_exchange_path(const fm_exchange *x);
const char *fm_exchange_header(const fm_exchange *x, const char *name); /* NULL when missing; in `handle` only */
const char *fm_exchange_query(const fm_exchange *x, const char *name);  /* the same */
const char *fm_exchange_body(const fm_exchange *x, size_t *n);          /* NUL-terminated */
const char *fm_exchange_peer(const fm_exchange *x);                     /* address without port */
bool fm_exchange_too_large(const fm_exchange *x);                       /* the body was refused */

void fm_exchange_keep(fm_exchange *x);
void fm_exchange_release(fm_exchange *x);
/* Called once when the client goes away before the end of the answer, on another thread; after fm_exchange_keep. */
void fm_exchange_on_close(fm_exchange *x, void (*fn)(void *user), void *user);
/* Takes it back; false when it was called already, or is being called. */
bool fm_exchange_off_close(fm_exchange *x);
/* A header of the answer, before it begins. Names are those of HTTP, values without line breaks. */
void fm_exchange_add_header(fm_exchange *x, const char *name, const char *value);
/* The whole answer. */
void fm_exchange_reply(fm_exchange *x, int code, const char *type, const void *data, size_t n);
/* An answer in pieces. send returns false when the client is gone or too slow. */
void fm_exchange_begin(fm_exchange *x, int code, const char *type);
bool fm_exchange_send(fm_exchange *x, const void *data, size_t n);
void fm_exchange_end(fm_exchange *x);

#endif
