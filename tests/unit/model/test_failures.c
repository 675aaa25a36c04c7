/* Every allocation refused in turn (failures.h): tokenizer, loading, a training step, saving, adapters, inference. */
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
#include "fathom/option.h"
#include "fathom/tokenizer.h"
#include "model/adapter.h"
#include "model/model.h"
#include "model/quant_base.h"
#include "../failures.h"

#define T        24
#define V        300
#define N_SAMPLE 4

static char dir[64], out_dir[80]; /* a model with a tokenizer; where things are saved */
static const char text[] =
    "The quick brown fox 123 jumps over the lazy dog; \xe4\xbd\xa0\xe5\xa5\xbd, <eos> na\xc3\xafve.";

/* ---- tokenizer ----------------------------------------------------------------------------------- */

static fm_status use_tokenizer(const fm_tokenizer *t, uint64_t *sum) {
    fm_tokens ids = {0};
    fm_token_batch batch = {0};
    char *back = NULL;
    size_t n = 0;
    fm_encode_options o = {.size = sizeof o, .allow_special = true, .add_special = true, .n_threads = 2};
    fm_text texts[N_SAMPLE];
    for (size_t i = 0; i < N_SAMPLE; i++) {
        texts[i] = (fm_text){.ptr = text, .len = sizeof text - 1 - 5 * i};
    }
    fm_status s = fm_tokenizer_encode(&ids, t, text, sizeof text - 1, &o);
    if (s == FM_OK) {
        s = fm_tokenizer_encode_batch(&batch, t, texts, N_SAMPLE, &o);
    }
    if (s == FM_OK) {
        s = fm_tokenizer_decode(&back, &n, t, ids.ids, ids.n, NULL);
    }
    if (s == FM_OK) {
        *sum = fm_hash64(ids.ids, ids.n * sizeof *ids.ids, 1) ^ fm_hash64(back, n, 2) ^
               fm_hash64(batch.ids, batch.offset[batch.n_texts] * sizeof *batch.ids, 3);
    }
    fm_string_free(back);
    fm_tokens_free(&ids);
    fm_token_batch_free(&batch);
    return s;
}

static fm_status tokenizer(int variant, uint64_t *sum) {
    (void)variant;
    fm_tokenizer *t;
    FM_TRY(fm_tokenizer_open(&t, dir));
    fm_status s = use_tokenizer(t, sum);
    fm_tokenizer_free(t);
    return s;
}

static fm_status next_text(void *user, fm_text *out, bool *end) {
    int *left = user;
    *end = (*left)-- <= 0;
    *out = (fm_text){.ptr = text, .len = sizeof text - 1};
    return FM_OK;
}

/* Variant 1 saves it as well (2: as part of the model of all tests). */
static fm_status train_tokenizer(int variant, uint64_t *sum) {
    int left = 4;
    const char *special[] = {"<bos>", "<eos>"};
    fm_bpe_train_options o = {.size = sizeof o,
                              .vocab_size = V,
                              .special = special,
                              .n_special = 2,
                              .bos = "<bos>",
                              .eos = "<eos>",
                              .add_bos = true,
                              .n_threads = 2};
    fm_tokenizer *t;
    FM_TRY(fm_tokenizer_train(&t, NULL, next_text, &left, &o));
    *sum = (uint64_t)fm_tokenizer_vocab_size(t);
    fm_status s = variant > 0 ? fm_tokenizer_save(t, variant == 1 ? out_dir : dir) : FM_OK;
    fm_tokenizer_free(t);
    return s;
}

/* ---- models -------------------------------------------------------------------------------------- */

static uint64_t hash_params(const fm_model *m) {
    uint64_t h = 0;
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i);
        h = fm_hash64(p->data, (size_t)fm_dtype_bytes(p->dtype, p->numel), h);
    }
    return h;
}

static fm_status load(int variant, uint64_t *sum) {
    fm_model *m;
    FM_TRY(fm_model_load(&m, dir, variant == 1, FM_F32));
    *sum = hash_params(m);
    fm_model_close(m);
    return FM_OK;
}

static fm_status use_model(fm_model *m, uint64_t *sum) {
    static const int32_t ids[] = {1, 5, 200, 7, 7, 299};
    float logits[6 * V];
    fm_model_info info;
    const fm_tokenizer *t;
    FM_TRY(fm_model_get_info(&info, m));
    FM_TRY(fm_model_tokenizer(&t, m));
    FM_TRY(fm_model_logits(m, ids, 6, logits));
    *sum = fm_hash64(logits, sizeof logits, (uint64_t)info.n_params);
    return FM_OK;
}

static fm_status infer(int variant, uint64_t *sum) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = variant == 1 ? "bf16" : "f32", .threads = 2};
    FM_TRY(fm_model_open(&m, dir, &o));
    fm_status s = use_model(m, sum);
    fm_model_close(m);
    return s;
}

static fm_status save(int variant, uint64_t *sum) {
    fm_model *m;
    FM_TRY(fm_model_load(&m, dir, true, FM_F32));
    fm_status s = fm_model_save(m, out_dir, variant == 2 ? FM_BF16 : FM_F32, variant == 1 ? 20000 : 0);
    *sum = hash_params(m);
    fm_model_close(m);
    if (s == FM_OK) {
        FM_TRY(fm_model_load(&m, out_dir, true, FM_F32));
        *sum += hash_params(m);
        fm_model_close(m);
    }
    return s;
}

/* ---- a training step ------------------------------------------------------------------------------ */

static fm_model_config tiny(void) {
    fm_model_config cfg = {.family = "qwen3",
                           .vocab_size = V,
                           .d_model = 24,
                           .n_layers = 2,
                           .n_heads = 4,
                           .n_kv_heads = 2,
                           .head_dim = 8,
                           .d_ff = 32,
                           .max_position = 64,
                           .act = FM_ACT_SILU,
                           .norm_eps = 1e-5,
                           .init_std = 0.2,
                           .rope = {.theta = 100, .dim = 8, .factor = 1},
                           .tied = true,
                           .qk_norm = true,
                           .hidden_dropout = 0.1,
                           .bos_id = -1,
                           .eos_id = -1,
                           .pad_id = -1};
    return cfg;
}

static fm_status update(fm_ctx *c, fm_params *ps) {
    for (int i = 0; i < fm_params_count(ps); i++) {
        fm_param *p = fm_params_at(ps, i);
        size_t bytes = (size_t)p->numel * sizeof(float);
        void *moments = NULL;
        FM_TRY(fm_pages_alloc(&moments, 2 * bytes, FM_MEM_OPTIMIZER));
        fm_adamw_args a = {.n = p->numel,
                           .w = p->data,
                           .g = p->grad,
                           .m = moments,
                           .v = (uint8_t *)moments + bytes,
                           .w_bf16 = p->copy.dtype == FM_BF16 ? p->copy.data : NULL,
                           .lr = 0.01,
                           .beta1 = 0.9,
                           .beta2 = 0.99,
                           .eps = 1e-8,
                           .bias1 = 0.1,
                           .bias2 = 0.01,
                           .grad_scale = 1};
        fm_status s = fm_kernel_run(fm_cpu_backend(), fm_ctx_exec(c), FM_K_adamw, FM_F32, &a);
        fm_pages_free(moments, 2 * bytes, FM_MEM_OPTIMIZER);
        FM_TRY(s);
        fm_param_changed(p);
    }
    return FM_OK;
}

static fm_status step(fm_ctx *c, fm_model *m, uint64_t *sum) {
    static int32_t ids[T], pos[T], targets[T], offsets[] = {0, 9, 10, T};
    for (int k = 0; k < 3; k++) {
        for (int32_t t = offsets[k]; t < offsets[k + 1]; t++) {
            ids[t] = (t * 31 + 7) % V;
            pos[t] = t - offsets[k];
            targets[t] = t % 5 == 4 ? -100 : (t * 17 + 3) % V;
        }
    }
    fm_batch b = {.n_tokens = T, .n_segments = 3, .ids = ids, .pos = pos, .q_offsets = offsets, .targets = targets};
    fm_loss_options lo = {.ignore_index = -100, .scale = 0.05, .is_root = true};
    fm_ctx_set_training(c, true);
    fm_params_begin_step(m->params);
    fm_tape_begin(c);
    fm_tensor *l = fm_model_loss(c, m, &b, &lo, NULL);
    if (!l) {
        return fm_ctx_status(c) != FM_OK ? fm_ctx_status(c) : FM_ERR_STATE;
    }
    FM_TRY(fm_backward(c, l, 1));
    FM_TRY(update(c, m->params));
    *sum = hash_params(m);
    return FM_OK;
}

/* Variants: bit 0 bf16, bit 1 recomputation. */
static fm_status train(int variant, uint64_t *sum) {
    fm_model_config cfg = tiny();
    fm_model *m = NULL;
    fm_pool *pool = NULL;
    fm_ctx *c = NULL;
    fm_dtype compute = variant & 1 ? FM_BF16 : FM_F32;
    FM_TRY(fm_model_build(&m, &cfg));
    m->checkpoint_layers = (variant & 2) != 0;
    fm_status s = fm_pool_new(&pool, 2);
    s = s == FM_OK ? fm_params_alloc(m->params, FM_F32) : s;
    s = s == FM_OK ? fm_params_init(m->params, 3, pool) : s;
    s = s == FM_OK ? fm_params_alloc_grads(m->params) : s;
    s = s == FM_OK ? fm_params_alloc_copies(m->params, compute) : s;
    fm_ctx_options o = {.size = sizeof o,
                        .backend = fm_cpu_backend(),
                        .pool = pool,
                        .compute = compute,
                        .arena_bytes = 2 << 20,
                        .grad_bytes = 1 << 20};
    s = s == FM_OK ? fm_ctx_new(&c, &o) : s;
    s = s == FM_OK ? step(c, m, sum) : s;
    fm_ctx_free(c);
    fm_pool_free(pool);
    fm_model_close(m);
    return s;
}

/* A DoRA adapter with a whole module over a base in nf4 (variant 0), int8 (1) or as it is (2): made, saved, opened, and
 * of variant 2 merged. */
static fm_status adapt(int variant, uint64_t *sum) {
    static const char *const all[] = {"all"}, *const whole[] = {"model.norm", "lm_head"};
    fm_adapter_config ac = {
        .rank = 2, .alpha = 4, .dora = true, .target = all, .n_targets = 1, .whole = whole, .n_whole = 2};
    fm_quant_base q = {.type = variant == 0 ? FM_NF4 : FM_I8, .twice = true};
    fm_model_config cfg = tiny();
    fm_model *m = NULL, *file = NULL;
    fm_scratch *scratch = NULL;
    fm_status s = fm_model_build(&m, &cfg);
    s = s == FM_OK ? fm_adapter_new(m, &ac) : s;
    s = s == FM_OK && variant < 2 ? fm_quant_base_describe(m, &q) : s;
    s = s == FM_OK ? fm_params_alloc(m->params, FM_F32) : s;
    s = s == FM_OK ? fm_params_alloc(m->adapter->params, FM_F32) : s;
    s = s == FM_OK ? fm_scratch_new(&scratch) : s;
    fm_exec x = {.scratch = scratch};
    s = s == FM_OK ? fm_model_load(&file, dir, true, FM_F32) : s;
    for (int i = 0; s == FM_OK && variant < 2 && i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        s = fm_param_quantised(p) ? fm_param_quantise(fm_cpu_backend(), &x, p, fm_params_find(file->params, p->name))
                                  : FM_OK;
    }
    s = s == FM_OK ? fm_params_init(m->adapter->params, 3, NULL) : s;
    s = s == FM_OK ? fm_adapter_begin_values(m, &x) : s;
    s = s == FM_OK ? fm_adapter_save(m, out_dir, "base") : s;
    s = s == FM_OK ? fm_adapter_read(m, out_dir) : s;
    fm_model_close(file);
    fm_model_close(m);
    fm_scratch_free(scratch);
    FM_TRY(s);
    FM_TRY(fm_model_load(&m, dir, false, FM_F32));
    s = fm_adapter_open(m, out_dir);
    s = s == FM_OK && variant == 2 ? fm_adapter_merge(m) : s;
    *sum = s == FM_OK ? hash_params(m) : 0;
    fm_model_close(m);
    return s;
}

/* A context whose step failed for lack of memory does the same step when there is memory again. */
static void test_context_recovers(void **state) {
    (void)state;
    fm_model_config cfg = tiny();
    fm_ctx_options o = {.size = sizeof o, .backend = fm_cpu_backend(), .compute = FM_F32};
    o.arena_bytes = o.grad_bytes = 2 << 20;
    for (int recompute = 0; recompute < 2; recompute++) {
        uint64_t want = 0;
        for (int64_t n = 0; n < 400; n++) { /* 0: nothing refused */
            fm_model *m;
            fm_ctx *c;
            uint64_t sum = 0;
            assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
            m->checkpoint_layers = recompute == 1;
            assert_int_equal(fm_params_alloc(m->params, FM_F32), FM_OK);
            assert_int_equal(fm_params_init(m->params, 3, NULL), FM_OK);
            assert_int_equal(fm_params_alloc_grads(m->params), FM_OK);
            assert_int_equal(fm_ctx_new(&c, &o), FM_OK);
            fm_mem_fail_at(n, false);
            fm_status s = step(c, m, &sum);
            bool reached = n == 0 || fm_mem_alloc_count() >= n;
            fm_mem_fail_at(0, false);
            if (s != FM_OK) { /* the update may have begun: the weights anew, the context as it is */
                assert_int_equal(s, FM_ERR_NO_MEMORY);
                assert_int_equal(fm_params_init(m->params, 3, NULL), FM_OK);
                s = step(c, m, &sum);
            }
            assert_int_equal(s, FM_OK);
            want = n == 0 ? sum : want;
            assert_true(sum == want);
            fm_ctx_free(c);
            fm_model_close(m);
            if (!reached) {
                break;
            }
        }
    }
}

/* ---- the harness itself ---------------------------------------------------------------------------- */

/* Variants: loses memory, reports another status, gives another result. */
static void *lost;
static fm_status faulty(int variant, uint64_t *sum) {
    void *first = fm_malloc(64), *second = fm_malloc(64);
    *sum = second ? 1 : 2;
    fm_status s = FM_OK;
    if (!second && variant < 2) {
        s = fm_error_set(variant == 1 ? FM_ERR_IO : FM_ERR_NO_MEMORY, __FILE__, __LINE__, "on purpose");
    }
    if (second || variant > 0) {
        fm_free(first);
    } else {
        lost = first;
    }
    fm_free(second);
    return s;
}

static void test_harness_notices(void **state) {
    (void)state;
    static const failures_work w = {"on purpose", faulty, 3, NULL, NULL};
    int survived = 0;
    print_message("three faults on purpose:\n");
    for (int v = 0; v < 3; v++) {
        assert_true(failures_check_one(&w, v, 2, false, 1, &survived) > 0);
        fm_free(lost);
        lost = NULL;
        assert_int_equal(failures_check_one(&w, v, 3, false, 1, &survived), 0);
    }
}

/* ---- all ------------------------------------------------------------------------------------------ */

static const failures_work works[] = {
    {"tokenizer", tokenizer, 1, NULL, NULL}, {"bpe train", train_tokenizer, 2, out_dir, NULL},
    {"load", load, 2, NULL, NULL},           {"infer", infer, 2, NULL, NULL},
    {"save", save, 3, out_dir, NULL},        {"train", train, 4, NULL, NULL},
    {"adapter", adapt, 3, out_dir, NULL},
};

static void run_work(void **state) {
    failures_check(*state);
}

static int setup(void **state) {
    (void)state;
    fm_model_config cfg = tiny();
    fm_model *m = NULL;
    uint64_t sum;
    snprintf(dir, sizeof dir, "/tmp/fathom_failures_XXXXXX");
    if (!mkdtemp(dir)) {
        return -1;
    }
    snprintf(out_dir, sizeof out_dir, "%s/out", dir);
    bool good = fm_mkdirs(out_dir) == FM_OK && train_tokenizer(2, &sum) == FM_OK;
    good = good && fm_model_build(&m, &cfg) == FM_OK && fm_params_alloc(m->params, FM_F32) == FM_OK &&
           fm_params_init(m->params, 3, NULL) == FM_OK && fm_model_save(m, dir, FM_F32, 0) == FM_OK;
    fm_model_close(m);
    return good ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    return fm_remove_tree(dir) == FM_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_harness_notices),
        {"tokenizer", run_work, NULL, NULL, (void *)&works[0]},
        {"bpe train", run_work, NULL, NULL, (void *)&works[1]},
        {"load", run_work, NULL, NULL, (void *)&works[2]},
        {"infer", run_work, NULL, NULL, (void *)&works[3]},
        {"save", run_work, NULL, NULL, (void *)&works[4]},
        {"train", run_work, NULL, NULL, (void *)&works[5]},
        {"adapter", run_work, NULL, NULL, (void *)&works[6]},
        cmocka_unit_test(test_context_recovers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
