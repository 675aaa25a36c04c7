/* Element types: see dtype.h. */
#include "backend/dtype.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

static const fm_dtype_info infos[FM_DTYPE_COUNT] = {
#define FM_X(sym, name, st, block, bytes, scale, is_float) {name, st, block, bytes, scale, is_float},
    FM_DTYPE_LIST(FM_X)
#undef FM_X
};

const fm_dtype_info *fm_dtype_get(fm_dtype d) {
    FM_ASSERT((unsigned)d < FM_DTYPE_COUNT);
    return &infos[d];
}

bool fm_dtype_parse(fm_dtype *out, const char *name) {
    for (int i = 0; i < FM_DTYPE_COUNT; i++) {
        if (strcmp(infos[i].name, name) == 0 || (*name && strcmp(infos[i].safetensors_name, name) == 0)) {
            *out = (fm_dtype)i;
            return true;
        }
    }
    return false;
}

int64_t fm_dtype_bytes(fm_dtype d, int64_t n) {
    const fm_dtype_info *i = fm_dtype_get(d);
    int64_t bytes;
    if (n < 0 || n % i->block != 0 || __builtin_mul_overflow(n / i->block, (int64_t)i->block_bytes, &bytes)) {
        return -1;
    }
    return bytes;
}

/* The small floating-point formats: `mant` stored bits of the significand, exponent bias, largest number. */
typedef struct small_float {
    int mant, bias, bits;
    double max;
    bool has_inf; /* else overflow gives NaN, the code with all bits set (e4m3) */
} small_float;

static const small_float bf16_format = {7, 127, 16, 0x1.fep127, true};
static const small_float f16_format = {10, 15, 16, 65504.0, true};
static const small_float e4m3_format = {3, 7, 8, 448.0, false};
static const small_float e5m2_format = {2, 15, 8, 57344.0, true};

static const small_float *small_of(fm_dtype d) {
    switch (d) {
    case FM_BF16:
        return &bf16_format;
    case FM_F16:
        return &f16_format;
    case FM_E4M3:
        return &e4m3_format;
    case FM_E5M2:
        return &e5m2_format;
    default:
        return NULL;
    }
}

/* Spacing of the format's numbers around v. */
static double quantum(const small_float *f, double v) {
    int e;
    frexp(v, &e);
    int e_min = 1 - f->bias;
    return ldexp(1.0, (e - 1 > e_min ? e - 1 : e_min) - f->mant);
}

static double round_small(const small_float *f, double v) {
    if (!isfinite(v)) {
        return f->has_inf || isnan(v) ? v : (double)NAN;
    }
    double q = quantum(f, v);
    double r = rint(v / q) * q;
    if (fabs(r) > f->max) {
        return f->has_inf ? copysign((double)INFINITY, v) : (double)NAN;
    }
    return r;
}

static uint32_t encode_small(const small_float *f, double v) {
    uint32_t sign = signbit(v) ? 1u << (f->bits - 1) : 0u;
    double r = fabs(round_small(f, v));
    uint32_t one = 1u << f->mant;
    uint32_t exp_mask = ((1u << (f->bits - 1)) - 1u) & ~(one - 1u);
    if (isnan(r)) {
        return sign | exp_mask | (f->has_inf ? one >> 1 : one - 1u);
    }
    if (isinf(r)) {
        return sign | exp_mask;
    }
    double q = quantum(f, r);
    uint32_t m = (uint32_t)(r / q);
    if (m < one) {
        return sign | m; /* zero and subnormal numbers */
    }
    return sign | (uint32_t)(ilogb(r) + f->bias) << f->mant | (m - one);
}

static double decode_small(const small_float *f, uint32_t code) {
    uint32_t one = 1u << f->mant;
    uint32_t mag = code & ((1u << (f->bits - 1)) - 1u);
    uint32_t exp_all = ((1u << (f->bits - 1)) - 1u) >> f->mant;
    uint32_t e = mag >> f->mant, m = mag & (one - 1u);
    double v;
    if (f->has_inf && e == exp_all) {
        v = m ? (double)NAN : (double)INFINITY;
    } else if (!f->has_inf && e == exp_all && m == one - 1u) {
        v = (double)NAN;
    } else if (e == 0) {
        v = ldexp((double)m, 1 - f->bias - f->mant);
    } else {
        v = ldexp((double)(m + one), (int)e - f->bias - f->mant);
    }
    return code >> (f->bits - 1) ? -v : v;
}

static double clamp_int(double v, double lo, double hi) {
    if (isnan(v)) {
        return 0.0;
    }
    v = rint(v);
    return v < lo ? lo : v > hi ? hi : v;
}

double fm_round_to(fm_dtype d, double v) {
    switch (d) {
    case FM_F64:
        return v;
    case FM_F32:
        return (double)(float)v;
    case FM_I8:
        return clamp_int(v, -128, 127);
    case FM_U8:
        return clamp_int(v, 0, 255);
    case FM_BOOL:
        return v != 0.0;
    case FM_I32:
        return clamp_int(v, -2147483648.0, 2147483647.0);
    case FM_I64: /* the largest double below 2^63 */
        return clamp_int(v, -0x1p63, 0x1.fffffffffffffp62);
    default:
        FM_ASSERT(small_of(d) != NULL);
        return round_small(small_of(d), v);
    }
}

double fm_load_as_f64(fm_dtype d, const void *base, int64_t i) {
    switch (d) {
    case FM_F64:
        return ((const double *)base)[i];
    case FM_F32:
        return (double)((const float *)base)[i];
    case FM_BF16:
        return (double)fm_bf16_to_f32(((const uint16_t *)base)[i]);
    case FM_F16:
        return (double)fm_f16_to_f32(((const uint16_t *)base)[i]);
    case FM_E4M3:
    case FM_E5M2:
        return decode_small(small_of(d), ((const uint8_t *)base)[i]);
    case FM_I8:
        return (double)((const int8_t *)base)[i];
    case FM_U8:
    case FM_BOOL:
        return (double)((const uint8_t *)base)[i];
    case FM_I32:
        return (double)((const int32_t *)base)[i];
    case FM_I64:
        return (double)((const int64_t *)base)[i];
    default:
        FM_ASSERT(false && "a block type has no single elements");
        return 0.0;
    }
}

void fm_store_from_f64(fm_dtype d, void *base, int64_t i, double v) {
    switch (d) {
    case FM_F64:
        ((double *)base)[i] = v;
        break;
    case FM_F32:
        ((float *)base)[i] = (float)v;
        break;
    case FM_BF16:
    case FM_F16:
        ((uint16_t *)base)[i] = (uint16_t)encode_small(small_of(d), v);
        break;
    case FM_E4M3:
    case FM_E5M2:
        ((uint8_t *)base)[i] = (uint8_t)encode_small(small_of(d), v);
        break;
    case FM_I8:
        ((int8_t *)base)[i] = (int8_t)fm_round_to(d, v);
        break;
    case FM_U8:
    case FM_BOOL:
        ((uint8_t *)base)[i] = (uint8_t)fm_round_to(d, v);
        break;
    case FM_I32:
        ((int32_t *)base)[i] = (int32_t)fm_round_to(d, v);
        break;
    case FM_I64:
        ((int64_t *)base)[i] = (int64_t)fm_round_to(d, v);
        break;
    default:
        FM_ASSERT(false && "a block type has no single elements");
    }
}

double fm_dtype_eps(fm_dtype d) {
    switch (d) {
    case FM_F64:
        return 0x1p-52;
    case FM_F32:
        return 0x1p-23;
    case FM_E2M1:
        return 0x1p-1;
    default:
        return small_of(d) ? ldexp(1.0, -small_of(d)->mant) : 0.0;
    }
}

typedef union f32_bits {
    float f;
    uint32_t u;
} f32_bits;

float fm_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t mag = h & 0x7fffu;
    f32_bits v;
    if (mag >= 0x7c00u) {
        v.u = sign | 0x7f800000u | (mag & 0x3ffu) << 13;
    } else if (mag >= 0x400u) {
        v.u = sign | ((mag << 13) + (112u << 23));
    } else {
        v.f = (float)mag * 0x1p-24F;
        v.u |= sign;
    }
    return v.f;
}

uint16_t fm_f32_to_f16(float x) {
    f32_bits v = {x};
    uint32_t sign = (v.u >> 16) & 0x8000u;
    uint32_t mag = v.u & 0x7fffffffu;
    if (mag > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | ((mag >> 13) & 0x3ffu));
    }
    if (mag >= 0x477ff000u) { /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (mag < 0x38800000u) {
        /* Subnormal result: adding 0.5 puts the unit of the result at the last bit of the sum. */
        f32_bits t;
        t.u = mag;
        t.f += 0.5F;
        return (uint16_t)(sign | (t.u - 0x3f000000u));
    }
    return (uint16_t)(sign | ((mag - (112u << 23) + 0xfffu + ((mag >> 13) & 1u)) >> 13));
}
