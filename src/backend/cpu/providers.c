/* Order of the matrix-product providers.
 *
 * Measured with bench/gemm_probe.c on Zen 4 cores (AVX-512, 512-bit operations in two halves), own kernels
 * against oneDNN 2.6.3 called on our split, interleaved, best of 7 to 11 rounds, per cent of the measured peak of
 * the instruction (236 GFLOP/s bf16, 118 f32 per core); bf16 on two cores, f32 on one; 2048 rows, weights (N,K) from
 * 256 x 512 to 2048 x 768, heads of 6400 and 16384 classes:
 *                                bf16 own  packed  oneDNN      f32 own  packed  oneDNN
 *   cube of 1024                    94       96      95            95      97      94
 *   forward  x W^T                93-97    93-98   90-96         96-97     97    94-96
 *   input gradient  dy W          95-98    94-98   89-96         95-97   96-97   91-96
 *   weight gradient  dy^T x       87-93      -     86-93         86-92     -     84-93
 *   head, logits and dx           90-94    95-96   85-90         91-95     96    87-92
 *   head, weight gradient         83-91      -     86-89         92-94     -     90-92
 *   GB/s of weights, one core: 1 row of 4096 x 4096
 *                                   18       34      18            16      29      15
 *
 * So our own kernels come first for both types: they are as fast or faster, take packed weights, need no library
 * and keep the bits of a row free of the number of rows. oneDNN stays for comparison and for processors
 * where a measurement says otherwise. */
#include "backend/cpu/providers.h"

#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"

static bool dnnl_available(void) {
    return fm_dnnl_get()->available;
}
static bool always(void) {
    return true;
}

static fm_kernel_fn own_f32, own_bf16;

static fm_status dnnl_f32(const fm_exec *x, const void *args) {
    fm_status s = fm_dnnl_matmul_f32(x, args);
    return s == FM_ERR_UNSUPPORTED ? own_f32(x, args) : s;
}
static fm_status dnnl_bf16(const fm_exec *x, const void *args) {
    fm_status s = fm_dnnl_matmul_bf16(x, args);
    return s == FM_ERR_UNSUPPORTED ? own_bf16(x, args) : s;
}

/* In order of preference; NULL functions stand for the table's own kernels. */
static const struct provider {
    const char *name;
    bool (*available)(void);
    fm_kernel_fn f32, bf16;
} providers[] = {
    {"own", always, NULL, NULL},
    {"onednn", dnnl_available, dnnl_f32, dnnl_bf16},
};

static const struct provider *chosen = &providers[0];

void fm_matmul_providers_apply(fm_backend *b) {
    const char *forced = getenv("FATHOM_MATMUL");
    for (size_t i = 0; forced && i < sizeof providers / sizeof providers[0]; i++) {
        if (strcmp(forced, providers[i].name) == 0 && providers[i].available()) {
            chosen = &providers[i];
        }
    }
    own_f32 = b->kernel[FM_K_matmul][FM_F32];
    own_bf16 = b->kernel[FM_K_matmul][FM_BF16];
    if (chosen->f32 && own_f32) {
        b->kernel[FM_K_matmul][FM_F32] = chosen->f32;
    }
    if (chosen->bf16 && own_bf16) {
        b->kernel[FM_K_matmul][FM_BF16] = chosen->bf16;
    }
}

const char *fm_matmul_provider_name(fm_dtype d) {
    return d == FM_F32 || d == FM_BF16 ? chosen->name : "own";
}
