/* The quality step against rows that datatrove decided on (tests/interop/make_quality_golden.py), and its Chinese
 * limits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "run_step.h"

static const char *const rule_name[] = {"gopher-repetition", "gopher-quality", "c4", "fineweb"};

static char *golden(const char *name, size_t *n) {
    char path[4096], *data;
    snprintf(path, sizeof path, "%s/tests/unit/data/quality/%s", FM_SOURCE_DIR, name);
    assert_int_equal(fm_file_read(&data, n, path, 0), FM_OK);
    return data;
}

/* In rules.jsonl "quality" is what datatrove said; marking writes it anew, so rows must come out as they went in. */
static void rules(void **state) {
    (void)state;
    size_t n;
    char *data = golden("rules.jsonl", &n);
    for (size_t k = 0; k < FM_ARRAY_LEN(rule_name); k++) {
        fm_str want = {0};
        char prefix[64], *out, *next;
        int len = snprintf(prefix, sizeof prefix, "{\"rule\": \"%s\"", rule_name[k]), rows = 0;
        for (char *p = data; *p; p = next) {
            next = strchr(p, '\n') + 1;
            if (strncmp(p, prefix, (size_t)len) == 0) {
                fm_str_append(&want, p, (size_t)(next - p));
                rows++;
            }
        }
        assert_int_equal(fm_str_check(&want), FM_OK);
        assert_true(rows > 5);
        const char *const o[] = {
            "rules",    rule_name[k], "action", "mark",
            "language", "en",         "set",    k == 2 ? "filter_no_terminal_punct=1" : "new_line_ratio=0.3",
            NULL};
        assert_int_equal(run_step(&out, NULL, "quality", want.data, want.len, o), FM_OK);
        char *q = out;
        for (char *p = want.data; *p; p = next) {
            next = strchr(p, '\n') + 1;
            size_t a, b;
            char *x = NULL, *y = NULL;
            bool is_null = strstr(p, "\"quality\": null}\n") && strstr(p, "\"quality\": null}\n") < next;
            char *end = strchr(q, '\n') + 1;
            if (is_null) {
                assert_true(strstr(q, "\"quality\":null}\n") && strstr(q, "\"quality\":null}\n") < end);
            } else {
                assert_int_equal(fm_jsonl_string(&x, &a, p, (size_t)(next - p - 1), "quality", "want"), FM_OK);
                assert_int_equal(fm_jsonl_string(&y, &b, q, (size_t)(end - q - 1), "quality", "got"), FM_OK);
                assert_string_equal(y, x);
            }
            fm_string_free(x);
            fm_string_free(y);
            q = end;
        }
        fm_free(out);
        fm_str_free(&want);
    }
    fm_free(data);
}

static void chain(void **state) {
    (void)state;
    const char *const o[] = {"set",
                             "top_2_gram=0.9,top_3_gram=0,top_4_gram=0,duplicated_5_n_grams=0.9,duplicated_6_n_grams=0,"
                             "duplicated_7_n_grams=0,duplicated_8_n_grams=0,duplicated_9_n_grams=0,"
                             "duplicated_10_n_grams=0,char_duplicates_ratio=0.9",
                             NULL};
    size_t n;
    int rows = 0;
    char *data = golden("chain.jsonl", &n), *next, *out;
    assert_int_equal(run_step(&out, NULL, "quality", data, n, o), FM_OK);
    char *q = out;
    for (char *p = data; *p; p = next, rows++) {
        next = strchr(p, '\n') + 1;
        char *end = strchr(q, '\n'), *want, *got;
        size_t a, b;
        assert_non_null(end);
        assert_int_equal(fm_jsonl_string(&want, &a, p, (size_t)(next - p - 1), "after", "want"), FM_OK);
        assert_int_equal(fm_jsonl_string(&got, &b, q, (size_t)(end - q), "text", "got"), FM_OK);
        assert_string_equal(got, want);
        fm_string_free(want);
        fm_string_free(got);
        q = end + 1;
    }
    assert_true(rows >= 5);
    fm_free(out);
    fm_free(data);
}

/* Chinese prose stays; a list of links, repeated lines, a short text go. */
static void chinese(void **state) {
    static const char *const prose =
        "春天来了，山上的雪慢慢地化了，小河里的水也多了起来。村里的人们开始忙着准备春耕，有的修理农具，有的挑选种子。\n"
        "老王一早就下了地，他说今年的雨水好，庄稼一定能长得不错。孩子们放学以后，也常常跑到田边去看大人们干活。\n"
        "到了晚上，大家坐在院子里聊天，谈论着这一年的打算。日子虽然不算富裕，但是人人心里都充满了希望！";
    (void)state;
    const char *const no_c4[] = {"rules", "gopher-repetition,gopher-quality,fineweb", NULL};
    char *out = step_text("quality", prose, NULL);
    assert_non_null(out);
    assert_string_equal(out, prose);
    fm_free(out);
    assert_null(step_text("quality", "春天来了，山上的雪慢慢地化了。", NULL));
    fm_str text = {0};
    for (int i = 0; i < 60; i++) {
        fm_str_printf(&text, "首页%d\n新闻\n体育%d\n联系我们\n", i, i);
    }
    assert_null(step_text("quality", text.data, no_c4));
    fm_str_clear(&text);
    for (int i = 0; i < 9; i++) {
        fm_str_puts(&text, "这是一行在同一个网页里面不断地重复出现的文字，没有什么意思。\n");
    }
    assert_null(step_text("quality", text.data, no_c4));
    fm_str_free(&text);
}

static void mistakes(void **state) {
    static const char in[] = "{\"text\":\"x\"}\n";
    const char *const rule[] = {"rules", "gopher", NULL}, *const limit[] = {"set", "min_doc_word=3", NULL},
                      *const value[] = {"set", "min_doc_words=x", NULL}, *const twice[] = {"rules", "c4,c4", NULL};
    const char *const *const all[] = {rule, limit, value, twice};
    char *out;
    (void)state;
    for (size_t i = 0; i < FM_ARRAY_LEN(all); i++) {
        assert_int_equal(run_step(&out, NULL, "quality", in, strlen(in), all[i]), FM_ERR_CONFIG);
    }
    /* texts at the edges of what the rules divide by */
    static const char *const odd[] = {"", " ", "\n", "\n\n\n", "#", "[1]", "\r\n\r\n", ". . .", "\xC2\x85", "{"};
    for (size_t i = 0; i < FM_ARRAY_LEN(odd); i++) {
        for (size_t k = 0; k < FM_ARRAY_LEN(rule_name); k++) {
            const char *const o[] = {"rules", rule_name[k], "set", "min_doc_words=0,min_num_sentences=-1", NULL};
            char *t = step_text("quality", odd[i], o);
            fm_free(t);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules),
        cmocka_unit_test(chain),
        cmocka_unit_test(chinese),
        cmocka_unit_test(mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
