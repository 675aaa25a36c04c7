/* Rows of evaluation data in memory, from any format that data steps read. */
#ifndef FM_EVAL_TABLE_H
#define FM_EVAL_TABLE_H

#include "data/rec.h"

typedef struct fm_eval_entry {
    fm_rec *rec;
    const char *file;    /* path */
    const char *subject; /* "" when the data is one file */
    fm_bump *arena;      /* that the record lives in */
} fm_eval_entry;

typedef struct fm_eval_table {
    fm_recs **batch;
    size_t n_batches, cap_batches;
    fm_eval_entry *row;
    size_t n, cap;
    fm_bump names;
} fm_eval_table;

typedef struct fm_table_options {
    const char *format;   /* of fm_reader_find; NULL = "auto" */
    const fm_sv *columns; /* [n_columns] names for files without a header line; NULL: they have one */
    size_t n_columns;
    const char *split; /* which part of a folder: DIR/split/X_split.csv or DIR/X_split.csv */
    int txt_unit;
    const char *(*subject)(const char *stem); /* or NULL */
} fm_table_options;

void fm_eval_table_free(fm_eval_table *t);
/* Adds the rows of a file, or of the files of a folder in the order of their names: the part `split`, each file a
 * subject. A row that cannot be read is FM_ERR_DATA naming it: figures over a part of the data would mislead. */
FM_MUST_CHECK fm_status fm_eval_table_load(fm_eval_table *t, const char *path, const fm_table_options *o);

#endif
