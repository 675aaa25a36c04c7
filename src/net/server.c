/* The only file that knows libmicrohttpd. See server.h. */
#include "net/server.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#ifdef FM_HAVE_MICROHTTPD

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/dynlib.h"
#include "base/file.h"

#define FUNCTIONS(X)                                                                                                   \
    X(MHD_start_daemon)                                                                                                \
    X(MHD_stop_daemon)                                                                                                 \
    X(MHD_quiesce_daemon)                                                                                              \
    X(MHD_suspend_connection)                                                                                          \
    X(MHD_resume_connection)                                                                                           \
    X(MHD_create_response_from_buffer)                                                                                 \
    X(MHD_create_response_from_callback)                                                                               \
    X(MHD_add_response_header)                                                                                         \
    X(MHD_queue_response)                                                                                              \
    X(MHD_destroy_response)                                                                                            \
    X(MHD_lookup_connection_value)                                                                                     \
    X(MHD_get_connection_info)

static struct {
    void *lib;
#define FM_X(name) __typeof__(&name) name;
    FUNCTIONS(FM_X)
#undef FM_X
} mhd;

#define MAX_HEADERS  8
#define CONNECTION_K 32 /* KiB that parsing one request may take: headers are limited by it */
#define PIECE        16384
#define WATCH_MS     100

typedef struct header {
    char name[48], value[464];
} header;

struct fm_exchange {
    atomic_int uses;
    struct MHD_Connection *connection; /* not after `gone` */
    fm_exchange *prev, *next;          /* of the server's list */
    int fd;
    size_t max_unsent;
    char *method, *path;
    char peer[64];
    fm_str body;
    bool too_large, handled;

    pthread_mutex_t lock; /* of what follows */
    header *headers;      /* [n_headers] of the answer */
    int n_headers;
    int code;
    char type[96];
    fm_str out;
    size_t sent;                  /* of out */
    bool begun, ended, whole;     /* whole: with a length, not in pieces */
    bool resting;                 /* the connection is suspended */
    bool dead;                    /* the client is gone, or shall be */
    bool gone;                    /* the connection is no more */
    void (*on_close)(void *user); /* until it was called */
    void *user;
};

/* A connection that has not brought a whole request since `since`. */
typedef struct waiting {
    struct waiting *prev, *next;
    int fd;
    double since; /* 0: a request is being answered */
    bool cut;
    int gone; /* rounds in which it was seen closed */
} waiting;

struct fm_server {
    struct MHD_Daemon *daemon;
    int listen_fd, port;
    fm_server_options o;
    pthread_t watcher;
    pthread_mutex_t lock; /* of the list */
    fm_exchange *first;
    waiting *waiting; /* all connections */
    int n_open;
    atomic_bool stopping;
};

static fm_status open_library(void) {
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    static const fm_dynlib_entry entries[] = {
#define FM_X(name) {&mhd.name, #name},
        FUNCTIONS(FM_X)
#undef FM_X
    };
    pthread_mutex_lock(&once);
    fm_status s = mhd.lib ? FM_OK
                          : fm_dynlib_open(&mhd.lib, "libmicrohttpd.so.12|libmicrohttpd.so", "libmicrohttpd12", entries,
                                           FM_ARRAY_LEN(entries));
    pthread_mutex_unlock(&once);
    return s;
}

/* ---- exchanges ------------------------------------------------------------------------------- */

void fm_exchange_keep(fm_exchange *x) {
    atomic_fetch_add(&x->uses, 1);
}

void fm_exchange_release(fm_exchange *x) {
    if (atomic_fetch_sub(&x->uses, 1) != 1) {
        return;
    }
    pthread_mutex_destroy(&x->lock);
    fm_free(x->method);
    fm_free(x->path);
    fm_free(x->headers);
    fm_str_free(&x->body);
    fm_str_free(&x->out);
    fm_free(x);
}

static fm_exchange *exchange_new(fm_server *s, struct MHD_Connection *connection, const char *method,
                                 const char *path) {
    fm_exchange *x = fm_calloc(1, sizeof *x);
    if (!x) {
        return NULL;
    }
    x->method = fm_strdup(method);
    x->path = fm_strdup(path);
    if (!x->method || !x->path) {
        fm_free(x->method);
        fm_free(x->path);
        fm_free(x);
        return NULL;
    }
    atomic_init(&x->uses, 1);
    pthread_mutex_init(&x->lock, NULL);
    x->max_unsent = s->o.max_unsent;
    x->connection = connection;
    const union MHD_ConnectionInfo *fd = mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *addr = mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    x->fd = fd ? fd->connect_fd : -1;
    if (addr && addr->client_addr) {
        const struct sockaddr *a = addr->client_addr;
        socklen_t len = a->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
        if (getnameinfo(a, len, x->peer, sizeof x->peer, NULL, 0, NI_NUMERICHOST) != 0) {
            x->peer[0] = '\0';
        }
    }
    pthread_mutex_lock(&s->lock);
    x->next = s->first;
    if (x->next) {
        x->next->prev = x;
    }
    s->first = x;
    s->n_open++;
    pthread_mutex_unlock(&s->lock);
    return x;
}

static void leave_list(fm_server *s, fm_exchange *x) {
    pthread_mutex_lock(&s->lock);
    if (x->prev) {
        x->prev->next = x->next;
    } else {
        s->first = x->next;
    }
    if (x->next) {
        x->next->prev = x->prev;
    }
    s->n_open--;
    pthread_mutex_unlock(&s->lock);
}

/* With the lock held: lets the connection go on. */
static void wake(fm_exchange *x) {
    if (x->resting && !x->gone) {
        x->resting = false;
        mhd.MHD_resume_connection(x->connection);
    }
}

/* The client is gone or must go. The callback runs without the lock. */
static void kill_exchange(fm_exchange *x) {
    pthread_mutex_lock(&x->lock);
    void (*fn)(void *user) = x->dead || x->ended ? NULL : x->on_close;
    x->on_close = NULL;
    x->dead = true;
    wake(x);
    pthread_mutex_unlock(&x->lock);
    if (fn) {
        fn(x->user);
    }
}

const char *fm_exchange_method(const fm_exchange *x) {
    return x->method;
}

const char *fm_exchange_path(const fm_exchange *x) {
    return x->path;
}

const char *fm_exchange_header(const fm_exchange *x, const char *name) {
    return mhd.MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

const char *fm_exchange_query(const fm_exchange *x, const char *name) {
    return mhd.MHD_lookup_connection_value(x->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *fm_exchange_body(const fm_exchange *x, size_t *n) {
    *n = x->body.len;
    return x->body.data ? x->body.data : "";
}

const char *fm_exchange_peer(const fm_exchange *x) {
    return x->peer;
}

bool fm_exchange_too_large(const fm_exchange *x) {
    return x->too_large;
}

void fm_exchange_on_close(fm_exchange *x, void (*fn)(void *user), void *user) {
    pthread_mutex_lock(&x->lock);
    x->on_close = fn;
    x->user = user;
    pthread_mutex_unlock(&x->lock);
}

bool fm_exchange_off_close(fm_exchange *x) {
    pthread_mutex_lock(&x->lock);
    bool was = x->on_close != NULL;
    x->on_close = NULL;
    pthread_mutex_unlock(&x->lock);
    return was;
}

void fm_exchange_add_header(fm_exchange *x, const char *name, const char *value) {
    if (strlen(name) >= sizeof x->headers->name || strlen(value) >= sizeof x->headers->value ||
        strpbrk(value, "\r\n")) {
        return;
    }
    pthread_mutex_lock(&x->lock);
    if (!x->headers) {
        x->headers = fm_calloc(MAX_HEADERS, sizeof *x->headers);
    }
    if (x->headers && x->n_headers < MAX_HEADERS) {
        header *h = &x->headers[x->n_headers++];
        snprintf(h->name, sizeof h->name, "%s", name);
        snprintf(h->value, sizeof h->value, "%s", value);
    }
    pthread_mutex_unlock(&x->lock);
}

void fm_exchange_reply(fm_exchange *x, int code, const char *type, const void *data, size_t n) {
    pthread_mutex_lock(&x->lock);
    FM_ASSERT(!x->begun);
    x->code = code;
    snprintf(x->type, sizeof x->type, "%s", type);
    fm_str_append(&x->out, data, n);
    x->begun = x->ended = x->whole = true;
    wake(x);
    pthread_mutex_unlock(&x->lock);
}

void fm_exchange_begin(fm_exchange *x, int code, const char *type) {
    pthread_mutex_lock(&x->lock);
    FM_ASSERT(!x->begun);
    x->code = code;
    snprintf(x->type, sizeof x->type, "%s", type);
    x->begun = true;
    wake(x);
    pthread_mutex_unlock(&x->lock);
}

bool fm_exchange_send(fm_exchange *x, const void *data, size_t n) {
    pthread_mutex_lock(&x->lock);
    bool slow = x->out.len - x->sent + n > x->max_unsent, ok = !x->dead && !slow;
    if (ok) {
        fm_str_append(&x->out, data, n);
        ok = !x->out.failed;
        wake(x);
    }
    bool was_dead = x->dead;
    pthread_mutex_unlock(&x->lock);
    if (!ok && !was_dead) {
        kill_exchange(x);
    }
    return ok;
}

void fm_exchange_end(fm_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->ended = true;
    wake(x);
    pthread_mutex_unlock(&x->lock);
}

/* ---- libmicrohttpd --------------------------------------------------------------------------- */

/* With the lock held, on the server's thread: until there is more to do. */
static void rest(fm_exchange *x) {
    x->resting = true;
    mhd.MHD_suspend_connection(x->connection);
}

static ssize_t read_answer(void *cls, uint64_t pos, char *buf, size_t max) {
    FM_UNUSED(pos);
    fm_exchange *x = cls;
    ssize_t r = 0;
    pthread_mutex_lock(&x->lock);
    size_t have = x->out.len - x->sent;
    if (x->dead || x->out.failed) {
        r = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (have > 0) {
        size_t n = FM_MIN(have, max);
        memcpy(buf, x->out.data + x->sent, n);
        x->sent += n;
        if (x->sent == x->out.len) {
            fm_str_clear(&x->out);
            x->sent = 0;
        }
        r = (ssize_t)n;
    } else if (x->ended) {
        r = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        rest(x);
    }
    pthread_mutex_unlock(&x->lock);
    return r;
}

static void answer_done(void *cls) {
    fm_exchange_release(cls);
}

/* With the lock held. */
static enum MHD_Result queue(fm_exchange *x) {
    struct MHD_Response *r;
    if (x->dead || x->out.failed) {
        return MHD_NO;
    }
    if (x->whole) {
        r = mhd.MHD_create_response_from_buffer(x->out.len, x->out.data, MHD_RESPMEM_MUST_COPY);
    } else {
        fm_exchange_keep(x);
        r = mhd.MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE, read_answer, x, answer_done);
        if (!r) {
            fm_exchange_release(x);
        }
    }
    if (!r) {
        return MHD_NO;
    }
    bool ok = mhd.MHD_add_response_header(r, "Content-Type", x->type) == MHD_YES;
    for (int i = 0; i < x->n_headers && ok; i++) {
        ok = mhd.MHD_add_response_header(r, x->headers[i].name, x->headers[i].value) == MHD_YES;
    }
    enum MHD_Result result = ok ? mhd.MHD_queue_response(x->connection, (unsigned)x->code, r) : MHD_NO;
    mhd.MHD_destroy_response(r);
    return result;
}

static void wait_since(fm_server *s, struct MHD_Connection *connection, double since);

static bool announced_too_large(const fm_server *s, const fm_exchange *x) {
    const char *length = fm_exchange_header(x, "Content-Length");
    return length && strtoull(length, NULL, 10) > s->o.max_body;
}

/* Called with the headers, with pieces of the body, and once more; and again after each rest. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *n_data, void **state) {
    FM_UNUSED(version);
    fm_server *s = cls;
    fm_exchange *x = *state;
    if (!x) {
        x = exchange_new(s, connection, method, url);
        *state = x;
        if (!x) {
            return MHD_NO;
        }
        if (!announced_too_large(s, x)) {
            return MHD_YES;
        }
        x->too_large = true; /* answered now, the connection is closed unread */
    } else if (*n_data > 0) {
        if (x->body.len + *n_data > s->o.max_body) {
            return MHD_NO; /* in pieces of no announced length: no answer is possible in the midst of them */
        }
        fm_str_append(&x->body, data, *n_data);
        *n_data = 0;
        return x->body.failed ? MHD_NO : MHD_YES;
    }
    if (!x->handled) {
        x->handled = true;
        wait_since(s, connection, 0);
        s->o.handle(s->o.user, x);
    }
    pthread_mutex_lock(&x->lock);
    enum MHD_Result r = MHD_YES;
    if (x->begun || x->dead) {
        r = queue(x);
    } else {
        rest(x);
    }
    pthread_mutex_unlock(&x->lock);
    return r;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code) {
    fm_exchange *x = *state;
    if (!x) {
        return;
    }
    wait_since(cls, connection, fm_now());
    *state = NULL;
    leave_list(cls, x);
    pthread_mutex_lock(&x->lock);
    x->gone = true;
    pthread_mutex_unlock(&x->lock);
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        kill_exchange(x);
    }
    fm_exchange_release(x);
}

static void on_log(void *cls, const char *fmt, va_list ap) {
    FM_UNUSED(cls);
    FM_UNUSED(fmt);
    FM_UNUSED(ap);
}

/* ---- clients that take their time ------------------------------------------------------------- */

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code) {
    fm_server *s = cls;
    waiting *w = *context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *fd = mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        w = *context = fd ? fm_calloc(1, sizeof *w) : NULL;
        if (w) { /* without memory for it a connection lives on, with the idle time as its limit */
            *w = (waiting){.fd = fd->connect_fd, .since = fm_now()};
            pthread_mutex_lock(&s->lock);
            w->next = s->waiting;
            if (w->next) {
                w->next->prev = w;
            }
            s->waiting = w;
            pthread_mutex_unlock(&s->lock);
        }
    } else if (w) {
        pthread_mutex_lock(&s->lock);
        *(w->prev ? &w->prev->next : &s->waiting) = w->next;
        if (w->next) {
            w->next->prev = w->prev;
        }
        pthread_mutex_unlock(&s->lock);
        fm_free(w);
        *context = NULL;
    }
}

/* since 0: a whole request has come. */
static void wait_since(fm_server *s, struct MHD_Connection *connection, double since) {
    const union MHD_ConnectionInfo *i = mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    waiting *w = i ? i->socket_context : NULL;
    if (w) {
        pthread_mutex_lock(&s->lock);
        w->since = since;
        pthread_mutex_unlock(&s->lock);
    }
}

static void cut_slow(fm_server *s) {
    double now = fm_now();
    pthread_mutex_lock(&s->lock);
    for (waiting *w = s->waiting; w; w = w->next) {
        if (w->since > 0 && now - w->since > s->o.read_s && !w->cut) {
            w->cut = true;
            (void)shutdown(w->fd, SHUT_RDWR); /* its end is then noticed and notified like any other */
        }
    }
    pthread_mutex_unlock(&s->lock);
}

/* A client that went away in the middle of its request: its end came together with what it had sent, so no new event
 * tells libmicrohttpd of it, and the connection would stay until the time limit. Seen twice, with nothing left to read,
 * it is cut. */
static void cut_gone(fm_server *s) {
    pthread_mutex_lock(&s->lock);
    for (waiting *w = s->waiting; w; w = w->next) {
        struct pollfd p = {.fd = w->fd, .events = POLLRDHUP};
        int unread = 0;
        if (w->cut || w->since <= 0) {
            w->gone = 0;
            continue;
        }
        bool over = poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) &&
                    ioctl(w->fd, FIONREAD, &unread) == 0 && unread == 0;
        w->gone = over ? w->gone + 1 : 0;
        if (w->gone > 1) {
            w->cut = true;
            (void)shutdown(w->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- clients that go away while their connection rests --------------------------------------- */

#define WATCH_AT_ONCE 256

/* Looks at the resting exchanges of the list, WATCH_AT_ONCE at a time. */
static void watch_round(fm_server *s) {
    struct pollfd fds[WATCH_AT_ONCE];
    fm_exchange *kept[WATCH_AT_ONCE];
    int from = 0, n;
    do {
        int at = 0;
        n = 0;
        pthread_mutex_lock(&s->lock);
        for (fm_exchange *x = s->first; x && n < WATCH_AT_ONCE; x = x->next, at++) {
            if (at < from) {
                continue;
            }
            pthread_mutex_lock(&x->lock);
            bool look = x->resting && !x->gone && x->fd >= 0;
            pthread_mutex_unlock(&x->lock);
            if (look) {
                fm_exchange_keep(x);
                kept[n] = x;
                fds[n++] = (struct pollfd){.fd = x->fd, .events = POLLRDHUP};
            }
            from = at + 1;
        }
        pthread_mutex_unlock(&s->lock);
        int ready = n > 0 ? poll(fds, (nfds_t)n, 0) : 0;
        for (int i = 0; i < n; i++) {
            if (ready > 0 && fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) {
                /* The number may be another connection's by now, unless it still rests. */
                pthread_mutex_lock(&kept[i]->lock);
                bool same = kept[i]->resting && !kept[i]->gone;
                pthread_mutex_unlock(&kept[i]->lock);
                if (same) {
                    kill_exchange(kept[i]);
                }
            }
            fm_exchange_release(kept[i]);
        }
    } while (n == WATCH_AT_ONCE);
}

static void *watch(void *arg) {
    fm_server *s = arg;
    while (!atomic_load(&s->stopping)) {
        (void)poll(NULL, 0, WATCH_MS);
        watch_round(s);
        cut_slow(s);
        cut_gone(s);
    }
    return NULL;
}

/* ---- server ---------------------------------------------------------------------------------- */

static void find_port(fm_server *s) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at = {.v6 = {0}};
    socklen_t len = sizeof at;
    if (getsockname(s->listen_fd, &at.any, &len) == 0) {
        s->port = ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
    }
}

static fm_status take_over(fm_server *s, int fd) {
    int listens = 0;
    socklen_t len = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) != 0 || !listens) {
        FM_FAIL(FM_ERR_ARGUMENT, "file %d is no listening socket", fd);
    }
    s->listen_fd = fd;
    find_port(s);
    return FM_OK;
}

static fm_status listen_on(fm_server *s, const char *host, int port) {
    char service[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    snprintf(service, sizeof service, "%d", port);
    int rc = getaddrinfo(host && *host ? host : NULL, service, &hints, &list);
    if (rc != 0) {
        FM_FAIL(FM_ERR_IO, "host %s: %s", host, gai_strerror(rc));
    }
    int error = 0;
    for (struct addrinfo *a = list; a && s->listen_fd < 0; a = a->ai_next) {
        int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol), one = 1;
        if (fd < 0) {
            error = errno;
            continue;
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 1024) == 0) {
            s->listen_fd = fd;
        } else {
            error = errno;
            close(fd);
        }
    }
    freeaddrinfo(list);
    if (s->listen_fd < 0) {
        (void)fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot listen on %s port %d: %s", host, port,
                           strerror(error));
        return error == EADDRINUSE ? fm_error_hint("another program has this port; choose one with --port") : FM_ERR_IO;
    }
    find_port(s);
    return FM_OK;
}

static fm_status start_daemon(fm_server *s, const fm_server_options *o) {
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    /* nothing is kept: these options are read while it starts */
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)o->cert},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)o->key},
                                   {MHD_OPTION_END, 0, NULL}};
    flags |= o->cert ? MHD_USE_TLS : 0;
    s->daemon = mhd.MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET,
        s->listen_fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(o->max_connections > 0 ? o->max_connections : 4096),
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(o->idle_s > 0 ? o->idle_s : 60), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_K * 1024, MHD_OPTION_ARRAY, o->cert ? tls : tls + 2, MHD_OPTION_END);
    if (!s->daemon) {
        FM_FAIL(FM_ERR_IO, "the HTTP server does not start%s",
                o->cert ? ": are the certificate and its key a pair of PEM files?" : "");
    }
    return FM_OK;
}

fm_status fm_server_start(fm_server **out, const fm_server_options *o) {
    *out = NULL;
    FM_TRY(open_library());
    fm_server *s = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a server");
    }
    s->o = *o;
    s->o.host = s->o.cert = s->o.key = NULL;
    s->o.max_body = o->max_body > 0 ? o->max_body : (size_t)8 << 20;
    s->o.max_unsent = o->max_unsent > 0 ? o->max_unsent : (size_t)1 << 20;
    s->o.read_s = o->read_s > 0 ? o->read_s : 60;
    s->listen_fd = -1;
    atomic_init(&s->stopping, false);
    pthread_mutex_init(&s->lock, NULL);
    fm_status st = o->listen_fd > 0 ? take_over(s, o->listen_fd) : listen_on(s, o->host, o->port);
    st = st == FM_OK ? start_daemon(s, o) : st;
    if (st == FM_OK && pthread_create(&s->watcher, NULL, watch, s) != 0) {
        mhd.MHD_stop_daemon(s->daemon);
        s->daemon = NULL;
        st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot start a thread of the HTTP server");
    }
    if (st != FM_OK) {
        if (s->listen_fd >= 0) {
            close(s->listen_fd);
        }
        pthread_mutex_destroy(&s->lock);
        fm_free(s);
        return st;
    }
    *out = s;
    return FM_OK;
}

int fm_server_listen_fd(const fm_server *s) {
    return s->listen_fd;
}

int fm_server_connections(fm_server *s) {
    int n = 0;
    pthread_mutex_lock(&s->lock);
    for (const waiting *w = s->waiting; w; w = w->next) {
        n++;
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

int fm_server_port(const fm_server *s) {
    return s->port;
}

void fm_server_stop_listening(fm_server *s) {
    if (s->listen_fd >= 0) {
        (void)mhd.MHD_quiesce_daemon(s->daemon);
        close(s->listen_fd);
        s->listen_fd = -1;
    }
}

int fm_server_open(fm_server *s) {
    pthread_mutex_lock(&s->lock);
    int n = s->n_open;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* All resting connections wake up and find themselves dead. */
static void kill_all(fm_server *s) {
    for (;;) {
        fm_exchange *found = NULL;
        pthread_mutex_lock(&s->lock);
        for (fm_exchange *x = s->first; x && !found; x = x->next) {
            pthread_mutex_lock(&x->lock);
            if (x->resting && !x->dead) {
                fm_exchange_keep(x);
                found = x;
            }
            pthread_mutex_unlock(&x->lock);
        }
        pthread_mutex_unlock(&s->lock);
        if (!found) {
            return;
        }
        kill_exchange(found);
        fm_exchange_release(found);
    }
}

void fm_server_free(fm_server *s) {
    if (!s) {
        return;
    }
    fm_server_stop_listening(s);
    atomic_store(&s->stopping, true);
    pthread_join(s->watcher, NULL);
    /* A connection must not rest when the library ends; one that is just being handled may lie down once more. */
    for (int i = 0; i < 100 && fm_server_open(s) > 0; i++) {
        kill_all(s);
        (void)poll(NULL, 0, 5);
    }
    mhd.MHD_stop_daemon(s->daemon);
    pthread_mutex_destroy(&s->lock);
    fm_free(s);
}

#endif
