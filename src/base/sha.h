/* SHA-1 and SHA-256 (FIPS 180-4): the names that hubs give files. Not for secrets. */
#ifndef FM_BASE_SHA_H
#define FM_BASE_SHA_H

#include <stddef.h>
#include <stdint.h>

typedef struct fm_sha {
    uint32_t h[8];
    uint64_t n; /* bytes so far */
    uint8_t block[64];
    int words; /* 5 = SHA-1, 8 = SHA-256 */
} fm_sha;

void fm_sha1_init(fm_sha *s);
void fm_sha256_init(fm_sha *s);
void fm_sha_update(fm_sha *s, const void *data, size_t n);
/* Lower-case hex: 40 characters of SHA-1, 64 of SHA-256. Ends s. */
void fm_sha_hex(fm_sha *s, char out[65]);

#endif
