/* Counter-based random numbers (Philox4x32-10; Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011). A draw is a pure function of (seed, stream, step, index), so dropout is the
 * same for any micro-batch size, rank, thread count or recomputation, and resume needs no state
 * beyond the step number. */
#ifndef FM_BASE_RNG_H
#define FM_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct fm_rng_key {
    uint64_t seed;
    uint32_t stream; /* fm_rng_stream("dropout.3.attn") */
    uint32_t step;
} fm_rng_key;

uint32_t fm_rng_stream(const char *name);                           /* hash of the name */
void fm_rng_u32x4(uint32_t out[4], fm_rng_key key, uint64_t index); /* 4 words at counter index */
uint32_t fm_rng_u32(fm_rng_key key, uint64_t index);                /* word index%4 of block index/4 */
double fm_rng_uniform(fm_rng_key key, uint64_t index);              /* [0,1), 53 bits */
double fm_rng_normal(fm_rng_key key, uint64_t index);               /* N(0,1), Box-Muller */
uint64_t fm_rng_below(fm_rng_key key, uint64_t index, uint64_t n);  /* [0,n) */

/* A pseudo-random permutation of [0,n) evaluated point-wise (Feistel network with cycle walking):
 * shuffling without memory proportional to n. */
uint64_t fm_permute(uint64_t i, uint64_t n, uint64_t key);

#endif
