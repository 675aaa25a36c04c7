/* The rows of files one by one, for what needs rows without a pipeline: examples for training, evaluation sets. Every
 * input format of the readers' table. */
#ifndef FM_DATA_RECORDS_H
#define FM_DATA_RECORDS_H

#include "data/rec.h"
#include "fathom/option.h"

typedef void (*fm_record_bad_fn)(void *user, const char *file, int64_t line, const char *reason);

typedef struct fm_records_options {
    fm_strlist input;   /* files, folders, glob patterns, "-"; borrowed while opening */
    const char *format; /* NULL or "auto": by name and content */
    fm_record_bad_fn on_bad;
    void *user;
} fm_records_options;

typedef struct fm_records fm_records;
FM_MUST_CHECK fm_status fm_records_open(fm_records **out, const fm_records_options *o);
void fm_records_close(fm_records *r);
/* The next good row and the arena it lives in, until the next call; *row NULL at the end. A file whose rest cannot be
 * read is reported as one bad row and left. */
FM_MUST_CHECK fm_status fm_records_next(fm_records *r, fm_rec **row, fm_bump **arena);
/* Reports a row that a later stage refuses. */
void fm_records_reject(fm_records *r, const fm_rec *row, const char *reason);
int64_t fm_records_n_read(const fm_records *r); /* good and bad */
int64_t fm_records_n_bad(const fm_records *r);
size_t fm_records_n_files(const fm_records *r);
const char *fm_records_file(const fm_records *r, size_t i);
const char *fm_records_format(const fm_records *r, size_t i); /* name of the reader of file i */
size_t fm_records_file_index(const fm_records *r);            /* of the row given last */
double fm_records_share(const fm_records *r); /* of the input's bytes that were read, 0 when they are unknown */

#endif
