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

/* ---- bzip2 ------------------------------------------------------------------------------------ */

/* As in bzlib.h, whose layout has been the same since 1.0. */
typedef struct bz_stream_ {
    char *next_in;
    unsigned avail_in, total_in_lo32, total_in_hi32;
    char *next_out;
    unsigned avail_out, total_out_lo32, total_out_hi32;
    void *state;
    void *(*bzalloc)(void *, int, int);
    void (*bzfree)(void *, void *);
    void *opaque;
} bz_stream_;

static struct {
    int (*init)(bz_stream_ *s, int verbosity, int small);
    int (*run)(bz_stream_ *s);
    int (*end)(bz_stream_ *s);
} bz;

struct fm_bunzip {
    bz_stream_ s;
    bool open;
};

static void *bz_alloc(void *opaque, int n, int size) {
    FM_UNUSED(opaque);
    return fm_calloc((size_t)n, (size_t)size);
}

static fm_status bz_start(fm_bunzip *b) {
    memset(&b->s, 0, sizeof b->s);
    b->s.bzalloc = bz_alloc;
    b->s.bzfree = fm_z_free;
    b->open = bz.init(&b->s, 0, 0) == 0;
    if (!b->open) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the bzip2 reader");
    }
    return FM_OK;
}

fm_status fm_bunzip_new(fm_bunzip **out) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static void *lib;
    static const fm_dynlib_entry entries[] = {
        {&bz.init, "BZ2_bzDecompressInit"}, {&bz.run, "BZ2_bzDecompress"}, {&bz.end, "BZ2_bzDecompressEnd"}};
    *out = NULL;
    pthread_mutex_lock(&lock);
    fm_status s =
        lib ? FM_OK : fm_dynlib_open(&lib, "libbz2.so.1.0|libbz2.so.1", "libbz2-1.0", entries, FM_ARRAY_LEN(entries));
    pthread_mutex_unlock(&lock);
    FM_TRY(s);
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the bzip2 reader");
    }
    s = bz_start(*out);
    if (s != FM_OK) {
        fm_free(*out);
        *out = NULL;
    }
    return s;
}

void fm_bunzip_free(fm_bunzip *b) {
    if (b) {
        if (b->open) {
            bz.end(&b->s);
        }
        fm_free(b);
    }
}

fm_status fm_bunzip_run(fm_bunzip *b, uint8_t *buf, size_t cap, size_t *n, const uint8_t *p, size_t *used, bool *end) {
    enum { BZ_MEMORY = -3, BZ_DONE = 4 };
    if (!b->open) {
        FM_TRY(bz_start(b));
    }
    b->s.next_in = (char *)(uintptr_t)p;
    b->s.avail_in = (unsigned)FM_MIN(*used, (size_t)1 << 30);
    b->s.next_out = (char *)buf;
    b->s.avail_out = (unsigned)FM_MIN(cap, (size_t)1 << 30);
    unsigned in = b->s.avail_in, room = b->s.avail_out;
    int rc = bz.run(&b->s);
    *used = in - b->s.avail_in;
    *n = room - b->s.avail_out;
    *end = rc == BZ_DONE;
    if (rc == BZ_DONE) {
        bz.end(&b->s);
        b->open = false;
    } else if (rc == BZ_MEMORY) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate memory to unpack");
    } else if (rc != 0) {
        FM_FAIL(FM_ERR_CORRUPT, "damaged bzip2 data");
    }
    return FM_OK;
}
