#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

static fm_json *parse(const char *text) {
    fm_json *j = NULL;
    assert_int_equal(fm_json_parse(&j, text, strlen(text), "test"), FM_OK);
    return j;
}

static void test_read(void **state) {
    FM_UNUSED(state);
    fm_json *j = parse(
        "\xEF\xBB\xBF{\"i\": 12, \"f\": 1e-06, \"s\": \"a\\u0000b\", \"b\": true, \"n\": null, \"whole\": 4096.0,\n"
        "\"a\": [1, \"x\", {}], \"big\": 1000000000000000019884624838656, \"max\": 9223372036854775807,"
        "\"text\": \"1000000000000000019884624838656\"}");
    int64_t i;
    double f;
    bool b;
    const char *s;
    size_t n;
    assert_int_equal(fm_json_get_i64(&i, j, "i", 0), FM_OK);
    assert_int_equal(i, 12);
    assert_int_equal(fm_json_get_i64(&i, j, "whole", 0), FM_OK);
    assert_int_equal(i, 4096);
    assert_int_equal(fm_json_get_i64(&i, j, "max", 0), FM_OK);
    assert_int_equal(i, INT64_MAX);
    assert_int_equal(fm_json_get_i64(&i, j, "missing", 77), FM_OK);
    assert_int_equal(i, 77);
    assert_int_equal(fm_json_get_i64(&i, j, "n", 78), FM_OK);
    assert_int_equal(i, 78);
    assert_int_equal(fm_json_get_i64(&i, j, "f", 0), FM_ERR_FORMAT);
    assert_int_equal(fm_json_get_i64(&i, j, "s", 0), FM_ERR_FORMAT);
    assert_non_null(strstr(fm_error_get().message, "'s'"));
    assert_int_equal(fm_json_get_i64(&i, j, "big", 0), FM_ERR_FORMAT);
    assert_int_equal(fm_json_get_f64(&f, j, "big", 0), FM_OK);
    assert_true(f == 1000000000000000019884624838656.0);
    assert_int_equal(fm_json_get_f64(&f, j, "f", 0), FM_OK);
    assert_true(f == 1e-6);
    assert_int_equal(fm_json_get_f64(&f, j, "i", 0), FM_OK);
    assert_true(f == 12);
    assert_int_equal(fm_json_get_bool(&b, j, "b", false), FM_OK);
    assert_true(b);
    assert_int_equal(fm_json_get_bool(&b, j, "i", false), FM_ERR_FORMAT);
    assert_int_equal(fm_json_get_str(&s, j, "text", NULL), FM_OK);
    assert_string_equal(s, "1000000000000000019884624838656");
    assert_int_equal(fm_json_get_str(&s, j, "missing", "def"), FM_OK);
    assert_string_equal(s, "def");
    assert_memory_equal(fm_json_str(fm_json_get(j, "s"), &n), "a\0b", 3);
    assert_int_equal(n, 3);
    const fm_json *a = fm_json_get(j, "a");
    assert_int_equal(fm_json_size(a), 3);
    assert_true(fm_json_is_object(fm_json_at(a, 2)));
    assert_null(fm_json_at(a, 3));
    assert_null(fm_json_get(a, "x"));
    assert_null(fm_json_get(NULL, "x"));
    assert_true(fm_json_is_null(NULL));
    assert_int_equal(fm_json_int(NULL, 5), 5);
    fm_json_free(j);
}

static void test_errors(void **state) {
    FM_UNUSED(state);
    static const char *const bad[] = {"",      "{",    "{\"a\": 1,}", "[1 2]", "\"\xFF\"", "{\"a\": NaN}",
                                      "1e999", "{} x", "'a'"};
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        fm_json *j = (fm_json *)1;
        assert_int_equal(fm_json_parse(&j, bad[i], strlen(bad[i]), "cfg.json"), FM_ERR_FORMAT);
        assert_null(j);
    }
    fm_json *j;
    const char *text = "{\"a\": 1,\n  \"b\" 2}";
    assert_int_equal(fm_json_parse(&j, text, strlen(text), "cfg.json"), FM_ERR_FORMAT);
    assert_non_null(strstr(fm_error_get().message, "cfg.json:2:"));
    /* Deep nesting is refused, not run into the stack's end. */
    char *deep = fm_malloc(200001);
    assert_non_null(deep);
    memset(deep, '[', 200000);
    assert_int_equal(fm_json_parse(&j, deep, 200000, "deep"), FM_ERR_FORMAT);
    fm_free(deep);
    assert_int_equal(fm_json_load(&j, "/nonexistent/x.json"), FM_ERR_NOT_FOUND);
}

static fm_status collect(void *arg, const char *key, fm_json *value) {
    FM_UNUSED(value);
    fm_str_puts(arg, key);
    return strcmp(key, "stop") == 0 ? fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "stop") : FM_OK;
}

static void test_build_and_dump(void **state) {
    FM_UNUSED(state);
    fm_json *o = fm_json_new_object(), *a = fm_json_new_array();
    assert_int_equal(fm_json_append(a, fm_json_new_int(-5)), FM_OK);
    assert_int_equal(fm_json_append(a, fm_json_new_num(1e-6)), FM_OK);
    assert_int_equal(fm_json_append(a, fm_json_new_num(0.1)), FM_OK);
    assert_int_equal(fm_json_append(a, fm_json_new_num(3)), FM_OK);
    assert_int_equal(fm_json_append(a, fm_json_new_num(INFINITY)), FM_OK);
    assert_int_equal(fm_json_append(a, fm_json_new_bool(false)), FM_OK);
    assert_int_equal(fm_json_set(o, "zeta", a), FM_OK);
    assert_int_equal(fm_json_set(o, "alpha", fm_json_new_strn("\xE4\xBD\xA0\n\"", 5)), FM_OK);
    assert_int_equal(fm_json_set(o, "null", fm_json_new_str(NULL)), FM_OK);
    assert_int_equal(fm_json_set(o, "empty", fm_json_new_object()), FM_OK);
    assert_int_equal(fm_json_set(o, "x", NULL), FM_ERR_NO_MEMORY);
    assert_int_equal(fm_json_set(o, "bad", fm_json_new_str("\xFF")), FM_ERR_NO_MEMORY);
    fm_str s = {0}, t = {0};
    assert_int_equal(fm_json_dump(&s, o, 0), FM_OK);
    assert_string_equal(s.data, "{\"zeta\": [-5, 1e-06, 0.1, 3.0, null, false], \"alpha\": \"\xE4\xBD\xA0\\n\\\"\", "
                                "\"null\": null, \"empty\": {}}");
    fm_str_clear(&t);
    assert_int_equal(fm_json_dump(&t, o, 2), FM_OK);
    assert_non_null(strstr(t.data, "{\n  \"zeta\": [\n    -5,\n"));
    fm_json *back = parse(t.data);
    fm_str_clear(&t);
    assert_int_equal(fm_json_dump(&t, back, 0), FM_OK);
    assert_string_equal(t.data, s.data);
    fm_json_free(back);
    fm_str_clear(&t);
    assert_int_equal(fm_json_each(o, collect, &t), FM_OK);
    assert_string_equal(t.data, "zetaalphanullempty");
    assert_int_equal(fm_json_set(o, "stop", fm_json_new_int(1)), FM_OK);
    assert_int_equal(fm_json_each(o, collect, &t), FM_ERR_DATA);
    fm_json_free(o);
    fm_str_free(&s);
    fm_str_free(&t);
}

static void test_out_of_memory(void **state) {
    FM_UNUSED(state);
    const char *text = "{\"a\": [1, 2.5, \"text\"], \"b\": {\"c\": 99999999999999999999}}";
    int64_t base = fm_ledger_current(FM_MEM_MISC);
    bool done = false;
    for (int64_t k = 1; k < 500 && !done; k++) {
        fm_json *j;
        fm_mem_fail_at(k, true);
        fm_status s = fm_json_parse(&j, text, strlen(text), "x");
        fm_mem_fail_at(0, false);
        done = s == FM_OK;
        if (done) {
            fm_json_free(j);
        }
        assert_int_equal(fm_ledger_current(FM_MEM_MISC), base);
    }
    assert_true(done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_build_and_dump),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
