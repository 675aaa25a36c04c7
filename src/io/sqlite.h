/* Rows of an SQLite query. The library is opened when it is needed; the file is opened for reading only, and a query
 * that would write is refused. */
#ifndef FM_IO_SQLITE_H
#define FM_IO_SQLITE_H

#include "io/table.h"

typedef struct fm_sqlite fm_sqlite;

/* query NULL: all of the only table. Bytes are read as text when they are UTF-8. FM_ERR_CONFIG for a query that is no
 * SQL, FM_ERR_CORRUPT or FM_ERR_FORMAT for a damaged file. */
FM_MUST_CHECK fm_status fm_sqlite_open(fm_sqlite **out, const char *path, const char *query);
extern const fm_table_ops fm_sqlite_table; /* its close frees */

#endif
