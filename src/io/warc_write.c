/* Writing records of web archives (WARC 1.1): see warc.h. */
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/sha.h"
#include "io/warc.h"

void fm_warc_put(fm_str *out, const char *type, const char *url, int64_t unix_ms, const char *content_type,
                 const char *p, size_t n) {
    static const char *const hex = "0123456789abcdef";
    char when[32], digest[65], id[37];
    fm_format_utc(when, sizeof when, unix_ms);
    fm_sha sha;
    fm_sha1_init(&sha);
    fm_sha_update(&sha, p, n);
    fm_sha_hex(&sha, digest);
    /* an id that is the same for the same record, in the form of a UUID (version 8: made as one likes) */
    uint64_t a = fm_hash64(digest, 40, (uint64_t)unix_ms), b = fm_hash64(url, strlen(url), a);
    for (int i = 0, k = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        id[i] = dash ? '-' : hex[(k < 16 ? a >> (k * 4) : b >> ((k - 16) * 4)) & 15];
        k += !dash;
    }
    id[14] = '8';
    id[19] = hex[8 | (b & 3)];
    id[36] = '\0';
    fm_str_printf(out, "WARC/1.1\r\nWARC-Type: %s\r\nWARC-Record-ID: <urn:uuid:%s>\r\nWARC-Date: %s\r\n", type, id,
                  when);
    if (*url) {
        fm_str_printf(out, "WARC-Target-URI: %s\r\n", url);
    }
    fm_str_printf(out, "WARC-Block-Digest: sha1:%s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", digest,
                  content_type, n);
    fm_str_append(out, p, n);
    fm_str_puts(out, "\r\n\r\n");
}
