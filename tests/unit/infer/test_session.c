/* Sessions: what the cache gives is bit for bit what a computation without it gives. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "fathom/generate.h"
#include "model/model.h"

static char dir[64];

/* A model wide enough that its sums are worth splitting, with room for prompts of several chunks. */
static void write_model(const char *family, fm_dtype dtype, int32_t window) {
    fm_model_config cfg = {.vocab_size = 100,
                           .d_model = 48,
                           .n_layers = 2,
                           .n_heads = 6,
                           .n_kv_heads = 2,
                           .head_dim = 16,
                           .d_ff = 80,
                           .max_position = 4096,
                           .act = FM_ACT_SILU,
                           .norm_eps = 1e-6,
                           .init_std = 0.15,
                           .rope = {.theta = 10000, .dim = 16, .factor = 1},
                           .window = window,
                           .bos_id = 1,
                           .eos_id = 2,
                           .pad_id = -1};
    snprintf(cfg.family, sizeof cfg.family, "%s", family);
    cfg.qk_norm = strncmp(family, "qwen3", 5) == 0;
    if (strcmp(family, "qwen3_moe") == 0) {
        cfg.moe = (fm_moe_config){
            .n_experts = 11, .n_active = 3, .d_ff = 40, .norm_topk = true, .layer_phase = 1, .aux_pooled = true};
    } else if (strcmp(family, "deepseek") == 0) {
        cfg.moe = (fm_moe_config){.n_experts = 8, .n_active = 2, .n_shared = 1, .d_ff = 24, .first_dense = 1};
    }
    cfg.qkv_bias = strcmp(family, "qwen2") == 0;
    if (strcmp(family, "gpt2") == 0 || strcmp(family, "bloom") == 0) {
        bool learned = strcmp(family, "gpt2") == 0;
        assert_int_equal(fm_model_config_reshape(&cfg, learned ? FM_POS_LEARNED : FM_POS_ALIBI, NULL, 0), FM_OK);
    } else if (strcmp(family, "qwen2") == 0 && window > 0) {
        cfg.n_layers = 4;
        assert_int_equal(fm_layers_from_pattern(&cfg, "local:local:global", window), FM_OK);
    }
    fm_model *m;
    assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
    assert_int_equal(fm_params_alloc(m->params, FM_F32), FM_OK);
    assert_int_equal(fm_params_init(m->params, 7, NULL), FM_OK);
    snprintf(dir, sizeof dir, "/tmp/fathom_session_XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(fm_model_save(m, dir, dtype, 0), FM_OK);
    fm_model_close(m);
}

static fm_model *open_model(const char *dtype) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = dtype, .threads = 2};
    fm_status s = fm_model_open(&m, dir, &o);
    if (s != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    return m;
}

typedef struct result {
    int32_t id[64];
    double logprob[64], top[64][3];
    int32_t top_id[64][3];
    int n, stop_after, n_last;
    fm_finish finish;
} result;

static bool collect(void *user, const fm_token_out *t) {
    result *r = user;
    assert_true(r->n < 64);
    r->id[r->n] = t->id;
    r->logprob[r->n] = t->logprob;
    for (int i = 0; i < t->n_top && i < 3; i++) {
        r->top[r->n][i] = t->top_logprobs[i];
        r->top_id[r->n][i] = t->top_ids[i];
    }
    r->n++;
    r->n_last += t->last;
    return r->stop_after == 0 || r->n < r->stop_after;
}

static fm_sampling options(int n, double temperature, bool cache) {
    fm_sampling o = fm_sampling_default();
    o.max_new_tokens = n;
    o.temperature = temperature;
    o.use_cache = cache;
    o.logprobs = 3;
    o.ignore_eos = true;
    return o;
}

static void prompt(int32_t *ids, int n, uint32_t seed) {
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((seed >> 8) % 100);
    }
}

static result generate(fm_model *m, const int32_t *ids, int n_ids, const fm_sampling *o) {
    fm_session *s;
    result r = {0};
    assert_int_equal(fm_session_new(&s, m, 0), FM_OK);
    fm_status st = fm_session_generate(s, ids, n_ids, o, collect, &r, &r.finish);
    if (st != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(st, FM_OK);
    assert_int_equal(fm_session_length(s), n_ids + r.n);
    fm_session_free(s);
    return r;
}

static void assert_same(const result *a, const result *b) {
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->id, b->id, sizeof a->id);
    assert_memory_equal(a->logprob, b->logprob, sizeof a->logprob);
    assert_memory_equal(a->top, b->top, sizeof a->top);
    assert_memory_equal(a->top_id, b->top_id, sizeof a->top_id);
}

static void check_cache(const char *family, fm_dtype stored, const char *dtype, int32_t window) {
    int32_t ids[1100];
    write_model(family, stored, window);
    fm_model *m = open_model(dtype);
    prompt(ids, 1100, 5);
    static const int lengths[] = {1, 37, 512, 513, 1100}; /* a chunk is 512 */
    for (size_t i = 0; i < FM_ARRAY_LEN(lengths); i++) {
        fm_sampling with = options(12, 0.9, true), without = options(12, 0.9, false);
        result a = generate(m, ids, lengths[i], &with), b = generate(m, ids, lengths[i], &without);
        assert_int_equal(a.n, 12);
        assert_same(&a, &b);
        result again = generate(m, ids, lengths[i], &with);
        assert_same(&a, &again);
        with.seed++;
        result other = generate(m, ids, lengths[i], &with);
        assert_memory_not_equal(a.id, other.id, sizeof a.id);
    }
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

static void test_cache_f32(void **state) {
    (void)state;
    check_cache("llama", FM_F32, "f32", 0);
    check_cache("qwen3", FM_BF16, "f32", 0);
    check_cache("mistral", FM_F32, "f32", 100);
    check_cache("qwen3_moe", FM_F32, "f32", 0);
    check_cache("gpt2", FM_F32, "f32", 0);
    check_cache("qwen2", FM_F32, "f32", 70);
}

static void test_cache_bf16(void **state) {
    (void)state;
    check_cache("llama", FM_BF16, "bf16", 0);
    check_cache("qwen2", FM_F32, "bf16", 0);
    check_cache("mistral", FM_F16, "bf16", 100);
    check_cache("deepseek", FM_BF16, "bf16", 0);
    check_cache("bloom", FM_BF16, "bf16", 0);
}

/* Greedy tokens and log-probabilities from the logits of the whole sequence. */
static void test_against_logits(void **state) {
    (void)state;
    int32_t ids[64];
    write_model("llama", FM_F32, 0);
    fm_model *m = open_model("f32");
    prompt(ids, 20, 9);
    fm_sampling o = options(20, 0, true);
    result r = generate(m, ids, 20, &o);
    memcpy(ids + 20, r.id, 20 * sizeof *ids);
    float *logits = malloc(40 * 100 * sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(fm_model_logits(m, ids, 40, logits), FM_OK);
    for (int t = 0; t < 20; t++) {
        const float *x = logits + (19 + t) * 100;
        double sum = 0;
        int best = 0;
        for (int i = 0; i < 100; i++) {
            sum += exp((double)x[i]);
            best = x[i] > x[best] ? i : best;
        }
        assert_int_equal(r.id[t], best);
        assert_true(fabs(r.logprob[t] - ((double)x[best] - log(sum))) < 1e-9);
        assert_int_equal(r.top_id[t][0], best);
        assert_true(r.top[t][0] >= r.top[t][1] && r.top[t][1] >= r.top[t][2]);
    }
    free(logits);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

/* Turns of a chat: fed in pieces, cut back, stopped. */
static void test_pieces(void **state) {
    (void)state;
    int32_t ids[60];
    write_model("llama", FM_BF16, 0);
    fm_model *m = open_model("bf16");
    prompt(ids, 60, 3);
    fm_sampling o = options(8, 0.7, true), none = options(0, 0.7, true);
    result whole = generate(m, ids, 60, &o), r = {0};
    fm_session *s;
    assert_int_equal(fm_session_new(&s, m, 200), FM_OK);
    assert_int_equal(fm_session_generate(s, ids, 25, &none, collect, &r, NULL), FM_OK);
    assert_int_equal(fm_session_generate(s, ids + 25, 10, &o, collect, &r, NULL), FM_OK);
    assert_int_equal(fm_session_length(s), 43);
    assert_int_equal(fm_session_truncate(s, 30), FM_OK);
    memset(&r, 0, sizeof r);
    assert_int_equal(fm_session_generate(s, ids + 30, 30, &o, collect, &r, &r.finish), FM_OK);
    assert_same(&whole, &r);
    assert_int_equal(r.finish, FM_FINISH_LENGTH);
    assert_int_equal(r.n_last, 1);
    /* Once more from the same place, without new ids. */
    assert_int_equal(fm_session_truncate(s, 60), FM_OK);
    memset(&r, 0, sizeof r);
    r.stop_after = 3;
    assert_int_equal(fm_session_generate(s, NULL, 0, &o, collect, &r, &r.finish), FM_OK);
    assert_int_equal(r.finish, FM_FINISH_STOPPED);
    assert_int_equal(r.n, 3);
    assert_memory_equal(r.id, whole.id, 3 * sizeof *r.id);
    fm_session_free(s);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

static void test_ends(void **state) {
    (void)state;
    int32_t ids[40];
    write_model("llama", FM_F32, 0);
    fm_model *m = open_model("f32");
    prompt(ids, 40, 11);
    fm_sampling o = options(30, 0.9, true);
    result free_run = generate(m, ids, 10, &o);
    m->eos[0] = free_run.id[4]; /* make the fifth token an end */
    m->n_eos = 1;
    int first = 4;
    for (int i = 3; i >= 0; i--) {
        first = free_run.id[i] == free_run.id[4] ? i : first;
    }
    o.ignore_eos = false;
    result r = generate(m, ids, 10, &o);
    assert_int_equal(r.finish, FM_FINISH_EOS);
    assert_int_equal(r.n, first + 1);
    assert_int_equal(r.n_last, 1);

    fm_session *s;
    o.ignore_eos = true;
    memset(&r, 0, sizeof r);
    assert_int_equal(fm_session_new(&s, m, 16), FM_OK);
    assert_int_equal(fm_session_generate(s, ids, 10, &o, collect, &r, &r.finish), FM_OK);
    assert_int_equal(r.finish, FM_FINISH_CONTEXT);
    assert_int_equal(r.n, 6);
    assert_int_equal(fm_session_generate(s, ids, 1, &o, collect, &r, &r.finish), FM_ERR_ARGUMENT);
    fm_session_free(s);

    assert_int_equal(fm_session_new(&s, m, 16), FM_OK);
    assert_int_equal(fm_session_generate(s, NULL, 0, &o, collect, &r, &r.finish), FM_ERR_ARGUMENT);
    assert_int_equal(fm_session_generate(s, (int32_t[]){100}, 1, &o, collect, &r, &r.finish), FM_ERR_ARGUMENT);
    assert_int_equal(fm_session_generate(s, (int32_t[]){-1}, 1, &o, collect, &r, &r.finish), FM_ERR_ARGUMENT);
    assert_int_equal(fm_session_truncate(s, 1), FM_ERR_ARGUMENT);
    fm_session_free(s);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

/* Dynamic rope past the trained length: the cache is not used where it would be stale. */
static void test_dynamic_rope(void **state) {
    (void)state;
    int32_t ids[14];
    fm_model *m;
    fm_model_options mo = {.size = sizeof mo, .dtype = "f32", .threads = 1};
    assert_int_equal(fm_model_open(&m, FM_SOURCE_DIR "/tests/golden/data/llama_dynamic", &mo), FM_OK);
    prompt(ids, 14, 1);
    for (int i = 0; i < 14; i++) {
        ids[i] %= 32;
    }
    fm_sampling with = options(16, 0.9, true), without = options(16, 0.9, false); /* 14 to 30, trained on 16 */
    result a = generate(m, ids, 14, &with), b = generate(m, ids, 14, &without);
    assert_int_equal(a.n, 16);
    assert_same(&a, &b);
    fm_model_close(m);
}

/* Allocation failures anywhere leave no leak and no crash (the leak is the sanitizer's to see). */
static void test_no_memory(void **state) {
    (void)state;
    int32_t ids[5] = {1, 2, 3, 4, 5};
    write_model("llama", FM_F32, 0);
    fm_model *m = open_model("f32");
    fm_sampling o = options(2, 0.9, true);
    fm_status st = FM_ERR_NO_MEMORY;
    int fails = 0;
    for (int64_t n = 1; st != FM_OK && n < 400; n++) {
        fm_session *s = NULL;
        result r = {0};
        fm_mem_fail_at(n, false);
        st = fm_session_new(&s, m, 32);
        if (st == FM_OK) {
            st = fm_session_generate(s, ids, 5, &o, collect, &r, NULL);
        }
        fm_mem_fail_at(0, false);
        assert_true(st == FM_OK || st == FM_ERR_NO_MEMORY);
        fails += st != FM_OK;
        fm_session_free(s);
    }
    assert_int_equal(st, FM_OK);
    assert_true(fails > 5);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache_f32), cmocka_unit_test(test_cache_bf16), cmocka_unit_test(test_against_logits),
        cmocka_unit_test(test_pieces),    cmocka_unit_test(test_ends),       cmocka_unit_test(test_dynamic_rope),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
