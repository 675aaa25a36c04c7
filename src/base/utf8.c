/* UTF-8. Decoding is our own and strict (RFC 3629); width and case ask utf8proc. */
#include <string.h>
#include <utf8proc.h>

#include "base/str.h"

int fm_utf8_decode(uint32_t *cp, const char *p, const char *end) {
    if (p >= end) {
        return 0;
    }
    const unsigned char *s = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    uint32_t c = s[0];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    if (c < 0xC2) { /* a continuation byte, or an overlong lead */
        return 0;
    }
    if (c < 0xE0) {
        if (left < 2 || (s[1] & 0xC0) != 0x80) {
            return 0;
        }
        *cp = (c & 0x1F) << 6 | (s[1] & 0x3Fu);
        return 2;
    }
    if (c < 0xF0) {
        if (left < 3 || (s[1] & 0xC0) != 0x80 || (s[2] & 0xC0) != 0x80) {
            return 0;
        }
        uint32_t v = (c & 0x0F) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
        if (v < 0x800 || (v >= 0xD800 && v <= 0xDFFF)) {
            return 0;
        }
        *cp = v;
        return 3;
    }
    if (c > 0xF4 || left < 4 || (s[1] & 0xC0) != 0x80 || (s[2] & 0xC0) != 0x80 || (s[3] & 0xC0) != 0x80) {
        return 0;
    }
    uint32_t v = (c & 0x07) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
    if (v < 0x10000 || v > 0x10FFFF) {
        return 0;
    }
    *cp = v;
    return 4;
}

int fm_utf8_encode(char out[4], uint32_t cp) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        if (cp >= 0xD800 && cp <= 0xDFFF) {
            return 0;
        }
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    if (cp > 0x10FFFF) {
        return 0;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

/* Bytes of ASCII at p, eight at a time. */
static size_t ascii_run(const char *p, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t w;
        memcpy(&w, p + i, 8);
        if (w & 0x8080808080808080u) {
            break;
        }
    }
    while (i < n && (unsigned char)p[i] < 0x80) {
        i++;
    }
    return i;
}

bool fm_utf8_valid(const char *p, size_t n) {
    const char *end = p + n;
    while (p < end) {
        if ((unsigned char)*p < 0x80) {
            p += ascii_run(p, (size_t)(end - p));
            continue;
        }
        uint32_t cp;
        int len = fm_utf8_decode(&cp, p, end);
        if (len == 0) {
            return false;
        }
        p += len;
    }
    return true;
}

size_t fm_utf8_complete_prefix(const char *p, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)p[n - back];
        if ((c & 0xC0) == 0x80) {
            continue;
        }
        /* A lead byte that wants more than is here: the character is cut. Anything else is either
         * complete or broken, and broken bytes are not worth waiting for. */
        size_t want = c >= 0xF0 && c <= 0xF4 ? 4 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xC2 && c < 0xE0 ? 2 : 1;
        return want > back ? n - back : n;
    }
    return n;
}

int fm_utf8_width(const char *p, size_t n) {
    const char *end = p + n;
    int width = 0;
    while (p < end) {
        uint32_t cp;
        int len = fm_utf8_decode(&cp, p, end);
        if (len == 0) {
            width++; /* shown as one replacement mark */
            p++;
            continue;
        }
        width += cp < 0x80 ? (cp >= 0x20 && cp < 0x7f) : utf8proc_charwidth((utf8proc_int32_t)cp);
        p += len;
    }
    return width;
}

uint32_t fm_utf8_lower(uint32_t cp) {
    return cp < 0x80 ? (cp >= 'A' && cp <= 'Z' ? cp + 32 : cp) : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}
