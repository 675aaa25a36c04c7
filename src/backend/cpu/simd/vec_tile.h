/* Vector primitives that packed tiles need beside vec.h: transposes in registers, fast narrowing to bf16.
 *
 * vf_transpose(t)   t[i] lane j <-> t[j] lane i, VF_N vectors of VF_N lanes
 * vu_transpose(t)   the same for pairs of bf16 (AVX-512 only)
 * vf_scale2(p, n)   p * 2^n for whole n in [-127, 127]; at VF_EXP2_MIN the product with p in [1/2, 2] is 0
 * vf_narrow_store(p, v)  to bf16, round to nearest even; numbers below 2^-126 become 0 (AVX-512 only) */
#ifndef FM_BACKEND_CPU_SIMD_VEC_TILE_H
#define FM_BACKEND_CPU_SIMD_VEC_TILE_H

#include "backend/cpu/simd/vec.h"

#if defined(FM_SIMD_avx512)

#define VF_EXP2_MIN (-160.0F)
static inline vf vf_scale2(vf p, vf n) {
    return _mm512_scalef_ps(p, n);
}
static inline void vf_transpose(vf t[16]) {
    __m512d a[16];
    for (int i = 0; i < 16; i += 4) {
        /* 4x4 blocks of each 128-bit lane: a[i+c] lane q holds column 4q+c of rows i..i+3. */
        __m512d l0 = _mm512_castps_pd(_mm512_unpacklo_ps(t[i], t[i + 1]));
        __m512d h0 = _mm512_castps_pd(_mm512_unpackhi_ps(t[i], t[i + 1]));
        __m512d l1 = _mm512_castps_pd(_mm512_unpacklo_ps(t[i + 2], t[i + 3]));
        __m512d h1 = _mm512_castps_pd(_mm512_unpackhi_ps(t[i + 2], t[i + 3]));
        a[i] = _mm512_unpacklo_pd(l0, l1);
        a[i + 1] = _mm512_unpackhi_pd(l0, l1);
        a[i + 2] = _mm512_unpacklo_pd(h0, h1);
        a[i + 3] = _mm512_unpackhi_pd(h0, h1);
    }
    for (int c = 0; c < 4; c++) {
        /* Transpose the 4x4 matrix of 128-bit lanes. */
        __m512 r0 = _mm512_castpd_ps(a[c]);
        __m512 r1 = _mm512_castpd_ps(a[c + 4]);
        __m512 r2 = _mm512_castpd_ps(a[c + 8]);
        __m512 r3 = _mm512_castpd_ps(a[c + 12]);
        __m512 e01 = _mm512_shuffle_f32x4(r0, r1, 0x88);
        __m512 o01 = _mm512_shuffle_f32x4(r0, r1, 0xdd);
        __m512 e23 = _mm512_shuffle_f32x4(r2, r3, 0x88);
        __m512 o23 = _mm512_shuffle_f32x4(r2, r3, 0xdd);
        t[c] = _mm512_shuffle_f32x4(e01, e23, 0x88);
        t[c + 4] = _mm512_shuffle_f32x4(o01, o23, 0x88);
        t[c + 8] = _mm512_shuffle_f32x4(e01, e23, 0xdd);
        t[c + 12] = _mm512_shuffle_f32x4(o01, o23, 0xdd);
    }
}
static inline void vu_transpose(vu t[16]) {
    vf f[16];
    for (int i = 0; i < 16; i++) {
        f[i] = _mm512_castsi512_ps(t[i]);
    }
    vf_transpose(f);
    for (int i = 0; i < 16; i++) {
        t[i] = _mm512_castps_si512(f[i]);
    }
}
static inline void vf_narrow_store(fm_bf16 *p, vf v) {
    _mm256_storeu_si256((void *)p, (__m256i)_mm512_cvtneps_pbh(v));
}

#elif defined(FM_SIMD_avx2)

static inline void vf_transpose(vf t[8]) {
    __m256 a[8];
    for (int i = 0; i < 8; i += 4) {
        __m256d l0 = _mm256_castps_pd(_mm256_unpacklo_ps(t[i], t[i + 1]));
        __m256d h0 = _mm256_castps_pd(_mm256_unpackhi_ps(t[i], t[i + 1]));
        __m256d l1 = _mm256_castps_pd(_mm256_unpacklo_ps(t[i + 2], t[i + 3]));
        __m256d h1 = _mm256_castps_pd(_mm256_unpackhi_ps(t[i + 2], t[i + 3]));
        a[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(l0, l1));
        a[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(l0, l1));
        a[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(h0, h1));
        a[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(h0, h1));
    }
    for (int c = 0; c < 4; c++) {
        t[c] = _mm256_permute2f128_ps(a[c], a[c + 4], 0x20);
        t[c + 4] = _mm256_permute2f128_ps(a[c], a[c + 4], 0x31);
    }
}

#elif defined(FM_SIMD_neon)

static inline void vf_transpose(vf t[4]) {
    float32x4x2_t a = vtrnq_f32(t[0], t[1]);
    float32x4x2_t b = vtrnq_f32(t[2], t[3]);
    t[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    t[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    t[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    t[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

#endif

#if !defined(FM_SIMD_avx512)
#define VF_EXP2_MIN (-127.0F) /* below, the exponent field would wrap */
static inline vf vf_scale2(vf p, vf n) {
    return vf_mul(p, vf_from_vi(vi_shl(vi_add(vf_to_int(n), vi_set1(127)), 23)));
}
#endif

#endif
