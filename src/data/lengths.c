/* Counts of lengths: a bucket for each number up to 127, then 128 for each power of two. */
#include "data/lengths.h"

#include <stddef.h>

#include "base/error.h"

static size_t bucket_of(int64_t v) {
    uint64_t u = (uint64_t)v;
    if (u >> FM_LENGTHS_BITS == 0) {
        return (size_t)u;
    }
    int shift = 63 - __builtin_clzll(u) - FM_LENGTHS_BITS;
    return ((size_t)(shift + 1) << FM_LENGTHS_BITS) + ((u >> shift) & ((1 << FM_LENGTHS_BITS) - 1));
}

static int64_t bucket_begin(size_t i) {
    size_t shift = i >> FM_LENGTHS_BITS, low = i & ((1 << FM_LENGTHS_BITS) - 1);
    return shift == 0 ? (int64_t)low : (int64_t)((low | 1 << FM_LENGTHS_BITS) << (shift - 1));
}

void fm_lengths_add(fm_lengths *l, int64_t v) {
    FM_ASSERT(v >= 0);
    l->least = l->n == 0 || v < l->least ? v : l->least;
    l->most = v > l->most ? v : l->most;
    l->n++;
    l->sum += v;
    l->bucket[bucket_of(v)]++;
}

int64_t fm_lengths_quantile(const fm_lengths *l, double share) {
    int64_t want = (int64_t)(share * (double)l->n), seen = 0;
    for (size_t i = 0; i < FM_LENGTHS_BUCKETS; i++) {
        seen += l->bucket[i];
        if (seen > want || (seen == l->n && seen > 0)) {
            int64_t v = bucket_begin(i);
            return v < l->least ? l->least : v > l->most ? l->most : v;
        }
    }
    return 0;
}

int64_t fm_lengths_below(const fm_lengths *l, int64_t v) {
    int64_t sum = 0;
    for (size_t i = 0, end = bucket_of(v); i < end; i++) {
        sum += l->bucket[i];
    }
    return sum;
}
