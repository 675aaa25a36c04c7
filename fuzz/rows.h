/* What the fuzz targets of readers share: all rows of a file as JSON lines, which are UTF-8. */
#ifndef FM_FUZZ_ROWS_H
#define FM_FUZZ_ROWS_H

#include <stdlib.h>

#include "../tests/unit/data/read_rows.h"
#include "fuzz.h"

static inline void fuzz_rows(const fm_reader_def *d, const uint8_t *data, size_t size, fm_reader_options o) {
    const char *path = fuzz_file(data, size);
    fm_str rows = {0};
    o.max_row_bytes = (size_t)1 << 20;
    if (path) {
        (void)!read_rows(&rows, d, path, &o);
    }
    if (rows.len && !fm_utf8_valid(rows.data, rows.len)) {
        abort();
    }
    fm_str_free(&rows);
}

#endif
