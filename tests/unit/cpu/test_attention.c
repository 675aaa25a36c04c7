/* Attention kernels against a brute-force computation in double, and bit for bit against themselves: decode
 * against prefill, paged against contiguous, one thread against three. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/error.h"
#include "../../quick.h"

#define MAX_SEGMENTS 4

typedef struct shape {
    const char *name;
    int32_t n_segments, nq[MAX_SEGMENTS], nk[MAX_SEGMENTS];
    int32_t n_heads, n_kv_heads, head_dim, v_dim;
    fm_mask_kind mask;
    int32_t window;
    float softcap;
    bool alibi, sink;
    float scale; /* 0 = 1/sqrt(head_dim) */
} shape;

static const shape shapes[] = {
    {"one token", 1, {1}, {1}, 1, 1, 1, 1, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"tile borders", 3, {64, 65, 63}, {64, 65, 63}, 2, 2, 64, 64, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"grouped", 2, {37, 90}, {37, 90}, 8, 2, 64, 64, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"several blocks", 1, {301}, {301}, 2, 1, 32, 32, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"odd widths", 2, {33, 70}, {33, 70}, 3, 1, 41, 19, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"width 80", 1, {130}, {130}, 2, 2, 80, 80, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"width 96, 128", 1, {75}, {75}, 2, 1, 96, 128, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"width 3, 1", 1, {75}, {75}, 2, 1, 3, 1, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"full", 2, {50, 7}, {50, 7}, 2, 2, 40, 40, FM_MASK_FULL, 0, 0, false, false, 0},
    {"full, own lengths", 3, {5, 80, 3}, {140, 33, 0}, 2, 1, 24, 24, FM_MASK_FULL, 0, 0, false, false, 0},
    {"more keys", 2, {9, 70}, {150, 200}, 4, 2, 64, 64, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"rows without keys", 2, {100, 5}, {30, 0}, 2, 2, 64, 64, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"rows without keys, sink", 2, {100, 5}, {30, 0}, 2, 2, 64, 64, FM_MASK_CAUSAL, 0, 0, false, true, 0},
    {"empty segment", 3, {10, 0, 20}, {10, 0, 20}, 2, 2, 16, 16, FM_MASK_CAUSAL, 0, 0, false, false, 0},
    {"window", 2, {200, 61}, {200, 61}, 2, 1, 64, 64, FM_MASK_CAUSAL, 37, 0, false, false, 0},
    {"window 1", 1, {70}, {70}, 1, 1, 8, 8, FM_MASK_CAUSAL, 1, 0, false, false, 0},
    {"window, full mask", 1, {90}, {150}, 1, 1, 16, 16, FM_MASK_FULL, 70, 0, false, false, 0},
    {"alibi", 2, {70, 20}, {70, 40}, 4, 2, 64, 64, FM_MASK_CAUSAL, 0, 0, true, false, 0},
    {"softcap", 1, {100}, {100}, 2, 1, 64, 64, FM_MASK_CAUSAL, 0, 2.5F, false, false, 0.7F},
    {"sink", 2, {70, 3}, {70, 90}, 4, 2, 64, 64, FM_MASK_CAUSAL, 0, 0, false, true, 0},
    {"everything", 2, {70, 30}, {110, 30}, 6, 2, 37, 50, FM_MASK_CAUSAL, 45, 3.0F, true, true, 0},
    {"negative scale", 1, {40}, {40}, 2, 2, 16, 16, FM_MASK_CAUSAL, 0, 0, false, false, -0.3F},
};

/* Quick: the large shapes with one type only, in turn. */
static bool left_out(size_t i, fm_dtype d) {
    const shape *s = &shapes[i];
    int64_t size = 0;
    for (int32_t k = 0; k < s->n_segments; k++) {
        size += (int64_t)s->nq[k] * s->nk[k] * s->n_heads * s->head_dim;
    }
    return test_quick() && size > 400000 && (i % 2 == 0) != (d == FM_F32);
}

/* ---- one problem: arguments, inputs and outputs on the heap ---- */

typedef struct problem {
    const shape *sh;
    fm_dtype d, kv_d;
    int64_t n_q, n_k;
    int32_t q_off[MAX_SEGMENTS + 1], kv_off[MAX_SEGMENTS + 1];
    float alibi[16];
    fm_attention_bwd_args b;
    int64_t size_q, size_k, size_v, size_o;
    void *q, *k, *v, *sink, *dout; /* inputs */
    void *out, *dq, *dk, *dv;      /* outputs */
    float *lse, *dsink;
} problem;

static uint64_t rng_state = 1;
static double rnd(void) {
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(rng_state >> 11) / 4503599627370496.0 - 1.0;
}
static int64_t elem_bytes(fm_dtype d) {
    return fm_dtype_get(d)->block_bytes;
}
static void *array(fm_dtype d, int64_t n, double amplitude) {
    void *p = malloc((size_t)(n * elem_bytes(d)) + 64);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++) {
        fm_store_from_f64(d, p, i, amplitude * rnd());
    }
    return p;
}

static void problem_init(problem *p, const shape *sh, fm_dtype d, fm_dtype kv_d) {
    memset(p, 0, sizeof *p);
    p->sh = sh;
    p->d = d;
    p->kv_d = kv_d;
    for (int32_t s = 0; s < sh->n_segments; s++) {
        p->q_off[s + 1] = p->q_off[s] + sh->nq[s];
        p->kv_off[s + 1] = p->kv_off[s] + sh->nk[s];
    }
    p->n_q = p->q_off[sh->n_segments];
    p->n_k = p->kv_off[sh->n_segments];
    p->size_q = p->n_q * sh->n_heads * sh->head_dim;
    p->size_o = p->n_q * sh->n_heads * sh->v_dim;
    p->size_k = p->n_k * sh->n_kv_heads * sh->head_dim;
    p->size_v = p->n_k * sh->n_kv_heads * sh->v_dim;
    p->q = array(d, p->size_q, 1.5);
    p->k = array(kv_d, p->size_k, 1.5);
    p->v = array(kv_d, p->size_v, 1.0);
    p->sink = array(d, sh->n_heads, 1.0);
    p->dout = array(d, p->size_o, 1.0);
    p->out = array(d, p->size_o, 1.0);
    p->dq = array(d, p->size_q, 1.0);
    p->dk = array(d, p->size_k, 1.0);
    p->dv = array(d, p->size_v, 1.0);
    p->lse = array(FM_F32, p->n_q * sh->n_heads, 1.0);
    p->dsink = array(FM_F32, sh->n_heads, 1.0);
    for (int32_t h = 0; h < sh->n_heads; h++) {
        p->alibi[h] = 0.3F / (float)(1 << h);
    }
    fm_attention_args *f = &p->b.f;
    f->n_segments = sh->n_segments;
    f->n_heads = sh->n_heads;
    f->n_kv_heads = sh->n_kv_heads;
    f->head_dim = sh->head_dim;
    f->v_dim = sh->v_dim;
    f->q_offsets = p->q_off;
    f->q = p->q;
    f->kv.k = p->k;
    f->kv.v = p->v;
    f->kv.dtype = kv_d;
    f->kv.k_stride = (int64_t)sh->n_kv_heads * sh->head_dim;
    f->kv.v_stride = (int64_t)sh->n_kv_heads * sh->v_dim;
    f->kv.kv_offsets = p->kv_off;
    f->mask = sh->mask;
    f->window = sh->window;
    f->scale = sh->scale != 0.0F ? sh->scale : 1.0F / sqrtf((float)sh->head_dim);
    f->softcap = sh->softcap;
    f->alibi = sh->alibi ? p->alibi : NULL;
    f->sink = sh->sink ? p->sink : NULL;
    f->out = p->out;
    f->lse = p->lse;
    p->b.dout = p->dout;
    p->b.dq = p->dq;
    p->b.dk = p->dk;
    p->b.dv = p->dv;
    p->b.dsink = sh->sink ? p->dsink : NULL;
}

static void problem_free(problem *p) {
    void *all[] = {p->q, p->k, p->v, p->sink, p->dout, p->out, p->dq, p->dk, p->dv, p->lse, p->dsink};
    for (size_t i = 0; i < FM_ARRAY_LEN(all); i++) {
        free(all[i]);
    }
}

static void run(const fm_backend *be, fm_pool *pool, fm_kernel k, fm_dtype d, const void *args) {
    fm_exec x = {pool, NULL};
    assert_int_equal(fm_scratch_new(&x.scratch), FM_OK);
    assert_int_equal(fm_kernel_run(be, &x, k, d, args), FM_OK);
    fm_scratch_free(x.scratch);
}

/* ---- brute force ---- */

typedef struct expected {
    double *out, *lse, *dq, *dk, *dv, *dsink;
} expected;

static double *zeros(int64_t n) {
    double *p = calloc((size_t)n + 1, sizeof *p);
    assert_non_null(p);
    return p;
}

static double dot_at(fm_dtype da, const void *a, int64_t ia, fm_dtype db, const void *b, int64_t ib, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += fm_load_as_f64(da, a, ia + i) * fm_load_as_f64(db, b, ib + i);
    }
    return sum;
}

/* Query i of segment s, head h. */
static void brute_row(const problem *p, expected *e, int32_t s, int64_t i, int32_t h) {
    const fm_attention_args *f = &p->b.f;
    int64_t nq = p->q_off[s + 1] - p->q_off[s];
    int64_t nk = p->kv_off[s + 1] - p->kv_off[s];
    int64_t pos = nk - nq + i;
    int64_t kv_head = h / (f->n_heads / f->n_kv_heads);
    int64_t row = (p->q_off[s] + i) * f->n_heads + h;
    double *sc = zeros(nk);
    double *slope = zeros(nk); /* d(score) / d(scale q.k) */
    double *prob = zeros(nk);
    double *dp = zeros(nk);
    double top = -INFINITY;
    for (int64_t j = 0; j < nk; j++) {
        bool seen = !(f->mask == FM_MASK_CAUSAL && j > pos) && !(f->window > 0 && j <= pos - f->window);
        int64_t kr = (p->kv_off[s] + j) * f->n_kv_heads + kv_head;
        double x =
            (double)f->scale * dot_at(p->d, f->q, row * f->head_dim, p->kv_d, p->k, kr * f->head_dim, f->head_dim);
        slope[j] = 1;
        if (f->softcap > 0) {
            double t = tanh(x / (double)f->softcap);
            x = (double)f->softcap * t;
            slope[j] = 1 - t * t;
        }
        if (f->alibi != NULL) {
            x += (double)f->alibi[h] * (double)(j - pos);
        }
        sc[j] = seen ? x : -INFINITY;
        top = sc[j] > top ? sc[j] : top;
        dp[j] = dot_at(p->d, p->dout, row * f->v_dim, p->kv_d, p->v, kr * f->v_dim, f->v_dim);
    }
    double sink = f->sink != NULL ? fm_load_as_f64(p->d, f->sink, h) : -INFINITY;
    top = sink > top ? sink : top;
    double sum = top == -INFINITY ? 0 : exp(sink - top);
    for (int64_t j = 0; j < nk && top != -INFINITY; j++) {
        prob[j] = exp(sc[j] - top);
        sum += prob[j];
    }
    double mean = 0;
    for (int64_t j = 0; j < nk; j++) {
        prob[j] = sum > 0 ? prob[j] / sum : 0;
        mean += prob[j] * dp[j];
    }
    e->lse[row] = sum > 0 ? top + log(sum) : -INFINITY;
    if (f->sink != NULL) {
        e->dsink[h] -= exp(sink - e->lse[row]) * mean;
    }
    for (int64_t j = 0; j < nk; j++) {
        int64_t kr = (p->kv_off[s] + j) * f->n_kv_heads + kv_head;
        double ds = prob[j] * (dp[j] - mean) * slope[j] * (double)f->scale;
        for (int64_t c = 0; c < f->v_dim; c++) {
            e->out[row * f->v_dim + c] += prob[j] * fm_load_as_f64(p->kv_d, p->v, kr * f->v_dim + c);
            e->dv[kr * f->v_dim + c] += prob[j] * fm_load_as_f64(p->d, p->dout, row * f->v_dim + c);
        }
        for (int64_t c = 0; c < f->head_dim; c++) {
            e->dq[row * f->head_dim + c] += ds * fm_load_as_f64(p->kv_d, p->k, kr * f->head_dim + c);
            e->dk[kr * f->head_dim + c] += ds * fm_load_as_f64(p->d, p->q, row * f->head_dim + c);
        }
    }
    free(sc);
    free(slope);
    free(prob);
    free(dp);
}

static void brute(const problem *p, expected *e) {
    *e = (expected){zeros(p->size_o), zeros(p->n_q * p->sh->n_heads), zeros(p->size_q), zeros(p->size_k),
                    zeros(p->size_v), zeros(p->sh->n_heads)};
    for (int32_t s = 0; s < p->sh->n_segments; s++) {
        for (int64_t i = 0; i < p->sh->nq[s]; i++) {
            for (int32_t h = 0; h < p->sh->n_heads; h++) {
                brute_row(p, e, s, i, h);
            }
        }
    }
}
static void expected_free(expected *e) {
    double *all[] = {e->out, e->lse, e->dq, e->dk, e->dv, e->dsink};
    for (size_t i = 0; i < FM_ARRAY_LEN(all); i++) {
        free(all[i]);
    }
}

/* Error of the whole array (2-norm) below tol, of each element below 8 tol of the largest; elements count as 0.1
 * at least, for gradients that cancel. `base` is what was there before (accumulation) or NULL. */
static void check(const char *what, const char *name, const char *isa, fm_dtype d, const void *got, const void *base,
                  const double *want, int64_t n, double tol) {
    double err = 0;
    double norm = 0;
    double worst = 0;
    double most = 0.1;
    for (int64_t i = 0; i < n; i++) {
        double w = want[i] + (base != NULL ? fm_load_as_f64(d, base, i) : 0.0);
        double g = fm_load_as_f64(d, got, i);
        if (isinf(w) && w == g) {
            continue;
        }
        double diff = fabs(g - w);
        if (!(diff < 1e30)) {
            fail_msg("%s, %s, %s: element %lld is %g, expected %g", name, isa, what, (long long)i, g, w);
        }
        err += diff * diff;
        norm += w * w + 0.01;
        worst = diff > worst ? diff : worst;
        most = fabs(w) > most ? fabs(w) : most;
    }
    if (sqrt(err) > tol * sqrt(norm) || worst > 8 * tol * most) {
        fail_msg("%s, %s, %s: error %g of norm %g, largest %g of %g (tolerance %g)", name, isa, what, sqrt(err),
                 sqrt(norm), worst, most, tol);
    }
}

static const fm_backend *backend_of(fm_isa isa, fm_kernel k, fm_dtype d) {
    const fm_backend *be = fm_cpu_backend_isa(isa);
    return be != NULL && be->kernel[k][d] != NULL ? be : NULL;
}

/* ---- values ---- */

static void check_forward(const problem *p, const expected *e, const char *isa, double tol) {
    check("out", p->sh->name, isa, p->d, p->out, NULL, e->out, p->size_o, tol);
    check("lse", p->sh->name, isa, FM_F32, p->lse, NULL, e->lse, p->n_q * p->sh->n_heads, 1e-5);
}

static void values(fm_dtype d, double tol) {
    for (size_t i = 0; i < FM_ARRAY_LEN(shapes); i++) {
        problem p;
        expected e;
        if (left_out(i, d)) {
            continue;
        }
        problem_init(&p, &shapes[i], d, d);
        brute(&p, &e);
        for (int isa = 0; isa < FM_ISA_COUNT; isa++) {
            const fm_backend *be = backend_of((fm_isa)isa, FM_K_attention_fwd, d);
            if (be == NULL) {
                continue;
            }
            const char *in = fm_isa_name((fm_isa)isa);
            run(be, NULL, FM_K_attention_fwd, d, &p.b.f);
            check_forward(&p, &e, in, tol);
            be = backend_of((fm_isa)isa, FM_K_attention_bwd, d);
            if (be == NULL) {
                continue;
            }
            float before[16];
            memcpy(before, p.dsink, (size_t)p.sh->n_heads * 4);
            run(be, NULL, FM_K_attention_bwd, d, &p.b);
            check("dq", p.sh->name, in, d, p.dq, NULL, e.dq, p.size_q, 2 * tol);
            check("dk", p.sh->name, in, d, p.dk, NULL, e.dk, p.size_k, 2 * tol);
            check("dv", p.sh->name, in, d, p.dv, NULL, e.dv, p.size_v, 2 * tol);
            if (p.sh->sink) {
                check("dsink", p.sh->name, in, FM_F32, p.dsink, before, e.dsink, p.sh->n_heads, 2 * tol);
            }
        }
        expected_free(&e);
        problem_free(&p);
    }
}
static void test_values_f32(void **state) {
    (void)state;
    values(FM_F32, 2e-6);
}
static void test_values_bf16(void **state) {
    (void)state;
    values(FM_BF16, 6e-3);
}

/* Keys and values of another type than the queries. */
static void test_mixed_types(void **state) {
    (void)state;
    const fm_dtype types[][2] = {{FM_F32, FM_BF16}, {FM_BF16, FM_F32}, {FM_F32, FM_F16}};
    for (size_t t = 0; t < FM_ARRAY_LEN(types); t++) {
        for (size_t i = 1; i < 5; i++) {
            problem p;
            expected e;
            problem_init(&p, &shapes[i], types[t][0], types[t][1]);
            brute(&p, &e);
            for (int isa = FM_ISA_REF + 1; isa < FM_ISA_COUNT; isa++) {
                const fm_backend *be = backend_of((fm_isa)isa, FM_K_attention_fwd, p.d);
                if (be != NULL) {
                    run(be, NULL, FM_K_attention_fwd, p.d, &p.b.f);
                    check_forward(&p, &e, fm_isa_name((fm_isa)isa), p.d == FM_F32 ? 2e-6 : 6e-3);
                }
            }
            expected_free(&e);
            problem_free(&p);
        }
    }
}

static void test_rows_without_keys(void **state) {
    (void)state;
    const shape sh = {"", 1, {100}, {30}, 2, 2, 64, 64, FM_MASK_CAUSAL, 0, 0, false, false, 0};
    for (int isa = 0; isa < FM_ISA_COUNT; isa++) {
        for (fm_dtype d = FM_F32; d <= FM_BF16; d++) {
            const fm_backend *be = backend_of((fm_isa)isa, FM_K_attention_bwd, d);
            if (be == NULL) {
                continue;
            }
            problem p;
            problem_init(&p, &sh, d, d);
            run(be, NULL, FM_K_attention_fwd, d, &p.b.f);
            run(be, NULL, FM_K_attention_bwd, d, &p.b);
            for (int64_t i = 0; i < 70 * 2; i++) {
                assert_true(p.lse[i] == -INFINITY);
                for (int64_t c = 0; c < 64; c++) {
                    assert_true(fm_load_as_f64(d, p.out, i * 64 + c) == 0.0);
                    assert_true(fm_load_as_f64(d, p.dq, i * 64 + c) == 0.0);
                }
            }
            problem_free(&p);
        }
    }
}

/* += into gradients that hold something, and gradients that are not wanted. */
static void test_accumulate(void **state) {
    (void)state;
    for (int isa = 0; isa < FM_ISA_COUNT; isa++) {
        const fm_backend *be = backend_of((fm_isa)isa, FM_K_attention_bwd, FM_F32);
        if (be == NULL) {
            continue;
        }
        problem p;
        expected e;
        problem_init(&p, &shapes[4], FM_F32, FM_F32);
        brute(&p, &e);
        run(be, NULL, FM_K_attention_fwd, FM_F32, &p.b.f);
        float *dq = malloc((size_t)p.size_q * 4);
        float *dk = malloc((size_t)p.size_k * 4);
        float *dv = malloc((size_t)p.size_v * 4);
        assert_true(dq != NULL && dk != NULL && dv != NULL);
        memcpy(dq, p.dq, (size_t)p.size_q * 4);
        memcpy(dk, p.dk, (size_t)p.size_k * 4);
        memcpy(dv, p.dv, (size_t)p.size_v * 4);
        p.b.acc_dq = p.b.acc_dk = p.b.acc_dv = true;
        fm_attention_bwd_args only_q = p.b;
        fm_attention_bwd_args only_kv = p.b;
        only_q.dk = only_q.dv = NULL;
        only_kv.dq = NULL;
        run(be, NULL, FM_K_attention_bwd, FM_F32, &only_q);
        assert_memory_equal(p.dk, dk, (size_t)p.size_k * 4);
        run(be, NULL, FM_K_attention_bwd, FM_F32, &only_kv);
        const char *in = fm_isa_name((fm_isa)isa);
        check("dq", "accumulate", in, FM_F32, p.dq, dq, e.dq, p.size_q, 2e-6);
        check("dk", "accumulate", in, FM_F32, p.dk, dk, e.dk, p.size_k, 2e-6);
        check("dv", "accumulate", in, FM_F32, p.dv, dv, e.dv, p.size_v, 2e-6);
        free(dq);
        free(dk);
        free(dv);
        expected_free(&e);
        problem_free(&p);
    }
}

/* ---- bits ---- */

/* Row stride of keys and values in the decode caches, wider than the heads need. */
#define EXTRA 5

/* All but the cache of the arguments for segment 0 with keys 0..n and the last `m` queries of them. */
static fm_attention_args decode_args(const problem *p, int32_t *offsets, int64_t n, int64_t m, void *out, float *lse) {
    fm_attention_args f = p->b.f;
    offsets[0] = 0;
    offsets[1] = (int32_t)m;
    offsets[2] = 0;
    offsets[3] = (int32_t)n;
    f.n_segments = 1;
    f.q_offsets = offsets;
    f.kv.kv_offsets = offsets + 2;
    f.q = (const char *)p->q + (n - m) * f.n_heads * f.head_dim * elem_bytes(p->d);
    f.out = out;
    f.lse = lse;
    return f;
}

/* The queries of one segment, one by one and in odd chunks, with a contiguous and a paged cache, against one call. */
static void decode_equals_prefill(const fm_backend *be, fm_pool *pool, const shape *sh, fm_dtype d, fm_dtype kv_d) {
    problem p;
    problem_init(&p, sh, d, kv_d);
    run(be, pool, FM_K_attention_fwd, d, &p.b.f);
    const int64_t n = sh->nk[0];
    const int32_t block = 7;
    const int64_t row_o = (int64_t)sh->n_heads * sh->v_dim * elem_bytes(d);
    const int64_t es = elem_bytes(kv_d);
    const int64_t row_k = p.b.f.kv.k_stride * es;
    const int64_t row_v = p.b.f.kv.v_stride * es;
    const int32_t n_blocks = (int32_t)((n + block - 1) / block);
    /* Pages in reverse order; NaN wherever no key is. */
    int32_t *table = malloc((size_t)n_blocks * 4);
    const int64_t k_page = (row_k + EXTRA * es);
    const int64_t v_page = (row_v + EXTRA * es);
    char *k_pages = malloc((size_t)(n_blocks * block * k_page));
    char *v_pages = malloc((size_t)(n_blocks * block * v_page));
    char *out = malloc((size_t)(n * row_o));
    float *lse = malloc((size_t)(n * sh->n_heads) * 4);
    assert_true(table != NULL && k_pages != NULL && v_pages != NULL && out != NULL && lse != NULL);
    memset(k_pages, 0xff, (size_t)(n_blocks * block * k_page));
    memset(v_pages, 0xff, (size_t)(n_blocks * block * v_page));
    for (int32_t i = 0; i < n_blocks; i++) {
        table[i] = n_blocks - 1 - i;
    }
    int64_t filled = 0;
    for (int64_t at = 0, chunk = 1; at < n; at += chunk) {
        chunk = at % 5 == 4 ? 11 : at % 13 == 0 ? 3 : 1;
        chunk = chunk < n - at ? chunk : n - at;
        for (; filled < at + chunk; filled++) {
            int64_t to = (int64_t)table[filled / block] * block + filled % block;
            memcpy(k_pages + to * k_page, (char *)p.k + filled * row_k, (size_t)row_k);
            memcpy(v_pages + to * v_page, (char *)p.v + filled * row_v, (size_t)row_v);
        }
        for (int paged = 0; paged < 2; paged++) {
            int32_t offsets[4];
            fm_attention_args f = decode_args(&p, offsets, at + chunk, chunk, out, lse);
            if (paged) {
                f.kv.k = k_pages;
                f.kv.v = v_pages;
                f.kv.k_stride += EXTRA;
                f.kv.v_stride += EXTRA;
                f.kv.block_table = table;
                f.kv.block_tokens = block;
                f.kv.max_blocks = n_blocks;
            }
            run(be, pool, FM_K_attention_fwd, d, &f);
            if (memcmp(out, (char *)p.out + at * row_o, (size_t)(chunk * row_o)) != 0 ||
                memcmp(lse, p.lse + at * sh->n_heads, (size_t)(chunk * sh->n_heads) * 4) != 0) {
                fail_msg("%s: %lld queries at %lld differ from prefill (paged %d)", sh->name, (long long)chunk,
                         (long long)at, paged);
            }
        }
    }
    free(table);
    free(k_pages);
    free(v_pages);
    free(out);
    free(lse);
    problem_free(&p);
}

static void test_decode_bits(void **state) {
    (void)state;
    const shape decode[] = {
        {"decode grouped", 1, {203}, {203}, 4, 1, 64, 64, FM_MASK_CAUSAL, 0, 0, false, false, 0},
        {"decode 80", 1, {140}, {140}, 2, 2, 80, 80, FM_MASK_CAUSAL, 0, 0, false, false, 0},
        {"decode odd", 1, {140}, {140}, 3, 1, 41, 19, FM_MASK_CAUSAL, 0, 0, false, true, 0},
        {"decode window", 1, {210}, {210}, 2, 1, 32, 32, FM_MASK_CAUSAL, 71, 0, false, false, 0},
        {"decode all options", 1, {150}, {150}, 4, 2, 37, 128, FM_MASK_CAUSAL, 90, 3.0F, true, true, 0},
    };
    fm_pool *pool;
    assert_int_equal(fm_pool_new(&pool, 2), FM_OK);
    const fm_dtype types[][2] = {{FM_F32, FM_F32}, {FM_BF16, FM_BF16}, {FM_F32, FM_BF16}, {FM_BF16, FM_F32}};
    for (int isa = FM_ISA_REF + 1; isa < FM_ISA_COUNT; isa++) {
        for (size_t t = 0; t < FM_ARRAY_LEN(types); t++) {
            const fm_backend *be = backend_of((fm_isa)isa, FM_K_attention_fwd, types[t][0]);
            for (size_t i = 0; be != NULL && i < FM_ARRAY_LEN(decode); i++) {
                if (test_quick() && (i + t) % 3 != 0) {
                    continue;
                }
                decode_equals_prefill(be, pool, &decode[i], types[t][0], types[t][1]);
            }
        }
    }
    fm_pool_free(pool);
}

/* A segment computed alone gives the bits it has in a batch, forward and backward. */
static void test_segment_alone(void **state) {
    (void)state;
    const shape *sh = &shapes[2];
    for (int isa = FM_ISA_REF + 1; isa < FM_ISA_COUNT; isa++) {
        for (fm_dtype d = FM_F32; d <= FM_BF16; d++) {
            const fm_backend *be = backend_of((fm_isa)isa, FM_K_attention_bwd, d);
            if (be == NULL) {
                continue;
            }
            problem p;
            problem_init(&p, sh, d, d);
            run(be, NULL, FM_K_attention_fwd, d, &p.b.f);
            run(be, NULL, FM_K_attention_bwd, d, &p.b);
            void *out = array(d, p.size_o, 1.0);
            void *dk = array(d, p.size_k, 1.0);
            fm_attention_bwd_args b = p.b;
            b.f.n_segments = 1; /* the second: offsets count rows of the whole arrays */
            b.f.q_offsets++;
            b.f.kv.kv_offsets++;
            b.f.out = out;
            run(be, NULL, FM_K_attention_fwd, d, &b.f);
            b.dk = dk;
            run(be, NULL, FM_K_attention_bwd, d, &b);
            size_t skip_o = (size_t)(p.q_off[1] * sh->n_heads * sh->v_dim * elem_bytes(d));
            size_t skip_k = (size_t)(p.kv_off[1] * sh->n_kv_heads * sh->head_dim * elem_bytes(d));
            assert_memory_equal((char *)out + skip_o, (char *)p.out + skip_o,
                                (size_t)(p.size_o * elem_bytes(d)) - skip_o);
            assert_memory_equal((char *)dk + skip_k, (char *)p.dk + skip_k,
                                (size_t)(p.size_k * elem_bytes(d)) - skip_k);
            free(out);
            free(dk);
            problem_free(&p);
        }
    }
}

static void test_threads(void **state) {
    (void)state;
    for (int isa = FM_ISA_REF + 1; isa < FM_ISA_COUNT; isa++) {
        for (fm_dtype d = FM_F32; d <= FM_BF16; d++) {
            const fm_backend *be = backend_of((fm_isa)isa, FM_K_attention_bwd, d);
            for (size_t i = 1; be != NULL && i < FM_ARRAY_LEN(shapes); i++) {
                problem one;
                if (left_out(i, d)) {
                    continue;
                }
                rng_state = i;
                problem_init(&one, &shapes[i], d, d);
                run(be, NULL, FM_K_attention_fwd, d, &one.b.f);
                run(be, NULL, FM_K_attention_bwd, d, &one.b);
                for (int n = 2; n <= 3; n++) {
                    problem p;
                    fm_pool *pool;
                    assert_int_equal(fm_pool_new(&pool, n), FM_OK);
                    rng_state = i;
                    problem_init(&p, &shapes[i], d, d);
                    run(be, pool, FM_K_attention_fwd, d, &p.b.f);
                    run(be, pool, FM_K_attention_bwd, d, &p.b);
                    size_t es = (size_t)elem_bytes(d);
                    assert_memory_equal(p.out, one.out, (size_t)p.size_o * es);
                    assert_memory_equal(p.lse, one.lse, (size_t)(p.n_q * p.sh->n_heads) * 4);
                    assert_memory_equal(p.dq, one.dq, (size_t)p.size_q * es);
                    assert_memory_equal(p.dk, one.dk, (size_t)p.size_k * es);
                    assert_memory_equal(p.dv, one.dv, (size_t)p.size_v * es);
                    assert_memory_equal(p.dsink, one.dsink, (size_t)p.sh->n_heads * 4);
                    problem_free(&p);
                    fm_pool_free(pool);
                }
                problem_free(&one);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_f32),    cmocka_unit_test(test_values_bf16),
        cmocka_unit_test(test_mixed_types),   cmocka_unit_test(test_rows_without_keys),
        cmocka_unit_test(test_accumulate),    cmocka_unit_test(test_decode_bits),
        cmocka_unit_test(test_segment_alone), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
