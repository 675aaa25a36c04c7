/* Checkpoints: a run killed anywhere and resumed ends with the same bytes as one that was not; damaged checkpoints are
 * passed over; failures to write leave the last good one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../quick.h"
#include "train_fixture.h"

/* Everything that could make a resumed run differ: dropout, accumulation, shuffling over several epochs, evaluation. */
#define HARD                                                                                                           \
    "dropout", "0.1", "gradient_accumulation_steps", "3", "per_device_train_batch_size", "3", "max_steps", "14",       \
        "save_steps", "4", "eval_steps", "5", "logging_steps", "3", "save_total_limit", "2"

static void hash_of(char out[33], const char *name) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", fx_out, name);
    fx_ok(fm_file_hash(out, path));
}

typedef struct ends {
    char model[33], checkpoint[33], optimizer[33];
} ends;

static ends end_of_run(void) {
    ends e;
    memset(&e, 0, sizeof e);
    hash_of(e.model, "model.safetensors");
    hash_of(e.checkpoint, "checkpoint-14/model.safetensors");
    hash_of(e.optimizer, "checkpoint-14/optimizer.safetensors");
    return e;
}

/* In a child, so that it can be killed; returns the wait status. */
static int run_child(const char *point, const char *const *set) {
    pid_t pid = fork();
    if (pid == 0) {
        if (point) {
            setenv("FATHOM_CRASH_POINT", point, 1);
        }
        _exit(fx_run(set, NULL, NULL) == FM_OK ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* Average, noise, and a loss scale that moves. */
#define MORE                                                                                                           \
    "ema_decay", "0.9", "neftune_noise_alpha", "5", "label_smoothing_factor", "0.1", "loss_scale_window", "3",         \
        "initial_loss_scale", "16777216"

static void kill_and_resume(const char *precision, bool more) {
    const char *const plain[] = {HARD, "precision", precision, "resume_from_checkpoint", "auto", NULL};
    const char *const all[] = {HARD, MORE, "precision", precision, "resume_from_checkpoint", "auto", NULL};
    const char *const *set = more ? all : plain;
    fm_train_result r, r0;
    fx_log log0, log;
    fx_ok(fx_run(set, &log0, &r0));
    ends want = end_of_run();
    const char *const points[] = {"step.done:2",  "ckpt.begin:2",    "ckpt.model:2",  "ckpt.optimizer:2",
                                  "ckpt.state:2", "ckpt.complete:2", "ckpt.rename:2", "ckpt.renamed:2",
                                  "ckpt.done:3",  "step.done:7",     "final.model"};
    for (size_t i = 0; i < FM_ARRAY_LEN(points); i += more || test_quick() ? 4 : 1) { /* fp16 is slow here */
        fx_clean();
        int status = run_child(points[i], set);
        if (!WIFSIGNALED(status)) {
            fail_msg("%s was not reached", points[i]);
        }
        fx_ok(fx_run(set, &log, &r));
        ends got = end_of_run();
        if (memcmp(&want, &got, sizeof want) != 0) {
            fail_msg("after a kill at %s the weights differ: %s %s, expected %s %s", points[i], got.checkpoint,
                     got.optimizer, want.checkpoint, want.optimizer);
        }
        assert_true(r.train_loss == r0.train_loss && r.eval_loss == r0.eval_loss); /* the log window too */
        assert_int_equal(r.tokens, r0.tokens);
    }
}

static void test_kill_fp32(void **state) {
    (void)state;
    kill_and_resume("fp32", false);
}
static void test_kill_bf16(void **state) {
    (void)state;
    kill_and_resume("bf16", false);
}

static void test_kill_fp16(void **state) {
    (void)state;
    kill_and_resume("fp16", true);
}

/* The number of threads changes no bit. */
static void test_threads(void **state) {
    (void)state;
    ends e[2];
    for (int i = 0; i < 2; i++) {
        fx_clean();
        fx_ok(fx_run((const char *[]){HARD, MORE, "threads", i ? "1" : "3", NULL}, NULL, NULL));
        e[i] = end_of_run();
    }
    assert_memory_equal(&e[0], &e[1], sizeof e[0]);
}

/* States on disk change no bit, and a run begun in memory goes on with them. */
static void test_offload(void **state) {
    (void)state;
    fx_ok(fx_run((const char *[]){HARD, NULL}, NULL, NULL));
    ends want = end_of_run();
    fx_clean();
    fx_ok(fx_run((const char *[]){HARD, "max_steps", "14", NULL}, NULL, NULL));
    char last[400];
    snprintf(last, sizeof last, "%s/checkpoint-14", fx_out);
    fx_ok(fm_remove_tree(last));
    int64_t mapped = fm_ledger_current(FM_MEM_MAPPED);
    fx_ok(fx_run((const char *[]){HARD, "optimizer_offload", "disk", "resume_from_checkpoint", "true", NULL}, NULL,
                 NULL));
    ends got = end_of_run();
    assert_memory_equal(&want, &got, sizeof want);
    assert_int_equal(fm_ledger_current(FM_MEM_MAPPED), mapped);
    snprintf(last, sizeof last, "%s/cache/optimizer.states", fx_out);
    assert_false(fm_path_exists(last)); /* nothing stays behind */
}

/* Same seed, other process: same bytes. Another seed: others. */
static void test_deterministic(void **state) {
    (void)state;
    const char *const set[] = {HARD, NULL};
    fx_ok(fx_run(set, NULL, NULL));
    ends a = end_of_run();
    fx_clean();
    assert_int_equal(run_child(NULL, set), 0);
    ends b = end_of_run();
    assert_memory_equal(&a, &b, sizeof a);
    fx_clean();
    fx_ok(fx_run((const char *[]){HARD, "seed", "7", NULL}, NULL, NULL));
    b = end_of_run();
    assert_string_not_equal(a.model, b.model);
}

static void flip(const char *name, long at) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", fx_out, name);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_not_equal(fputc(c ^ 1, f), EOF);
    fclose(f);
}

static void test_damaged(void **state) {
    (void)state;
    const char *const set[] = {HARD, NULL}, *const again[] = {HARD, "resume_from_checkpoint", "true", NULL};
    fx_ok(fx_run(set, NULL, NULL));
    ends want = end_of_run();
    flip("checkpoint-14/optimizer.safetensors", 5000); /* the newest is damaged: step 12 is taken */
    fm_train_result r;
    fx_log log;
    fx_ok(fx_run(again, &log, &r));
    ends got = end_of_run();
    assert_memory_equal(&want, &got, sizeof want);
    assert_true(log.n > 0);
    /* All damaged. */
    flip("checkpoint-14/trainer_state.json", 30);
    flip("checkpoint-12/model.safetensors", 3000);
    assert_int_equal(fx_run(again, NULL, NULL), FM_ERR_NOT_FOUND);
    char named[400];
    snprintf(named, sizeof named, "%s/checkpoint-12", fx_out);
    assert_int_equal(fx_run((const char *[]){HARD, "resume_from_checkpoint", named, NULL}, NULL, NULL), FM_ERR_CORRUPT);
}

static void test_changed_run(void **state) {
    (void)state;
    fx_ok(fx_run((const char *[]){HARD, NULL}, NULL, NULL));
    /* Longer, with another rate: allowed. */
    fm_train_result r;
    fx_ok(fx_run(
        (const char *[]){HARD, "max_steps", "20", "learning_rate", "1e-3", "resume_from_checkpoint", "true", NULL},
        NULL, &r));
    assert_int_equal(r.steps, 20);
    /* Other windows: refused, the old run stays. */
    assert_int_equal(
        fx_run((const char *[]){HARD, "cutoff_len", "16", "resume_from_checkpoint", "true", NULL}, NULL, NULL),
        FM_ERR_CONFIG);
    assert_int_equal(
        fx_run((const char *[]){HARD, "precision", "bf16", "resume_from_checkpoint", "true", NULL}, NULL, NULL),
        FM_ERR_CONFIG);
    assert_int_equal(fx_run((const char *[]){HARD, "seed", "7", "resume_from_checkpoint", "true", NULL}, NULL, NULL),
                     FM_ERR_CONFIG);
    /* By epochs with a larger step: the rest of the windows, once each. */
    fx_clean();
    fx_ok(fx_run((const char *[]){"max_steps", "0", "num_train_epochs", "1", NULL}, NULL, &r));
    int64_t tokens = r.tokens;
    fx_clean();
    const char *const first[] = {"max_steps", "0", "num_train_epochs", "1", "save_steps", "2", NULL};
    assert_true(WIFSIGNALED(run_child("step.done:3", first)));
    fx_ok(fx_run((const char *[]){"max_steps", "0", "num_train_epochs", "1", "per_device_train_batch_size", "5",
                                  "resume_from_checkpoint", "true", NULL},
                 NULL, &r));
    assert_int_equal(r.tokens, tokens);
    assert_true(WIFSIGNALED(run_child("ckpt.state", (const char *[]){"overwrite_output_dir", "true", NULL})));
    char partial[400];
    snprintf(partial, sizeof partial, "%s/checkpoint-12.tmp", fx_out);
    assert_true(fm_path_exists(partial));
    fx_ok(fx_run((const char *[]){"resume_from_checkpoint", "auto", "max_steps", "2", NULL}, NULL, NULL));
    assert_false(fm_path_exists(partial));
    /* Nothing to resume. */
    fx_clean();
    assert_int_equal(fx_run((const char *[]){HARD, "resume_from_checkpoint", "true", NULL}, NULL, NULL),
                     FM_ERR_NOT_FOUND);
}

/* Cancelled at a step: saved there, and the resumed run ends as if nothing had been. */
static fm_status cancel_event(void *state, const fm_train_event *e) {
    (void)state;
    if (e->step == 6) {
        fm_cancel();
    }
    return FM_OK;
}

static void test_cancel(void **state) {
    (void)state;
    const char *const set[] = {HARD, "resume_from_checkpoint", "auto", NULL};
    fx_ok(fx_run(set, NULL, NULL));
    ends want = end_of_run();
    fx_clean();
    fm_train_config *c = fx_config(set);
    fm_train_sink sink = {.name = "cancel", .event = cancel_event};
    fm_train_result r = {.size = sizeof r};
    assert_int_equal(fm_train_run_sinks(c, &sink, 1, &r), FM_ERR_CANCELLED);
    fm_cancel_reset();
    assert_string_equal(r.stopped_by, "interrupt");
    assert_int_equal(r.steps, 6);
    fm_train_config_free(c);
    fx_ok(fx_run(set, NULL, &r));
    ends got = end_of_run();
    assert_memory_equal(&want, &got, sizeof want);
}

/* Writing fails in the middle (a file-size limit stands for a full disk): a clear error, the checkpoint before is good.
 */
static void test_full_disk(void **state) {
    (void)state;
    const char *const set[] = {HARD, "resume_from_checkpoint", "auto", NULL};
    fx_ok(fx_run(set, NULL, NULL));
    ends want = end_of_run();
    fx_clean();
    assert_true(WIFSIGNALED(run_child("step.done:5", set)));
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit lim = {.rlim_cur = 60000, .rlim_max = 60000};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &lim);
        fm_status s = fx_run(set, NULL, NULL);
        bool told = strstr(fm_error_get().message, "checkpoint") != NULL && fm_error_get().hint[0];
        _exit(s == FM_ERR_IO && told ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    char path[400];
    snprintf(path, sizeof path, "%s/checkpoint-4", fx_out);
    fx_ok(fm_checkpoint_verify(path));
    snprintf(path, sizeof path, "%s/checkpoint-8.tmp", fx_out);
    assert_false(fm_path_exists(path));
    fx_ok(fx_run(set, NULL, NULL));
    ends got = end_of_run();
    assert_memory_equal(&want, &got, sizeof want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_kill_fp32, fx_fresh), cmocka_unit_test_setup(test_kill_bf16, fx_fresh),
        cmocka_unit_test_setup(test_kill_fp16, fx_fresh), cmocka_unit_test_setup(test_threads, fx_fresh),
        cmocka_unit_test_setup(test_offload, fx_fresh),   cmocka_unit_test_setup(test_deterministic, fx_fresh),
        cmocka_unit_test_setup(test_damaged, fx_fresh),   cmocka_unit_test_setup(test_changed_run, fx_fresh),
        cmocka_unit_test_setup(test_cancel, fx_fresh),    cmocka_unit_test_setup(test_full_disk, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
