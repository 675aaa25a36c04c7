/* Values that nobody can guess without a key: HMAC-SHA-256 (RFC 2104). */
#ifndef FM_DATA_KEYED_H
#define FM_DATA_KEYED_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_keyed {
    uint8_t key[64]; /* padded */
} fm_keyed;

/* A key file of 16 bytes or more; longer ones than 64 are hashed first. FM_ERR_CONFIG with a hint when it is shorter.
 */
FM_MUST_CHECK fm_status fm_keyed_load(fm_keyed *k, const char *path);
/* Lower-case hex of the whole 256 bits over kind, a NUL and the value. */
void fm_keyed_hex(const fm_keyed *k, const char *kind, const char *value, size_t n, char hex[65]);

#endif
