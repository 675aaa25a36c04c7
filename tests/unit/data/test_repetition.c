/* The step repetition against shares counted by hand and by a quadratic search. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "run_step.h"

static double field(const char *row, const char *name) {
    char key[32];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *p = strstr(row, key);
    assert_non_null(p);
    return strtod(p + strlen(key), NULL);
}

static void by_hand(void **state) {
    (void)state;
    static const char *const o[] = {"n", "2", "action", "mark", NULL}, *const drop[] = {"n", "2", NULL};
    /* Chinese: 4 characters an n-gram. */
    static const char rows[] = "{\"text\":\"a b c d e\"}\n{\"text\":\"A b, c x y z w\"}\n{\"text\":\"q q q q q\"}\n"
                               "{\"text\":\"one\"}\n{\"text\":\"中文句子好\"}\n{\"text\":\"中文句子坏\"}\n";
    static const double want[][2] = {{0, 0}, {0, 2 / 6.0}, {0.75, 0}, {0, 0}, {0, 0}, {0, 0.5}};
    char *out, *manifest, *p;
    assert_int_equal(run_step(&out, &manifest, "repetition", rows, sizeof rows - 1, o), FM_OK);
    p = out;
    for (size_t i = 0; i < FM_ARRAY_LEN(want); i++, p = strchr(p, '\n') + 1) {
        assert_true(fabs(field(p, "repeated") - want[i][0]) < 1e-9);
        assert_true(fabs(field(p, "seen_before") - want[i][1]) < 1e-9);
    }
    assert_int_equal(*p, 0);
    assert_non_null(strstr(manifest, "\"over_max_repeated\": 1"));
    assert_non_null(strstr(manifest, "\"over_max_seen\": 2"));
    fm_free(out);
    fm_free(manifest);
    assert_int_equal(run_step(&out, &manifest, "repetition", rows, sizeof rows - 1, drop), FM_OK);
    assert_string_equal(out, "{\"text\":\"a b c d e\"}\n{\"text\":\"one\"}\n{\"text\":\"中文句子好\"}\n");
    assert_non_null(strstr(manifest, "\"repeats itself\": 1"));
    assert_non_null(strstr(manifest, "\"repeats earlier rows\": 2"));
    fm_free(out);
    fm_free(manifest);
}

#define ROWS  3000
#define WORDS 40

/* Made rows, with so little memory that the sorter goes to disk. */
static void by_search(void **state) {
    (void)state;
    static const char *const o[] = {"n", "3", "action", "mark", "memory", "1MiB", "threads", "3", NULL};
    static uint8_t word[ROWS][WORDS];
    static bool had[32 * 32 * 32];
    fm_str rows = {0};
    uint32_t x = 7;
    for (int i = 0; i < ROWS; i++) {
        fm_str_puts(&rows, "{\"text\":\"");
        for (int k = 0; k < WORDS; k++) {
            x = x * 1664525 + 1013904223;
            word[i][k] = (uint8_t)(x >> 27);
            fm_str_printf(&rows, "w%d ", word[i][k]);
        }
        fm_str_puts(&rows, "\"}\n");
    }
    assert_int_equal(fm_str_check(&rows), FM_OK);
    char *out;
    assert_int_equal(run_step(&out, NULL, "repetition", rows.data, rows.len, o), FM_OK);
    const char *p = out;
    for (int i = 0; i < ROWS; i++, p = strchr(p, '\n') + 1) {
        int different = 0, before = 0, gram[WORDS];
        for (int k = 0; k + 2 < WORDS; k++) {
            int g = (word[i][k] * 32 + word[i][k + 1]) * 32 + word[i][k + 2], j = 0;
            while (j < different && gram[j] != g) {
                j++;
            }
            if (j == different) {
                gram[different++] = g;
                before += had[g];
            }
        }
        for (int j = 0; j < different; j++) {
            had[gram[j]] = true;
        }
        assert_true(fabs(field(p, "repeated") - (1 - different / (WORDS - 2.0))) < 1e-9);
        assert_true(fabs(field(p, "seen_before") - (double)before / different) < 1e-9);
    }
    fm_free(out);
    fm_str_free(&rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_hand), cmocka_unit_test(by_search)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
