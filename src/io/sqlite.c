/* SQLite at run time: see sqlite.h. */
#include "io/sqlite.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/sqlite_lib.h"

#ifdef FM_HAVE_SQLITE

struct fm_sqlite {
    char *path;
    sqlite3 *db;
    sqlite3_stmt *query;
    size_t n;
    char **name;
    fm_str *text; /* [n] */
    fm_table_value *row;
    int64_t bytes, consumed;
    bool done; /* another step would begin the query anew */
};

static void close_table(void *self) {
    fm_sqlite *s = self;
    if (s) {
        if (s->query) {
            fm_lite.sqlite3_finalize(s->query);
        }
        if (s->db) {
            fm_lite.sqlite3_close(s->db);
        }
        for (size_t i = 0; i < s->n; i++) {
            if (s->text) {
                fm_str_free(&s->text[i]);
            }
            if (s->name) {
                fm_free(s->name[i]);
            }
        }
        fm_free(s->name);
        fm_free(s->text);
        fm_free(s->row);
        fm_free(s->path);
        fm_free(s);
    }
}

static fm_status failed(const fm_sqlite *s, int rc, fm_status otherwise) {
    fm_status code = rc == SQLITE_NOMEM                            ? FM_ERR_NO_MEMORY
                     : rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? FM_ERR_CORRUPT
                     : rc == SQLITE_CANTOPEN || rc == SQLITE_IOERR ? FM_ERR_IO
                                                                   : otherwise;
    return fm_error_set(code, __FILE__, __LINE__, "'%s': %s", s->path,
                        s->db ? fm_lite.sqlite3_errmsg(s->db) : "cannot be opened");
}

static fm_status prepare(fm_sqlite *s, const char *sql) {
    const char *tail = NULL;
    int rc = fm_lite.sqlite3_prepare_v2(s->db, sql, -1, &s->query, &tail);
    if (rc != SQLITE_OK) {
        return failed(s, rc, FM_ERR_CONFIG);
    }
    while (tail && (*tail == ';' || *tail == ' ' || *tail == '\n' || *tail == '\t')) {
        tail++;
    }
    if (!s->query || (tail && *tail)) {
        FM_FAIL(FM_ERR_CONFIG, "'%s': the query is not one statement", s->path);
    }
    if (!fm_lite.sqlite3_stmt_readonly(s->query) || fm_lite.sqlite3_column_count(s->query) == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "'%s': the query would write or gives no columns", s->path);
        return fm_error_hint("only a SELECT reads rows");
    }
    return FM_OK;
}

/* "SELECT * FROM" the only table. */
static fm_status whole_table(fm_sqlite *s, fm_str *sql) {
    fm_str names = {0};
    int n = 0,
        rc = fm_lite.sqlite3_prepare_v2(
            s->db,
            "SELECT name FROM sqlite_master WHERE type IN ('table','view') AND name NOT LIKE 'sqlite_%' ORDER BY 1", -1,
            &s->query, NULL);
    if (rc != SQLITE_OK) {
        return failed(s, rc, FM_ERR_CORRUPT);
    }
    while ((rc = fm_lite.sqlite3_step(s->query)) == SQLITE_ROW) {
        const char *name = fm_lite.sqlite3_column_blob(s->query, 0);
        int len = fm_lite.sqlite3_column_bytes(s->query, 0);
        fm_str_puts(&names, n ? ", " : "");
        fm_str_append(&names, name, (size_t)len);
        fm_str_clear(sql);
        fm_str_puts(sql, "SELECT * FROM \"");
        for (int i = 0; i < len; i++) {
            fm_str_puts(sql, name[i] == '"' ? "\"" : "");
            fm_str_putc(sql, name[i]);
        }
        fm_str_putc(sql, '"');
        n++;
    }
    fm_status st = rc == SQLITE_DONE ? fm_str_check(&names) : failed(s, rc, FM_ERR_CORRUPT);
    fm_lite.sqlite3_finalize(s->query);
    s->query = NULL;
    if (st == FM_OK && n != 1) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "'%s' has %d tables: which rows?", s->path, n);
        st = n ? fm_error_hint("name them with --query \"SELECT * FROM ...\"; there are %.300s", names.data)
               : FM_ERR_CONFIG;
    }
    fm_str_free(&names);
    return st == FM_OK ? fm_str_check(sql) : st;
}

static fm_status start(fm_sqlite *s, const char *query) {
    fm_str sql = {0};
    int rc = fm_lite.sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        return failed(s, rc, FM_ERR_IO);
    }
    /* A file from elsewhere may define views that call functions, and pages that overlap. */
    fm_lite.sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    fm_lite.sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    fm_lite.sqlite3_exec(s->db, "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0", NULL, NULL, NULL);
    fm_status st = query ? prepare(s, query) : whole_table(s, &sql);
    if (st == FM_OK && !query) {
        st = prepare(s, sql.data);
    }
    fm_str_free(&sql);
    FM_TRY(st);
    s->n = (size_t)fm_lite.sqlite3_column_count(s->query);
    s->name = fm_calloc(s->n, sizeof *s->name);
    s->text = fm_calloc(s->n, sizeof *s->text);
    s->row = fm_calloc(s->n, sizeof *s->row);
    for (size_t i = 0; s->name && i < s->n; i++) {
        const char *name = fm_lite.sqlite3_column_name(s->query, (int)i);
        s->name[i] = name && fm_utf8_valid(name, strlen(name)) ? fm_strdup(name) : fm_strdup("?");
        if (!s->name[i]) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the columns of '%s'", s->path);
        }
    }
    if (!s->name || !s->text || !s->row) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the columns of '%s'", s->path);
    }
    return FM_OK;
}

fm_status fm_sqlite_open(fm_sqlite **out, const char *path, const char *query) {
    *out = NULL;
    FM_TRY(fm_sqlite_lib_open());
    fm_sqlite *s = fm_calloc(1, sizeof *s);
    if (s) {
        s->path = fm_strdup(path);
        s->bytes = fm_file_size(path);
    }
    fm_status st = FM_OK;
    if (!s || !s->path) {
        st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot allocate a reader for '%s'", path);
    }
    if (st == FM_OK && s) {
        st = start(s, query);
    }
    if (st != FM_OK) {
        close_table(s);
        return st;
    }
    *out = s;
    return FM_OK;
}

static fm_status next_row(void *self, const fm_table_value **row, bool *more) {
    fm_sqlite *s = self;
    int rc = s->done ? SQLITE_DONE : fm_lite.sqlite3_step(s->query);
    *more = rc == SQLITE_ROW;
    s->done = !*more;
    *row = s->row;
    if (rc == SQLITE_DONE) {
        s->consumed = s->bytes;
        return FM_OK;
    }
    if (!*more) {
        return failed(s, rc, FM_ERR_CORRUPT);
    }
    for (size_t i = 0; i < s->n; i++) {
        fm_str *t = &s->text[i];
        fm_table_value *v = &s->row[i];
        int c = (int)i;
        fm_str_clear(t);
        switch (fm_lite.sqlite3_column_type(s->query, c)) {
        case SQLITE_INTEGER:
            fm_str_printf(t, "%" PRId64, (int64_t)fm_lite.sqlite3_column_int64(s->query, c));
            v->kind = FM_JSON_NUMBER;
            break;
        case SQLITE_FLOAT:
            v->kind = fm_table_put_double(t, fm_lite.sqlite3_column_double(s->query, c), 17);
            break;
        case SQLITE_NULL:
            fm_str_puts(t, "null");
            v->kind = FM_JSON_NULL;
            break;
        default: {
            const uint8_t *p = fm_lite.sqlite3_column_blob(s->query, c);
            int n = fm_lite.sqlite3_column_bytes(s->query, c);
            v->kind = fm_table_put_bytes(t, p ? p : (const uint8_t *)"", (size_t)n, true);
        }
        }
        FM_TRY(fm_str_check(t));
        v->text = (fm_sv){t->data ? t->data : "", t->len};
        s->consumed += (int64_t)t->len;
    }
    s->consumed = FM_MIN(s->consumed, s->bytes);
    return FM_OK;
}

static size_t n_columns(const void *self) {
    return ((const fm_sqlite *)self)->n;
}
static const char *column(const void *self, size_t i) {
    return ((const fm_sqlite *)self)->name[i];
}
static int64_t consumed(const void *self) {
    return ((const fm_sqlite *)self)->consumed;
}

const fm_table_ops fm_sqlite_table = {n_columns, column, next_row, consumed, close_table};

#else
const fm_table_ops fm_sqlite_table = {NULL, NULL, NULL, NULL, NULL};

fm_status fm_sqlite_open(fm_sqlite **out, const char *path, const char *query) {
    FM_UNUSED(path);
    FM_UNUSED(query);
    *out = NULL;
    return fm_sqlite_lib_open();
}
#endif
