/* What the files of n-gram training share: counts (ngram_count.c), then probabilities (ngram_train.c), then the file
 * (ngram_write.c). Everything that grows with the text is sorted within the memory given, or lies in files that are
 * read from front to back. */
#ifndef FM_DATA_NGRAM_TRAIN_H
#define FM_DATA_NGRAM_TRAIN_H

#include "data/ngram.h"
#include "data/sorter.h"
#include "data/spool.h"

/* An n-gram with its count: keys of itself, of its context (without the last word), of its rest (without the first). */
typedef struct fm_ngram_seen {
    uint64_t key, context, rest, count; /* count: times two, plus 1 when it begins with <s> */
} fm_ngram_seen;

typedef struct fm_ngram_counts {
    fm_ngram_seen *slot;
    size_t n, mask; /* mask + 1 slots; a free one has key 0 */
    fm_sorter *sorter;
} fm_ngram_counts;

struct fm_ngram_trainer {
    fm_ngram_train_options o;
    char *dir;
    fm_ngram_counts at[FM_NGRAM_MOST_ORDER];
    size_t table_bytes; /* of all slots */
    fm_ngram_line line;
    int64_t n_units, n_lines;
    fm_spool seen[FM_NGRAM_MOST_ORDER];       /* fm_ngram_seen by key */
    fm_spool p[FM_NGRAM_MOST_ORDER];          /* {key, probability (double)} by key */
    fm_spool backoff[FM_NGRAM_MOST_ORDER];    /* {key of the context, sum, back-off (doubles)} by key; [i]: contexts of
                                                 i words, so [0] is the empty one */
    double most_p[FM_NGRAM_MOST_ORDER];       /* of -log10 */
    double most_backoff[FM_NGRAM_MOST_ORDER]; /* [i]: of contexts of i words */
    double unknown;                           /* log10 */
    int temporary;
};

FM_MUST_CHECK fm_status fm_ngram_sorter(fm_ngram_trainer *t, fm_sorter **out, int words, int64_t memory);
/* Moves all counts into `seen`, and frees the tables. */
FM_MUST_CHECK fm_status fm_ngram_counts_finish(fm_ngram_trainer *t);
void fm_ngram_counts_free(fm_ngram_trainer *t);
/* Writes the file from p and backoff. */
FM_MUST_CHECK fm_status fm_ngram_write(fm_ngram_trainer *t, fm_ngram_info *info, const char *path);

static inline uint64_t fm_bits_of(double v) {
    union {
        double v;
        uint64_t bits;
    } u = {.v = v};
    return u.bits;
}
static inline double fm_of_bits(uint64_t bits) {
    union {
        uint64_t bits;
        double v;
    } u = {.bits = bits};
    return u.v;
}

#endif
