/* Inside of the Parquet reader: the footer, pages, values. */
#ifndef FM_IO_PARQUET_META_H
#define FM_IO_PARQUET_META_H

#include "base/error.h"
#include "io/parquet.h"

typedef enum fm_pq_type {
    PQ_BOOLEAN,
    PQ_INT32,
    PQ_INT64,
    PQ_INT96,
    PQ_FLOAT,
    PQ_DOUBLE,
    PQ_BYTES,
    PQ_FIXED
} fm_pq_type;
typedef enum fm_pq_rep { PQ_REQUIRED, PQ_OPTIONAL, PQ_REPEATED } fm_pq_rep;
typedef enum fm_pq_codec { PQ_PLAIN, PQ_SNAPPY, PQ_GZIP, PQ_LZO, PQ_BROTLI, PQ_LZ4, PQ_ZSTD, PQ_LZ4_RAW } fm_pq_codec;

/* What a value means, from the logical or the older converted type. */
typedef enum fm_pq_kind {
    PQ_K_NONE,
    PQ_K_TEXT,
    PQ_K_JSON,
    PQ_K_LIST,
    PQ_K_MAP,
    PQ_K_DECIMAL,
    PQ_K_DATE,
    PQ_K_TIME,
    PQ_K_TIMESTAMP,
    PQ_K_UNSIGNED,
    PQ_K_UUID,
    PQ_K_INTERVAL,
    PQ_K_FLOAT16,
} fm_pq_kind;

typedef struct fm_pq_node fm_pq_node;
struct fm_pq_node {
    char *name;
    bool is_leaf;
    fm_pq_type type;
    int32_t type_length; /* FIXED */
    fm_pq_rep rep;
    fm_pq_kind kind;
    int32_t scale;      /* DECIMAL */
    int32_t per_second; /* TIME, TIMESTAMP: units, 1000, 1000000 or 1000000000 */
    bool utc;
    int16_t max_def, max_rep;
    size_t column; /* leaf: index; group: that of its first leaf */
    fm_pq_node **child;
    size_t n_children, want_children;
};

typedef struct fm_pq_chunk {
    int64_t n_values, data_at, dict_at, bytes;
    int32_t codec;
    bool encrypted, elsewhere; /* in another file */
} fm_pq_chunk;

typedef struct fm_pq_meta {
    fm_pq_node *root;
    fm_pq_node **leaf; /* [n_leaves] */
    size_t n_leaves, leaves_cap;
    int64_t n_rows;
    int64_t *group_rows; /* [n_groups] */
    size_t n_groups, groups_cap;
    fm_pq_chunk *chunk; /* [n_groups * n_leaves] */
    size_t chunks_cap;
} fm_pq_meta;

/* data[0..n) is the footer's thrift bytes. On failure meta is still to be freed. */
FM_MUST_CHECK fm_status fm_pq_meta_read(fm_pq_meta *m, const uint8_t *data, size_t n, const char *name);
void fm_pq_meta_free(fm_pq_meta *m);

typedef struct fm_pq_page {
    int32_t kind; /* 0 data, 1 index, 2 dictionary, 3 data v2 */
    int32_t bytes, packed_bytes, n_values, encoding, def_encoding, rep_encoding, def_bytes, rep_bytes;
    bool packed; /* v2: the values are */
    size_t head_bytes;
} fm_pq_page;
FM_MUST_CHECK fm_status fm_pq_page_head(fm_pq_page *p, const uint8_t *data, size_t n, const char *name);

/* Unpacks into exactly n bytes. */
FM_MUST_CHECK fm_status fm_pq_unpack(uint8_t *out, size_t n, const uint8_t *in, size_t packed, int codec,
                                     const char *name);

/* A frame of LZ4 into exactly n bytes. */
bool fm_lz4_frame(uint8_t *out, size_t n, const uint8_t *p, size_t packed);

/* One value; for bytes a view into the page. */
typedef struct fm_pq_value {
    union {
        int64_t i; /* integers; bits of a float or double */
        const uint8_t *p;
    } u;
    uint32_t len;
} fm_pq_value;

/* Reads n values of `encoding` from data; `scratch` holds bytes that must be put together (released by the caller).
 * dictionary [n_dict] for dictionary encodings. */
FM_MUST_CHECK fm_status fm_pq_values(fm_pq_value *out, size_t n, const fm_pq_node *leaf, int encoding,
                                     const uint8_t *data, size_t bytes, const fm_pq_value *dict, size_t n_dict,
                                     fm_str *scratch, const char *name);
/* RLE and bit-packed hybrid: n numbers of `bits` bits; *used (may be NULL) = bytes read. false when it is damaged. */
bool fm_pq_hybrid(uint32_t *out, size_t n, int bits, const uint8_t *data, size_t bytes);
/* Appends the value as JSON (STRING: as plain text when as_text is given, which it then sets). */
fm_json_kind fm_pq_put(fm_str *out, const fm_pq_node *leaf, const fm_pq_value *v, bool as_text);

#endif
