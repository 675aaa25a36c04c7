/* The GGUF container, versions 2 and 3, little-endian: metadata and the list of tensors. Element types stay numbers
 * here (src/io gives them meaning), so that the tokenizer can read vocabularies too.
 *
 * The file is mapped; strings and arrays point into the mapping and are not NUL-terminated. Every length is checked
 * against the file at open: whatever a getter returns can be read. */
#ifndef FM_BASE_GGUF_H
#define FM_BASE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef enum fm_gguf_type {
    FM_GGUF_U8,
    FM_GGUF_I8,
    FM_GGUF_U16,
    FM_GGUF_I16,
    FM_GGUF_U32,
    FM_GGUF_I32,
    FM_GGUF_F32,
    FM_GGUF_BOOL,
    FM_GGUF_STRING,
    FM_GGUF_ARRAY,
    FM_GGUF_U64,
    FM_GGUF_I64,
    FM_GGUF_F64
} fm_gguf_type;

typedef struct fm_gguf_text {
    const char *ptr;
    size_t len;
} fm_gguf_text;

typedef struct fm_gguf_kv {
    fm_gguf_text key;
    fm_gguf_type type;    /* FM_GGUF_ARRAY: of `item` */
    fm_gguf_type item;    /* type of an array's items */
    uint64_t n;           /* items of an array, else 1 */
    const uint8_t *value; /* first value, unaligned; for arrays the first item */
} fm_gguf_kv;

#define FM_GGUF_MAX_DIMS 4
typedef struct fm_gguf_tensor {
    char name[128]; /* NUL-terminated copy */
    int n_dims;
    int64_t dim[FM_GGUF_MAX_DIMS]; /* as in the file: fastest first */
    uint32_t type;                 /* ggml type number */
    uint64_t offset;               /* from the beginning of the file */
} fm_gguf_tensor;

typedef struct fm_gguf fm_gguf;

/* True when path is a file that begins as GGUF does. */
bool fm_gguf_is_file(const char *path);
/* Errors name the file and the place: FM_ERR_FORMAT for what is not GGUF, cut off, or over the limits. */
FM_MUST_CHECK fm_status fm_gguf_open(fm_gguf **out, const char *path);
/* From memory that outlives *out; `name` is for messages. */
FM_MUST_CHECK fm_status fm_gguf_parse(fm_gguf **out, const void *data, size_t n, const char *name);
void fm_gguf_close(fm_gguf *g);
const void *fm_gguf_data(const fm_gguf *g, size_t *n_bytes); /* the whole file */

size_t fm_gguf_kv_count(const fm_gguf *g);
const fm_gguf_kv *fm_gguf_kv_at(const fm_gguf *g, size_t i);
const fm_gguf_kv *fm_gguf_find(const fm_gguf *g, const char *key); /* NULL when missing */
size_t fm_gguf_tensor_count(const fm_gguf *g);
const fm_gguf_tensor *fm_gguf_tensor_at(const fm_gguf *g, size_t i);
const fm_gguf_tensor *fm_gguf_tensor_find(const fm_gguf *g, const char *name);

/* Typed getters; a missing key gives `def`, another type is FM_ERR_FORMAT naming the key. Numbers convert between
 * integer widths when the value fits. */
FM_MUST_CHECK fm_status fm_gguf_get_int(int64_t *out, const fm_gguf *g, const char *key, int64_t def);
FM_MUST_CHECK fm_status fm_gguf_get_num(double *out, const fm_gguf *g, const char *key, double def);
FM_MUST_CHECK fm_status fm_gguf_get_bool(bool *out, const fm_gguf *g, const char *key, bool def);
FM_MUST_CHECK fm_status fm_gguf_get_text(fm_gguf_text *out, const fm_gguf *g, const char *key); /* ptr NULL = missing */

/* Walks an array of strings: start with *at = kv->value, call kv->n times. */
fm_gguf_text fm_gguf_next_text(const uint8_t **at);
/* Item i of an array of numbers. */
double fm_gguf_item_num(const fm_gguf_kv *kv, uint64_t i);

#endif
