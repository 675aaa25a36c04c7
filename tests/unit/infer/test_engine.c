/* The engine: what a request generates does not depend on what else runs, on the cache, on chunks or on preemption. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../quick.h"
#include "base/file.h"
#include "base/rng.h"
#include "fathom/engine.h"
#include "infer/blocks.h"
#include "infer/stops.h"
#include "model/adapter.h"
#include "model/model.h"

static char dir[64];

static int n_mtp, n_layers = 2, head_dim = 16, rope_dim = 8;
static uint64_t weights = 7;

static void write_model(const char *family, fm_dtype dtype) {
    fm_model_config cfg = {.vocab_size = 100,
                           .d_model = 48,
                           .n_layers = n_layers,
                           .n_heads = 6,
                           .n_kv_heads = 2,
                           .head_dim = head_dim,
                           .d_ff = 80,
                           .max_position = 512,
                           .act = FM_ACT_SILU,
                           .norm_eps = 1e-6,
                           .init_std = 0.15,
                           .rope = {.theta = 10000, .dim = head_dim, .factor = 1},
                           .bos_id = 1,
                           .eos_id = 2,
                           .pad_id = -1};
    snprintf(cfg.family, sizeof cfg.family, "%s", family);
    cfg.qk_norm = strncmp(family, "qwen3", 5) == 0;
    cfg.qkv_bias = strcmp(family, "qwen2") == 0;
    if (strcmp(family, "qwen3_moe") == 0) {
        cfg.moe = (fm_moe_config){
            .n_experts = 11, .n_active = 3, .d_ff = 40, .norm_topk = true, .layer_phase = 1, .aux_pooled = true};
    } else if (strncmp(family, "deepseek_v", 10) == 0) {
        cfg.n_kv_heads = cfg.n_heads;
        cfg.rope.dim = rope_dim;
        cfg.rope.interleaved = true;
        cfg.head_dim = 16 + rope_dim;
        cfg.mla = (fm_mla_config){.kv_rank = 32,
                                  .nope_dim = 16,
                                  .rope_dim = rope_dim,
                                  .v_dim = 16,
                                  .softmax_scale = 1 / sqrt(16.0 + rope_dim)};
        cfg.moe = (fm_moe_config){.n_experts = 8, .n_active = 2, .n_shared = 1, .d_ff = 24, .first_dense = 1};
        if (strcmp(family, "deepseek_v3") == 0) {
            cfg.moe.score = FM_ROUTER_SIGMOID;
            cfg.moe.group_score = FM_GROUP_SUM_TOP2;
            cfg.moe.correction_bias = true;
        }
    }
    cfg.n_mtp = n_mtp;
    fm_model *m;
    fm_status s = fm_model_build(&m, &cfg);
    if (s != FM_OK) {
        print_error("%s: %s\n", family, fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    assert_int_equal(fm_params_alloc(m->params, FM_F32), FM_OK);
    assert_int_equal(fm_params_init(m->params, weights, NULL), FM_OK);
    snprintf(dir, sizeof dir, "/tmp/fathom_engine_XXXXXX");
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

/* What a request gave; the test waits for `done`. */
#define MOST 64
typedef struct result {
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool done;
    int n;
    int32_t id[MOST];
    double logprob[MOST];
    fm_engine_event end;
    char message[200];
    fm_request *r;
} result;

static void on_event(void *user, const fm_engine_event *v) {
    result *r = user;
    pthread_mutex_lock(&r->lock);
    assert_false(r->done);
    if (v->id >= 0) {
        assert_true(r->n < MOST);
        r->id[r->n] = v->id;
        r->logprob[r->n++] = v->logprob;
    }
    if (v->last) {
        r->end = *v;
        snprintf(r->message, sizeof r->message, "%s", v->message);
        r->done = true;
    }
    pthread_cond_signal(&r->change);
    pthread_mutex_unlock(&r->lock);
}

static void submit_to(result *out, fm_engine *e, const int32_t *ids, int n, const fm_sampling *o, const char *adapter) {
    *out = (result){.n = 0};
    pthread_mutex_init(&out->lock, NULL);
    pthread_cond_init(&out->change, NULL);
    fm_generation g = {.size = sizeof g, .sampling = o, .adapter = adapter, .fn = on_event, .user = out};
    fm_status s = fm_engine_submit(&out->r, e, ids, n, &g);
    if (s != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
}

static void submit(result *out, fm_engine *e, const int32_t *ids, int n, const fm_sampling *o) {
    submit_to(out, e, ids, n, o, NULL);
}

static void wait_done(result *r) {
    pthread_mutex_lock(&r->lock);
    while (!r->done) {
        pthread_cond_wait(&r->change, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    fm_request_release(r->r);
}

static void wait_tokens(result *r, int n) {
    pthread_mutex_lock(&r->lock);
    while (!r->done && r->n < n) {
        pthread_cond_wait(&r->change, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
}

static fm_sampling options(int n, double temperature) {
    fm_sampling o = fm_sampling_default();
    o.max_new_tokens = n;
    o.temperature = temperature;
    o.logprobs = -1;
    o.ignore_eos = true;
    return o;
}

static void prompt(int32_t *ids, int n, uint64_t seed) {
    fm_rng_key k = {.seed = seed, .stream = fm_rng_stream("prompt")};
    for (int i = 0; i < n; i++) {
        ids[i] = (int32_t)fm_rng_below(k, (uint64_t)i, 100);
    }
}

typedef struct alone {
    int n;
    int32_t id[MOST];
    double logprob[MOST];
} alone;

static bool collect(void *user, const fm_token_out *t) {
    alone *a = user;
    a->id[a->n] = t->id;
    a->logprob[a->n++] = t->logprob;
    return true;
}

#define JOBS 24
typedef struct job {
    int32_t ids[300];
    int n;
    fm_sampling o;
    alone want;
    result got;
} job;

static void make_jobs(job *jobs, uint64_t seed) {
    fm_rng_key k = {.seed = seed, .stream = fm_rng_stream("jobs")};
    for (int i = 0; i < JOBS; i++) {
        job *j = &jobs[i];
        uint64_t at = (uint64_t)i * 8;
        int shared = (int)fm_rng_below(k, at, 3) * 50; /* some begin alike */
        j->n = shared + 1 + (int)fm_rng_below(k, at + 1, i % 5 == 0 ? 150 : 30);
        prompt(j->ids, j->n, 1000 + (uint64_t)i);
        prompt(j->ids, shared, 5);
        j->o = options(1 + (int)fm_rng_below(k, at + 2, 40), i % 3 == 0 ? 0.9 : 0);
        j->o.seed = fm_rng_below(k, at + 3, 5);
        j->o.frequency_penalty = i % 6 == 0 ? 0.5 : 0;
        memset(&j->want, 0, sizeof j->want);
    }
}

static void check_job(const job *j) {
    assert_int_equal(j->got.end.status, FM_OK);
    assert_int_equal(j->got.end.finish, FM_FINISH_LENGTH);
    assert_int_equal(j->got.n, j->want.n);
    assert_memory_equal(j->got.id, j->want.id, (size_t)j->want.n * sizeof(int32_t));
    assert_memory_equal(j->got.logprob, j->want.logprob, (size_t)j->want.n * sizeof(double));
    assert_int_equal(j->got.end.n_prompt, j->n);
    assert_int_equal(j->got.end.n_generated, j->want.n);
}

/* Each alone: by a session, or, where a session computes its prompt in another form (latent attention), by the engine
 * itself. */
static void alone_all(fm_model *m, job *jobs, bool session) {
    if (session) {
        for (int i = 0; i < JOBS; i++) {
            fm_session *s;
            assert_int_equal(fm_session_new(&s, m, 0), FM_OK);
            assert_int_equal(fm_session_generate(s, jobs[i].ids, jobs[i].n, &jobs[i].o, collect, &jobs[i].want, NULL),
                             FM_OK);
            fm_session_free(s);
        }
        return;
    }
    fm_engine *e;
    fm_engine_options o = {.size = sizeof o, .no_prefix_cache = true, .parallel = 1};
    assert_int_equal(fm_engine_new(&e, m, &o), FM_OK);
    for (int i = 0; i < JOBS; i++) {
        submit(&jobs[i].got, e, jobs[i].ids, jobs[i].n, &jobs[i].o);
        wait_done(&jobs[i].got);
        jobs[i].want.n = jobs[i].got.n;
        memcpy(jobs[i].want.id, jobs[i].got.id, sizeof jobs[i].want.id);
        memcpy(jobs[i].want.logprob, jobs[i].got.logprob, sizeof jobs[i].want.logprob);
    }
    fm_engine_free(e);
}

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

static void test_speculation(void **state) {
    (void)state;
    char small[sizeof dir];
    fm_engine_options lookup = {.lookup = true}, draft = {.draft_max = 5}, mtp = {.mtp = true};
    n_layers = 1;
    weights = 9;
    write_model("llama", FM_F32);
    memcpy(small, dir, sizeof small);
    n_layers = 2;
    weights = 7;
    write_model("llama", FM_F32);
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

/* A PEFT folder with random values. */
static void write_adapter(char *out, size_t cap, int rank, uint64_t seed) {
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj"};
    fm_adapter_config cfg = {.rank = rank, .alpha = 2.0 * rank, .target = targets, .n_targets = rank > 4 ? 3 : 2};
    fm_model *m;
    assert_int_equal(fm_model_load(&m, dir, true, FM_F32), FM_OK);
    assert_int_equal(fm_adapter_new(m, &cfg), FM_OK);
    fm_adapter *a = m->adapter;
    assert_int_equal(fm_params_alloc(a->params, FM_F32), FM_OK);
    assert_int_equal(fm_params_init(a->params, seed, NULL), FM_OK);
    fm_rng_key k = {.seed = seed, .stream = fm_rng_stream("adapter")};
    for (int i = 0; i < a->n; i++) {
        float *b = a->lora[i].b->data;
        for (int64_t j = 0; j < a->lora[i].b->numel; j++) {
            b[j] = (float)(fm_rng_uniform(k, (uint64_t)(i * 100000 + j)) - 0.5);
        }
    }
    snprintf(out, cap, "/tmp/fathom_adapter_XXXXXX");
    assert_non_null(mkdtemp(out));
    assert_int_equal(fm_adapter_save(m, out, dir), FM_OK);
    fm_model_close(m);
}

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
        cmocka_unit_test(test_blocks),      cmocka_unit_test(test_stops),
        cmocka_unit_test(test_ends),        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_bf16),        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_speculation), cmocka_unit_test(test_quantised_cache),
        cmocka_unit_test(test_adapters),    cmocka_unit_test(test_latent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
