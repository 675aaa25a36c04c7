/* SQLite: the rows of a query, or of the only table. */
#include <string.h>

#include "base/error.h"
#include "data/blocks.h"
#include "data/table_rows.h"
#include "io/sqlite.h"

static fm_status open_sqlite(void **state, const char *path, const fm_reader_options *o) {
    fm_sqlite *q = NULL;
    fm_status s = fm_sqlite_open(&q, path, o->query);
    return fm_table_reader_open(state, path, (fm_table){q, &fm_sqlite_table}, s);
}

static bool is_sqlite(const char *path) {
    return fm_reader_begins(path, "SQLite format 3", 16);
}

const fm_reader_def fm_reader_sqlite = {
    .name = "sqlite",
    .suffixes = ".sqlite|.sqlite3|.db3",
    .help = "SQLite: rows of --query, or of the only table",
    .open = open_sqlite,
    .next = fm_table_reader_next,
    .close = fm_table_reader_close,
    .is_mine = is_sqlite,
};
