/* Vector primitives with AVX-512 F, BW, DQ, VL and BF16. Included by vec.h only. */
#ifndef FM_BACKEND_CPU_SIMD_VEC_AVX512_H
#define FM_BACKEND_CPU_SIMD_VEC_AVX512_H

#include <immintrin.h>

#define VF_N 16

typedef __m512 vf;
typedef __m512i vu;
typedef __m512i vi;
typedef __mmask16 vm;
typedef __m512d vd;

static inline __mmask16 vf_tail_mask(int n) {
    return (__mmask16)((1u << (unsigned)n) - 1u);
}

static inline vf vf_zero(void) {
    return _mm512_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
static inline vf vf_loadn(const float *p, int n) {
    return _mm512_maskz_loadu_ps(vf_tail_mask(n), p);
}
static inline void vf_storen(float *p, vf v, int n) {
    _mm512_mask_storeu_ps(p, vf_tail_mask(n), v);
}
static inline vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
static inline vf vf_sqrt(vf a) {
    return _mm512_sqrt_ps(a);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_fnma(vf a, vf b, vf c) {
    return _mm512_fnmadd_ps(a, b, c);
}
static inline vf vf_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_from_vi(vi a) {
    return _mm512_castsi512_ps(a);
}
static inline vi vi_from_vf(vf a) {
    return _mm512_castps_si512(a);
}
static inline vi vf_to_int(vf a) {
    return _mm512_cvtps_epi32(a);
}
static inline vf vi_to_float(vi a) {
    return _mm512_cvtepi32_ps(a);
}

static inline vm vf_lt(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline vm vf_le(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
static inline vm vf_isnan(vf a) {
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}
static inline vm vf_firstn(int n) {
    return vf_tail_mask(n);
}
static inline vf vf_select(vm m, vf a, vf b) {
    return _mm512_mask_blend_ps(m, b, a);
}

static inline vi vi_set1(int32_t x) {
    return _mm512_set1_epi32(x);
}
static inline vi vi_load(const void *p) {
    return _mm512_loadu_si512(p);
}
static inline void vi_store(void *p, vi v) {
    _mm512_storeu_si512(p, v);
}
static inline vi vi_add(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b) {
    return _mm512_sub_epi32(a, b);
}
static inline vi vi_mul(vi a, vi b) {
    return _mm512_mullo_epi32(a, b);
}
static inline vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
static inline vi vi_xor(vi a, vi b) {
    return _mm512_xor_si512(a, b);
}
#define vi_shl(a, k) _mm512_slli_epi32((a), (k))
#define vi_shr(a, k) _mm512_srli_epi32((a), (k))
#define vi_sar(a, k) _mm512_srai_epi32((a), (k))
static inline vi vi_select(vm m, vi a, vi b) {
    return _mm512_mask_blend_epi32(m, b, a);
}
/* Both halves of the unsigned 32x32 products. */
static inline void vi_mul_wide(vi a, vi b, vi *hi, vi *lo) {
    __m512i even = _mm512_mul_epu32(a, b);
    __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
    *hi = _mm512_mask_blend_epi32((__mmask16)0xaaaa, _mm512_srli_epi64(even, 32), odd);
    *lo = _mm512_mask_blend_epi32((__mmask16)0xaaaa, even, _mm512_slli_epi64(odd, 32));
}
static inline vm vi_ge_u32(vi a, vi b) {
    return _mm512_cmpge_epu32_mask(a, b);
}
/* 4x4 transposition inside each group of four lanes: lane 4g+k of w[j] goes to lane 4g+j of w[k]. */
static inline void vi_transpose4(vi w[4]) {
    __m512i t0 = _mm512_unpacklo_epi32(w[0], w[1]), t1 = _mm512_unpackhi_epi32(w[0], w[1]);
    __m512i t2 = _mm512_unpacklo_epi32(w[2], w[3]), t3 = _mm512_unpackhi_epi32(w[2], w[3]);
    w[0] = _mm512_unpacklo_epi64(t0, t2);
    w[1] = _mm512_unpackhi_epi64(t0, t2);
    w[2] = _mm512_unpacklo_epi64(t1, t3);
    w[3] = _mm512_unpackhi_epi64(t1, t3);
}

/* Bytes in groups of four along each lane, see vec.h. */
#define VQ_FLIP 0x80
static inline vi vi_set1_quad(const int8_t *p) {
    int32_t quad;
    memcpy(&quad, p, sizeof quad);
    return _mm512_set1_epi32(quad);
}
static inline vi vi_dot8(vi acc, vi w, vi a) {
    return _mm512_dpbusd_epi32(acc, w, a);
}
static inline vi vi_dot7(vi acc, vi w, vi a) {
    return _mm512_dpbusd_epi32(acc, w, a);
}
static inline vi vi_load_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
}
static inline vi vi_load_i8(const int8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p));
}
static inline void vi_store_i8(int8_t *p, vi v) {
    _mm_storeu_si128((void *)p, _mm512_cvtsepi32_epi8(v));
}
static inline vi vi_max(vi a, vi b) {
    return _mm512_max_epi32(a, b);
}
static inline int32_t vi_hsum(vi v) {
    return _mm512_reduce_add_epi32(v);
}
static inline int32_t vi_hmax(vi v) {
    return _mm512_reduce_max_epi32(v);
}

static inline __m256i vf_narrow_bf16(vf v) {
    return (__m256i)_mm512_cvtneps_pbh(v);
}
static inline vf vf_widen_bf16(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline vf vf_load_bf16(const fm_bf16 *p) {
    return vf_widen_bf16(_mm256_loadu_si256((const void *)p));
}
static inline vf vf_loadn_bf16(const fm_bf16 *p, int n) {
    return vf_widen_bf16(_mm256_maskz_loadu_epi16(vf_tail_mask(n), p));
}
static inline void vf_store_bf16(fm_bf16 *p, vf v) {
    _mm256_storeu_si256((void *)p, vf_narrow_bf16(v));
}
static inline void vf_storen_bf16(fm_bf16 *p, vf v, int n) {
    _mm256_mask_storeu_epi16(p, vf_tail_mask(n), vf_narrow_bf16(v));
}

static inline float vf_hsum(vf v) {
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    q = _mm_add_ss(q, _mm_movehdup_ps(q));
    return _mm_cvtss_f32(q);
}
static inline float vf_hmax(vf v) {
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    q = _mm_max_ss(q, _mm_movehdup_ps(q));
    return _mm_cvtss_f32(q);
}

static inline vu vu_zero(void) {
    return _mm512_setzero_si512();
}
static inline vu vu_load(const void *p) {
    return _mm512_loadu_si512(p);
}
static inline vu vu_loadn(const void *p, int n_pairs) {
    return _mm512_maskz_loadu_epi32(vf_tail_mask(n_pairs), p);
}
static inline void vu_store(void *p, vu v) {
    _mm512_storeu_si512(p, v);
}
static inline vu vu_set1_pair(const void *p) {
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
}
static inline vf vf_dot_bf16(vf acc, vu a, vu b) {
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}
static inline vu vu_zip_words(__m256i lo, __m256i hi) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(lo), _mm512_slli_epi32(_mm512_cvtepu16_epi32(hi), 16));
}
static inline vu vu_zip(const fm_bf16 *p0, const fm_bf16 *p1) {
    return vu_zip_words(_mm256_loadu_si256((const void *)p0), _mm256_loadu_si256((const void *)p1));
}
static inline vu vu_zipn(const fm_bf16 *p0, const fm_bf16 *p1, int n) {
    __mmask16 m = vf_tail_mask(n);
    return vu_zip_words(_mm256_maskz_loadu_epi16(m, p0), _mm256_maskz_loadu_epi16(m, p1));
}

static inline vd vd_zero(void) {
    return _mm512_setzero_pd();
}
static inline vd vd_lo(vf v) {
    return _mm512_cvtps_pd(_mm512_castps512_ps256(v));
}
static inline vd vd_hi(vf v) {
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
}
static inline vd vd_add(vd a, vd b) {
    return _mm512_add_pd(a, b);
}
static inline vd vd_fma(vd a, vd b, vd c) {
    return _mm512_fmadd_pd(a, b, c);
}
static inline double vd_hsum(vd v) {
    __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}
static inline vd vd_set1(double x) {
    return _mm512_set1_pd(x);
}
static inline vd vd_load(const double *p) {
    return _mm512_loadu_pd(p);
}
static inline vd vd_mul(vd a, vd b) {
    return _mm512_mul_pd(a, b);
}
static inline vd vd_fnma(vd a, vd b, vd c) {
    return _mm512_fnmadd_pd(a, b, c);
}
static inline vd vd_round(vd a) {
    return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_from_vd(vd lo, vd hi) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(lo)), _mm512_cvtpd_ps(hi), 1);
}

static inline vf vf_swap_pairs(vf v) {
    return _mm512_permute_ps(v, 0xb1);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}
static inline vf vf_loadn_f16(const uint16_t *p, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vf_tail_mask(n), p));
}
static inline void vf_store_f16(uint16_t *p, vf v) {
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_storen_f16(uint16_t *p, vf v, int n) {
    _mm256_mask_storeu_epi16(p, vf_tail_mask(n), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

#endif
