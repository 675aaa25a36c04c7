/* Examples into windows of a fixed length. An example is never cut and never shares attention with its neighbours;
 * what is free at the end of a window is padding.
 *
 * Best-fit decreasing (Johnson 1974; as used for training by Ding et al. 2024): examples from the longest down, each
 * into the fullest window that still has room. The packing depends on the lengths alone, so a window has places for
 * examples of certain lengths, the same in every epoch. Which example takes a place is drawn anew each epoch among
 * those of that length: neighbours in the file (rows sorted by label, copies of one row) do not share windows for good.
 */
#ifndef FM_DATA_PACKING_H
#define FM_DATA_PACKING_H

#include "data/shards.h"

struct fm_packing {
    int64_t n_windows, n_documents, n_groups;
    int64_t *begin; /* [n_windows+1] into place */
    int64_t *place; /* [n_documents] into order; windows one after the other, documents of a window ascending */
    int64_t *order; /* [n_documents] by level, then falling length, then number */
    int64_t *group; /* [n_groups+1] into order: documents of one level and length */
};

/* level [documents] (or NULL): examples share windows only within a level; windows come in order of level, and the
 * bounds go to levels->level_begin. Examples longer than a window are FM_ERR_DATA naming the first one. O(n log
 * seq_len), 32 bytes an example. */
FM_MUST_CHECK fm_status fm_packing_new(fm_packing **out, const fm_dataset *d, int32_t seq_len, const uint8_t *level,
                                       fm_curriculum *levels);
/* The document at place k (begin[w] to begin[w+1] of a window w) in this epoch; each document is at one place. */
int64_t fm_packing_document(const fm_packing *p, int64_t k, uint64_t seed, int64_t epoch);
/* The same without shuffling. */
int64_t fm_packing_in_order(const fm_packing *p, int64_t k);
void fm_packing_free(fm_packing *p);

#endif
