/* DeepSeek V2, V3 and V3.2 against transformers (tests/golden/make_deepseek.py): logits, loss and the gradient of every
 * parameter, with packed texts longer than the original context; multi-token prediction layers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "io/safetensors.h"
#include "model/files.h"
#include "model/model.h"

#define DATA  FM_SOURCE_DIR "/tests/golden/data/deepseek_grads/"
#define MAX_T 64

typedef struct fixture {
    fm_model *m;
    fm_safetensors *golden;
    fm_ctx *c;
    fm_batch b;
    int32_t pos[MAX_T], targets[MAX_T];
    int32_t trained;
} fixture;

static void ok(fm_status s) {
    if (s != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
}

static const fm_st_tensor *golden(const fixture *f, const char *name) {
    const fm_st_tensor *t;
    ok(fm_safetensors_get(&t, f->golden, name));
    return t;
}

static void setup(fixture *f, const char *name) {
    char path[512];
    memset(f, 0, sizeof *f);
    snprintf(path, sizeof path, DATA "%s/golden", name);
    ok(fm_safetensors_open(&f->golden, path));
    snprintf(path, sizeof path, DATA "%s", name);
    ok(fm_model_load(&f->m, path, false, FM_F32));
    ok(fm_params_alloc_grads(f->m->params));
    ok(fm_ctx_new(&f->c, &(fm_ctx_options){.size = sizeof(fm_ctx_options),
                                           .backend = fm_cpu_backend(),
                                           .compute = FM_F32,
                                           .arena_bytes = 16 << 20,
                                           .grad_bytes = 16 << 20}));
    const fm_st_tensor *ids = golden(f, "ids"), *off = golden(f, "offsets");
    f->b = (fm_batch){.n_tokens = (int32_t)ids->dims[0],
                      .n_segments = (int32_t)off->dims[0] - 1,
                      .ids = (const int32_t *)(const void *)ids->data,
                      .pos = f->pos,
                      .q_offsets = (const int32_t *)(const void *)off->data,
                      .targets = f->targets};
    assert_true(f->b.n_tokens <= MAX_T);
    for (int32_t s = 0; s < f->b.n_segments; s++) {
        int32_t end = f->b.q_offsets[s + 1];
        for (int32_t t = f->b.q_offsets[s]; t < end; t++) {
            f->pos[t] = t - f->b.q_offsets[s];
            f->targets[t] = t + 1 < end ? f->b.ids[t + 1] : -100;
            f->trained += t + 1 < end;
        }
    }
}

static void teardown(fixture *f) {
    fm_ctx_free(f->c);
    fm_model_close(f->m);
    fm_safetensors_close(f->golden);
}

/* |a - b| / |b|; 0 for both zero. */
static double distance(const float *a, const float *b, int64_t n) {
    double num = 0, den = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        num += d * d;
        den += (double)b[i] * (double)b[i];
    }
    return num == 0 ? 0 : sqrt(num / den);
}

static double loss_of(fixture *f, double mtp_weight, bool backward) {
    fm_loss_options o = {.ignore_index = -100, .scale = 1.0 / f->trained, .is_root = true};
    f->m->cfg.mtp_weight = mtp_weight;
    fm_ctx_set_training(f->c, true);
    fm_tape_begin(f->c);
    fm_params_begin_step(f->m->params);
    fm_tensor *l = fm_model_loss(f->c, f->m, &f->b, &o, NULL);
    ok(fm_ctx_status(f->c));
    double v = fm_load_as_f64(l->dtype, fm_data(f->c, l), 0);
    if (backward) {
        ok(fm_backward(f->c, l, 1));
    }
    fm_tape_off(f->c);
    fm_ctx_set_training(f->c, false);
    return v;
}

/* The largest distance over the gradients; every parameter that the golden file has no gradient of has none here. */
static double gradients(const fixture *f, const char **worst) {
    double most = 0;
    *worst = "";
    for (int i = 0; i < fm_params_count(f->m->params); i++) {
        const fm_param *p = fm_params_at(f->m->params, i);
        char name[160];
        snprintf(name, sizeof name, "grad.%s", p->name);
        const fm_st_tensor *g = fm_safetensors_find(f->golden, name);
        if (!g || p->tie) {
            assert_false(!p->tie && p->grad && p->grad_written);
            continue;
        }
        assert_true(p->grad_written && g->bytes == 4 * p->numel);
        double d = distance(p->grad, (const float *)(const void *)g->data, p->numel);
        if (d > most) {
            most = d;
            *worst = p->name;
        }
    }
    return most;
}

static const char *const cases[] = {"v2_lite", "v2", "v3", "v3_mtp", "v32"};

static void test_against_autograd(void **state) {
    (void)state;
    for (size_t i = 0; i < 2 * FM_ARRAY_LEN(cases); i++) {
        fixture f;
        const char *worst;
        setup(&f, cases[i / 2]);
        f.m->checkpoint_layers = i % 2;
        double want = (double)((const float *)(const void *)golden(&f, "loss")->data)[0];
        double loss = loss_of(&f, 0.3, true), g = gradients(&f, &worst);
        fm_ctx_reset(f.c);
        fm_tensor *y = fm_model_head(f.c, f.m, fm_model_forward(f.c, f.m, &f.b), NULL);
        ok(fm_ctx_status(f.c));
        const fm_st_tensor *logits = golden(&f, "logits");
        assert_int_equal(fm_numel(y) * 4, logits->bytes);
        double d = distance(fm_data(f.c, y), (const float *)(const void *)logits->data, fm_numel(y));
        print_message("%-8s %s logits %.1e  loss %.6f (%.1e)  gradients %.1e %s\n", cases[i / 2],
                      i % 2 ? "recomputed" : "kept", d, loss, loss / want - 1, g, worst);
        assert_true(d < 1e-5);
        assert_true(fabs(loss / want - 1) < 2e-6);
        assert_true(g < 3e-5);
        teardown(&f);
    }
}

/* ids one place later in each text; the last row of a text stands for nothing. */
static void later(const fixture *f, int32_t *ids) {
    for (int32_t s = 0; s < f->b.n_segments; s++) {
        for (int32_t t = f->b.q_offsets[s], end = f->b.q_offsets[s + 1]; t < end; t++) {
            ids[t] = t + 1 < end ? f->b.ids[t + 1] : 0;
        }
    }
}

/* Logits [rows - 1 of each text, V] of the prediction layer. */
static void test_mtp_logits(void **state) {
    (void)state;
    fixture f;
    int32_t ids[MAX_T];
    setup(&f, "v3_mtp");
    assert_int_equal(f.m->cfg.n_mtp, 1);
    later(&f, ids);
    fm_batch b = f.b;
    b.ids = ids;
    fm_tensor *h = fm_model_forward(f.c, f.m, &f.b);
    fm_tensor *y = fm_model_head(f.c, f.m, fm_model_mtp_forward(f.c, f.m, 0, &b, h), NULL);
    ok(fm_ctx_status(f.c));
    const float *have = fm_data(f.c, y), *want = (const float *)(const void *)golden(&f, "mtp_logits")->data;
    int64_t v = f.m->cfg.vocab_size, row = 0;
    for (int32_t s = 0; s < b.n_segments; s++) {
        int32_t n = b.q_offsets[s + 1] - b.q_offsets[s] - 1;
        assert_true(distance(have + b.q_offsets[s] * v, want + row * v, n * v) < 1e-5);
        row += n;
    }
    assert_int_equal(golden(&f, "mtp_logits")->dims[0], row);
    assert_null(fm_model_mtp_forward(f.c, f.m, 1, &b, h)); /* one layer only */
    assert_int_equal(fm_ctx_status(f.c), FM_ERR_ARGUMENT);
    teardown(&f);
}

/* The prediction layer token by token over a cache. */
static void test_mtp_cached(void **state) {
    (void)state;
    fixture f;
    int32_t ids[MAX_T], heads, k_dim, v_dim;
    fm_kv_cache *kv;
    setup(&f, "v3_mtp");
    later(&f, ids);
    fm_model_kv_shape(&f.m->cfg, &heads, &k_dim, &v_dim);
    ok(fm_kv_cache_new(&kv, f.m->cfg.n_layers + 1, heads, k_dim, v_dim, FM_F32, MAX_T, 0));
    const float *want = (const float *)(const void *)golden(&f, "mtp_logits")->data;
    int64_t v = f.m->cfg.vocab_size;
    for (int32_t t = 0; t + 1 < f.b.q_offsets[1]; t++) {
        int32_t q_offsets[2] = {0, 1}, kv_offsets[2] = {0, t + 1}, slot = t;
        fm_batch b = {.n_tokens = 1,
                      .n_segments = 1,
                      .ids = f.b.ids + t,
                      .pos = f.pos + t,
                      .q_offsets = q_offsets,
                      .kv = kv,
                      .kv_offsets = kv_offsets,
                      .slots = &slot};
        fm_ctx_reset(f.c);
        fm_tensor *h = fm_model_forward(f.c, f.m, &b);
        b.ids = ids + t;
        fm_tensor *y = fm_model_head(f.c, f.m, fm_model_mtp_forward(f.c, f.m, 0, &b, h), NULL);
        ok(fm_ctx_status(f.c));
        assert_true(distance(fm_data(f.c, y), want + t * v, v) < 1e-5);
    }
    fm_kv_cache_free(kv);
    /* A cache without room for the layer is refused. */
    ok(fm_kv_cache_new(&kv, f.m->cfg.n_layers, heads, k_dim, v_dim, FM_F32, MAX_T, 0));
    int32_t q_offsets[2] = {0, 1}, slot = 0;
    fm_batch b = f.b;
    b.n_tokens = b.n_segments = 1;
    b.kv = kv;
    b.kv_offsets = b.q_offsets = q_offsets;
    b.slots = &slot;
    fm_ctx_reset(f.c);
    fm_tensor *h = fm_model_forward(f.c, f.m, &b);
    assert_null(fm_model_mtp_forward(f.c, f.m, 0, &b, h));
    assert_int_equal(fm_ctx_status(f.c), FM_ERR_ARGUMENT);
    fm_kv_cache_free(kv);
    teardown(&f);
}

/* Logits of the first text in steps of `step` tokens over a cache: distance to the golden ones. last [V] (or NULL) gets
 * those of the last token. */
static double cached_in_steps(fixture *f, int32_t step, float *last) {
    int32_t heads, k_dim, v_dim, n = f->b.q_offsets[1];
    fm_kv_cache *kv;
    fm_model_kv_shape(&f->m->cfg, &heads, &k_dim, &v_dim);
    ok(fm_kv_cache_new(&kv, f->m->cfg.n_layers, heads, k_dim, v_dim, FM_F32, MAX_T, 0));
    assert_int_equal(fm_kv_cache_bytes(kv), MAX_T * fm_model_kv_bytes_per_token(&f->m->cfg, FM_F32));
    const float *want = (const float *)(const void *)golden(f, "logits")->data;
    int64_t v = f->m->cfg.vocab_size;
    double most = 0;
    for (int32_t t = 0; t < n; t += step) {
        int32_t m = FM_MIN(step, n - t), q_offsets[2] = {0, m}, kv_offsets[2] = {0, t + m};
        fm_batch b = {.n_tokens = m,
                      .n_segments = 1,
                      .ids = f->b.ids + t,
                      .pos = f->pos + t,
                      .q_offsets = q_offsets,
                      .kv = kv,
                      .kv_offsets = kv_offsets,
                      .slots = f->pos + t};
        fm_ctx_reset(f->c);
        fm_tensor *y = fm_model_head(f->c, f->m, fm_model_forward(f->c, f->m, &b), NULL);
        ok(fm_ctx_status(f->c));
        const float *have = fm_data(f->c, y);
        most = fmax(most, distance(have, want + t * v, m * v));
        if (last && t + m == n) {
            memcpy(last, have + (m - 1) * v, (size_t)v * sizeof *last);
        }
    }
    fm_kv_cache_free(kv);
    return most;
}

/* Absorbed attention over the latent cache, token by token and by chunks, equals the expanded form; with an indexer
 * too. */
static void test_cached(void **state) {
    (void)state;
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        fixture f;
        setup(&f, cases[i]);
        for (int32_t step = 1; step <= 13; step += 4) {
            assert_true(cached_in_steps(&f, step, NULL) < 1e-5);
        }
        teardown(&f);
    }
}

/* The indexer's choice shows: other numbers of keys give other logits, and as many as there are give dense attention,
 * which is what a model without an indexer computes. */
static void test_sparse_acts(void **state) {
    (void)state;
    fixture f;
    float last[5][64];
    const int32_t topk[] = {4, 6, 12, 13, 100}; /* of 13 tokens */
    setup(&f, "v32");
    assert_int_equal(f.m->cfg.mla.index_topk, 5);
    assert_int_equal(f.b.q_offsets[1], 13);
    size_t bytes = (size_t)f.m->cfg.vocab_size * sizeof(float);
    assert_true(bytes <= sizeof last[0]);
    for (size_t i = 0; i < FM_ARRAY_LEN(topk); i++) {
        f.m->cfg.mla.index_topk = topk[i];
        assert_true(cached_in_steps(&f, 1, last[i]) > 1e-3);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_true(distance(last[i], last[i + 1], f.m->cfg.vocab_size) > 1e-4);
    }
    assert_memory_equal(last[3], last[4], bytes);
    teardown(&f);
}

/* Weight 0: the loss and all gradients of a model without prediction layers, bit for bit. */
static void test_weight_zero_is_none(void **state) {
    (void)state;
    fixture f, g;
    setup(&f, "v3_mtp");
    setup(&g, "v3_mtp");
    double all = loss_of(&g, 0.3, true);
    int32_t n_mtp = g.m->cfg.n_mtp;
    g.m->cfg.n_mtp = 0;
    double without = loss_of(&g, 0.3, true), zero = loss_of(&f, 0, true);
    assert_true(zero == without && zero != all);
    for (int i = 0; i < fm_params_count(f.m->params); i++) {
        const fm_param *p = fm_params_at(f.m->params, i), *q = fm_params_at(g.m->params, i);
        assert_true(p->grad_written == q->grad_written);
        if (p->grad_written) {
            assert_memory_equal(p->grad, q->grad, (size_t)p->numel * 4);
        }
        bool of_layer = strncmp(p->name, "model.layers.2.", 15) == 0;
        assert_true(!of_layer || !p->grad_written);
    }
    g.m->cfg.n_mtp = n_mtp;
    teardown(&f);
    teardown(&g);
}

/* All tensors of a folder are in the other one with the same bits. */
static void same_files(const char *a, const char *b) {
    fm_safetensors *x, *y;
    ok(fm_safetensors_open(&x, a));
    ok(fm_safetensors_open(&y, b));
    assert_int_equal(fm_safetensors_count(x), fm_safetensors_count(y));
    for (size_t i = 0; i < fm_safetensors_count(x); i++) {
        const fm_st_tensor *t = fm_safetensors_at(x, i), *u;
        ok(fm_safetensors_get(&u, y, t->name));
        assert_int_equal(t->bytes, u->bytes);
        assert_memory_equal(t->data, u->data, (size_t)t->bytes);
    }
    fm_safetensors_close(x);
    fm_safetensors_close(y);
}

static void test_files(void **state) {
    (void)state;
    char dir[64] = "/tmp/fathom_deepseek_XXXXXX", path[128];
    fm_model *m;
    assert_non_null(mkdtemp(dir));
    ok(fm_model_load(&m, DATA "v3_mtp", true, FM_F32));
    ok(fm_model_save(m, dir, FM_F32, 0));
    same_files(DATA "v3_mtp", dir);
    fm_model_close(m);
    ok(fm_model_load(&m, dir, true, FM_F32));
    assert_int_equal(m->cfg.n_mtp, 1);
    fm_model_close(m);

    /* The number without the weights, as transformers saves: no prediction layers. (Training refuses: test_experts.) */
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(DATA "v3/model.safetensors", path), 0);
    ok(fm_model_load(&m, dir, true, FM_F32));
    assert_int_equal(m->cfg.n_mtp, 0);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

/* DeepSeek V3 with its prediction layer: what the layer adds to the published model. */
static void test_published_mtp(void **state) {
    (void)state;
    static const char text[] =
        "{\"architectures\":[\"DeepseekV3ForCausalLM\"],\"vocab_size\":129280,\"hidden_size\":7168,"
        "\"num_hidden_layers\":61,\"num_attention_heads\":128,\"intermediate_size\":18432,\"q_lora_rank\":1536,"
        "\"tie_word_embeddings\":false,\"num_nextn_predict_layers\":1}";
    fm_model_config cfg;
    const fm_family *family;
    fm_json *json;
    fm_model *m;
    ok(fm_json_parse(&json, text, strlen(text), "config"));
    ok(fm_model_config_parse(&cfg, &family, json));
    fm_json_free(json);
    assert_int_equal(fm_model_config_params(&cfg), 671026419200);
    assert_int_equal(fm_model_config_params_mtp(&cfg), 11610068224);
    ok(fm_model_build(&m, &cfg)); /* the store has what is on paper */
    assert_int_equal(fm_params_numel(m->params), 671026419200 + 11610068224);
    assert_int_equal(fm_model_params_active(m), fm_model_config_params_active(&cfg));
    fm_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_autograd),
        cmocka_unit_test(test_mtp_logits),
        cmocka_unit_test(test_mtp_cached),
        cmocka_unit_test(test_weight_zero_is_none),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_cached),
        cmocka_unit_test(test_sparse_acts),
        cmocka_unit_test(test_published_mtp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
