/* Watches loss and gradient norm of each step against the run's own recent past. */
#ifndef FM_TRAIN_GUARD_H
#define FM_TRAIN_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

#define FM_GUARD_WINDOW 64
#define FM_GUARD_MIN    32 /* steps before anything is called a spike */

typedef struct fm_guard {
    double loss[FM_GUARD_WINDOW], norm[FM_GUARD_WINDOW]; /* rings of accepted steps */
    int n, at;
    int64_t skipped_in_row, skipped;
} fm_guard;

typedef enum fm_verdict { FM_STEP_OK, FM_STEP_NONFINITE, FM_STEP_LOSS_SPIKE, FM_STEP_NORM_SPIKE } fm_verdict;

/* Median and spread (1.4826 x median absolute deviation, which is the standard deviation of normal data). */
void fm_median_spread(const double *x, int n, double *median, double *spread);

/* A loss is a spike above median + factor * max(spread, 2% of the median), a norm above median + factor * max(spread,
 * 20% of it): the floors keep a run that hardly varies from calling small changes spikes. factor 0 = only non-finite.
 */
fm_verdict fm_guard_check(const fm_guard *g, double loss, double norm, double factor);
/* Whether the norm lies outside the band: lo and hi, or, where they are 0, median / 10 and median + 6 * max(spread,
 * 20%). */
bool fm_guard_outside(const fm_guard *g, double norm, double lo, double hi, double band[2]);
/* Whether a norm spike is no outlier but where norms are now: as many steps in a row were skipped, the loss is no spike
 * and the step will be clipped. Skipping on would never end, because skipped steps leave the weights as they are. The
 * band is then learned anew from this norm. */
#define FM_GUARD_PATIENCE 3
bool fm_guard_new_level(fm_guard *g, fm_verdict v, double norm, bool clipped);
void fm_guard_accept(fm_guard *g, double loss, double norm);
void fm_guard_skip(fm_guard *g);

FM_MUST_CHECK fm_status fm_guard_store(const fm_guard *g, fm_json *object); /* adds members */
FM_MUST_CHECK fm_status fm_guard_load(fm_guard *g, const fm_json *object);

#endif
