/* Lengths of the rows of W + scale B A, for weight-decomposed adapters (DoRA: Liu et al. 2024, arXiv 2402.09353).
 *
 * Gradients take the lengths as constants (section 4.3 of the paper, and what PEFT does), so a step needs them once.
 * They come from |w|^2 + 2 scale b.(A w) + scale^2 b'(A A')b, which costs a product of `rank` rows instead of the sum
 * W + scale B A; |w|^2 stays as long as W does. */
#ifndef FM_TENSOR_DORA_H
#define FM_TENSOR_DORA_H

#include "tensor/param.h"

typedef struct fm_dora {
    int64_t n;
    double *squares; /* [n] of the rows of W */
    void *inverse;   /* [n] 1 / length in the accumulation type of `dtype` */
    fm_dtype dtype;
    uint32_t w_version, a_version, b_version; /* of what inverse was made from, 0 = never */
    uint32_t squares_version;
} fm_dora;

FM_MUST_CHECK fm_status fm_dora_new(fm_dora **out, int64_t n);
void fm_dora_free(fm_dora *d);
/* 1 / length of each row, [n] in the accumulation type of w's leaf; NULL with the context failed. */
fm_tensor *fm_dora_inverse(fm_ctx *c, fm_tensor *w, const fm_lora *l);
/* The lengths of the rows of W alone, as the magnitude begins; out [n]. */
FM_MUST_CHECK fm_status fm_dora_lengths(const fm_backend *b, const fm_exec *x, const fm_param *w, float *out);

#endif
