/* Rows over HTTP. The server's thread checks keys and limits and puts requests into a queue; one thread takes what has
 * gathered there, writes all of it, waits once for the disk, and answers: the more there is to do, the more rows share
 * a wait. A full queue is answered 503 with Retry-After, before anything is read from it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/append.h"
#include "data/ingest_rows.h"
#include "fathom/crawl.h"
#include "net/keys.h"
#include "net/server.h"

#define AT_ONCE 256 /* requests that share a wait for the disk */

#define O(name) offsetof(fm_ingest_options, name)
static const fm_option table[] = {
    {"output", FM_OPT_STR, O(output), NULL, 0, 0, NULL, "o", "DIR", "Folder for the rows."},
    {"host", FM_OPT_STR, O(host), "127.0.0.1", 0, 0, NULL, NULL, "ADDRESS",
     "Address to listen on; 0.0.0.0 = all of this machine's."},
    {"port", FM_OPT_INT, O(port), "8090", 0, 65535, NULL, NULL, NULL, "0 = a free one."},
    {"require", FM_OPT_LIST, O(require), NULL, 0, 0, NULL, NULL, "COLUMN", "Refuse rows without this column."},
    {"api_key_file", FM_OPT_STR, O(api_key_file), NULL, 0, 0, NULL, NULL, "FILE",
     "Keys, one a line, with names and requests_per_minute; requests need one of them then."},
    {"tls_cert", FM_OPT_STR, O(tls_cert), NULL, 0, 0, NULL, NULL, "FILE", "Certificate chain (PEM)."},
    {"tls_key", FM_OPT_STR, O(tls_key), NULL, 0, 0, NULL, NULL, "FILE", "Its private key (PEM)."},
    {"max_body", FM_OPT_BYTES, O(max_body), "32MiB", 1024, 1e9, NULL, NULL, NULL, "Largest request, also unpacked."},
    {"max_row_bytes", FM_OPT_BYTES, O(max_row_bytes), "16MiB", 1, 1e9, NULL, NULL, NULL, "Longest row."},
    {"max_queue", FM_OPT_INT, O(max_queue), "256", 1, 1e6, NULL, NULL, NULL,
     "Requests that may wait; more are answered 503."},
    {"max_queue_bytes", FM_OPT_BYTES, O(max_queue_bytes), "256MiB", 1024, 1e12, NULL, NULL, NULL, "The same in bytes."},
    {"max_connections", FM_OPT_INT, O(max_connections), "1024", 1, 1e6, NULL, NULL, NULL, "Connections at once."},
    {"shard_bytes", FM_OPT_BYTES, O(shard_bytes), "256MiB", 1, 1e13, NULL, NULL, NULL, "Size of one file."},
    {"rotate_s", FM_OPT_FLOAT, O(rotate_s), "3600", 0, 1e9, NULL, NULL, "SECONDS",
     "A file is also closed when its first row is so old; 0 = only when it is full."},
    {0},
};
#undef O

const fm_option *fm_ingest_option_table(void) {
    return table;
}

typedef struct waiting {
    fm_exchange *x;
    fm_ingest_kind kind;
    bool gzip, strict;
    size_t bytes;
} waiting;

struct fm_ingest {
    const fm_ingest_options *o;
    fm_server *server;
    fm_keys *keys;
    fm_append *out; /* of the writer, and of the end */
    pthread_t writer;
    bool has_writer;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t came;
    waiting *queue; /* ring [max_queue] */
    size_t first, n;
    int64_t bytes;
    bool ending;
    fm_ingest_stats stats;
    double start_s;
    fm_status failed; /* of the last write; FM_OK again when one succeeds */
};

static void reply_json(fm_exchange *x, int code, fm_str *json) {
    static const char oom[] = "{\"error\":\"out of memory\"}\n";
    if (json->failed || !json->data) {
        fm_exchange_reply(x, 503, "application/json", oom, sizeof oom - 1);
    } else {
        fm_exchange_reply(x, code, "application/json", json->data, json->len);
    }
    fm_str_free(json);
}

static void reply_error(fm_exchange *x, int code, const char *message) {
    fm_str json = {0};
    fm_str_puts(&json, "{\"error\":");
    fm_str_json(&json, message, strlen(message));
    fm_str_puts(&json, "}\n");
    reply_json(x, code, &json);
}

/* ---- the server's thread ------------------------------------------------------------------------ */

static void count(fm_ingest *g, int64_t *what) {
    pthread_mutex_lock(&g->lock);
    (*what)++;
    pthread_mutex_unlock(&g->lock);
}

/* True when the request may go on. */
static bool check_key(fm_ingest *g, fm_exchange *x) {
    const char *auth = fm_exchange_header(x, "Authorization"), *text = NULL;
    double wait;
    char seconds[32];
    if (!g->keys) {
        return true;
    }
    if (auth && strncasecmp(auth, "Bearer ", 7) == 0) {
        text = auth + 7 + strspn(auth + 7, " ");
    }
    fm_key *key = text ? fm_keys_find(g->keys, text) : NULL;
    if (!key) {
        count(g, &g->stats.n_denied);
        fm_exchange_add_header(x, "WWW-Authenticate", "Bearer");
        reply_error(x, 401, text ? "the key is not known here" : "a key is needed: Authorization: Bearer KEY");
        return false;
    }
    if (!fm_key_take(g->keys, key, fm_now(), &wait)) {
        count(g, &g->stats.n_denied);
        (void)snprintf(seconds, sizeof seconds, "%.0f", wait + 0.999);
        fm_exchange_add_header(x, "Retry-After", seconds);
        reply_error(x, 429, "more requests than this key may send in a minute");
        return false;
    }
    return true;
}

static void reply_stats(fm_ingest *g, fm_exchange *x) {
    fm_ingest_stats s;
    fm_str json = {0};
    fm_ingest_get_stats(g, &s);
    fm_str_printf(&json,
                  "{\"requests\":%lld,\"rows\":%lld,\"refused_rows\":%lld,\"bytes\":%lld,\"busy\":%lld,\"denied\":%lld,"
                  "\"waiting\":%lld,\"waiting_bytes\":%lld,\"files\":%lld,\"seconds\":%.1f}\n",
                  (long long)s.n_requests, (long long)s.n_rows, (long long)s.n_refused_rows, (long long)s.n_bytes,
                  (long long)s.n_busy, (long long)s.n_denied, (long long)s.n_waiting, (long long)s.waiting_bytes,
                  (long long)s.n_files, s.seconds);
    reply_json(x, 200, &json);
}

/* False when the queue is full. */
static bool enqueue(fm_ingest *g, const waiting *w) {
    pthread_mutex_lock(&g->lock);
    /* a request larger than the whole queue is taken when nothing else waits */
    bool room = g->n < (size_t)g->o->max_queue &&
                (g->n == 0 || g->bytes + (int64_t)w->bytes <= g->o->max_queue_bytes) && !g->ending;
    if (room) {
        fm_exchange_keep(w->x);
        g->queue[(g->first + g->n++) % (size_t)g->o->max_queue] = *w;
        g->bytes += (int64_t)w->bytes;
        pthread_cond_signal(&g->came);
    } else {
        g->stats.n_busy++;
    }
    pthread_mutex_unlock(&g->lock);
    return room;
}

static void handle(void *user, fm_exchange *x) {
    fm_ingest *g = user;
    const char *path = fm_exchange_path(x), *method = fm_exchange_method(x);
    const char *packed = fm_exchange_header(x, "Content-Encoding"), *strict = fm_exchange_query(x, "strict");
    waiting w = {.x = x};
    bool plain = !packed || strcasecmp(packed, "identity") == 0;
    w.gzip = packed && strcasecmp(packed, "gzip") == 0;
    w.strict = strict && strcmp(strict, "1") == 0;
    (void)fm_exchange_body(x, &w.bytes);
    if (strcmp(path, "/health") == 0) {
        fm_exchange_reply(x, 200, "application/json", "{\"status\":\"ok\"}\n", 16);
    } else if (strcmp(path, "/rows") != 0 && strcmp(path, "/stats") != 0) {
        reply_error(x, 404, "there are POST /rows, GET /stats, GET /health");
    } else if (!check_key(g, x)) {
        return;
    } else if (strcmp(path, "/stats") == 0) {
        reply_stats(g, x);
    } else if (strcmp(method, "POST") != 0 && strcmp(method, "PUT") != 0) {
        fm_exchange_add_header(x, "Allow", "POST");
        reply_error(x, 405, "rows are sent by POST");
    } else if (fm_exchange_too_large(x)) {
        reply_error(x, 413, "longer than max_body; send fewer rows at once");
    } else if (!plain && !w.gzip) {
        reply_error(x, 415, "Content-Encoding: gzip and identity are known");
    } else if (!fm_ingest_kind_of(&w.kind, fm_exchange_header(x, "Content-Type"))) {
        reply_error(x, 415, "known types: application/x-ndjson, application/json, text/csv, text/tab-separated-values");
    } else if (!enqueue(g, &w)) {
        fm_exchange_add_header(x, "Retry-After", "1");
        reply_error(x, 503, "the queue is full");
    }
}

/* ---- the writer's thread ------------------------------------------------------------------------ */

static size_t take(fm_ingest *g, waiting *batch) {
    size_t n = 0;
    while (g->n > 0 && n < AT_ONCE) {
        batch[n++] = g->queue[g->first];
        g->first = (g->first + 1) % (size_t)g->o->max_queue;
        g->n--;
    }
    return n;
}

/* code 0: not yet; otherwise nothing of the request is written. */
typedef struct answer {
    int code;
    fm_str json;
    int64_t n_rows, n_refused;
    fm_status status; /* of writing */
} answer;

static void put_answer(answer *a, const fm_ingest_rows *r, bool taken) {
    fm_str_clear(&a->json);
    fm_str_printf(&a->json, "{\"accepted\":%lld,\"refused\":%lld", (long long)(taken ? r->n_rows : 0),
                  (long long)(taken ? r->n_refused : r->n_rows + r->n_refused));
    if (r->bad) {
        fm_str_puts(&a->json, ",\"error\":");
        fm_str_json(&a->json, r->bad, strlen(r->bad));
    }
    fm_str_printf(&a->json, ",\"errors\":[%s]}\n", r->errors.data && r->errors.len ? r->errors.data : "");
}

/* Writes one request's rows; they are not on disk yet. */
static fm_status write_one(fm_ingest *g, fm_ingest_rows *r, const waiting *w, answer *a) {
    size_t n;
    const char *body = fm_exchange_body(w->x, &n);
    FM_TRY(fm_ingest_rows_read(r, w->kind, w->gzip, body, n, g->o));
    bool taken = !r->bad && !(w->strict && r->n_refused > 0) && (r->n_rows > 0 || r->n_refused == 0);
    put_answer(a, r, taken);
    a->code = taken ? 0 : r->bad ? 400 : 422;
    a->n_refused = taken ? r->n_refused : r->n_rows + r->n_refused;
    if (taken && r->n_rows > 0) {
        FM_TRY(fm_append_write(g->out, r->lines.data, r->lines.len));
        a->n_rows = r->n_rows;
    }
    return FM_OK;
}

static void finish_one(const waiting *w, answer *a) {
    if (a->status != FM_OK) {
        fm_exchange_add_header(w->x, "Retry-After", "10");
        reply_error(w->x, 503, "the rows could not be written");
        fm_str_free(&a->json);
    } else {
        reply_json(w->x, a->code ? a->code : 200, &a->json);
    }
    fm_exchange_release(w->x);
}

static void process(fm_ingest *g, fm_ingest_rows *r, const waiting *batch, answer *a, size_t n) {
    fm_append_place before = fm_append_at(g->out);
    fm_status s = FM_OK;
    int64_t rows = 0, refused = 0, bytes = 0;
    for (size_t i = 0; i < n; i++) {
        a[i] = (answer){0};
        a[i].status = write_one(g, r, &batch[i], &a[i]);
        s = s == FM_OK ? a[i].status : s;
    }
    fm_status synced = fm_append_sync(g->out);
    s = synced == FM_OK ? s : synced;
    if (s != FM_OK && g->failed == FM_OK) {
        fm_warn("rows behind byte %lld of file %lld: %s", (long long)before.bytes, (long long)before.file,
                fm_error_get().message);
    }
    fm_crash_point("ingest-synced");
    for (size_t i = 0; i < n; i++) {
        if (a[i].code == 0 && a[i].status == FM_OK) {
            a[i].status = synced;
        }
        rows += a[i].status == FM_OK ? a[i].n_rows : 0;
        refused += a[i].n_refused;
        bytes += (int64_t)batch[i].bytes;
        finish_one(&batch[i], &a[i]);
    }
    pthread_mutex_lock(&g->lock);
    g->failed = s;
    g->stats.n_requests += (int64_t)n;
    g->stats.n_rows += rows;
    g->stats.n_refused_rows += refused;
    g->stats.n_bytes += bytes;
    g->bytes -= bytes;
    g->stats.n_files = fm_append_files(g->out);
    pthread_mutex_unlock(&g->lock);
}

static void *write_rows(void *arg) {
    fm_ingest *g = arg;
    fm_ingest_rows rows = {0};
    waiting batch[AT_ONCE];
    answer answers[AT_ONCE];
    bool ending = false;
    while (!ending) {
        pthread_mutex_lock(&g->lock);
        int64_t ms = fm_unix_ms() + 1000;
        struct timespec until = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        int rc = 0;
        while (g->n == 0 && !g->ending && rc == 0) {
            rc = pthread_cond_timedwait(&g->came, &g->lock, &until);
        }
        size_t n = take(g, batch);
        ending = g->ending && n == 0;
        pthread_mutex_unlock(&g->lock);
        if (n > 0) {
            process(g, &rows, batch, answers, n);
        } else if (!ending && fm_append_sync(g->out) != FM_OK) { /* files get old also when nothing comes */
            fm_warn("%s", fm_error_get().message);
        }
    }
    fm_ingest_rows_free(&rows);
    return NULL;
}

/* ---- begin and end ------------------------------------------------------------------------------- */

static fm_status start_server(fm_ingest *g) {
    const fm_ingest_options *o = g->o;
    char *cert = NULL, *key = NULL;
    size_t n;
    fm_status s = FM_OK;
    if (!o->tls_cert != !o->tls_key) {
        FM_FAIL(FM_ERR_CONFIG, "TLS needs both tls_cert and tls_key");
    }
    s = o->tls_cert ? fm_file_read(&cert, &n, o->tls_cert, (size_t)1 << 20) : FM_OK;
    s = s == FM_OK && o->tls_key ? fm_file_read(&key, &n, o->tls_key, (size_t)1 << 20) : s;
    if (s == FM_OK) {
        fm_server_options so = {.host = o->host,
                                .port = (int)o->port,
                                .cert = cert,
                                .key = key,
                                .max_body = (size_t)o->max_body,
                                .max_unsent = (size_t)1 << 20,
                                .max_connections = (int)o->max_connections,
                                .idle_s = 60,
                                .handle = handle,
                                .user = g};
        s = fm_server_start(&g->server, &so);
    }
    fm_free(cert);
    fm_free(key);
    return s;
}

static fm_status start(fm_ingest *g) {
    const fm_ingest_options *o = g->o;
    if (o->size != sizeof *o) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_ingest_options.size is %zu, expected %zu", o->size, sizeof *o);
    }
    if (!o->output || !*o->output) {
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "no output folder");
        return fm_error_hint("name it with --output DIR");
    }
    if (o->api_key_file) {
        FM_TRY(fm_keys_load(&g->keys, o->api_key_file));
    }
    g->queue = fm_calloc((size_t)o->max_queue, sizeof *g->queue);
    if (!g->queue) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a queue of %lld requests", (long long)o->max_queue);
    }
    fm_append_options ao = {.dir = o->output,
                            .prefix = "rows",
                            .suffix = ".jsonl",
                            .rotate_bytes = o->shard_bytes,
                            .rotate_s = o->rotate_s};
    FM_TRY(fm_append_open(&g->out, &ao, NULL));
    if (pthread_create(&g->writer, NULL, write_rows, g) != 0) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot start a thread");
    }
    g->has_writer = true;
    return start_server(g);
}

fm_status fm_ingest_new(fm_ingest **out, const fm_ingest_options *opt) {
    *out = NULL;
    fm_ingest *g = fm_calloc(1, sizeof *g);
    if (!g) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the ingest server");
    }
    g->o = opt;
    g->start_s = fm_now();
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->came, NULL);
    fm_status s = start(g);
    if (s != FM_OK) {
        fm_ingest_free(g);
        return s;
    }
    *out = g;
    return FM_OK;
}

int fm_ingest_port(const fm_ingest *g) {
    return fm_server_port(g->server);
}

void fm_ingest_get_stats(fm_ingest *g, fm_ingest_stats *out) {
    pthread_mutex_lock(&g->lock);
    *out = g->stats;
    out->n_waiting = (int64_t)g->n;
    out->waiting_bytes = g->bytes;
    out->seconds = fm_now() - g->start_s;
    pthread_mutex_unlock(&g->lock);
}

static void stop_writer(fm_ingest *g) {
    if (g->has_writer) {
        pthread_mutex_lock(&g->lock);
        g->ending = true;
        pthread_cond_signal(&g->came);
        pthread_mutex_unlock(&g->lock);
        pthread_join(g->writer, NULL);
        g->has_writer = false;
    }
}

fm_status fm_ingest_finish(fm_ingest *g) {
    fm_server_stop_listening(g->server);
    /* bodies that are on their way */
    for (int i = 0; i < 100 && fm_server_open(g->server) > 0; i++) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    stop_writer(g);
    for (int i = 0; i < 50 && fm_server_open(g->server) > 0; i++) { /* answers */
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return fm_append_finish(g->out);
}

void fm_ingest_free(fm_ingest *g) {
    if (!g) {
        return;
    }
    stop_writer(g);
    fm_server_free(g->server);
    fm_append_close(g->out);
    fm_keys_free(g->keys);
    fm_free(g->queue);
    pthread_cond_destroy(&g->came);
    pthread_mutex_destroy(&g->lock);
    fm_free(g);
}
