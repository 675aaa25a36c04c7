/* Counts of lengths, exact up to 127 and within 1% beyond, so that shares can be asked for without keeping them all. */
#ifndef FM_DATA_LENGTHS_H
#define FM_DATA_LENGTHS_H

#include <stdint.h>

#define FM_LENGTHS_BITS    7
#define FM_LENGTHS_BUCKETS ((64 - FM_LENGTHS_BITS) << FM_LENGTHS_BITS)

typedef struct fm_lengths {
    int64_t n, sum, least, most;
    int64_t bucket[FM_LENGTHS_BUCKETS];
} fm_lengths;

void fm_lengths_add(fm_lengths *l, int64_t v);
/* The length that a share of all (0 to 1) does not exceed, within 1%. */
int64_t fm_lengths_quantile(const fm_lengths *l, double share);
/* How many are below v, a power of two or less than 128. */
int64_t fm_lengths_below(const fm_lengths *l, int64_t v);

#endif
