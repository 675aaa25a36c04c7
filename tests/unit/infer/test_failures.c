/* Every allocation refused in turn (failures.h): opening a model, sessions, generation. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fathom/generate.h"
#include "model/model.h"
#include "../failures.h"

static char dir[64];
static fm_model *opened;

typedef struct taken {
    uint64_t sum;
    int n;
} taken;

static bool take(void *user, const fm_token_out *t) {
    taken *k = user;
    k->sum = fm_hash64(&t->id, sizeof t->id, k->sum);
    k->sum = fm_hash64(t->top_logprobs, (size_t)t->n_top * sizeof(double), k->sum);
    k->n++;
    return true;
}

/* Two turns on one session; variants: bit 0 sampling instead of greedy, bit 1 without the cache. */
static fm_status talk(fm_model *m, int variant, uint64_t *sum) {
    static const int32_t first[] = {1, 5, 20, 7, 7, 29}, second[] = {3, 4};
    fm_sampling o = fm_sampling_default();
    taken k = {0};
    fm_finish finish;
    fm_session *s;
    o.max_new_tokens = 5;
    o.temperature = variant & 1 ? 1 : 0;
    o.top_k = 20;
    o.top_p = 0.9;
    o.repetition_penalty = 1.1;
    o.logprobs = 2;
    o.ignore_eos = true;
    o.use_cache = !(variant & 2);
    FM_TRY(fm_session_new(&s, m, 64));
    fm_status r = fm_session_generate(s, first, 6, &o, take, &k, &finish);
    r = r == FM_OK ? fm_session_generate(s, second, 2, &o, take, &k, &finish) : r;
    fm_session_free(s);
    *sum = k.sum + (uint64_t)k.n;
    return r;
}

static fm_status open_and_talk(int variant, uint64_t *sum) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 2};
    FM_TRY(fm_model_open(&m, dir, &o));
    fm_status s = talk(m, variant, sum);
    fm_model_close(m);
    return s;
}

/* On a model that stays open, as in a server: what it keeps (packed weights) is there before. */
static fm_status talk_again(int variant, uint64_t *sum) {
    return talk(opened, variant, sum);
}

static const failures_work works[] = {{"generate", open_and_talk, 4, NULL, NULL}, {"again", talk_again, 4, NULL, NULL}};

static void run_work(void **state) {
    failures_check(*state);
}

/* A session whose call failed for lack of memory is usable: truncated to what it held, it gives what a new one gives.
 */
static void test_session_recovers(void **state) {
    (void)state;
    static const int32_t ids[] = {1, 5, 20, 7};
    fm_sampling o = fm_sampling_default();
    fm_finish finish;
    o.max_new_tokens = 4;
    o.temperature = 0;
    o.ignore_eos = true;
    taken want = {0};
    for (int64_t n = 0; n < 500; n++) { /* 0: nothing refused */
        fm_session *s;
        taken k = {0};
        assert_int_equal(fm_session_new(&s, opened, 64), FM_OK);
        fm_mem_fail_at(n, false);
        fm_status r = fm_session_generate(s, ids, 4, &o, take, &k, &finish);
        bool reached = n == 0 || fm_mem_alloc_count() >= n;
        fm_mem_fail_at(0, false);
        if (r != FM_OK) {
            assert_int_equal(r, FM_ERR_NO_MEMORY);
            k = (taken){0};
            assert_int_equal(fm_session_truncate(s, 0), FM_OK);
            assert_int_equal(fm_session_generate(s, ids, 4, &o, take, &k, &finish), FM_OK);
        }
        want = n == 0 ? k : want;
        assert_true(k.sum == want.sum && k.n == want.n);
        fm_session_free(s);
        if (!reached) {
            break;
        }
    }
}

static int setup(void **state) {
    (void)state;
    fm_model_config cfg = {.family = "llama",
                           .vocab_size = 100,
                           .d_model = 32,
                           .n_layers = 2,
                           .n_heads = 4,
                           .n_kv_heads = 2,
                           .head_dim = 8,
                           .d_ff = 48,
                           .max_position = 128,
                           .act = FM_ACT_SILU,
                           .norm_eps = 1e-6,
                           .init_std = 0.15,
                           .rope = {.theta = 10000, .dim = 8, .factor = 1},
                           .bos_id = 1,
                           .eos_id = 2,
                           .pad_id = -1};
    fm_model *m = NULL;
    fm_model_options o = {.size = sizeof o, .dtype = "bf16", .threads = 2};
    snprintf(dir, sizeof dir, "/tmp/fathom_failures_XXXXXX");
    if (!mkdtemp(dir)) {
        return -1;
    }
    bool good = fm_model_build(&m, &cfg) == FM_OK && fm_params_alloc(m->params, FM_F32) == FM_OK &&
                fm_params_init(m->params, 3, NULL) == FM_OK && fm_model_save(m, dir, FM_F32, 0) == FM_OK;
    fm_model_close(m);
    return good && fm_model_open(&opened, dir, &o) == FM_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    fm_model_close(opened);
    return fm_remove_tree(dir) == FM_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        {"generate", run_work, NULL, NULL, (void *)&works[0]},
        {"again", run_work, NULL, NULL, (void *)&works[1]},
        cmocka_unit_test(test_session_recovers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
