/* Rates of the matrix-product providers beside the peak of the machine, at the shapes of training and
 * generation: interleaved, medians and best of several rounds.
 *
 *   gemm_probe [threads] [rounds] [substring of the shape's name]
 *
 * Build against the libraries of a build folder B:
 *   cc -O2 -D_GNU_SOURCE -Iinclude -Isrc bench/gemm_probe.c B/libfm_cpu.a B/libfm_backend.a B/libfm_base.a -lm -ldl
 * -lpthread ... */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/cpu.h"
#include "base/error.h"

#define MAX_ROUNDS 101

/* With one thread: its processor time, so that other programs on the machine do not count. */
static clockid_t which_clock = CLOCK_MONOTONIC;
static double now(void) {
    struct timespec t;
    clock_gettime(which_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define PEAK_STEPS 50000
#define PEAK_ACCS  12

#if defined(__x86_64__)
/* 12 independent accumulators hide the latency of the instruction. */
#define PEAK_LOOP(op)                                                                                                  \
    for (int s = 0; s < PEAK_STEPS; s++) {                                                                             \
        __asm__ volatile(                                                                                              \
            op                                                                                                         \
            " %%zmm0, %%zmm0, %%zmm1\n" op " %%zmm0, %%zmm0, %%zmm2\n" op " %%zmm0, %%zmm0, %%zmm3\n" op               \
            " %%zmm0, %%zmm0, %%zmm4\n" op " %%zmm0, %%zmm0, %%zmm5\n" op " %%zmm0, %%zmm0, %%zmm6\n" op               \
            " %%zmm0, %%zmm0, %%zmm7\n" op " %%zmm0, %%zmm0, %%zmm8\n" op " %%zmm0, %%zmm0, %%zmm9\n" op               \
            " %%zmm0, %%zmm0, %%zmm10\n" op " %%zmm0, %%zmm0, %%zmm11\n" op " %%zmm0, %%zmm0, %%zmm12\n" ::            \
                : "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12");  \
    }

static fm_status peak_part(void *arg, int64_t part, int64_t n, int thread) {
    FM_UNUSED(part);
    FM_UNUSED(n);
    FM_UNUSED(thread);
    __asm__ volatile("vpxorq %%zmm0, %%zmm0, %%zmm0" ::: "xmm0");
    if (*(const bool *)arg) {
        PEAK_LOOP("vdpbf16ps")
    } else {
        PEAK_LOOP("vfmadd231ps")
    }
    return FM_OK;
}
#else
static fm_status peak_part(void *arg, int64_t part, int64_t n, int thread) {
    FM_UNUSED(arg);
    FM_UNUSED(part);
    FM_UNUSED(n);
    FM_UNUSED(thread);
    return FM_OK;
}
#endif

typedef struct shape {
    const char *name;
    int64_t m, n, k;
    bool trans_a, trans_b, accumulate;
} shape;

static const shape shapes[] = {
    {"cube", 1024, 1024, 1024, false, true, false},         {"fwd 512x512", 2048, 512, 512, false, true, false},
    {"fwd 768x768", 2048, 768, 768, false, true, false},    {"fwd 1408x512", 2048, 1408, 512, false, true, false},
    {"fwd 512x1408", 2048, 512, 1408, false, true, false},  {"fwd 2048x768", 2048, 2048, 768, false, true, false},
    {"fwd 768x2048", 2048, 768, 2048, false, true, false},  {"fwd 256x512", 2048, 256, 512, false, true, false},
    {"fwd4 1408x512", 4096, 1408, 512, false, true, false}, {"dx 512x512", 2048, 512, 512, false, false, false},
    {"dx 768x768", 2048, 768, 768, false, false, false},    {"dx 1408->512", 2048, 512, 1408, false, false, false},
    {"dx 2048->768", 2048, 768, 2048, false, false, false}, {"dx 768->2048", 2048, 2048, 768, false, false, false},
    {"dw 512x512", 512, 512, 2048, true, false, true},      {"dw 768x768", 768, 768, 2048, true, false, true},
    {"dw 1408x512", 1408, 512, 2048, true, false, true},    {"dw4 1408x512", 1408, 512, 4096, true, false, true},
    {"dw 2048x768", 2048, 768, 2048, true, false, true},    {"dw 768x2048", 768, 2048, 2048, true, false, true},
    {"head 6400", 1024, 6400, 512, false, true, false},     {"head 16384", 512, 16384, 768, false, true, false},
    {"head dx 6400", 1024, 512, 6400, false, false, false}, {"head dx 16384", 512, 768, 16384, false, false, false},
    {"head dw 6400", 6400, 512, 1024, true, false, true},   {"head dw 16384", 16384, 768, 512, true, false, true},
    {"decode 4096", 1, 4096, 4096, false, true, false},     {"decode 512", 1, 512, 512, false, true, false},
    {"logits 16384", 1, 16384, 768, false, true, false},    {"few2 4096", 2, 4096, 4096, false, true, false},
    {"few4 4096", 4, 4096, 4096, false, true, false},       {"few8 4096", 8, 4096, 4096, false, true, false},
    {"few16 4096", 16, 4096, 4096, false, true, false},
};

enum { OWN, PACKED, DNNL, N_WAYS };
static const char *const way_names[] = {"own", "packed", "oneDNN"};

typedef struct run {
    const fm_backend *be;
    fm_exec x;
    fm_backend dnnl;
} run;

static void *values(fm_dtype d, int64_t n) {
    void *p = NULL;
    if (fm_pages_alloc(&p, (size_t)fm_dtype_bytes(d, n), FM_MEM_MISC) != FM_OK) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    for (int64_t i = 0; i < n; i++) {
        float v = (float)((i * 2654435761LL >> 7) & 1023) / 512.0F - 1;
        if (d == FM_F32) {
            ((float *)p)[i] = v;
        } else {
            ((fm_bf16 *)p)[i] = fm_f32_to_bf16(v);
        }
    }
    return p;
}

static int by_value(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return d < 0 ? -1 : d > 0;
}

static void measure(run *r, const shape *s, fm_dtype d, int rounds) {
    const int64_t na = s->m * s->k, nb = s->n * s->k, nc = s->m * s->n;
    const fm_dtype cd = s->accumulate ? FM_F32 : d;
    void *a = values(d, na), *b = values(d, nb), *c = values(cd, nc);
    const int64_t packed_bytes = r->be->matmul_pack_bytes(d, s->n, s->k);
    void *packed = NULL;
    if (fm_pages_alloc(&packed, (size_t)packed_bytes, FM_MEM_MISC) != FM_OK ||
        r->be->matmul_pack(&r->x, d, s->n, s->k, b, s->trans_b ? s->k : s->n, s->trans_b, packed) != FM_OK) {
        exit(1);
    }
    fm_matmul_args g = {.m = s->m,
                        .n = s->n,
                        .k = s->k,
                        .a = a,
                        .lda = s->trans_a ? s->m : s->k,
                        .trans_a = s->trans_a,
                        .b = b,
                        .ldb = s->trans_b ? s->k : s->n,
                        .trans_b = s->trans_b,
                        .c = c,
                        .ldc = s->n,
                        .c_dtype = cd,
                        .accumulate = s->accumulate};
    fm_matmul_args gp = g;
    gp.b_packed = packed;
    const double flop = 2.0 * (double)s->m * (double)s->n * (double)s->k;
    int reps = (int)(1e9 / flop);
    reps = reps < 1 ? 1 : reps > 60 ? 60 : reps;
    double rate[N_WAYS + 1][MAX_ROUNDS];
    bool have[N_WAYS] = {true, !s->accumulate, fm_dnnl_get()->available};
    const bool bf16 = d == FM_BF16;
    const int threads = fm_pool_threads(r->x.pool);
    for (int i = -1; i < rounds; i++) {
        for (int w = 0; w < N_WAYS; w++) {
            double t = now();
            for (int q = 0; have[w] && q < reps; q++) {
                fm_status st =
                    fm_kernel_run(w == DNNL ? &r->dnnl : r->be, &r->x, FM_K_matmul, d, w == PACKED ? &gp : &g);
                have[w] = st == FM_OK;
            }
            if (i >= 0) {
                rate[w][i] = flop * reps / (now() - t) * 1e-9;
            }
        }
        double t = now();
        bool flag = bf16;
        (void)!fm_pool_run(r->x.pool, threads, peak_part, &flag);
        if (i >= 0) {
            rate[N_WAYS][i] = (bf16 ? 64.0 : 32.0) * PEAK_ACCS * PEAK_STEPS * threads / (now() - t) * 1e-9;
        }
    }
    double mid[N_WAYS + 1], best[N_WAYS + 1];
    for (int w = 0; w <= N_WAYS; w++) {
        qsort(rate[w], (size_t)rounds, sizeof(double), by_value);
        mid[w] = rate[w][rounds / 2];
        best[w] = rate[w][rounds - 1];
    }
    printf("%-5s %-15s %5lld %5lld %5lld peak %5.0f |", fm_dtype_get(d)->name, s->name, (long long)s->m,
           (long long)s->n, (long long)s->k, best[N_WAYS]);
    for (int w = 0; w < N_WAYS; w++) {
        if (have[w]) {
            printf(" %s %6.1f/%6.1f (%3.0f%%)", way_names[w], mid[w], best[w], 100 * best[w] / best[N_WAYS]);
        }
    }
    if (s->m <= 16) {
        const double gb = (double)nb * (double)fm_dtype_bytes(d, 1) * 1e-9;
        printf(" GB/s");
        for (int w = 0; w < N_WAYS; w++) {
            printf(" %.1f", have[w] ? mid[w] * 1e9 / flop * gb : 0);
        }
    }
    printf("\n");
    fflush(stdout);
    fm_pages_free(a, (size_t)fm_dtype_bytes(d, na), FM_MEM_MISC);
    fm_pages_free(b, (size_t)fm_dtype_bytes(d, nb), FM_MEM_MISC);
    fm_pages_free(c, (size_t)fm_dtype_bytes(cd, nc), FM_MEM_MISC);
    fm_pages_free(packed, (size_t)packed_bytes, FM_MEM_MISC);
}

int main(int argc, char **argv) {
    const int threads = argc > 1 ? atoi(argv[1]) : 0;
    int rounds = argc > 2 ? atoi(argv[2]) : 9;
    rounds = rounds < 1 ? 1 : rounds > MAX_ROUNDS ? MAX_ROUNDS : rounds;
    const char *only = argc > 3 ? argv[3] : "";
    run r = {.be = fm_cpu_backend_isa(fm_cpu_isa())};
    if (!r.be || !r.be->matmul_pack || fm_pool_new(&r.x.pool, threads) != FM_OK ||
        fm_scratch_new(&r.x.scratch) != FM_OK) {
        return 1;
    }
    if (threads == 1) {
        which_clock = CLOCK_THREAD_CPUTIME_ID;
    }
    r.dnnl = *r.be;
    r.dnnl.kernel[FM_K_matmul][FM_F32] = fm_dnnl_matmul_f32;
    r.dnnl.kernel[FM_K_matmul][FM_BF16] = fm_dnnl_matmul_bf16;
    printf("%s, %d threads, GFLOP/s: median/best of %d interleaved rounds (best against best peak)\n", r.be->name,
           fm_pool_threads(r.x.pool), rounds);
    static const fm_dtype dtypes[] = {FM_BF16, FM_F32};
    for (size_t d = 0; d < FM_ARRAY_LEN(dtypes); d++) {
        for (size_t i = 0; i < FM_ARRAY_LEN(shapes); i++) {
            char name[64];
            (void)snprintf(name, sizeof name, "%s %s", fm_dtype_get(dtypes[d])->name, shapes[i].name);
            if (strstr(name, only)) {
                measure(&r, &shapes[i], dtypes[d], rounds);
            }
        }
    }
    fm_scratch_free(r.x.scratch);
    fm_pool_free(r.x.pool);
    return 0;
}
