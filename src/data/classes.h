/* How many rows each value of a class column has. */
#ifndef FM_DATA_CLASSES_H
#define FM_DATA_CLASSES_H

#include "base/json.h"
#include "data/rec.h"

/* More values than this are no classes. */
#define FM_CLASSES_MOST 2048
/* A largest class with more than so many times the rows of the smallest deserves a warning. */
#define FM_CLASSES_RATIO 3

typedef struct fm_class {
    char *name;
    int64_t rows;
} fm_class;

/* Zero-initialise. */
typedef struct fm_classes {
    fm_class item[FM_CLASSES_MOST];
    uint16_t slot[2 * FM_CLASSES_MOST]; /* index + 1, by hash of the name */
    size_t n;
    bool too_many;
    int64_t without; /* rows that have no value */
} fm_classes;

FM_MUST_CHECK fm_status fm_classes_add(fm_classes *c, const fm_rec *r, const char *column);
void fm_classes_free(fm_classes *c);
/* Largest rows over smallest; 0 with less than two classes. */
double fm_classes_ratio(const fm_classes *c, const fm_class **most, const fm_class **least);
/* {column, values: [{value, rows}] most frequent first, without, ratio, unbalanced}; *out stays NULL when no row has a
 * value or there are too many. */
FM_MUST_CHECK fm_status fm_classes_json(fm_json **out, fm_classes *c, const char *column);

#endif
