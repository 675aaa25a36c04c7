#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tmpdir.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/lines.h"
#include "io/stream.h"

static void test_lines(void **state) {
    FM_UNUSED(state);
    fm_lines *l;
    fm_line x;
    bool more;
    const char *text = "\xEF\xBB\xBF"
                       "one\r\n\ntoo long line\nlast";
    assert_int_equal(fm_lines_open(&l, tmp_text("a.txt", text), 6), FM_OK);
    static const struct {
        const char *text;
        int64_t number, offset;
        bool too_long;
    } want[] = {{"one", 1, 3, false}, {"", 2, 8, false}, {"", 3, 9, true}, {"last", 4, 23, false}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(fm_lines_next(l, &x, &more), FM_OK);
        assert_true(more);
        assert_int_equal(x.number, want[i].number);
        assert_int_equal(x.offset, want[i].offset);
        assert_int_equal(x.too_long, want[i].too_long);
        assert_int_equal(x.len, strlen(want[i].text));
        assert_true(x.len == 0 || memcmp(x.ptr, want[i].text, x.len) == 0);
    }
    assert_int_equal(fm_lines_next(l, &x, &more), FM_OK);
    assert_false(more);
    fm_lines_close(l);
    assert_int_equal(fm_lines_open(&l, tmp_text("e.txt", ""), 0), FM_OK);
    assert_int_equal(fm_lines_next(l, &x, &more), FM_OK);
    assert_false(more);
    fm_lines_close(l);
    assert_int_equal(fm_lines_open(&l, tmp_path("none"), 0), FM_ERR_NOT_FOUND);
    fm_lines_close(NULL);
}

/* Lines of every length up to more than the window, their sum known. */
static void make(fm_str *s) {
    for (int i = 0; i < 700; i++) {
        for (int k = 0; k < (i * i) % 997; k++) {
            fm_str_putc(s, (char)('a' + (i + k) % 26));
        }
        if (i == 300) {
            for (int k = 0; k < 300000; k++) {
                fm_str_putc(s, 'L');
            }
        }
        fm_str_putc(s, '\n');
    }
    assert_int_equal(fm_str_check(s), FM_OK);
}

static void check(const char *path, const fm_str *text) {
    fm_lines *l;
    fm_line x;
    bool more;
    size_t at = 0;
    assert_int_equal(fm_lines_open(&l, path, 0), FM_OK);
    for (int64_t n = 1;; n++) {
        assert_int_equal(fm_lines_next(l, &x, &more), FM_OK);
        if (!more) {
            break;
        }
        assert_int_equal(x.offset, at);
        assert_int_equal(x.number, n);
        assert_memory_equal(x.ptr, text->data + at, x.len);
        at += x.len + 1;
        assert_int_equal(text->data[at - 1], '\n');
    }
    assert_int_equal(at, text->len);
    fm_lines_close(l);
}

static size_t gz(const char *name, const char *p, size_t n, const char *mode) {
    gzFile f = gzopen(tmp_path(name), mode);
    assert_non_null(f);
    assert_int_equal(gzwrite(f, p, (unsigned)n), n);
    assert_int_equal(gzclose(f), Z_OK);
    return (size_t)fm_file_size(tmp_path(name));
}

static fm_status drain(const char *path) {
    fm_stream *s;
    FM_TRY(fm_stream_open(&s, path));
    char buf[777];
    size_t n = 1;
    fm_status st = FM_OK;
    while (n && st == FM_OK) {
        st = fm_stream_read(s, buf, sizeof buf, &n);
    }
    fm_stream_close(s);
    return st;
}

static void test_compressed(void **state) {
    FM_UNUSED(state);
    fm_str t = {0};
    make(&t);
    check(tmp_write("p", t.data, t.len), &t);
    gz("g", t.data, t.len, "wb");
    check(tmp_path("g"), &t);
    gz("g2", t.data, 1000, "wb"); /* two members */
    gz("g2", t.data + 1000, t.len - 1000, "ab");
    check(tmp_path("g2"), &t);

    size_t cap = 2 * ZSTD_compressBound(t.len);
    char *z = fm_malloc(cap);
    assert_non_null(z);
    size_t a = ZSTD_compress(z, cap, t.data, 5000, 3);
    size_t b = ZSTD_compress(z + a, cap - a, t.data + 5000, t.len - 5000, 3);
    check(tmp_write("z", z, a + b), &t);

    /* Cut and damaged files are errors, wherever the cut is. */
    char *raw;
    size_t n;
    assert_int_equal(fm_file_read(&raw, &n, tmp_path("g"), 0), FM_OK);
    for (size_t cut = 3; cut < n; cut += n / 13) {
        assert_int_equal(drain(tmp_write("cut", raw, cut)), FM_ERR_CORRUPT);
    }
    assert_int_equal(drain(tmp_write("cut", raw, n - 1)), FM_ERR_CORRUPT);
    raw[n / 2] ^= 0x55;
    assert_int_equal(drain(tmp_write("cut", raw, n)), FM_ERR_CORRUPT);
    fm_free(raw);
    for (size_t cut = 4; cut < a + b; cut += (a + b) / 13) {
        if (cut != a) {
            assert_int_equal(drain(tmp_write("cut", z, cut)), FM_ERR_CORRUPT);
        }
    }
    assert_int_equal(drain(tmp_write("cut", z, a + b - 1)), FM_ERR_CORRUPT);
    fm_free(z);
    fm_str_free(&t);
}

static void test_stdin(void **state) {
    FM_UNUSED(state);
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], "a\nb", 3), 3);
    close(fd[1]);
    int keep = dup(STDIN_FILENO);
    assert_true(dup2(fd[0], STDIN_FILENO) >= 0);
    close(fd[0]);
    fm_lines *l;
    fm_line x;
    bool more;
    assert_int_equal(fm_lines_open(&l, "-", 0), FM_OK);
    assert_int_equal(fm_lines_next(l, &x, &more), FM_OK);
    assert_int_equal(x.ptr[0], 'a');
    assert_int_equal(fm_lines_next(l, &x, &more), FM_OK);
    assert_int_equal(x.ptr[0], 'b');
    assert_int_equal(fm_lines_next(l, &x, &more), FM_OK);
    assert_false(more);
    fm_lines_close(l);
    if (keep >= 0) {
        dup2(keep, STDIN_FILENO);
        close(keep);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_stdin),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
