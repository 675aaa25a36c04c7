/* Elements of a file's tensor to those of a parameter: cast, gather of strided views, block scales, finiteness. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/weights.h"

#define CHUNK ((int64_t)1 << 18) /* elements read at a time by one thread */
#define TILE  32

/* ---- finiteness ------------------------------------------------------------------------------ */

/* The exponent field of every element, all ones in infinities and NaN. */
#define FIRST_WITH(T, MASK)                                                                                            \
    do {                                                                                                               \
        for (int64_t i_ = 0; i_ < n; i_ += 64) { /* whole groups first: the compiler makes vectors of them */          \
            int64_t m_ = FM_MIN(64, n - i_);                                                                           \
            T v_[64];                                                                                                  \
            unsigned bad_ = 0;                                                                                         \
            memcpy(v_, (const T *)data + i_, (size_t)m_ * sizeof(T));                                                  \
            for (int64_t j_ = 0; j_ < m_; j_++) {                                                                      \
                bad_ |= (v_[j_] & (MASK)) == (MASK);                                                                   \
            }                                                                                                          \
            for (int64_t j_ = 0; bad_ && j_ < m_; j_++) {                                                              \
                if ((v_[j_] & (MASK)) == (MASK)) {                                                                     \
                    return i_ + j_;                                                                                    \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        return -1;                                                                                                     \
    } while (0)

/* Index of the first element that is infinite or no number, or -1. data may be unaligned. */
static int64_t first_nonfinite(fm_dtype d, const void *data, int64_t n) {
    switch (d) {
    case FM_F64:
        FIRST_WITH(uint64_t, 0x7ff0000000000000u);
    case FM_F32:
        FIRST_WITH(uint32_t, 0x7f800000u);
    case FM_BF16:
        FIRST_WITH(uint16_t, 0x7f80u);
    case FM_F16:
        FIRST_WITH(uint16_t, 0x7c00u);
    default:
        return -1; /* codes: their values are checked when they are read */
    }
}

static fm_status refuse_nonfinite(const fm_weight *w, int64_t i) {
    char at[128];
    int64_t idx[FM_ST_MAX_DIMS] = {0};
    for (int d = w->n_dims - 1; d >= 0; d--) {
        idx[d] = i % w->dims[d];
        i /= w->dims[d];
    }
    (void)fm_error_set(FM_ERR_NUMERIC, __FILE__, __LINE__,
                       "tensor %s: expected finite numbers, found NaN or infinity at %s", w->name,
                       fm_weight_shape(at, sizeof at, w->n_dims, idx));
    return fm_error_hint("the weights are damaged or overflowed when they were saved; get the file again");
}

/* ---- strided views --------------------------------------------------------------------------- */

#define GATHER(T)                                                                                                      \
    for (int64_t i0 = 0; i0 < rows; i0 += TILE) {                                                                      \
        for (int64_t j0 = 0; j0 < cols; j0 += TILE) {                                                                  \
            int64_t i1 = FM_MIN(i0 + TILE, rows), j1 = FM_MIN(j0 + TILE, cols);                                        \
            for (int64_t i = i0; i < i1; i++) {                                                                        \
                for (int64_t j = j0; j < j1; j++) {                                                                    \
                    memcpy((uint8_t *)dst + (size_t)(i * cols + j) * sizeof(T),                                        \
                           (const uint8_t *)src + (i * row_stride + j * col_stride) * (int64_t)sizeof(T), sizeof(T));  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

void fm_gather_2d(void *dst, const void *src, int size, int64_t rows, int64_t cols, int64_t row_stride,
                  int64_t col_stride) {
    switch (size) {
    case 1:
        GATHER(uint8_t);
        break;
    case 2:
        GATHER(uint16_t);
        break;
    case 4:
        GATHER(uint32_t);
        break;
    default:
        FM_ASSERT(size == 8);
        GATHER(uint64_t);
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct read_job {
    const fm_weight *w;
    const fm_weight_scale *scale;
    uint8_t *dst;
    fm_dtype to;
    int64_t rows, cols, col_stride; /* dims as rows of the last one */
    int64_t rows_per_part;          /* of strided views */
    int64_t numel;
} read_job;

static fm_status cast(const fm_exec *x, fm_dtype from, const void *src, fm_dtype to, void *dst, int64_t n) {
    if (from == to) {
        memcpy(dst, src, (size_t)fm_dtype_bytes(to, n));
        return FM_OK;
    }
    fm_cast_args a = {.n = n, .to = to, .x = src, .y = dst};
    return fm_kernel_run(fm_cpu_backend(), x, FM_K_cast, from, &a);
}

static fm_status checked(const read_job *j, int64_t begin, int64_t n) {
    int64_t bad = first_nonfinite(j->to, j->dst + fm_dtype_bytes(j->to, begin), n);
    return bad < 0 ? FM_OK : refuse_nonfinite(j->w, begin + bad);
}

static fm_status read_dense(const read_job *j, const fm_exec *x, int64_t part) {
    int64_t begin = part * CHUNK, n = FM_MIN(CHUNK, j->numel - begin);
    const uint8_t *src = j->w->data + fm_dtype_bytes(j->w->dtype, begin);
    uint8_t *dst = j->dst + fm_dtype_bytes(j->to, begin);
    if (j->w->dtype == j->to || fm_weight_in_place(j->w)) {
        FM_TRY(cast(x, j->w->dtype, src, j->to, dst, n));
        return checked(j, begin, n);
    }
    double block[512]; /* aligned for every type */
    for (int64_t i = 0; i < n; i += 512) {
        int64_t m = FM_MIN(512, n - i);
        memcpy(block, src + fm_dtype_bytes(j->w->dtype, i), (size_t)fm_dtype_bytes(j->w->dtype, m));
        FM_TRY(cast(x, j->w->dtype, block, j->to, dst + fm_dtype_bytes(j->to, i), m));
    }
    return checked(j, begin, n);
}

#define TILE_COLS 1024

/* A part of the rows of a strided view; a row's place follows from its index over all dims but the last. */
static fm_status read_strided(const read_job *j, const fm_exec *x, int64_t part) {
    const fm_weight *w = j->w;
    int size = (int)fm_dtype_bytes(w->dtype, 1), last = w->n_dims - 1;
    int64_t r0 = part * j->rows_per_part, r1 = FM_MIN(r0 + j->rows_per_part, j->rows), n_rows;
    int64_t inner = last >= 1 ? w->dims[last - 1] : 1, rs = last >= 1 ? w->stride[last - 1] : 0;
    uint8_t *tile = fm_malloc((size_t)(TILE * TILE_COLS * size));
    fm_status s = FM_OK;
    if (!tile) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to read tensor %s", w->name);
    }
    for (int64_t r = r0; r < r1 && s == FM_OK; r += n_rows) {
        int64_t at = 0, left = r;
        for (int d = last - 1; d >= 0; d--) {
            at += left % w->dims[d] * w->stride[d];
            left /= w->dims[d];
        }
        n_rows = FM_MIN(FM_MIN(TILE, r1 - r), inner - r % inner); /* that stay inside the second-last dim */
        for (int64_t c = 0; c < j->cols && s == FM_OK; c += TILE_COLS) {
            int64_t n = FM_MIN(TILE_COLS, j->cols - c);
            fm_gather_2d(tile, w->data + (at + c * j->col_stride) * size, size, n_rows, n, rs, j->col_stride);
            for (int64_t i = 0; i < n_rows && s == FM_OK; i++) {
                uint8_t *dst = j->dst + fm_dtype_bytes(j->to, (r + i) * j->cols + c);
                s = cast(x, w->dtype, tile + i * n * size, j->to, dst, n);
            }
        }
    }
    fm_free(tile);
    return s == FM_OK ? checked(j, r0 * j->cols, (r1 - r0) * j->cols) : s;
}

/* 2^(e-127): a scale of one byte (OCP Microscaling Formats 1.0, E8M0); 255 is NaN. */
static double scale_at(const fm_weight *t, int64_t i, int64_t k) {
    const uint8_t *p = t->data + (i * t->stride[0] + k * t->stride[1]) * (t->bytes / (t->dims[0] * t->dims[1]));
    if (t->dtype == FM_DTYPE_COUNT) {
        return *p == 255 ? (double)NAN : ldexp(1, *p - 127);
    }
    uint64_t aligned = 0;
    memcpy(&aligned, p, (size_t)fm_dtype_bytes(t->dtype, 1));
    return fm_load_as_f64(t->dtype, &aligned, 0);
}

/* One row of blocks: a table of the 256 products for each block. The product of a code (4 significant bits) and an f32
 * is exact in f64, so that each element is rounded once. */
static fm_status read_scaled(const read_job *j, int64_t part) {
    const fm_weight_scale *q = j->scale;
    int64_t r0 = part * q->block_rows, r1 = FM_MIN(r0 + q->block_rows, j->rows);
    int64_t size = fm_dtype_bytes(j->to, 1);
    double value[256];
    uint64_t table[256]; /* products as `to`, packed from the beginning */
    for (int64_t k = 0; k < 256; k++) {
        uint8_t code = (uint8_t)k;
        value[k] = fm_load_as_f64(j->w->dtype, &code, 0);
    }
    for (int64_t c = 0; c < j->cols; c += q->block_cols) {
        int64_t c1 = FM_MIN(c + q->block_cols, j->cols);
        double f = scale_at(&q->t, part, c / q->block_cols);
        for (int64_t k = 0; k < 256; k++) {
            fm_store_from_f64(j->to, table, k, value[k] * f);
        }
        for (int64_t r = r0; r < r1; r++) {
            const uint8_t *code = j->w->data + r * j->cols;
            uint8_t *dst = j->dst + r * j->cols * size;
            for (int64_t i = c; i < c1; i++) {
                memcpy(dst + i * size, (const uint8_t *)table + code[i] * size, (size_t)size);
            }
        }
    }
    return checked(j, r0 * j->cols, (r1 - r0) * j->cols);
}

static fm_status read_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    const read_job *j = arg;
    if (j->scale) {
        return read_scaled(j, part);
    }
    fm_scratch *scratch = NULL;
    FM_TRY(fm_scratch_new(&scratch));
    fm_exec x = {.scratch = scratch};
    fm_status s = j->w->dense ? read_dense(j, &x, part) : read_strided(j, &x, part);
    fm_scratch_free(scratch);
    return s;
}

static void set_shape(read_job *j) {
    const fm_weight *w = j->w;
    j->numel = 1;
    for (int i = 0; i < w->n_dims; i++) {
        j->numel *= w->dims[i];
    }
    j->cols = w->n_dims ? w->dims[w->n_dims - 1] : 1;
    j->col_stride = w->n_dims ? w->stride[w->n_dims - 1] : 1;
    j->rows = j->cols ? j->numel / j->cols : 0;
}

fm_status fm_weight_read(void *dst, fm_dtype to, const fm_weight *w, const fm_weight_scale *scale, fm_pool *pool) {
    read_job j = {.w = w, .scale = scale, .dst = dst, .to = to};
    set_shape(&j);
    if (j.numel == 0) {
        return FM_OK;
    }
    int64_t parts = (j.numel + CHUNK - 1) / CHUNK;
    if (scale) {
        FM_ASSERT(w->n_dims == 2 && w->dense && fm_dtype_bytes(w->dtype, 1) == 1);
        parts = (j.rows + scale->block_rows - 1) / scale->block_rows;
    } else if (!w->dense) {
        j.rows_per_part = FM_MAX(CHUNK / j.cols, TILE);
        parts = (j.rows + j.rows_per_part - 1) / j.rows_per_part;
    }
    return fm_pool_run(pool, parts, read_part, &j);
}

static fm_status check_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    const read_job *j = arg;
    int64_t begin = part * CHUNK, n = FM_MIN(CHUNK, j->numel - begin);
    int64_t bad = first_nonfinite(j->to, j->w->data + fm_dtype_bytes(j->to, begin), n);
    return bad < 0 ? FM_OK : refuse_nonfinite(j->w, begin + bad);
}

fm_status fm_weight_check_finite(const fm_weight *w, fm_pool *pool) {
    FM_ASSERT(w->dense);
    read_job j = {.w = w, .to = w->dtype};
    set_shape(&j);
    return j.numel ? fm_pool_run(pool, (j.numel + CHUNK - 1) / CHUNK, check_part, &j) : FM_OK;
}
