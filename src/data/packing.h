/* Examples into windows of a fixed length. An example is never cut and never shares attention with its neighbours;
 * what is free at the end of a window is padding.
 *
 * Best-fit decreasing (Johnson 1974; as used for training by Ding et al. 2024): examples from the longest down, each
 * into the fullest window that still has room. The packing depends on the lengths alone: it is the same in every epoch
 * and after a resume; what changes is the order of the windows. */
#ifndef FM_DATA_PACKING_H
#define FM_DATA_PACKING_H

#include "data/shards.h"

struct fm_packing {
    int64_t n_windows, n_documents;
    int64_t *begin;    /* [n_windows+1] into document */
    int64_t *document; /* [n_documents], ascending inside a window */
};

/* level [documents] (or NULL): examples share windows only within a level; windows come in order of level, and the
 * bounds go to levels->level_begin. Examples longer than a window are FM_ERR_DATA naming the first one. O(n log
 * seq_len), 24 bytes an example. */
FM_MUST_CHECK fm_status fm_packing_new(fm_packing **out, const fm_dataset *d, int32_t seq_len, const uint8_t *level,
                                       fm_curriculum *levels);
void fm_packing_free(fm_packing *p);

#endif
