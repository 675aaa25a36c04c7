/* Ranges of numeric columns: measured on training rows, kept in a file, applied to any rows later. */
#ifndef FM_DATA_RANGES_H
#define FM_DATA_RANGES_H

#include <string.h>

#include "data/rec.h"
#include "fathom/option.h"

typedef struct fm_range {
    char *name;
    double min, max;
    double mean, squares; /* running mean, and sum of squared distances from it (Welford) */
    int64_t n;
} fm_range;

typedef struct fm_ranges {
    fm_range *item;
    size_t n;
} fm_ranges;

FM_MUST_CHECK fm_status fm_ranges_new(fm_ranges *out, const fm_strlist *names);
void fm_ranges_free(fm_ranges *r);
void fm_range_add(fm_range *r, double v);
double fm_range_sd(const fm_range *r); /* of the population; 0 without numbers */
/* (v - min) / (max - min); 0 where all numbers were the same. */
double fm_range_scale(const fm_range *r, double v);

/* A JSON object by column. */
FM_MUST_CHECK fm_status fm_ranges_put_json(const fm_ranges *r, fm_str *out);
FM_MUST_CHECK fm_status fm_ranges_save(const fm_ranges *r, const char *path);
/* The ranges of the columns named; FM_ERR_CONFIG when one is not in the file. *out is to be freed in any case. */
FM_MUST_CHECK fm_status fm_ranges_load(fm_ranges *out, const fm_strlist *names, const char *path);

/* The finite number of a column; false when it has none. */
bool fm_rec_number(const fm_rec *r, const char *name, double *v);
/* Whether a row may teach a step something: it was not put into a part other than train. */
static inline bool fm_rec_is_training(const fm_rec *r) {
    return !r->part || strcmp(r->part, "train") == 0;
}

#endif
