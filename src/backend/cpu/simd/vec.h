/* Vectors of f32 for the instruction set this file is compiled for.
 *
 *   vf  VF_N f32 lanes (16 AVX-512, 8 AVX2, 4 NEON)   vi  VF_N int32 lanes   vm  lane mask
 *   vu  VF_N lanes of 32 bits, each a pair of bf16 (low half = even k)       vd  VF_N/2 f64 lanes
 *
 * vf_loadn / vf_storen take 0..VF_N valid lanes: others load 0 and are not written. Rounding to bf16
 * gives the bits of fm_f32_to_bf16, but for f32 subnormals with AVX-512: those become zero, as they do in its bf16
 * products. vf_max and vf_min give the second operand when either is NaN.
 * vi_dot8(acc, w, a) adds to each lane the sum of its four products of bytes; a is signed, from -127 to 127, w is the
 * signed byte with the bits of VQ_FLIP turned (what the instruction set multiplies fastest). Turned bytes stand for
 * w + 128: take 128 times the sum of a off. vi_dot7 is for plain bytes w from 0 to 127. vi_set1_quad repeats four
 * bytes, vi_load_u8 and vi_load_i8 widen VF_N bytes, vi_store_i8 narrows with saturation. vf_hsum and vf_hmax reduce in
 * one fixed tree. vd_lo and vd_hi widen the two halves of a vf. */
#ifndef FM_BACKEND_CPU_SIMD_VEC_H
#define FM_BACKEND_CPU_SIMD_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "backend/dtype.h"

#if defined(FM_SIMD_avx512)
#include "backend/cpu/simd/vec_avx512.h"
#elif defined(FM_SIMD_avx2)
#include "backend/cpu/simd/vec_avx2.h"
#elif defined(FM_SIMD_neon)
#include "backend/cpu/simd/vec_neon.h"
#else
#error "no FM_SIMD_<isa> is defined"
#endif

static inline vf vf_abs(vf a) {
    return vf_from_vi(vi_and(vi_from_vf(a), vi_set1(INT32_MAX)));
}
static inline vf vf_neg(vf a) {
    return vf_from_vi(vi_xor(vi_from_vf(a), vi_set1(INT32_MIN)));
}
/* |a| with the sign of s. */
static inline vf vf_copysign(vf a, vf s) {
    return vf_from_vi(vi_or(vi_and(vi_from_vf(a), vi_set1(INT32_MAX)), vi_and(vi_from_vf(s), vi_set1(INT32_MIN))));
}
static inline vf vf_rcp(vf a) {
    return vf_div(vf_set1(1.0F), a);
}

/* The polynomials below are minimax fits (Remez exchange, 40 digits) over the reduced range of each function.
 * Largest errors found over dense samples of the f32 range, in units of the last place: exp 1.02, log 0.81, tanh 1.32,
 * erf 1.20, sigmoid 2.5. The results have the same bits in every instruction set. */

/* e^x = 2^n e^r, |r| <= ln2/2. The power is applied in two factors so that results below 2^-126 are rounded once. */
static inline vf vf_exp(vf x) {
    x = vf_min(vf_set1(89.0F), vf_max(vf_set1(-104.0F), x));
    vf n = vf_round(vf_mul(x, vf_set1(1.44269504F)));
    vf r = vf_fnma(n, vf_set1(0.693145752F), x);
    r = vf_fnma(n, vf_set1(1.42860677e-6F), r);
    vf p = vf_set1(0.00139504853F);
    p = vf_fma(p, r, vf_set1(0.008368889173F));
    p = vf_fma(p, r, vf_set1(0.04166620589F));
    p = vf_fma(p, r, vf_set1(0.1666651884F));
    p = vf_fma(p, r, vf_set1(0.5000000095F));
    p = vf_fma(p, vf_mul(r, r), r);
    p = vf_add(p, vf_set1(1.0F));
#ifdef FM_SIMD_avx512
    return _mm512_scalef_ps(p, n);
#else
    vi k = vf_to_int(n);
    vi half = vi_sar(k, 1);
    vf s1 = vf_from_vi(vi_shl(vi_add(half, vi_set1(127)), 23));
    vf s2 = vf_from_vi(vi_shl(vi_add(vi_sub(k, half), vi_set1(127)), 23));
    return vf_mul(vf_mul(p, s1), s2);
#endif
}

/* log(2^n m) = n ln2 + log(m), m in [sqrt(1/2), sqrt(2)). 0 gives -inf, negative numbers NaN. */
static inline vf vf_log(vf x) {
    vm tiny = vf_lt(x, vf_set1(1.17549435e-38F));
    vf y = vf_select(tiny, vf_mul(x, vf_set1(8388608.0F)), x);
    vi u = vi_sub(vi_from_vf(y), vi_set1(0x3f3504f3));
    vf n = vi_to_float(vi_sar(u, 23));
    n = vf_select(tiny, vf_sub(n, vf_set1(23.0F)), n);
    vf m = vf_from_vi(vi_add(vi_and(u, vi_set1(0x007fffff)), vi_set1(0x3f3504f3)));
    vf f = vf_sub(m, vf_set1(1.0F));
    vf p = vf_set1(0.06746637556F);
    p = vf_fma(p, f, vf_set1(-0.116756507F));
    p = vf_fma(p, f, vf_set1(0.1188816289F));
    p = vf_fma(p, f, vf_set1(-0.124055896F));
    p = vf_fma(p, f, vf_set1(0.1421955254F));
    p = vf_fma(p, f, vf_set1(-0.1666799578F));
    p = vf_fma(p, f, vf_set1(0.2000211863F));
    p = vf_fma(p, f, vf_set1(-0.250000096F));
    p = vf_fma(p, f, vf_set1(0.3333331261F));
    vf f2 = vf_mul(f, f);
    vf t = vf_mul(vf_mul(p, f), f2);
    t = vf_fma(n, vf_set1(1.42860677e-6F), t);
    t = vf_fnma(vf_set1(0.5F), f2, t);
    t = vf_fma(n, vf_set1(0.693145752F), vf_add(f, t));
    t = vf_select(vf_le(vf_set1(INFINITY), x), x, t);
    t = vf_select(vf_le(x, vf_zero()), vf_set1(-INFINITY), t);
    t = vf_select(vf_lt(x, vf_zero()), vf_set1(NAN), t);
    return vf_select(vf_isnan(x), x, t);
}

static inline vf vf_sigmoid(vf x) {
    return vf_rcp(vf_add(vf_set1(1.0F), vf_exp(vf_neg(x))));
}

static inline vf vf_tanh(vf x) {
    vf a = vf_abs(x);
    vf s = vf_mul(x, x);
    vf p = vf_set1(-0.005717043373F);
    p = vf_fma(p, s, vf_set1(0.0206505861F));
    p = vf_fma(p, s, vf_set1(-0.05374349787F));
    p = vf_fma(p, s, vf_set1(0.1333149129F));
    p = vf_fma(p, s, vf_set1(-0.3333328393F));
    vf near = vf_fma(vf_mul(p, s), x, x);
    vf e = vf_exp(vf_add(a, a));
    vf far = vf_sub(vf_set1(1.0F), vf_div(vf_set1(2.0F), vf_add(e, vf_set1(1.0F))));
    return vf_select(vf_lt(a, vf_set1(0.625F)), near, vf_copysign(far, x));
}

static inline vf vf_erf(vf x) {
    vf s = vf_mul(x, x);
    vf p = vf_set1(7.88913209e-5F);
    p = vf_fma(p, s, vf_set1(-0.0008020845283F));
    p = vf_fma(p, s, vf_set1(0.005189535819F));
    p = vf_fma(p, s, vf_set1(-0.02685444486F));
    p = vf_fma(p, s, vf_set1(0.1128360018F));
    p = vf_fma(p, s, vf_set1(-0.3761262714F));
    p = vf_fma(p, s, vf_set1(0.1283791659F));
    vf near = vf_fma(p, x, x);
    vf t = vf_min(vf_set1(4.0F), vf_abs(x)); /* NaN passes */
    vf q = vf_set1(-2.168633793e-5F);
    q = vf_fma(q, t, vf_set1(0.000441330273F));
    q = vf_fma(q, t, vf_set1(-0.004204531286F));
    q = vf_fma(q, t, vf_set1(0.0252081732F));
    q = vf_fma(q, t, vf_set1(-0.108418443F));
    q = vf_fma(q, t, vf_set1(-0.6332200204F));
    q = vf_fma(q, t, vf_set1(-1.129578358F));
    q = vf_fma(q, t, vf_set1(0.0001880259008F));
    vf far = vf_copysign(vf_sub(vf_set1(1.0F), vf_exp(q)), x);
    return vf_select(vf_lt(t, vf_set1(1.0F)), near, far);
}

#endif
