/* Learning-rate schedules: the factor on the peak rate as a function of the step alone. */
#ifndef FM_TRAIN_SCHEDULE_H
#define FM_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "base/str.h"

#define FM_MAX_MILESTONES 16

typedef struct fm_schedule fm_schedule;
/* After warm-up: x in [0,1] is the share of the remaining steps that is done. */
typedef struct fm_schedule_type {
    const char *name;
    double (*factor)(const fm_schedule *s, double x, int64_t step);
} fm_schedule_type;

struct fm_schedule {
    const fm_schedule_type *type;
    int64_t n_steps, warmup_steps;
    double min_ratio;                    /* of cosine, linear, wsd at the end */
    double decay_ratio;                  /* wsd: share of all steps that decays */
    double gamma;                        /* multistep */
    double milestone[FM_MAX_MILESTONES]; /* below 1: share of n_steps; else steps */
    int n_milestones;
};

const fm_schedule_type *fm_schedule_find(const char *name); /* NULL when unknown */
void fm_schedule_names(fm_str *out);                        /* "a, b, c" */
/* Factor for optimizer step `step`, counted from 0. Warm-up gives (step+1)/warmup_steps, so the first step moves. */
double fm_schedule_factor(const fm_schedule *s, int64_t step);

#endif
