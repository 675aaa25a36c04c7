/* Curriculum: windows in levels from easy to hard (Bengio et al. 2009), and which level a draw comes from.
 *
 * Which window a draw takes is a function of (seed, number of the draw) alone, so a cursor of two integers resumes
 * exactly. An epoch is as many draws as the data has windows.
 *   switched   up to a point of the run only the first level is seen, from there on the first two, and so on; the
 *              windows seen are gone through one pass after the other, each in a new order
 *   weights    a draw takes a level with a chance that moves linearly, over `total` draws, from n, n-1 .. 1 (easy
 *              ones most) to 1 .. n-1, n (hard ones most), times the level's number of windows; drawn with replacement
 */
#ifndef FM_DATA_CURRICULUM_H
#define FM_DATA_CURRICULUM_H

#include "data/shards.h"

#define FM_MAX_LEVELS 16

typedef struct fm_curriculum {
    int n_levels;
    int64_t level_begin[FM_MAX_LEVELS + 1]; /* windows, in order of level */
    int64_t *window;                        /* [n_windows] by level, or NULL: they are in this order already */
    bool by_weights;
    int64_t from[FM_MAX_LEVELS]; /* switched: first draw that sees level l; from[0] = 0, ascending */
    int64_t total;               /* weights */
} fm_curriculum;

/* Levels of n items of about as many items each, from the smallest difficulty up; equal ones in order. */
FM_MUST_CHECK fm_status fm_levels_of(uint8_t *level, const float *difficulty, int64_t n, int n_levels);
/* Windows of plain text: the mean difficulty of their tokens, which is that of their documents, says the level. */
FM_MUST_CHECK fm_status fm_curriculum_windows(fm_curriculum *c, const fm_dataset *d, int32_t seq_len,
                                              const float *difficulty, int n_levels);
/* Number of the window that draw k of the run takes; `shuffle` false: in order of level. */
int64_t fm_curriculum_window(const fm_curriculum *c, int64_t k, uint64_t seed, bool shuffle);
void fm_curriculum_deinit(fm_curriculum *c);

#endif
