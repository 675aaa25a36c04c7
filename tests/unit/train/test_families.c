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
        cmocka_unit_test_setup(test_learn, fx_fresh),      cmocka_unit_test_setup(test_mlm_resumes, fx_fresh),
        cmocka_unit_test_setup(test_masks, fx_fresh),      cmocka_unit_test_setup(test_refused, fx_fresh),
        cmocka_unit_test_setup(test_own_models, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
