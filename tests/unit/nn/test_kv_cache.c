/* The KV cache: rows where the slots say, converted, and read back by attention, contiguous and paged. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "nn/nn.h"

#define N 40

static void test_rows(void **state) {
    (void)state;
    static const fm_dtype types[] = {FM_F32, FM_BF16, FM_F16};
    float k[N * 6], v[N * 4];
    int32_t slots[N];
    fm_pool *pool;
    assert_int_equal(fm_pool_new(&pool, 2), FM_OK);
    for (int i = 0; i < N * 6; i++) {
        k[i] = (float)i * 0.3f + 0.01f;
        v[i % (N * 4)] = (float)i * -0.7f;
    }
    for (int i = 0; i < N; i++) {
        slots[i] = (i * 7 + 3) % 50;
    }
    for (size_t d = 0; d < 3; d++) {
        fm_kv_cache *kv;
        assert_int_equal(fm_kv_cache_new(&kv, 3, 2, 3, 2, types[d], 50, 0), FM_OK);
        assert_int_equal(fm_kv_cache_bytes(kv), 3 * 50 * (6 + 4) * fm_dtype_bytes(types[d], 1));
        int64_t before = fm_ledger_current(FM_MEM_KV);
        assert_int_equal(fm_kv_cache_put(kv, pool, 1, N, slots, FM_F32, k, v), FM_OK);
        for (int64_t layer = 0; layer < 3; layer++) {
            for (int64_t r = 0; r < 50; r++) {
                int t = -1;
                for (int i = 0; i < N; i++) {
                    t = slots[i] == r ? i : t;
                }
                bool filled = layer == 1 && t >= 0;
                for (int64_t j = 0; j < 6; j++) {
                    double want = filled ? fm_round_to(types[d], (double)k[t * 6 + j]) : 0;
                    assert_true(fm_load_as_f64(types[d], kv->k, (layer * 50 + r) * 6 + j) == want);
                }
                for (int64_t j = 0; j < 4; j++) {
                    double want = filled ? fm_round_to(types[d], (double)v[t * 4 + j]) : 0;
                    assert_true(fm_load_as_f64(types[d], kv->v, (layer * 50 + r) * 4 + j) == want);
                }
            }
        }
        slots[5] = 50;
        assert_int_equal(fm_kv_cache_put(kv, pool, 1, N, slots, FM_F32, k, v), FM_ERR_ARGUMENT);
        slots[5] = -1;
        assert_int_equal(fm_kv_cache_put(kv, pool, 1, N, slots, FM_F32, k, v), FM_ERR_ARGUMENT);
        slots[5] = 38;
        fm_kv_cache_free(kv);
        assert_true(fm_ledger_current(FM_MEM_KV) < before);
    }
    fm_pool_free(pool);
    fm_kv_cache_free(NULL);
    fm_kv_cache *kv;
    assert_int_equal(fm_kv_cache_new(&kv, 1 << 20, 1 << 15, 1 << 12, 8, FM_F32, 1 << 30, 0), FM_ERR_ARGUMENT);
}

/* One attention layer, two documents: without a cache, with a contiguous one fed in two parts, with a paged one. */
#define D  16
#define TK 14
static fm_param *param(fm_params *ps, const char *name, int64_t n, int64_t k) {
    fm_param *p;
    fm_param_desc d = {.name = name, .n_dims = k ? 2 : 1, .dim = {n, k}, .init_std = 0.3};
    assert_int_equal(fm_params_add(ps, &d, &p), FM_OK);
    return p;
}

static void run(fm_ctx *c, const fm_attention_layer *a, const fm_batch *b, const fm_rope_state *rope, float *x,
                float *y) {
    fm_ctx_reset(c);
    fm_tensor *t = fm_attention_forward(c, a, b, rope, fm_from_memory(c, FM_F32, 2, (int64_t[]){b->n_tokens, D}, x));
    if (!t) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_non_null(t);
    memcpy(y, fm_data(c, t), (size_t)b->n_tokens * D * sizeof *y);
}

static void test_attention_through_cache(void **state) {
    (void)state;
    fm_params *ps;
    fm_ctx *c;
    fm_ctx_options co = {
        .size = sizeof co, .backend = fm_cpu_backend(), .compute = FM_F32, .arena_bytes = 1 << 20, .grad_bytes = 4096};
    assert_int_equal(fm_params_new(&ps), FM_OK);
    fm_attention_layer a = {.n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .layer = 1, .window = 4, .norm_eps = 1e-6};
    a.q_w = param(ps, "q", 32, D);
    a.k_w = param(ps, "k", 16, D);
    a.v_w = param(ps, "v", 16, D);
    a.o_w = param(ps, "o", D, 32);
    a.q_b = param(ps, "qb", 32, 0);
    a.o_b = param(ps, "ob", D, 0);
    a.q_norm = param(ps, "qn", 8, 0);
    a.k_norm = param(ps, "kn", 8, 0);
    assert_int_equal(fm_params_alloc(ps, FM_F32), FM_OK);
    assert_int_equal(fm_params_init(ps, 1, NULL), FM_OK);
    assert_int_equal(fm_ctx_new(&c, &co), FM_OK);
    double freq[4];
    fm_rope_state rope = {.freq = freq, .n_freqs = 4, .mscale = 1};
    fm_rope_config rc = {.theta = 100, .dim = 8};
    assert_int_equal(fm_rope_frequencies(&rc, freq, &rope.mscale), FM_OK);

    float x[TK * D], whole[TK * D], part[TK * D], xp[TK * D];
    for (int i = 0; i < TK * D; i++) {
        x[i] = sinf((float)i * 1.7f);
    }
    int32_t pos[TK] = {0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7}, q[] = {0, 6, TK}; /* 6 and 8 tokens */
    fm_batch b = {.n_tokens = TK, .n_segments = 2, .pos = pos, .q_offsets = q};
    run(c, &a, &b, &rope, x, whole);

    /* First 4 and 5 tokens, then the rest. Contiguous rows: document 0 at 0.., document 1 at 6... */
    for (int paged = 0; paged < 2; paged++) {
        fm_kv_cache *kv;
        /* Blocks of 4: document 0 in blocks 3, 0; document 1 in 4, 1. */
        int32_t table[] = {3, 0, 4, 1}, begin[2][3] = {{0, 4, 6}, {0, 5, 8}};
        assert_int_equal(fm_kv_cache_new(&kv, 2, 2, 8, 8, FM_F32, 20, paged ? 4 : 0), FM_OK);
        for (int step = 0; step < 2; step++) {
            int32_t n = 0, p[TK], slots[TK], at[TK], qo[3] = {0}, ko[3] = {0};
            for (int s = 0; s < 2; s++) {
                for (int32_t t = begin[s][step]; t < begin[s][step + 1]; t++) {
                    at[n] = q[s] + t;
                    p[n] = t;
                    slots[n] = paged ? table[s * 2 + t / 4] * 4 + t % 4 : q[s] + t;
                    memcpy(xp + n * D, x + at[n] * D, D * sizeof *x);
                    n++;
                }
                qo[s + 1] = n;
                ko[s + 1] = ko[s] + begin[s][step + 1];
            }
            if (!paged && step == 0) {
                continue; /* lengths are differences of row begins, so both steps below cover whole documents */
            }
            fm_batch cb = {.n_tokens = n,
                           .n_segments = 2,
                           .pos = p,
                           .q_offsets = qo,
                           .kv = kv,
                           .kv_offsets = ko,
                           .block_table = paged ? table : NULL,
                           .max_blocks = 2,
                           .slots = slots};
            if (!paged) { /* the first tokens' rows, each document alone */
                int32_t one_q[] = {0, 4}, slots0[] = {0, 1, 2, 3, 4};
                float sink[TK * D];
                fm_batch d0 = {.n_tokens = 4,
                               .n_segments = 1,
                               .pos = slots0,
                               .q_offsets = one_q,
                               .kv = kv,
                               .kv_offsets = one_q,
                               .slots = slots0};
                run(c, &a, &d0, &rope, x, sink);
                int32_t q1[] = {0, 5}, ko1[] = {6, 11}, slots1[] = {6, 7, 8, 9, 10};
                fm_batch d1 = {.n_tokens = 5,
                               .n_segments = 1,
                               .pos = slots0,
                               .q_offsets = q1,
                               .kv = kv,
                               .kv_offsets = ko1,
                               .slots = slots1};
                run(c, &a, &d1, &rope, x + 6 * D, sink);
                assert_memory_equal(sink, whole + 6 * D, 5 * D * sizeof *sink);
            }
            run(c, &a, &cb, &rope, xp, part);
            for (int32_t i = 0; i < n; i++) {
                assert_memory_equal(part + i * D, whole + at[i] * D, D * sizeof *part);
            }
        }
        fm_kv_cache_free(kv);
    }
    fm_ctx_free(c);
    fm_params_free(ps);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_attention_through_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
