/* The AdamW step, for optimizers that use it for part of the parameters. */
#ifndef FM_TRAIN_OPTIM_ADAM_H
#define FM_TRAIN_OPTIM_ADAM_H

#include "train/optimizer.h"

FM_MUST_CHECK fm_status fm_adamw_update(const fm_backend *b, const fm_exec *x, const fm_optim_update *u);

#endif
