/* libsqlite3, opened when the first database comes. The only files that know it are sqlite_lib.c, sqlite.c (rows of a
 * query) and sql.c (databases of our own). */
#ifndef FM_IO_SQLITE_LIB_H
#define FM_IO_SQLITE_LIB_H

#include "fathom/status.h"

#ifdef FM_HAVE_SQLITE
#include <sqlite3.h>

#define FM_SQLITE_FUNCTIONS(X)                                                                                         \
    X(sqlite3_open_v2)                                                                                                 \
    X(sqlite3_close)                                                                                                   \
    X(sqlite3_exec)                                                                                                    \
    X(sqlite3_db_config)                                                                                               \
    X(sqlite3_busy_timeout)                                                                                            \
    X(sqlite3_errmsg)                                                                                                  \
    X(sqlite3_prepare_v2)                                                                                              \
    X(sqlite3_stmt_readonly)                                                                                           \
    X(sqlite3_step)                                                                                                    \
    X(sqlite3_finalize)                                                                                                \
    X(sqlite3_bind_null)                                                                                               \
    X(sqlite3_bind_int64)                                                                                              \
    X(sqlite3_bind_double)                                                                                             \
    X(sqlite3_bind_text)                                                                                               \
    X(sqlite3_column_count)                                                                                            \
    X(sqlite3_column_name)                                                                                             \
    X(sqlite3_column_type)                                                                                             \
    X(sqlite3_column_int64)                                                                                            \
    X(sqlite3_column_double)                                                                                           \
    X(sqlite3_column_text)                                                                                             \
    X(sqlite3_column_blob)                                                                                             \
    X(sqlite3_column_bytes)                                                                                            \
    X(sqlite3_last_insert_rowid)

typedef struct fm_sqlite_lib {
    void *lib;
#define FM_X(name) __typeof__(&(name)) name;
    FM_SQLITE_FUNCTIONS(FM_X)
#undef FM_X
} fm_sqlite_lib;

extern fm_sqlite_lib fm_lite; /* after fm_sqlite_lib_open */
#endif

/* FM_ERR_UNSUPPORTED when it is not there. */
FM_MUST_CHECK fm_status fm_sqlite_lib_open(void);

#endif
