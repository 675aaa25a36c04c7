/* Slopes of attention with linear biases. */
#include <math.h>

#include "nn/nn.h"

void fm_alibi_slopes(float *slopes, int32_t n_heads) {
    int32_t p = 1;
    while (p <= n_heads / 2) {
        p *= 2;
    }
    for (int32_t i = 0; i < n_heads; i++) {
        double power = i < p ? 8.0 * (i + 1) / p : 4.0 * (2 * (i - p) + 1) / p;
        slopes[i] = (float)exp2(-power);
    }
}
