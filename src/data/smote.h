/* SMOTE (Chawla, Bowyer, Hall, Kegelmeyer, "SMOTE: synthetic minority over-sampling technique", 2002): rows of numbers
 * of one class, and new ones between neighbours. */
#ifndef FM_DATA_SMOTE_H
#define FM_DATA_SMOTE_H

#include "base/rng.h"
#include "data/rec.h"
#include "fathom/option.h"

/* Zero-initialise. */
typedef struct fm_smote {
    double *value; /* [n, width] */
    int32_t *class;
    size_t n, cap, class_cap, width;
    size_t *column_width; /* [columns]: 1, or the length of the list; is_list tells which */
    bool *is_list;
    char part[16];
    size_t *order, *first; /* rows by class; [n_classes + 1] where each class begins */
    int32_t *near;         /* [n, k] places in the class of the nearest, found when needed; near[i * k] < 0: not yet */
    int k;
} fm_smote;
void fm_smote_free(fm_smote *s);

/* Takes a row's columns. *complete is false, and nothing is taken, when a number is missing or a list has another
 * length than the first had. */
FM_MUST_CHECK fm_status fm_smote_add(fm_smote *s, const fm_rec *r, const fm_strlist *columns, int32_t class,
                                     bool *complete);
FM_MUST_CHECK fm_status fm_smote_prepare(fm_smote *s, int n_classes); /* after the last add */
/* v [width]: row + u (neighbour - row), the row, one of its k nearest (Euclidean; ties by order) and u in [0, 1) by the
 * i-th draws of rng. With fewer than k others all of them count; a class of one row gives that row. */
FM_MUST_CHECK fm_status fm_smote_make(fm_smote *s, int class, int k, fm_rng_key rng, uint64_t i, double *v);
/* Writes values back as columns. */
FM_MUST_CHECK fm_status fm_smote_put(const fm_smote *s, fm_bump *a, fm_rec *r, const fm_strlist *columns,
                                     const double *v, fm_str *room);

#endif
