/* The weight files of a model folder, whatever their format, and how their tensors become parameters.
 *
 * Tensors stay in the mapped files. A parameter is pointed at its tensor where the file holds exactly what is wanted;
 * otherwise (another element type wanted, file transposed, fp8 with scales, strided views) its elements are read into
 * memory. For the files of src/model only. */
#ifndef FM_MODEL_WEIGHTS_H
#define FM_MODEL_WEIGHTS_H

#include "backend/backend.h"
#include "io/safetensors.h"

/* A tensor in a file. */
typedef struct fm_weight {
    const char *name;
    fm_dtype dtype;         /* FM_DTYPE_COUNT when we have no such type; see dtype_name */
    const char *dtype_name; /* as in the file */
    int n_dims;
    int64_t dims[FM_ST_MAX_DIMS];
    int64_t stride[FM_ST_MAX_DIMS]; /* in elements */
    bool dense;                     /* row-major without gaps */
    const uint8_t *data;            /* of the first element; may be unaligned */
    int64_t bytes;                  /* of the dims[...] elements, without gaps */
} fm_weight;

typedef struct fm_weights fm_weights;

/* Finds the weight files of a folder. */
FM_MUST_CHECK fm_status fm_weights_open(fm_weights **out, const char *dir);
void fm_weights_close(fm_weights *ws);
size_t fm_weights_count(const fm_weights *ws);
void fm_weights_at(fm_weight *out, const fm_weights *ws, size_t i);           /* sorted by name */
bool fm_weights_find(fm_weight *out, const fm_weights *ws, const char *name); /* false when missing */
size_t fm_weights_n_files(const fm_weights *ws);
const char *fm_weights_file(const fm_weights *ws, size_t i);

/* [a,b] -> the same elements seen as [b,a]. */
void fm_weight_transpose(fm_weight *w);
/* True when the elements may be used where they are. */
bool fm_weight_in_place(const fm_weight *w);
/* Tells the system that the tensor was copied and its pages may go. */
void fm_weight_release(const fm_weight *w);
/* "[4096,11008]" */
const char *fm_weight_shape(char *buf, size_t cap, int n_dims, const int64_t *dims);

/* Factors of a block-scaled tensor: element [i,j] is code * scale[i / block_rows, j / block_cols]. */
typedef struct fm_weight_scale {
    fm_weight t; /* [ceil(rows/block_rows), ceil(cols/block_cols)] */
    int64_t block_rows, block_cols;
} fm_weight_scale;

/* All elements, row-major, as `to` (f64, f32, bf16 or f16) into dst. scale NULL = none. Each element is rounded once.
 * FM_ERR_NUMERIC naming tensor and element when one is not finite. */
FM_MUST_CHECK fm_status fm_weight_read(void *dst, fm_dtype to, const fm_weight *w, const fm_weight_scale *scale,
                                       fm_pool *pool);
/* The check of fm_weight_read alone. */
FM_MUST_CHECK fm_status fm_weight_check_finite(const fm_weight *w, fm_pool *pool);

/* dst [rows,cols] = src[i * row_stride + j * col_stride], elements of `size` bytes, by square blocks so that both
 * sides are read and written by cache lines. */
void fm_gather_2d(void *dst, const void *src, int size, int64_t rows, int64_t cols, int64_t row_stride,
                  int64_t col_stride);

#endif
