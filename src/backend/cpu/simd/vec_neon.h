/* Vector primitives with 64-bit NEON. Included by vec.h only. */
#ifndef FM_BACKEND_CPU_SIMD_VEC_NEON_H
#define FM_BACKEND_CPU_SIMD_VEC_NEON_H

#include <arm_neon.h>

#define VF_N 4

typedef float32x4_t vf;
typedef uint32x4_t vu;
typedef int32x4_t vi;
typedef uint32x4_t vm;
typedef float64x2_t vd;

static inline vf vf_zero(void) {
    return vdupq_n_f32(0.0F);
}
static inline vf vf_set1(float x) {
    return vdupq_n_f32(x);
}
static inline vf vf_load(const float *p) {
    return vld1q_f32(p);
}
static inline void vf_store(float *p, vf v) {
    vst1q_f32(p, v);
}
static inline vf vf_loadn(const float *p, int n) {
    float t[VF_N] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return vld1q_f32(t);
}
static inline void vf_storen(float *p, vf v, int n) {
    float t[VF_N];
    vst1q_f32(t, v);
    memcpy(p, t, (size_t)n * sizeof *p);
}
static inline vf vf_add(vf a, vf b) {
    return vaddq_f32(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return vsubq_f32(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return vdivq_f32(a, b);
}
/* As on x86: the second operand when either is NaN. */
static inline vf vf_max(vf a, vf b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline vf vf_min(vf a, vf b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
static inline vf vf_sqrt(vf a) {
    return vsqrtq_f32(a);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
static inline vf vf_fnma(vf a, vf b, vf c) {
    return vfmsq_f32(c, a, b);
}
static inline vf vf_round(vf a) {
    return vrndnq_f32(a);
}
static inline vf vf_from_vi(vi a) {
    return vreinterpretq_f32_s32(a);
}
static inline vi vi_from_vf(vf a) {
    return vreinterpretq_s32_f32(a);
}
static inline vi vf_to_int(vf a) {
    return vcvtnq_s32_f32(a);
}
static inline vf vi_to_float(vi a) {
    return vcvtq_f32_s32(a);
}

static inline vm vf_lt(vf a, vf b) {
    return vcltq_f32(a, b);
}
static inline vm vf_le(vf a, vf b) {
    return vcleq_f32(a, b);
}
static inline vm vf_isnan(vf a) {
    return vmvnq_u32(vceqq_f32(a, a));
}
static inline vm vf_firstn(int n) {
    const int32_t iota[VF_N] = {0, 1, 2, 3};
    return vcgtq_s32(vdupq_n_s32(n), vld1q_s32(iota));
}
static inline vf vf_select(vm m, vf a, vf b) {
    return vbslq_f32(m, a, b);
}

static inline vi vi_set1(int32_t x) {
    return vdupq_n_s32(x);
}
static inline vi vi_load(const void *p) {
    return vreinterpretq_s32_u8(vld1q_u8(p));
}
static inline void vi_store(void *p, vi v) {
    vst1q_u8(p, vreinterpretq_u8_s32(v));
}
static inline vi vi_add(vi a, vi b) {
    return vaddq_s32(a, b);
}
static inline vi vi_sub(vi a, vi b) {
    return vsubq_s32(a, b);
}
static inline vi vi_mul(vi a, vi b) {
    return vmulq_s32(a, b);
}
static inline vi vi_and(vi a, vi b) {
    return vandq_s32(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return vorrq_s32(a, b);
}
static inline vi vi_xor(vi a, vi b) {
    return veorq_s32(a, b);
}
#define vi_shl(a, k) vshlq_n_s32((a), (k))
#define vi_shr(a, k) vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), (k)))
#define vi_sar(a, k) vshrq_n_s32((a), (k))
static inline vi vi_select(vm m, vi a, vi b) {
    return vbslq_s32(m, a, b);
}
/* Both halves of the unsigned 32x32 products. */
static inline void vi_mul_wide(vi a, vi b, vi *hi, vi *lo) {
    uint32x4_t ua = vreinterpretq_u32_s32(a), ub = vreinterpretq_u32_s32(b);
    uint32x4_t low = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(ua), vget_low_u32(ub)));
    uint32x4_t high = vreinterpretq_u32_u64(vmull_high_u32(ua, ub));
    *hi = vreinterpretq_s32_u32(vuzp2q_u32(low, high));
    *lo = vreinterpretq_s32_u32(vuzp1q_u32(low, high));
}
static inline vm vi_ge_u32(vi a, vi b) {
    return vcgeq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b));
}
/* 4x4 transposition: lane k of w[j] goes to lane j of w[k]. */
static inline void vi_transpose4(vi w[4]) {
    int64x2_t t0 = vreinterpretq_s64_s32(vzip1q_s32(w[0], w[1])), t1 = vreinterpretq_s64_s32(vzip2q_s32(w[0], w[1]));
    int64x2_t t2 = vreinterpretq_s64_s32(vzip1q_s32(w[2], w[3])), t3 = vreinterpretq_s64_s32(vzip2q_s32(w[2], w[3]));
    w[0] = vreinterpretq_s32_s64(vzip1q_s64(t0, t2));
    w[1] = vreinterpretq_s32_s64(vzip2q_s64(t0, t2));
    w[2] = vreinterpretq_s32_s64(vzip1q_s64(t1, t3));
    w[3] = vreinterpretq_s32_s64(vzip2q_s64(t1, t3));
}

/* Bytes in groups of four along each lane, see vec.h. */
#define VQ_FLIP 0
static inline vi vi_set1_quad(const int8_t *p) {
    int32_t quad;
    memcpy(&quad, p, sizeof quad);
    return vdupq_n_s32(quad);
}
static inline vi vi_dot8(vi acc, vi w, vi a) {
    int8x16_t x = vreinterpretq_s8_s32(w), y = vreinterpretq_s8_s32(a);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(acc, x, y);
#else /* two products of a byte by one of at most 127 stay below 2^15 */
    int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(y)), high = vmull_high_s8(x, y);
    return vpadalq_s16(acc, vpaddq_s16(low, high));
#endif
}
static inline vi vi_dot7(vi acc, vi w, vi a) {
    return vi_dot8(acc, w, a);
}
static inline vi vi_load_u8(const uint8_t *p) {
    uint32_t quad;
    memcpy(&quad, p, sizeof quad);
    uint16x8_t h = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(quad)));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(h)));
}
static inline vi vi_load_i8(const int8_t *p) {
    uint32_t quad;
    memcpy(&quad, p, sizeof quad);
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(quad)))));
}
static inline void vi_store_i8(int8_t *p, vi v) {
    int16x4_t h = vqmovn_s32(v);
    uint32_t quad = vget_lane_u32(vreinterpret_u32_s8(vqmovn_s16(vcombine_s16(h, h))), 0);
    memcpy(p, &quad, sizeof quad);
}
static inline vi vi_max(vi a, vi b) {
    return vmaxq_s32(a, b);
}
static inline int32_t vi_hsum(vi v) {
    return vaddvq_s32(v);
}
static inline int32_t vi_hmax(vi v) {
    return vmaxvq_s32(v);
}

static inline uint16x4_t vf_narrow_bf16(vf v) {
    uint32x4_t u = vreinterpretq_u32_f32(v);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    uint32x4_t r = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd);
    r = vbslq_u32(vf_isnan(v), vorrq_u32(u, vdupq_n_u32(0x400000)), r);
    return vshrn_n_u32(r, 16);
}
static inline vf vf_load_bf16(const fm_bf16 *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
static inline uint16x4_t vf_loadn_words(const fm_bf16 *p, int n) {
    fm_bf16 t[VF_N] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return vld1_u16(t);
}
static inline vf vf_loadn_bf16(const fm_bf16 *p, int n) {
    return vreinterpretq_f32_u32(vshll_n_u16(vf_loadn_words(p, n), 16));
}
static inline void vf_store_bf16(fm_bf16 *p, vf v) {
    vst1_u16(p, vf_narrow_bf16(v));
}
static inline void vf_storen_bf16(fm_bf16 *p, vf v, int n) {
    fm_bf16 t[VF_N];
    vst1_u16(t, vf_narrow_bf16(v));
    memcpy(p, t, (size_t)n * sizeof *p);
}

static inline float vf_hsum(vf v) {
    float32x2_t h = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(h, 0) + vget_lane_f32(h, 1);
}
static inline float vf_hmax(vf v) {
    float t[VF_N];
    vst1q_f32(t, v);
    float a = t[0] > t[2] ? t[0] : t[2];
    float b = t[1] > t[3] ? t[1] : t[3];
    return a > b ? a : b;
}

static inline vu vu_zero(void) {
    return vdupq_n_u32(0);
}
static inline vu vu_load(const void *p) {
    return vreinterpretq_u32_u8(vld1q_u8(p));
}
static inline vu vu_loadn(const void *p, int n_pairs) {
    uint32_t t[VF_N] = {0};
    memcpy(t, p, (size_t)n_pairs * sizeof *t);
    return vld1q_u32(t);
}
static inline void vu_store(void *p, vu v) {
    vst1q_u8(p, vreinterpretq_u8_u32(v));
}
static inline vu vu_set1_pair(const void *p) {
    uint32_t pair;
    memcpy(&pair, p, sizeof pair);
    return vdupq_n_u32(pair);
}
static inline vf vf_dot_bf16(vf acc, vu a, vu b) {
    uint32x4_t odd = vdupq_n_u32(0xffff0000u);
    acc = vfmaq_f32(acc, vreinterpretq_f32_u32(vshlq_n_u32(a, 16)), vreinterpretq_f32_u32(vshlq_n_u32(b, 16)));
    return vfmaq_f32(acc, vreinterpretq_f32_u32(vandq_u32(a, odd)), vreinterpretq_f32_u32(vandq_u32(b, odd)));
}
static inline vu vu_zip_words(uint16x4_t lo, uint16x4_t hi) {
    return vorrq_u32(vmovl_u16(lo), vshll_n_u16(hi, 16));
}
static inline vu vu_zip(const fm_bf16 *p0, const fm_bf16 *p1) {
    return vu_zip_words(vld1_u16(p0), vld1_u16(p1));
}
static inline vu vu_zipn(const fm_bf16 *p0, const fm_bf16 *p1, int n) {
    return vu_zip_words(vf_loadn_words(p0, n), vf_loadn_words(p1, n));
}

static inline vd vd_zero(void) {
    return vdupq_n_f64(0.0);
}
static inline vd vd_lo(vf v) {
    return vcvt_f64_f32(vget_low_f32(v));
}
static inline vd vd_hi(vf v) {
    return vcvt_high_f64_f32(v);
}
static inline vd vd_add(vd a, vd b) {
    return vaddq_f64(a, b);
}
static inline vd vd_fma(vd a, vd b, vd c) {
    return vfmaq_f64(c, a, b);
}
static inline double vd_hsum(vd v) {
    return vgetq_lane_f64(v, 0) + vgetq_lane_f64(v, 1);
}
static inline vd vd_set1(double x) {
    return vdupq_n_f64(x);
}
static inline vd vd_load(const double *p) {
    return vld1q_f64(p);
}
static inline vd vd_mul(vd a, vd b) {
    return vmulq_f64(a, b);
}
static inline vd vd_fnma(vd a, vd b, vd c) {
    return vfmsq_f64(c, a, b);
}
static inline vd vd_round(vd a) {
    return vrndnq_f64(a);
}
static inline vf vf_from_vd(vd lo, vd hi) {
    return vcombine_f32(vcvt_f32_f64(lo), vcvt_f32_f64(hi));
}

static inline vf vf_swap_pairs(vf v) {
    return vrev64q_f32(v);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline vf vf_loadn_f16(const uint16_t *p, int n) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vf_loadn_words(p, n)));
}
static inline void vf_store_f16(uint16_t *p, vf v) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}
static inline void vf_storen_f16(uint16_t *p, vf v, int n) {
    uint16_t t[VF_N];
    vf_store_f16(t, v);
    memcpy(p, t, (size_t)n * sizeof *p);
}

#endif
