/* Hash tables of the tokenizer and the byte-to-character map. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "text/bpe.h"

/* ---- pair map ---- */

void fm_pairmap_free(fm_pairmap *m) {
    fm_free(m->slot);
    *m = (fm_pairmap){0};
}

static void pairmap_place(fm_pairmap *m, fm_pairmap_slot s) {
    size_t i = (size_t)fm_pair_hash(s.key) & m->mask;
    while (m->slot[i].key != UINT64_MAX && m->slot[i].key != s.key) {
        i = (i + 1) & m->mask;
    }
    m->n += m->slot[i].key == UINT64_MAX;
    m->slot[i] = s;
}

fm_status fm_pairmap_reserve(fm_pairmap *m, size_t n) {
    size_t cap = m->slot ? m->mask + 1 : 0;
    if (n <= cap / 2) {
        return FM_OK;
    }
    size_t want = cap ? cap : 16;
    while (want / 2 < n) {
        if (want > SIZE_MAX / 4 / sizeof(fm_pairmap_slot)) {
            FM_FAIL(FM_ERR_NO_MEMORY, "pair table of %zu entries is too large", n);
        }
        want *= 2;
    }
    fm_pairmap_slot *slot = fm_malloc(want * sizeof(*slot));
    if (!slot) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a pair table of %zu slots", want);
    }
    memset(slot, 0xFF, want * sizeof(*slot));
    fm_pairmap old = *m;
    *m = (fm_pairmap){slot, want - 1, 0};
    for (size_t i = 0; i < cap; i++) {
        if (old.slot[i].key != UINT64_MAX) {
            pairmap_place(m, old.slot[i]);
        }
    }
    fm_free(old.slot);
    return FM_OK;
}

fm_status fm_pairmap_put(fm_pairmap *m, uint32_t a, uint32_t b, uint32_t x, uint32_t y) {
    FM_TRY(fm_pairmap_reserve(m, m->n + 1));
    pairmap_place(m, (fm_pairmap_slot){(uint64_t)a << 32 | b, x, y});
    return FM_OK;
}

/* ---- string table ---- */

void fm_strtab_free(fm_strtab *t) {
    fm_free(t->slot);
    fm_str_free(&t->blob);
    *t = (fm_strtab){0};
}

static uint64_t str_hash(const void *key, size_t n) {
    uint64_t h = fm_hash64(key, n, 0);
    return h ? h : 1;
}

static size_t strtab_slot(const fm_strtab *t, uint64_t hash, const void *key, size_t n) {
    size_t i = (size_t)hash & t->mask;
    for (;; i = (i + 1) & t->mask) {
        const fm_strtab_slot *s = &t->slot[i];
        if (!s->hash || (s->hash == hash && s->len == n && (n == 0 || !memcmp(t->blob.data + s->off, key, n)))) {
            return i;
        }
    }
}

static fm_status strtab_grow(fm_strtab *t) {
    size_t cap = t->slot ? t->mask + 1 : 0, want = cap ? cap * 2 : 64;
    fm_strtab_slot *slot = fm_calloc(want, sizeof(*slot));
    if (!slot) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a string table of %zu slots", want);
    }
    for (size_t i = 0; i < cap; i++) {
        if (t->slot[i].hash) {
            size_t j = (size_t)t->slot[i].hash & (want - 1);
            while (slot[j].hash) {
                j = (j + 1) & (want - 1);
            }
            slot[j] = t->slot[i];
        }
    }
    fm_free(t->slot);
    t->slot = slot;
    t->mask = want - 1;
    return FM_OK;
}

fm_status fm_strtab_put(fm_strtab *t, const void *key, size_t n, uint32_t value, bool *found) {
    if (n > UINT32_MAX) {
        FM_FAIL(FM_ERR_ARGUMENT, "a token of %zu bytes is too long", n);
    }
    if (!t->slot || t->n + 1 > (t->mask + 1) / 2) {
        FM_TRY(strtab_grow(t));
    }
    uint64_t hash = str_hash(key, n);
    fm_strtab_slot *s = &t->slot[strtab_slot(t, hash, key, n)];
    if (found) {
        *found = s->hash != 0;
    }
    if (!s->hash) {
        size_t off = t->blob.len;
        fm_str_append(&t->blob, key, n);
        FM_TRY(fm_str_check(&t->blob));
        *s = (fm_strtab_slot){hash, off, (uint32_t)n, value};
        t->n++;
    }
    return FM_OK;
}

bool fm_strtab_get(const fm_strtab *t, const void *key, size_t n, uint32_t *value) {
    if (!t->slot) {
        return false;
    }
    const fm_strtab_slot *s = &t->slot[strtab_slot(t, str_hash(key, n), key, n)];
    if (!s->hash) {
        return false;
    }
    *value = s->value;
    return true;
}

/* ---- bytes as characters ----
 * GPT-2 writes each byte as a printable character: those of Latin-1 that are printable stand for
 * themselves, the other 68 become U+0100 and up, in order. */

static bool byte_is_printable(unsigned b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

static uint32_t byte_to_char(unsigned b) {
    if (byte_is_printable(b)) {
        return b;
    }
    /* Not printable: 0x00-0x20 (33), 0x7F-0xA0 (34), 0xAD. */
    return 0x100 + (b <= 0x20 ? b : b <= 0xA0 ? b - 0x7F + 33 : 67);
}

static int char_to_byte(uint32_t c) {
    if (c < 0x100) {
        return byte_is_printable(c) ? (int)c : -1;
    }
    c -= 0x100;
    return c <= 0x20 ? (int)c : c <= 66 ? (int)(c - 33 + 0x7F) : c == 67 ? 0xAD : -1;
}

void fm_bytes_to_mapped(fm_str *out, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t c = byte_to_char((uint8_t)bytes[i]);
        if (c < 0x80) {
            fm_str_putc(out, (char)c);
        } else {
            fm_str_putc(out, (char)(0xC0 | (c >> 6)));
            fm_str_putc(out, (char)(0x80 | (c & 0x3F)));
        }
    }
}

bool fm_mapped_to_bytes(fm_str *out, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n;
    size_t start = out->len;
    while (p < end) {
        uint32_t c = *p++;
        if (c >= 0x80) {
            if (c < 0xC2 || c > 0xC5 || p == end || (*p & 0xC0) != 0x80) {
                c = UINT32_MAX;
            } else {
                c = (c & 0x1F) << 6 | (*p++ & 0x3Fu);
            }
        }
        int b = c == UINT32_MAX ? -1 : char_to_byte(c);
        if (b < 0) {
            if (out->data) {
                out->len = start;
                out->data[start] = 0;
            }
            return false;
        }
        fm_str_putc(out, (char)b);
    }
    return true;
}

void fm_byte_order(uint8_t order[256]) {
    int n = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned b = 0; b < 256; b++) {
            if (byte_is_printable(b) == (pass == 0)) {
                order[n++] = (uint8_t)b;
            }
        }
    }
}
