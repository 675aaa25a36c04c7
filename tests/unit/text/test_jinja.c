/* The template language against Jinja2 as transformers sets it up (data/templates/golden.json, see the README there):
 * published templates over many conversations, expressions and statements. Then: many threads, one template. */
#include "text_fixture.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/sha.h"
#include "base/str.h"
#include "fathom/template.h"

static fm_json *golden;

static int load_golden(void **state) {
    (void)state;
    setenv("TZ", "UTC", 1);
    return fm_json_load(&golden, DATA "templates/golden.json") != FM_OK;
}

static int free_golden(void **state) {
    (void)state;
    fm_json_free(golden);
    return 0;
}

static void dump(fm_str *out, const fm_json *j) {
    memset(out, 0, sizeof *out);
    ok(fm_json_dump(out, j, 0));
}

static void parse_file(fm_template **t, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, DATA "templates/%s", name);
    ok(fm_template_open(t, path, NULL));
}

/* want: null (refused), or hash of the text and spans of {% generation %} blocks. */
static bool as_expected(const fm_json *want, fm_status s, const fm_template_result *r) {
    char hex[65];
    fm_sha sha;
    if (fm_json_is_null(want) || s != FM_OK) {
        return fm_json_is_null(want) && (s == FM_ERR_DATA || s == FM_ERR_UNSUPPORTED || s == FM_ERR_FORMAT);
    }
    fm_sha256_init(&sha);
    fm_sha_update(&sha, r->text, r->n);
    fm_sha_hex(&sha, hex);
    hex[16] = '\0';
    bool same = strcmp(hex, fm_json_str(fm_json_at(want, 0), NULL)) == 0;
    size_t n = fm_json_size(want) - 1;
    for (size_t i = 0; i < n; i++) {
        const fm_json *span = fm_json_at(want, i + 1);
        same = same && i < r->n_spans && (int64_t)r->span[i].begin == fm_json_int(fm_json_at(span, 0), -1) &&
               (int64_t)r->span[i].end == fm_json_int(fm_json_at(span, 1), -1);
    }
    return same;
}

static fm_status one_template(void *arg, const char *name, fm_json *results) {
    const fm_json *talks = fm_json_get(golden, "conversations");
    fm_template *t;
    int *n = arg;
    parse_file(&t, name);
    assert_int_equal(fm_json_size(results), fm_json_size(talks));
    for (size_t i = 0; i < fm_json_size(talks); i++) {
        fm_str messages, vars;
        fm_template_result r;
        const fm_json *talk = fm_json_at(talks, i);
        dump(&messages, fm_json_get(talk, "messages"));
        dump(&vars, fm_json_get(talk, "vars"));
        const fm_json *prompt = fm_json_get(fm_json_get(talk, "vars"), "add_generation_prompt");
        const fm_template_options o = {.size = sizeof o,
                                       .vars = vars.data,
                                       .spans = true,
                                       .add_generation_prompt = fm_json_bool(prompt, false),
                                       .now = fm_json_int(fm_json_get(golden, "now"), 0)};
        fm_status s = fm_template_render(&r, t, messages.data, messages.len, &o);
        if (!as_expected(fm_json_at(results, i), s, &r)) {
            fail_msg("%s, %s: %s", name, fm_json_str(fm_json_get(talk, "name"), NULL),
                     s == FM_OK ? r.text : fm_error_get().message);
        }
        ++*n;
        fm_template_result_free(&r);
        fm_str_free(&messages);
        fm_str_free(&vars);
    }
    fm_template_free(t);
    return FM_OK;
}

static void test_templates(void **state) {
    (void)state;
    int n = 0;
    ok(fm_json_each(fm_json_get(golden, "templates"), one_template, &n));
    assert_true(n > 800);
}

static void test_language(void **state) {
    (void)state;
    const fm_json *pieces = fm_json_get(golden, "language");
    fm_str vars;
    int bad = 0;
    dump(&vars, fm_json_get(golden, "vars"));
    const fm_template_options o = {
        .size = sizeof o, .vars = vars.data, .now = fm_json_int(fm_json_get(golden, "now"), 0)};
    assert_true(fm_json_size(pieces) > 900);
    for (size_t i = 0; i < fm_json_size(pieces); i++) {
        size_t n, n_want = 0;
        const char *text = fm_json_str(fm_json_at(fm_json_at(pieces, i), 0), &n);
        const char *want = fm_json_str(fm_json_at(fm_json_at(pieces, i), 1), &n_want);
        fm_template *t = NULL;
        fm_template_result r = {0};
        fm_status s = fm_template_parse(&t, text, n, "golden", NULL);
        s = s == FM_OK ? fm_template_render(&r, t, "[]", 2, &o) : s;
        bool same = want ? s == FM_OK && r.n == n_want && memcmp(r.text, want, n_want) == 0
                         : s == FM_ERR_DATA || s == FM_ERR_FORMAT || s == FM_ERR_UNSUPPORTED;
        if (!same) {
            bad++;
            print_error("%s\n  gives    %s\n  expected %s\n", text, s == FM_OK ? r.text : fm_error_get().message,
                        want ? want : "(an error)");
        }
        fm_template_result_free(&r);
        fm_template_free(t);
    }
    fm_str_free(&vars);
    assert_int_equal(bad, 0);
}

/* ---- Threads ------------------------------------------------------------------------------------ */

typedef struct job {
    const fm_template *t;
    const char *messages;
    size_t n;
    char *text;
    bool same;
} job;

static void *work(void *arg) {
    job *j = arg;
    const fm_template_options o = {.size = sizeof o, .spans = true};
    j->same = true;
    for (int i = 0; i < 50; i++) {
        fm_template_result r;
        j->same =
            fm_template_render(&r, j->t, j->messages, j->n, &o) == FM_OK && strcmp(r.text, j->text) == 0 && j->same;
        fm_template_result_free(&r);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    static const char talk[] =
        "[{\"role\":\"user\",\"content\":\"héllo\"},{\"role\":\"assistant\",\"content\":\"wörld\"}]";
    fm_template *t;
    fm_template_result r;
    pthread_t thread[4];
    job j[4];
    parse_file(&t, "qwen3.jinja");
    ok(fm_template_render(&r, t, talk, sizeof talk - 1, NULL));
    for (int i = 0; i < 4; i++) {
        j[i] = (job){.t = t, .messages = talk, .n = sizeof talk - 1, .text = r.text};
        assert_int_equal(pthread_create(&thread[i], NULL, work, &j[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_true(j[i].same);
    }
    fm_template_result_free(&r);
    fm_template_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_language),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, load_golden, free_golden);
}
