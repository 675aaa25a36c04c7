/* k-quants to numbers: super-blocks of 256 elements in sub-blocks of 16 or 32, whose scales (and minima) are small
 * integers times one or two half-precision factors.
 *   q2_k: scales[16] (low half scale, high half minimum), q[64], d, dmin      x = d*s*q - dmin*m
 *   q3_k: high bits[32], q[64], scales[12] (6 bits, offset 32), d             x = d*(s-32)*(q - 4 unless high bit)
 *   q4_k: d, dmin, scales[12] (6 bits), q[128]                                x = d*s*q - dmin*m
 *   q5_k: d, dmin, scales[12], high bits[32], q[128]                          as q4_k
 *   q6_k: low[128], high[64], scales[16] (int8), d                            x = d*s*(q-32) */
#include <string.h>

#include "backend/quant.h"

#define QK_K 256

void fm_q2_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 84, y += QK_K) {
        float d = fm_quant_load_f16(b + 80), min = fm_quant_load_f16(b + 82);
        for (int j = 0; j < 16; j++) { /* sub-blocks; each half of a super-block shares 32 bytes of quants */
            const uint8_t *q = b + 16 + j / 8 * 32 + j % 2 * 16;
            int shift = j % 8 / 2 * 2;
            float s = d * (float)(b[j] & 15), m = min * (float)(b[j] >> 4);
            for (int l = 0; l < 16; l++) {
                y[16 * j + l] = s * (float)(q[l] >> shift & 3) - m;
            }
        }
    }
}

/* Scale j of q3_k: four low bits in the nibbles of bytes 0 to 7, two high bits in bytes 8 to 11. */
int fm_q3_k_scale(const uint8_t *s, int j) {
    int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
    return (low | (s[8 + j % 4] >> (j / 4 * 2) & 3) << 4) - 32;
}

void fm_q3_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 110, y += QK_K) {
        float d = fm_quant_load_f16(b + 108);
        for (int j = 0; j < 16; j++) {
            const uint8_t *q = b + 32 + j / 8 * 32 + j % 2 * 16, *high = b + j % 2 * 16;
            int shift = j % 8 / 2 * 2, bit = j / 2;
            float s = d * (float)fm_q3_k_scale(b + 96, j);
            for (int l = 0; l < 16; l++) {
                y[16 * j + l] = s * (float)((q[l] >> shift & 3) - (high[l] >> bit & 1 ? 0 : 4));
            }
        }
    }
}

void fm_k_scale_min(const uint8_t q[12], int j, int *scale, int *min) {
    if (j < 4) {
        *scale = q[j] & 63;
        *min = q[j + 4] & 63;
    } else {
        *scale = (q[j + 4] & 15) | q[j - 4] >> 6 << 4;
        *min = q[j + 4] >> 4 | q[j] >> 6 << 4;
    }
}

void fm_q4_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 144, y += QK_K) {
        float d = fm_quant_load_f16(b), min = fm_quant_load_f16(b + 2);
        for (int j = 0; j < 8; j += 2) {
            const uint8_t *q = b + 16 + j * 16;
            int s0, m0, s1, m1;
            fm_k_scale_min(b + 4, j, &s0, &m0);
            fm_k_scale_min(b + 4, j + 1, &s1, &m1);
            float d0 = d * (float)s0, d1 = d * (float)s1, n0 = min * (float)m0, n1 = min * (float)m1;
            for (int l = 0; l < 32; l++) {
                y[32 * j + l] = d0 * (float)(q[l] & 15) - n0;
            }
            for (int l = 0; l < 32; l++) {
                y[32 * j + 32 + l] = d1 * (float)(q[l] >> 4) - n1;
            }
        }
    }
}

void fm_q5_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 176, y += QK_K) {
        float d = fm_quant_load_f16(b), min = fm_quant_load_f16(b + 2);
        for (int j = 0; j < 8; j++) {
            const uint8_t *q = b + 48 + j / 2 * 32, *high = b + 16;
            int s, m, shift = j % 2 * 4;
            fm_k_scale_min(b + 4, j, &s, &m);
            float ds = d * (float)s, dm = min * (float)m;
            for (int l = 0; l < 32; l++) {
                y[32 * j + l] = ds * (float)((q[l] >> shift & 15) | (high[l] >> j & 1) << 4) - dm;
            }
        }
    }
}

void fm_q6_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 210, y += QK_K) {
        float d = fm_quant_load_f16(b + 208);
        for (int j = 0; j < 16; j++) { /* 128 elements use 64 bytes of low and 32 of high bits */
            int part = j % 8 / 2, at = j % 2 * 16;
            const uint8_t *low = b + j / 8 * 64 + part % 2 * 32 + at, *high = b + 128 + j / 8 * 32 + at;
            int low_shift = part / 2 * 4, high_shift = part * 2;
            float s = d * (float)(int8_t)b[192 + j];
            for (int l = 0; l < 16; l++) {
                int q = (low[l] >> low_shift & 15) | (high[l] >> high_shift & 3) << 4;
                y[16 * j + l] = s * (float)(q - 32);
            }
        }
    }
}
