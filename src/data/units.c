/* Units of text: see units.h. */
#include "data/units.h"

#include <utf8proc.h>

#include "base/error.h"
#include "base/file.h"
#include "data/textnorm.h"

static bool is_word(uint32_t c) {
    if (c < 0x80) {
        return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    }
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return true;
    default:
        return false;
    }
}

static uint32_t small(uint32_t c) {
    return c < 0x80 ? ((c >= 'A' && c <= 'Z') ? c + 32 : c) : fm_utf8_lower(c);
}

static bool is_blank(uint32_t c) {
    return c <= 0x20 || (c >= 0x7F && fm_is_space(c));
}

bool fm_unit_next(const char **p, const char *end, unsigned how, uint64_t *hash) {
    char word[64];
    size_t n = 0;
    uint64_t h = 0;
    bool inside = false;
    while (*p < end) {
        uint32_t c = (unsigned char)**p;
        int k = 1;
        if (c >= 0x80) {
            k = fm_utf8_decode(&c, *p, end);
            if (k == 0) {
                ++*p;
                continue;
            }
        }
        bool letter = is_word(c), mark = !letter && (how & FM_UNIT_MARKS) && !is_blank(c);
        bool single = mark || (letter && c >= 0x80 && fm_is_unspaced(c));
        if ((!letter && !mark) || (single && inside)) {
            if (inside) {
                break;
            }
            *p += k;
            continue;
        }
        *p += k;
        inside = true;
        n += (size_t)fm_utf8_encode(word + n, how & FM_UNIT_CASE ? c : small(c));
        if (n > sizeof word - 4) { /* a long word is hashed piece by piece */
            h = fm_hash64(word, n, h);
            n = 0;
        }
        if (single) {
            break;
        }
    }
    *hash = fm_hash64(word, n, h) | 1;
    return inside;
}
