/* Logits of random mixes of requests are, bit for bit, those of each request alone: for the weights and kernels that
 * the figures of speed are of, in full number; fewer for every other kind of model. */
#include "../infer/engine_util.h"

#include <time.h>

#include "fathom/convert.h"
#include "measure/mixes.h"

static fm_mixes_report check_model(fm_model *m, fm_mixes_options o, int n) {
    fm_mixes_report r;
    o.n_mixes = test_quick() ? (n + 9) / 10 : n;
    o.seed = 1;
    clock_t begin = clock();
    fm_status s = fm_mixes_check(&r, m, &o);
    if (s != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    assert_int_equal(r.mixes, o.n_mixes);
    assert_true(r.rows > r.mixes * 20);
    print_message("%lld mixes, %lld requests, %lld rows, %lld cancelled, %lld preempted, %lld cached, %lld of %lld "
                  "guesses, %.1f s\n",
                  (long long)r.mixes, (long long)r.requests, (long long)r.rows, (long long)r.cancelled,
                  (long long)r.preemptions, (long long)r.cached_tokens, (long long)r.guessed_right,
                  (long long)r.guessed, (double)(clock() - begin) / CLOCKS_PER_SEC);
    if (o.n_mixes >= 20) { /* what the mixes are for did happen */
        assert_true(r.cancelled > 0 && r.cached_tokens > 0 && r.guessed > 0);
        assert_true(o.n_mixes < 100 || (r.preemptions > 10 && r.guessed_right > 20 && r.guessed_right < r.guessed));
        assert_true(o.n_adapters == 0 || (r.with_adapter > 0 && r.with_adapter < r.requests));
    }
    return r;
}

/* Wide enough for every kind of block and for the tiles of all kernels. */
static void wide(void) {
    d_model = 256;
    d_ff = 256;
    head_dim = 32;
}
static void narrow(void) {
    d_model = 48;
    d_ff = 80;
    head_dim = 16;
}

static fm_model *open_at(const char *path, const char *dtype, int threads) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = dtype, .threads = threads};
    fm_status s = fm_model_open(&m, path, &o);
    if (s != FM_OK) {
        print_error("%s: %s\n", path, fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    return m;
}

/* A copy of the folder with other weights; int8 is a folder, the others are GGUF files. */
static fm_model *open_as(const char *dtype, int threads) {
    char path[sizeof dir + 32];
    bool folder = strcmp(dtype, "int8") == 0;
    snprintf(path, sizeof path, "%s/%s%s", dir, dtype, folder ? "" : ".gguf");
    fm_convert_options o = {.size = sizeof o, .dtype = dtype, .threads = 1, .overwrite = true, .no_files = !folder};
    fm_status s = fm_convert(NULL, dir, path, &o);
    if (s != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    return open_at(path, NULL, threads);
}

static void quantised(const char *dtype, int n) {
    fm_model *m = open_as(dtype, 2);
    (void)check_model(m, (fm_mixes_options){0}, n);
    fm_model_close(m);
}

/* The figures of speed are of these: q8_0, the others, and bf16 with adapters and a draft that is often right. */
static void test_wide(void **state) {
    (void)state;
    char one[40], two[40];
    const char *adapters[] = {one, two};
    wide();
    write_model("qwen2", FM_BF16);
    write_adapter(one, sizeof one, 4, 1);
    write_adapter(two, sizeof two, 8, 2);
    fm_model *m = open_at(dir, "bf16", 2), *draft = open_as("q8_0", 2), *one_thread = open_as("q8_0", 1);
    (void)check_model(m, (fm_mixes_options){.draft = draft, .adapter = adapters, .n_adapters = 2}, 200);
    (void)check_model(m, (fm_mixes_options){.kv_dtype = "q8_0"}, 20);
    fm_model_close(m);
    (void)check_model(draft, (fm_mixes_options){.reference = one_thread}, 200);
    fm_model_close(one_thread);
    fm_model_close(draft);
    quantised("q4_0", 20);
    quantised("q4_k_m", 20);
    quantised("q6_k", 20);
    quantised("int8", 20);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
    assert_int_equal(fm_remove_tree(one), FM_OK);
    assert_int_equal(fm_remove_tree(two), FM_OK);
    narrow();
}

static void family(const char *name, const char *dtype, bool mtp) {
    n_mtp = mtp;
    write_model(name, FM_F32);
    n_mtp = 0;
    fm_model *m = open_at(dir, dtype, 2);
    (void)check_model(m, (fm_mixes_options){.mtp = mtp}, 20);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

static void test_families(void **state) {
    (void)state;
    family("llama", "f32", false);
    family("qwen3_moe", "bf16", false);
    family("deepseek_v2", "f32", false);
    family("deepseek_v3", "bf16", true);
}

/* The check can fail: a reference with one weight that differs by a ten-thousandth. */
static void test_finds(void **state) {
    (void)state;
    fm_mixes_report r;
    write_model("llama", FM_F32);
    fm_model *m = open_at(dir, "f32", 2), *other;
    assert_int_equal(fm_model_load(&other, dir, false, FM_F32), FM_OK);
    assert_int_equal(fm_pool_new(&other->pool, 1), FM_OK);
    fm_mixes_options o = {.n_mixes = 3, .seed = 1, .reference = other};
    const fm_param *p = fm_params_find(other->params, "model.layers.1.mlp.down_proj.weight");
    assert_non_null(p);
    uint32_t bits;
    memcpy(&bits, p->data, sizeof bits);
    bits ^= 1U << 10;
    memcpy(p->data, &bits, sizeof bits);
    assert_int_equal(fm_mixes_check(&r, m, &o), FM_ERR_STATE);
    assert_non_null(strstr(fm_error_get().message, "the logits of token"));
    fm_model_close(other);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wide), cmocka_unit_test(test_families),
                                       cmocka_unit_test(test_finds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
