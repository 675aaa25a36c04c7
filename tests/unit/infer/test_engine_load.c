/* The engine under load: adapters in one batch, clients on several threads, a small cache. */
#include "engine_util.h"

static void alone_with(const char *adapter, const char *dtype, job *jobs, int first) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = dtype, .threads = 2, .adapter = adapter};
    assert_int_equal(fm_model_open(&m, dir, &o), FM_OK);
    for (int i = first; i < JOBS; i += 3) {
        fm_session *s;
        assert_int_equal(fm_session_new(&s, m, 0), FM_OK);
        assert_int_equal(fm_session_generate(s, jobs[i].ids, jobs[i].n, &jobs[i].o, collect, &jobs[i].want, NULL),
                         FM_OK);
        fm_session_free(s);
    }
    fm_model_close(m);
}

/* Requests with two adapters and with none in one batch: each gets what it gets from a model with that adapter alone.
 */
static void adapters(const char *family, const char *dtype) {
    static job jobs[JOBS];
    static const char *const names[] = {NULL, "a", "b"};
    char one[40], two[40];
    write_model(family, FM_F32);
    write_adapter(one, sizeof one, 4, 1);
    write_adapter(two, sizeof two, 8, 2);
    make_jobs(jobs, 6);
    alone_with(NULL, dtype, jobs, 0);
    alone_with(one, dtype, jobs, 1);
    alone_with(two, dtype, jobs, 2);
    fm_model *m = open_model(dtype);
    for (int mode = 0; mode < 3; mode++) {
        fm_engine_options o = {.size = sizeof o, .parallel = 12, .lookup = mode == 2};
        fm_engine *e;
        if (mode == 1) {
            o.ctx_size = 300;
            o.batch_tokens = 24;
            o.block_tokens = 8;
            o.kv_bytes = 48 * 8 * fm_model_kv_bytes_per_token(&m->cfg, m->compute);
        }
        assert_int_equal(fm_engine_new(&e, m, &o), FM_OK);
        assert_int_equal(fm_engine_add_adapter(e, "b", two), FM_OK);
        for (int k = 0; k < JOBS; k++) {
            job *j = &jobs[k];
            if (k == 1) { /* one comes while others run */
                fm_status s = fm_engine_add_adapter(e, "a", one);
                if (s != FM_OK) {
                    print_error("%s\n", fm_error_get().message);
                }
                assert_int_equal(s, FM_OK);
                assert_int_equal(fm_engine_add_adapter(e, "a", one), FM_ERR_EXISTS);
            }
            submit_to(&j->got, e, j->ids, j->n, &j->o, names[k % 3]);
        }
        assert_true(fm_engine_has_adapter(e, "a"));
        assert_int_equal(fm_engine_remove_adapter(e, "a"), FM_OK); /* those that run keep it */
        assert_false(fm_engine_has_adapter(e, "a"));
        assert_int_equal(fm_engine_remove_adapter(e, "a"), FM_ERR_NOT_FOUND);
        for (int k = 0; k < JOBS; k++) {
            wait_done(&jobs[k].got);
            check_job(&jobs[k]);
        }
        /* What an adapter left in the cache is not found without it. */
        fm_generation g = {.size = sizeof g, .adapter = "a", .fn = on_event, .user = &jobs[0].got};
        fm_request *none;
        assert_int_equal(fm_engine_submit(&none, e, jobs[0].ids, 1, &g), FM_ERR_NOT_FOUND);
        result base, with;
        fm_sampling s = options(8, 0);
        submit_to(&with, e, jobs[0].ids, jobs[0].n, &s, "b");
        wait_done(&with);
        submit_to(&base, e, jobs[0].ids, jobs[0].n, &s, NULL);
        wait_done(&base);
        assert_memory_not_equal(base.logprob, with.logprob, sizeof base.logprob);
        fm_engine_free(e);
    }
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
    assert_int_equal(fm_remove_tree(one), FM_OK);
    assert_int_equal(fm_remove_tree(two), FM_OK);
}

static void test_adapters(void **state) {
    (void)state;
    adapters("llama", "f32");
    if (!test_quick()) {
        adapters("qwen3", "bf16");
    }
}

/* A cache of q8_0 blocks: the same bytes in any company, close to the plain cache, in a bit more than a quarter of its
 * memory. */
static void quantised(const char *family) {
    static job jobs[JOBS];
    static result plain[JOBS];
    write_model(family, FM_F32);
    fm_model *m = open_model("f32");
    fm_engine_stats st[2];
    double worst = 0;
    make_jobs(jobs, 8);
    for (int mode = 0; mode < 3; mode++) { /* plain, alone, mixed */
        fm_engine_options o = {.size = sizeof o,
                               .parallel = mode == 1 ? 1 : 12,
                               .ctx_size = 300,
                               .kv_bytes = 8 << 20,
                               .batch_tokens = mode == 2 ? 24 : 0,
                               .no_prefix_cache = mode == 1,
                               .kv_dtype = mode ? "q8_0" : "f32"};
        fm_engine *e;
        fm_status s = fm_engine_new(&e, m, &o);
        if (s != FM_OK) {
            print_error("%s\n", fm_error_get().message);
        }
        assert_int_equal(s, FM_OK);
        for (int k = 0; k < JOBS; k++) {
            submit(mode ? &jobs[k].got : &plain[k], e, jobs[k].ids, jobs[k].n, &jobs[k].o);
        }
        for (int k = 0; k < JOBS; k++) {
            wait_done(mode ? &jobs[k].got : &plain[k]);
            if (mode == 1) {
                jobs[k].want.n = jobs[k].got.n;
                memcpy(jobs[k].want.id, jobs[k].got.id, sizeof jobs[k].want.id);
                memcpy(jobs[k].want.logprob, jobs[k].got.logprob, sizeof jobs[k].want.logprob);
                worst = fmax(worst, fabs(jobs[k].got.logprob[0] - plain[k].logprob[0]));
            } else if (mode == 2) {
                check_job(&jobs[k]);
            }
        }
        if (mode != 1) {
            fm_engine_get_stats(&st[mode / 2], e);
        }
        fm_engine_free(e);
    }
    assert_true(worst > 0 && worst < 0.05);
    assert_true((double)st[1].kv_bytes / st[1].blocks < 0.27 * (double)st[0].kv_bytes / st[0].blocks);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

static void test_quantised_cache(void **state) {
    (void)state;
    head_dim = 32;
    quantised("llama");
    head_dim = 16;
    rope_dim = 32;
    quantised("deepseek_v2");
    rope_dim = 8;
    write_model("llama", FM_F32); /* heads of 16 */
    fm_model *m = open_model("f32");
    fm_engine *e;
    fm_engine_options o = {.size = sizeof o, .kv_dtype = "q8_0"};
    assert_int_equal(fm_engine_new(&e, m, &o), FM_ERR_UNSUPPORTED);
    o.kv_dtype = "q9";
    assert_int_equal(fm_engine_new(&e, m, &o), FM_ERR_ARGUMENT);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

/* Clients on several threads: requests, cancelled ones, refused ones, statistics, posts, adapters that come and go.
 * What is not cancelled is what the same request gives alone. */
typedef struct client {
    fm_engine *e;
    const alone *want; /* [4] of the prompts */
    const char *adapter;
    int number, n_rounds;
    pthread_t thread;
} client;

static void on_post(void *user, fm_model *m) {
    atomic_int *n = user;
    assert_non_null(m);
    atomic_fetch_add(n, 1);
}

static void *be_client(void *arg) {
    client *c = arg;
    atomic_int *n = malloc(sizeof *n);
    atomic_init(n, 0);
    for (int i = 0; i < c->n_rounds; i++) {
        int32_t ids[40];
        int which = (c->number + i) % 4;
        result r;
        fm_engine_stats st;
        fm_sampling o = options(12, which % 2 ? 0.9 : 0);
        prompt(ids, 30 + which, 70 + (uint64_t)which);
        submit(&r, c->e, ids, 30 + which, &o);
        bool cancel = (c->number + i) % 3 == 0;
        if (cancel) {
            wait_tokens(&r, i % 5);
            fm_request_cancel(r.r);
        }
        fm_engine_get_stats(&st, c->e);
        assert_int_equal(fm_engine_post(c->e, on_post, n), FM_OK);
        if (c->number == 0) { /* names are unique to this client */
            assert_int_equal(fm_engine_add_adapter(c->e, "x", c->adapter), FM_OK);
            assert_int_equal(fm_engine_remove_adapter(c->e, "x"), FM_OK);
        }
        wait_done(&r);
        assert_true(r.end.status == FM_OK || (cancel && r.end.status == FM_ERR_CANCELLED));
        int got = r.end.status == FM_OK ? c->want[which].n : r.n;
        assert_int_equal(got, r.n);
        assert_memory_equal(r.id, c->want[which].id, (size_t)got * sizeof *r.id);
        assert_int_equal(
            fm_engine_submit(&r.r, c->e, ids, 0, &(fm_generation){.size = sizeof(fm_generation), .fn = on_event}),
            FM_ERR_ARGUMENT);
    }
    while (atomic_load(n) < c->n_rounds) {
        sched_yield();
    }
    free(n);
    return NULL;
}

static void test_clients(void **state) {
    (void)state;
    char adapter[40];
    write_model("llama", FM_F32);
    write_adapter(adapter, sizeof adapter, 4, 1);
    fm_model *m = open_model("f32");
    alone want[4];
    memset(want, 0, sizeof want);
    for (int i = 0; i < 4; i++) {
        int32_t ids[40];
        fm_session *s;
        fm_sampling o = options(12, i % 2 ? 0.9 : 0);
        prompt(ids, 30 + i, 70 + (uint64_t)i);
        assert_int_equal(fm_session_new(&s, m, 0), FM_OK);
        assert_int_equal(fm_session_generate(s, ids, 30 + i, &o, collect, &want[i], NULL), FM_OK);
        fm_session_free(s);
    }
    fm_engine *e;
    fm_engine_options o = {.size = sizeof o, .ctx_size = 64, .parallel = 4, .block_tokens = 8, .lookup = true};
    assert_int_equal(fm_engine_new(&e, m, &o), FM_OK);
    client c[6];
    for (int i = 0; i < 6; i++) {
        c[i] = (client){.e = e, .want = want, .adapter = adapter, .number = i, .n_rounds = test_quick() ? 4 : 12};
        assert_int_equal(pthread_create(&c[i].thread, NULL, be_client, &c[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(c[i].thread, NULL);
    }
    fm_engine_free(e);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
    assert_int_equal(fm_remove_tree(adapter), FM_OK);
}

/* A small cache under many beginnings: old ones go, those in use stay, and what is found again is right. */
static void test_pressure(void **state) {
    (void)state;
    write_model("llama", FM_F32);
    fm_model *m = open_model("f32");
    fm_engine *e;
    fm_engine_stats st;
    fm_engine_options o = {.size = sizeof o, .ctx_size = 128, .parallel = 3, .block_tokens = 8};
    o.kv_bytes = 40 * 8 * fm_model_kv_bytes_per_token(&m->cfg, m->compute); /* 40 blocks: 4 texts of 80 tokens */
    assert_int_equal(fm_engine_new(&e, m, &o), FM_OK);
    fm_sampling s = options(6, 0);
    static result first[12], again;
    int32_t ids[80];
    for (int i = 0; i < 12; i++) { /* each new beginning pushes older ones out */
        prompt(ids, 80, 200 + (uint64_t)i);
        submit(&first[i], e, ids, 80, &s);
        wait_done(&first[i]);
        assert_int_equal(first[i].end.n_cached, 0);
        prompt(ids, 80, 200);
        submit(&again, e, ids, 80, &s); /* the first is asked for again and again: it stays */
        wait_done(&again);
        assert_int_equal(again.end.n_cached, 72);
        assert_memory_equal(again.id, first[0].id, sizeof again.id);
        assert_memory_equal(again.logprob, first[0].logprob, sizeof again.logprob);
    }
    prompt(ids, 80, 201); /* long gone */
    submit(&again, e, ids, 80, &s);
    wait_done(&again);
    assert_int_equal(again.end.n_cached, 0);
    assert_memory_equal(again.logprob, first[1].logprob, sizeof again.logprob);
    fm_engine_get_stats(&st, e);
    assert_int_equal(st.blocks, 40);
    fm_engine_free(e);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_adapters), cmocka_unit_test(test_quantised_cache),
                                       cmocka_unit_test(test_clients), cmocka_unit_test(test_pressure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
