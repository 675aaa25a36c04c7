/* The table, and the types with blocks of 32: one or two half-precision factors, then the quants. In the 4- and 5-bit
 * types byte j holds elements j (low half) and j + 16. */
#include "backend/quant.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/error.h"

#define QK   32
#define HALF 16

static uint32_t load_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void store_u32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

/* ---- from blocks ----------------------------------------------------------------------------- */

static void q8_0_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 34, y += QK) {
        float d = fm_quant_load_f16(b);
        for (int j = 0; j < QK; j++) {
            y[j] = (float)(int8_t)b[2 + j] * d;
        }
    }
}

static void q4_0_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 18, y += QK) {
        float d = fm_quant_load_f16(b);
        for (int j = 0; j < HALF; j++) {
            y[j] = (float)((b[2 + j] & 15) - 8) * d;
            y[j + HALF] = (float)((b[2 + j] >> 4) - 8) * d;
        }
    }
}

static void q4_1_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 20, y += QK) {
        float d = fm_quant_load_f16(b), m = fm_quant_load_f16(b + 2);
        for (int j = 0; j < HALF; j++) {
            y[j] = (float)(b[4 + j] & 15) * d + m;
            y[j + HALF] = (float)(b[4 + j] >> 4) * d + m;
        }
    }
}

/* Element j of the 5-bit types: low four bits from the byte, the fifth from bit j of `high`. */
static int low5(uint8_t q, uint32_t high, int j) {
    return (q & 15) | (int)(high >> j & 1) << 4;
}
static int high5(uint8_t q, uint32_t high, int j) {
    return q >> 4 | (int)(high >> (j + HALF) & 1) << 4;
}

static void q5_0_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 22, y += QK) {
        float d = fm_quant_load_f16(b);
        uint32_t high = load_u32(b + 2);
        for (int j = 0; j < HALF; j++) {
            y[j] = (float)(low5(b[6 + j], high, j) - 16) * d;
            y[j + HALF] = (float)(high5(b[6 + j], high, j) - 16) * d;
        }
    }
}

static void q5_1_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 24, y += QK) {
        float d = fm_quant_load_f16(b), m = fm_quant_load_f16(b + 2);
        uint32_t high = load_u32(b + 4);
        for (int j = 0; j < HALF; j++) {
            y[j] = (float)low5(b[8 + j], high, j) * d + m;
            y[j + HALF] = (float)high5(b[8 + j], high, j) * d + m;
        }
    }
}

/* Sixteen levels, closer together around zero. */
const int8_t fm_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void iq4_nl_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 18, y += QK) {
        float d = fm_quant_load_f16(b);
        for (int j = 0; j < HALF; j++) {
            y[j] = d * (float)fm_iq4_levels[b[2 + j] & 15];
            y[j + HALF] = d * (float)fm_iq4_levels[b[2 + j] >> 4];
        }
    }
}

/* ---- to blocks ------------------------------------------------------------------------------- */

/* The factor of a block may be so small that its inverse is infinite; its quants are then 0, as the conversion
 * instruction of x86 makes them, and the factor itself is 0 in half precision. */
static int to_i8(float v) {
    return v > -129.0F && v < 128.0F ? (int)v : 0;
}

static float invert(float d) {
    return d != 0 ? 1.0F / d : 0.0F;
}

/* Of the largest magnitude, the first; with its sign. */
static float signed_max(const float *x) {
    float a = 0, max = 0;
    for (int j = 0; j < QK; j++) {
        if (a < fabsf(x[j])) {
            a = fabsf(x[j]);
            max = x[j];
        }
    }
    return max;
}

static void min_max(const float *x, float *min, float *max) {
    *min = FLT_MAX;
    *max = -FLT_MAX;
    for (int j = 0; j < QK; j++) {
        *min = x[j] < *min ? x[j] : *min;
        *max = x[j] > *max ? x[j] : *max;
    }
}

static void q8_0_quantise(const float *x, uint8_t *b, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 34, x += QK) {
        float d = fabsf(signed_max(x)) / 127.0F, inverse = invert(d);
        fm_quant_store_f16(b, d);
        for (int j = 0; j < QK; j++) {
            b[2 + j] = (uint8_t)to_i8(roundf(x[j] * inverse));
        }
    }
}

static void q4_0_quantise(const float *x, uint8_t *b, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 18, x += QK) {
        float d = signed_max(x) / -8.0F, inverse = invert(d);
        fm_quant_store_f16(b, d);
        for (int j = 0; j < HALF; j++) {
            int low = FM_MIN(15, to_i8(x[j] * inverse + 8.5F)), high = FM_MIN(15, to_i8(x[j + HALF] * inverse + 8.5F));
            b[2 + j] = (uint8_t)(low | high << 4);
        }
    }
}

static void q4_1_quantise(const float *x, uint8_t *b, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 20, x += QK) {
        float min, max;
        min_max(x, &min, &max);
        float d = (max - min) / 15.0F, inverse = invert(d);
        fm_quant_store_f16(b, d);
        fm_quant_store_f16(b + 2, min);
        for (int j = 0; j < HALF; j++) {
            int low = FM_MIN(15, to_i8((x[j] - min) * inverse + 0.5F)),
                high = FM_MIN(15, to_i8((x[j + HALF] - min) * inverse + 0.5F));
            b[4 + j] = (uint8_t)(low | high << 4);
        }
    }
}

/* Sixteen bytes of low halves, and the fifth bits in *high. */
static void pack5(uint8_t *b, uint32_t *high, const int q[QK]) {
    *high = 0;
    for (int j = 0; j < QK; j++) {
        *high |= (uint32_t)(q[j] >> 4 & 1) << j;
    }
    for (int j = 0; j < HALF; j++) {
        b[j] = (uint8_t)((q[j] & 15) | (q[j + HALF] & 15) << 4);
    }
}

static void q5_0_quantise(const float *x, uint8_t *b, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 22, x += QK) {
        int q[QK];
        uint32_t high;
        float d = signed_max(x) / -16.0F, inverse = invert(d);
        for (int j = 0; j < QK; j++) {
            q[j] = FM_MIN(31, to_i8(x[j] * inverse + 16.5F));
        }
        fm_quant_store_f16(b, d);
        pack5(b + 6, &high, q);
        store_u32(b + 2, high);
    }
}

static void q5_1_quantise(const float *x, uint8_t *b, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 24, x += QK) {
        int q[QK];
        uint32_t high;
        float min, max;
        min_max(x, &min, &max);
        float d = (max - min) / 31.0F, inverse = invert(d);
        for (int j = 0; j < QK; j++) {
            q[j] = to_i8((x[j] - min) * inverse + 0.5F);
        }
        fm_quant_store_f16(b, d);
        fm_quant_store_f16(b + 2, min);
        pack5(b + 8, &high, q);
        store_u32(b + 4, high);
    }
}

/* ---- int8 ------------------------------------------------------------------------------------ */

float fm_int8_factor(const float *row, int64_t n) {
    float max = 0;
    for (int64_t i = 0; i < n; i++) {
        max = fabsf(row[i]) > max ? fabsf(row[i]) : max;
    }
    return max > FLT_MIN * 256 ? max / 127.0F : 0.0F;
}

void fm_int8_row(const float *x, int8_t *y, int64_t n) {
    float s = fm_int8_factor(x, n);
    for (int64_t i = 0; i < n; i++) {
        y[i] = (int8_t)(s > 0 ? rintf(x[i] / s) : 0);
    }
}

/* ---- table ----------------------------------------------------------------------------------- */

static const fm_quant_type types[] = {
    {FM_Q8_0, q8_0_dequantise, q8_0_quantise},
    {FM_Q4_0, q4_0_dequantise, q4_0_quantise},
    {FM_Q4_1, q4_1_dequantise, q4_1_quantise},
    {FM_Q5_0, q5_0_dequantise, q5_0_quantise},
    {FM_Q5_1, q5_1_dequantise, q5_1_quantise},
    {FM_Q2_K, fm_q2_k_dequantise, NULL},
    {FM_Q3_K, fm_q3_k_dequantise, NULL},
    {FM_Q4_K, fm_q4_k_dequantise, fm_q4_k_quantise},
    {FM_Q5_K, fm_q5_k_dequantise, fm_q5_k_quantise},
    {FM_Q6_K, fm_q6_k_dequantise, fm_q6_k_quantise},
    {FM_IQ4_NL, iq4_nl_dequantise, NULL},
};

const fm_quant_type *fm_quant_find(fm_dtype d) {
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (types[i].dtype == d) {
            return &types[i];
        }
    }
    return NULL;
}
