/* Training models with experts: every family learns, its saved folder generates the same with and without a cache, the
 * balance loss and the loss-free bias even out the load, recomputation counts it once, resumed runs end the same. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "train_fixture.h"
#include "learn_fixture.h"

#define COMMON                                                                                                         \
    "\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,"                   \
    "\"num_key_value_heads\":2,\"head_dim\":8,\"vocab_size\":300,\"max_position_embeddings\":128,"                     \
    "\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"hidden_act\":\"silu\",\"initializer_range\":0.02,"                 \
    "\"tie_word_embeddings\":false,\"num_experts_per_tok\":2,"

#define LATENT                                                                                                         \
    "\"kv_lora_rank\":16,\"qk_nope_head_dim\":8,\"qk_rope_head_dim\":4,\"v_head_dim\":8,\"n_routed_experts\":8,"       \
    "\"n_shared_experts\":1,\"moe_intermediate_size\":16,\"first_k_dense_replace\":1,"

static const char *const configs[] = {
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"model_type\":\"qwen3_moe\"," COMMON
    "\"num_experts\":8,\"moe_intermediate_size\":16,\"norm_topk_prob\":true,\"router_aux_loss_coef\":0.01}",
    "{\"architectures\":[\"MixtralForCausalLM\"],\"model_type\":\"mixtral\"," COMMON "\"num_local_experts\":4}",
    "{\"architectures\":[\"DeepseekForCausalLM\"],\"model_type\":\"deepseek\"," COMMON
    "\"n_routed_experts\":8,\"n_shared_experts\":1,\"moe_intermediate_size\":16,\"first_k_dense_replace\":1}",
    "{\"architectures\":[\"DeepseekV2ForCausalLM\"],\"model_type\":\"deepseek_v2\"," COMMON LATENT
    "\"q_lora_rank\":null}",
    "{\"architectures\":[\"DeepseekV3ForCausalLM\"],\"model_type\":\"deepseek_v3\"," COMMON LATENT
    "\"q_lora_rank\":24,\"n_group\":4,\"topk_group\":2,\"num_nextn_predict_layers\":1}",
    "{\"architectures\":[\"DeepseekV32ForCausalLM\"],\"model_type\":\"deepseek_v32\"," COMMON LATENT
    "\"q_lora_rank\":24,\"n_group\":4,\"topk_group\":2,\"num_nextn_predict_layers\":1,\"index_n_heads\":2,"
    "\"index_head_dim\":8,\"index_topk\":6}",
};

/* Replaces the fixture's model. */
static void test_families_learn(void **state) {
    (void)state;
    static fx_log log;
    double h = fx_unigram_entropy();
    assert_true(h > 2 && h < 6);
    for (size_t i = 0; i < FM_ARRAY_LEN(configs); i++) {
        fm_train_result r;
        fx_use_config(configs[i]);
        fx_ok(fx_run((const char *[]){"max_steps", "100", "precision", i ? "fp32" : "bf16", NULL}, &log, &r));
        print_message("%zu: eval loss %.3f, unigram entropy %.3f\n", i, r.eval_loss, h);
        assert_true(log.loss[1] > h);
        assert_true(r.eval_loss < 0.8 * h);
        fm_model *m;
        fx_ok(fm_model_open(&m, fx_out, NULL));
        assert_non_null(fm_model_moe_layer(m, 1));
        fx_same_generation(m);
        fm_model_close(m);
        fx_clean();
    }
}

/* Prediction layers that config.json promises and the files lack: refused by name, unless they are asked to begin at
 * random or not to be there. */
static void test_missing_prediction_layers(void **state) {
    (void)state;
    static char given[300], path[320], text[4096];
    fm_json *json;
    fm_str edited = {0};
    snprintf(text, sizeof text, "%s", configs[4]);
    char *number = strstr(text, "predict_layers\":1");
    assert_non_null(number);
    number[strlen("predict_layers\":")] = '0';
    fx_use_config(text);
    fx_ok(fx_run((const char *[]){"max_steps", "2", NULL}, NULL, NULL));
    snprintf(given, sizeof given, "%s/given", fx_top);
    snprintf(path, sizeof path, "%s/config.json", given);
    assert_int_equal(rename(fx_out, given), 0);
    fx_ok(fm_json_load(&json, path));
    fx_ok(fm_json_set(json, "num_nextn_predict_layers", fm_json_new_int(1)));
    fx_ok(fm_json_dump(&edited, json, 1));
    fx_ok(fm_file_write_atomic(path, edited.data, edited.len));
    fm_str_free(&edited);
    fm_json_free(json);
    static const char *const asked[][2] = {
        {"mtp_from_scratch", "false"}, {"mtp_from_scratch", "true"}, {"mtp_loss_weight", "0"}};
    for (int i = 0; i < 3; i++) {
        fm_status s = fx_run((const char *[]){"model_name_or_path", given, "train_from_scratch", "false", "max_steps",
                                              "2", asked[i][0], asked[i][1], NULL},
                             NULL, NULL);
        if (i == 0) {
            assert_int_equal(s, FM_ERR_NOT_FOUND);
            assert_non_null(strstr(fm_error_get().message, "model.layers.2."));
            assert_non_null(strstr(fm_error_get().hint, "mtp_from_scratch"));
            continue;
        }
        fx_ok(s);
        fm_model *m;
        fx_ok(fm_model_open(&m, fx_out, NULL));
        assert_int_equal(m->cfg.n_mtp, i == 1);
        fm_model_close(m);
        fx_clean();
    }
    assert_int_equal(fm_remove_tree(given), FM_OK);
}

/* One, two and four passes of a step give the same loss, and the same load: rows do not depend on their neighbours. */
static void test_load_adds_up(void **state) {
    (void)state;
    static fx_log log[3];
    const char *const split[3][2] = {{"4", "1"}, {"2", "2"}, {"1", "4"}};
    fx_use_config(configs[2]);
    for (int i = 0; i < 3; i++) {
        fx_ok(fx_run((const char *[]){"per_device_train_batch_size", split[i][0], "gradient_accumulation_steps",
                                      split[i][1], "aux_loss_alpha", "0", "max_steps", "4", NULL},
                     &log[i], NULL));
        fx_clean();
        for (int s = 1; s <= 4; s++) {
            assert_true(fabs(log[i].loss[s] - log[0].loss[s]) <= 2e-5 * log[0].loss[s]);
        }
        assert_true(log[i].violation[1] > 0 && log[i].violation[1] == log[0].violation[1]);
    }
}

/* Recomputing layers in backward changes no bit and does not count the load twice, with each kind of balance loss. */
static void test_load_counts_once(void **state) {
    (void)state;
    static fx_log log[2];
    for (size_t k = 0; k < FM_ARRAY_LEN(configs); k++) {
        fx_use_config(configs[k]);
        for (int i = 0; i < 2; i++) {
            fx_ok(fx_run((const char *[]){"gradient_checkpointing", i ? "on" : "off", "aux_loss_alpha", "0.05",
                                          "max_steps", "5", NULL},
                         &log[i], NULL));
            fx_clean();
        }
        assert_memory_equal(log[0].loss, log[1].loss, sizeof log[0].loss);
        assert_memory_equal(log[0].violation, log[1].violation, sizeof log[0].violation);
    }
}

/* Mean MaxVio over the last ten steps. */
static double late_violation(const char *const *set) {
    static fx_log log;
    double sum = 0;
    fx_ok(fx_run(set, &log, NULL));
    for (int s = 51; s <= 60; s++) {
        sum += log.violation[s] / 10;
    }
    fx_clean();
    return sum;
}

static void test_balance_loss_evens(void **state) {
    (void)state;
    fx_use_config(configs[0]);
    double off = late_violation((const char *[]){"max_steps", "60", "router_aux_loss_coef", "0", NULL}),
           on = late_violation((const char *[]){"max_steps", "60", "router_aux_loss_coef", "0.1", NULL});
    print_message("MaxVio without balance loss %.3f, with %.3f\n", off, on);
    assert_true(on < 0.7 * off);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_families_learn, fx_fresh),
        cmocka_unit_test_setup(test_missing_prediction_layers, fx_fresh),
        cmocka_unit_test_setup(test_load_adds_up, fx_fresh),
        cmocka_unit_test_setup(test_load_counts_once, fx_fresh),
        cmocka_unit_test_setup(test_balance_loss_evens, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
