/* Parameters whose master is quantised: blocks as GGUF files hold them, int8 with a factor a row, or nf4. Products read
 * them as they are (FM_K_quant_matmul); whatever else asks for them gets numbers. */
#include <string.h>

#include "backend/quant.h"
#include "backend/scratch.h"
#include "base/file.h"
#include "tensor/param.h"

bool fm_param_quantised(const fm_param *p) {
    p = p->tie ? p->tie : p;
    return p->dtype == FM_I8 ? p->row_scale != NULL : p->dtype == FM_NF4 || fm_quant_find(p->dtype) != NULL;
}

/* ---- as numbers ------------------------------------------------------------------------------ */

#define PIECE 256 /* elements: whole blocks of every type */

static void encode(fm_dtype to, const float *x, void *y, int64_t at, int64_t n) {
    if (to == FM_F32) {
        memcpy((float *)y + at, x, (size_t)n * sizeof *x);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        if (to == FM_BF16) {
            ((fm_bf16 *)y)[at + i] = fm_f32_to_bf16(x[i]);
        } else {
            fm_store_from_f64(to, y, at + i, (double)x[i]);
        }
    }
}

typedef struct read_job {
    const fm_param *p;
    fm_dtype to;
    int64_t first, cols; /* elements; of a row */
    int64_t numel;
    void *out;
} read_job;

/* Elements [at, at + n) of the parameter, n <= PIECE. */
static void piece(const fm_param *p, int64_t cols, int64_t at, int64_t n, float *x) {
    if (p->dtype == FM_I8) {
        for (int64_t i = 0; i < n; i++) {
            x[i] = (float)((const int8_t *)p->data)[at + i] * p->row_scale[(at + i) / cols];
        }
        return;
    }
    if (p->dtype == FM_NF4) {
        fm_nf4_dequantise(p->data, &p->nf4, at, n, x);
        return;
    }
    const uint8_t *b = (const uint8_t *)p->data + fm_dtype_bytes(p->dtype, at);
    fm_quant_find(p->dtype)->dequantise(b, x, n / fm_dtype_get(p->dtype)->block);
}

static fm_status read_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const read_job *j = arg;
    int64_t begin, end;
    float x[PIECE];
    FM_UNUSED(thread);
    fm_split(j->numel, part, n_parts, PIECE, &begin, &end);
    for (int64_t i = begin; i < end; i += PIECE) {
        int64_t n = FM_MIN((int64_t)PIECE, end - i);
        piece(j->p, j->cols, j->first + i, n, x);
        encode(j->to, x, j->out, i, n);
    }
    return FM_OK;
}

fm_status fm_param_rows(const fm_backend *b, const fm_exec *x, const fm_param *p, int64_t row, int64_t n,
                        fm_dtype dtype, void *out) {
    p = p->tie ? p->tie : p;
    int64_t cols = p->numel / p->dim[0];
    if (!p->data) {
        FM_FAIL(FM_ERR_STATE, "parameter %s has no data", p->name);
    }
    if (!fm_param_quantised(p)) {
        const uint8_t *src = (const uint8_t *)p->data + fm_dtype_bytes(p->dtype, row * cols);
        fm_cast_args a = {.n = n * cols, .to = dtype, .x = src, .y = out};
        return fm_kernel_run(b, x, FM_K_cast, p->dtype, &a);
    }
    read_job j = {.p = p, .to = dtype, .first = row * cols, .cols = cols, .numel = n * cols, .out = out};
    int64_t parts = (j.numel + (1 << 16) - 1) >> 16;
    return fm_pool_run(parts > 1 ? x->pool : NULL, parts, read_part, &j);
}

/* ---- products -------------------------------------------------------------------------------- */

/* Packed weights may take this share of the memory that the process can have. They stand in for the file's pages, which
 * can go. */
#define PACK_SHARE 0.8

static fm_status quant_packed(const fm_backend *b, const fm_exec *x, fm_param *p, const void **out) {
    *out = NULL;
    int64_t n = p->dim[0], k = p->numel / p->dim[0],
            bytes = b->quant_pack_bytes ? b->quant_pack_bytes(p->dtype, n, k) : 0;
    if (p->packed && p->packed_version == p->version && p->packed_dtype == p->dtype) {
        *out = p->packed;
        return FM_OK;
    }
    if (bytes == 0 || p->pack_uses < 0) {
        return FM_OK;
    }
    if (p->packed) {
        fm_dense_free(p->packed, (size_t)p->packed_bytes, FM_MEM_PACKED);
        p->packed = NULL;
    }
    int64_t packed = fm_ledger_current(FM_MEM_PACKED);
    if ((double)(packed + bytes) > PACK_SHARE * (double)(fm_mem_available() + packed)) {
        p->pack_uses = -1;
        return FM_OK;
    }
    FM_TRY(fm_dense_alloc(&p->packed, (size_t)bytes, FM_MEM_PACKED));
    p->packed_bytes = bytes;
    p->packed_version = 0; /* of no use until it is whole */
    FM_TRY(b->quant_pack(x, p->dtype, n, k, p->data, p->packed));
    if (p->storage == FM_STORAGE_MAP) {
        fm_map_release(p->data, (size_t)fm_dtype_bytes(p->dtype, p->numel));
    }
    p->packed_version = p->version;
    p->packed_dtype = p->dtype;
    *out = p->packed;
    return FM_OK;
}

static fm_status quant_product(fm_ctx *c, fm_param *p, const fm_matmul_args *a, fm_dtype d) {
    fm_quant_matmul_args q = {.m = a->m,
                              .n = a->n,
                              .k = a->k,
                              .a = a->a,
                              .lda = a->lda,
                              .w_dtype = p->dtype,
                              .w = p->data,
                              .w_scale = p->dtype == FM_I8 ? p->row_scale : NULL,
                              .c = a->c,
                              .ldc = a->ldc,
                              .c_dtype = a->c_dtype,
                              .bias = a->bias};
    FM_TRY(quant_packed(fm_ctx_backend(c), fm_ctx_exec(c), p, &q.w_packed));
    FM_TRY(fm_ctx_status(c));
    return fm_run(c, FM_K_quant_matmul, d, &q);
}

/* The kernel sets other than the reference read only types they can pack. */
static bool has_product(const fm_backend *b, const fm_param *p, fm_dtype d) {
    return b->kernel[FM_K_quant_matmul][d] &&
           (!b->quant_pack_bytes || b->quant_pack_bytes(p->dtype, p->dim[0], p->numel / p->dim[0]) > 0);
}

fm_status fm_weight_numbers(fm_ctx *c, const fm_tensor *w, fm_dtype d, const void **out) {
    *out = NULL;
    if (fm_ctx_is_meta(c)) {
        return FM_OK;
    }
    if (!w->param || !fm_param_quantised(w->param)) {
        *out = fm_data(c, w);
        return fm_ctx_status(c);
    }
    void *numbers = fm_scratch_take(fm_ctx_exec(c), fm_dtype_bytes(d, w->param->numel));
    if (!numbers) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the numbers of %s", w->param->name);
    }
    *out = numbers;
    return fm_param_rows(fm_ctx_backend(c), fm_ctx_exec(c), w->param, 0, w->param->dim[0], d, numbers);
}

/* Training: a quantised weight is made numbers for each product, so that one of them at a time takes memory. */
static fm_status numbers_product(fm_ctx *c, const fm_tensor *w, fm_matmul_args *a, fm_dtype d) {
    fm_scratch *scratch = fm_ctx_exec(c)->scratch;
    fm_scratch_mark mark = fm_scratch_save(scratch);
    fm_status s = fm_weight_numbers(c, w, d, &a->b);
    s = s == FM_OK ? fm_run(c, FM_K_matmul, d, a) : s;
    fm_scratch_restore(scratch, mark);
    return s;
}

fm_status fm_weight_product(fm_ctx *c, const fm_tensor *w, fm_matmul_args *a, fm_dtype d) {
    const fm_backend *b = fm_ctx_backend(c);
    fm_param *p = w->param && w->param->tie ? w->param->tie : w->param;
    if (fm_ctx_is_meta(c)) {
        return FM_OK;
    }
    if (fm_ctx_pack(c) && p && fm_param_quantised(p) && has_product(b, p, d)) {
        return quant_product(c, p, a, d);
    }
    a->ldb = a->k;
    a->trans_b = true;
    if (!fm_ctx_pack(c) && p && fm_param_quantised(p)) {
        FM_TRY(fm_ctx_status(c));
        return numbers_product(c, w, a, d);
    }
    if (fm_ctx_pack(c) && p) {
        void *packed = NULL;
        FM_TRY(fm_param_packed(b, fm_ctx_exec(c), p, d, &packed));
        a->b_packed = packed;
    }
    if (!a->b_packed) {
        a->b = fm_data(c, w);
    }
    FM_TRY(fm_ctx_status(c));
    return fm_run(c, FM_K_matmul, d, a);
}
