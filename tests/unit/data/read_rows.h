/* Rows of a reader as JSON lines, for the tests of readers. Include after cmocka.h. */
#ifndef TESTS_UNIT_DATA_READ_ROWS_H
#define TESTS_UNIT_DATA_READ_ROWS_H

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/reader.h"

static inline fm_reader_options read_defaults(void) {
    return (fm_reader_options){.text_column = "text", .max_row_bytes = (size_t)64 << 20};
}

/* Appends a line a row; of one set aside "!reason". A file whose rest cannot be read ends with "!!status". */
static inline fm_status read_rows(fm_str *out, const fm_reader_def *d, const char *path, const fm_reader_options *o) {
    void *state = NULL;
    fm_recs b = {0};
    bool more = true;
    fm_status s = d->open(&state, path, o);
    while (s == FM_OK && more) {
        fm_recs_reset(&b);
        s = d->next(state, &b, &more);
        if (s == FM_OK && d->parse && (b.raw.len || b.n_pieces)) {
            s = d->parse(&b, o);
        }
        for (size_t i = 0; s == FM_OK && i < b.n; i++) {
            if (b.rec[i]->drop) {
                fm_str_printf(out, "!%s", b.rec[i]->drop);
            } else {
                fm_rec_put_json(out, b.rec[i]);
            }
            fm_str_putc(out, '\n');
        }
    }
    if (s == FM_OK) {
        s = fm_str_check(out);
    } else if (s != FM_ERR_NO_MEMORY) {
        fm_str_printf(out, "!!%s\n", fm_status_name(s));
    }
    d->close(state);
    fm_recs_free(&b);
    return s;
}

#endif
