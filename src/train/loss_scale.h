/* Dynamic loss scaling for fp16 (Micikevicius et al. 2018): gradients of a loss times a power of two, so that small
 * ones are not lost. A step whose gradients overflow is left out and the scale halved; after `window` good steps in a
 * row it is doubled. */
#ifndef FM_TRAIN_LOSS_SCALE_H
#define FM_TRAIN_LOSS_SCALE_H

#include <stdbool.h>
#include <stdint.h>

#define FM_LOSS_SCALE_MAX 0x1p24
#define FM_LOSS_SCALE_MIN 1.0

typedef struct fm_loss_scale {
    double scale; /* 1 without scaling */
    int64_t good; /* steps since it changed */
} fm_loss_scale;

/* After gradients that were finite. */
void fm_loss_scale_good(fm_loss_scale *s, int64_t window);
/* After gradients that were not; false when the scale is as small as it gets, so that it is not to blame. */
bool fm_loss_scale_overflow(fm_loss_scale *s);

#endif
