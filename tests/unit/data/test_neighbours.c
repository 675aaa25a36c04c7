/* neighbours: who gets whose answer, by hand and against an exhaustive comparison. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "run_step.h"

static void test_by_hand(void **state) {
    static const char rows[] = "{\"q\":\"What helps against fever?\",\"a\":\"Rest, and water.\",\"n\":1}\n"
                               "{\"q\":\"What helps against a cold?\",\"a\":\"Rest and warm water.\",\"n\":2}\n"
                               "{\"q\":\"How long is it?\",\"a\":\"Nobody knows.\",\"n\":3}\n"
                               "{\"q\":\"发烧怎么治疗？\",\"a\":\"多喝水，注意休息。\",\"n\":4}\n"
                               "{\"q\":\"感冒怎么治疗？\",\"a\":\"多喝热水，注意休息。\",\"n\":5}\n"
                               "{\"q\":\"头痛怎么治疗？\",\"a\":\"多喝热水，注意休息。\",\"n\":6}\n";
    static const char want[] =
        "{\"q\":\"What helps against fever?\",\"a\":\"Rest, and water.\",\"n\":1}\n"
        "{\"q\":\"What helps against fever?\",\"a\":\"Rest and warm water.\",\"n\":1,\"near\":true}\n"
        "{\"q\":\"What helps against a cold?\",\"a\":\"Rest and warm water.\",\"n\":2}\n"
        "{\"q\":\"What helps against a cold?\",\"a\":\"Rest, and water.\",\"n\":2,\"near\":true}\n"
        "{\"q\":\"How long is it?\",\"a\":\"Nobody knows.\",\"n\":3}\n"
        "{\"q\":\"发烧怎么治疗？\",\"a\":\"多喝水，注意休息。\",\"n\":4}\n"
        "{\"q\":\"发烧怎么治疗？\",\"a\":\"多喝热水，注意休息。\",\"n\":4,\"near\":true}\n"
        "{\"q\":\"感冒怎么治疗？\",\"a\":\"多喝热水，注意休息。\",\"n\":5}\n" /* not the answer that it has already */
        "{\"q\":\"感冒怎么治疗？\",\"a\":\"多喝水，注意休息。\",\"n\":5,\"near\":true}\n"
        "{\"q\":\"头痛怎么治疗？\",\"a\":\"多喝热水，注意休息。\",\"n\":6}\n"
        "{\"q\":\"头痛怎么治疗？\",\"a\":\"多喝水，注意休息。\",\"n\":6,\"near\":true}\n";
    char *out, *manifest;
    (void)state;
    const char *const o[] = {"column", "q", "answer", "a", "mark", "near", NULL};
    assert_int_equal(run_step(&out, &manifest, "neighbours", rows, strlen(rows), o), FM_OK);
    assert_string_equal(out, want);
    assert_non_null(strstr(manifest, "\"with_neighbour\": 5"));
    fm_free(out);
    fm_free(manifest);
    const char *const strict[] = {"column", "q", "answer", "a", "least", "0.99", NULL};
    assert_int_equal(run_step(&out, NULL, "neighbours", rows, strlen(rows), strict), FM_OK);
    assert_string_equal(out, rows);
    fm_free(out);
}

static void test_poor_rows(void **state) {
    static const char rows[] = "{\"text\":\"a b\",\"answer\":\"x y\"}\n{\"text\":\"a b\"}\n{\"answer\":\"x\"}\n"
                               "{\"text\":\"\",\"answer\":\"\"}\n{\"text\":\"...\",\"answer\":\"!\"}\n";
    char *out;
    (void)state;
    assert_int_equal(run_step(&out, NULL, "neighbours", rows, strlen(rows), NULL), FM_OK);
    assert_string_equal(out, "{\"text\":\"a b\",\"answer\":\"x y\"}\n{\"text\":\"\",\"answer\":\"\"}\n"
                             "{\"text\":\"...\",\"answer\":\"!\"}\n");
    fm_free(out);
    assert_int_equal(run_step(&out, NULL, "neighbours", "", 0, NULL), FM_OK);
    assert_string_equal(out, "");
    fm_free(out);
}

/* ---- against all pairs ------------------------------------------------------------------------- */

#define ROWS  150
#define WORDS 40

static bool has[2][ROWS][WORDS]; /* question and answer */

static double overlap(int side, int i, int k, bool jaccard) {
    int both = 0, either = 0, sum = 0;
    for (int w = 0; w < WORDS; w++) {
        both += has[side][i][w] && has[side][k][w];
        either += has[side][i][w] || has[side][k][w];
        sum += has[side][i][w] + has[side][k][w];
    }
    return jaccard ? (double)both / (double)either : 2.0 * both / sum;
}

static int nearest(int i, int candidates, double least) {
    bool used[ROWS] = {false};
    int found = -1;
    double most = least;
    for (int c = 0; c < candidates; c++) {
        int best = -1;
        double similar = 0;
        for (int k = 0; k < ROWS; k++) {
            double v = k != i && !used[k] ? overlap(0, i, k, true) : 0;
            if (v > similar) {
                similar = v;
                best = k;
            }
        }
        if (best < 0) {
            break;
        }
        used[best] = true;
        double alike = memcmp(has[1][i], has[1][best], WORDS) == 0 ? 0 : overlap(1, i, best, false);
        if (alike > most || (alike == most && alike > 0 && found < 0)) {
            most = alike;
            found = best;
        }
    }
    return found;
}

static void test_all_pairs(void **state) {
    fm_rng_key key = {.seed = 11, .stream = fm_rng_stream("neighbours")};
    uint64_t at = 0;
    fm_str rows = {0}, want = {0}, side[2] = {{0}, {0}};
    char *text[2][ROWS], *out[2];
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        for (int s = 0; s < 2; s++) {
            fm_str_clear(&side[s]);
            for (int w = 0; w < WORDS; w++) {
                has[s][i][w] = fm_rng_uniform(key, at++) < 0.15 || w == (i + s) % WORDS;
                if (has[s][i][w]) {
                    fm_str_printf(&side[s], "%sw%d", side[s].len ? " " : "", w);
                }
            }
            text[s][i] = fm_strdup(side[s].data);
        }
        fm_str_printf(&rows, "{\"text\":\"%s\",\"answer\":\"%s\"}\n", text[0][i], text[1][i]);
    }
    int copies = 0;
    for (int i = 0; i < ROWS; i++) {
        int k = nearest(i, 5, 0.3);
        fm_str_printf(&want, "{\"text\":\"%s\",\"answer\":\"%s\"}\n", text[0][i], text[1][i]);
        if (k >= 0) {
            copies++;
            fm_str_printf(&want, "{\"text\":\"%s\",\"answer\":\"%s\"}\n", text[0][i], text[1][k]);
        }
    }
    assert_in_range(copies, 20, ROWS - 5);
    for (int t = 0; t < 2; t++) {
        const char *const o[] = {"candidates", "5", "least", "0.3", "threads", t ? "4" : "1", NULL};
        assert_int_equal(run_step(&out[t], NULL, "neighbours", rows.data, rows.len, o), FM_OK);
        assert_string_equal(out[t], want.data);
        fm_free(out[t]);
    }
    for (int i = 0; i < ROWS; i++) {
        fm_free(text[0][i]);
        fm_free(text[1][i]);
    }
    fm_str_free(&rows);
    fm_str_free(&want);
    fm_str_free(&side[0]);
    fm_str_free(&side[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_poor_rows),
        cmocka_unit_test(test_all_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
