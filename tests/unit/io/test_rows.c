#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tmpdir.h"

#include <zlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/rows.h"

static void on_bad(void *user, const char *source, int64_t line, const char *reason) {
    FM_UNUSED(source);
    fm_str_printf(user, "%lld:!%s\n", (long long)line, reason);
}

/* All rows as "line:text" and the bad ones as "line:!reason". */
static fm_status dump(fm_str *s, const char *path, fm_rows_options o) {
    fm_rows *r;
    fm_row row;
    bool more = true;
    o.on_bad = on_bad;
    o.user = s;
    fm_str_clear(s);
    fm_str_append(s, "", 0);
    FM_TRY(fm_rows_open(&r, &path, 1, &o));
    fm_status st = FM_OK;
    int64_t good = 0;
    while (st == FM_OK && more) {
        st = fm_rows_next(r, &row, &more);
        if (st == FM_OK && more) {
            good++;
            fm_str_printf(s, "%lld:%.*s\n", (long long)row.line, (int)row.text.len, row.text.ptr);
        }
    }
    assert_int_equal(good, fm_rows_n_good(r));
    fm_rows_close(r);
    return st;
}

static void test_formats(void **state) {
    FM_UNUSED(state);
    static const struct {
        const char *name, *text, *tmpl, *want;
        fm_txt_unit unit;
    } rows[] = {
        {"a.txt", "\nhello\nworld\n\nagain\n\n", NULL, "2:hello\nworld\n\nagain\n", FM_TXT_FILE},
        {"a.txt", "hello\r\nworld\r\n \t\r\nagain\n\n\n", NULL, "1:hello\nworld\n4:again\n", FM_TXT_PARAGRAPH},
        {"a.txt", "hello\n\nworld", NULL, "1:hello\n3:world\n", FM_TXT_LINE},
        {"a.txt", "", NULL, "", FM_TXT_FILE},
        {"a.txt", "ok\n\xFF\nok", NULL, "1:ok\n2:!invalid UTF-8\n3:ok\n", FM_TXT_LINE},
        {"a.jsonl",
         "{\"text\": \"x\\ny\"}\n\n{\"text\": 5}\n{\"t\": 1}\n{\"text\": null}\n{\"text\": \"\"}\n{bad\n{\"text\": "
         "\"z\"}",
         NULL,
         "1:x\ny\n3:5\n4:!column 'text' is missing\n5:!column 'text' is null\n6:!empty text\n"
         "7:!column 2: expected a key in quotes\n8:z\n",
         0},
        {"a.jsonl", "{\"q\": \"why\", \"a\": [1], \"b\": true}\n{\"q\":\"p\",\"a\":\"s\"}\n", "{{{q}}} -> {a}",
         "1:!column 'a' is not a plain value\n2:{p} -> s\n", 0},
        {"a.json", " \n[\n {\"text\": \"one\"},\n {\"text\":\n \"two\"}\n, {\"no\": 1}]\n", NULL,
         "3:one\n4:two\n6:!column 'text' is missing\n", 0},
        {"a.json", "[{\"text\": \"one\"},\n{\"text\" 2}, {\"text\": \"three\"}]", NULL,
         "1:one\n2:!expected ':' at line 2; the rest of the array is not read\n", 0},
        {"a.json", "{\"text\": \"a line\"}\n{\"text\": \"another\"}\n", NULL, "1:a line\n2:another\n", 0},
        {"a.csv", "question,answer\nq1,\"a,1\"\nq2\nq3,a3\n,\n", "{question}: {answer}",
         "2:q1: a,1\n3:!fewer fields than the header\n4:q3: a3\n5:: \n", 0},
        {"a.tsv", "text\tn\nfoo, bar\t1\n\t2\n", NULL, "2:foo, bar\n3:!empty text\n", 0},
        {"data", "{\"text\": \"sniffed\"}\n", NULL, "1:sniffed\n", 0},
        {"data", "plain\ntext", NULL, "1:plain\ntext\n", 0},
    };
    fm_str s = {0};
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        fm_rows_options o = {.template_text = rows[i].tmpl, .txt_unit = rows[i].unit};
        assert_int_equal(dump(&s, tmp_text(rows[i].name, rows[i].text), o), FM_OK);
        if (strcmp(s.data, rows[i].want) != 0) {
            fail_msg("%zu %s:\n%s\nexpected\n%s", i, rows[i].text, s.data, rows[i].want);
        }
    }
    fm_rows_options small = {.max_row_bytes = 8};
    assert_int_equal(dump(&s, tmp_text("s.jsonl", "{\"text\": \"too long\"}\n"), small), FM_OK);
    assert_string_equal(s.data, "1:!longer than 8 bytes\n");
    assert_int_equal(dump(&s, tmp_text("s.txt", "abc\ndef\nghi\n"), small), FM_OK);
    assert_string_equal(s.data, "1:!longer than 8 bytes; txt_unit=paragraph or line makes rows of its parts\n");
    assert_int_equal(dump(&s, tmp_text("c.csv", "q,a\n1,2\n"), (fm_rows_options){0}), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().hint, "q, a"));
    assert_int_equal(dump(&s, tmp_path("a.csv"), (fm_rows_options){.template_text = "{q"}), FM_ERR_CONFIG);
    assert_int_equal(dump(&s, tmp_path("a.csv"), (fm_rows_options){.template_text = "q}"}), FM_ERR_CONFIG);
    assert_int_equal(dump(&s, tmp_path("a.csv"), (fm_rows_options){.template_text = "{}"}), FM_ERR_CONFIG);
    assert_int_equal(dump(&s, tmp_path("none.csv"), (fm_rows_options){0}), FM_ERR_NOT_FOUND);
    fm_str_free(&s);
}

static void test_many_files(void **state) {
    FM_UNUSED(state);
    assert_int_equal(fm_mkdirs(tmp_path("d/sub.txt")), FM_OK);
    tmp_text("d/b.txt", "second");
    tmp_text("d/a.jsonl", "{\"text\": \"first\"}\n");
    tmp_text("d/ignored.bin", "x");
    gzFile g = gzopen(tmp_path("d/c.txt.gz"), "wb");
    assert_non_null(g);
    gzputs(g, "third");
    assert_int_equal(gzclose(g), Z_OK);
    fm_str s = {0};
    assert_int_equal(dump(&s, tmp_path("d"), (fm_rows_options){0}), FM_OK);
    assert_string_equal(s.data, "1:first\n1:second\n1:third\n");
    assert_int_equal(dump(&s, tmp_path("d/*.txt*"), (fm_rows_options){.txt_unit = FM_TXT_LINE}), FM_ERR_NOT_FOUND);
    assert_int_equal(fm_remove_tree(tmp_path("d/sub.txt")), FM_OK);
    assert_int_equal(dump(&s, tmp_path("d/*.txt*"), (fm_rows_options){0}), FM_OK);
    assert_string_equal(s.data, "1:second\n1:third\n");
    fm_str_free(&s);
}

static void test_columns_and_reject(void **state) {
    FM_UNUSED(state);
    fm_str s = {0}, bad = {0};
    const char *paths[] = {tmp_text("a.jsonl", "{\"m\": [{\"role\": \"user\"}], \"k\": \"v\\u0041\"}\n{\"m\": 1}\n"),
                           tmp_text("b.csv", "k,m\n\"x\"\"y\",2\n")};
    fm_rows *r;
    fm_row row;
    bool more;
    fm_rows_options o = {.raw_only = true, .on_bad = on_bad, .user = &bad};
    assert_int_equal(fm_rows_open(&r, paths, 2, &o), FM_OK);
    assert_int_equal(fm_rows_next(r, &row, &more), FM_OK);
    assert_int_equal(row.text.len, 0);
    assert_int_equal(row.raw.ptr[0], '{');
    assert_int_equal(fm_rows_column(r, "k", &s), FM_OK);
    assert_string_equal(s.data, "vA");
    fm_str_clear(&s);
    assert_int_equal(fm_rows_column(r, "m", &s), FM_OK);
    assert_string_equal(s.data, "[{\"role\": \"user\"}]");
    assert_int_equal(fm_rows_next(r, &row, &more), FM_OK);
    assert_int_equal(fm_rows_column(r, "k", &s), FM_ERR_DATA);
    fm_rows_reject(r, "no k");
    assert_string_equal(bad.data, "2:!no k\n");
    fm_str_clear(&s);
    assert_int_equal(fm_rows_next(r, &row, &more), FM_OK);
    assert_int_equal(row.index, 2);
    assert_string_equal(row.source, paths[1]);
    assert_int_equal(fm_rows_column(r, "k", &s), FM_OK);
    assert_string_equal(s.data, "x\"y");
    assert_int_equal(fm_rows_column(r, "none", &s), FM_ERR_DATA);
    assert_int_equal(fm_rows_next(r, &row, &more), FM_OK);
    assert_false(more);
    assert_int_equal(fm_rows_n_good(r), 2);
    assert_int_equal(fm_rows_n_bad(r), 1);
    fm_rows_close(r);
    fm_str_free(&s);
    fm_str_free(&bad);
}

static void test_out_of_memory(void **state) {
    FM_UNUSED(state);
    tmp_text("oom/x", "");
    assert_int_equal(fm_mkdirs(tmp_path("oom")), FM_OK);
    tmp_text("oom/a.jsonl", "{\"text\": \"a\\nb\"}\n");
    tmp_text("oom/b.csv", "text\nfoo\n");
    tmp_text("oom/c.json", "[{\"text\": 1}]");
    tmp_text("oom/d.txt", "foo\n\nbar\n");
    const char *dir = tmp_path("oom");
    int64_t base = fm_ledger_current(FM_MEM_MISC);
    bool done = false;
    for (int64_t k = 1; k < 300 && !done; k++) {
        fm_rows *r;
        fm_row row;
        bool more = true;
        fm_mem_fail_at(k, true);
        fm_status st = fm_rows_open(&r, &dir, 1, NULL);
        while (st == FM_OK && more) {
            st = fm_rows_next(r, &row, &more);
        }
        fm_mem_fail_at(0, false);
        done = st == FM_OK;
        assert_true(done || st == FM_ERR_NO_MEMORY);
        assert_true(!done || fm_rows_n_good(r) == 4);
        fm_rows_close(r);
        assert_int_equal(fm_ledger_current(FM_MEM_MISC), base);
    }
    assert_true(done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_many_files),
        cmocka_unit_test(test_columns_and_reject),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
