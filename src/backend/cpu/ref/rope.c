/* Rotary position embedding. */
#include <math.h>

#include "backend/cpu/ref/ref.h"

static void rope_head(fm_dtype d, const fm_rope_args *a, int64_t t, int64_t o) {
    fm_dtype acc = fm_dtype_acc(d);
    int64_t n = a->n_freqs;
    for (int64_t i = 0; i < n; i++) {
        double angle = (double)a->pos[t] * a->freq[i];
        double c = fm_round_to(acc, cos(angle)) * (double)a->mscale;
        double s = fm_round_to(acc, sin(angle)) * (double)a->mscale * (double)a->sign;
        int64_t at = o + a->first, i0 = at + (a->interleaved ? 2 * i : i),
                i1 = at + (a->interleaved ? 2 * i + 1 : i + n);
        double x0 = FM_LD(d, a->x, i0), x1 = FM_LD(d, a->x, i1);
        fm_ref_put(d, a->y, i0, x0 * c - x1 * s, a->acc_y);
        fm_ref_put(d, a->y, i1, x1 * c + x0 * s, a->acc_y);
    }
    for (int64_t j = 0; j < a->head_dim; j++) {
        if (j >= a->first && j < a->first + 2 * n) {
            continue;
        }
        fm_ref_put(d, a->y, o + j, FM_LD(d, a->x, o + j), a->acc_y);
    }
}

static fm_status rope_any(fm_dtype d, const fm_exec *x, const fm_rope_args *a) {
    FM_UNUSED(x);
    for (int64_t t = 0; t < a->n_tokens; t++) {
        for (int64_t h = 0; h < a->n_heads; h++) {
            rope_head(d, a, t, (t * a->n_heads + h) * a->head_dim);
        }
    }
    return FM_OK;
}
FM_REF_KERNEL(rope, fm_rope_args)
