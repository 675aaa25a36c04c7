/* Every family learns: on a tiny corpus its validation loss falls below the entropy of single tokens, which needs
 * context. Masked language models resume exactly, and refuse what they cannot train. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <sys/wait.h>

#include "learn_fixture.h"

#define BERT                                                                                                           \
    "\"hidden_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,\"intermediate_size\":96,\"vocab_size\":"    \
    "300,"                                                                                                             \
    "\"max_position_embeddings\":64,\"initializer_range\":0.08"

#define DECODER                                                                                                        \
    "\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,"                   \
    "\"num_key_value_heads\":2,\"head_dim\":8,\"vocab_size\":300,\"max_position_embeddings\":128,"                     \
    "\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"hidden_act\":\"silu\",\"initializer_range\":0.02"

/* Those with experts: test_experts.c. */
static const struct {
    const char *name, *stage, *config, *steps;
} families[] = {
    {"llama", "pt", "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\"," DECODER "}", "90"},
    {"qwen2", "pt",
     "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\"," DECODER ",\"tie_word_embeddings\":true}",
     "90"},
    {"qwen3", "pt", "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\"," DECODER "}", "90"},
    {"mistral", "pt",
     "{\"architectures\":[\"MistralForCausalLM\"],\"model_type\":\"mistral\"," DECODER ",\"sliding_window\":4}", "90"},
    {"gpt2", "pt",
     "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\",\"n_embd\":32,\"n_layer\":2,\"n_head\":4,"
     "\"vocab_size\":300,\"n_positions\":64}",
     "90"},
    {"bloom", "pt",
     "{\"architectures\":[\"BloomForCausalLM\"],\"model_type\":\"bloom\",\"hidden_size\":32,\"n_layer\":2,\"n_head\":4,"
     "\"vocab_size\":300}",
     "90"},
    {"mpt", "pt",
     "{\"architectures\":[\"MptForCausalLM\"],\"model_type\":\"mpt\",\"d_model\":32,\"n_layers\":2,\"n_heads\":4,"
     "\"vocab_size\":300,\"max_seq_len\":64}",
     "90"},
    {"bert", "mlm", "{\"architectures\":[\"BertForMaskedLM\"],\"model_type\":\"bert\"," BERT "}", "350"},
    {"mobilebert", "mlm",
     "{\"architectures\":[\"MobileBertForMaskedLM\"],\"model_type\":\"mobilebert\"," BERT
     ",\"embedding_size\":24,\"intra_bottleneck_size\":24,\"num_feedforward_networks\":2}",
     "350"},
};

static const char *config_of(const char *name) {
    size_t i = 0;
    while (strcmp(families[i].name, name) != 0) {
        i++;
    }
    return families[i].config;
}

static void test_learn(void **state) {
    (void)state;
    double h = fx_unigram_entropy();
    for (size_t i = 0; i < FM_ARRAY_LEN(families); i++) {
        fm_train_result r;
        fx_use_config(families[i].config);
        fx_clean();
        fx_ok(
            fx_run((const char *[]){"stage", families[i].stage, "max_steps", families[i].steps, "learning_rate", "5e-3",
                                    "per_device_train_batch_size", "8", "eval_steps", "0", "save_strategy", "no", NULL},
                   NULL, &r));
        print_message("%-10s eval loss %.3f, entropy of single tokens %.3f\n", families[i].name, r.eval_loss, h);
        assert_true(r.eval_loss < h);
        fm_model *m; /* the result opens */
        fx_ok(fm_model_open(&m, fx_out, NULL));
        assert_string_equal(m->family->name, families[i].name);
        if (!m->family->encoder) {
            fx_same_generation(m);
        }
        fm_model_close(m);
    }
    fx_clean();
}

/* ---- masked tokens --------------------------------------------------------------------------- */

static void hash_of(char out[33]) {
    char path[400];
    snprintf(path, sizeof path, "%s/model.safetensors", fx_out);
    fx_ok(fm_file_hash(out, path));
}

static void test_mlm_resumes(void **state) {
    (void)state;
    fx_use_config(config_of("bert"));
    const char *const set[] = {"stage",
                               "mlm",
                               "max_steps",
                               "30",
                               "save_steps",
                               "7",
                               "dropout",
                               "0.1",
                               "per_device_train_batch_size",
                               "7",
                               "gradient_accumulation_steps",
                               "2",
                               "resume_from_checkpoint",
                               "auto",
                               NULL};
    fx_clean();
    fx_ok(fx_run(set, NULL, NULL));
    char want[33], got[33];
    hash_of(want);
    fx_clean();
    pid_t pid = fork();
    if (pid == 0) {
        setenv("FATHOM_CRASH_POINT", "step.done:20", 1);
        _exit(fx_run(set, NULL, NULL) == FM_OK ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    fx_ok(fx_run(set, NULL, NULL));
    hash_of(got);
    assert_string_equal(want, got);
    fx_clean();
}

/* Fixed counts, and other masks in the next epoch. */
static void test_masks(void **state) {
    (void)state;
    fx_use_config(config_of("bert"));
    fm_train_config *c = fx_config((const char *[]){"stage", "mlm", "cutoff_len", "40", NULL});
    fm_trainer r = {.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    const fm_objective *o = r.choice.objective;
    const int64_t n = r.sampler.n_samples;
    r.sampler.at = (fm_cursor){0};
    int64_t kept[2];
    double loss[3];
    for (int epoch = 0; epoch < 3; epoch++) {
        if (epoch == 2) {
            r.sampler.at = (fm_cursor){.epoch = 1}; /* the same again */
        }
        fx_ok(o->load(r.objective, &r.sampler, n));
        kept[epoch % 2] = o->n_trained(r.objective, 0, n);
        assert_int_equal(kept[epoch % 2], 6 * n); /* 15% of 40, and every window has as many tokens to choose from */
        fm_ctx_set_training(r.ctx, false);
        fm_tape_off(r.ctx);
        fm_ctx_reset(r.ctx);
        fm_tensor *token = NULL, *l = o->loss(r.objective, r.ctx, 0, 2, 1, &token);
        assert_non_null(l);
        assert_int_equal(fm_numel(token), 12);
        loss[epoch] = (double)*(const float *)fm_data(r.ctx, l);
    }
    assert_true(loss[0] != loss[1]);
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    fx_clean();
}

/* What a model is shown and asked, counted in the place of its forward pass. */
static struct spy {
    fm_tensor *(*forward)(fm_ctx *c, const fm_model *m, const fm_batch *b);
    const fm_dataset *data;
    int64_t first; /* token of the data that the batch begins with */
    int32_t mask;
    int64_t n, masked, kept, others, elsewhere;
    int64_t shown[300], asked_at[40];
} spy;

static fm_tensor *spy_forward(fm_ctx *c, const fm_model *m, const fm_batch *b) {
    int32_t *given = fm_calloc((size_t)b->n_tokens, sizeof *given);
    bool start[8 * 40], asked[8 * 40] = {false};
    assert_non_null(given);
    assert_true(b->n_tokens <= 8 * 40);
    fx_ok(fm_dataset_read(spy.data, spy.first, b->n_tokens, given, start));
    for (int32_t k = 0; k < b->n_rows; k++) {
        int32_t at = b->rows[k], id = b->ids[at];
        assert_false(asked[at]); /* each once */
        asked[at] = true;
        assert_int_equal(b->targets[k], given[at]);
        spy.n++;
        spy.asked_at[at % 40]++;
        spy.masked += id == spy.mask;
        spy.kept += id == given[at];
        spy.others += id != spy.mask && id != given[at];
        spy.shown[id] += id != spy.mask && id != given[at];
    }
    for (int32_t t = 0; t < b->n_tokens; t++) {
        spy.elsewhere += !asked[t] && b->ids[t] != given[t];
    }
    fm_free(given);
    return spy.forward(c, m, b);
}

/* |n - share * all| in standard deviations. */
static double deviations(int64_t n, double share, int64_t all) {
    return fabs((double)n - share * (double)all) / sqrt((double)all * share * (1 - share));
}

/* 15% of the tokens, any of them; of these 80% become the mask, 10% another token, 10% stay. */
static void test_mask_shares(void **state) {
    (void)state;
    fx_use_config(config_of("bert"));
    fm_train_config *c = fx_config((const char *[]){"stage", "mlm", "cutoff_len", "40", NULL});
    fm_trainer r = {.cfg = c};
    fx_ok(fm_trainer_setup(&r));
    fm_family spied = *r.model->family;
    memset(&spy, 0, sizeof spy);
    spy.forward = spied.forward;
    spy.data = ((const fm_windows *)r.objective)->env.data;
    spied.forward = spy_forward;
    r.model->family = &spied;
    const fm_objective *o = r.choice.objective;
    const int64_t n = r.sampler.n_samples;
    fm_tokenizer *t;
    char path[300];
    snprintf(path, sizeof path, "%s/tok", fx_top);
    fx_ok(fm_tokenizer_open(&t, path));
    spy.mask = fm_tokenizer_find(t, "[MASK]", 6);
    r.sampler.at = (fm_cursor){0};
    fm_ctx_set_training(r.ctx, false);
    fm_tape_off(r.ctx);
    for (int epoch = 0; epoch < 60; epoch++) {
        fx_ok(o->load(r.objective, &r.sampler, n));
        for (int64_t i = 0; i < n; i++) {
            fm_ctx_reset(r.ctx);
            spy.first = o->row(r.objective, i);
            assert_non_null(o->loss(r.objective, r.ctx, i, i + 1, 1, &(fm_tensor *){NULL}));
        }
    }
    /* A random token is the one that was there now and then, and never a special one. */
    double same = 1.0 / (double)((const fm_windows *)r.objective)->env.vocab;
    print_message("%lld tokens asked: masked %.4f, another %.4f, kept %.4f\n", (long long)spy.n,
                  (double)spy.masked / (double)spy.n, (double)spy.others / (double)spy.n,
                  (double)spy.kept / (double)spy.n);
    assert_int_equal(spy.n, 60 * n * 6);
    assert_int_equal(spy.elsewhere, 0);
    assert_int_equal(spy.masked + spy.others + spy.kept, spy.n);
    assert_true(deviations(spy.masked, 0.8, spy.n) < 4);
    assert_true(deviations(spy.others, 0.1 * (1 - 3 * same), spy.n) < 4);
    assert_true(deviations(spy.kept, 0.1 * (1 + 3 * same), spy.n) < 4);
    for (int i = 0; i < 40; i++) {
        assert_true(deviations(spy.asked_at[i], 1.0 / 40, spy.n) < 5);
    }
    int seen = 0;
    for (int32_t id = 0; id < 300; id++) {
        assert_true(spy.shown[id] == 0 || !fm_tokenizer_is_special(t, id));
        seen += spy.shown[id] > 0;
    }
    assert_true(seen > 0.9 * ((const fm_windows *)r.objective)->env.vocab); /* of the whole vocabulary */
    fm_tokenizer_free(t);
    fm_trainer_deinit(&r);
    fm_train_config_free(c);
    fx_clean();
}

static void test_refused(void **state) {
    (void)state;
    fx_use_config(config_of("bert"));
    assert_int_equal(fx_run((const char *[]){"stage", "pt", NULL}, NULL, NULL), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().message, "does not predict the next token"));
    fx_use_config(config_of("gpt2"));
    assert_int_equal(fx_run((const char *[]){"stage", "mlm", NULL}, NULL, NULL), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().message, "stage mlm trains encoders"));
    fx_clean();
}

/* Positions and patterns of own models. */
static void test_own_models(void **state) {
    (void)state;
    fx_use_config("{\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,"
                  "\"num_attention_heads\":4,\"vocab_size\":300,\"max_position_embeddings\":64}");
    static const char *const want[][4] = {{"attention_pattern", "local:global", "sliding_window", "qwen2"},
                                          {"positions", "alibi", NULL, "bloom"},
                                          {"positions", "learned", NULL, "gpt2"}};
    for (size_t i = 0; i < FM_ARRAY_LEN(want); i++) {
        const char *set[] = {want[i][0], want[i][1], "max_steps", "3", want[i][2], "8", NULL};
        if (!want[i][2]) {
            set[4] = NULL;
        }
        fx_clean();
        fx_ok(fx_run(set, NULL, NULL));
        fm_model *m;
        fx_ok(fm_model_open(&m, fx_out, NULL));
        assert_string_equal(m->family->name, want[i][3]);
        if (i == 0) {
            assert_int_equal(fm_layer_window(&m->cfg, 0), 8);
            assert_int_equal(fm_layer_window(&m->cfg, 1), 0);
        }
        fm_model_close(m);
    }
    fx_clean();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_learn, fx_fresh),   cmocka_unit_test_setup(test_mlm_resumes, fx_fresh),
        cmocka_unit_test_setup(test_masks, fx_fresh),   cmocka_unit_test_setup(test_mask_shares, fx_fresh),
        cmocka_unit_test_setup(test_refused, fx_fresh), cmocka_unit_test_setup(test_own_models, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
