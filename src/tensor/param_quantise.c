/* Filling quantised masters. */
#include <math.h>
#include <string.h>

#include "backend/quant.h"
#include "backend/scratch.h"
#include "tensor/param.h"

#define ROWS 64 /* made numbers at a time: whole blocks of nf4, whatever the length of a row */

bool fm_param_quantisable(const fm_param *p, fm_dtype d) {
    const fm_quant_type *q = fm_quant_find(d);
    if (p->n_dims != 2) {
        return false;
    }
    return d == FM_I8 || (d == FM_NF4 && p->numel % 2 == 0) ||
           (q && q->quantise && p->dim[1] % fm_dtype_get(d)->block == 0);
}

int64_t fm_param_bytes(const fm_param *p, fm_dtype d) {
    int64_t bytes = fm_dtype_bytes(d, p->numel), aligned = (bytes + 3) / 4 * 4;
    return d == FM_I8    ? aligned + 4 * p->dim[0]
           : d == FM_NF4 ? aligned + fm_nf4_scale_bytes(p->numel, p->nf4_twice)
                         : bytes;
}

typedef struct rows_job {
    fm_param *p;
    const float *x; /* rows [first, first + n) */
    int64_t first, n;
    float *scale; /* of all blocks of an nf4 master */
} rows_job;

static fm_status quantise_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const rows_job *j = arg;
    int64_t k = j->p->dim[1], begin, end;
    FM_UNUSED(thread);
    if (j->p->dtype == FM_NF4) {
        fm_split(j->n * k, part, n_parts, FM_NF4_BLOCK, &begin, &end);
        int64_t at = j->first * k + begin;
        if (begin < end) {
            fm_nf4_quantise(j->x + begin, end - begin, (uint8_t *)j->p->data + at / 2, j->scale + at / FM_NF4_BLOCK);
        }
        return FM_OK;
    }
    fm_split(j->n, part, n_parts, 1, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const float *x = j->x + r * k;
        if (j->p->dtype == FM_I8) {
            ((float *)(uintptr_t)j->p->row_scale)[j->first + r] = fm_int8_factor(x, k);
            fm_int8_row(x, (int8_t *)j->p->data + (j->first + r) * k, k);
        } else {
            uint8_t *to = (uint8_t *)j->p->data + fm_dtype_bytes(j->p->dtype, (j->first + r) * k);
            fm_quant_find(j->p->dtype)->quantise(x, to, k / fm_dtype_get(j->p->dtype)->block);
        }
    }
    return FM_OK;
}

static fm_status check_finite(const fm_param *p, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            FM_FAIL(FM_ERR_NUMERIC, "parameter %s holds %g, which %s cannot hold", p->name, (double)x[i],
                    fm_dtype_get(p->dtype)->name);
        }
    }
    return FM_OK;
}

static fm_status quantise_rows(const fm_backend *b, const fm_exec *x, fm_param *p, const fm_param *from, float *rows,
                               float *scale) {
    for (int64_t r = 0; r < p->dim[0]; r += ROWS) {
        rows_job j = {.p = p, .x = rows, .first = r, .n = FM_MIN(ROWS, p->dim[0] - r), .scale = scale};
        FM_TRY(fm_param_rows(b, x, from, r, j.n, FM_F32, rows));
        FM_TRY(check_finite(p, rows, j.n * p->dim[1]));
        FM_TRY(fm_pool_run(x->pool, 8, quantise_part, &j));
    }
    if (scale) {
        fm_nf4_set_scales(&p->nf4, fm_nf4_blocks(p->numel), scale);
    }
    return FM_OK;
}

fm_status fm_param_quantise(const fm_backend *b, const fm_exec *x, fm_param *p, const fm_param *from) {
    FM_ASSERT(p->data && p->storage == FM_STORAGE_HEAP && fm_param_quantised(p));
    from = from->tie ? from->tie : from;
    if (from->dtype == p->dtype && fm_quant_find(p->dtype)) {
        memcpy(p->data, from->data, (size_t)fm_dtype_bytes(p->dtype, p->numel));
        fm_param_changed(p);
        return FM_OK;
    }
    fm_scratch_mark mark = fm_scratch_save(x->scratch);
    float *rows = fm_scratch_take(x, ROWS * p->dim[1] * (int64_t)sizeof *rows), *scale = NULL;
    if (p->dtype == FM_NF4) {
        scale = fm_scratch_take(x, fm_nf4_blocks(p->numel) * (int64_t)sizeof *scale);
    }
    fm_status s = rows && (scale || p->dtype != FM_NF4)
                      ? quantise_rows(b, x, p, from, rows, scale)
                      : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory to quantise %s", p->name);
    fm_scratch_restore(x->scratch, mark);
    fm_param_changed(p);
    return s;
}
