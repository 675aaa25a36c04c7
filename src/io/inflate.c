/* Packed pieces: see inflate.h. */
#include "io/inflate.h"

#include <pthread.h>
#include <string.h>
#include <zlib.h>

#include "base/dynlib.h"
#include "base/error.h"
#include "base/mem.h"

void *fm_z_alloc(void *opaque, unsigned n, unsigned size) {
    FM_UNUSED(opaque);
    return fm_calloc(n, size);
}

void fm_z_free(void *opaque, void *p) {
    FM_UNUSED(opaque);
    fm_free(p);
}

static fm_status run(fm_str *out, z_stream *z, size_t max) {
    for (;;) {
        void *room = out->data;
        FM_TRY(fm_grow(&room, &out->cap, out->len + 4096, 1));
        out->data = room;
        z->next_out = (Bytef *)out->data + out->len;
        z->avail_out = (unsigned)FM_MIN(out->cap - out->len - 1, (size_t)1 << 30);
        unsigned had = z->avail_out;
        int rc = inflate(z, Z_NO_FLUSH);
        out->len += had - z->avail_out;
        out->data[out->len] = '\0';
        if (out->len > max) {
            FM_FAIL(FM_ERR_DATA, "unpacks to more than %zu bytes", max);
        }
        if (rc == Z_STREAM_END) {
            if (z->avail_in == 0 || inflateReset(z) != Z_OK || (z->next_in[0] != 0x1f && z->next_in[0] != 0x78)) {
                return FM_OK; /* what is no other member is padding */
            }
        } else if (rc == Z_MEM_ERROR) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate memory to unpack");
        } else if (rc != Z_OK || (z->avail_in == 0 && z->avail_out > 0)) {
            FM_FAIL(FM_ERR_CORRUPT, "the packed data is damaged or cut short");
        }
    }
}

fm_status fm_inflate(fm_str *out, const char *p, size_t n, size_t max) {
    z_stream z = {.zalloc = fm_z_alloc, .zfree = fm_z_free};
    const uint8_t *u = (const uint8_t *)p;
    bool gzip = n >= 2 && u[0] == 0x1f && u[1] == 0x8b;
    bool zlib = n >= 2 && (u[0] & 15) == 8 && ((unsigned)u[0] << 8 | u[1]) % 31 == 0;
    fm_str_clear(out);
    if (n > (size_t)1 << 30 || inflateInit2(&z, gzip ? 15 + 16 : zlib ? 15 : -15) != Z_OK) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate memory to unpack %zu bytes", n);
    }
    z.next_in = (Bytef *)(uintptr_t)p;
    z.avail_in = (unsigned)n;
    fm_status s = run(out, &z, max);
    inflateEnd(&z);
    return s;
}

/* ---- brotli ----------------------------------------------------------------------------------- */

static int (*decompress)(size_t packed, const uint8_t *in, size_t *n, uint8_t *out);

static fm_status find_brotli(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static void *lib;
    static const fm_dynlib_entry entry = {&decompress, "BrotliDecoderDecompress"};
    pthread_mutex_lock(&lock);
    fm_status s = lib ? FM_OK : fm_dynlib_open(&lib, "libbrotlidec.so.1", "libbrotli1", &entry, 1);
    pthread_mutex_unlock(&lock);
    return s;
}

fm_status fm_brotli_exact(uint8_t *out, size_t n, const uint8_t *p, size_t packed) {
    FM_TRY(find_brotli());
    size_t got = n;
    if (decompress(packed, p, &got, out) != 1 || got != n) {
        FM_FAIL(FM_ERR_CORRUPT, "the packed data is damaged or cut short");
    }
    return FM_OK;
}

/* The one-call interface does not tell damage from too little room, so room grows until it is enough or too much. */
fm_status fm_brotli(fm_str *out, const char *p, size_t n, size_t max) {
    FM_TRY(find_brotli());
    for (size_t room = FM_MAX(8 * n, (size_t)65536);; room *= 4) {
        size_t got = FM_MIN(room, max);
        void *q = out->data;
        fm_str_clear(out);
        FM_TRY(fm_grow(&q, &out->cap, got + 1, 1));
        out->data = q;
        if (decompress(n, (const uint8_t *)p, &got, (uint8_t *)out->data) == 1) {
            out->len = got;
            out->data[got] = '\0';
            return FM_OK;
        }
        if (room >= max || room > 1024 * FM_MAX(n, (size_t)64)) {
            FM_FAIL(FM_ERR_CORRUPT, "the packed data is damaged, cut short, or larger than %zu bytes", max);
        }
    }
}
