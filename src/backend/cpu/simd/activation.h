/* Activation functions and their derivatives on vectors. The function is a constant of each compiled copy. */
#ifndef FM_BACKEND_CPU_SIMD_ACTIVATION_H
#define FM_BACKEND_CPU_SIMD_ACTIVATION_H

#include "backend/cpu/simd/kernel.h"

/* f(x), and f'(x) when df is not NULL. */
FM_INLINE vf vx_act(fm_act act, vf x, vf *df) {
    const vf one = vf_set1(1.0F), half = vf_set1(0.5F), zero = vf_zero();
    switch (act) {
    case FM_ACT_SILU: {
        vf s = vf_sigmoid(x), f = vf_mul(x, s);
        if (df) {
            *df = vf_fma(vf_sub(one, s), f, s);
        }
        return f;
    }
    case FM_ACT_GELU: {
        vf h = vf_fma(half, vf_erf(vf_mul(x, vf_set1(0.707106781F))), half);
        if (df) {
            vf e = vf_exp(vf_mul(vf_mul(x, x), vf_set1(-0.5F)));
            *df = vf_fma(vf_mul(x, vf_set1(0.398942280F)), e, h);
        }
        return vf_mul(x, h);
    }
    case FM_ACT_GELU_TANH: {
        /* (1 + tanh u) / 2 = sigmoid(2u) = h; with e = exp(-|2u|), h (1 - h) = e / (1 + e)^2 without cancellation */
        const vf c = vf_set1(2.0F * 0.797884561F);
        vf x2 = vf_mul(x, x);
        vf u = vf_mul(vf_mul(c, x), vf_fma(vf_set1(0.044715F), x2, one));
        vf e = vf_exp(vf_neg(vf_abs(u)));
        vf s = vf_rcp(vf_add(one, e));
        vf h = vf_select(vf_lt(u, zero), vf_mul(e, s), s);
        if (df) {
            vf du = vf_mul(c, vf_fma(vf_set1(3.0F * 0.044715F), x2, one));
            vf slope = vf_mul(vf_mul(e, vf_mul(s, s)), x);
            /* far out e is 0 and x^2 may be infinite */
            *df = vf_select(vf_le(e, zero), h, vf_fma(slope, du, h));
        }
        return vf_mul(x, h);
    }
    case FM_ACT_RELU:
        if (df) {
            *df = vf_select(vf_lt(zero, x), one, zero);
        }
        return vf_max(zero, x);
    case FM_ACT_RELU2: {
        vf p = vf_max(zero, x);
        if (df) {
            *df = vf_select(vf_lt(zero, x), vf_add(x, x), zero);
        }
        return vf_mul(p, p);
    }
    case FM_ACT_SIGMOID: {
        vf s = vf_sigmoid(x);
        if (df) {
            *df = vf_mul(s, vf_sub(one, s));
        }
        return s;
    }
    default: {
        vf t = vf_tanh(x);
        if (df) {
            *df = vf_fnma(t, t, one);
        }
        return t;
    }
    }
}

/* Calls run(dtype, act, ...) with both as constants. */
#define FM_ACT_DISPATCH(d, act, run, ...)                                                                              \
    do {                                                                                                               \
        switch (act) {                                                                                                 \
            FM_ACT_CASE_(d, FM_ACT_SILU, run, __VA_ARGS__)                                                             \
            FM_ACT_CASE_(d, FM_ACT_GELU, run, __VA_ARGS__)                                                             \
            FM_ACT_CASE_(d, FM_ACT_GELU_TANH, run, __VA_ARGS__)                                                        \
            FM_ACT_CASE_(d, FM_ACT_RELU, run, __VA_ARGS__)                                                             \
            FM_ACT_CASE_(d, FM_ACT_RELU2, run, __VA_ARGS__)                                                            \
            FM_ACT_CASE_(d, FM_ACT_SIGMOID, run, __VA_ARGS__)                                                          \
            FM_ACT_CASE_(d, FM_ACT_TANH, run, __VA_ARGS__)                                                             \
        default:                                                                                                       \
            break;                                                                                                     \
        }                                                                                                              \
    } while (0)
#define FM_ACT_CASE_(d, sym, run, ...)                                                                                 \
    case sym:                                                                                                          \
        if ((d) == FM_BF16) {                                                                                          \
            run(FM_BF16, sym, __VA_ARGS__);                                                                            \
        } else {                                                                                                       \
            run(FM_F32, sym, __VA_ARGS__);                                                                             \
        }                                                                                                              \
        break;

#endif
