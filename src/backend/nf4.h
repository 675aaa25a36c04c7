/* 4-bit normal floats (QLoRA: Dettmers et al. 2023, arXiv 2305.14314) as bitsandbytes has them: blocks of 64 elements,
 * rows one behind the other, share a scale, their largest magnitude; each is the nearest of 16 quantiles of a normal
 * distribution, two in a byte, the first in the high half.
 *
 * Quantised twice, the scales less their mean are bytes of the dynamic data type (Dettmers et al. 2022), blocks of 256
 * of which share a scale: 0.127 bits a weight in the place of 0.5. */
#ifndef FM_BACKEND_NF4_H
#define FM_BACKEND_NF4_H

#include <stdbool.h>
#include <stdint.h>

#define FM_NF4_BLOCK  64  /* elements of a scale */
#define FM_NF4_SCALES 256 /* scales of a scale */

/* The 256 numbers that a byte stands for, ascending, and the borders between them: signed, or 0 to 1. */
typedef struct fm_code8 {
    float value[256], border[255];
} fm_code8;
const fm_code8 *fm_code8_get(bool sign);
uint8_t fm_code8_nearest(const fm_code8 *c, float x); /* NaN gives 0 */

/* Scales of a tensor, in memory of the caller: either scale, or code, code_scale and mean. */
typedef struct fm_nf4_scales {
    float *scale;      /* [blocks], or NULL when quantised twice */
    uint8_t *code;     /* [blocks] */
    float *code_scale; /* [blocks of 256 of them] */
    float mean;
} fm_nf4_scales;

int64_t fm_nf4_blocks(int64_t n);
/* Bytes of the scales of n elements, and the pointers of *s into memory of that size (4-byte aligned). */
int64_t fm_nf4_scale_bytes(int64_t n, bool twice);
void fm_nf4_scales_place(fm_nf4_scales *s, int64_t n, bool twice, void *memory);
/* n elements from a block's begin on (n a multiple of the block, or to the end of the tensor): bytes [n/2] and a scale
 * a block. */
void fm_nf4_quantise(const float *x, int64_t n, uint8_t *q, float *scale);
/* scale [blocks] into the form that s has. */
void fm_nf4_set_scales(fm_nf4_scales *s, int64_t blocks, const float *scale);
float fm_nf4_scale(const fm_nf4_scales *s, int64_t block);
/* Elements [at, at + n) of the tensor q. */
void fm_nf4_dequantise(const uint8_t *q, const fm_nf4_scales *s, int64_t at, int64_t n, float *y);

#endif
