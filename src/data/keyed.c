/* Keyed hashes: see keyed.h. */
#include "data/keyed.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sha.h"

static void from_hex(uint8_t *out, const char *hex, size_t n) {
    for (size_t i = 0; i < 2 * n; i++) {
        int v = hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
    }
}

fm_status fm_keyed_load(fm_keyed *k, const char *path) {
    char *data, hex[65];
    size_t n;
    FM_TRY(fm_file_read(&data, &n, path, 1 << 20));
    while (n && (data[n - 1] == '\n' || data[n - 1] == '\r')) {
        n--;
    }
    if (n <= 64) {
        memcpy(k->key, data, n);
    } else {
        fm_sha h;
        fm_sha256_init(&h);
        fm_sha_update(&h, data, n);
        fm_sha_hex(&h, hex);
        from_hex(k->key, hex, 32);
    }
    memset(data, 0, n);
    fm_free(data);
    if (n < 16) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "the key in '%s' has %zu bytes, expected 16 or more", path, n);
        return fm_error_hint("head -c 32 /dev/urandom | base64 > KEY makes one");
    }
    return FM_OK;
}

void fm_keyed_hex(const fm_keyed *k, const char *kind, const char *value, size_t n, char hex[65]) {
    uint8_t pad[64], inner[32];
    fm_sha h;
    for (size_t i = 0; i < 64; i++) {
        pad[i] = k->key[i] ^ 0x36;
    }
    fm_sha256_init(&h);
    fm_sha_update(&h, pad, 64);
    fm_sha_update(&h, kind, strlen(kind) + 1);
    fm_sha_update(&h, value, n);
    fm_sha_hex(&h, hex);
    from_hex(inner, hex, 32);
    for (size_t i = 0; i < 64; i++) {
        pad[i] = k->key[i] ^ 0x5C;
    }
    fm_sha256_init(&h);
    fm_sha_update(&h, pad, 64);
    fm_sha_update(&h, inner, 32);
    fm_sha_hex(&h, hex);
}
