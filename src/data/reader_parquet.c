/* Parquet. */
#include "base/error.h"
#include "data/table_rows.h"
#include "io/parquet.h"

static fm_status open_parquet(void **state, const char *path, const fm_reader_options *o) {
    FM_UNUSED(o);
    fm_parquet *p = NULL;
    fm_status s = fm_parquet_open(&p, path);
    return fm_table_reader_open(state, path, (fm_table){p, &fm_parquet_table}, s);
}

const fm_reader_def fm_reader_parquet = {
    .name = "parquet",
    .suffixes = ".parquet|.pq",
    .help = "Parquet; nested columns become JSON, decimals and times exact text",
    .open = open_parquet,
    .next = fm_table_reader_next,
    .close = fm_table_reader_close,
};
