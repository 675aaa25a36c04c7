/* Difficulty of the rows of a run (keys curriculum_*), and the curriculum made of it. */
#ifndef FM_TRAIN_DIFFICULTY_H
#define FM_TRAIN_DIFFICULTY_H

#include "data/curriculum.h"
#include "train/run.h"

enum { FM_CURRICULUM_NONE, FM_CURRICULUM_COLUMN, FM_CURRICULUM_LENGTH, FM_CURRICULUM_LOSS };

/* Keys that contradict each other, or are missing; numbers of curriculum_levels to at[], *n of them. */
FM_MUST_CHECK fm_status fm_curriculum_check(const fm_train_config *c, double at[FM_MAX_LEVELS], int *n);
/* The sampler of the training data, with levels where the configuration asks for them. */
FM_MUST_CHECK fm_status fm_trainer_open_sampler(fm_trainer *r);

#endif
