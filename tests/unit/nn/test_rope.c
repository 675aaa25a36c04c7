/* Rope frequencies against those of transformers 5 for the settings of published models. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "nn/nn.h"

/* Values printed by ROPE_INIT_FUNCTIONS at the pairs of `pair`. */
typedef struct row {
    const char *name;
    fm_rope_config cfg;
    int64_t seq_len;
    double mscale;
    int pair[9];
    double freq[9];
} row;

#define WIDE                                                                                                           \
    { 0, 1, 13, 20, 26, 29, 31, 40, 63 }
#define SLIM                                                                                                           \
    { 0, 1, 8, 10, 13, 16, 20, 24, 31 }
static const row rows[] = {
    {"default",
     {.theta = 1e4, .dim = 128},
     0,
     1,
     WIDE,
     {1.0, 0.865964353, 0.153992653, 0.0562341288, 0.0237137359, 0.0153992651, 0.0115478197, 0.00316227786,
      0.000115478193}},
    {"linear (DeepSeek-Coder)",
     {.theta = 1e5, .dim = 128, .kind = FM_ROPE_LINEAR, .factor = 4},
     0,
     1,
     WIDE,
     {0.25, 0.208840638, 0.0241165403, 0.00684604887, 0.00232643005, 0.00135617272, 0.000946378859, 0.000187473546,
      2.99271255e-06}},
    {"llama3 (Llama 3.1)",
     {.theta = 5e5,
      .dim = 128,
      .kind = FM_ROPE_LLAMA3,
      .factor = 8,
      .low_freq_factor = 1,
      .high_freq_factor = 4,
      .original_max_position = 8192},
     0,
     1,
     WIDE,
     {1.0, 0.814617217, 0.0695659518, 0.0165604409, 0.00483942125, 0.00216657063, 0.00085675146, 3.42810235e-05,
      3.06892588e-07}},
    {"yarn (DeepSeek-V2)",
     {.theta = 1e4,
      .dim = 64,
      .kind = FM_ROPE_YARN,
      .factor = 40,
      .beta_fast = 32,
      .beta_slow = 1,
      .mscale = 0.707,
      .mscale_all_dim = 0.707,
      .original_max_position = 4096},
     0,
     1,
     SLIM,
     {1.0, 0.749894202, 0.100000001, 0.0562341288, 0.0183781441, 0.00550000044, 0.000790569407, 2.49999994e-05,
      3.33380353e-06}},
    {"yarn (Qwen2.5)",
     {.theta = 1e6, .dim = 64, .kind = FM_ROPE_YARN, .factor = 4, .original_max_position = 32768},
     0,
     1.13862944,
     SLIM,
     {1.0, 0.649381638, 0.0316227786, 0.0133352149, 0.0030431177, 0.000583333371, 4.44569851e-05, 7.90569356e-06,
      3.84981632e-07}},
    {"dynamic",
     {.theta = 1e4, .dim = 128, .kind = FM_ROPE_DYNAMIC, .factor = 2, .original_max_position = 4096},
     6000,
     1,
     WIDE,
     {1.0, 0.856975615, 0.134459034, 0.0456424765, 0.0180792324, 0.011378509, 0.00835645851, 0.00208323589,
      5.98429579e-05}},
};

static void test_values(void **state) {
    (void)state;
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        double freq[64], mscale;
        assert_int_equal(fm_rope_frequencies_at(&rows[i].cfg, rows[i].seq_len, freq, &mscale), FM_OK);
        assert_true(fabs(mscale - rows[i].mscale) < 1e-8);
        for (int k = 0; k < 9; k++) {
            double got = freq[rows[i].pair[k]], want = rows[i].freq[k];
            if (fabs(got / want - 1) > 3e-7) {
                print_error("%s pair %d: %.9g, expected %.9g\n", rows[i].name, rows[i].pair[k], got, want);
            }
            assert_true(fabs(got / want - 1) <= 3e-7); /* powf differs by a spacing between C libraries */
        }
    }
}

/* Within the trained length dynamic is plain. */
static void test_dynamic_within(void **state) {
    (void)state;
    fm_rope_config dynamic = rows[5].cfg, plain = rows[0].cfg;
    double a[64], b[64], m;
    assert_int_equal(fm_rope_frequencies_at(&dynamic, 4096, a, &m), FM_OK);
    assert_int_equal(fm_rope_frequencies(&plain, b, &m), FM_OK);
    assert_memory_equal(a, b, sizeof a);
    assert_false(fm_rope_depends_on_length(&dynamic, 4096));
    assert_true(fm_rope_depends_on_length(&dynamic, 4097));
    assert_false(fm_rope_depends_on_length(&plain, 1 << 30));
}

static void test_refusals(void **state) {
    (void)state;
    double freq[64], m;
    fm_rope_config c;
#define BAD(i, field, value)                                                                                           \
    c = rows[i].cfg;                                                                                                   \
    c.field = value;                                                                                                   \
    assert_int_equal(fm_rope_frequencies(&c, freq, &m), FM_ERR_CONFIG)
    BAD(0, dim, 7);
    BAD(0, dim, 0);
    BAD(0, theta, 0);
    BAD(0, theta, NAN);
    BAD(1, factor, 0.9);
    BAD(1, factor, INFINITY);
    BAD(2, original_max_position, 0);
    BAD(2, low_freq_factor, 4);
    BAD(2, low_freq_factor, 0);
    BAD(3, theta, 1);
    BAD(3, beta_fast, -1);
    BAD(5, dim, 2);
}

static void test_names(void **state) {
    (void)state;
    fm_rope_kind k;
    for (int i = FM_ROPE_LINEAR; i <= FM_ROPE_DYNAMIC; i++) {
        assert_true(fm_rope_kind_parse(&k, fm_rope_kind_name((fm_rope_kind)i)));
        assert_int_equal(k, i);
    }
    assert_true(fm_rope_kind_parse(&k, "default"));
    assert_int_equal(k, FM_ROPE_NONE);
    assert_false(fm_rope_kind_parse(&k, "longrope"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_dynamic_within),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
