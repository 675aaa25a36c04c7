/* The parts of fm_convert (include/fathom/convert.h). A conversion is a list of output tensors, each read by rows as
 * f32, encoded by all threads and written in order: memory holds some rows of one tensor. */
#ifndef FM_MODEL_CONVERT_H
#define FM_MODEL_CONVERT_H

#include "base/progress.h"
#include "fathom/convert.h"
#include "model/gguf.h"

typedef struct fm_out_tensor fm_out_tensor;

/* Rows [row, row + n) of a tensor into x [n,cols]. Called from several threads. */
typedef fm_status (*fm_rows_fn)(const void *user, const fm_out_tensor *t, int64_t row, int64_t n, float *x);

struct fm_out_tensor {
    char name[160];
    fm_dtype dtype;
    int n_dims;
    int64_t dim[4];       /* outermost first */
    int64_t rows, cols;   /* cols of the last dimension; vectors are rows of 1 */
    int64_t align;        /* rows are asked for in multiples of it */
    const uint8_t *bytes; /* already encoded: copied, or NULL */
    bool is_scale;        /* factors of the rows of the int8 matrix before it */
    fm_gguf_place_kind kind;
    int32_t *param, n_param; /* of the model, one a slice */
    const void *data;        /* of the rows function */
};

typedef struct fm_out_list {
    fm_out_tensor *item;
    size_t n, cap;
} fm_out_list;
void fm_out_list_free(fm_out_list *l);
FM_MUST_CHECK fm_status fm_out_list_add(fm_out_list *l, const char *name, int n_dims, const int64_t *dim,
                                        fm_out_tensor **out);

typedef struct fm_conversion {
    const fm_convert_options *options;
    fm_convert_report *report;
    fm_pool *pool;
    const fm_model *model; /* whose pages may go once they are written, or NULL */
    fm_meter meter;
    double done, written_of[FM_DTYPE_COUNT];
} fm_conversion;

/* Where encoded bytes go: the next n bytes of tensor t, from byte `at`. */
typedef fm_status (*fm_sink_fn)(void *user, const fm_out_tensor *t, int64_t at, const void *data, int64_t n);
/* All rows of all tensors, encoded, to the sink, in order. */
FM_MUST_CHECK fm_status fm_convert_tensors(fm_conversion *c, const fm_out_list *list, fm_rows_fn rows, const void *user,
                                           fm_sink_fn sink, void *sink_user);
FM_MUST_CHECK fm_status fm_convert_gguf_sink(void *writer, const fm_out_tensor *t, int64_t at, const void *data,
                                             int64_t n);

/* Rows of a model's parameter: from its data, or from the GGUF file it was opened from. */
FM_MUST_CHECK fm_status fm_model_param_rows(const fm_model *m, int param, int64_t row, int64_t n, float *x);

/* The directions; out is a temporary name. */
FM_MUST_CHECK fm_status fm_convert_to_gguf(fm_conversion *c, const fm_model *m, const char *out);
FM_MUST_CHECK fm_status fm_convert_to_folder(fm_conversion *c, fm_model *m, const char *out);
FM_MUST_CHECK fm_status fm_convert_gguf_to_gguf(fm_conversion *c, const char *in, const char *out);

/* Vocabulary and small files. */
FM_MUST_CHECK fm_status fm_gguf_vocab_write(fm_gguf_writer *w, const fm_model *m);
FM_MUST_CHECK fm_status fm_gguf_files_write(fm_gguf_writer *w, const fm_model *m);
/* Tokenizer and other small files of the model into a folder. */
FM_MUST_CHECK fm_status fm_model_copy_files(const fm_model *m, const char *dir);
/* A whole folder: weights and those files. dtype: f32, bf16, f16 or NULL = as the weights were stored (f32 when that is
 * another type). */
FM_MUST_CHECK fm_status fm_model_write(const fm_model *m, const char *dir, const char *dtype);

#endif
