/* Adapters over quantised bases: the loss falls as over the full base, runs resume to the same bits whatever the number
 * of threads, and the memory is what the plan says. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "train_fixture.h"

static char base[300];

static int setup(void **state) {
    if (fx_setup(state) != 0) {
        return -1;
    }
    snprintf(base, sizeof base, "%s/base", fx_top);
    fx_ok(fx_run((const char *[]){"output_dir", base, "max_steps", "25", "learning_rate", "1e-2", NULL}, NULL, NULL));
    return 0;
}

#define LORA                                                                                                           \
    "finetuning_type", "lora", "train_from_scratch", "false", "model_name_or_path", base, "learning_rate", "2e-2",     \
        "max_steps", "14", "lora_rank", "4"

static void hash_of(char out[33], const char *name) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", fx_out, name);
    fx_ok(fm_file_hash(out, path));
}

static void test_falls(void **state) {
    (void)state;
    static const char *const types[] = {NULL, "nf4", "int8", "q8_0", "q4_0"};
    static fx_log log[FM_ARRAY_LEN(types)];
    for (size_t t = 0; t < FM_ARRAY_LEN(types); t++) {
        fx_clean();
        fx_ok(fx_run((const char *[]){LORA, "max_steps", "50", "modules_to_save", "lm_head",
                                      types[t] ? "quantization_type" : NULL, types[t], NULL},
                     &log[t], NULL));
        double first = log[t].loss[1], last = log[t].loss[50], full = log[0].loss[50];
        if (!(last < 0.9 * first && fabs(last - full) < 0.05 * full)) {
            fail_msg("%s: loss from %g to %g; over the full base %g", types[t] ? types[t] : "full", first, last, full);
        }
        if (t > 0) {
            assert_true(log[t].loss[1] != log[0].loss[1]); /* another base */
        }
    }
}

static void test_resume(void **state) {
    (void)state;
    static const char *const types[] = {"nf4", "int8", "q8_0"};
    for (size_t t = 0; t < FM_ARRAY_LEN(types); t++) {
        const char *const set[] = {LORA,
                                   "quantization_type",
                                   types[t],
                                   "use_dora",
                                   "true",
                                   "lora_dropout",
                                   "0.1",
                                   "save_steps",
                                   "7",
                                   "precision",
                                   t ? "fp32" : "bf16",
                                   "threads",
                                   "2",
                                   "save_total_limit",
                                   "0",
                                   NULL};
        char want[33], got[33];
        fx_clean();
        fx_ok(fx_run(set, NULL, NULL));
        hash_of(want, "adapter_model.safetensors");
        char path[400];
        snprintf(path, sizeof path, "%s/checkpoint-14", fx_out);
        assert_int_equal(fm_remove_tree(path), FM_OK);
        const char *again[64];
        size_t n = 0;
        for (; set[n]; n++) {
            again[n] = set[n];
        }
        const char *const more[] = {"resume_from_checkpoint", "true", "threads", "1", NULL};
        memcpy(again + n, more, sizeof more);
        fx_ok(fx_run(again, NULL, NULL));
        hash_of(got, "adapter_model.safetensors");
        assert_string_equal(want, got);
    }
}

static void test_refused(void **state) {
    (void)state;
    assert_int_equal(fx_run((const char *[]){LORA, "quantization_bit", "3", NULL}, NULL, NULL), FM_ERR_CONFIG);
    assert_int_equal(fx_run((const char *[]){LORA, "quantization_type", "fp3", NULL}, NULL, NULL), FM_ERR_CONFIG);
    assert_int_equal(fx_run((const char *[]){LORA, "quantization_type", "q4_k", NULL}, NULL, NULL), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().message, "q4_k")); /* rows of 32 and 48 are no blocks of 256 */
    assert_int_equal(fx_run((const char *[]){LORA, "quantization_type", "stored", NULL}, NULL, NULL), FM_ERR_CONFIG);
    assert_int_equal(fx_run((const char *[]){"quantization_bit", "4", NULL}, NULL, NULL), FM_ERR_CONFIG);
}

/* A 7B model under an adapter: 4 bits fit into 24 GB, with room to spare below bf16. */
static void test_plan(void **state) {
    (void)state;
    int64_t bytes[3];
    static const char *const bits[] = {"0", "8", "4"};
    for (int i = 0; i < 3; i++) {
        fm_train_config *c;
        fm_plan p = {.size = sizeof p};
        fx_ok(fm_train_config_new(&c));
        const char *const set[][2] = {{"preset", "7b"},
                                      {"finetuning_type", "lora"},
                                      {"quantization_bit", bits[i]},
                                      {"precision", "bf16"},
                                      {"cutoff_len", "2048"},
                                      {"max_memory", "24GB"},
                                      {"per_device_train_batch_size", "4"}};
        for (size_t k = 0; k < FM_ARRAY_LEN(set); k++) {
            fx_ok(fm_options_set(c, fm_train_options(), set[k][0], set[k][1], "test"));
        }
        fx_ok(fm_train_plan(&p, c, 0));
        assert_true(p.fits);
        bytes[i] = p.weights_bytes;
        fm_train_config_free(c);
    }
    assert_true(bytes[1] < bytes[0] * 6 / 10);
    assert_true(bytes[2] < (int64_t)6000 << 20);
}

/* The optimizer leaves memory when nothing else fits, and not before. */
static void test_offload_plan(void **state) {
    (void)state;
    static const char *const limit[] = {"12GB", "6200MB", "3GB"};
    int64_t states = 0;
    for (int i = 0; i < 3; i++) {
        fm_train_config *c;
        fm_plan p = {.size = sizeof p};
        fx_ok(fm_train_config_new(&c));
        const char *const set[][2] = {{"preset", "0.5b"}, {"precision", "bf16"}, {"max_memory", limit[i]}};
        for (size_t k = 0; k < FM_ARRAY_LEN(set); k++) {
            fx_ok(fm_options_set(c, fm_train_options(), set[k][0], set[k][1], "test"));
        }
        fx_ok(fm_train_plan(&p, c, 0));
        assert_int_equal(strstr(p.why, "optimizer on disk") != NULL, i == 1);
        assert_int_equal(p.fits, i < 2);
        states = i == 0 ? p.optimizer_bytes : states;
        assert_true(p.optimizer_bytes == states &&
                    (i != 1 || p.process_bytes < p.weights_bytes + p.copy_bytes + p.grad_bytes + p.optimizer_bytes));
        fm_train_config_free(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_falls, fx_fresh),
                                       cmocka_unit_test_setup(test_resume, fx_fresh),
                                       cmocka_unit_test_setup(test_refused, fx_fresh), cmocka_unit_test(test_plan),
                                       cmocka_unit_test(test_offload_plan)};
    return cmocka_run_group_tests(tests, setup, fx_teardown);
}
