/* Inside of arrow.h: FlatBuffers with every offset checked, and the schema. */
#ifndef FM_IO_ARROW_SCHEMA_H
#define FM_IO_ARROW_SCHEMA_H

#include "base/error.h"
#include "io/parquet_meta.h"

/* A message's bytes. A table is its position; 0 = none. Everything out of bounds reads as missing or 0. */
typedef struct fm_flat {
    const uint8_t *p;
    size_t n;
} fm_flat;

size_t fm_flat_root(fm_flat f);
int64_t fm_flat_int(fm_flat f, size_t table, int field, int bytes, int64_t def); /* signed, of 1, 2, 4 or 8 bytes */
size_t fm_flat_table(fm_flat f, size_t table, int field);
fm_sv fm_flat_string(fm_flat f, size_t table, int field);
/* Items of a vector: position of the first, *n of them; 0 when items of `size` bytes do not fit. */
size_t fm_flat_vector(fm_flat f, size_t table, int field, size_t size, size_t *n);
size_t fm_flat_item_table(fm_flat f, size_t vector, size_t i);
int64_t fm_flat_i64_at(fm_flat f, size_t at);

/* How a column's buffers lie. */
typedef enum fm_arrow_layout {
    AR_NULL,
    AR_BITS,
    AR_FIXED,
    AR_BYTES,
    AR_LARGE_BYTES,
    AR_VIEWS,
    AR_LIST,
    AR_LARGE_LIST,
    AR_FIXED_LIST,
    AR_STRUCT,
} fm_arrow_layout;

typedef struct fm_arrow_field fm_arrow_field;
struct fm_arrow_field {
    char *name;
    fm_arrow_layout layout;
    size_t width;    /* FIXED: bytes; FIXED_LIST: items */
    fm_pq_node leaf; /* what a value means, for fm_pq_put */
    bool is_map;
    bool decimal; /* little-endian */
    bool day_ms;  /* a date in milliseconds */
    bool has_dict;
    int64_t dict_id;
    size_t index_width;
    bool index_unsigned;
    fm_arrow_field *child;
    size_t n_children;
};

/* The fields of a Schema table. Free with fm_arrow_fields_free on failure too. */
FM_MUST_CHECK fm_status fm_arrow_fields_read(fm_arrow_field **out, size_t *n, fm_flat f, size_t schema,
                                             const char *path);
void fm_arrow_fields_free(fm_arrow_field *f, size_t n);

#endif
