/* What the tests of the engine share: small models, requests that are waited for, and what they give alone. */
#ifndef FM_TEST_ENGINE_UTIL_H
#define FM_TEST_ENGINE_UTIL_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
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

static int n_mtp, n_layers = 2, head_dim = 16, rope_dim = 8, d_model = 48, d_ff = 80;
static uint64_t weights = 7;

static inline void write_model(const char *family, fm_dtype dtype) {
    fm_model_config cfg = {.vocab_size = 100,
                           .d_model = d_model,
                           .n_layers = n_layers,
                           .n_heads = 6,
                           .n_kv_heads = 2,
                           .head_dim = head_dim,
                           .d_ff = d_ff,
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

static inline fm_model *open_model(const char *dtype) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = dtype, .threads = 2};
    fm_status s = fm_model_open(&m, dir, &o);
    if (s != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    return m;
}

/* A PEFT folder with random values. */
static inline void write_adapter(char *out, size_t cap, int rank, uint64_t seed) {
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

static inline void on_event(void *user, const fm_engine_event *v) {
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

static inline void submit_to(result *out, fm_engine *e, const int32_t *ids, int n, const fm_sampling *o,
                             const char *adapter) {
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

static inline void submit(result *out, fm_engine *e, const int32_t *ids, int n, const fm_sampling *o) {
    submit_to(out, e, ids, n, o, NULL);
}

static inline void wait_done(result *r) {
    pthread_mutex_lock(&r->lock);
    while (!r->done) {
        pthread_cond_wait(&r->change, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    fm_request_release(r->r);
}

static inline void wait_tokens(result *r, int n) {
    pthread_mutex_lock(&r->lock);
    while (!r->done && r->n < n) {
        pthread_cond_wait(&r->change, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
}

static inline fm_sampling options(int n, double temperature) {
    fm_sampling o = fm_sampling_default();
    o.max_new_tokens = n;
    o.temperature = temperature;
    o.logprobs = -1;
    o.ignore_eos = true;
    return o;
}

static inline void prompt(int32_t *ids, int n, uint64_t seed) {
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

static inline bool collect(void *user, const fm_token_out *t) {
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

static inline void make_jobs(job *jobs, uint64_t seed) {
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

static inline void check_job(const job *j) {
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
static inline void alone_all(fm_model *m, job *jobs, bool session) {
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

#endif
