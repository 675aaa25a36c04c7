/* Activations as quantised products read them: blocks of 32 along k, an int8 each and one factor per block.
 *
 *   d = max|x| / 127,  q = round to even(x * (127 / max|x|)),  x ~ d q
 *
 * all in f32. A block whose largest magnitude is below FM_QUANT_ACT_MIN is zero; one that holds NaN or an infinity has
 * a d that is not finite, so that no such row gives a finite result. One definition for every weight type, so that what
 * a row gives depends on that row and the weights alone. */
#ifndef FM_BACKEND_QUANT_ACT_H
#define FM_BACKEND_QUANT_ACT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FM_QUANT_ACT     32
#define FM_QUANT_ACT_MIN 0x1p-100F

/* n <= 32 elements of x; q[n..32) become 0. Returns d. */
static inline float fm_quant_act_block(const float *x, int n, int8_t *q) {
    uint32_t max = 0; /* as bits: NaN is larger than all else */
    for (int i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffffu;
        max = bits > max ? bits : max;
    }
    float top;
    memcpy(&top, &max, sizeof top);
    bool finite = max < 0x7f800000u;
    float inverse = top < FM_QUANT_ACT_MIN || !finite ? 0.0F : 127.0F / top;
    for (int i = 0; i < FM_QUANT_ACT; i++) {
        q[i] = i < n && inverse > 0 ? (int8_t)rintf(x[i] * inverse) : 0;
    }
    if (!finite) {
        return (float)NAN;
    }
    return inverse > 0 ? top / 127.0F : 0.0F;
}

#endif
