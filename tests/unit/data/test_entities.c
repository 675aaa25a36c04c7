/* Entities against seqeval's counts (tests/golden/make_entities.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/entities.h"

static const char *const names[] = {"O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-PER", "S-LOC"};

/* Sequences of ids, -1 between them. */
static int parse(char *text, int32_t *out) {
    int n = 0;
    for (char *save, *p = strtok_r(text, " \n", &save); p; p = strtok_r(NULL, " \n", &save)) {
        out[n] = -1;
        for (int i = 0; i < 7; i++) {
            out[n] = strcmp(p, names[i]) == 0 ? i : out[n];
        }
        assert_true(out[n] >= 0 || strcmp(p, "/") == 0);
        n++;
    }
    return n;
}

static void test_golden(void **state) {
    (void)state;
    FILE *f = fopen(FM_SOURCE_DIR "/tests/golden/data/entities.txt", "r");
    assert_non_null(f);
    char line[1024];
    int cases = 0;
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#') {
            continue;
        }
        char *second = strchr(line, '|'), *third = strchr(second + 1, '|');
        double p, r, f1;
        int32_t said[64], wanted[64];
        assert_int_equal(sscanf(third + 1, "%lf %lf %lf", &p, &r, &f1), 3);
        *second = *third = '\0';
        int n = parse(line, said), m = parse(second + 1, wanted);
        assert_int_equal(n, m);
        fm_entity_counts c = {0};
        for (int begin = 0, i = 0; i <= n; i++) {
            if (i == n || said[i] < 0) {
                fm_entities_count(&c, names, said + begin, wanted + begin, i - begin);
                begin = i + 1;
            }
        }
        assert_true(fabs(fm_entity_precision(&c) - p) < 1e-8);
        assert_true(fabs(fm_entity_recall(&c) - r) < 1e-8);
        assert_true(fabs(fm_entity_f1(&c) - f1) < 1e-8);
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 120);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
