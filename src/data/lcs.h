/* Longest common subsequences, and the ROUGE-L of two texts that self-instruct filters by. */
#ifndef FM_DATA_LCS_H
#define FM_DATA_LCS_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

/* Length of the longest common subsequence of a[0..n) and b[0..m), by two rows of the table: n * m steps. row, cap:
 * room that is kept (fm_grow; the caller frees it). */
FM_MUST_CHECK fm_status fm_lcs_length(size_t *out, const uint32_t *a, size_t n, const uint32_t *b, size_t m,
                                      uint32_t **room, size_t *cap);

#endif
