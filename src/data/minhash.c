/* Signatures: see minhash.h. */
#include "data/minhash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/sha.h"
#include "data/textnorm.h"

#define PRIME ((UINT64_C(1) << 61) - 1)

struct fm_minhash {
    fm_minhash_params p;
    size_t k;        /* bands * rows */
    uint64_t *a, *b; /* [k] */
    fm_words *words; /* for shingles of words */
};

/* MT19937 (Matsumoto, Nishimura 1998), seeded and read as numpy's RandomState does. */
typedef struct twister {
    uint32_t s[624];
    size_t at;
} twister;

static void twister_seed(twister *t, uint32_t seed) {
    for (uint32_t i = 0; i < 624; i++) {
        t->s[i] = seed;
        seed = UINT32_C(1812433253) * (seed ^ seed >> 30) + i + 1;
    }
    t->at = 624;
}

static uint32_t twister_next(twister *t) {
    if (t->at == 624) {
        for (size_t i = 0; i < 624; i++) {
            uint32_t y = (t->s[i] & 0x80000000u) | (t->s[(i + 1) % 624] & 0x7FFFFFFFu);
            t->s[i] = t->s[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908B0DFu : 0);
        }
        t->at = 0;
    }
    uint32_t y = t->s[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680u;
    y ^= y << 15 & 0xEFC60000u;
    return y ^ y >> 18;
}

/* In [low, high]: numpy masks 64 bits and takes the first that fits. */
static uint64_t twister_range(twister *t, uint64_t low, uint64_t high) {
    for (;;) {
        uint64_t v = (uint64_t)twister_next(t) << 32;
        v = (v | twister_next(t)) & PRIME; /* the mask of every range used here */
        if (v <= high - low) {
            return low + v;
        }
    }
}

fm_status fm_minhash_new(fm_minhash **out, const fm_minhash_params *p) {
    twister t;
    fm_minhash *m = *out = fm_calloc(1, sizeof *m);
    if (m) {
        m->p = *p;
        m->k = (size_t)p->bands * (size_t)p->rows;
        m->a = fm_malloc(m->k * sizeof *m->a);
        m->b = fm_malloc(m->k * sizeof *m->b);
    }
    if (!m || !m->a || !m->b) {
        fm_minhash_free(m);
        *out = NULL;
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %d hash functions", p->bands * p->rows);
    }
    twister_seed(&t, p->seed);
    for (size_t i = 0; i < m->k; i++) {
        m->a[i] = twister_range(&t, 1, PRIME - 1);
    }
    for (size_t i = 0; i < m->k; i++) {
        m->b[i] = twister_range(&t, 0, PRIME - 1);
    }
    fm_status s = p->unit == FM_SHINGLE_CHAR ? FM_OK : fm_words_new(&m->words);
    if (s != FM_OK) {
        fm_minhash_free(m);
        *out = NULL;
    }
    return s;
}

void fm_minhash_free(fm_minhash *m) {
    if (m) {
        fm_free(m->a);
        fm_free(m->b);
        fm_words_free(m->words);
        fm_free(m);
    }
}

void fm_minhash_room_free(fm_minhash_room *r) {
    fm_str_free(&r->normal);
    fm_str_free(&r->joined);
    fm_word_list_free(&r->words);
    fm_free(r->begin);
    fm_free(r->shingle);
    memset(r, 0, sizeof *r);
}

/* ---- shingles --------------------------------------------------------------------------------- */

static uint64_t sha1_head(const char *p, size_t n, int digits) {
    fm_sha s;
    char hex[65];
    uint64_t v = 0;
    fm_sha1_init(&s);
    fm_sha_update(&s, p, n);
    fm_sha_hex(&s, hex);
    for (int i = digits - 2; i >= 0; i -= 2) { /* the first bytes, little-endian */
        char byte[3] = {hex[i], hex[i + 1], 0};
        v = v << 8 | (uint64_t)strtoul(byte, NULL, 16);
    }
    return v;
}

static uint64_t hash_of(fm_shingle_hash how, const char *p, size_t n) {
    switch (how) {
    case FM_HASH_XXH32:
        return XXH32(p, n, 0);
    case FM_HASH_SHA1_64:
        return sha1_head(p, n, 16);
    case FM_HASH_SHA1_32:
        return sha1_head(p, n, 8);
    default:
        return XXH64(p, n, 0);
    }
}

static fm_status room_for(fm_minhash_room *r, size_t units) {
    void *p = r->begin;
    FM_TRY(fm_grow(&p, &r->cap, units + 2, sizeof *r->begin));
    r->begin = p;
    return FM_OK;
}

/* Words of the normal text joined by single blanks; begin[i + 1] - 1 ends word i. */
static fm_status join_words(const fm_minhash *m, fm_minhash_room *r, fm_sv text, size_t *n) {
    FM_TRY(fm_words_split(m->words, &r->words, text));
    FM_TRY(room_for(r, r->words.n));
    fm_str_clear(&r->joined);
    *n = 0;
    for (size_t i = 0; i < r->words.n; i++) {
        if (!r->words.item[i].blank) {
            r->begin[(*n)++] = (uint32_t)r->joined.len;
            fm_str_append(&r->joined, text.ptr + r->words.item[i].at, r->words.item[i].len);
            fm_str_putc(&r->joined, ' ');
        }
    }
    r->begin[*n] = (uint32_t)r->joined.len;
    return fm_str_check(&r->joined);
}

static fm_status find_chars(fm_minhash_room *r, fm_sv text, size_t *n) {
    if (text.len >= UINT32_MAX) {
        FM_FAIL(FM_ERR_DATA, "a text of %zu bytes is too long for shingles", text.len);
    }
    FM_TRY(room_for(r, text.len));
    *n = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (((unsigned char)text.ptr[i] & 0xC0) != 0x80) {
            r->begin[(*n)++] = (uint32_t)i;
        }
    }
    r->begin[*n] = (uint32_t)text.len;
    return FM_OK;
}

fm_status fm_minhash_shingles(const fm_minhash *m, fm_minhash_room *r, fm_sv text) {
    size_t n = 0, width = (size_t)m->p.n;
    r->n_shingles = 0;
    FM_TRY(fm_textnorm(&r->normal, text, FM_NORM_DATATROVE));
    fm_sv normal = {r->normal.data, r->normal.len};
    bool chars = m->p.unit == FM_SHINGLE_CHAR || (m->p.unit == FM_SHINGLE_AUTO && fm_mostly_unspaced(normal));
    const char *base;
    if (chars) {
        FM_TRY(find_chars(r, normal, &n));
        base = normal.ptr;
    } else {
        FM_TRY(join_words(m, r, normal, &n));
        base = r->joined.data;
    }
    size_t gap = !chars; /* the blank behind a word */
    if (n == 0 || (n < width && !m->p.short_whole)) {
        return FM_OK;
    }
    width = FM_MIN(width, n);
    void *p = r->shingle;
    FM_TRY(fm_grow(&p, &r->shingles_cap, n - width + 1, sizeof *r->shingle));
    r->shingle = p;
    for (size_t i = 0; i + width <= n; i++) {
        r->shingle[r->n_shingles++] = hash_of(m->p.hash, base + r->begin[i], r->begin[i + width] - gap - r->begin[i]);
    }
    return FM_OK;
}

/* ---- signatures ------------------------------------------------------------------------------- */

/* Minima of eight functions at a time, so that they stay in registers. */
#define LANES 8

static void minima(const uint64_t *shingle, size_t n, const uint64_t *a, const uint64_t *b, uint64_t mask,
                   uint64_t *least) {
    for (int k = 0; k < LANES; k++) {
        least[k] = UINT64_MAX;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t h = shingle[i];
        for (int k = 0; k < LANES; k++) {
            uint64_t v = h * a[k] + b[k];
            v = (v & PRIME) + (v >> 61);
            v = (v >= PRIME ? v - PRIME : v) & mask;
            least[k] = v < least[k] ? v : least[k];
        }
    }
}

void fm_minhash_signature(const fm_minhash *m, const uint64_t *shingle, size_t n, uint64_t *signature) {
    uint64_t mask = m->p.hash == FM_HASH_XXH32 || m->p.hash == FM_HASH_SHA1_32 ? UINT32_MAX : UINT64_MAX;
    size_t k = 0;
    for (; k + LANES <= m->k; k += LANES) {
        minima(shingle, n, m->a + k, m->b + k, mask, signature + k);
    }
    if (k < m->k) {
        uint64_t a[LANES] = {0}, b[LANES] = {0}, least[LANES];
        memcpy(a, m->a + k, (m->k - k) * sizeof *a);
        memcpy(b, m->b + k, (m->k - k) * sizeof *b);
        minima(shingle, n, a, b, mask, least);
        memcpy(signature + k, least, (m->k - k) * sizeof *least);
    }
}

double fm_minhash_caught(int bands, int rows, double similarity) {
    return 1 - pow(1 - pow(similarity, rows), bands);
}
