/* Text as a sequence of hashed units, for what compares texts by runs of words: a unit is a run of letters and digits;
 * each character of a script without blanks (Han, kana, Thai) is one by itself. */
#ifndef FM_DATA_UNITS_H
#define FM_DATA_UNITS_H

#include <stdbool.h>

#include "base/str.h"

enum {
    FM_UNIT_MARKS = 1, /* other characters that are no blanks are units too, each by itself; else they only separate */
    FM_UNIT_CASE = 2,  /* letters as they are; else small */
};

/* The hash of the next unit at *p, which is moved behind it; false at the end. The hash is odd. */
bool fm_unit_next(const char **p, const char *end, unsigned how, uint64_t *hash);

#endif
