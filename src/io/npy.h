/* NumPy .npy files: writing float32 arrays piece by piece, reading plain ones (tests, saved logits). */
#ifndef FM_IO_NPY_H
#define FM_IO_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "backend/dtype.h"
#include "base/file.h"
#include "fathom/status.h"

#define FM_NPY_MAX_DIMS 8

typedef struct fm_npy_writer fm_npy_writer;

/* dims [n_dims], row-major; dims[0] = -1: as many rows as are put. The file has its name from close
 * on; until then it is path.tmp. */
FM_MUST_CHECK fm_status fm_npy_create(fm_npy_writer **out, const char *path, int n_dims, const int64_t *dims);
FM_MUST_CHECK fm_status fm_npy_put(fm_npy_writer *w, const float *data, int64_t n); /* the next n elements */
/* Frees w in any case. FM_ERR_STATE (and no file) when elements are missing or too many. */
FM_MUST_CHECK fm_status fm_npy_close(fm_npy_writer *w);
void fm_npy_abort(fm_npy_writer *w); /* no file is left */

typedef struct fm_npy {
    fm_dtype dtype; /* F64, F32, F16, I32, I64, I8, U8 or BOOL */
    int n_dims;
    int64_t dims[FM_NPY_MAX_DIMS];
    int64_t n;        /* elements */
    const void *data; /* in the mapping, row-major, 16-byte aligned by every known writer */
    fm_map map;
} fm_npy;
FM_MUST_CHECK fm_status fm_npy_open(fm_npy *out, const char *path);
void fm_npy_release(fm_npy *a); /* zeroed is legal */

#endif
