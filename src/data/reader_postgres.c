/* PostgreSQL: the rows of a query. libpq is opened when it is needed. Each row comes as a JSON object that the server
 * makes, so that every type of column has a form; rows are fetched one by one inside a read-only transaction. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/dynlib.h"
#include "base/error.h"
#include "base/mem.h"
#include "data/reader.h"

static bool is_postgres(const char *path) {
    return strncmp(path, "postgresql://", 13) == 0 || strncmp(path, "postgres://", 11) == 0;
}

#ifdef FM_HAVE_PQ
#include <libpq-fe.h>

#define FUNCTIONS(X)                                                                                                   \
    X(PQconnectdb)                                                                                                     \
    X(PQstatus)                                                                                                        \
    X(PQerrorMessage)                                                                                                  \
    X(PQfinish)                                                                                                        \
    X(PQexec)                                                                                                          \
    X(PQsetClientEncoding)                                                                                             \
    X(PQsendQuery)                                                                                                     \
    X(PQsetSingleRowMode)                                                                                              \
    X(PQgetResult)                                                                                                     \
    X(PQresultStatus)                                                                                                  \
    X(PQresultErrorMessage)                                                                                            \
    X(PQntuples)                                                                                                       \
    X(PQgetvalue)                                                                                                      \
    X(PQgetlength)                                                                                                     \
    X(PQclear)

static struct {
    void *lib;
#define FM_X(name) __typeof__(&(name)) name;
    FUNCTIONS(FM_X)
#undef FM_X
} pq;

typedef struct source {
    PGconn *conn;
    size_t max_row;
    int64_t row;
    bool done;
    fm_status pending; /* a failure, reported behind the rows before it */
    fm_error_record error;
} source;

static fm_status open_library(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const fm_dynlib_entry entries[] = {
#define FM_X(name) {&pq.name, #name},
        FUNCTIONS(FM_X)
#undef FM_X
    };
    pthread_mutex_lock(&lock);
    fm_status s = pq.lib ? FM_OK : fm_dynlib_open(&pq.lib, "libpq.so.5", "libpq5", entries, FM_ARRAY_LEN(entries));
    pthread_mutex_unlock(&lock);
    return s;
}

static void close_postgres(void *state) {
    source *s = state;
    if (s) {
        if (s->conn) {
            pq.PQfinish(s->conn);
        }
        fm_free(s);
    }
}

/* The server's words without the line ends. */
static fm_status failed(fm_status code, const char *what, const char *words) {
    char text[600];
    snprintf(text, sizeof text, "%s", words ? words : "");
    for (char *p = text; *p; p++) {
        *p = *p == '\n' ? ' ' : *p;
    }
    return fm_error_set(code, __FILE__, __LINE__, "PostgreSQL: %s: %s", what, text);
}

static fm_status command(const source *s, const char *sql) {
    PGresult *r = pq.PQexec(s->conn, sql);
    bool ok = pq.PQresultStatus(r) == PGRES_COMMAND_OK;
    pq.PQclear(r);
    return ok ? FM_OK : failed(FM_ERR_IO, sql, pq.PQerrorMessage(s->conn));
}

static fm_status send_query(const source *s, const char *query) {
    fm_str sql = {0};
    size_t n = strlen(query);
    while (n && strchr("; \t\r\n", query[n - 1])) {
        n--;
    }
    fm_str_puts(&sql, "SELECT row_to_json(fathom_row) FROM (");
    fm_str_append(&sql, query, n);
    fm_str_puts(&sql, "\n) AS fathom_row"); /* the line end closes a comment at the end of the query */
    fm_status st = fm_str_check(&sql);
    if (st == FM_OK && (!pq.PQsendQuery(s->conn, sql.data) || !pq.PQsetSingleRowMode(s->conn))) {
        st = failed(FM_ERR_IO, "cannot send the query", pq.PQerrorMessage(s->conn));
    }
    fm_str_free(&sql);
    return st;
}

static fm_status open_postgres(void **state, const char *path, const fm_reader_options *o) {
    *state = NULL;
    FM_TRY(open_library());
    if (!o->query) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "which rows of the database?");
        return fm_error_hint("name them with --query \"SELECT ... FROM ...\"");
    }
    source *s = fm_calloc(1, sizeof *s);
    *state = s;
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a database reader");
    }
    s->max_row = o->max_row_bytes;
    s->conn = pq.PQconnectdb(path);
    if (!s->conn || pq.PQstatus(s->conn) != CONNECTION_OK) {
        (void)failed(FM_ERR_IO, "cannot connect", s->conn ? pq.PQerrorMessage(s->conn) : "no memory");
        return fm_error_hint("postgresql://USER@HOST:PORT/DATABASE; the password may be in PGPASSWORD or ~/.pgpass");
    }
    if (pq.PQsetClientEncoding(s->conn, "UTF8") != 0) {
        return failed(FM_ERR_IO, "the server does not send UTF-8", pq.PQerrorMessage(s->conn));
    }
    FM_TRY(command(s, "BEGIN READ ONLY"));
    return send_query(s, o->query);
}

static fm_status take_row(source *s, fm_recs *b, const PGresult *r, size_t *bytes) {
    const char *json = pq.PQgetvalue(r, 0, 0);
    int len = pq.PQgetlength(r, 0, 0);
    size_t n = len > 0 ? (size_t)len : 0;
    fm_rec *rec;
    fm_sv copy;
    s->row++;
    *bytes += n + 64;
    if (n > s->max_row) {
        return fm_recs_reject(b, s->row, "longer than max_row_bytes", NULL, (fm_sv){NULL, 0});
    }
    FM_TRY(fm_recs_add(b, &rec));
    rec->line = s->row;
    FM_TRY(fm_bump_sv(&b->arena, &copy, json, n));
    fm_status st = fm_rec_parse_json(&b->arena, rec, copy.ptr, copy.len);
    if (st == FM_ERR_DATA) {
        b->n--;
        return fm_recs_reject(b, s->row, "broken JSON", fm_error_get().message, copy);
    }
    return st;
}

static fm_status read_some(source *s, fm_recs *b) {
    for (size_t bytes = 0; bytes < FM_READER_BLOCK && !s->done;) {
        PGresult *r = pq.PQgetResult(s->conn);
        fm_status st = FM_OK;
        if (!r) {
            s->done = true;
            return FM_OK;
        }
        ExecStatusType status = pq.PQresultStatus(r);
        if (status == PGRES_SINGLE_TUPLE && pq.PQntuples(r) == 1) {
            st = take_row(s, b, r, &bytes);
        } else if (status != PGRES_TUPLES_OK) {
            st = failed(s->row ? FM_ERR_DATA : FM_ERR_CONFIG, "the query failed", pq.PQresultErrorMessage(r));
        }
        pq.PQclear(r);
        FM_TRY(st);
    }
    return FM_OK;
}

static fm_status next_postgres(void *state, fm_recs *b, bool *more) {
    source *s = state;
    if (s->pending != FM_OK) {
        fm_error_restore(&s->error);
        return s->pending;
    }
    fm_status st = read_some(s, b);
    *more = b->n > 0;
    if (st != FM_OK && st != FM_ERR_NO_MEMORY && b->n) {
        s->pending = st;
        fm_error_save(&s->error);
        return FM_OK;
    }
    return st;
}
#else
static fm_status open_postgres(void **state, const char *path, const fm_reader_options *o) {
    FM_UNUSED(path);
    FM_UNUSED(o);
    *state = NULL;
    fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "this program was built without libpq");
    return fm_error_hint("install libpq-dev and build again");
}
static fm_status next_postgres(void *state, fm_recs *b, bool *more) {
    FM_UNUSED(state);
    FM_UNUSED(b);
    *more = false;
    return FM_OK;
}
static void close_postgres(void *state) {
    FM_UNUSED(state);
}
#endif

const fm_reader_def fm_reader_postgres = {
    .name = "postgres",
    .help = "PostgreSQL: postgresql://USER@HOST/DATABASE and --query",
    .open = open_postgres,
    .next = next_postgres,
    .close = close_postgres,
    .is_mine = is_postgres,
};
