/* Readers over tables of typed columns (io/table.h): what those of Parquet, Arrow and SQLite share. */
#ifndef FM_DATA_TABLE_ROWS_H
#define FM_DATA_TABLE_ROWS_H

#include "data/reader.h"
#include "io/table.h"

/* The reader's state; *t is taken over. With a status other than FM_OK (of opening it) that is given back. */
FM_MUST_CHECK fm_status fm_table_reader_open(void **state, const char *path, fm_table t, fm_status opened);
FM_MUST_CHECK fm_status fm_table_reader_next(void *state, fm_recs *b, bool *more);
void fm_table_reader_close(void *state);

#endif
