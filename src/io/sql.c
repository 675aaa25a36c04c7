/* Databases: see sql.h. */
#include "io/sql.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sqlite_lib.h"

#define MOST_COLUMNS 32

#ifdef FM_HAVE_SQLITE

struct fm_sql {
    sqlite3 *db;
    char *path;
};

static fm_status failed(const fm_sql *s, int rc, const char *what) {
    fm_status st = rc == SQLITE_NOMEM                            ? FM_ERR_NO_MEMORY
                   : rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT ? FM_ERR_CORRUPT
                                                                 : FM_ERR_IO;
    return fm_error_set(st, __FILE__, __LINE__, "%s: %s: %s", s->path, what, fm_lite.sqlite3_errmsg(s->db));
}

fm_status fm_sql_open(fm_sql **out, const char *path) {
    *out = NULL;
    FM_TRY(fm_sqlite_lib_open());
    fm_sql *s = fm_calloc(1, sizeof *s);
    if (!s || !(s->path = fm_strdup(path))) {
        fm_free(s);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a database");
    }
    int rc =
        fm_lite.sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL);
    fm_status st = rc == SQLITE_OK ? FM_OK : failed(s, rc, "cannot be opened");
    if (st != FM_OK) {
        fm_sql_close(s);
        return st;
    }
    (void)fm_lite.sqlite3_busy_timeout(s->db, 10000); /* other processes write too */
    *out = s;
    return FM_OK;
}

void fm_sql_close(fm_sql *s) {
    if (s) {
        (void)fm_lite.sqlite3_close(s->db);
        fm_free(s->path);
        fm_free(s);
    }
}

fm_status fm_sql_exec(fm_sql *s, const char *text) {
    int rc = fm_lite.sqlite3_exec(s->db, text, NULL, NULL, NULL);
    return rc == SQLITE_OK ? FM_OK : failed(s, rc, "cannot be written");
}

int64_t fm_sql_last_id(fm_sql *s) {
    return fm_lite.sqlite3_last_insert_rowid(s->db);
}

static int bind(sqlite3_stmt *q, int at, const fm_sql_value *v) {
    if (v->kind == FM_SQL_INT) {
        return fm_lite.sqlite3_bind_int64(q, at, v->i);
    }
    if (v->kind == FM_SQL_REAL && isfinite(v->d)) {
        return fm_lite.sqlite3_bind_double(q, at, v->d);
    }
    if (v->kind == FM_SQL_TEXT && v->t) { /* the caller's text outlives the statement */
        return fm_lite.sqlite3_bind_text(q, at, v->t, -1, SQLITE_STATIC);
    }
    return fm_lite.sqlite3_bind_null(q, at);
}

static int read_row(sqlite3_stmt *q, fm_sql_value *v) {
    int n = FM_MIN(fm_lite.sqlite3_column_count(q), MOST_COLUMNS);
    for (int i = 0; i < n; i++) {
        switch (fm_lite.sqlite3_column_type(q, i)) {
        case SQLITE_INTEGER:
            v[i] = FM_SQL_I(fm_lite.sqlite3_column_int64(q, i));
            v[i].d = (double)v[i].i;
            break;
        case SQLITE_FLOAT:
            v[i] = FM_SQL_D(fm_lite.sqlite3_column_double(q, i));
            break;
        case SQLITE_NULL:
            v[i] = (fm_sql_value){.kind = FM_SQL_NULL, .d = (double)NAN};
            break;
        default:
            v[i] = FM_SQL_T((const char *)fm_lite.sqlite3_column_text(q, i));
            break;
        }
    }
    return n;
}

fm_status fm_sql_run(fm_sql *s, const char *text, const fm_sql_value *value, int n, fm_sql_row_fn fn, void *arg) {
    sqlite3_stmt *q = NULL;
    int rc = fm_lite.sqlite3_prepare_v2(s->db, text, -1, &q, NULL);
    for (int i = 0; i < n && rc == SQLITE_OK; i++) {
        rc = bind(q, i + 1, &value[i]);
    }
    fm_status st = rc == SQLITE_OK ? FM_OK : failed(s, rc, "a statement cannot be prepared");
    while (st == FM_OK && (rc = fm_lite.sqlite3_step(q)) == SQLITE_ROW) {
        fm_sql_value row[MOST_COLUMNS];
        int n_row = read_row(q, row);
        st = fn ? fn(arg, row, n_row) : FM_OK;
    }
    if (st == FM_OK && rc != SQLITE_DONE) {
        st = failed(s, rc, "a statement failed");
    }
    (void)fm_lite.sqlite3_finalize(q);
    return st;
}

#else

fm_status fm_sql_open(fm_sql **out, const char *path) {
    FM_UNUSED(path);
    *out = NULL;
    return fm_sqlite_lib_open();
}
void fm_sql_close(fm_sql *s) {
    FM_UNUSED(s);
}
fm_status fm_sql_exec(fm_sql *s, const char *text) {
    FM_UNUSED(s);
    FM_UNUSED(text);
    return FM_ERR_UNSUPPORTED;
}
int64_t fm_sql_last_id(fm_sql *s) {
    FM_UNUSED(s);
    return 0;
}
fm_status fm_sql_run(fm_sql *s, const char *text, const fm_sql_value *value, int n, fm_sql_row_fn fn, void *arg) {
    FM_UNUSED(s);
    FM_UNUSED(text);
    FM_UNUSED(value);
    FM_UNUSED(n);
    FM_UNUSED(fn);
    FM_UNUSED(arg);
    return FM_ERR_UNSUPPORTED;
}

#endif
