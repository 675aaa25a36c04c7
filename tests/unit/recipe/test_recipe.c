/* Recipes: what is kept, what is done again and why. Commands are played by a function that writes what its options
 * say. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../failures.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "fathom/recipe.h"

static char dir[64], recipe_path[96];
static fm_str ran;       /* names of commands that ran, and their marks */
static const char *fail; /* command that fails, and how */
static int fail_code;

static int setup(void **state) {
    (void)state;
    setenv("FATHOM_REGISTRY", "none", 1);
    snprintf(dir, sizeof dir, "/tmp/fathom_recipe_XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(recipe_path, sizeof recipe_path, "%s/r.yaml", dir);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    fm_str_free(&ran);
    return fm_remove_tree(dir) != FM_OK;
}

static const char *at(const char *name) {
    static char path[4][160];
    static int i;
    i = (i + 1) % 4;
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}
static void put(const char *name, const char *text) {
    assert_int_equal(fm_file_write_atomic(at(name), text, strlen(text)), FM_OK);
}

/* "data pack --input=A --upper=1 --output=B": B gets "packed " and the first bytes of A (so that a change behind them
 * gives the same result). */
static fm_status play(void *user, char *const *argv, const char *stdout_path, int *exit_code) {
    (void)user;
    const char *out = stdout_path, *in = NULL, *mark = "";
    char text[256] = "", *data = NULL;
    size_t n = 0, args = 0;
    for (; argv[args]; args++) {
        in = strncmp(argv[args], "--input=", 8) == 0 ? argv[args] + 8 : in;
        mark = strncmp(argv[args], "--mark=", 7) == 0 ? argv[args] + 7 : mark;
        out = strncmp(argv[args], "--output=", 9) == 0        ? argv[args] + 9
              : strncmp(argv[args], "--output_dir=", 13) == 0 ? argv[args] + 13
                                                              : out;
        if (strcmp(argv[args], "--resume") == 0) {
            mark = "resumed";
        }
    }
    out = out ? out : argv[args - 1];
    fm_str_printf(&ran, "%s%s%s ", argv[0], *mark ? ":" : "", mark);
    FM_TRY(fm_str_check(&ran));
    *exit_code = fail && strcmp(fail, argv[0]) == 0 ? fail_code : 0;
    if (in) {
        FM_TRY(fm_file_read(&data, &n, in, 0));
    }
    snprintf(text, sizeof text, "%s %s %.8s", argv[0], strcmp(mark, "resumed") == 0 ? "" : mark, data ? data : "");
    fm_free(data);
    if (strcmp(argv[0], "train") == 0) { /* a folder, begun before it fails */
        char file[256];
        FM_TRY(fm_mkdirs(out));
        FM_TRY(fm_path_join(file, sizeof file, out, "weights"));
        return fm_file_write_atomic(file, text, strlen(text));
    }
    return *exit_code == 0 ? fm_file_write_atomic(out, text, strlen(text)) : FM_OK;
}

static char events[2048];
static void on_stage(void *user, const fm_stage_event *e) {
    (void)user;
    static const char *const state[] = {"kept", "starts", "maybe", "done", "failed", "out"};
    size_t n = strlen(events);
    snprintf(events + n, sizeof events - n, "%s %s%s%s\n", e->name, state[e->state], *e->why ? ": " : "", e->why);
}

static const char *const four = "output_dir: ${here}/work\n"
                                "vars: {corpus: \"${here}/corpus.txt\", steps: 5}\n"
                                "stages:\n"
                                "  - {name: pack, run: data pack, with: {input: \"${corpus}\", mark: a}}\n"
                                "  - name: model\n"
                                "    run: train\n"
                                "    with: {input: \"${pack}\", mark: \"${steps}\"}\n"
                                "  - {name: score, run: eval, with: {input: \"${model}/weights\"}}\n"
                                "  - {name: gguf, run: convert, args: [\"${model}\"], output: m.gguf}\n";

static fm_status run_with(const char *set, fm_recipe_options o, int *code) {
    fm_recipe *r;
    FM_TRY(fm_recipe_open(&r, recipe_path, &set, set ? 1 : 0));
    o.size = sizeof o;
    o.exec = play;
    o.on_stage = on_stage;
    events[0] = '\0';
    fm_str_clear(&ran);
    fm_status s = fm_recipe_run(r, &o, code);
    fm_recipe_free(r);
    return s;
}

/* Runs, and compares the commands that were run. */
static void expect(const char *set, fm_recipe_options o, const char *commands) {
    fm_status s = run_with(set, o, NULL);
    if (s != FM_OK) {
        fail_msg("%s", fm_error_get().message);
    }
    if (strcmp(ran.data ? ran.data : "", commands) != 0) {
        fail_msg("expected \"%s\", ran \"%s\":\n%s", commands, ran.data ? ran.data : "", events);
    }
}
#define RUN(commands) expect(NULL, (fm_recipe_options){0}, commands)
static void said(const char *text) {
    if (!strstr(events, text)) {
        fail_msg("expected \"%s\" among:\n%s", text, events);
    }
}

static void test_life(void **state) {
    (void)state;
    put("corpus.txt", "12345678 and more");
    put("r.yaml", four);
    expect(NULL, (fm_recipe_options){.dry_run = true}, "");
    said("model starts: not done yet");
    RUN("data:a train:5 eval convert ");
    RUN("");
    said("gguf kept");
    /* An option: the stage and what reads it, by name. */
    expect("steps=6", (fm_recipe_options){.dry_run = true}, "");
    said("pack kept");
    said("model starts: mark: 5 -> 6");
    said("score maybe: it reads what stage model will give");
    expect("steps=6", (fm_recipe_options){0}, "train:6 eval convert ");
    said("score starts: ");
    /* An input: redone, but its result is the same, so nothing else is. */
    put("corpus.txt", "12345678 and something else");
    RUN("data:a train:5 eval convert "); /* steps are 5 again */
    put("corpus.txt", "12345678 and a third thing");
    RUN("data:a ");
    said("corpus.txt has changed");
    said("model kept");
    put("corpus.txt", "another text");
    RUN("data:a train:5 eval convert ");
    /* Outputs that are gone or not what was written. */
    assert_int_equal(fm_remove_tree(at("work/m.gguf")), FM_OK);
    RUN("convert ");
    said("m.gguf is missing");
    put("work/score.json", "forged figures");
    RUN("eval ");
    said("changed by others");
    assert_true(fm_path_exists(at("work/score.json.previous"))); /* what stood there is set aside */
    /* On demand. */
    expect(NULL, (fm_recipe_options){.from = "score"}, "eval convert ");
    const char *only[] = {"gguf", "pack"};
    expect(NULL, (fm_recipe_options){.only = only, .n_only = 2}, "data:a convert ");
    RUN("");
    /* A record that was damaged is none. */
    put("work/.recipe/pack.json", "{\"parts\": ");
    RUN("data:a ");
    RUN("");
}

static void test_failure(void **state) {
    (void)state;
    int code = 0;
    put("corpus.txt", "12345678");
    put("r.yaml", four);
    assert_int_equal(fm_remove_tree(at("work")), FM_OK);
    fail = "eval";
    fail_code = 3;
    assert_int_equal(run_with(NULL, (fm_recipe_options){0}, &code), FM_ERR_STATE);
    assert_int_equal(code, 3);
    assert_non_null(strstr(fm_error_get().message, "stage score (eval) ended with 3"));
    said("score failed");
    fail = NULL;
    RUN("eval convert "); /* goes on at the stage that failed */
    said("score starts: it was not finished");
    /* Training that was interrupted goes on; training with other options does not. */
    fail = "train";
    fail_code = 130;
    assert_int_equal(run_with("steps=7", (fm_recipe_options){0}, &code), FM_ERR_CANCELLED);
    fail = NULL;
    expect("steps=7", (fm_recipe_options){0}, "train:resumed eval convert ");
    fail = "train";
    assert_int_equal(run_with("steps=8", (fm_recipe_options){0}, &code), FM_ERR_CANCELLED);
    fail = NULL;
    expect("steps=9", (fm_recipe_options){0}, "train:9 eval convert ");
}

static void test_refusals(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", "expected a recipe"},
        {"stages: []\noutput_dir: x\n", "there are no stages"},
        {"output_dir: x\nstage: []\n", "unknown key \"stage\""},
        {"stages: [{name: a, run: train}]\n", "no output_dir"},
        {"output_dir: x\nstages: [{name: a}]\n", "what to run"},
        {"output_dir: x\nstages: [{run: train}]\n", "no name of its own"},
        {"output_dir: x\nstages: [{name: a, run: train}, {name: a, run: eval}]\n", "no name of its own"},
        {"output_dir: x\nstages: [{name: out, run: train}]\n", "no name of its own"},
        {"output_dir: x\nstages: [{name: a/b, run: train}]\n", "no name of its own"},
        {"output_dir: x\nstages: [{name: a, run: train, wiht: {}}]\n", "unknown key \"wiht\""},
        {"output_dir: x\nstages:\n  - name: a\n    run: train\n    with: {input: \"${b}\"}\n", "${b} is no variable"},
        {"output_dir: x\nstages: [{name: a, run: train, with: {i: \"${b}\"}}, {name: b, run: train}]\n", "${b}"},
        {"output_dir: x\nstages: [{name: a, run: train, with: [1]}]\n", "expected a mapping"},
        {"output_dir: x\nvars: {v: [1]}\nstages: [{name: a, run: train}]\n", "one text"},
        {"output_dir: x\nstages: [a]\n", "expected a stage"},
    };
    fm_recipe *r;
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        put("r.yaml", cases[i][0]);
        assert_int_equal(fm_recipe_open(&r, recipe_path, NULL, 0), FM_ERR_CONFIG);
        assert_null(r);
        if (!strstr(fm_error_get().message, cases[i][1])) {
            fail_msg("case %zu: expected \"%s\" in \"%s\"", i, cases[i][1], fm_error_get().message);
        }
    }
    put("r.yaml", four);
    const char *set = "stepz=3";
    assert_int_equal(fm_recipe_open(&r, recipe_path, &set, 1), FM_ERR_CONFIG);
    assert_int_equal(run_with(NULL, (fm_recipe_options){.from = "nothing"}, NULL), FM_ERR_ARGUMENT);
    assert_int_not_equal(fm_recipe_open(&r, at("none.yaml"), NULL, 0), FM_OK);
    /* A command that does not write what it is said to. */
    put("r.yaml", "output_dir: ${here}/w2\nstages: [{name: a, run: train, output: b, with: {output_dir: "
                  "\"${here}/c${out}\"}}]\n");
    assert_int_equal(run_with(NULL, (fm_recipe_options){0}, NULL), FM_ERR_STATE);
    assert_non_null(strstr(fm_error_get().message, "did not make"));
}

static fm_status failing(int variant, uint64_t *sum) {
    (void)variant;
    FM_TRY(fm_remove_tree(at("work")));
    FM_TRY(run_with(NULL, (fm_recipe_options){0}, NULL));
    FM_TRY(run_with(NULL, (fm_recipe_options){.dry_run = true}, NULL));
    *sum = fm_hash64(events, strlen(events), 0);
    return FM_OK;
}

static void test_memory(void **state) {
    (void)state;
    fail = NULL;
    put("corpus.txt", "12345678");
    put("r.yaml", four);
    assert_int_equal(run_with(NULL, (fm_recipe_options){0}, NULL), FM_OK); /* room for what ran */
    fm_str_printf(&ran, "%200s", "");
    failures_check(&(failures_work){.name = "recipe", .run = failing, .n_variants = 1, .writes = dir});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
