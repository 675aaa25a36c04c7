/* Devices and their kernel tables.
 *
 * A backend is a table kernel x dtype of functions. The CPU table is filled in order: reference,
 * AVX2 / NEON, AVX-512, then matrix-product providers; the first three by overlay, so a row that a
 * faster set lacks falls back to a slower one. The meta device has sizes and no memory: operations
 * compute shapes and arena use on it and call no kernels. */
#ifndef FM_BACKEND_BACKEND_H
#define FM_BACKEND_BACKEND_H

#include "backend/kernels.h"
#include "base/cpu.h"
#include "base/mem.h"

typedef enum fm_device_kind { FM_DEVICE_CPU, FM_DEVICE_META, FM_DEVICE_CUDA } fm_device_kind;
typedef struct fm_device {
    fm_device_kind kind;
    int32_t index;
} fm_device;

typedef struct fm_backend {
    const char *name; /* "cpu.avx512" */
    fm_device_kind kind;
    fm_kernel_fn kernel[FM_KERNEL_COUNT][FM_DTYPE_COUNT];
    /* Packed weights, NULL when the backend packs nothing. B as in fm_matmul_args: [n,k] (trans_b) or [k,n].
     * pack_bytes gives the size of the packed form for dtype D, 0 when it does not pack that type. Rows r..r+n of a
     * trans_b weight pack to the bytes from pack_bytes(r) on when r is a multiple of 960 (every panel width). */
    int64_t (*matmul_pack_bytes)(fm_dtype d, int64_t n, int64_t k);
    fm_status (*matmul_pack)(const fm_exec *x, fm_dtype d, int64_t n, int64_t k, const void *b, int64_t ldb,
                             bool trans_b, void *packed);
    /* The same for quantised weights w [n,k] of type d; bytes 0: this type is not packed and has no quantised product.
     */
    int64_t (*quant_pack_bytes)(fm_dtype d, int64_t n, int64_t k);
    fm_status (*quant_pack)(const fm_exec *x, fm_dtype d, int64_t n, int64_t k, const void *w, void *packed);
} fm_backend;

/* One row of a kernel set. */
typedef struct fm_kernel_row {
    fm_kernel kernel;
    fm_dtype dtype;
    fm_kernel_fn fn;
} fm_kernel_row;

extern const fm_backend fm_meta_backend;

/* Runs a kernel of the backend; FM_ERR_UNSUPPORTED names kernel, dtype and backend when the cell is empty. Scratch
 * taken by the kernel is given back when it returns. Time is charged to the kernel when profiling is on. */
FM_MUST_CHECK fm_status fm_kernel_run(const fm_backend *b, const fm_exec *x, fm_kernel k, fm_dtype d, const void *args);

/* Scratch: grows to the high-water mark, kept until freed. */
FM_MUST_CHECK fm_status fm_scratch_new(fm_scratch **out);
void fm_scratch_free(fm_scratch *s);
int64_t fm_scratch_high_water(const fm_scratch *s);

/* Profile: seconds and calls per kernel since the reset, summed over contexts. Off by default. */
typedef struct fm_kernel_time {
    double seconds;
    int64_t calls;
} fm_kernel_time;
void fm_profile_enable(bool on);
void fm_profile_reset(void);
fm_kernel_time fm_profile_get(fm_kernel k);

#endif
