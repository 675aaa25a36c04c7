/* Logistic regression over sparse rows: learns to tell two kinds of rows apart, and turns its margins into
 * probabilities.
 *
 * Fitting minimises |w|^2 / 2 + cost * sum over rows of weight(class) * log(1 + exp(-y margin)), the objective of
 * liblinear and scikit-learn; the bias is the weight of a feature that is 1 in every row. The method is stochastic
 * coordinate descent in the dual (Yu, Huang, Lin, "Dual coordinate descent methods for logistic regression and maximum
 * entropy models", 2011): no rate to choose, and the distance from the optimum is known. One thread; the order of rows
 * is drawn from the seed, so equal rows give equal bits.
 *
 * Probabilities: the sigmoid of a * margin + b, a and b fitted to margins of rows that the model was not fitted to
 * (Platt 1999, with his smoothed targets; Lin, Lin, Weng 2007 for the Newton steps). */
#ifndef FM_DATA_LINEAR_H
#define FM_DATA_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#define FM_LINEAR_FEATURES 65536

/* Rows one after the other. Zero-initialise. */
typedef struct fm_linear_rows {
    uint16_t *feature; /* [start[n]], distinct within a row */
    float *value;      /* [start[n]] */
    size_t *start;     /* [n + 1] */
    bool *positive;    /* [n] */
    uint8_t *fold;     /* [n], of the caller */
    size_t n, n_values;
    size_t cap[5];
} fm_linear_rows;
FM_MUST_CHECK fm_status fm_linear_add(fm_linear_rows *r, const uint16_t *feature, const float *value, size_t n,
                                      bool positive, uint8_t fold);
void fm_linear_free(fm_linear_rows *r);

typedef struct fm_linear_options {
    double cost;      /* > 0: larger follows the rows more closely */
    double tolerance; /* largest distance from the optimum, in logits of a row */
    bool balanced;    /* both kinds weigh the same in all, whatever their numbers */
    int most_passes;  /* over the rows, whatever is reached by then */
    int leave_out;    /* the fold that is not fitted to; -1 = none */
    uint64_t seed;
} fm_linear_options;

typedef struct fm_linear {
    double weight[FM_LINEAR_FEATURES], bias;
    int passes;      /* over the rows */
    double residual; /* largest distance, in logits, of a row from where the optimum has it */
} fm_linear;
/* FM_ERR_DATA when the rows to fit to lack a kind. */
FM_MUST_CHECK fm_status fm_linear_fit(fm_linear *out, const fm_linear_rows *r, const fm_linear_options *o);
double fm_linear_margin(const fm_linear *m, const uint16_t *feature, const float *value, size_t n);

typedef struct fm_linear_sigmoid {
    double a, b;
} fm_linear_sigmoid;
/* weight: of the positive and of the other rows. */
fm_linear_sigmoid fm_linear_calibrate(const double *margin, const bool *positive, size_t n, const double weight[2]);
double fm_linear_probability(fm_linear_sigmoid s, double margin);

#endif
