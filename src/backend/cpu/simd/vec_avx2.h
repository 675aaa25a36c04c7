/* Vector primitives with AVX2 and FMA. Included by vec.h only. */
#ifndef FM_BACKEND_CPU_SIMD_VEC_AVX2_H
#define FM_BACKEND_CPU_SIMD_VEC_AVX2_H

#include <immintrin.h>

#define VF_N 8

typedef __m256 vf;
typedef __m256i vu;
typedef __m256i vi;
typedef __m256 vm;
typedef __m256d vd;

static inline __m256i vf_tail_mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vf vf_zero(void) {
    return _mm256_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
static inline vf vf_loadn(const float *p, int n) {
    return _mm256_maskload_ps(p, vf_tail_mask(n));
}
static inline void vf_storen(float *p, vf v, int n) {
    _mm256_maskstore_ps(p, vf_tail_mask(n), v);
}
static inline vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
static inline vf vf_sqrt(vf a) {
    return _mm256_sqrt_ps(a);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vf_fnma(vf a, vf b, vf c) {
    return _mm256_fnmadd_ps(a, b, c);
}
static inline vf vf_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_from_vi(vi a) {
    return _mm256_castsi256_ps(a);
}
static inline vi vi_from_vf(vf a) {
    return _mm256_castps_si256(a);
}
static inline vi vf_to_int(vf a) {
    return _mm256_cvtps_epi32(a);
}
static inline vf vi_to_float(vi a) {
    return _mm256_cvtepi32_ps(a);
}

static inline vm vf_lt(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
static inline vm vf_le(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_LE_OQ);
}
static inline vm vf_isnan(vf a) {
    return _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
}
static inline vm vf_firstn(int n) {
    return _mm256_castsi256_ps(vf_tail_mask(n));
}
static inline vf vf_select(vm m, vf a, vf b) {
    return _mm256_blendv_ps(b, a, m);
}

static inline vi vi_set1(int32_t x) {
    return _mm256_set1_epi32(x);
}
static inline vi vi_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline void vi_store(void *p, vi v) {
    _mm256_storeu_si256((__m256i *)p, v);
}
static inline vi vi_add(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b) {
    return _mm256_sub_epi32(a, b);
}
static inline vi vi_mul(vi a, vi b) {
    return _mm256_mullo_epi32(a, b);
}
static inline vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return _mm256_or_si256(a, b);
}
static inline vi vi_xor(vi a, vi b) {
    return _mm256_xor_si256(a, b);
}
#define vi_shl(a, k) _mm256_slli_epi32((a), (k))
#define vi_shr(a, k) _mm256_srli_epi32((a), (k))
#define vi_sar(a, k) _mm256_srai_epi32((a), (k))
static inline vi vi_select(vm m, vi a, vi b) {
    return _mm256_blendv_epi8(b, a, _mm256_castps_si256(m));
}
/* Both halves of the unsigned 32x32 products. */
static inline void vi_mul_wide(vi a, vi b, vi *hi, vi *lo) {
    __m256i even = _mm256_mul_epu32(a, b);
    __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    *hi = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    *lo = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
static inline vm vi_ge_u32(vi a, vi b) {
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(a, b), a));
}
/* 4x4 transposition inside each group of four lanes: lane 4g+k of w[j] goes to lane 4g+j of w[k]. */
static inline void vi_transpose4(vi w[4]) {
    __m256i t0 = _mm256_unpacklo_epi32(w[0], w[1]), t1 = _mm256_unpackhi_epi32(w[0], w[1]);
    __m256i t2 = _mm256_unpacklo_epi32(w[2], w[3]), t3 = _mm256_unpackhi_epi32(w[2], w[3]);
    w[0] = _mm256_unpacklo_epi64(t0, t2);
    w[1] = _mm256_unpackhi_epi64(t0, t2);
    w[2] = _mm256_unpacklo_epi64(t1, t3);
    w[3] = _mm256_unpackhi_epi64(t1, t3);
}

/* Bytes in groups of four along each lane, see vec.h. */
#define VQ_FLIP 0
static inline vi vi_set1_quad(const int8_t *p) {
    int32_t quad;
    memcpy(&quad, p, sizeof quad);
    return _mm256_set1_epi32(quad);
}
static inline vi vi_dot7(vi acc, vi w, vi a) {
    __m256i pairs = _mm256_maddubs_epi16(w, a);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
/* |w| a, with the sign of w moved to a: a pair of products stays below 2^15. */
static inline vi vi_dot8(vi acc, vi w, vi a) {
    return vi_dot7(acc, _mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
}
static inline vi vi_load_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
}
static inline vi vi_load_i8(const int8_t *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p));
}
static inline void vi_store_i8(int8_t *p, vi v) {
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((void *)p, _mm_packs_epi16(w, w));
}
static inline vi vi_max(vi a, vi b) {
    return _mm256_max_epi32(a, b);
}
static inline int32_t vi_hsum(vi v) {
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}
static inline int32_t vi_hmax(vi v) {
    __m128i q = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}

static inline __m128i vf_narrow_bf16(vf v) {
    __m256i u = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    r = _mm256_srli_epi32(vi_select(vf_isnan(v), quiet, r), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
static inline vf vf_widen_bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline __m128i vf_loadn_words(const fm_bf16 *p, int n) {
    fm_bf16 t[VF_N] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return _mm_loadu_si128((const __m128i *)(const void *)t);
}
static inline vf vf_load_bf16(const fm_bf16 *p) {
    return vf_widen_bf16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vf vf_loadn_bf16(const fm_bf16 *p, int n) {
    return vf_widen_bf16(vf_loadn_words(p, n));
}
static inline void vf_store_bf16(fm_bf16 *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, vf_narrow_bf16(v));
}
static inline void vf_storen_bf16(fm_bf16 *p, vf v, int n) {
    fm_bf16 t[VF_N];
    vf_store_bf16(t, v);
    memcpy(p, t, (size_t)n * sizeof *p);
}

static inline float vf_hsum(vf v) {
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    q = _mm_add_ss(q, _mm_movehdup_ps(q));
    return _mm_cvtss_f32(q);
}
static inline float vf_hmax(vf v) {
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    q = _mm_max_ss(q, _mm_movehdup_ps(q));
    return _mm_cvtss_f32(q);
}

static inline vu vu_zero(void) {
    return _mm256_setzero_si256();
}
static inline vu vu_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline vu vu_loadn(const void *p, int n_pairs) {
    return _mm256_maskload_epi32((const int *)p, vf_tail_mask(n_pairs));
}
static inline void vu_store(void *p, vu v) {
    _mm256_storeu_si256((__m256i *)p, v);
}
static inline vu vu_set1_pair(const void *p) {
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return _mm256_set1_epi32(pair);
}
static inline vf vf_dot_bf16(vf acc, vu a, vu b) {
    __m256i odd = _mm256_set1_epi32(-65536);
    acc = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)),
                          acc);
    return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(a, odd)), _mm256_castsi256_ps(_mm256_and_si256(b, odd)),
                           acc);
}
static inline vu vu_zip_words(__m128i lo, __m128i hi) {
    return _mm256_or_si256(_mm256_cvtepu16_epi32(lo), _mm256_slli_epi32(_mm256_cvtepu16_epi32(hi), 16));
}
static inline vu vu_zip(const fm_bf16 *p0, const fm_bf16 *p1) {
    return vu_zip_words(_mm_loadu_si128((const __m128i *)(const void *)p0),
                        _mm_loadu_si128((const __m128i *)(const void *)p1));
}
static inline vu vu_zipn(const fm_bf16 *p0, const fm_bf16 *p1, int n) {
    return vu_zip_words(vf_loadn_words(p0, n), vf_loadn_words(p1, n));
}

static inline vd vd_zero(void) {
    return _mm256_setzero_pd();
}
static inline vd vd_lo(vf v) {
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}
static inline vd vd_hi(vf v) {
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}
static inline vd vd_add(vd a, vd b) {
    return _mm256_add_pd(a, b);
}
static inline vd vd_fma(vd a, vd b, vd c) {
    return _mm256_fmadd_pd(a, b, c);
}
static inline double vd_hsum(vd v) {
    __m128d q = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}
static inline vd vd_set1(double x) {
    return _mm256_set1_pd(x);
}
static inline vd vd_load(const double *p) {
    return _mm256_loadu_pd(p);
}
static inline vd vd_mul(vd a, vd b) {
    return _mm256_mul_pd(a, b);
}
static inline vd vd_fnma(vd a, vd b, vd c) {
    return _mm256_fnmadd_pd(a, b, c);
}
static inline vd vd_round(vd a) {
    return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_from_vd(vd lo, vd hi) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(lo)), _mm256_cvtpd_ps(hi), 1);
}

static inline vf vf_swap_pairs(vf v) {
    return _mm256_permute_ps(v, 0xb1);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vf vf_loadn_f16(const uint16_t *p, int n) {
    return _mm256_cvtph_ps(vf_loadn_words(p, n));
}
static inline void vf_store_f16(uint16_t *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_storen_f16(uint16_t *p, vf v, int n) {
    uint16_t t[VF_N];
    vf_store_f16(t, v);
    memcpy(p, t, (size_t)n * sizeof *p);
}

#endif
