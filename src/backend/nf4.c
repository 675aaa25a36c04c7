/* 4-bit normal floats and bytes of the dynamic data type. */
#include "backend/nf4.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"

/* ---- bytes ----------------------------------------------------------------------------------- */

static fm_code8 signed_code, unsigned_code;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Decades from 1e-6 to 1; decade i has twice the numbers of the one below: the middles of equal parts of [0.1, 1]. */
static void make(fm_code8 *c, bool sign) {
    int n = 0;
    for (int i = 0; i < 7; i++) {
        int items = sign ? 1 << i : 1 << (i + 1);
        for (int k = 0; k < items; k++) {
            double low = 0.1 + 0.9 * k / items, high = 0.1 + 0.9 * (k + 1) / items;
            double v = (low + high) / 2 * pow(10, i - 6);
            c->value[n++] = (float)v;
            if (sign) {
                c->value[n++] = (float)-v;
            }
        }
    }
    c->value[n++] = 0;
    c->value[n++] = 1;
    FM_ASSERT(n == 256);
    qsort(c->value, 256, sizeof *c->value, by_value);
    for (int i = 0; i < 255; i++) {
        c->border[i] = (c->value[i] + c->value[i + 1]) / 2;
    }
}
static void make_codes(void) {
    make(&signed_code, true);
    make(&unsigned_code, false);
}

const fm_code8 *fm_code8_get(bool sign) {
    pthread_once(&once, make_codes);
    return sign ? &signed_code : &unsigned_code;
}

uint8_t fm_code8_nearest(const fm_code8 *c, float x) {
    int lo = 0; /* the number of borders below x */
    for (int step = 128; step > 0; step /= 2) {
        if (lo + step <= 255 && c->border[lo + step - 1] < x) {
            lo += step;
        }
    }
    return (uint8_t)lo;
}

/* ---- four bits ------------------------------------------------------------------------------- */

/* Appendix E of the paper. */
static const float levels[16] = {-1.0F,
                                 -0.6961928009986877F,
                                 -0.5250730514526367F,
                                 -0.39491748809814453F,
                                 -0.28444138169288635F,
                                 -0.18477343022823334F,
                                 -0.09105003625154495F,
                                 0.0F,
                                 0.07958029955625534F,
                                 0.16093020141124725F,
                                 0.24611230194568634F,
                                 0.33791524171829224F,
                                 0.44070982933044434F,
                                 0.5626170039176941F,
                                 0.7229568362236023F,
                                 1.0F};

static uint8_t nearest(float x) {
    int lo = 0;
    for (int step = 8; step > 0; step /= 2) {
        if ((levels[lo + step - 1] + levels[lo + step]) / 2 < x) {
            lo += step;
        }
    }
    return (uint8_t)lo;
}

int64_t fm_nf4_blocks(int64_t n) {
    return (n + FM_NF4_BLOCK - 1) / FM_NF4_BLOCK;
}

static int64_t groups(int64_t n) {
    return (fm_nf4_blocks(n) + FM_NF4_SCALES - 1) / FM_NF4_SCALES;
}

int64_t fm_nf4_scale_bytes(int64_t n, bool twice) {
    return twice ? 4 * groups(n) + fm_nf4_blocks(n) : 4 * fm_nf4_blocks(n);
}

void fm_nf4_scales_place(fm_nf4_scales *s, int64_t n, bool twice, void *memory) {
    *s = (fm_nf4_scales){0};
    if (twice) {
        s->code_scale = memory;
        s->code = (uint8_t *)(s->code_scale + groups(n));
    } else {
        s->scale = memory;
    }
}

static float largest(const float *x, int64_t n) {
    float top = 0;
    for (int64_t i = 0; i < n; i++) {
        top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    }
    return top;
}

static float clamp(float v) {
    return v < -1 ? -1 : v > 1 ? 1 : v;
}

void fm_nf4_quantise(const float *x, int64_t n, uint8_t *q, float *scale) {
    for (int64_t at = 0; at < n; at += FM_NF4_BLOCK, x += FM_NF4_BLOCK, scale++) {
        int64_t m = FM_MIN(FM_NF4_BLOCK, n - at);
        float top = largest(x, m), inverse = 1.0F / (top > 1e-38F ? top : 1e-38F);
        *scale = top;
        for (int64_t i = 0; i < m; i++) {
            /* A last block that is not full is divided, as bitsandbytes does. */
            float v = m == FM_NF4_BLOCK ? x[i] * inverse : x[i] / (top > 1e-38F ? top : 1e-38F);
            uint8_t code = nearest(clamp(v)), *byte = &q[(at + i) / 2];
            *byte = (at + i) % 2 ? (uint8_t)((*byte & 0xf0) | code) : (uint8_t)(code << 4);
        }
    }
}

void fm_nf4_set_scales(fm_nf4_scales *s, int64_t blocks, const float *scale) {
    double sum = 0;
    for (int64_t i = 0; i < blocks; i++) {
        sum += (double)scale[i];
        if (s->scale) {
            s->scale[i] = scale[i];
        }
    }
    if (s->scale) {
        return;
    }
    const fm_code8 *c = fm_code8_get(true);
    s->mean = (float)(sum / (double)blocks);
    for (int64_t at = 0; at < blocks; at += FM_NF4_SCALES) {
        int64_t n = FM_MIN(FM_NF4_SCALES, blocks - at);
        float top = 0;
        for (int64_t i = at; i < at + n; i++) {
            float v = fabsf(scale[i] - s->mean);
            top = v > top ? v : top;
        }
        float safe = top > 1e-38F ? top : 1e-38F;
        s->code_scale[at / FM_NF4_SCALES] = top;
        for (int64_t i = at; i < at + n; i++) {
            float v = scale[i] - s->mean;
            s->code[i] = fm_code8_nearest(c, clamp(n == FM_NF4_SCALES ? v * (1.0F / safe) : v / safe));
        }
    }
}

float fm_nf4_scale(const fm_nf4_scales *s, int64_t block) {
    if (s->scale) {
        return s->scale[block];
    }
    return fm_code8_get(true)->value[s->code[block]] * s->code_scale[block / FM_NF4_SCALES] + s->mean;
}

void fm_nf4_dequantise(const uint8_t *q, const fm_nf4_scales *s, int64_t at, int64_t n, float *y) {
    for (int64_t end = at + n; at < end;) {
        int64_t block = at / FM_NF4_BLOCK, stop = FM_MIN(end, (block + 1) * FM_NF4_BLOCK);
        float scale = fm_nf4_scale(s, block), level[16];
        for (int i = 0; i < 16; i++) {
            level[i] = levels[i] * scale;
        }
        for (; at < stop && at % 2; at++) {
            *y++ = level[q[at / 2] & 15];
        }
        for (; at + 1 < stop; at += 2, y += 2) {
            y[0] = level[q[at / 2] >> 4];
            y[1] = level[q[at / 2] & 15];
        }
        for (; at < stop; at++) {
            *y++ = level[q[at / 2] >> 4];
        }
    }
}
