/* Parquet files, read a row at a time in memory bounded by a page per column.
 *
 * Layout: https://parquet.apache.org/docs/file-format/ (format 2.x). Encodings: PLAIN, dictionary, RLE, bit-packed
 * levels, DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY, BYTE_STREAM_SPLIT. Codecs: none, snappy,
 * gzip, zstd, lz4 (raw and Hadoop's), brotli where its library is installed. Encrypted files and LZO are refused.
 *
 * Values: text for strings, and for bytes without an annotation when they are UTF-8 (else JSON {"base64":"..."});
 * numbers as numbers; decimals as exact numbers; dates and times as ISO 8601 text; not-a-number and infinities as null;
 * lists as JSON arrays, structs as objects, maps as arrays of {"key":..,"value":..}. */
#ifndef FM_IO_PARQUET_H
#define FM_IO_PARQUET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"
#include "io/table.h"

typedef struct fm_parquet fm_parquet;

FM_MUST_CHECK fm_status fm_parquet_open(fm_parquet **out, const char *path);
/* The same over bytes in memory, which outlive *out; `name` is for messages. */
FM_MUST_CHECK fm_status fm_parquet_open_memory(fm_parquet **out, const void *data, size_t n, const char *name);
void fm_parquet_close(fm_parquet *p);
int64_t fm_parquet_n_rows(const fm_parquet *p);
size_t fm_parquet_n_columns(const fm_parquet *p); /* top-level fields */
const char *fm_parquet_column(const fm_parquet *p, size_t i);
/* The next row's values [n_columns]; *more is false at the end. FM_ERR_CORRUPT when the file is damaged there. */
FM_MUST_CHECK fm_status fm_parquet_next(fm_parquet *p, const fm_table_value **row, bool *more);
extern const fm_table_ops fm_parquet_table;
int64_t fm_parquet_consumed(const fm_parquet *p); /* bytes of the file, for progress */

#endif
