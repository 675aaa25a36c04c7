/* The matrix-product kernels of one instruction set, for the table in cpu.c.
 *
 * Packed weights: panels of FM_GEMM_NR columns (the last one narrower, a multiple of the vector), each
 * panel [ks][width] units of 32 bits, where a unit is one f32 or a pair of bf16 along k (odd k: the
 * last pair has 0) and ks counts units. Padding columns are 0. A packed weight is good only for the
 * instruction set that packed it. */
#ifndef FM_BACKEND_CPU_SIMD_GEMM_H
#define FM_BACKEND_CPU_SIMD_GEMM_H

#include "backend/backend.h"

#define FM_GEMM_DECLARE(isa)                                                                                           \
    extern const fm_kernel_row fm_##isa##_gemm_rows[];                                                                 \
    int64_t fm_##isa##_matmul_pack_bytes(fm_dtype d, int64_t n, int64_t k);                                            \
    fm_status fm_##isa##_matmul_pack(const fm_exec *x, fm_dtype d, int64_t n, int64_t k, const void *b, int64_t ldb,   \
                                     bool trans_b, void *packed);                                                      \
    fm_status fm_##isa##_quant_pack(const fm_exec *x, fm_dtype d, int64_t n, int64_t k, const void *w, void *packed)

FM_GEMM_DECLARE(avx512);
FM_GEMM_DECLARE(avx2);
FM_GEMM_DECLARE(neon);
FM_GEMM_DECLARE(neondot); /* quantised products only */

#endif
