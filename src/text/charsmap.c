/* The character map of SentencePiece (precompiled_charsmap): uint32 size of the trie in bytes, the units of a
 * darts-clone double array, then the results, each ending in NUL. All little-endian.
 *
 * A unit: bits 0-7 label and bit 31 of non-leaves (together what a child must carry), bit 8 has a leaf child, bits
 * 10-30 offset to the children, which bit 9 scales by 256. A leaf's low 31 bits are the value. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/pipe.h"

struct fm_charsmap {
    size_t n_units, n_text;
    uint32_t *unit;
    char *text;      /* n_text bytes and a NUL */
    bool plain[128]; /* no source string is this character, or begins with it and another ASCII character */
};

static uint32_t read_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static size_t offset_of(uint32_t unit) {
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

static void find_plain(fm_charsmap *m) {
    const char *to;
    for (unsigned a = 1; a < 128; a++) {
        uint8_t two[2] = {(uint8_t)a, 0};
        m->plain[a] = !fm_charsmap_find(m, two, 1, false, &to);
        size_t at = offset_of(m->unit[0]) ^ a;
        if (!m->plain[a] || at >= m->n_units || (m->unit[at] & 0x800000FFu) != a) {
            continue;
        }
        at ^= offset_of(m->unit[at]);
        for (size_t b = 1; b < 128; b++) {
            m->plain[a] &= (at ^ b) >= m->n_units || (m->unit[at ^ b] & 0x800000FFu) != b;
        }
    }
}

bool fm_charsmap_plain(const fm_charsmap *m, uint8_t c) {
    return c < 128 && m->plain[c];
}

fm_status fm_charsmap_new(fm_charsmap **out, const void *blob, size_t n, const char *what) {
    const uint8_t *p = blob;
    *out = NULL;
    size_t trie = n >= 4 ? read_u32(p) : 0;
    if (n < 4 || trie % 4 || trie > n - 4 || trie == 0) {
        FM_FAIL(FM_ERR_FORMAT, "%s: the character map of %zu bytes names a trie of %zu bytes", what, n, trie);
    }
    fm_charsmap *m = fm_calloc(1, sizeof(*m));
    if (!m) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a character map");
    }
    m->n_units = trie / 4;
    m->n_text = n - 4 - trie;
    m->unit = fm_malloc(trie);
    m->text = fm_malloc(m->n_text + 1);
    if (!m->unit || !m->text) {
        fm_charsmap_free(m);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a character map of %zu bytes", n);
    }
    for (size_t i = 0; i < m->n_units; i++) {
        m->unit[i] = read_u32(p + 4 + 4 * i);
    }
    memcpy(m->text, p + 4 + trie, m->n_text);
    m->text[m->n_text] = 0;
    find_plain(m);
    *out = m;
    return FM_OK;
}

void fm_charsmap_free(fm_charsmap *m) {
    if (m) {
        fm_free(m->unit);
        fm_free(m->text);
        fm_free(m);
    }
}

size_t fm_charsmap_find(const fm_charsmap *m, const uint8_t *p, size_t n, bool longest, const char **to) {
    size_t at = offset_of(m->unit[0]), used = 0;
    for (size_t i = 0; i < n; i++) {
        at ^= p[i];
        if (at >= m->n_units || (m->unit[at] & 0x800000FFu) != p[i] || p[i] == 0) {
            break;
        }
        uint32_t unit = m->unit[at];
        at ^= offset_of(unit);
        if (at >= m->n_units) {
            break;
        }
        if (unit & (1u << 8)) {
            size_t value = m->unit[at] & 0x7FFFFFFFu;
            if (value <= m->n_text) {
                *to = m->text + value;
                used = i + 1;
                if (!longest) {
                    break;
                }
            }
        }
    }
    return used;
}
