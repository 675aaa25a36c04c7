/* Philox4x32-10 and what is drawn from it. See rng.h for the paper. */
#include "base/rng.h"

#include <math.h>

/* The key is the seed; the counter is {index low, index high, stream, step}. */
void fm_rng_u32x4(uint32_t out[4], fm_rng_key key, uint64_t index) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = key.stream, c3 = key.step;
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t fm_rng_stream(const char *name) {
    uint32_t h = 2166136261u; /* FNV-1a, then a final mix: similar names must not give near streams */
    for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
        h = (h ^ *p) * 16777619u;
    }
    h ^= h >> 16;
    h *= 0x85EBCA6Bu;
    h ^= h >> 13;
    h *= 0xC2B2AE35u;
    return h ^ h >> 16;
}

uint32_t fm_rng_u32(fm_rng_key key, uint64_t index) {
    uint32_t w[4];
    fm_rng_u32x4(w, key, index / 4);
    return w[index % 4];
}

/* 64-bit word `index`: two to a block. */
static uint64_t word64(fm_rng_key key, uint64_t index) {
    uint32_t w[4];
    fm_rng_u32x4(w, key, index / 2);
    uint32_t half = (uint32_t)(index % 2) * 2;
    return (uint64_t)w[half] << 32 | w[half + 1];
}

double fm_rng_uniform(fm_rng_key key, uint64_t index) {
    return (double)(word64(key, index) >> 11) * 0x1p-53;
}

/* A block gives one Box-Muller pair: even indices take the cosine, odd ones the sine. */
double fm_rng_normal(fm_rng_key key, uint64_t index) {
    uint32_t w[4];
    fm_rng_u32x4(w, key, index / 2);
    double u = (double)(((uint64_t)w[0] << 32 | w[1]) >> 11) * 0x1p-53;
    double v = (double)(((uint64_t)w[2] << 32 | w[3]) >> 11) * 0x1p-53;
    double r = sqrt(-2.0 * log1p(-u)); /* 1-u is in (0,1]: no log of zero */
    double a = 6.283185307179586476925286766559 * v;
    return index % 2 ? r * sin(a) : r * cos(a);
}

/* Multiply-shift: the bias is at most n / 2^64. */
uint64_t fm_rng_below(fm_rng_key key, uint64_t index, uint64_t n) {
    __extension__ typedef unsigned __int128 u128;
    return (uint64_t)((u128)word64(key, index) * n >> 64);
}

static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xFF51AFD7ED558CCDu;
    x ^= x >> 33;
    x *= 0xC4CEB9FE1A85EC53u;
    return x ^ x >> 33;
}

uint64_t fm_permute(uint64_t i, uint64_t n, uint64_t key) {
    if (n < 2) {
        return 0;
    }
    /* Two halves of h bits: the domain 4^h is at least n and less than 4n, so that a walk back into
     * [0,n) takes under four steps on average. */
    unsigned bits = 64u - (unsigned)__builtin_clzll(n - 1);
    unsigned h = (bits + 1) / 2;
    uint64_t mask = ((uint64_t)1 << h) - 1;
    do {
        uint64_t left = i >> h, right = i & mask;
        for (uint64_t round = 0; round < 6; round++) {
            uint64_t f = mix(right ^ mix(key + round * 0x9E3779B97F4A7C15u)) & mask;
            uint64_t next = left ^ f;
            left = right;
            right = next;
        }
        i = left << h | right;
    } while (i >= n);
    return i;
}
