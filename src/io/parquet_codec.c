/* Page codecs of Parquet. Snappy and LZ4 blocks are small formats with untrusted lengths; they are read here, checked
 * at every step. Brotli comes from its library when that is installed. */
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"
#include "io/inflate.h"
#include "io/parquet_meta.h"

/* Copies `len` bytes that begin `back` bytes before out[at]; they may overlap. */
static bool copy_back(uint8_t *out, size_t n, size_t *at, size_t back, size_t len) {
    if (back == 0 || back > *at || len > n - *at) {
        return false;
    }
    uint8_t *to = out + *at;
    const uint8_t *from = to - back;
    if (back >= len) {
        memcpy(to, from, len);
    } else {
        for (size_t i = 0; i < len; i++) {
            to[i] = from[i];
        }
    }
    *at += len;
    return true;
}

/* https://github.com/google/snappy/blob/main/format_description.txt */
static bool snappy(uint8_t *out, size_t n, const uint8_t *p, size_t packed) {
    const uint8_t *end = p + packed;
    uint64_t size = 0;
    for (int shift = 0;; shift += 7) {
        if (p == end || shift > 28) {
            return false;
        }
        size |= (uint64_t)(*p & 0x7F) << shift;
        if (!(*p++ & 0x80)) {
            break;
        }
    }
    if (size != n) {
        return false;
    }
    size_t at = 0;
    while (p < end) {
        uint8_t tag = *p++;
        size_t len = (tag >> 2) + 1u, back;
        if ((tag & 3) == 0) {
            if (len > 60) {
                size_t k = len - 60;
                if ((size_t)(end - p) < k) {
                    return false;
                }
                len = 0;
                for (size_t i = 0; i < k; i++) {
                    len |= (size_t)p[i] << 8 * i;
                }
                len++;
                p += k;
            }
            if (len > (size_t)(end - p) || len > n - at) {
                return false;
            }
            memcpy(out + at, p, len);
            at += len;
            p += len;
            continue;
        }
        size_t k = (tag & 3) == 1 ? 1 : (tag & 3) == 2 ? 2 : 4;
        if ((size_t)(end - p) < k) {
            return false;
        }
        if (k == 1) {
            len = ((tag >> 2) & 7u) + 4u;
            back = (size_t)(tag >> 5) << 8 | p[0];
        } else {
            back = 0;
            for (size_t i = 0; i < k; i++) {
                back |= (size_t)p[i] << 8 * i;
            }
        }
        p += k;
        if (!copy_back(out, n, &at, back, len)) {
            return false;
        }
    }
    return at == n;
}

/* A length that goes on in further bytes of 255. */
static bool lz4_more(const uint8_t **p, const uint8_t *end, size_t *len) {
    if (*len != 15) {
        return true;
    }
    uint8_t b;
    do {
        if (*p == end || *len > SIZE_MAX / 2) {
            return false;
        }
        b = *(*p)++;
        *len += b;
    } while (b == 255);
    return true;
}

/* https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md */
/* Writes behind out[*written], to which copies may reach back. */
static bool lz4_append(uint8_t *out, size_t n, size_t *written, const uint8_t *p, size_t packed) {
    const uint8_t *end = p + packed;
    size_t at = *written;
    while (p < end) {
        uint8_t token = *p++;
        size_t len = token >> 4;
        if (!lz4_more(&p, end, &len) || len > (size_t)(end - p) || len > n - at) {
            return false;
        }
        memcpy(out + at, p, len);
        at += len;
        p += len;
        if (p == end) {
            break; /* the last sequence has no match */
        }
        if (end - p < 2) {
            return false;
        }
        size_t back = (size_t)p[0] | (size_t)p[1] << 8;
        p += 2;
        len = token & 15;
        if (!lz4_more(&p, end, &len) || !copy_back(out, n, &at, back, len + 4)) {
            return false;
        }
    }
    *written = at;
    return true;
}

static bool lz4_block(uint8_t *out, size_t n, const uint8_t *p, size_t packed) {
    size_t at = 0;
    return lz4_append(out, n, &at, p, packed) && at == n;
}

static uint32_t little32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md; checksums are not looked at. */
bool fm_lz4_frame(uint8_t *out, size_t n, const uint8_t *p, size_t packed) {
    const uint8_t *end = p + packed;
    if (packed < 7 || little32(p) != 0x184D2204) {
        return false;
    }
    uint8_t flags = p[4];
    size_t head = 7u + (flags & 8 ? 8u : 0) + (flags & 1 ? 4u : 0), at = 0;
    if (packed < head) {
        return false;
    }
    for (p += head; end - p >= 4;) {
        uint32_t size = little32(p), k = size & 0x7FFFFFFFu;
        p += 4;
        if (size == 0) {
            return at == n;
        }
        if (k > (size_t)(end - p)) {
            return false;
        }
        if (size >> 31) {
            if (k > n - at) {
                return false;
            }
            memcpy(out + at, p, k);
            at += k;
        } else if (!lz4_append(out, n, &at, p, k)) {
            return false;
        }
        p += k;
        p += flags & 16 ? FM_MIN((size_t)(end - p), (size_t)4) : 0;
    }
    return false;
}

static uint32_t big32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Hadoop's frames of the old codec LZ4: big-endian lengths (unpacked, packed) before each block. */
static bool lz4_hadoop(uint8_t *out, size_t n, const uint8_t *p, size_t packed) {
    size_t at = 0;
    while (packed >= 8 && at < n) {
        size_t plain = big32(p), k = big32(p + 4);
        if (k > packed - 8 || plain > n - at || !lz4_block(out + at, plain, p + 8, k)) {
            return false;
        }
        at += plain;
        p += 8 + k;
        packed -= 8 + k;
    }
    return at == n && packed == 0;
}

/* Joined members are one page. */
static bool gunzip(uint8_t *out, size_t n, const uint8_t *p, size_t packed) {
    z_stream z = {.zalloc = fm_z_alloc, .zfree = fm_z_free};
    if (inflateInit2(&z, 15 + 32) != Z_OK) {
        return false;
    }
    z.next_in = (Bytef *)(uintptr_t)p;
    z.avail_in = (unsigned)packed;
    z.next_out = out;
    z.avail_out = (unsigned)n;
    int rc;
    do {
        rc = inflate(&z, Z_FINISH);
        if (rc == Z_STREAM_END && z.avail_in && z.avail_out) {
            rc = inflateReset(&z) == Z_OK ? Z_OK : Z_DATA_ERROR;
        }
    } while (rc == Z_OK);
    bool ok = rc == Z_STREAM_END && z.avail_out == 0;
    inflateEnd(&z);
    return ok;
}

fm_status fm_pq_unpack(uint8_t *out, size_t n, const uint8_t *in, size_t packed, int codec, const char *name) {
    static const char *const names[] = {"none", "snappy", "gzip", "lzo", "brotli", "lz4", "zstd", "lz4_raw"};
    bool ok = false;
    switch (codec) {
    case PQ_PLAIN:
        ok = n == packed;
        if (ok && n) {
            memcpy(out, in, n);
        }
        break;
    case PQ_SNAPPY:
        ok = snappy(out, n, in, packed);
        break;
    case PQ_GZIP:
        ok = gunzip(out, n, in, packed);
        break;
    case PQ_ZSTD:
        ok = ZSTD_decompress(out, n, in, packed) == n;
        break;
    case PQ_LZ4_RAW:
        ok = lz4_block(out, n, in, packed);
        break;
    case PQ_LZ4:
        ok = lz4_hadoop(out, n, in, packed) || lz4_block(out, n, in, packed);
        break;
    case PQ_BROTLI: {
        fm_status s = fm_brotli_exact(out, n, in, packed);
        if (s != FM_OK) {
            return fm_error_context("'%s'", name);
        }
        ok = true;
        break;
    }
    default:
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s' is packed with %s, which is not supported", name,
                codec >= 0 && (size_t)codec < FM_ARRAY_LEN(names) ? names[codec] : "an unknown codec");
    }
    if (!ok) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': a %s page is damaged", name, names[codec]);
    }
    return FM_OK;
}
