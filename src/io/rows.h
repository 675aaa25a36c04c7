/* One interface over text, JSONL, JSON arrays of objects, CSV and TSV (plain, gzip or zstd): rows with the text made
 * from their columns. Bad rows are counted and reported to a callback; reading goes on. */
#ifndef FM_IO_ROWS_H
#define FM_IO_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"

typedef enum fm_row_format { FM_ROWS_AUTO, FM_ROWS_TXT, FM_ROWS_JSONL, FM_ROWS_CSV, FM_ROWS_TSV } fm_row_format;
typedef enum fm_txt_unit { FM_TXT_FILE, FM_TXT_PARAGRAPH, FM_TXT_LINE } fm_txt_unit;

/* A refused row: file, line where it begins (from 1), and why. */
typedef void (*fm_rows_bad_fn)(void *user, const char *source, int64_t line, const char *reason);

typedef struct fm_rows_options {
    fm_row_format format;      /* AUTO: by the name (.txt .md .jsonl .ndjson .json .csv .tsv, then .gz or .zst); stdin
                                * and other names by content: JSONL when it begins with '{', else text */
    const char *template_text; /* "{question} {answer}"; "{{" is a brace. NULL: the column "text" */
    bool raw_only;             /* JSONL, CSV: leave fm_row.text empty; the caller takes columns itself */
    fm_txt_unit txt_unit;      /* what a row of a text file is; PARAGRAPH: lines up to a blank one */
    size_t max_row_bytes;      /* 0 = 64 MiB; longer rows are bad */
    fm_rows_bad_fn on_bad;     /* or NULL */
    void *user;
} fm_rows_options;

typedef struct fm_row {
    fm_sv text;         /* valid UTF-8, not empty; until the next call */
    fm_sv raw;          /* JSONL: the line's object; else the same as text, or empty for CSV */
    const char *source; /* path, or "stdin" */
    int64_t line;       /* from 1, where the row begins */
    int64_t index;      /* of good and bad rows together, from 0, over all files */
} fm_row;

typedef struct fm_rows fm_rows;

/* paths: files, folders (their files with known names, sorted, not recursive), glob patterns, or "-". */
FM_MUST_CHECK fm_status fm_rows_open(fm_rows **out, const char *const *paths, size_t n_paths,
                                     const fm_rows_options *options);
void fm_rows_close(fm_rows *r);
/* The next good row; *more is false at the end. */
FM_MUST_CHECK fm_status fm_rows_next(fm_rows *r, fm_row *out, bool *more);
/* Appends a column of the current row (CSV field; JSONL string, number or boolean as text; arrays and objects as their
 * JSON text). FM_ERR_DATA when the row has none or it is null. */
FM_MUST_CHECK fm_status fm_rows_column(fm_rows *r, const char *name, fm_str *out);
/* Reports the current row as bad (a later stage found a fault in it). */
void fm_rows_reject(fm_rows *r, const char *reason);

int64_t fm_rows_n_good(const fm_rows *r);
int64_t fm_rows_n_bad(const fm_rows *r);
size_t fm_rows_n_files(const fm_rows *r);
const char *fm_rows_file(const fm_rows *r, size_t i);

#endif
