/* CSV and TSV records (RFC 4180): quotes, line ends inside quotes, CRLF, a byte order mark. A broken
 * record is reported and reading goes on with the line after the one where it began. */
#ifndef FM_IO_CSV_H
#define FM_IO_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"
#include "io/stream.h"

typedef struct fm_csv_options {
    char delimiter;          /* 0 = ',' */
    bool no_header;          /* the first record is data; columns have no names */
    size_t max_record_bytes; /* 0 = 16 MiB; a longer record is a bad one */
} fm_csv_options;

typedef struct fm_csv fm_csv;

typedef struct fm_csv_record {
    const fm_sv *field; /* [n_fields], quotes resolved; valid until the next call */
    size_t n_fields;
    int64_t line;    /* from 1, where the record begins */
    const char *bad; /* NULL, or what is wrong with it */
} fm_csv_record;

/* path "-" is stdin; gzip and zstd are unpacked. Reads the header: FM_ERR_DATA when it is broken. */
FM_MUST_CHECK fm_status fm_csv_open(fm_csv **out, const char *path, const fm_csv_options *options);
/* The same over an open stream, which is taken over (closed on failure too). */
FM_MUST_CHECK fm_status fm_csv_open_stream(fm_csv **out, fm_stream *in, const fm_csv_options *options);
void fm_csv_close(fm_csv *c);
size_t fm_csv_n_columns(const fm_csv *c); /* of the header, else of the first record; 0 for an empty file */
const char *fm_csv_column_name(const fm_csv *c, size_t i);
int64_t fm_csv_column(const fm_csv *c, const char *name); /* index, or -1 */
/* *more is false at the end. Empty lines are skipped. */
FM_MUST_CHECK fm_status fm_csv_next(fm_csv *c, fm_csv_record *out, bool *more);
int64_t fm_csv_consumed(const fm_csv *c); /* bytes of the file, for progress */

#endif
