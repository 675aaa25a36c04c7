/* Activation functions, alone and as gates. */
#include <math.h>

#include "backend/cpu/ref/ref.h"

static const double inv_sqrt2 = 0.70710678118654752440;      /* 1/sqrt(2) */
static const double inv_sqrt_2pi = 0.39894228040143267794;   /* 1/sqrt(2 pi) */
static const double sqrt_2_over_pi = 0.79788456080286535588; /* sqrt(2/pi) */
static const double gelu_cubic = 0.044715;

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

double fm_ref_act(fm_act act, double x) {
    switch (act) {
    case FM_ACT_SILU:
        return x * sigmoid(x);
    case FM_ACT_GELU:
        return 0.5 * x * erfc(-x * inv_sqrt2);
    case FM_ACT_GELU_TANH:
        return 0.5 * x * (1.0 + tanh(sqrt_2_over_pi * (x + gelu_cubic * x * x * x)));
    case FM_ACT_RELU:
        return x > 0.0 ? x : 0.0 * x; /* NaN stays */
    case FM_ACT_RELU2:
        return x > 0.0 ? x * x : 0.0 * x;
    case FM_ACT_SIGMOID:
        return sigmoid(x);
    case FM_ACT_TANH:
        return tanh(x);
    default:
        return (double)NAN;
    }
}

double fm_ref_act_grad(fm_act act, double x) {
    switch (act) {
    case FM_ACT_SILU: {
        double s = sigmoid(x);
        return s * (1.0 + x * (1.0 - s));
    }
    case FM_ACT_GELU:
        return 0.5 * erfc(-x * inv_sqrt2) + x * inv_sqrt_2pi * exp(-0.5 * x * x);
    case FM_ACT_GELU_TANH: {
        double t = tanh(sqrt_2_over_pi * (x + gelu_cubic * x * x * x));
        double du = sqrt_2_over_pi * (1.0 + 3.0 * gelu_cubic * x * x);
        return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du;
    }
    case FM_ACT_RELU:
        return x > 0.0 ? 1.0 : 0.0;
    case FM_ACT_RELU2:
        return x > 0.0 ? 2.0 * x : 0.0;
    case FM_ACT_SIGMOID: {
        double s = sigmoid(x);
        return s * (1.0 - s);
    }
    case FM_ACT_TANH: {
        double t = tanh(x);
        return 1.0 - t * t;
    }
    default:
        return (double)NAN;
    }
}

static fm_status glu_fwd_any(fm_dtype d, const fm_exec *x, const fm_glu_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        fm_store_from_f64(d, a->y, i, fm_ref_act(a->act, FM_LD(d, a->gate, i)) * FM_LD(d, a->up, i));
    }
    return FM_OK;
}

static fm_status glu_bwd_any(fm_dtype d, const fm_exec *x, const fm_glu_bwd_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        double g = FM_LD(d, a->gate, i), u = FM_LD(d, a->up, i), dy = FM_LD(d, a->dy, i);
        double f = fm_ref_act(a->act, g);
        fm_store_from_f64(d, a->dgate, i, dy * u * fm_ref_act_grad(a->act, g));
        fm_store_from_f64(d, a->dup, i, dy * f);
        if (a->y) {
            fm_store_from_f64(d, a->y, i, f * u);
        }
    }
    return FM_OK;
}

static fm_status act_fwd_any(fm_dtype d, const fm_exec *x, const fm_act_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        fm_store_from_f64(d, a->y, i, fm_ref_act(a->act, FM_LD(d, a->x, i)));
    }
    return FM_OK;
}

static fm_status act_bwd_any(fm_dtype d, const fm_exec *x, const fm_act_bwd_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        fm_ref_put(d, a->dx, i, FM_LD(d, a->dy, i) * fm_ref_act_grad(a->act, FM_LD(d, a->x, i)), a->acc_dx);
    }
    return FM_OK;
}

FM_REF_KERNEL(glu_fwd, fm_glu_args)
FM_REF_KERNEL(glu_bwd, fm_glu_bwd_args)
FM_REF_KERNEL(act_fwd, fm_act_args)
FM_REF_KERNEL(act_bwd, fm_act_bwd_args)
