/* Sorting more records than memory holds: fixed-size records of 64-bit words, ordered by the first word and, where that
 * is equal, by the order in which they came. What does not fit the memory given goes to one file in sorted runs, which
 * are merged while they are read. */
#ifndef FM_DATA_SORTER_H
#define FM_DATA_SORTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#define FM_SORTER_MOST_WORDS 4

typedef struct fm_sorter fm_sorter;
/* words: 1 to 4 a record. memory: bytes it may take. path: of the file, made when it is needed, removed by free. */
FM_MUST_CHECK fm_status fm_sorter_new(fm_sorter **out, int words, int64_t memory, const char *path);
void fm_sorter_free(fm_sorter *s);
FM_MUST_CHECK fm_status fm_sorter_push(fm_sorter *s, const uint64_t *record);
/* After the last push, before the first next. */
FM_MUST_CHECK fm_status fm_sorter_sort(fm_sorter *s);
/* *record is NULL at the end; valid until the next call. */
FM_MUST_CHECK fm_status fm_sorter_next(fm_sorter *s, const uint64_t **record);

/* A set of small integers that grows: one bit each. */
typedef struct fm_bits {
    uint64_t *word;
    size_t n, cap; /* words */
} fm_bits;
FM_MUST_CHECK fm_status fm_bits_set(fm_bits *b, uint64_t i);
bool fm_bits_has(const fm_bits *b, uint64_t i);
void fm_bits_free(fm_bits *b);

#endif
