/* Image headers. Sources: ISO/IEC 10918-1 (JPEG), the PNG specification (third edition), GIF89a, the WebP container
 * specification (RFC 9649), TIFF 6.0. */
#include "io/image_head.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"

/* A file's end mark may be followed by this many other bytes. */
#define TAIL ((size_t)65536)

static const char *const cut_short = "it is cut short";

static uint32_t big(const uint8_t *p, int n) {
    uint32_t v = 0;
    for (int i = 0; i < n; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static uint32_t little(const uint8_t *p, int n) {
    uint32_t v = 0;
    for (int i = n - 1; i >= 0; i--) {
        v = v << 8 | p[i];
    }
    return v;
}

/* Is the mark in the last bytes, behind `from`? */
static bool ends_with(const uint8_t *p, size_t n, size_t from, const char *mark, size_t k) {
    size_t begin = n > TAIL && n - TAIL > from ? n - TAIL : from;
    for (size_t i = n - k + 1; n >= k && i-- > begin;) {
        if (memcmp(p + i, mark, k) == 0) {
            return true;
        }
    }
    return false;
}

static const char *look_png(fm_image_head *h, const uint8_t *p, size_t n) {
    h->format = "png";
    if (n < 33 || memcmp(p + 12, "IHDR", 4) != 0) {
        return n < 33 ? cut_short : "a PNG without header";
    }
    h->width = big(p + 16, 4);
    h->height = big(p + 20, 4);
    return ends_with(p, n, 33, "IEND\xAE\x42\x60\x82", 8) ? NULL : cut_short;
}

/* Segments up to the frame header. */
static const char *look_jpeg(fm_image_head *h, const uint8_t *p, size_t n) {
    h->format = "jpeg";
    for (size_t at = 2; at + 4 <= n;) {
        if (p[at] != 0xFF) {
            return "a JPEG with a broken segment";
        }
        uint8_t mark = p[at + 1];
        if (mark == 0xFF) {
            at++;
            continue;
        }
        if (mark == 0x01 || (mark >= 0xD0 && mark <= 0xD7)) {
            at += 2;
            continue;
        }
        if (mark == 0xDA || mark == 0xD9) {
            return "a JPEG without frame header";
        }
        size_t len = big(p + at + 2, 2);
        if (len < 2 || len > n - at - 2) {
            return len < 2 ? "a JPEG with a broken segment" : cut_short;
        }
        if (mark >= 0xC0 && mark <= 0xCF && mark != 0xC4 && mark != 0xC8 && mark != 0xCC) {
            if (len < 8) {
                return "a JPEG with a broken segment";
            }
            h->height = big(p + at + 5, 2);
            h->width = big(p + at + 7, 2);
            return ends_with(p, n, at, "\xFF\xD9", 2) ? NULL : cut_short;
        }
        at += 2 + len;
    }
    return cut_short;
}

static const char *look_gif(fm_image_head *h, const uint8_t *p, size_t n) {
    h->format = "gif";
    if (n < 14) {
        return cut_short;
    }
    h->width = little(p + 6, 2);
    h->height = little(p + 8, 2);
    return ends_with(p, n, 13, ";", 1) ? NULL : cut_short;
}

static const char *look_webp(fm_image_head *h, const uint8_t *p, size_t n) {
    h->format = "webp";
    if (n < 30 || little(p + 4, 4) > n - 8) {
        return cut_short;
    }
    if (memcmp(p + 12, "VP8X", 4) == 0) {
        h->width = little(p + 24, 3) + 1;
        h->height = little(p + 27, 3) + 1;
    } else if (memcmp(p + 12, "VP8L", 4) == 0 && p[20] == 0x2F) {
        uint32_t bits = little(p + 21, 4);
        h->width = (bits & 0x3FFF) + 1;
        h->height = (bits >> 14 & 0x3FFF) + 1;
    } else if (memcmp(p + 12, "VP8 ", 4) == 0 && memcmp(p + 23, "\x9D\x01\x2A", 3) == 0) {
        h->width = little(p + 26, 2) & 0x3FFF;
        h->height = little(p + 28, 2) & 0x3FFF;
    } else {
        return "a WebP without image";
    }
    return NULL;
}

static const char *look_bmp(fm_image_head *h, const uint8_t *p, size_t n) {
    h->format = "bmp";
    if (n < 26 || little(p + 2, 4) > n) {
        return cut_short;
    }
    int32_t height = (int32_t)little(p + 22, 4); /* below zero: rows from the top */
    h->width = little(p + 18, 4);
    h->height = height < 0 ? 0u - (uint32_t)height : (uint32_t)height;
    return NULL;
}

static const char *look_tiff(fm_image_head *h, const uint8_t *p, size_t n) {
    bool le = *p == 'I';
    uint32_t (*get)(const uint8_t *, int) = le ? little : big;
    h->format = "tiff";
    size_t at = n >= 8 ? get(p + 4, 4) : n;
    if (n < 8 || at > n - 2) {
        return cut_short;
    }
    size_t entries = get(p + at, 2);
    for (size_t i = 0; i < entries; i++) {
        const uint8_t *e = p + at + 2 + 12 * i;
        if (at + 2 + 12 * (i + 1) > n) {
            return cut_short;
        }
        uint32_t tag = get(e, 2), value = get(e + 8, get(e + 2, 2) == 3 ? 2 : 4);
        h->width = tag == 256 ? value : h->width;
        h->height = tag == 257 ? value : h->height;
    }
    return NULL;
}

const char *fm_image_look(fm_image_head *out, const uint8_t *p, size_t n) {
    static const struct {
        const char *magic;
        size_t n;
        const char *(*look)(fm_image_head *, const uint8_t *, size_t);
    } kinds[] = {
        {"\x89PNG\r\n\x1A\n", 8, look_png},
        {"\xFF\xD8\xFF", 3, look_jpeg},
        {"GIF87a", 6, look_gif},
        {"GIF89a", 6, look_gif},
        {"BM", 2, look_bmp},
        {"II*\0", 4, look_tiff},
        {"MM\0*", 4, look_tiff},
    };
    *out = (fm_image_head){0};
    const char *why = n == 0 ? "an empty file" : "no image";
    bool webp = n >= 12 && memcmp(p, "RIFF", 4) == 0 && memcmp(p + 8, "WEBP", 4) == 0;
    for (size_t i = 0; i < FM_ARRAY_LEN(kinds) && n > 0; i++) {
        if (n >= kinds[i].n && memcmp(p, kinds[i].magic, kinds[i].n) == 0) {
            why = kinds[i].look(out, p, n);
            break;
        }
    }
    why = webp ? look_webp(out, p, n) : why;
    return why || (out->width > 0 && out->height > 0) ? why : "an image of no size";
}
