#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"

/* Known answers published with Random123 (philox4x32, 10 rounds). */
static void test_known_answers(void **state) {
    FM_UNUSED(state);
    static const struct {
        uint32_t ctr[4], key[2], out[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(kat); i++) {
        fm_rng_key k = {(uint64_t)kat[i].key[1] << 32 | kat[i].key[0], kat[i].ctr[2], kat[i].ctr[3]};
        uint64_t index = (uint64_t)kat[i].ctr[1] << 32 | kat[i].ctr[0];
        uint32_t out[4];
        fm_rng_u32x4(out, k, index);
        assert_memory_equal(out, kat[i].out, sizeof out);
        if (index < UINT64_MAX / 4) {
            assert_int_equal(fm_rng_u32(k, 4 * index + 2), out[2]);
        }
    }
}

static void test_distributions(void **state) {
    FM_UNUSED(state);
    fm_rng_key k = {42, fm_rng_stream("test"), 7};
    enum { N = 200000, BINS = 10 };
    double sum = 0, sq = 0, cube = 0, usum = 0;
    int bins[BINS] = {0}, below[7] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double z = fm_rng_normal(k, i), u = fm_rng_uniform(k, i);
        assert_true(u >= 0 && u < 1 && isfinite(z));
        sum += z;
        sq += z * z;
        cube += z * z * z;
        usum += u;
        bins[(int)(u * BINS)]++;
        below[fm_rng_below(k, i, 7)]++;
    }
    /* Five standard errors. */
    assert_true(fabs(sum / N) < 5 / sqrt(N));
    assert_true(fabs(sq / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(cube / N) < 5 * sqrt(15.0 / N));
    assert_true(fabs(usum / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    for (int b = 0; b < BINS; b++) {
        assert_true(fabs(bins[b] - N / 10.0) < 5 * sqrt(N * 0.09));
    }
    for (int b = 0; b < 7; b++) {
        assert_true(fabs(below[b] - N / 7.0) < 5 * sqrt(N * 6.0 / 49));
    }
    /* Neighbours do not correlate, nor do two streams. */
    fm_rng_key k2 = k;
    k2.stream = fm_rng_stream("tesu");
    assert_int_not_equal(k.stream, k2.stream);
    double lag = 0, cross = 0;
    for (uint64_t i = 0; i < N; i++) {
        lag += fm_rng_normal(k, i) * fm_rng_normal(k, i + 1);
        cross += fm_rng_normal(k, i) * fm_rng_normal(k2, i);
    }
    assert_true(fabs(lag / N) < 5 / sqrt(N));
    assert_true(fabs(cross / N) < 5 / sqrt(N));
}

static void test_permute(void **state) {
    FM_UNUSED(state);
    uint64_t sizes[] = {1, 2, 3, 4, 5, 7, 16, 17, 100, 1000, 65537};
    for (size_t s = 0; s < FM_ARRAY_LEN(sizes); s++) {
        uint64_t n = sizes[s];
        unsigned char *hit = fm_calloc(n, 1);
        assert_non_null(hit);
        double shift = 0;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t p = fm_permute(i, n, 99);
            assert_true(p < n && !hit[p]);
            hit[p] = 1;
            shift += fabs((double)p - (double)i);
        }
        if (n >= 1000) { /* a random permutation moves an item by n/3 on average */
            assert_true(fabs(shift / (double)n / (double)n - 1.0 / 3) < 0.05);
        }
        fm_free(hit);
    }
    int same = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        same += fm_permute(i, 1000, 1) == fm_permute(i, 1000, 2);
    }
    assert_in_range(same, 0, 10);
    assert_true(fm_permute(UINT64_MAX - 1, UINT64_MAX, 5) < UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_permute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
