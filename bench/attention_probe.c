/* Speed of the attention kernels against the peak of the same machine in the same process.
 *
 *   attention_probe [threads]
 *
 * Peak: a loop of independent register products (f32 fused multiply-add, or bf16 pairs) on every thread, measured right
 * before and after each kernel. Causal work counts the visible pairs only: 4 Dh flops forward, 10 Dh backward. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/cpu.h"
#include "base/mem.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* With one thread its own time, which other processes disturb less. */
static clockid_t the_clock = CLOCK_MONOTONIC;
static double now(void) {
    struct timespec t;
    clock_gettime(the_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { PEAK_LOOPS = 1000000, PEAK_CHAINS = 12 };

#if defined(__x86_64__)
#define CHAINS(X)  X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define DECLARE(i) acc##i = zero,
#define HIDE(i)    __asm__("" : "+v"(acc##i)); /* the compiler must not see that all chains are alike */
#define ADD_UP(i)  sum = ADD(sum, acc##i);
/* A part that runs PEAK_CHAINS independent chains in registers; ONE(acc) is one product. */
#define PEAK(name, isa, type, first)                                                                                   \
    __attribute__((target(isa))) static fm_status name(void *arg, int64_t part, int64_t n, int thread) {               \
        (void)n;                                                                                                       \
        (void)thread;                                                                                                  \
        type zero = first;                                                                                             \
        type CHAINS(DECLARE) sum = zero;                                                                               \
        CHAINS(HIDE)                                                                                                   \
        for (int64_t k = 0; k < PEAK_LOOPS; k++) {                                                                     \
            CHAINS(STEP)                                                                                               \
            __asm__ volatile("" : "+v"(zero));                                                                         \
        }                                                                                                              \
        CHAINS(ADD_UP)                                                                                                 \
        memcpy((float *)arg + part, &sum, sizeof(float));                                                              \
        return FM_OK;                                                                                                  \
    }
#define ADD(a, b) _mm512_add_ps(a, b)
#define STEP(i)   acc##i = _mm512_dpbf16_ps(acc##i, (__m512bh)zero, (__m512bh)zero);
PEAK(peak_bf16, "avx512f,avx512bf16", __m512, _mm512_setzero_ps())
#undef STEP
#define STEP(i) acc##i = _mm512_fmadd_ps(zero, zero, acc##i);
PEAK(peak_f32, "avx512f", __m512, _mm512_setzero_ps())
#undef STEP
#undef ADD
#define ADD(a, b) _mm256_add_ps(a, b)
#define STEP(i)   acc##i = _mm256_fmadd_ps(zero, zero, acc##i);
PEAK(peak_f32_avx2, "avx2,fma", __m256, _mm256_setzero_ps())
#endif

static double peak_gflops(fm_pool *pool, fm_isa isa, fm_dtype d) {
#if defined(__x86_64__)
    float sink[256];
    fm_part_fn fn = isa == FM_ISA_AVX2 ? peak_f32_avx2 : d == FM_BF16 ? peak_bf16 : peak_f32;
    double per = (isa == FM_ISA_AVX2 ? 16.0 : d == FM_BF16 ? 64.0 : 32.0) * PEAK_CHAINS;
    int n = fm_pool_threads(pool);
    double best = 0;
    for (int rep = 0; rep < 3; rep++) {
        double t = now();
        if (fm_pool_run(pool, n, fn, sink) != FM_OK) {
            return 0;
        }
        double g = per * PEAK_LOOPS * n / (now() - t) * 1e-9;
        best = g > best ? g : best;
    }
    return best;
#else
    (void)pool;
    (void)isa;
    (void)d;
    return NAN;
#endif
}

/* Pages as the key/value cache and the arenas have them. */
static void *filled(fm_dtype d, int64_t n) {
    void *p;
    if (fm_pages_alloc(&p, (size_t)n * 4 + 64, FM_MEM_MISC) != FM_OK) {
        exit(1);
    }
    uint16_t *half = p; /* one pattern that is a small number in both types */
    uint32_t s = 1;
    for (int64_t i = 0; i < n * 2; i++) {
        s = s * 1664525u + 1013904223u;
        half[i] = (uint16_t)(0x3e00u | (s >> 16 & 0x80ffu));
    }
    (void)d;
    return p;
}

/* Bytes per second that a plain sum over a large array reads, all threads. */
static fm_status read_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    (void)thread;
    const int64_t n = 32 << 20; /* words */
    const uint64_t *p = (const uint64_t *)arg + n / n_parts * part;
    uint64_t sum[8] = {0};
    for (int64_t i = 0; i + 8 <= n / n_parts; i += 8) {
        for (int j = 0; j < 8; j++) {
            sum[j] += p[i + j];
        }
    }
    __asm__ volatile("" ::"r"(sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7]));
    return FM_OK;
}
static double read_gbps(fm_pool *pool) {
    void *p = filled(FM_F32, 64 << 20);
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        double t = now();
        if (fm_pool_run(pool, fm_pool_threads(pool), read_part, p) != FM_OK) {
            return 0;
        }
        t = now() - t;
        best = t < best ? t : best;
    }
    fm_pages_free(p, ((size_t)64 << 20) * 4 + 64, FM_MEM_MISC);
    return (double)(32 << 20) * 8 / best * 1e-9;
}

typedef struct shape {
    const char *name;
    int32_t n_segments, nq, nk, n_heads, n_kv_heads, head_dim;
} shape;

static int time_shape(const fm_backend *be, const fm_exec *x, fm_isa isa, fm_dtype d, const shape *sh) {
    int32_t q_off[257];
    int32_t kv_off[257];
    for (int32_t s = 0; s <= sh->n_segments; s++) {
        q_off[s] = s * sh->nq;
        kv_off[s] = s * sh->nk;
    }
    int64_t nq = (int64_t)q_off[sh->n_segments] * sh->n_heads * sh->head_dim;
    int64_t nk = (int64_t)kv_off[sh->n_segments] * sh->n_kv_heads * sh->head_dim;
    fm_attention_bwd_args b = {0};
    void *dout = filled(d, nq);
    void *q = filled(d, nq);
    void *k = filled(d, nk);
    void *v = filled(d, nk);
    b.f = (fm_attention_args){.n_segments = sh->n_segments,
                              .n_heads = sh->n_heads,
                              .n_kv_heads = sh->n_kv_heads,
                              .head_dim = sh->head_dim,
                              .v_dim = sh->head_dim,
                              .q_offsets = q_off,
                              .q = q,
                              .mask = FM_MASK_CAUSAL,
                              .scale = 1.0F / sqrtf((float)sh->head_dim)};
    b.f.kv = (fm_kv_view){.k = k,
                          .v = v,
                          .dtype = d,
                          .kv_offsets = kv_off,
                          .k_stride = (int64_t)sh->n_kv_heads * sh->head_dim,
                          .v_stride = (int64_t)sh->n_kv_heads * sh->head_dim};
    b.f.out = filled(d, nq);
    b.f.lse = filled(FM_F32, nq);
    b.dout = dout;
    b.dq = filled(d, nq);
    b.dk = filled(d, nk);
    b.dv = filled(d, nk);
    double pairs = 0;
    for (int32_t i = 0; i < sh->nq; i++) {
        pairs += sh->nk - sh->nq + i + 1;
    }
    pairs *= (double)sh->n_segments * sh->n_heads;
    for (int dir = 0; dir < (sh->nq == 1 ? 1 : 2); dir++) {
        fm_kernel kernel = dir == 0 ? FM_K_attention_fwd : FM_K_attention_bwd;
        double peak = peak_gflops(x->pool, isa, d);
        double best = 1e9;
        for (int rep = 0; rep < 11; rep++) {
            double t = now();
            if (fm_kernel_run(be, x, kernel, d, dir == 0 ? (void *)&b.f : (void *)&b) != FM_OK) {
                return 1;
            }
            t = now() - t;
            best = t < best ? t : best;
        }
        double after = peak_gflops(x->pool, isa, d);
        peak = after > peak ? after : peak;
        double gflops = pairs * sh->head_dim * (dir == 0 ? 4 : 10) / best * 1e-9;
        if (sh->nq == 1) {
            double gbps = 2.0 * (double)nk * (d == FM_BF16 ? 2 : 4) / best * 1e-9;
            printf("%-7s %-5s %-34s decode %8.3f ms %7.1f GB/s of %.1f\n", fm_isa_name(isa), fm_dtype_get(d)->name,
                   sh->name, best * 1e3, gbps, read_gbps(x->pool));
        } else {
            printf("%-7s %-5s %-34s %s %8.3f ms %7.1f GFLOP/s of %7.1f = %4.1f%%\n", fm_isa_name(isa),
                   fm_dtype_get(d)->name, sh->name, dir == 0 ? "fwd" : "bwd", best * 1e3, gflops, peak,
                   100 * gflops / peak);
        }
        fflush(stdout);
    }
    void *all[] = {dout, q, k, v, b.f.out, b.f.lse, b.dq, b.dk, b.dv};
    const int64_t sizes[] = {nq, nq, nk, nk, nq, nq, nq, nk, nk};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        fm_pages_free(all[i], (size_t)sizes[i] * 4 + 64, FM_MEM_MISC);
    }
    return 0;
}

int main(int argc, char **argv) {
    const shape shapes[] = {
        {"8 x 512, 8 heads of 64", 8, 512, 512, 8, 8, 64},
        {"4 x 512, 12 heads of 64", 4, 512, 512, 12, 12, 64},
        {"4 x 512, 8 heads of 64, 2 kv", 4, 512, 512, 8, 2, 64},
        {"4 x 512, 8 heads of 128", 4, 512, 512, 8, 8, 128},
        {"4 x 512, 8 heads of 80", 4, 512, 512, 8, 8, 80},
        {"4 x 512, 8 heads of 96", 4, 512, 512, 8, 8, 96},
        {"4 x 512, 8 heads of 32", 4, 512, 512, 8, 8, 32},
        {"4 x 512, 8 heads of 40", 4, 512, 512, 8, 8, 40},
        {"1 x 4096, 2 heads of 64", 1, 4096, 4096, 2, 2, 64},
        {"16 x 1 of 8192, 8 heads, 8 kv of 64", 16, 1, 8192, 8, 8, 64},
        {"16 x 1 of 8192, 8 heads, 2 kv of 128", 16, 1, 8192, 8, 2, 128},
    };
    fm_exec x = {0};
    if (fm_pool_new(&x.pool, argc > 1 ? atoi(argv[1]) : 2) != FM_OK || fm_scratch_new(&x.scratch) != FM_OK) {
        return 1;
    }
    if (fm_pool_threads(x.pool) == 1) {
        the_clock = CLOCK_THREAD_CPUTIME_ID;
    }
    const char *only = argc > 2 ? argv[2] : ""; /* isa, then type, then a part of the shape's name */
    for (int isa = FM_ISA_COUNT - 1; isa > FM_ISA_REF; isa--) {
        const fm_backend *be = fm_cpu_backend_isa((fm_isa)isa);
        for (fm_dtype d = FM_F32; d <= FM_BF16; d++) {
            for (size_t i = 0; be != NULL && i < sizeof shapes / sizeof shapes[0]; i++) {
                char label[128];
                snprintf(label, sizeof label, "%s %s %s", fm_isa_name((fm_isa)isa), fm_dtype_get(d)->name,
                         shapes[i].name);
                if (strstr(label, only) != NULL && time_shape(be, &x, (fm_isa)isa, d, &shapes[i]) != 0) {
                    return 1;
                }
            }
        }
    }
    fm_scratch_free(x.scratch);
    fm_pool_free(x.pool);
    return 0;
}
