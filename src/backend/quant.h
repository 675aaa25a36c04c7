/* Blocks of quantised weights as GGUF files hold them: one table, a row a type. A block is `fm_dtype_get(d)->block`
 * elements in `block_bytes` bytes with its scales inside; little-endian, no alignment.
 *
 * Numbers come out (and, without importance weights, go in) bit for bit as in ggml, whose formats these are
 * (ggml-org/ggml: ggml-common.h, ggml-quants.c; k-quants by I. Kawrakow, llama.cpp pull request 1684): sums run in the
 * same order and nothing is contracted or reassociated. tests/unit/io/test_gguf.c holds both to ggml's bytes. */
#ifndef FM_BACKEND_QUANT_H
#define FM_BACKEND_QUANT_H

#include "backend/dtype.h"

typedef struct fm_quant_type {
    fm_dtype dtype;
    void (*dequantise)(const uint8_t *blocks, float *y, int64_t n_blocks); /* y [n_blocks*block] */
    /* NULL for types that are only read. x must be finite. */
    void (*quantise)(const float *x, uint8_t *blocks, int64_t n_blocks);
} fm_quant_type;

/* NULL when d is not a GGUF block type. */
const fm_quant_type *fm_quant_find(fm_dtype d);

/* int8 with a factor a row: the row's largest magnitude over 127, 0 for a row of zeros; q = x / factor to the nearest
 * even. */
float fm_int8_factor(const float *row, int64_t n);
void fm_int8_row(const float *x, int8_t *y, int64_t n);

/* For the files of the table. */
void fm_q2_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks);
void fm_q3_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks);
void fm_q4_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks);
void fm_q5_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks);
void fm_q6_k_dequantise(const uint8_t *b, float *y, int64_t n_blocks);
void fm_q4_k_quantise(const float *x, uint8_t *b, int64_t n_blocks);
void fm_q5_k_quantise(const float *x, uint8_t *b, int64_t n_blocks);
void fm_q6_k_quantise(const float *x, uint8_t *b, int64_t n_blocks);

/* The 6-bit scale and minimum of sub-block j (0 to 7) of q4_k and q5_k, packed in 12 bytes. */
void fm_k_scale_min(const uint8_t q[12], int j, int *scale, int *min);
/* Scale j (0 to 15) of q3_k, of its 12 bytes, -32 to 31. */
int fm_q3_k_scale(const uint8_t *s, int j);
/* The sixteen levels of iq4_nl. */
extern const int8_t fm_iq4_levels[16];

static inline float fm_quant_load_f16(const uint8_t *p) {
    return fm_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}
static inline void fm_quant_store_f16(uint8_t *p, float v) {
    uint16_t h = fm_f32_to_f16(v);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

#endif
