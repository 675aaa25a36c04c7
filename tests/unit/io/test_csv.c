#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tmpdir.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/csv.h"

/* All records as "line:[a|b]" or "line:!reason". */
static void dump(fm_str *s, const char *path, const fm_csv_options *o) {
    fm_csv *c;
    assert_int_equal(fm_csv_open(&c, path, o), FM_OK);
    fm_str_clear(s);
    fm_str_append(s, "", 0);
    for (;;) {
        fm_csv_record r;
        bool more;
        assert_int_equal(fm_csv_next(c, &r, &more), FM_OK);
        if (!more) {
            break;
        }
        fm_str_printf(s, "%lld:", (long long)r.line);
        if (r.bad) {
            fm_str_printf(s, "!%s", r.bad);
        } else {
            for (size_t i = 0; i < r.n_fields; i++) {
                fm_str_printf(s, "%c%.*s", i ? '|' : '[', (int)r.field[i].len, r.field[i].ptr);
            }
            fm_str_putc(s, ']');
        }
        fm_str_putc(s, '\n');
    }
    fm_csv_close(c);
}

static void test_records(void **state) {
    FM_UNUSED(state);
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"q,a\n1,2\n", "2:[1|2]\n"},
        {"\xEF\xBB\xBFq,a\r\n1,2\r\n3,4", "2:[1|2]\n3:[3|4]\n"},
        {"q,a\n\"x,y\",\"he said \"\"no\"\"\"\n", "2:[x,y|he said \"no\"]\n"},
        {"q,a\n\"l1\nl2\r\nl3\",b\nc,d\n", "2:[l1\nl2\r\nl3|b]\n5:[c|d]\n"},
        {"q,a\n\n1,\n\r\n,2\n\n", "3:[1|]\n5:[|2]\n"},
        {"q,a\n1\n1,2,3\n5,6\n", "2:!fewer fields than the header\n3:!more fields than the header\n4:[5|6]\n"},
        {"q,a\n\"x\"y,2\n5,6\n", "2:!text after a closing quote\n3:[5|6]\n"},
        {"q,a\n1,\"open\n5,6\n7,8\n", "2:!a quote is never closed\n3:[5|6]\n4:[7|8]\n"},
        {"q,a\nab\"c,d\"\n", "2:[ab\"c|d\"]\n"},
        {"q,a\nx\ry,2\n", "2:[x\ry|2]\n"},
        {"q,a\n\"1\",\"2\"", "2:[1|2]\n"},
        {"q,a\n1,\"2\"\r\n\"3\",4\r", "2:[1|2]\n3:[3|4\r]\n"},
        {"q\n\"\"\n", "2:[]\n"},
        {"", ""},
        {"\n\n", ""},
        {"only,header", ""},
    };
    fm_str s = {0};
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        dump(&s, tmp_text("a.csv", rows[i].in), NULL);
        if (strcmp(s.data, rows[i].out) != 0) {
            fail_msg("%s\n-> %s\nexpected %s", rows[i].in, s.data, rows[i].out);
        }
    }
    fm_csv_options tab = {.delimiter = '\t', .no_header = true};
    dump(&s, tmp_text("a.tsv", "1\ta,b\n2\t\"x\ty\"\n"), &tab);
    assert_string_equal(s.data, "1:[1|a,b]\n2:[2|x\ty]\n");
    fm_csv_options small = {.max_record_bytes = 10};
    dump(&s, tmp_text("b.csv", "q,a\n\"0123456789abcdef\nx\",1\n0123456789012345,1\n5,6\n"), &small);
    assert_string_equal(s.data, "2:!longer than the limit\n3:[x\"|1]\n"
                                "4:!longer than the limit\n5:[5|6]\n");
    fm_str_free(&s);
}

static void test_header(void **state) {
    FM_UNUSED(state);
    fm_csv *c;
    assert_int_equal(fm_csv_open(&c, tmp_text("h.csv", "id,\"the text\"\n1,2\n"), NULL), FM_OK);
    assert_int_equal(fm_csv_n_columns(c), 2);
    assert_int_equal(fm_csv_column(c, "the text"), 1);
    assert_int_equal(fm_csv_column(c, "none"), -1);
    assert_string_equal(fm_csv_column_name(c, 0), "id");
    fm_csv_close(c);
    assert_int_equal(fm_csv_open(&c, tmp_text("h.csv", "a,b,a\n"), NULL), FM_ERR_DATA);
    assert_null(c);
    assert_int_equal(fm_csv_open(&c, tmp_text("h.csv", "a,\"b\n"), NULL), FM_ERR_DATA);
    assert_int_equal(fm_csv_open(&c, tmp_text("h.csv", "a,\xFF\n"), NULL), FM_ERR_DATA);
    assert_int_equal(fm_csv_open(&c, tmp_path("none.csv"), NULL), FM_ERR_NOT_FOUND);
}

/* Many records with every awkward character, larger than the window, written here and read back. */
static void test_round_trip(void **state) {
    FM_UNUSED(state);
    fm_str file = {0};
    fm_str_puts(&file, "i,text\n");
    for (int i = 0; i < 5000; i++) {
        fm_str_printf(&file, "%d,\"", i);
        for (int k = 0; k < i % 97; k++) {
            static const char *const bits[] = {"a", ",", "\n", "\"\"", "\r\n", "\xE4\xBD\xA0", " "};
            fm_str_puts(&file, bits[(i * 31 + k * 7) % 7]);
        }
        fm_str_puts(&file, "\"\r\n");
    }
    assert_int_equal(fm_str_check(&file), FM_OK);
    fm_csv *c;
    assert_int_equal(fm_csv_open(&c, tmp_write("big.csv", file.data, file.len), NULL), FM_OK);
    for (int i = 0; i < 5000; i++) {
        fm_csv_record r;
        bool more;
        assert_int_equal(fm_csv_next(c, &r, &more), FM_OK);
        assert_true(more && !r.bad && r.n_fields == 2);
        fm_str want = {0};
        for (int k = 0; k < i % 97; k++) {
            static const char *const bits[] = {"a", ",", "\n", "\"", "\r\n", "\xE4\xBD\xA0", " "};
            fm_str_puts(&want, bits[(i * 31 + k * 7) % 7]);
        }
        fm_str_append(&want, "", 0);
        assert_int_equal(r.field[1].len, want.len);
        assert_memory_equal(r.field[1].ptr, want.data, want.len);
        assert_int_equal(strtol(r.field[0].ptr, NULL, 10), i);
        fm_str_free(&want);
    }
    fm_csv_close(c);
    fm_str_free(&file);
}

static void test_out_of_memory(void **state) {
    FM_UNUSED(state);
    const char *path = tmp_text("oom.csv", "q,a\n1,2\n\"x\",\"y\"\"z\"\n");
    int64_t base = fm_ledger_current(FM_MEM_MISC);
    bool done = false;
    for (int64_t k = 1; k < 100 && !done; k++) {
        fm_csv *c;
        fm_csv_record r;
        bool more = true;
        fm_mem_fail_at(k, true);
        fm_status s = fm_csv_open(&c, path, NULL);
        while (s == FM_OK && more) {
            s = fm_csv_next(c, &r, &more);
        }
        fm_mem_fail_at(0, false);
        fm_csv_close(c);
        assert_true(s == FM_OK || s == FM_ERR_NO_MEMORY);
        done = s == FM_OK;
        assert_int_equal(fm_ledger_current(FM_MEM_MISC), base);
    }
    assert_true(done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
