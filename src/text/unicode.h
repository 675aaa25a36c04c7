/* Character classes by code point, and fast UTF-8 reading for tokenizers (Unicode 16.0). */
#ifndef FM_TEXT_UNICODE_H
#define FM_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

enum {
    FM_UNI_L = 1,  /* \p{L} letters */
    FM_UNI_N = 2,  /* \p{N} numbers */
    FM_UNI_M = 4,  /* \p{M} marks */
    FM_UNI_P = 8,  /* \p{P} punctuation */
    FM_UNI_S = 16, /* \p{S} symbols */
    FM_UNI_Z = 32, /* \s white space */
    FM_UNI_W = 64, /* \w word characters */
};

#define FM_UNI_MAX        0x10FFFFu
#define FM_UNI_BLOCK_BITS 7

extern const uint16_t fm_uni_block[(FM_UNI_MAX + 1) >> FM_UNI_BLOCK_BITS];
extern const uint8_t fm_uni_bits[][1 << FM_UNI_BLOCK_BITS];

/* cp must be <= FM_UNI_MAX. */
static inline unsigned fm_uni_class(uint32_t cp) {
    return fm_uni_bits[fm_uni_block[cp >> FM_UNI_BLOCK_BITS]][cp & ((1u << FM_UNI_BLOCK_BITS) - 1)];
}

/* Reads one character at p (p < end) and returns its length in bytes. A byte that starts no valid
 * character counts as a character of its own: length 1, *cp = 0xFFFD, so bytes never get lost. */
static inline unsigned fm_uni_next(uint32_t *cp, const uint8_t *p, const uint8_t *end) {
    uint32_t c = p[0];
    size_t left = (size_t)(end - p);
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    if (c >= 0xC2 && c < 0xE0 && left >= 2 && (p[1] & 0xC0) == 0x80) {
        *cp = ((c & 0x1F) << 6) | (p[1] & 0x3Fu);
        return 2;
    }
    if ((c & 0xF0) == 0xE0 && left >= 3 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80) {
        uint32_t v = ((c & 0x0F) << 12) | ((p[1] & 0x3Fu) << 6) | (p[2] & 0x3Fu);
        if (v >= 0x800 && (v < 0xD800 || v > 0xDFFF)) {
            *cp = v;
            return 3;
        }
    }
    if (c >= 0xF0 && c < 0xF5 && left >= 4 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80 && (p[3] & 0xC0) == 0x80) {
        uint32_t v = ((c & 0x07) << 18) | ((p[1] & 0x3Fu) << 12) | ((p[2] & 0x3Fu) << 6) | (p[3] & 0x3Fu);
        if (v >= 0x10000 && v <= FM_UNI_MAX) {
            *cp = v;
            return 4;
        }
    }
    *cp = 0xFFFD;
    return 1;
}

/* Length of a valid character that ends just before p (p > begin); its class in *cls. */
unsigned fm_uni_prev(uint32_t *cp, const uint8_t *begin, const uint8_t *p);

#endif
