/* Records in a temporary file, read from front to back. */
#ifndef FM_DATA_SPOOL_H
#define FM_DATA_SPOOL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "fathom/status.h"

/* A file of records of 64-bit words: written once, then read from its beginning, as often as wanted. Zero-initialise;
 * the path is taken away at once, so nothing is left behind. */
typedef struct fm_spool {
    FILE *file;
    int words;
    int64_t n;
    char dir[256]; /* for messages; the beginning of a long one */
} fm_spool;
FM_MUST_CHECK fm_status fm_spool_open(fm_spool *s, int words, const char *dir);
FM_MUST_CHECK fm_status fm_spool_put(fm_spool *s, const uint64_t *record);
FM_MUST_CHECK fm_status fm_spool_rewind(fm_spool *s);
FM_MUST_CHECK fm_status fm_spool_get(fm_spool *s, uint64_t *record, bool *more);
void fm_spool_close(fm_spool *s);

#endif
