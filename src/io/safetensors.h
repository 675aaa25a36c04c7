/* The safetensors format: one file, or several with an index (model.safetensors.index.json).
 *
 * File: u64 little-endian header size, JSON header {name: {dtype, shape, data_offsets}}, data. Files
 * are mapped; nothing is copied. Checked at opening: sizes and ranges against the file, products
 * against overflow, ranges against each other (no overlap, no hole, as the reference demands). */
#ifndef FM_IO_SAFETENSORS_H
#define FM_IO_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/dtype.h"
#include "fathom/status.h"

#define FM_ST_MAX_DIMS 8

typedef struct fm_st_tensor {
    const char *name;
    fm_dtype dtype;         /* FM_DTYPE_COUNT when we have no such type; see dtype_name */
    const char *dtype_name; /* as in the file: "BF16" */
    int n_dims;             /* 0 = a scalar */
    int64_t dims[FM_ST_MAX_DIMS];
    const uint8_t *data; /* in the mapping; aligned to the element in files of known writers, but a file
                          * may break that: copy with memcpy, or ask fm_st_aligned */
    int64_t bytes;
} fm_st_tensor;

typedef struct fm_safetensors fm_safetensors;

/* path: a .safetensors file, an index (.json), or a folder with model.safetensors.index.json,
 * model.safetensors or a single *.safetensors file. */
FM_MUST_CHECK fm_status fm_safetensors_open(fm_safetensors **out, const char *path);
void fm_safetensors_close(fm_safetensors *s);

size_t fm_safetensors_count(const fm_safetensors *s);
const fm_st_tensor *fm_safetensors_at(const fm_safetensors *s, size_t i);           /* sorted by name */
const fm_st_tensor *fm_safetensors_find(const fm_safetensors *s, const char *name); /* NULL when missing */
/* As find, with an error for a missing tensor or a type we do not have. */
FM_MUST_CHECK fm_status fm_safetensors_get(const fm_st_tensor **out, const fm_safetensors *s, const char *name);
size_t fm_safetensors_n_files(const fm_safetensors *s);
const char *fm_safetensors_file(const fm_safetensors *s, size_t i); /* path */
/* Value in the __metadata__ of the first file; NULL when missing. */
const char *fm_safetensors_metadata(const fm_safetensors *s, const char *key);

bool fm_st_aligned(const fm_st_tensor *t); /* data may be used in place */
/* Tells the system that the tensor was copied and its pages may go. */
void fm_st_release_pages(const fm_st_tensor *t);

/* Writing. Declare all tensors, begin, put their bytes in any order and in pieces, finish. Files are
 * written beside their names (.tmp), synced and renamed by finish; the index last. The layout depends
 * on the declarations alone: shards are filled in the order of declaration; inside a shard larger
 * elements come first, so that all are aligned. */
typedef struct fm_st_writer fm_st_writer;

typedef struct fm_st_writer_options {
    const char *base;        /* NULL = "model": model.safetensors or model-00001-of-00002.safetensors */
    int64_t max_shard_bytes; /* 0 = one file */
} fm_st_writer_options;

FM_MUST_CHECK fm_status fm_st_writer_new(fm_st_writer **out, const char *dir, const fm_st_writer_options *options);
FM_MUST_CHECK fm_status fm_st_writer_metadata(fm_st_writer *w, const char *key, const char *value);
FM_MUST_CHECK fm_status fm_st_writer_declare(fm_st_writer *w, const char *name, fm_dtype dtype, int n_dims,
                                             const int64_t *dims);
FM_MUST_CHECK fm_status fm_st_writer_begin(fm_st_writer *w);
/* bytes [offset, offset + n) of the tensor; each byte once. */
FM_MUST_CHECK fm_status fm_st_writer_put(fm_st_writer *w, const char *name, int64_t offset, const void *data,
                                         int64_t n);
FM_MUST_CHECK fm_status fm_st_writer_finish(fm_st_writer *w); /* FM_ERR_STATE when bytes are missing */
void fm_st_writer_free(fm_st_writer *w);                      /* without finish: removes what was written */

#endif
