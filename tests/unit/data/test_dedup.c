/* Exact and line-level duplicates, decontamination, and what they stand on: the external sorter, normal forms. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "data/sorter.h"
#include "data/textnorm.h"
#include "run_step.h"

/* ---- sorter ----------------------------------------------------------------------------------- */

typedef struct pair {
    uint64_t key, value;
} pair;

static int by_pair(const void *a, const void *b) {
    const pair *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->value > y->value) - (x->value < y->value);
}

/* n records, keys below `keys`, within 1 MiB (32768 records of 16 bytes): in memory and in several runs. */
static void check_sorter(size_t n, uint64_t keys) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/fathom_sorter_%ld", (long)getpid());
    fm_sorter *s;
    assert_int_equal(fm_sorter_new(&s, 2, 1 << 20, path), FM_OK);
    pair *want = fm_malloc((n + 1) * sizeof *want);
    assert_non_null(want);
    for (size_t i = 0; i < n; i++) {
        uint64_t r = fm_rng_below((fm_rng_key){7, 0, 0}, i, keys);
        want[i] = (pair){r * UINT64_C(0x9E3779B97F4A7C15), i};
        assert_int_equal(fm_sorter_push(s, &want[i].key), FM_OK);
    }
    assert_int_equal(fm_path_exists(path), n > 32768);
    qsort(want, n, sizeof *want, by_pair);
    assert_int_equal(fm_sorter_sort(s), FM_OK);
    for (size_t i = 0; i < n; i++) {
        const uint64_t *r;
        assert_int_equal(fm_sorter_next(s, &r), FM_OK);
        assert_non_null(r);
        assert_true(r[0] == want[i].key && r[1] == want[i].value);
    }
    for (int i = 0; i < 2; i++) {
        const uint64_t *r;
        assert_int_equal(fm_sorter_next(s, &r), FM_OK);
        assert_null(r);
    }
    fm_sorter_free(s);
    assert_false(fm_path_exists(path));
    fm_free(want);
}

static void sorter(void **state) {
    (void)state;
    check_sorter(0, 1);
    check_sorter(1, 1);
    check_sorter(5000, 100);
    check_sorter(32768, UINT64_MAX);
    check_sorter(32769, 3);
    check_sorter(200000, 1000);
}

/* ---- normal forms ----------------------------------------------------------------------------- */

/* Right side: simplify_text of datatrove 0.10.1. */
static void datatrove_form(void **state) {
    static const char *const want[][2] = {
        {"Hello, World!  It's 3.14 or 1,000,000.\tEnd", "hello world it s 0 or 0 0 end"},
        {"ÀÉÎ õ ñ — “quoted” … Straße İstanbul ΣΑΣ ΟΔΟΣ.", "aei o n quoted straße istanbul σας οδος"},
        {"中文，标点。１２３ ２．５ 全角！ａｂｃ", "中文 标点 0 0 0 全角 ａｂｃ"},
        {"  lead\n\n and trail \xc2\xa0\xe3\x80\x80 ", "lead and trail"},
        {"٣٫٥ ۴,۵ १२", "0 0 0"},
        {"a\xcc\x81 b \xcc\x81"
         "c \xcc\x81",
         "a b c"},
        {"tabs\x0b\x0c\x01x\x7f y\xc2\x85z", "tabs x y z"},
        {"x.y 1.a .5 5. 1.2.3.4", "x y 0 a 0 0 0 0"},
        {"don’t—stop", "don t stop"},
        {"①②③ ½ Ⅳ", "①②③ ½ ⅳ"},
        {"", ""},
        {" , ", ""},
    };
    (void)state;
    fm_str s = {0};
    for (size_t i = 0; i < FM_ARRAY_LEN(want); i++) {
        assert_int_equal(fm_textnorm(&s, fm_sv_of(want[i][0]), FM_NORM_DATATROVE), FM_OK);
        assert_string_equal(s.data, want[i][1]);
    }
    assert_int_equal(fm_textnorm(&s, fm_sv_of(" A  b\n\nİ "), FM_NORM_SPACES), FM_OK);
    assert_string_equal(s.data, "A b İ");
    fm_str_free(&s);
}

/* ---- steps ------------------------------------------------------------------------------------ */

static void rows_out(const char *step, const char *in, const char *want, const char *const *options) {
    char *out;
    fm_status s = run_step(&out, NULL, step, in, strlen(in), options);
    if (s != FM_OK) {
        print_error("%s: %s\n", step, fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    assert_string_equal(out, want);
    fm_free(out);
}

static void exact(void **state) {
    static const char in[] = "{\"id\":1,\"text\":\"Hello,  World\"}\n"
                             "{\"id\":2,\"text\":\"hello world!!!!!!\"}\n"
                             "{\"id\":3,\"text\":\"***\"}\n"
                             "{\"id\":4,\"text\":\"---\"}\n"
                             "{\"text\":\"Hello,  World\",\"id\":1}\n"
                             "{\"id\":6,\"text\":\"other\"}\n";
    const char *const none[] = {"normalise", "none", NULL}, *const longest[] = {"keep", "longest", NULL},
                      *const all[] = {"by", "*", NULL};
    (void)state;
    rows_out("dedup", in,
             "{\"id\":1,\"text\":\"Hello,  World\"}\n{\"id\":3,\"text\":\"***\"}\n{\"id\":4,\"text\":\"---\"}\n"
             "{\"id\":6,\"text\":\"other\"}\n",
             NULL);
    rows_out("dedup", in,
             "{\"id\":1,\"text\":\"Hello,  World\"}\n{\"id\":2,\"text\":\"hello world!!!!!!\"}\n"
             "{\"id\":3,\"text\":\"***\"}\n{\"id\":4,\"text\":\"---\"}\n{\"id\":6,\"text\":\"other\"}\n",
             none);
    rows_out("dedup", in,
             "{\"id\":2,\"text\":\"hello world!!!!!!\"}\n{\"id\":3,\"text\":\"***\"}\n{\"id\":4,\"text\":\"---\"}\n"
             "{\"id\":6,\"text\":\"other\"}\n",
             longest);
    rows_out("dedup", in,
             "{\"id\":1,\"text\":\"Hello,  World\"}\n{\"id\":2,\"text\":\"hello world!!!!!!\"}\n"
             "{\"id\":3,\"text\":\"***\"}\n{\"id\":4,\"text\":\"---\"}\n{\"id\":6,\"text\":\"other\"}\n",
             all);
}

/* Many rows, sorted on disk: what stays is what a set would keep; the same with 1 and 3 threads. */
static void many(void **state) {
    fm_str in = {0}, want = {0};
    bool *seen = fm_calloc(20000, 1);
    char *out;
    (void)state;
    assert_non_null(seen);
    for (uint64_t i = 0; i < 60000; i++) {
        uint64_t v = fm_rng_below((fm_rng_key){3, 0, 0}, i, 20000);
        size_t at = in.len;
        fm_str_printf(&in, "{\"n\":%llu,\"text\":\"the value %llu of a row\"}\n", (unsigned long long)i,
                      (unsigned long long)v);
        assert_int_equal(fm_str_check(&in), FM_OK);
        if (!seen[v]) {
            fm_str_append(&want, in.data + at, in.len - at);
        }
        seen[v] = true;
    }
    for (int t = 1; t <= 3; t += 2) {
        const char *const o[] = {"threads", t == 1 ? "1" : "3", "memory", "1MiB", NULL};
        assert_int_equal(run_step(&out, NULL, "dedup", in.data, in.len, o), FM_OK);
        assert_string_equal(out, want.data);
        fm_free(out);
    }
    fm_free(seen);
    fm_str_free(&in);
    fm_str_free(&want);
}

static void lines(void **state) {
    const char *const two[] = {"copies", "2", NULL};
    static const char in[] =
        "{\"text\":\"Accept all our cookies now\\nA first text of its own here\\nshort\"}\n"
        "{\"text\":\"short\\nACCEPT all our  cookies now!\\nA second text of its own\\nAccept all our cookies now\"}\n"
        "{\"text\":\"accept all our cookies now\\n\\n\"}\n";
    (void)state;
    rows_out("dedup-lines", in,
             "{\"text\":\"Accept all our cookies now\\nA first text of its own here\\nshort\"}\n"
             "{\"text\":\"short\\nA second text of its own\"}\n",
             NULL);
    rows_out("dedup-lines", in,
             "{\"text\":\"Accept all our cookies now\\nA first text of its own here\\nshort\"}\n"
             "{\"text\":\"short\\nACCEPT all our  cookies now!\\nA second text of its own\"}\n",
             two);
}

static void contamination(void **state) {
    static const char eval[] =
        "{\"q\":\"one two three four five six seven eight nine ten eleven twelve thirteen fourteen\"}\n"
        "{\"q\":\"A short question of nine words stands here alone\",\"n\":5}\n"
        "{\"q\":\"too short to count\"}\n"
        "{\"q\":\"下列关于细胞结构的叙述，正确的是哪一项\"}\n";
    static const char in[] =
        "{\"id\":1,\"text\":\"x ONE, two three four - five six seven eight nine ten eleven twelve thirteen!\"}\n"
        "{\"id\":2,\"text\":\"one two three four five six seven eight nine ten eleven twelve\"}\n"
        "{\"id\":3,\"text\":\"so: a short question of nine words stands here alone.\"}\n"
        "{\"id\":4,\"text\":\"a text that is too short to count as one of them\"}\n"
        "{\"id\":5,\"text\":\"问题：下列关于细胞结构的叙述正确的是哪一项？\"}\n"
        "{\"id\":6,\"text\":\"细胞结构\"}\n";
    char path[64];
    (void)state;
    snprintf(path, sizeof path, "/tmp/fathom_eval_%ld.jsonl", (long)getpid());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(eval, f);
    fclose(f);
    const char *const o[] = {"against", path, NULL}, *const mark[] = {"against", path, "action", "mark", NULL},
                      *const none[] = {"against", "/tmp/fathom_no_such_file", NULL};
    rows_out("decontaminate", in,
             "{\"id\":2,\"text\":\"one two three four five six seven eight nine ten eleven twelve\"}\n"
             "{\"id\":4,\"text\":\"a text that is too short to count as one of them\"}\n"
             "{\"id\":6,\"text\":\"细胞结构\"}\n",
             o);
    char *out;
    assert_int_equal(run_step(&out, NULL, "decontaminate", in, strlen(in), mark), FM_OK);
    assert_non_null(strstr(out, ":1, 1 of 2 runs\""));
    assert_non_null(strstr(out, "\"id\":6,\"text\":\"细胞结构\",\"contamination\":null"));
    fm_free(out);
    assert_int_equal(run_step(&out, NULL, "decontaminate", in, strlen(in), none), FM_ERR_NOT_FOUND);
    assert_int_equal(run_step(&out, NULL, "decontaminate", in, strlen(in), NULL), FM_ERR_CONFIG);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorter), cmocka_unit_test(datatrove_form), cmocka_unit_test(exact),
        cmocka_unit_test(many),   cmocka_unit_test(lines),          cmocka_unit_test(contamination),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
