/* Learning on: what a model forgets of earlier rows, and how much less with elastic weight consolidation and replay. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "train_fixture.h"

static char fx_base[300];
enum { STEPS = 60 };

/* Questions about sentences; the answer is the first animal, or (second) the last one. */
static void write_rows(const char *name, int begin, int end, bool second) {
    char path[300], text[256];
    snprintf(path, sizeof path, "%s/%s", fx_top, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = begin; i < end; i++) {
        char who[16];
        fx_text(text, sizeof text, i);
        assert_int_equal(sscanf(text, "the %15s", who), 1);
        fprintf(f, "{\"question\": \"%s\", \"answer\": \"%s\"}\n", text, second ? strrchr(text, ' ') + 1 : who);
    }
    fclose(f);
}

static fm_status run(const char *rows, const char *const *more, fx_log *log) {
    char train[300], tok[300], steps[8];
    snprintf(steps, sizeof steps, "%d", STEPS);
    snprintf(train, sizeof train, "%s/%s", fx_top, rows);
    snprintf(tok, sizeof tok, "%s/tok", fx_top);
    const char *set[60] = {"stage", "sft",      "dataset", train,           "tokenizer", tok,         "cutoff_len",
                           "128",   "template", "chatml",  "learning_rate", "3e-3",      "max_steps", steps};
    size_t n = 14;
    for (; more && *more; more++) {
        set[n++] = *more;
    }
    set[n] = NULL;
    return fx_run(set, log, NULL);
}

/* The model that knows the first rows. */
static int make_base(void **state) {
    if (fx_setup(state) != 0) {
        return -1;
    }
    write_rows("old.jsonl", 0, 120, false);
    write_rows("old_test.jsonl", 120, 150, false);
    write_rows("new.jsonl", 0, 120, true);
    fx_ok(run("old.jsonl", (const char *const[]){"max_steps", "200", "learning_rate", "1e-2", NULL}, NULL));
    snprintf(fx_base, sizeof fx_base, "%s/base", fx_top);
    fx_ok(fm_rename_dir(fx_out, fx_base));
    return 0;
}

typedef struct loss {
    double before, after, learned;
} loss;

/* Learns the second rows; losses of the first before and after, and of the second. */
static loss learn_on(const char *const *more) {
    char old[330], replay[300];
    static fx_log log;
    const char *set[60] = {"model_name_or_path", fx_base, "train_from_scratch", "false",
                           "earlier_dataset",    old,     "replay_dataset",     replay};
    size_t n = 8;
    snprintf(old, sizeof old, "first=%s/old_test.jsonl", fx_top);
    snprintf(replay, sizeof replay, "%s/old.jsonl", fx_top);
    for (; more && *more; more++) {
        set[n++] = *more;
    }
    set[n] = NULL;
    fx_ok(run("new.jsonl", set, &log));
    char path[400];
    fm_json *j;
    snprintf(path, sizeof path, "%s/forgetting.json", fx_out);
    fx_ok(fm_json_load(&j, path));
    const fm_json *row = fm_json_at(fm_json_get(j, "earlier"), 0);
    assert_string_equal(fm_json_str(fm_json_get(row, "name"), NULL), "first");
    loss l = {.before = fm_json_num(fm_json_get(row, "loss_before"), NAN),
              .after = fm_json_num(fm_json_get(row, "loss_after"), NAN),
              .learned = log.loss[STEPS]};
    assert_true(fabs(fm_json_num(fm_json_get(row, "forgotten"), NAN) - (l.after - l.before)) < 1e-12);
    fm_json_free(j);
    return l;
}

static void test_forgets_less(void **state) {
    (void)state;
    loss plain = learn_on(NULL);
    fx_clean();
    loss ewc = learn_on((const char *const[]){"ewc_lambda", "3000000", NULL});
    fx_clean();
    loss replay = learn_on((const char *const[]){"replay_ratio", "0.5", NULL});
    fx_clean();
    loss column = learn_on((const char *const[]){"finetuning_type", "progressive", "learning_rate", "2e-2",
                                                 "progressive_width", "32", NULL});
    print_message("after: plain %.3f, EWC %.3f, replay %.3f (before %.3f)\n", plain.after, ewc.after, replay.after,
                  plain.before);
    print_message("learned: plain %.3f, EWC %.3f, replay %.3f, progressive %.3f\n", plain.learned, ewc.learned,
                  replay.learned, column.learned);
    assert_true(column.before == plain.before && column.after == column.before); /* to the last bit */
    assert_true(column.learned < 0.6);
    assert_true(plain.before < 0.3 && plain.after > plain.before + 0.3); /* there is something to forget */
    assert_true(ewc.before == plain.before && replay.before == plain.before);
    assert_true(ewc.after < plain.after - 0.1);
    assert_true(replay.after < plain.after - 0.2);
    /* And the new rows are learned nevertheless. */
    assert_true(ewc.learned < 0.6 && replay.learned < 0.6);
}

static void hash_of(char out[33], const char *name) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", fx_out, name);
    fx_ok(fm_file_hash(out, path));
}

static void test_resume(void **state) {
    (void)state;
    char want[33], got[33], path[400];
    const char *const set[] = {"ewc_lambda", "2",   "replay_ratio",           "0.3",  "save_steps", "15",
                               "dropout",    "0.1", "resume_from_checkpoint", "auto", NULL};
    loss a = learn_on(set);
    hash_of(want, "model.safetensors");
    hash_of(got, "fisher.safetensors");
    for (int step = 45; step <= STEPS; step += 15) {
        snprintf(path, sizeof path, "%s/checkpoint-%d", fx_out, step);
        fx_ok(fm_remove_tree(path));
    }
    loss b = learn_on(set);
    hash_of(got, "model.safetensors");
    assert_string_equal(got, want);
    assert_true(a.before == b.before && a.after == b.after);
}

/* Fisher information goes on from run to run: without rows, the file alone holds the weights. */
static void test_fisher_file(void **state) {
    (void)state;
    char path[400], kept[400];
    learn_on((const char *const[]){"ewc_lambda", "3000000", "max_steps", "1", NULL});
    snprintf(path, sizeof path, "%s/fisher.safetensors", fx_out);
    snprintf(kept, sizeof kept, "%s/fisher.safetensors", fx_top);
    assert_int_equal(rename(path, kept), 0);
    fx_clean();
    loss plain = learn_on(NULL);
    fx_clean();
    loss held =
        learn_on((const char *const[]){"ewc_lambda", "3000000", "replay_dataset", "", "ewc_fisher", kept, NULL});
    print_message("after: plain %.3f, by the file %.3f\n", plain.after, held.after);
    assert_true(held.after < plain.after - 0.1);
}

static void expect(fm_status want, const char *part, fm_status s) {
    if (s != want || !strstr(fm_error_get().message, part)) {
        fail_msg("%s: %s", fm_status_name(s), fm_error_get().message);
    }
}

static void test_refusals(void **state) {
    (void)state;
    char old[300];
    snprintf(old, sizeof old, "%s/old.jsonl", fx_top);
#define BASE "model_name_or_path", fx_base, "train_from_scratch", "false"
    expect(FM_ERR_CONFIG, "set model_name_or_path",
           run("new.jsonl", (const char *const[]){"ewc_lambda", "10000", NULL}, NULL));
    expect(FM_ERR_CONFIG, "needs rows",
           run("new.jsonl", (const char *const[]){BASE, "ewc_lambda", "10000", NULL}, NULL));
    expect(FM_ERR_CONFIG, "set replay_dataset",
           run("new.jsonl", (const char *const[]){BASE, "replay_ratio", "1", NULL}, NULL));
    expect(FM_ERR_UNSUPPORTED, "adapter",
           run("new.jsonl",
               (const char *const[]){BASE, "ewc_lambda", "1", "replay_dataset", old, "finetuning_type", "lora", NULL},
               NULL));
    expect(FM_ERR_UNSUPPORTED, "language model head",
           run("new.jsonl",
               (const char *const[]){BASE, "replay_ratio", "1", "replay_dataset", old, "stage", "cls", NULL}, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_forgets_less, fx_fresh),
        cmocka_unit_test_setup(test_resume, fx_fresh),
        cmocka_unit_test_setup(test_fisher_file, fx_fresh),
        cmocka_unit_test_setup(test_refusals, fx_fresh),
    };
    return cmocka_run_group_tests(tests, make_base, fx_teardown);
}
