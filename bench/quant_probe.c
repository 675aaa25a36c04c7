/* Rates of quantised products in processor time of one thread, beside the peak of the multiplying instruction and a
 * plain read of memory, at the shapes of a 0.5B and a 1.1B model.
 *
 *   quant_probe [rounds] [type, such as q4_0]
 *
 * Build against the libraries of a build folder B:
 *   cc -O2 -D_GNU_SOURCE -Iinclude -Isrc bench/quant_probe.c B/libfm_cpu.a B/libfm_backend.a B/libfm_base.a -lm -ldl
 * -lpthread ... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/cpu.h"
#include "backend/quant.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GOP/s of vpdpbusd on independent accumulators; 0 where there is no such instruction. */
static double peak(void) {
#if defined(__x86_64__)
    if (fm_cpu_get()->avx512_vnni) {
        double t = now();
        for (int s = 0; s < 1000000; s++) {
#define OP(n) "vpdpbusd %%zmm0, %%zmm0, %%zmm" #n "\n"
            __asm__ volatile(OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8)::
                                 : "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8");
        }
        return 8 * 128e6 / (now() - t) * 1e-9;
    }
#endif
    return 0;
}

static double read_rate(const void *mem, int64_t bytes) {
    const uint64_t *p = mem;
    uint64_t s[8] = {0};
    double t = now();
    for (int64_t i = 0; i + 8 <= bytes / 8; i += 8) {
        for (int k = 0; k < 8; k++) {
            s[k] += p[i + k];
        }
    }
    t = now() - t;
    volatile uint64_t sink = s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
    (void)sink;
    return (double)bytes / t * 1e-9;
}

int main(int argc, char **argv) {
    static const fm_dtype types[] = {FM_Q8_0, FM_I8, FM_Q4_0, FM_Q5_0, FM_Q4_K, FM_Q6_K, FM_Q5_K};
    static const struct {
        int64_t m, n, k;
    } shapes[] = {{1, 4864, 896},  {1, 896, 4864},   {1, 32768, 4096}, {4, 32768, 4096}, {8, 32768, 4096},
                  {32, 4864, 896}, {512, 4864, 896}, {512, 896, 4864}, {512, 5632, 2048}};
    int rounds = argc > 1 ? atoi(argv[1]) : 5;
    const fm_backend *b = fm_cpu_backend();
    fm_exec x = {0};
    if (fm_scratch_new(&x.scratch) != FM_OK) {
        return 1;
    }
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        fm_dtype d = types[t];
        if (argc > 2 && strcmp(argv[2], fm_dtype_get(d)->name) != 0) {
            continue;
        }
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            int64_t m = shapes[i].m, n = shapes[i].n, k = shapes[i].k / 256 * 256;
            int64_t raw = fm_dtype_bytes(d, n * k), packed = b->quant_pack_bytes(d, n, k);
            uint8_t *w = calloc(1, (size_t)raw), *p = aligned_alloc(4096, (size_t)(packed + 4095) / 4096 * 4096);
            float *a = malloc((size_t)(m * k) * 4), *c = malloc((size_t)(m * n) * 4), *s = malloc((size_t)n * 4);
            if (!w || !p || !a || !c || !s) {
                return 1;
            }
            for (int64_t e = 0; e < m * k; e++) {
                a[e] = (float)(e * 7919 % 1000) * 0.001F - 0.5F;
            }
            for (int64_t e = 0; e < n; e++) {
                s[e] = 1;
            }
            double pack_s = now();
            if (b->quant_pack(&x, d, n, k, w, p) != FM_OK) {
                return 1;
            }
            pack_s = now() - pack_s;
            fm_quant_matmul_args g = {.m = m,
                                      .n = n,
                                      .k = k,
                                      .a = a,
                                      .lda = k,
                                      .w_dtype = d,
                                      .w = w,
                                      .w_scale = s,
                                      .w_packed = p,
                                      .c = c,
                                      .ldc = n,
                                      .c_dtype = FM_F32};
            double best = 1e9, top = 0, mem = 0;
            for (int r = 0; r < rounds; r++) {
                double at = now();
                if (fm_kernel_run(b, &x, FM_K_quant_matmul, FM_F32, &g) != FM_OK) {
                    return 1;
                }
                double took = now() - at, rate = peak(), read = read_rate(p, packed);
                best = took < best ? took : best;
                top = rate > top ? rate : top;
                mem = read > mem ? read : mem;
            }
            double gops = 2e-9 * (double)m * (double)n * (double)k / best, gbs = (double)packed / best * 1e-9;
            printf("%-6s %4d x %5d x %4d  %8.1f GOP/s %5.1f%% of the instruction  %6.1f GB/s %5.1f%% of a read  "
                   "packing %.2f "
                   "GB/s\n",
                   fm_dtype_get(d)->name, (int)m, (int)n, (int)k, gops, top > 0 ? 100 * gops / top : 0, gbs,
                   100 * gbs / mem, (double)raw / pack_s * 1e-9);
            fflush(stdout);
            free(w);
            free(p);
            free(a);
            free(c);
            free(s);
        }
    }
    fm_scratch_free(x.scratch);
    return 0;
}
