/* bench ops: kernels at the sizes of a training step. Memory-bound ones against the read bandwidth, attention against
 * the matrix-product rate. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ceiling.h"
#include "base/error.h"
#include "base/file.h"
#include "measure/measure.h"

#define T        4096
#define D        768
#define F        2048
#define V        16384
#define MAX_RUNS 256

typedef struct bufs {
    fm_dtype d;
    void *a, *b, *c, *e, *g; /* [T,F] of d each */
    float *stat, *grad;      /* f32: [T] and [V,64] */
    float *logits;           /* [256,V] */
    int32_t *ids, *pos;
    double freq[64];
    int32_t offsets[T / 512 + 1];
} bufs;

typedef struct probe {
    const char *name;
    fm_kernel kernel;
    double bytes; /* moved per call, in units of 1 byte; 0 = count flops instead */
    double flops;
    const void *args;
    fm_dtype dtype;
} probe;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static fm_status time_probe(const fm_bench_env *e, const probe *p, double seconds, double *median) {
    double s[MAX_RUNS];
    int n = 0;
    FM_TRY(fm_kernel_run(e->backend, &e->exec, p->kernel, p->dtype, p->args));
    for (double start = fm_now(); n < MAX_RUNS && (n < 5 || fm_now() - start < seconds);) {
        double t = fm_now();
        FM_TRY(fm_kernel_run(e->backend, &e->exec, p->kernel, p->dtype, p->args));
        s[n++] = fm_now() - t;
    }
    qsort(s, (size_t)n, sizeof s[0], by_value);
    *median = s[n / 2];
    return FM_OK;
}

static void prepare(bufs *b, uint8_t *mem) {
    size_t plane = (size_t)T * F * sizeof(float);
    void **slot[] = {&b->a, &b->b, &b->c, &b->e, &b->g};
    for (int i = 0; i < 5; i++) {
        *slot[i] = mem + (size_t)i * plane;
        for (int64_t k = 0; k < (int64_t)T * F; k++) {
            fm_store_from_f64(b->d, *slot[i], k, (double)((k * 7 + i) % 11 - 5) / 8);
        }
    }
    b->stat = (float *)(void *)(mem + 5 * plane);
    b->grad = b->stat + T;
    b->logits = b->grad + V * 64;
    b->ids = (int32_t *)(void *)(b->logits + 256 * V);
    b->pos = b->ids + T;
    for (int64_t i = 0; i < 256 * V; i++) {
        b->logits[i] = (float)(i % 17) / 4;
    }
    for (int32_t i = 0; i < T; i++) {
        b->stat[i] = 1;
        b->ids[i] = (int32_t)(((int64_t)i * 7919) % V);
        b->pos[i] = i % 512;
    }
    for (int i = 0; i < 32; i++) {
        b->freq[i] = pow(10000, -2.0 * i / 64);
    }
    for (int i = 0; i <= T / 512; i++) {
        b->offsets[i] = i * 512;
    }
}

#define BUFS_BYTES ((size_t)T * F * 4 * 5 + (size_t)(T + V * 64 + 256 * V) * 4 + (size_t)T * 8)

static fm_status run_dtype(const fm_bench_env *e, fm_dtype d, double seconds, double bandwidth, double flops, bufs *b,
                           fm_bench_fn fn, void *user) {
    double w = (double)fm_dtype_bytes(d, 1), td = (double)T * D * w, tf = (double)T * F * w;
    fm_norm_args norm = {.n_rows = T,
                         .dim = D,
                         .eps = 1e-6f,
                         .x = b->a,
                         .res = b->b,
                         .w = b->c,
                         .sum = b->e,
                         .y = b->g,
                         .rstd = b->stat};
    fm_norm_bwd_args norm_b = {.n_rows = T,
                               .dim = D,
                               .x = b->a,
                               .w = b->c,
                               .rstd = b->stat,
                               .dy = b->b,
                               .dsum = b->e,
                               .dx = b->g,
                               .dw = b->grad};
    fm_rope_args rope = {.n_tokens = T,
                         .n_heads = D / 64,
                         .head_dim = 64,
                         .n_freqs = 32,
                         .sign = 1,
                         .mscale = 1,
                         .pos = b->pos,
                         .freq = b->freq,
                         .x = b->a,
                         .y = b->e};
    fm_glu_args glu = {.n = (int64_t)T * F, .act = FM_ACT_SILU, .gate = b->a, .up = b->b, .y = b->e};
    fm_glu_bwd_args glu_b = {
        .n = (int64_t)T * F, .act = FM_ACT_SILU, .gate = b->a, .up = b->b, .dy = b->c, .dgate = b->e, .dup = b->g};
    fm_binary_args add = {.n = (int64_t)T * D, .a = b->a, .b = b->b, .y = b->e};
    fm_dropout_args drop = {.n_tokens = T, .dim = D, .p = 0.1, .x = b->a, .y = b->e};
    fm_embedding_args emb = {.n_tokens = T, .dim = 64, .n_vocab = V, .ids = b->ids, .w = b->a, .y = b->e};
    fm_cross_entropy_args ce = {.n_rows = 256,
                                .n_classes = V,
                                .x = b->logits,
                                .x_stride = V,
                                .target = b->ids,
                                .ignore_index = -100,
                                .dscale = 1,
                                .dx = b->e,
                                .dx_stride = V,
                                .loss = b->stat};
    fm_attention_args att = {
        .n_segments = T / 512,
        .n_heads = D / 64,
        .n_kv_heads = D / 64,
        .head_dim = 64,
        .v_dim = 64,
        .q_offsets = b->offsets,
        .q = b->a,
        .kv = {.k = b->b, .v = b->c, .dtype = d, .k_stride = D, .v_stride = D, .kv_offsets = b->offsets},
        .scale = 0.125f,
        .out = b->e,
        .lse = b->grad};
    fm_attention_bwd_args att_b = {.f = att,
                                   .dout = b->g,
                                   .dq = (uint8_t *)b->a + (size_t)td,
                                   .dk = (uint8_t *)b->b + (size_t)td,
                                   .dv = (uint8_t *)b->c + (size_t)td};
    double att_flops = 4.0 * T * 512 / 2 * D;
    const probe probes[] = {
        {"add_rmsnorm", FM_K_rmsnorm_fwd, 4 * td, 0, &norm, d},
        {"rmsnorm.bwd", FM_K_rmsnorm_bwd, 4 * td, 0, &norm_b, d},
        {"rope", FM_K_rope, 2 * td, 0, &rope, d},
        {"swiglu", FM_K_glu_fwd, 3 * tf, 0, &glu, d},
        {"swiglu.bwd", FM_K_glu_bwd, 5 * tf, 0, &glu_b, d},
        {"add", FM_K_add, 3 * td, 0, &add, d},
        {"dropout", FM_K_dropout, 2 * td, 0, &drop, d},
        {"embedding", FM_K_embedding_fwd, 2.0 * T * 64 * w, 0, &emb, d},
        {"cross_entropy", FM_K_cross_entropy, 256.0 * V * (4 + w), 0, &ce, d},
        {"attention.fwd", FM_K_attention_fwd, 0, att_flops, &att, d},
        {"attention.bwd", FM_K_attention_bwd, 0, att_flops * 2.5, &att_b, d},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(probes); i++) {
        const probe *p = &probes[i];
        double s;
        FM_TRY(time_probe(e, p, seconds, &s));
        if (p->flops > 0) {
            fm_bench_emit(fn, user, p->flops / s * 1e-9, "GFLOP/s", p->flops / s / flops, "best 1024^3 (causal count)",
                          "ops.%s.%s", p->name, fm_dtype_get(d)->name);
        } else {
            fm_bench_emit(fn, user, p->bytes / s * 1e-9, "GB/s", p->bytes / s / bandwidth, "memory read", "ops.%s.%s",
                          p->name, fm_dtype_get(d)->name);
        }
    }
    return FM_OK;
}

static fm_status run_adamw(const fm_bench_env *e, double seconds, double bandwidth, uint8_t *mem, fm_bench_fn fn,
                           void *user) {
    int64_t n = (int64_t)8 << 20;
    float *p = (float *)(void *)mem;
    fm_adamw_args a = {.n = n,
                       .w = p,
                       .g = p + n,
                       .m = p + 2 * n,
                       .v = p + 3 * n,
                       .w_bf16 = (uint16_t *)(void *)(p + 4 * n),
                       .lr = 1e-4,
                       .beta1 = 0.9,
                       .beta2 = 0.95,
                       .eps = 1e-8,
                       .bias1 = 0.1,
                       .bias2 = 0.05,
                       .grad_scale = 1};
    memset(mem, 0, (size_t)n * 18);
    probe pr = {"adamw", FM_K_adamw, (double)n * 30, 0, &a, FM_F32};
    double s;
    FM_TRY(time_probe(e, &pr, seconds, &s));
    fm_bench_emit(fn, user, pr.bytes / s * 1e-9, "GB/s", pr.bytes / s / bandwidth, "memory read", "ops.adamw.f32");
    return FM_OK;
}

static fm_status run(const fm_bench_options *o, fm_bench_fn fn, void *user) {
    fm_bench_env e;
    fm_dtype dtype[2];
    int n = fm_bench_dtypes(o, dtype);
    FM_TRY(fm_bench_env_init(&e, o));
    void *mem = NULL;
    bufs *b = fm_calloc(1, sizeof *b);
    double bandwidth = 1;
    fm_status s = b ? fm_pages_alloc(&mem, BUFS_BYTES, FM_MEM_SCRATCH) : FM_ERR_NO_MEMORY;
    if (s == FM_OK) {
        s = fm_ceiling_read(e.pool, 0.5, &bandwidth);
    }
    for (int i = 0; i < n && s == FM_OK; i++) {
        double flops = 0;
        b->d = dtype[i];
        prepare(b, mem);
        s = fm_ceiling_matmul(e.backend, &e.exec, dtype[i], 0.5, &flops);
        if (s == FM_OK) {
            s = run_dtype(&e, dtype[i], o->seconds / 12, bandwidth, flops, b, fn, user);
        }
    }
    if (s == FM_OK) {
        s = run_adamw(&e, o->seconds / 12, bandwidth, mem, fn, user);
    }
    if (mem) {
        fm_pages_free(mem, BUFS_BYTES, FM_MEM_SCRATCH);
    }
    fm_free(b);
    fm_bench_env_deinit(&e);
    return s;
}

const fm_bench fm_bench_ops = {.name = "ops", .summary = "kernels at the sizes of a training step", .run = run};
