/* The steps language, chinese, strip-words and grammar on real and made rows. Those that need a library are skipped
 * where it is missing (tools/install-deps.sh test installs all). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "run_step.h"

/* What the step makes of rows, or a skipped test when its library is missing. */
static char *run_or_skip(char **manifest, const char *step, const char *rows, const char *const *options) {
    char *out;
    fm_status s = run_step(&out, manifest, step, rows, strlen(rows), options);
    if (s == FM_ERR_UNSUPPORTED && !getenv("FATHOM_TEST_ALL")) {
        print_message("%s: %s\n", step, fm_error_get().message);
        skip();
    }
    if (s != FM_OK) {
        print_error("%s: %s\n", step, fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    return out;
}

static void refused(const char *step, const char *const *options, const char *what) {
    char *out;
    assert_int_equal(run_step(&out, NULL, step, "{\"text\":\"a\"}\n", 13, options), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().message, what));
}

static char *udhr(size_t *n) {
    char path[4096], *data;
    snprintf(path, sizeof path, "%s/tests/unit/data/language/udhr.jsonl", FM_SOURCE_DIR);
    assert_int_equal(fm_file_read(&data, n, path, 0), FM_OK);
    return data;
}

static void twelve_languages(void **state) {
    (void)state;
    size_t n, at, bt;
    char *data = udhr(&n), *out = run_or_skip(NULL, "language", data, NULL);
    int rows = 0, right = 0;
    for (char *p = out, *next; *p; p = next, rows++) {
        char *want, *got;
        next = strchr(p, '\n') + 1;
        assert_int_equal(fm_jsonl_string(&want, &at, p, (size_t)(next - p - 1), "want", "row"), FM_OK);
        assert_int_equal(fm_jsonl_string(&got, &bt, p, (size_t)(next - p - 1), "language", "row"), FM_OK);
        right += strcmp(want, got) == 0;
        fm_string_free(want);
        fm_string_free(got);
    }
    assert_int_equal(rows, 48);
    assert_true(right >= 47);
    fm_free(out);
    fm_free(data);
}

static void keep_and_drop(void **state) {
    (void)state;
    static const char *const keep[] = {"keep", "zh", "into", "", "confidence_into", "share", NULL};
    static const char *const drop[] = {"remove", "zh-Hant,und", NULL};
    static const char rows[] =
        "{\"text\":\"人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。\"}\n"
        "{\"text\":\"人人生而自由﹐在尊嚴和權利上一律平等。他們賦有理性和良心﹐並應以兄弟關係的精神互相對待。\"}\n"
        "{\"text\":\"Everyone has the right to life, liberty and the security of person.\"}\n"
        "{\"text\":\"12345 67890 -- 3.14\"}\n";
    char *manifest = NULL, *out = run_or_skip(&manifest, "language", rows, keep);
    assert_non_null(strstr(out, "生而自由，在尊严"));
    assert_non_null(strstr(out, "\"share\":0.9"));
    assert_non_null(strstr(out, "尊嚴"));
    assert_null(strstr(out, "Everyone"));
    assert_null(strstr(out, "12345"));
    assert_null(strstr(out, "\"language\""));
    assert_non_null(strstr(manifest, "\"language undetermined\": 1"));
    assert_non_null(strstr(manifest, "\"other language\": 1"));
    fm_free(manifest);
    fm_free(out);
    out = run_or_skip(NULL, "language", rows, drop);
    assert_null(strstr(out, "尊嚴"));
    assert_null(strstr(out, "12345"));
    assert_non_null(strstr(out, "\"language\":\"zh-Hans\""));
    assert_non_null(strstr(out, "\"language\":\"en\""));
    fm_free(out);
    static const char *const unknown[] = {"keep", "english", NULL}, *const both[] = {"keep", "en", "route", "zh", NULL};
    refused("language", unknown, "no language 'english'");
    refused("language", both, "both");
}

static void chinese(void **state) {
    (void)state;
    static const char *const taiwan[] = {"from", "taiwan", NULL}, *const hant[] = {"to", "traditional", NULL};
    static const char *const wrong[] = {"to", "hongkong", "from", "taiwan", NULL};
    static const char rows[] = "{\"text\":\"頭髮和發財，滑鼠\",\"id\":1}\n{\"text\":\"a\\u0000頭\\u0000\"}\n"
                               "{\"text\":\"plain é ASCII\\/\"}\n";
    char *manifest = NULL, *out = run_or_skip(&manifest, "chinese", rows, NULL);
    assert_string_equal(out, "{\"text\":\"头发和发财，滑鼠\",\"id\":1}\n{\"text\":\"a\\u0000头\\u0000\"}\n"
                             "{\"text\":\"plain é ASCII\\/\"}\n");
    assert_non_null(strstr(manifest, "\"changed\": 2"));
    fm_free(manifest);
    fm_free(out);
    out = run_or_skip(NULL, "chinese", rows, taiwan);
    assert_non_null(strstr(out, "头发和发财，鼠标"));
    fm_free(out);
    out = run_or_skip(NULL, "chinese", "{\"text\":\"头发和发财\"}\n", hant);
    assert_string_equal(out, "{\"text\":\"頭髮和發財\"}\n");
    fm_free(out);
    refused("chinese", wrong, "taiwan and hongkong");
}

static void strip_words(void **state) {
    (void)state;
    static const char *const keep[] = {"keep_words", "not,no,the", "digits", "true", NULL};
    static const char *const marks[] = {"stop_words", "", NULL}, *const words[] = {"punctuation", "false", NULL};
    static const char *const none[] = {"stop_words", "", "punctuation", "false", NULL};
    static const struct {
        const char *in, *out;
        const char *const *options;
    } cases[] = {
        {"I don’t think, that the state-of-the-art U.S. film was 42 good!!", "think state-of-the-art U S film 42 good",
         NULL},
        {"It is NOT the 42nd of 42.", "NOT the 42nd", keep},
        {"这部电影的演员们，真的很好看。", "这部电影的演员们 真的很好看", marks},
        {"这部电影的演员们，真的很好看。", "部电影 演员 真 好看", NULL},
        {"所以, the end - of it.", ", end - .", words},
        {"nothing changed  today", "nothing changed  today", NULL},
        {"of the 的了", NULL, NULL},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        char *got = step_text("strip-words", cases[i].in, cases[i].options);
        if (cases[i].out) {
            assert_non_null(got);
            assert_string_equal(got, cases[i].out);
        } else {
            assert_null(got);
        }
        fm_free(got);
    }
    refused("strip-words", none, "nothing to do");
    char path[64] = "/tmp/fathom_stop_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "Foo\nbar\r\nfoo\n", 13), 13);
    const char *const file[] = {"stop_words", path, "keep_words", "bar", NULL};
    char *got = step_text("strip-words", "FOO, the bar", file);
    assert_string_equal(got, "the bar");
    fm_free(got);
    assert_int_equal(write(fd, "\xff\xfe", 2), 2);
    close(fd);
    char *out;
    assert_int_equal(run_step(&out, NULL, "strip-words", "{\"text\":\"a\"}\n", 13, file), FM_ERR_DATA);
    unlink(path);
}

/* Which words fit was looked up with link-grammar's own program (5.12.0). */
static void grammar(void **state) {
    (void)state;
    static const char *const min[] = {"min", "0.85", NULL}, *const wrong[] = {"min_words", "50", NULL};
    static const char *const first[] = {"sentences", "1", "into", "g", NULL};
    static const char rows[] = "{\"text\":\"This is a good sentence. He go to school yesterday buy apples many. Hi\"}\n"
                               "{\"text\":\"dog the bites man cat of\"}\n"
                               "{\"text\":\"Title\\n\\nThe dog bites\\u0000the man.\\nEnd\"}\n{\"text\":\"Title\"}\n";
    char *manifest = NULL, *out = run_or_skip(&manifest, "grammar", rows, min);
    assert_non_null(strstr(out, "\"grammar\":0.8666666666666667}"));
    assert_null(strstr(out, "dog the bites"));
    assert_non_null(strstr(out, "man.\\nEnd\",\"grammar\":1}"));
    assert_non_null(strstr(out, "{\"text\":\"Title\",\"grammar\":null}"));
    assert_non_null(strstr(manifest, "\"sentences\": 4"));
    assert_non_null(strstr(manifest, "\"rows without a sentence to parse\": 1"));
    fm_free(manifest);
    fm_free(out);
    out = run_or_skip(NULL, "grammar", rows, first);
    assert_non_null(strstr(out, "Hi\",\"g\":1}"));
    fm_free(out);
    refused("grammar", wrong, "min_words 50");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twelve_languages), cmocka_unit_test(keep_and_drop), cmocka_unit_test(chinese),
        cmocka_unit_test(strip_words),      cmocka_unit_test(grammar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
