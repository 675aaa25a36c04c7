/* Rows of text from files, as data steps read them: io/rows.h behind plain fields (its names meet those of
 * fathom/data.h). */
#ifndef FM_DATA_SOURCE_H
#define FM_DATA_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

typedef void (*fm_source_bad_fn)(void *user, const char *file, int64_t line, const char *reason);

typedef struct fm_source_options {
    const char *const *input; /* files, folders, glob patterns, "-" */
    size_t n_input;
    int format, txt_unit;                    /* as in fm_rows_config */
    const char *text_column, *text_template; /* NULL: the column "text"; the template wins */
    fm_source_bad_fn on_bad;                 /* or NULL */
    void *user;
} fm_source_options;

typedef struct fm_source_row {
    fm_sv text; /* valid UTF-8, not empty; until the next call */
    const char *file;
    int64_t line; /* from 1 */
} fm_source_row;

typedef struct fm_source fm_source;
FM_MUST_CHECK fm_status fm_source_open(fm_source **out, const fm_source_options *o);
void fm_source_close(fm_source *s);
FM_MUST_CHECK fm_status fm_source_next(fm_source *s, fm_source_row *row, bool *more);
int64_t fm_source_n_good(const fm_source *s);
int64_t fm_source_n_bad(const fm_source *s);
size_t fm_source_n_files(const fm_source *s);
const char *fm_source_file(const fm_source *s, size_t i);

#endif
