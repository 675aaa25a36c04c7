/* Learning on without forgetting: what a run does for rows that its model learned before.
 *   measured   the loss on each earlier_dataset before the first step and after the last (OUTPUT/forgetting.json)
 *   EWC        elastic weight consolidation (Kirkpatrick et al. 2017): ewc_lambda/2 sum F (w - w0)^2 is added to the
 *              loss of a token, w0 the weights the run began with, F the diagonal Fisher information per token: squared
 *              gradients of the summed loss of windows of replay_dataset, over their trained tokens
 *   replay     windows of replay_dataset in each step, whose answers are what the old model says (distillation, Hinton
 *              et al. 2015; Li and Hoiem 2016): replay_weight times the mean cross-entropy against its probabilities */
#ifndef FM_TRAIN_CONTINUAL_H
#define FM_TRAIN_CONTINUAL_H

#include "train/config.h"

#define FM_MAX_EARLIER 16

struct fm_trainer;
typedef struct fm_continual fm_continual;

/* Keys that need one another. */
FM_MUST_CHECK fm_status fm_continual_check(const fm_train_config *c);
/* Opens the rows; nothing (*r->continual NULL) when no key asks for it. After the run's own data. */
FM_MUST_CHECK fm_status fm_continual_open(struct fm_trainer *r);
/* Memory beside the plan's: Fisher information, first weights, old model; and of the activations of one window. */
int64_t fm_continual_bytes(const struct fm_trainer *r);
FM_MUST_CHECK fm_status fm_continual_measure(struct fm_trainer *r, int64_t *arena, int64_t *grads);
/* Before the first step of a run or of a resumed part of it; weights and context are there. */
FM_MUST_CHECK fm_status fm_continual_begin(struct fm_trainer *r);
/* Adds to the gradients of a step, when its own passes are done. */
FM_MUST_CHECK fm_status fm_continual_add(struct fm_trainer *r);
/* Losses after the run, and the Fisher information beside the model. */
FM_MUST_CHECK fm_status fm_continual_finish(struct fm_trainer *r);
void fm_continual_free(struct fm_trainer *r);

#endif
