/* Repacking rows of quantised blocks into panels: see quant_layout.h. */
#include "backend/cpu/quant_layout.h"

#include <string.h>

#include "backend/quant.h"
#include "base/error.h"

#define COLS FM_QP_COLS

static const fm_qp_layout layouts[] = {
#define FM_X(name, dtype, bits, scale, min, off)                                                                       \
    {FM_QP_##name, dtype, bits, scale, min, off, (scale) == FM_QP_I8X2 ? 2 : 1},
    FM_QP_LIST(FM_X)
#undef FM_X
};

const fm_qp_layout *fm_qp_find(fm_dtype d) {
    d = d == FM_Q3_K ? FM_Q6_K : d == FM_IQ4_NL ? FM_Q8_0 : d;
    for (size_t i = 0; i < FM_ARRAY_LEN(layouts); i++) {
        if (layouts[i].dtype == d) {
            return &layouts[i];
        }
    }
    return NULL;
}

int64_t fm_qp_blocks(int64_t k) {
    return (k + FM_QP_BLOCK - 1) / FM_QP_BLOCK;
}

int64_t fm_qp_panel_bytes(const fm_qp_layout *l, int64_t k) {
    int64_t per = fm_qp_per(l->scale), supers = (fm_qp_blocks(k) + per - 1) / per;
    return supers * (fm_qp_head_bytes(l->scale, l->min) + per * fm_qp_block_bytes(l->bits, l->scale, l->min));
}

/* ---- one block of one row, unpacked ---------------------------------------------------------- */

/* Where a block of the panel lies; NULL for parts a layout has not. */
typedef struct place {
    uint8_t *scale, *min, *high, *quant;
} place;

static place place_of(const fm_qp_layout *l, uint8_t *block) {
    place p = {.scale = block};
    p.min = block + fm_qp_scale_bytes(l->scale);
    p.high = p.min + fm_qp_min_bytes(l->min);
    p.quant = p.high + fm_qp_high_bytes(l->bits);
    return p;
}

static uint32_t load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static void store32(uint8_t *p, uint32_t v) {
    memcpy(p, &v, sizeof v);
}

/* Sixteen bytes of two elements each (i and i+16) to column c. */
static void put_halves(uint8_t *quant, int64_t c, const uint8_t *q) {
    for (int g = 0; g < 4; g++) {
        memcpy(quant + (g * COLS + c) * 4, q + 4 * g, 4);
    }
}

static void put_bytes(uint8_t *quant, int64_t c, const uint8_t *q, uint8_t flip) {
    uint32_t turn = flip * 0x01010101u;
    for (int g = 0; g < 8; g++) {
        store32(quant + (g * COLS + c) * 4, load32(q + 4 * g) ^ turn);
    }
}

/* Fifth bits: bit j of `high` is that of element j. */
static void put_fifth(uint8_t *to, int64_t c, uint32_t high) {
    for (int i = 0; i < 4; i++) { /* bits i, i + 4, i + 8 ... side by side */
        uint32_t v = high >> i & 0x11111111u;
        v = (v | v >> 3) & 0x03030303u;
        v = (v | v >> 6) & 0x000f000fu;
        to[c * 4 + i] = (uint8_t)(v | v >> 12);
    }
}

/* 32 values below 64 to low halves and two high bits. */
static void put_six(const place *p, int64_t c, const uint8_t *v) {
    for (int i = 0; i < 16; i++) {
        p->quant[((i / 4) * COLS + c) * 4 + i % 4] = (uint8_t)((v[i] & 15) | v[i + 16] << 4);
    }
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < 4; i++) {
            const uint8_t *e = v + 16 * h + i;
            p->high[(h * COLS + c) * 4 + i] = (uint8_t)(e[0] >> 4 | e[4] >> 4 << 2 | e[8] >> 4 << 4 | e[12] >> 4 << 6);
        }
    }
}

/* ---- rows of the types with blocks of 32 ----------------------------------------------------- */

static void put_f16(uint8_t *to, int64_t c, const uint8_t *from) {
    memcpy(to + 2 * c, from, 2);
}

static void pack_32(fm_dtype d, const uint8_t *b, const place *p, int64_t c, uint8_t flip) {
    uint8_t v[32];
    put_f16(p->scale, c, b);
    switch (d) {
    case FM_Q8_0:
        put_bytes(p->quant, c, b + 2, flip);
        break;
    case FM_IQ4_NL:
        for (int j = 0; j < 16; j++) {
            v[j] = (uint8_t)fm_iq4_levels[b[2 + j] & 15];
            v[j + 16] = (uint8_t)fm_iq4_levels[b[2 + j] >> 4];
        }
        put_bytes(p->quant, c, v, flip);
        break;
    case FM_Q4_0:
        put_halves(p->quant, c, b + 2);
        break;
    case FM_Q5_0:
        put_fifth(p->high, c, load32(b + 2));
        put_halves(p->quant, c, b + 6);
        break;
    default: /* q4_1, q5_1: s q + m, and m is subtracted here */
        put_f16(p->min, c, b + 2);
        p->min[2 * c + 1] ^= 0x80;
        if (d == FM_Q5_1) {
            put_fifth(p->high, c, load32(b + 4));
        }
        put_halves(p->quant, c, b + (d == FM_Q5_1 ? 8 : 4));
    }
}

/* ---- k-quants -------------------------------------------------------------------------------- */

/* Block j of a super-block of q4_k or q5_k. */
static void pack_45k(const uint8_t *b, int bits, int j, const place *p, int64_t c) {
    int s, m, shift = j % 2 * 4;
    fm_k_scale_min(b + 4, j, &s, &m);
    p->scale[c] = (uint8_t)s;
    p->min[c] = (uint8_t)m;
    const uint8_t *q = b + (bits == 5 ? 48 : 16) + j / 2 * 32;
    uint8_t pair[16];
    for (int i = 0; i < 16; i++) {
        pair[i] = (uint8_t)((q[i] >> shift & 15) | (q[i + 16] >> shift & 15) << 4);
    }
    put_halves(p->quant, c, pair);
    if (bits == 5) {
        uint32_t high = 0;
        for (int i = 0; i < 32; i++) {
            high |= (uint32_t)(b[16 + i] >> j & 1) << i;
        }
        put_fifth(p->high, c, high);
    }
}

static void pack_6k(const uint8_t *b, int j, const place *p, int64_t c) {
    uint8_t v[32];
    int part = j % 4;
    const uint8_t *low = b + j / 4 * 64 + part % 2 * 32, *high = b + 128 + j / 4 * 32;
    for (int i = 0; i < 32; i++) {
        v[i] = (uint8_t)((low[i] >> (part / 2 * 4) & 15) | (high[i] >> (part * 2) & 3) << 4);
    }
    put_six(p, c, v);
    p->scale[c] = b[192 + 2 * j];
    p->scale[COLS + c] = b[192 + 2 * j + 1];
}

/* q3_k as q6_k: q in -4..3 becomes q + 32. */
static void pack_3k(const uint8_t *b, int j, const place *p, int64_t c) {
    uint8_t v[32];
    int shift = j % 4 * 2;
    const uint8_t *q = b + 32 + j / 4 * 32;
    for (int i = 0; i < 32; i++) {
        v[i] = (uint8_t)(32 + (q[i] >> shift & 3) - (b[i] >> j & 1 ? 0 : 4));
    }
    put_six(p, c, v);
    p->scale[c] = (uint8_t)fm_q3_k_scale(b + 96, 2 * j);
    p->scale[COLS + c] = (uint8_t)fm_q3_k_scale(b + 96, 2 * j + 1);
}

static void pack_super(const fm_qp_layout *l, fm_dtype d, const uint8_t *b, uint8_t *super, int64_t c) {
    int block = fm_qp_block_bytes(l->bits, l->scale, l->min), head = fm_qp_head_bytes(l->scale, l->min);
    put_f16(super, c, b + (d == FM_Q6_K ? 208 : d == FM_Q3_K ? 108 : 0));
    if (l->min != FM_QP_NO_MIN) {
        put_f16(super + 2 * COLS, c, b + 2);
    }
    for (int j = 0; j < 8; j++) {
        place p = place_of(l, super + head + j * block);
        if (d == FM_Q6_K) {
            pack_6k(b, j, &p, c);
        } else if (d == FM_Q3_K) {
            pack_3k(b, j, &p, c);
        } else {
            pack_45k(b, l->bits, j, &p, c);
        }
    }
}

/* ---- panels ---------------------------------------------------------------------------------- */

static void pack_i8(int64_t k, const uint8_t *w, int64_t at, const place *p, int64_t c, uint8_t flip) {
    uint8_t v[32] = {0};
    memcpy(v, w + at, (size_t)FM_MIN(k - at, (int64_t)FM_QP_BLOCK));
    put_bytes(p->quant, c, v, flip);
}

void fm_qp_pack_panel(fm_dtype d, int64_t n, int64_t k, const uint8_t *w, int64_t j, uint8_t flip, uint8_t *dst) {
    const fm_qp_layout *l = fm_qp_find(d);
    int64_t cols = FM_MIN(n - j * COLS, (int64_t)COLS), blocks = fm_qp_blocks(k);
    int per = fm_qp_per(l->scale), size = fm_dtype_get(d)->block_bytes;
    int64_t stride = per * fm_qp_block_bytes(l->bits, l->scale, l->min) + fm_qp_head_bytes(l->scale, l->min);
    int64_t row_bytes = fm_dtype_bytes(d, k);
    const uint8_t *rows = w + j * COLS * row_bytes;
    if (cols < COLS) {
        memset(dst, 0, (size_t)fm_qp_panel_bytes(l, k));
    }
    for (int64_t s = 0; s < blocks / per; s++, dst += stride) {
        for (int64_t c = 0; c < cols; c++) {
            const uint8_t *row = rows + c * row_bytes, *b = row + s * size;
            place p = place_of(l, dst);
            if (per > 1) {
                pack_super(l, d, b, dst, c);
            } else if (d == FM_I8) {
                pack_i8(k, row, s * FM_QP_BLOCK, &p, c, flip);
            } else {
                pack_32(d, b, &p, c, flip);
            }
        }
    }
}

int64_t fm_qp_bytes(fm_dtype d, int64_t n, int64_t k) {
    const fm_qp_layout *l = fm_qp_find(d);
    return l && k % fm_dtype_get(d)->block == 0 ? (n + COLS - 1) / COLS * fm_qp_panel_bytes(l, k) : 0;
}

typedef struct pack_job {
    fm_dtype d;
    int64_t n, k, panel_bytes;
    const uint8_t *w;
    uint8_t flip;
    uint8_t *packed;
} pack_job;

static fm_status pack_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const pack_job *p = arg;
    int64_t begin, end;
    FM_UNUSED(thread);
    fm_split((p->n + COLS - 1) / COLS, part, n_parts, 1, &begin, &end);
    for (int64_t j = begin; j < end; j++) {
        fm_qp_pack_panel(p->d, p->n, p->k, p->w, j, p->flip, p->packed + j * p->panel_bytes);
    }
    return FM_OK;
}

fm_status fm_qp_pack(const fm_exec *x, fm_dtype d, int64_t n, int64_t k, const void *w, uint8_t flip, void *packed) {
    const fm_qp_layout *l = fm_qp_find(d);
    if (!l || k % fm_dtype_get(d)->block != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "weights of type %s and %lld columns have no packed form", fm_dtype_get(d)->name,
                (long long)k);
    }
    pack_job p = {
        .d = d, .n = n, .k = k, .panel_bytes = fm_qp_panel_bytes(l, k), .w = w, .flip = flip, .packed = packed};
    int64_t panels = (n + COLS - 1) / COLS;
    return fm_pool_run(x->pool, FM_MIN(panels, 4 * (int64_t)fm_pool_threads(x->pool)), pack_part, &p);
}
