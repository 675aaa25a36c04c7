/* The engine: what a request generates does not depend on what else runs, on the cache, on chunks or on preemption. */
#include "engine_util.h"

static void mixes(const char *family, const char *dtype, bool session) {
    /* plenty of room; few blocks, so that some are preempted; small passes, so that prompts come in pieces */
    static const fm_engine_options modes[] = {
        {.size = sizeof(fm_engine_options), .parallel = 16},
        {.size = sizeof(fm_engine_options), .parallel = 12, .ctx_size = 300, .batch_tokens = 24, .block_tokens = 8},
        {.size = sizeof(fm_engine_options), .parallel = 5, .no_prefix_cache = true, .batch_tokens = 64}};
    static job jobs[JOBS];
    write_model(family, FM_F32);
    fm_model *m = open_model(dtype);
    for (uint64_t seed = 1; seed <= (test_quick() ? 1 : 3); seed++) {
        make_jobs(jobs, seed);
        alone_all(m, jobs, session);
        for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
            fm_engine_options o = modes[i];
            fm_engine_stats st;
            fm_engine *e;
            if (i == 1) {
                o.kv_bytes = 48 * 8 * fm_model_kv_bytes_per_token(&m->cfg, m->compute);
            }
            fm_status s = fm_engine_new(&e, m, &o);
            if (s != FM_OK) {
                print_error("%s\n", fm_error_get().message);
            }
            assert_int_equal(s, FM_OK);
            for (int k = 0; k < JOBS; k++) {
                submit(&jobs[k].got, e, jobs[k].ids, jobs[k].n, &jobs[k].o);
                if (k % 7 == 6) {
                    wait_tokens(&jobs[k - 3].got, 2); /* the next ones join later */
                }
            }
            for (int k = 0; k < JOBS; k++) {
                wait_done(&jobs[k].got);
                check_job(&jobs[k]);
            }
            fm_engine_get_stats(&st, e);
            if (i == 1) {
                assert_true(st.preemptions > 0);
            }
            assert_true(i == 2 ? st.prefix_hits == 0 : st.prefix_hits > 0);
            fm_engine_free(e);
        }
    }
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

static void test_llama(void **state) {
    (void)state;
    mixes("llama", "f32", true);
}
static void test_bf16(void **state) {
    (void)state;
    mixes("qwen3", "bf16", true);
}
static void test_experts(void **state) {
    (void)state;
    mixes("qwen3_moe", "f32", true);
}
static void test_latent(void **state) {
    (void)state;
    mixes("deepseek_v2", "f32", false);
}

/* Guesses change nothing: every request gets what it gets alone, with lookups, a smaller model, the model itself as its
 * own draft, and a prediction layer; few blocks and small passes too. */
static void speculate(const char *family, const char *dtype, bool session, const fm_engine_options *how,
                      const char *from, bool all_right) {
    static job jobs[JOBS];
    fm_model *m = open_model(dtype), *draft = NULL;
    fm_model_options mo = {.size = sizeof mo, .dtype = dtype, .threads = 2};
    if (from) {
        assert_int_equal(fm_model_open(&draft, from, &mo), FM_OK);
    }
    make_jobs(jobs, 4);
    for (int k = 0; k < JOBS; k += 2) { /* a text that repeats is what lookups are for */
        for (int i = 8; i < jobs[k].n; i++) {
            jobs[k].ids[i] = jobs[k].ids[i % 8];
        }
    }
    alone_all(m, jobs, session);
    for (int mode = 0; mode < 2; mode++) {
        fm_engine_options o = *how;
        fm_engine_stats st;
        fm_engine *e;
        o.size = sizeof o;
        o.draft = draft;
        o.parallel = mode ? 12 : 4;
        if (mode) {
            o.ctx_size = 300;
            o.batch_tokens = 32;
            o.block_tokens = 8;
            int64_t bytes = fm_model_kv_bytes_per_token(&m->cfg, m->compute);
            bytes += draft ? fm_model_kv_bytes_per_token(&draft->cfg, draft->compute) : o.mtp ? bytes / 2 : 0;
            o.kv_bytes = 48 * 8 * bytes;
        }
        fm_status s = fm_engine_new(&e, m, &o);
        if (s != FM_OK) {
            print_error("%s: %s\n", family, fm_error_get().message);
        }
        assert_int_equal(s, FM_OK);
        int guessed = 0, right = 0;
        for (int k = 0; k < JOBS; k++) {
            submit(&jobs[k].got, e, jobs[k].ids, jobs[k].n, &jobs[k].o);
        }
        for (int k = 0; k < JOBS; k++) {
            wait_done(&jobs[k].got);
            check_job(&jobs[k]);
            guessed += jobs[k].got.end.n_guessed;
            right += jobs[k].got.end.n_accepted;
        }
        fm_engine_get_stats(&st, e);
        assert_true(st.draft_tokens > 0);
        assert_true(st.draft_accepted <= st.draft_tokens);
        assert_int_equal(right, st.draft_accepted);
        assert_int_equal(guessed, st.draft_tokens);
        if (all_right) { /* with the same random numbers the same model is always right */
            assert_int_equal(st.draft_accepted, st.draft_tokens);
        }
        assert_true(mode == 0 || st.preemptions > 0);
        fm_engine_free(e);
    }
    fm_model_close(draft);
    fm_model_close(m);
}

/* A model in dir, and another with one layer in `small`. */
static void write_pair(char small[sizeof dir]) {
    n_layers = 1;
    weights = 9;
    write_model("llama", FM_F32);
    memcpy(small, dir, sizeof dir);
    n_layers = 2;
    weights = 7;
    write_model("llama", FM_F32);
}

static void test_speculation(void **state) {
    (void)state;
    char small[sizeof dir];
    fm_engine_options lookup = {.lookup = true}, draft = {.draft_max = 5}, mtp = {.mtp = true};
    write_pair(small);
    speculate("llama", "f32", true, &lookup, NULL, false);
    speculate("llama", "f32", true, &draft, small, false);
    speculate("llama", "f32", true, &draft, dir, true);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
    if (!test_quick()) {
        write_model("qwen3", FM_F32);
        speculate("qwen3", "bf16", true, &draft, small, false);
        assert_int_equal(fm_remove_tree(dir), FM_OK);
        write_model("deepseek_v2", FM_F32);
        speculate("deepseek_v2", "f32", false, &draft, small, false);
        assert_int_equal(fm_remove_tree(dir), FM_OK);
    }
    n_mtp = 1;
    write_model("deepseek_v3", FM_F32);
    n_mtp = 0;
    speculate("deepseek_v3", "f32", false, &mtp, NULL, false);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
    /* What cannot be a draft is refused. */
    write_model("llama", FM_F32);
    fm_model *m = open_model("f32");
    fm_engine *e;
    fm_engine_options o = {.size = sizeof o, .mtp = true};
    assert_int_equal(fm_engine_new(&e, m, &o), FM_ERR_UNSUPPORTED);
    o = (fm_engine_options){.size = sizeof o, .lookup = true, .draft = m};
    assert_int_equal(fm_engine_new(&e, m, &o), FM_ERR_ARGUMENT);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
    assert_int_equal(fm_remove_tree(small), FM_OK);
}

/* A draft that is never right rests; one that is always right is asked all the time. */
static void test_pace(void **state) {
    (void)state;
    char small[sizeof dir];
    int32_t ids[8];
    write_pair(small);
    for (int own = 0; own < 2; own++) {
        fm_model *m = open_model("f32"), *draft;
        fm_model_options mo = {.size = sizeof mo, .dtype = "f32", .threads = 2};
        assert_int_equal(fm_model_open(&draft, own ? dir : small, &mo), FM_OK);
        fm_engine_options o = {.size = sizeof o, .draft = draft};
        fm_engine *e;
        assert_int_equal(fm_engine_new(&e, m, &o), FM_OK);
        prompt(ids, 8, 3);
        result a;
        fm_sampling s = options(60, 0);
        s.ignore_eos = true;
        submit(&a, e, ids, 8, &s);
        wait_done(&a);
        assert_int_equal(a.n, 60);
        assert_true(a.end.n_guessed > 0);
        if (own) {
            assert_int_equal(a.end.n_accepted, a.end.n_guessed);
            assert_true(a.end.n_guessed >= 25);
        } else {
            assert_true(a.end.n_guessed <= 12);
        }
        fm_engine_free(e);
        fm_model_close(draft);
        fm_model_close(m);
    }
    assert_int_equal(fm_remove_tree(dir), FM_OK);
    assert_int_equal(fm_remove_tree(small), FM_OK);
}

/* Refusals, ends, cancelling; the second request with the same prompt finds it in the cache. */
static void test_ends(void **state) {
    (void)state;
    write_model("llama", FM_F32);
    fm_model *m = open_model("f32");
    fm_engine_options o = {.size = sizeof o, .ctx_size = 64, .parallel = 2, .max_queue = 3};
    fm_engine *e;
    int32_t ids[70];
    assert_int_equal(fm_engine_new(&e, m, &o), FM_OK);
    assert_int_equal(fm_engine_ctx_size(e), 64);
    prompt(ids, 70, 3);
    result a, b, c;
    fm_sampling s = options(50, 0);
    fm_generation g = {.size = sizeof g, .sampling = &s, .fn = on_event, .user = &a};
    fm_request *none;
    assert_int_equal(fm_engine_submit(&none, e, ids, 64, &g), FM_ERR_ARGUMENT);
    assert_non_null(strstr(fm_error_get().message, "64"));
    assert_int_equal(fm_engine_submit(&none, e, ids, 0, &g), FM_ERR_ARGUMENT);
    int32_t wrong = 100;
    assert_int_equal(fm_engine_submit(&none, e, &wrong, 1, &g), FM_ERR_ARGUMENT);
    g.stop = (const char *const[]){""};
    g.n_stop = 1;
    assert_int_equal(fm_engine_submit(&none, e, ids, 4, &g), FM_ERR_ARGUMENT);
    submit(&a, e, ids, 40, &s);
    wait_done(&a);
    assert_int_equal(a.end.finish, FM_FINISH_CONTEXT); /* 24 of 50 fit */
    assert_int_equal(a.n, 24);
    assert_int_equal(a.end.n_cached, 0);
    submit(&b, e, ids, 40, &s);
    wait_done(&b);
    assert_int_equal(b.end.n_cached, 32);
    assert_memory_equal(a.id, b.id, sizeof a.id);
    s.max_new_tokens = 0;
    submit(&b, e, ids, 40, &s);
    wait_done(&b);
    assert_int_equal(b.n, 0);
    assert_int_equal(b.end.status, FM_OK);
    /* A logit bias makes the end token certain. */
    s = options(20, 0);
    s.ignore_eos = false;
    fm_logit_bias bias = {.id = 2, .bias = 100};
    s.bias = &bias;
    s.n_bias = 1;
    submit(&c, e, ids, 5, &s);
    wait_done(&c);
    assert_int_equal(c.n, 1);
    assert_int_equal(c.end.finish, FM_FINISH_EOS);
    /* Cancelling, and ending the engine under requests. */
    s = options(50, 0);
    submit(&a, e, ids, 3, &s);
    fm_request_cancel(a.r);
    wait_done(&a);
    assert_true(a.end.status == FM_ERR_CANCELLED || a.n == 50);
    submit(&a, e, ids, 2, &s);
    submit(&b, e, ids, 1, &s);
    fm_engine_free(e);
    wait_done(&a);
    wait_done(&b);
    assert_true(a.end.status == FM_ERR_CANCELLED || a.n == 50);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

static void test_stops(void **state) {
    (void)state;
    static const char text[] = "one two END END! three";
    const char *stops[] = {"END!", "never"};
    for (size_t step = 1; step < sizeof text; step++) {
        fm_stops s;
        fm_str out = {0};
        bool found = false;
        assert_int_equal(fm_stops_init(&s, stops, 2), FM_OK);
        for (size_t at = 0; at < strlen(text) && !found; at += step) {
            size_t n = strlen(text) - at < step ? strlen(text) - at : step;
            found = fm_stops_push(&s, &out, text + at, n);
        }
        assert_true(found);
        assert_string_equal(out.data, "one two END ");
        fm_str_free(&out);
        fm_stops_deinit(&s);
    }
    fm_stops s;
    fm_str out = {0};
    assert_int_equal(fm_stops_init(&s, stops, 2), FM_OK);
    assert_false(fm_stops_push(&s, &out, "EN nev", 6));
    assert_string_equal(out.data, "EN ");
    fm_stops_flush(&s, &out);
    assert_string_equal(out.data, "EN nev");
    fm_str_free(&out);
    fm_stops_deinit(&s);
}

static void test_blocks(void **state) {
    (void)state;
    fm_blocks *b;
    static const int32_t x[2] = {1, 2}, y[2] = {3, 4};
    assert_int_equal(fm_blocks_new(&b, 3, 2), FM_OK);
    fm_block_link root = {.block = -1}, l = root;
    int32_t p = fm_blocks_take(b), q = fm_blocks_take(b);
    fm_blocks_publish(b, p, &l, x);
    fm_blocks_publish(b, q, &l, y);
    fm_blocks_release(b, q);
    fm_blocks_release(b, p);
    assert_int_equal(fm_blocks_unused(b), 3);
    l = root;
    assert_int_equal(fm_blocks_find(b, &l, y), -1); /* y stands after x only */
    assert_int_equal(fm_blocks_find(b, &l, x), p);
    assert_int_equal(fm_blocks_find(b, &l, y), q);
    l = (fm_block_link){.block = -1, .serial = 7}; /* another adapter */
    assert_int_equal(fm_blocks_find(b, &l, x), -1);
    fm_blocks_release(b, p);
    fm_blocks_release(b, q);
    /* Three new blocks push both out; x again in another block does not bring y back. */
    int32_t t[3];
    for (int i = 0; i < 3; i++) {
        t[i] = fm_blocks_take(b);
        assert_true(t[i] >= 0);
    }
    assert_int_equal(fm_blocks_take(b), -1);
    l = root;
    fm_blocks_publish(b, p, &l, x);
    assert_int_equal(fm_blocks_find(b, &l, y), -1);
    for (int i = 0; i < 3; i++) {
        fm_blocks_release(b, t[i]);
    }
    fm_blocks_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),      cmocka_unit_test(test_stops), cmocka_unit_test(test_ends),
        cmocka_unit_test(test_llama),       cmocka_unit_test(test_bf16),  cmocka_unit_test(test_experts),
        cmocka_unit_test(test_speculation), cmocka_unit_test(test_pace),  cmocka_unit_test(test_latent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
