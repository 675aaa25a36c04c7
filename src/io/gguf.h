/* Weights in GGUF files: tensors with element types, checked extents, split files; and writing.
 *
 * Layout and metadata of one file: base/gguf.h. */
#ifndef FM_IO_GGUF_H
#define FM_IO_GGUF_H

#include "backend/dtype.h"
#include "base/gguf.h"

/* Element types: ggml's number, our type, ggml's name. */
typedef struct fm_ggml_type {
    uint32_t number;
    fm_dtype dtype;
    const char *name; /* "Q4_K" */
} fm_ggml_type;
const fm_ggml_type *fm_ggml_type_of(fm_dtype d);             /* NULL when GGUF has no such type */
const fm_ggml_type *fm_ggml_type_by_number(uint32_t number); /* NULL when we do not read it */
const char *fm_ggml_type_name(uint32_t number);              /* also of types we do not read; "?" */

typedef struct fm_gguf_weight {
    const char *name;
    uint32_t type;  /* ggml's number */
    fm_dtype dtype; /* FM_DTYPE_COUNT when we do not read the type */
    int n_dims;
    int64_t dim[FM_GGUF_MAX_DIMS]; /* outermost first, the unused ones 1 */
    const uint8_t *data;           /* in the mapping; NULL when we do not know the type */
    int64_t bytes;
} fm_gguf_weight;

typedef struct fm_gguf_set fm_gguf_set;

/* A file, or all files of a split (name-00001-of-0000N.gguf; any of them may be given). Refused, with the tensor's
 * name: data that is cut off, tensors that overlap or stand in two files, rows that are no whole number of blocks. */
FM_MUST_CHECK fm_status fm_gguf_set_open(fm_gguf_set **out, const char *path);
void fm_gguf_set_close(fm_gguf_set *s);
/* The same over memory that outlives *out (fuzzing). */
FM_MUST_CHECK fm_status fm_gguf_set_parse(fm_gguf_set **out, const void *data, size_t n, const char *name);
const fm_gguf *fm_gguf_set_meta(const fm_gguf_set *s); /* of the first file */
size_t fm_gguf_set_count(const fm_gguf_set *s);
const fm_gguf_weight *fm_gguf_set_at(const fm_gguf_set *s, size_t i); /* in file order */
const fm_gguf_weight *fm_gguf_set_find(const fm_gguf_set *s, const char *name);
/* As find, with an error for a missing tensor or a type we do not read. */
FM_MUST_CHECK fm_status fm_gguf_set_get(const fm_gguf_weight **out, const fm_gguf_set *s, const char *name);
int fm_gguf_set_n_files(const fm_gguf_set *s);
int64_t fm_gguf_set_bytes(const fm_gguf_set *s); /* of all files */
/* Tells the system that these bytes were used and may leave memory. */
void fm_gguf_release_pages(const void *data, int64_t n);

/* n elements, beginning at element `from` of a weight, as f32. Both multiples of its block. */
void fm_gguf_read_f32(float *out, const fm_gguf_weight *w, int64_t from, int64_t n);

/* ---- writing: metadata and declarations, begin, the bytes of all tensors in order, finish ---- */

/* The file is written beside its name (.tmp), synced and renamed by finish. Failures of the metadata calls are kept
 * and returned by begin. */
typedef struct fm_gguf_writer fm_gguf_writer;
FM_MUST_CHECK fm_status fm_gguf_writer_new(fm_gguf_writer **out, const char *path);
void fm_gguf_put_int(fm_gguf_writer *w, const char *key, fm_gguf_type type, int64_t v);
void fm_gguf_put_u32(fm_gguf_writer *w, const char *key, int64_t v);
void fm_gguf_put_f32(fm_gguf_writer *w, const char *key, double v);
void fm_gguf_put_bool(fm_gguf_writer *w, const char *key, bool v);
void fm_gguf_put_text(fm_gguf_writer *w, const char *key, const char *p, size_t n);
/* Then n times fm_gguf_item_*, of that type. */
void fm_gguf_put_array(fm_gguf_writer *w, const char *key, fm_gguf_type item, uint64_t n);
void fm_gguf_item_text(fm_gguf_writer *w, const char *p, size_t n);
void fm_gguf_item_i32(fm_gguf_writer *w, int32_t v);
void fm_gguf_item_f32(fm_gguf_writer *w, float v);
void fm_gguf_put_copy(fm_gguf_writer *w, const fm_gguf_kv *kv);
/* Dimensions outermost first. */
FM_MUST_CHECK fm_status fm_gguf_writer_declare(fm_gguf_writer *w, const char *name, fm_dtype dtype, int n_dims,
                                               const int64_t *dim);
int64_t fm_gguf_writer_data_bytes(const fm_gguf_writer *w); /* declared so far */
/* FM_ERR_IO when the disk has no room for the file. */
FM_MUST_CHECK fm_status fm_gguf_writer_begin(fm_gguf_writer *w);
/* The next n bytes of the tensors, in the order of declaration; a call does not cross the end of a tensor. */
FM_MUST_CHECK fm_status fm_gguf_writer_put(fm_gguf_writer *w, const void *data, int64_t n);
FM_MUST_CHECK fm_status fm_gguf_writer_finish(fm_gguf_writer *w); /* FM_ERR_STATE when bytes are missing */
void fm_gguf_writer_free(fm_gguf_writer *w);                      /* without finish: removes what was written */

#endif
