/* Weights between files and the masters of a model in training. */
#ifndef FM_TRAIN_WEIGHTS_H
#define FM_TRAIN_WEIGHTS_H

#include "model/model.h"

/* Fills every parameter of m (memory allocated; f32, or the compute type where frozen) from the safetensors files in
 * dir; f32, bf16 and f16 are taken. FM_ERR_FORMAT names a tensor that is missing or has another shape. */
FM_MUST_CHECK fm_status fm_weights_read(fm_model *m, const char *dir, const fm_backend *b, const fm_exec *x);

#endif
