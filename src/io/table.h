/* One interface over sources of typed columns: Parquet, Arrow, databases. */
#ifndef FM_IO_TABLE_H
#define FM_IO_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"
#include "io/jsonl.h"

/* A value of the current row. text: of STRING the plain text (valid UTF-8); of others their JSON. */
typedef struct fm_table_value {
    fm_json_kind kind; /* NULL, TRUE, FALSE, NUMBER, STRING, ARRAY, OBJECT */
    fm_sv text;        /* until the next row */
} fm_table_value;

typedef struct fm_table_ops {
    size_t (*n_columns)(const void *self);
    const char *(*column)(const void *self, size_t i);
    /* The next row's values [n_columns]; *more is false at the end. */
    fm_status (*next)(void *self, const fm_table_value **row, bool *more);
    int64_t (*consumed)(const void *self); /* bytes of the file, for progress */
    void (*close)(void *self);             /* NULL is legal */
} fm_table_ops;

typedef struct fm_table {
    void *self;
    const fm_table_ops *ops;
} fm_table;

/* Bytes as a value: text when they are UTF-8, else {"base64":".."}. Appends and says which (as_text as in fm_pq_put).
 */
fm_json_kind fm_table_put_bytes(fm_str *out, const uint8_t *p, size_t n, bool as_text);
/* A number with no more digits than it needs to be read back the same; `most` 9 for a float, 17 for a double;
 * non-finite ones are null. */
fm_json_kind fm_table_put_double(fm_str *out, double v, int most);

#endif
