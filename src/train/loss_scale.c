/* The scale of an fp16 loss. */
#include "train/loss_scale.h"

#include <math.h>

void fm_loss_scale_good(fm_loss_scale *s, int64_t window) {
    if (++s->good >= window) {
        s->scale = fmin(2 * s->scale, FM_LOSS_SCALE_MAX);
        s->good = 0;
    }
}

bool fm_loss_scale_overflow(fm_loss_scale *s) {
    if (s->scale <= FM_LOSS_SCALE_MIN) {
        return false;
    }
    s->scale = fmax(s->scale / 2, FM_LOSS_SCALE_MIN);
    s->good = 0;
    return true;
}
