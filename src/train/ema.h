/* Exponential moving average of the trained weights (Polyak & Juditsky 1992), in f32 beside them.
 *   ema = d ema + (1 - d) w after each update, d = min(decay, (1 + t) / (10 + t)), so that short runs have one too */
#ifndef FM_TRAIN_EMA_H
#define FM_TRAIN_EMA_H

#include "tensor/param.h"

typedef struct fm_ema {
    fm_params *ps;
    double decay; /* 0: there is none */
    float *block;
    size_t bytes;
} fm_ema;

int64_t fm_ema_bytes(const fm_params *ps);
FM_MUST_CHECK fm_status fm_ema_init(fm_ema *e, fm_params *ps, double decay);
void fm_ema_deinit(fm_ema *e);
FM_MUST_CHECK fm_status fm_ema_begin(fm_ema *e, fm_pool *pool); /* the weights as they are */
FM_MUST_CHECK fm_status fm_ema_update(fm_ema *e, fm_pool *pool, int64_t t);
/* Average and weights change places; the second time everything is as it was. */
FM_MUST_CHECK fm_status fm_ema_swap(fm_ema *e, fm_pool *pool);
float *fm_ema_of(const fm_ema *e, const fm_param *p); /* NULL when p is not trained */

#endif
