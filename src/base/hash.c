/* XXH3 behind base/file.h. */
#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

struct fm_hasher {
    XXH3_state_t *state; /* has an alignment of its own: made and freed by the library */
};

uint64_t fm_hash64(const void *p, size_t n, uint64_t seed) {
    return XXH3_64bits_withSeed(p, n, seed);
}

fm_status fm_hasher_new(fm_hasher **out) {
    *out = NULL;
    fm_hasher *h = fm_calloc(1, sizeof *h);
    if (h) {
        h->state = XXH3_createState();
    }
    if (!h || !h->state || XXH3_128bits_reset(h->state) != XXH_OK) {
        fm_hasher_free(h);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a hash state");
    }
    *out = h;
    return FM_OK;
}

void fm_hasher_update(fm_hasher *h, const void *p, size_t n) {
    if (n) {
        (void)XXH3_128bits_update(h->state, p, n); /* fails for a NULL state alone */
    }
}

void fm_hasher_hex(const fm_hasher *h, char out[33]) {
    static const char hex[] = "0123456789abcdef";
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(h->state));
    for (size_t i = 0; i < 16; i++) {
        out[2 * i] = hex[c.digest[i] >> 4];
        out[2 * i + 1] = hex[c.digest[i] & 15];
    }
    out[32] = '\0';
}

void fm_hasher_free(fm_hasher *h) {
    if (h) {
        if (h->state) {
            XXH3_freeState(h->state);
        }
        fm_free(h);
    }
}

fm_status fm_file_hash(char out[33], const char *path) {
    fm_map m;
    FM_TRY(fm_map_open(&m, path));
    fm_hasher *h;
    fm_status s = fm_hasher_new(&h);
    if (s == FM_OK) {
        fm_hasher_update(h, m.data, m.size);
        fm_hasher_hex(h, out);
        fm_hasher_free(h);
    }
    fm_map_close(&m);
    return s;
}
