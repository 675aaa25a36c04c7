/* Numbers to k-quants. Each sub-block's scale (and minimum) is searched: quants for a few trial scales, the best scale
 * for those quants by weighted least squares, and of all trials the one with the least weighted error.
 *
 * The result depends on the order of floating-point sums, which ggml fixes to element order inside a sub-block. So the
 * loops here run over four sub-blocks at once, a lane each: the same sums in the same order, four times as fast. */
#include <math.h>
#include <string.h>

#include "backend/quant.h"
#include "base/error.h"

#define QK_K  256
#define LANES 4

typedef float v4f __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));

static inline v4f splat(float x) {
    return (v4f){x, x, x, x};
}
static inline v4i splat_i(int32_t x) {
    return (v4i){x, x, x, x};
}
static inline v4f pick(v4i mask, v4f a, v4f b) {
    return (v4f)((mask & (v4i)a) | (~mask & (v4i)b));
}
static inline v4i clamp(v4i x, int32_t low, int32_t high) {
    v4i l = splat_i(low), h = splat_i(high), m = x < l;
    x = (m & l) | (~m & x);
    m = x > h;
    return (m & h) | (~m & x);
}
static inline v4f to_f(v4i x) {
    return __builtin_convertvector(x, v4f);
}
static inline v4f magnitude(v4f x) {
    return (v4f)((v4i)x & splat_i(0x7fffffff));
}
/* Nearest integer, ties to even, for |x| < 2^22; beyond it the low bits of the sum, as in ggml. */
static inline v4i nearest(v4f x) {
    v4i bits = (v4i)(x + splat(12582912.0F));
    return (bits & splat_i(0x7fffff)) - splat_i(0x400000);
}
static int nearest_1(float x) {
    return nearest(splat(x))[0];
}

static void load_lanes(v4f *out, const float *x, int n) {
    for (int i = 0; i < n; i++) {
        out[i] = (v4f){x[i], x[n + i], x[2 * n + i], x[3 * n + i]};
    }
}

/* ---- scale and minimum: x ~ scale*q - min, q in 0..n_max (q4_k, q5_k) ------------------------- */

#define SUB 32
typedef struct fit {
    v4f scale, min;       /* min: what is subtracted */
    v4f q_inverse, q_min; /* the quants are nearest(q_inverse * (x - q_min)), for lanes with a range */
    v4i flat;             /* no range: all quants 0 */
} fit;

/* Trial scales: (first + 0.1*step + n_max) quants over the range, step 0 to n_steps. */
typedef struct grid {
    int n_max, n_steps;
    float first;
} grid;

static v4f error_of(const v4f *x, const v4f *w, v4f inverse, v4f q_min, v4f scale, v4f min, int n_max) {
    v4f sum = splat(0);
    for (int i = 0; i < SUB; i++) {
        v4f diff = scale * to_f(clamp(nearest(inverse * (x[i] - q_min)), 0, n_max)) + min - x[i];
        sum += w[i] * (diff * diff);
    }
    return sum;
}

static void fit_lanes(fit *f, const v4f *x, const v4f *w, const grid *g) {
    v4f min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    for (int i = 1; i < SUB; i++) {
        min = pick(x[i] < min, x[i], min);
        max = pick(x[i] > max, x[i], max);
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    min = pick(min > splat(0), splat(0), min);
    f->flat = max == min;
    f->q_inverse = splat((float)g->n_max) / (max - min);
    f->q_min = min;
    v4f scale = splat(1) / f->q_inverse;
    v4f best = error_of(x, w, f->q_inverse, min, scale, min, g->n_max);
    for (int step = 0; step <= g->n_steps; step++) {
        v4f inverse = splat(g->first + 0.1F * (float)step + (float)g->n_max) / (max - min);
        v4f sum_q = splat(0), sum_q2 = splat(0), sum_xq = splat(0);
        for (int i = 0; i < SUB; i++) {
            v4f q = to_f(clamp(nearest(inverse * (x[i] - min)), 0, g->n_max)), wq = w[i] * q;
            sum_q += wq;
            sum_q2 += wq * q;
            sum_xq += wq * x[i];
        }
        v4f det = sum_w * sum_q2 - sum_q * sum_q;
        v4f new_scale = (sum_w * sum_xq - sum_x * sum_q) / det, new_min = (sum_q2 * sum_x - sum_q * sum_xq) / det;
        v4i above = new_min > splat(0);
        new_min = pick(above, splat(0), new_min);
        new_scale = pick(above, sum_xq / sum_q2, new_scale);
        v4f error = error_of(x, w, inverse, min, new_scale, new_min, g->n_max);
        v4i better = (det > splat(0)) & (error < best);
        best = pick(better, error, best);
        f->q_inverse = pick(better, inverse, f->q_inverse);
        f->q_min = pick(better, min, f->q_min);
        scale = pick(better, new_scale, scale);
        min = pick(better, new_min, min);
    }
    f->scale = pick(f->flat, splat(0), scale);
    f->min = -min;
}

static void pack_scale_min(uint8_t q[12], int j, int s, int m) {
    if (j < 4) {
        q[j] = (uint8_t)s;
        q[j + 4] = (uint8_t)m;
    } else {
        q[j + 4] = (uint8_t)((s & 15) | (m & 15) << 4);
        q[j - 4] = (uint8_t)(q[j - 4] | s >> 4 << 6);
        q[j] = (uint8_t)(q[j] | m >> 4 << 6);
    }
}

/* Six bits of a factor relative to the largest. */
static int six_bits(float inverse, float x) {
    return FM_MIN(63, nearest_1(inverse * x) & 255);
}

/* d, dmin, scales[12] into b; quants of all elements into q. */
static void quantise_min(const float *x, uint8_t *b, uint8_t q[QK_K], const grid *g) {
    v4f lanes[2][SUB];
    fit f[2];
    float max_scale = 0, max_min = 0;
    for (int h = 0; h < 2; h++) {
        v4f w[SUB], sum = splat(0), rms;
        load_lanes(lanes[h], x + (ptrdiff_t)h * LANES * SUB, SUB);
        for (int i = 0; i < SUB; i++) {
            sum += lanes[h][i] * lanes[h][i];
        }
        for (int k = 0; k < LANES; k++) {
            rms[k] = sqrtf(sum[k] / SUB);
        }
        for (int i = 0; i < SUB; i++) {
            w[i] = rms + magnitude(lanes[h][i]);
        }
        fit_lanes(&f[h], lanes[h], w, g);
        for (int k = 0; k < LANES; k++) {
            max_scale = f[h].scale[k] > max_scale ? f[h].scale[k] : max_scale; /* a minimum of -0 stays out */
            max_min = f[h].min[k] > max_min ? f[h].min[k] : max_min;
        }
    }
    float inverse_scale = max_scale > 0 ? 63.0F / max_scale : 0, inverse_min = max_min > 0 ? 63.0F / max_min : 0;
    for (int j = 0; j < 2 * LANES; j++) {
        pack_scale_min(b + 4, j, six_bits(inverse_scale, f[j / LANES].scale[j % LANES]),
                       six_bits(inverse_min, f[j / LANES].min[j % LANES]));
    }
    fm_quant_store_f16(b, max_scale / 63.0F);
    fm_quant_store_f16(b + 2, max_min / 63.0F);
    float d = fm_quant_load_f16(b), dmin = fm_quant_load_f16(b + 2);
    for (int h = 0; h < 2; h++) {
        v4f scale, min;
        for (int k = 0; k < LANES; k++) {
            int s, m;
            fm_k_scale_min(b + 4, h * LANES + k, &s, &m);
            scale[k] = d * (float)s;
            min[k] = dmin * (float)m;
        }
        v4i zero = scale == splat(0); /* then the quants of the search stay */
        for (int i = 0; i < SUB; i++) {
            v4i found = clamp(nearest((lanes[h][i] + min) / scale), 0, g->n_max);
            v4i kept = clamp(nearest(f[h].q_inverse * (lanes[h][i] - f[h].q_min)), 0, g->n_max) & ~f[h].flat;
            v4i use = (zero & kept) | (~zero & found);
            for (int k = 0; k < LANES; k++) {
                q[(h * LANES + k) * SUB + i] = (uint8_t)use[k];
            }
        }
    }
}

void fm_q4_k_quantise(const float *x, uint8_t *b, int64_t n_blocks) {
    static const grid g = {.n_max = 15, .n_steps = 20, .first = -1.0F};
    for (int64_t i = 0; i < n_blocks; i++, b += 144, x += QK_K) {
        uint8_t q[QK_K];
        quantise_min(x, b, q, &g);
        for (int j = 0; j < QK_K / 2; j++) {
            int at = j / 32 * 64 + j % 32;
            b[16 + j] = (uint8_t)(q[at] | q[at + 32] << 4);
        }
    }
}

void fm_q5_k_quantise(const float *x, uint8_t *b, int64_t n_blocks) {
    static const grid g = {.n_max = 31, .n_steps = 15, .first = -0.5F};
    for (int64_t i = 0; i < n_blocks; i++, b += 176, x += QK_K) {
        uint8_t q[QK_K];
        quantise_min(x, b, q, &g);
        memset(b + 16, 0, 32);
        for (int j = 0; j < QK_K; j++) {
            b[16 + j % 32] = (uint8_t)(b[16 + j % 32] | q[j] >> 4 << j / 32);
        }
        for (int j = 0; j < QK_K / 2; j++) {
            int at = j / 32 * 64 + j % 32;
            b[48 + j] = (uint8_t)((q[at] & 15) | (q[at + 32] & 15) << 4);
        }
    }
}

/* ---- scale alone: x ~ scale*(q-32), q in 0..63 (q6_k) ----------------------------------------- */

#define SUB6   16
#define HALF6  32
#define ALMOST 1e-15F /* sub-blocks below it are zero */

typedef struct fit6 {
    v4f scale, q_inverse;
    v4i zero;
} fit6;

static void sums6(const v4f *x, v4f inverse, v4f *sum_xq, v4f *sum_q2) {
    *sum_xq = *sum_q2 = splat(0);
    for (int i = 0; i < SUB6; i++) {
        v4f q = to_f(clamp(nearest(inverse * x[i]), -HALF6, HALF6 - 1)), w = x[i] * x[i];
        *sum_xq += w * x[i] * q;
        *sum_q2 += w * q * q;
    }
}

static void fit6_lanes(fit6 *f, const v4f *x) {
    v4f largest = splat(0), max = splat(0), sum_xq, sum_q2;
    for (int i = 0; i < SUB6; i++) {
        v4f a = magnitude(x[i]);
        v4i more = a > largest;
        largest = pick(more, a, largest);
        max = pick(more, x[i], max);
    }
    f->zero = largest < splat(ALMOST);
    f->q_inverse = splat(-HALF6) / max;
    sums6(x, f->q_inverse, &sum_xq, &sum_q2);
    v4f scale = pick(sum_q2 != splat(0), sum_xq / sum_q2, splat(0)), best = scale * sum_xq;
    for (int step = -9; step <= 9; step++) {
        if (step == 0) {
            continue;
        }
        v4f inverse = splat(-((float)HALF6 + 0.1F * (float)step)) / max;
        sums6(x, inverse, &sum_xq, &sum_q2);
        v4i better = (sum_q2 > splat(0)) & (sum_xq * sum_xq > best * sum_q2);
        f->q_inverse = pick(better, inverse, f->q_inverse);
        scale = pick(better, sum_xq / sum_q2, scale);
        best = pick(better, scale * sum_xq, best);
    }
    f->scale = pick(f->zero, splat(0), scale);
}

/* Quants 0..63 of a super-block whose scales are in b; those of the search where a scale became 0. */
static void final6(v4f lanes[4][SUB6], const fit6 *f, const uint8_t *b, uint8_t q[QK_K]) {
    float d = fm_quant_load_f16(b + 208);
    for (int h = 0; h < 4; h++) {
        v4f scale;
        for (int k = 0; k < LANES; k++) {
            scale[k] = d * (float)(int8_t)b[192 + h * LANES + k];
        }
        v4i zero = scale == splat(0);
        for (int i = 0; i < SUB6; i++) {
            v4i found = clamp(nearest(lanes[h][i] / scale), -HALF6, HALF6 - 1) + splat_i(HALF6);
            v4i kept = clamp(nearest(f[h].q_inverse * lanes[h][i]), -HALF6, HALF6 - 1) + splat_i(HALF6);
            v4i use = (zero & kept & ~f[h].zero) | (~zero & found);
            for (int k = 0; k < LANES; k++) {
                q[(h * LANES + k) * SUB6 + i] = (uint8_t)use[k];
            }
        }
    }
}

static void q6_block(const float *x, uint8_t *b) {
    v4f lanes[4][SUB6];
    fit6 f[4];
    uint8_t q[QK_K];
    float max_scale = 0, largest = 0;
    for (int h = 0; h < 4; h++) {
        load_lanes(lanes[h], x + (ptrdiff_t)h * LANES * SUB6, SUB6);
        fit6_lanes(&f[h], lanes[h]);
        for (int k = 0; k < LANES; k++) {
            if (fabsf(f[h].scale[k]) > largest) {
                largest = fabsf(f[h].scale[k]);
                max_scale = f[h].scale[k];
            }
        }
    }
    if (largest < ALMOST) {
        memset(b, 0, 210);
        return;
    }
    float inverse = -128.0F / max_scale;
    fm_quant_store_f16(b + 208, 1 / inverse);
    for (int j = 0; j < 16; j++) {
        b[192 + j] = (uint8_t)FM_MIN(127, nearest_1(inverse * f[j / LANES].scale[j % LANES]));
    }
    final6(lanes, f, b, q);
    for (int j = 0; j < 64; j++) {
        const uint8_t *p = q + j / 32 * 128 + j % 32;
        b[j / 32 * 64 + j % 32] = (uint8_t)((p[0] & 15) | (p[64] & 15) << 4);
        b[j / 32 * 64 + 32 + j % 32] = (uint8_t)((p[32] & 15) | (p[96] & 15) << 4);
        b[128 + j] = (uint8_t)(p[0] >> 4 | p[32] >> 4 << 2 | p[64] >> 4 << 4 | p[96] >> 4 << 6);
    }
}

void fm_q6_k_quantise(const float *x, uint8_t *b, int64_t n_blocks) {
    for (int64_t i = 0; i < n_blocks; i++, b += 210, x += QK_K) {
        q6_block(x, b);
    }
}
