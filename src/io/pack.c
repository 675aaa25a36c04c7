/* Packing in one call: see pack.h. */
#include "io/pack.h"

#include <limits.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "base/mem.h"

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n > k && strcasecmp(s + n - k, tail) == 0;
}

fm_packing fm_packing_of(const char *path) {
    return ends_with(path, ".gz") ? FM_PACKING_GZIP : ends_with(path, ".zst") ? FM_PACKING_ZSTD : FM_PACKING_NONE;
}

/* Room for n more bytes. */
static fm_status room(fm_str *out, size_t n) {
    void *p = out->data;
    FM_TRY(fm_grow(&p, &out->cap, out->len + n + 1, 1));
    out->data = p;
    return FM_OK;
}

static void *z_alloc(void *opaque, unsigned n, unsigned size) {
    FM_UNUSED(opaque);
    return fm_calloc(n, size);
}

static void z_free(void *opaque, void *p) {
    FM_UNUSED(opaque);
    fm_free(p);
}

static fm_status gzip(fm_str *out, int level, const char *p, size_t n) {
    z_stream z = {.zalloc = z_alloc, .zfree = z_free};
    if (n > UINT_MAX / 2 ||
        deflateInit2(&z, level ? level : Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot pack %zu bytes", n);
    }
    size_t most = deflateBound(&z, n);
    fm_status s = room(out, most);
    if (s == FM_OK) {
        z.next_in = (Bytef *)(uintptr_t)p;
        z.avail_in = (unsigned)n;
        z.next_out = (Bytef *)out->data + out->len;
        z.avail_out = (unsigned)most;
        int rc = deflate(&z, Z_FINISH);
        if (rc == Z_STREAM_END) {
            out->len += most - z.avail_out;
            out->data[out->len] = '\0';
        } else {
            s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "gzip cannot pack %zu bytes", n);
        }
    }
    deflateEnd(&z);
    return s;
}

static fm_status zstd(fm_str *out, int level, const char *p, size_t n) {
    size_t most = ZSTD_compressBound(n);
    FM_TRY(room(out, most));
    size_t k = ZSTD_compress(out->data + out->len, most, p, n, level ? level : ZSTD_CLEVEL_DEFAULT);
    if (ZSTD_isError(k)) {
        FM_FAIL(FM_ERR_NO_MEMORY, "zstd cannot pack %zu bytes: %s", n, ZSTD_getErrorName(k));
    }
    out->len += k;
    out->data[out->len] = '\0';
    return FM_OK;
}

fm_status fm_pack_bytes(fm_str *out, fm_packing how, int level, const char *p, size_t n) {
    if (n == 0) {
        return FM_OK;
    }
    switch (how) {
    case FM_PACKING_GZIP:
        return gzip(out, level, p, n);
    case FM_PACKING_ZSTD:
        return zstd(out, level, p, n);
    case FM_PACKING_NONE:
        break;
    }
    fm_str_append(out, p, n);
    return fm_str_check(out);
}

fm_status fm_unpack_zstd(char *out, size_t n, const char *p, size_t packed) {
    size_t k = ZSTD_decompress(out, n, p, packed);
    if (ZSTD_isError(k) || k != n) {
        FM_FAIL(FM_ERR_CORRUPT, "a zstd frame is damaged: %s",
                ZSTD_isError(k) ? ZSTD_getErrorName(k) : "it holds another number of bytes than it should");
    }
    return FM_OK;
}
