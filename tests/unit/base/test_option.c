#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fathom/option.h"

typedef struct opts {
    bool packing;
    int64_t steps, limit;
    double rate;
    char *out, *name;
    int stage;
    fm_strlist data;
} opts;

static const fm_option table[] = {
    {"packing", FM_OPT_BOOL, offsetof(opts, packing), "true", 0, 0, NULL, NULL, NULL, "Pack sequences."},
    {"max_steps", FM_OPT_INT, offsetof(opts, steps), "100", 1, 1e12, NULL, "n|steps", NULL, "Steps to train."},
    {"memory.limit", FM_OPT_BYTES, offsetof(opts, limit), NULL, 0, 0, NULL, NULL, NULL, "Memory limit in bytes."},
    {"learning_rate", FM_OPT_FLOAT, offsetof(opts, rate), "5e-5", 0, 1, NULL, "lr", NULL,
     "Peak learning rate, reached after the warm-up, and a sentence long enough to be wrapped over lines."},
    {"output_dir", FM_OPT_STR, offsetof(opts, out), NULL, 0, 0, NULL, "o", "DIR", "Where results go."},
    {"run_name", FM_OPT_STR, offsetof(opts, name), "run", 0, 0, NULL, NULL, NULL, "Name of the run."},
    {"stage", FM_OPT_ENUM, offsetof(opts, stage), "sft", 0, 0, "pt|sft|dpo", NULL, NULL, "What is trained."},
    {"dataset", FM_OPT_LIST, offsetof(opts, data), NULL, 0, 0, NULL, NULL, NULL, "Files."},
    {NULL, FM_OPT_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, NULL},
};

static void fresh(opts *o) {
    memset(o, 0xAA, sizeof *o);
    assert_int_equal(fm_options_init(o, table), FM_OK);
}

static void test_defaults_and_set(void **state) {
    FM_UNUSED(state);
    opts o;
    fresh(&o);
    assert_true(o.packing);
    assert_int_equal(o.steps, 100);
    assert_int_equal(o.limit, 0);
    assert_true(o.rate == 5e-5);
    assert_null(o.out);
    assert_string_equal(o.name, "run");
    assert_int_equal(o.stage, 1);
    assert_int_equal(o.data.n, 0);
    assert_int_equal(fm_options_set(&o, table, "max-steps", "4k", "x"), FM_OK);
    assert_int_equal(o.steps, 4000);
    assert_int_equal(fm_options_set(&o, table, "lr", "1e-3", "x"), FM_OK);
    assert_true(o.rate == 1e-3);
    assert_int_equal(fm_options_set(&o, table, "dataset", " a.txt, b.txt ,,c", "x"), FM_OK);
    assert_int_equal(o.data.n, 3);
    assert_string_equal(o.data.item[1], "b.txt");
    assert_int_equal(fm_options_set(&o, table, "dataset", "", "x"), FM_OK);
    assert_int_equal(o.data.n, 0);
    assert_int_equal(fm_options_set(&o, table, "run_name", "", "x"), FM_OK);
    assert_null(o.name);

    assert_int_equal(fm_options_set(&o, table, "leaning_rate", "1", "recipe.yaml:12"), FM_ERR_CONFIG);
    assert_string_equal(fm_error_get().message, "recipe.yaml:12: unknown key 'leaning_rate'");
    assert_string_equal(fm_error_get().hint, "did you mean 'learning_rate'?");
    assert_int_equal(fm_options_set(&o, table, "learning_rate", "abc", "x"), FM_ERR_CONFIG);
    assert_int_equal(fm_options_set(&o, table, "learning_rate", "1.5", "x"), FM_ERR_CONFIG);
    assert_int_equal(fm_options_set(&o, table, "learning_rate", "nan", "x"), FM_ERR_CONFIG);
    assert_int_equal(fm_options_set(&o, table, "max_steps", "0", "x"), FM_ERR_CONFIG);
    assert_int_equal(fm_options_set(&o, table, "max_steps", "2.5", "x"), FM_ERR_CONFIG);
    assert_int_equal(fm_options_set(&o, table, "packing", "maybe", "x"), FM_ERR_CONFIG);
    assert_int_equal(fm_options_set(&o, table, "stage", "rm", "x"), FM_ERR_CONFIG);
    assert_string_equal(fm_error_get().message, "x: stage: expected pt, sft or dpo, found 'rm'");
    assert_int_equal(o.stage, 1);
    assert_int_equal(o.steps, 4000);
    fm_options_free(&o, table);
}

static fm_status yaml(opts *o, const char *text) {
    return fm_options_parse_yaml(o, table, text, strlen(text), "r.yaml");
}

static void test_yaml(void **state) {
    FM_UNUSED(state);
    opts o;
    fresh(&o);
    assert_int_equal(
        yaml(&o, "# a comment\nmax_steps: 300M\nlearning_rate: 1.0e-4 # peak\nmemory:\n  limit: 6GB\n"
                 "dataset:\n  - a, b.txt\n  - 'c'\noutput_dir: \"x\\n\\Ny\"\npacking: off\nstage: dpo\nrun_name: ~\n"),
        FM_OK);
    assert_int_equal(o.steps, 300000000);
    assert_int_equal(o.limit, 6000000000);
    assert_int_equal(o.data.n, 2);
    assert_string_equal(o.data.item[0], "a, b.txt");
    assert_string_equal(o.out, "x\n\xC2\x85y"); /* a next-line character survives the dump below */
    assert_false(o.packing);
    assert_int_equal(o.stage, 2);
    assert_string_equal(o.name, "run"); /* null gives the default back */

    char *text;
    assert_int_equal(fm_options_dump_yaml(&text, &o, table), FM_OK);
    opts p;
    fresh(&p);
    assert_int_equal(yaml(&p, text), FM_OK);
    assert_int_equal(p.steps, o.steps);
    assert_true(p.rate == o.rate);
    assert_string_equal(p.out, o.out);
    assert_string_equal(p.data.item[0], "a, b.txt");
    assert_int_equal(p.stage, 2);
    fm_string_free(text);
    fm_options_free(&p, table);

    assert_int_equal(yaml(&o, ""), FM_OK);
    assert_int_equal(yaml(&o, "dataset: x.txt\n"), FM_OK);
    assert_int_equal(o.data.n, 1);
    assert_int_equal(yaml(&o, "max_steps: 5\n"), FM_OK);
    fm_options_free(&o, table);
}

static void test_yaml_errors(void **state) {
    FM_UNUSED(state);
    static const struct {
        const char *text, *message, *hint;
    } bad[] = {
        {"a: 1\n", "r.yaml:1: unknown key 'a'", ""},
        {"\n\nlearnig_rate: 1\n", "r.yaml:3: unknown key 'learnig_rate'", "learning_rate"},
        {"max_steps: 1\nlr: 1\nmax-steps: 2\n", "r.yaml:3: key 'max_steps' is given twice (first at line 1)", ""},
        {"memory.limit: 1\nmemory: {limit: 2}\n", "r.yaml:2: key 'memory.limit' is given twice", ""},
        {"max_steps: x\n", "r.yaml:1: max_steps: expected a whole number", ""},
        {"max_steps: [1, 2]\n", "r.yaml:1: max_steps: expected one value, found a list", ""},
        {"dataset: [[a]]\n", "a list may hold plain values only", ""},
        {"max_steps: 1\ndataset: [a\n", "r.yaml:3: not valid YAML", ""},
        {"- a\n", "r.yaml:1: expected lines of the form", ""},
        {"max_steps: &x 5\n", "r.yaml:1: anchors", ""},
        {"max_steps: 1\n---\nmax_steps: 2\n", "r.yaml:2: expected one document", ""},
        {"a: {b: {c: {d: {e: {f: {g: {h: {i: {j: {k: {l: {m: {n: {o: {p: {q: 1}}}}}}}}}}}}}}}}\n", "nested more than",
         ""},
        {"? [a]\n: 1\n", "a key must be a plain word", ""},
        {"output_dir: \"a\\0b\"\n", "NUL", ""},
        {"max_steps: {}\nstage: pt\nlearning_rate:\n  x: 1\n", "unknown key 'learning_rate.x'", ""},
        {"output_dir: \xFF\n", "not valid YAML", ""},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        opts o;
        fresh(&o);
        assert_int_equal(yaml(&o, bad[i].text), FM_ERR_CONFIG);
        if (!strstr(fm_error_get().message, bad[i].message) || !strstr(fm_error_get().hint, bad[i].hint)) {
            fail_msg("%s: %s (%s)", bad[i].text, fm_error_get().message, fm_error_get().hint);
        }
        fm_options_free(&o, table);
    }
}

static fm_status args(opts *o, int *n, char **pos, char *line) {
    char *argv[16];
    int argc = 0;
    for (char *t = strtok(line, " "); t; t = strtok(NULL, " ")) {
        argv[argc++] = t;
    }
    return fm_options_parse_args(o, table, argc, argv, pos, n);
}

static void test_args(void **state) {
    FM_UNUSED(state);
    opts o;
    char *pos[16];
    int n;
    fresh(&o);
    char a[] = "in.txt --learning-rate 1e-3 --max_steps=7 --no-packing -o out stage=pt ./a=b - -- --x k=v";
    assert_int_equal(args(&o, &n, pos, a), FM_OK);
    assert_true(o.rate == 1e-3);
    assert_int_equal(o.steps, 7);
    assert_false(o.packing);
    assert_string_equal(o.out, "out");
    assert_int_equal(o.stage, 0);
    const char *want[] = {"in.txt", "./a=b", "-", "--x", "k=v"};
    assert_int_equal(n, 5);
    for (int i = 0; i < n; i++) {
        assert_string_equal(pos[i], want[i]);
    }
    char b[] = "--packing -n 12 --lr 0.5 memory.limit=1GiB";
    assert_int_equal(args(&o, &n, pos, b), FM_OK);
    assert_true(o.packing);
    assert_int_equal(o.steps, 12);
    assert_int_equal(o.limit, 1 << 30);
    static const struct {
        const char *line, *message, *hint;
    } bad[] = {
        {"--learning-rat 1", "command line: unknown option '--learning-rat'", "did you mean '--learning-rate'?"},
        {"max_step=1", "command line: unknown key 'max_step'", "max_steps"},
        {"--max-steps", "needs a value", ""},
        {"--no-stage", "unknown option '--no-stage'", ""},
        {"-z", "unknown option '-z'", ""},
        {"-steps 5", "unknown option '-steps'", ""},
        {"--packing=perhaps", "expected true or false", ""},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        char line[64];
        strcpy(line, bad[i].line);
        assert_int_equal(args(&o, &n, pos, line), FM_ERR_CONFIG);
        if (!strstr(fm_error_get().message, bad[i].message) || !strstr(fm_error_get().hint, bad[i].hint)) {
            fail_msg("%s: %s (%s)", bad[i].line, fm_error_get().message, fm_error_get().hint);
        }
    }
    fm_options_free(&o, table);
}

static void test_help(void **state) {
    FM_UNUSED(state);
    char *text;
    assert_int_equal(fm_options_help(&text, table, 80), FM_OK);
    assert_non_null(strstr(text, "  -o, --output-dir DIR        Where results go.\n"));
    assert_non_null(strstr(text, "      --stage pt|sft|dpo"));
    assert_non_null(strstr(text, "[5e-5]"));
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");
        assert_true(n <= 80);
        p += n + (p[n] == '\n');
    }
    fm_string_free(text);
}

static void test_out_of_memory(void **state) {
    FM_UNUSED(state);
    int64_t base = fm_ledger_current(FM_MEM_MISC);
    bool done = false;
    for (int64_t k = 1; k < 200 && !done; k++) {
        opts o;
        char *help = NULL, *dump = NULL;
        fm_mem_fail_at(k, true);
        fm_status s = fm_options_init(&o, table);
        if (s == FM_OK) {
            s = yaml(&o, "memory: {limit: 1}\ndataset: [a, b]\noutput_dir: x\n");
            if (s == FM_OK) {
                s = fm_options_help(&help, table, 80);
            }
            if (s == FM_OK) {
                s = fm_options_dump_yaml(&dump, &o, table);
            }
            fm_options_free(&o, table);
        }
        fm_mem_fail_at(0, false);
        fm_string_free(help);
        fm_string_free(dump);
        assert_true(s == FM_OK || s == FM_ERR_NO_MEMORY);
        done = s == FM_OK;
        assert_int_equal(fm_ledger_current(FM_MEM_MISC), base);
    }
    assert_true(done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_and_set),
        cmocka_unit_test(test_yaml),
        cmocka_unit_test(test_yaml_errors),
        cmocka_unit_test(test_args),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
