/* Every allocation refused in turn (failures.h) in runs of the steps for duplicates, quality and privacy. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../failures.h"
#include "run_step.h"

static char eval_path[64], wanted_path[64], names_path[64], key_path[64];
static fm_str rows;

static const char *const none[] = {NULL};
static const char *const longest[] = {"keep", "longest", "threads", "1", NULL};
static const char *const mark[] = {"action", "mark", NULL};
static const char *const against[] = {"against", eval_path, NULL};
static const char *const set[] = {"set", "min_doc_words=3,min_num_sentences=1", NULL};
static const char *const pseudonym[] = {"action", "pseudonym", "key_file", key_path, "names", names_path, NULL};
static const char *const domain[] = {"target", eval_path, "rows", "5", NULL};
static const char *const classifier[] = {"target", wanted_path, "method", "classifier", "fraction", "0.5", NULL};
static const char *const pairs[] = {"column", "text", "answer", "text", NULL};
static const char *const report[] = {"action", "report", NULL};

static const struct {
    const char *step;
    const char *const *options;
} runs[] = {
    {"dedup", longest},   {"dedup-lines", none},  {"minhash", mark},      {"decontaminate", against},
    {"quality", set},     {"privacy", pseudonym}, {"privacy", report},    {"strip-words", none},
    {"repetition", mark}, {"domain", domain},     {"domain", classifier}, {"neighbours", pairs},
};

static fm_status run(int variant, uint64_t *sum) {
    char *out;
    fm_status s = run_step(&out, NULL, runs[variant].step, rows.data, rows.len, runs[variant].options);
    *sum = s == FM_OK ? fm_hash64(out, strlen(out), 0) : 0;
    fm_free(out);
    return s;
}

static void each(void **state) {
    const failures_work w = {"steps", run, FM_ARRAY_LEN(runs), NULL, NULL};
    (void)state;
    failures_check(&w);
}

static void write_file(char *path, size_t cap, const char *name, const char *text) {
    snprintf(path, cap, "/tmp/fathom_fail_%ld_%s", (long)getpid(), name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

int main(void) {
    write_file(eval_path, sizeof eval_path, "eval.txt", "the quick brown fox jumps over the lazy dog again and again");
    write_file(wanted_path, sizeof wanted_path, "wanted.csv", "text\na\nb\nc d\ne\nf g h\ni j\nk\nl\nm n\nbrown fox\n");
    write_file(names_path, sizeof names_path, "names", "Ann Lee\n王小明\n");
    write_file(key_path, sizeof key_path, "key", "0123456789abcdef");
    for (int i = 0; i < 12; i++) {
        fm_str_printf(
            &rows,
            "{\"text\":\"The quick brown fox number %d jumps over the lazy dog.\\nAccept all cookies of the site.\\n"
            "It didn't say [1] why. Ann Lee: a%d@b.org, 13800138000.\",\"n\":[{\"x\":\"4111111111111111\"}]}\n",
            i / 2, i);
    }
    assert_int_equal(fm_str_check(&rows), FM_OK);
    const struct CMUnitTest tests[] = {cmocka_unit_test(each)};
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    fm_str_free(&rows);
    unlink(eval_path);
    unlink(wanted_path);
    unlink(names_path);
    unlink(key_path);
    return bad;
}
