/* Answers: which tokens of a row carry loss, what is refused, what is learned, and that the learned model answers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/examples.h"
#include "fathom/generate.h"
#include "train_fixture.h"

static void write_file(const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", fx_top, name);
    fx_ok(fm_file_write_atomic(path, text, strlen(text)));
}

static fm_status make(fm_examples_report *r, const char *rows, fm_examples_options o) {
    static char path[300], tok[300], out[300];
    static char *item[1];
    static const fm_columns columns;
    write_file("chat.jsonl", rows);
    snprintf(path, sizeof path, "%s/chat.jsonl", fx_top);
    snprintf(tok, sizeof tok, "%s/tok", fx_top);
    snprintf(out, sizeof out, "%s/chat", fx_top);
    item[0] = path;
    o.task = "chat";
    o.input = (fm_strlist){.item = item, .n = 1};
    o.format = "auto";
    o.tokenizer = tok;
    o.output = out;
    o.columns = o.columns ? o.columns : &columns;
    o.template_ = o.template_ ? o.template_ : "chatml";
    o.cutoff_len = o.cutoff_len ? o.cutoff_len : 512;
    fx_ok(fm_remove_tree(out));
    return fm_examples_make(r, &o);
}

/* Text of the tokens of document i whose mark has a weight (all: every token), and the mark of the last one. */
static void text_of(char *buf, size_t cap, int64_t i, bool all, double *weight) {
    fm_dataset *d;
    fm_tokenizer *t;
    char dir[300];
    int64_t begin, n;
    int32_t ids[2048], kept[2048];
    int16_t marks[2048];
    bool start[2048];
    size_t k = 0;
    snprintf(dir, sizeof dir, "%s/chat", fx_top);
    fx_ok(fm_dataset_open(&d, dir));
    fm_dataset_document(d, i, &begin, &n);
    assert_true(n <= 2048);
    fx_ok(fm_dataset_read(d, begin, (int32_t)n, ids, start));
    fm_dataset_marks(d, begin, n, marks);
    for (int64_t j = 0; j < n; j++) {
        if (all || marks[j]) {
            kept[k++] = ids[j];
        }
        if (marks[j] && weight) {
            *weight = fm_json_num(fm_json_at(fm_json_get(fm_dataset_json(d), "mark_weights"), (size_t)marks[j]), -1);
        }
    }
    snprintf(dir, sizeof dir, "%s/tok", fx_top);
    fx_ok(fm_tokenizer_open(&t, dir));
    char *text;
    size_t len;
    fx_ok(fm_tokenizer_decode(&text, &len, t, kept, k, NULL));
    assert_true(len < cap);
    memcpy(buf, text, len + 1);
    fm_string_free(text);
    fm_tokenizer_free(t);
    fm_dataset_close(d);
}

static void test_marks(void **state) {
    (void)state;
    static const char rows[] = "{\"question\":\"the fox?\",\"answer\":\"the dog.\"}\n"
                               "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":"
                               "\"a\"},{\"role\":\"assistant\","
                               "\"content\":\"one\"},{\"role\":\"user\",\"content\":\"b\"},{\"role\":\"assistant\","
                               "\"content\":\"two\",\"weight\":0.5}]}\n"
                               "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
                               "\"content\":\"one\",\"train\":false},"
                               "{\"role\":\"user\",\"content\":\"b\"},{\"role\":\"assistant\",\"content\":\"two\"}]}\n"
                               "{\"question\":\"x\"}\n";
    char buf[4096];
    double w;
    fm_examples_report r;
    fx_ok(make(&r, rows, (fm_examples_options){0}));
    assert_int_equal(r.n_examples, 3);
    assert_int_equal(r.n_bad, 1);
    text_of(buf, sizeof buf, 0, false, &w);
    assert_string_equal(buf,
                        "the dog.<|im_end|><eos>"); /* the end is learned: the mark, and EOS as it is no token here */
    assert_true(w == 1);
    text_of(buf, sizeof buf, 0, true, NULL);
    assert_non_null(strstr(buf, "<|im_start|>user\nthe fox?<|im_end|>\n<|im_start|>assistant\nthe dog.<|im_end|>"));
    text_of(buf, sizeof buf, 1, false, &w);
    assert_string_equal(buf, "one<|im_end|>two<|im_end|><eos>");
    assert_true(w == 0.5);
    text_of(buf, sizeof buf, 2, false, &w);
    assert_string_equal(buf, "two<|im_end|><eos>");
    fx_ok(make(&r, rows, (fm_examples_options){.train_on = FM_TRAIN_ON_LAST}));
    text_of(buf, sizeof buf, 1, false, NULL);
    assert_string_equal(buf, "two<|im_end|><eos>");
    fx_ok(make(&r, rows, (fm_examples_options){.train_on = FM_TRAIN_ON_ALL}));
    char whole[4096];
    text_of(buf, sizeof buf, 0, false, NULL);
    text_of(whole, sizeof whole, 0, true, NULL);
    assert_string_equal(buf, whole);
}

static void test_long_rows(void **state) {
    (void)state;
    char rows[8192], big[3000], buf[8192];
    fm_examples_report r;
    memset(big, 'q', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    snprintf(rows, sizeof rows,
             "{\"question\":\"a\",\"answer\":\"b\"}\n{\"question\":\"a\",\"answer\":\"%s\"}\n{\"question\":\"%s\","
             "\"answer\":\"b\"}\n",
             big, big);
    assert_int_equal(make(&r, rows, (fm_examples_options){.long_rows = FM_LONG_REFUSE}), FM_ERR_DATA);
    assert_non_null(strstr(fm_error_get().message, "2 of 3 rows"));
    assert_non_null(strstr(fm_error_get().message, ":2")); /* the first of them */
    fx_ok(make(&r, rows, (fm_examples_options){.long_rows = FM_LONG_DROP}));
    assert_int_equal(r.n_examples, 1);
    fx_ok(make(&r, rows, (fm_examples_options){.long_rows = FM_LONG_CUT}));
    assert_int_equal(r.n_examples, 2); /* the answer of the last lies behind the cut: set aside */
    assert_int_equal(r.n_bad, 1);
    text_of(buf, sizeof buf, 1, false, NULL);
    assert_true(strlen(buf) > 100 && strspn(buf, "q") == strlen(buf));
}

/* Loss of a batch as the objective has it is that of the answers alone, each example by itself. */
static void test_learns(void **state) {
    (void)state;
    fm_str rows = {0};
    static const char *const who[] = {"fox", "dog", "cat", "owl", "bear"};
    for (int i = 0; i < 200; i++) { /* the answer names the second animal of the question */
        fm_str_printf(&rows, "{\"question\":\"the %s sees the %s.\",\"answer\":\"%s\"}\n", who[i % 5], who[(i / 5) % 5],
                      who[(i / 5) % 5]);
    }
    write_file("qa.jsonl", rows.data);
    fm_str_free(&rows);
    char data[300], tok[300];
    snprintf(data, sizeof data, "%s/qa.jsonl", fx_top);
    snprintf(tok, sizeof tok, "%s/tok", fx_top);
    fx_log log;
    fm_train_result r;
    const char *const set[] = {
        "stage",     "sft", "dataset",  data,  "tokenizer",     tok,    "template",     "chatml", "cutoff_len", "128",
        "max_steps", "200", "val_size", "0.1", "learning_rate", "1e-2", "warmup_ratio", "0.05",   NULL};
    fx_ok(fx_run(set, &log, &r));
    assert_true(r.eval_loss < 0.1);
    assert_true(log.n_tokens < 200 * 4 * 128); /* answers alone are counted */
    char path[300];
    snprintf(path, sizeof path, "%s/chat_template.jinja", fx_out);
    assert_true(fm_path_exists(path)); /* the template goes with the model */
    /* A kill in between changes nothing. */
    double whole = log.loss[200];
    fx_clean();
    const char *const part[] = {"stage",
                                "sft",
                                "dataset",
                                data,
                                "tokenizer",
                                tok,
                                "template",
                                "chatml",
                                "cutoff_len",
                                "128",
                                "max_steps",
                                "200",
                                "val_size",
                                "0.1",
                                "learning_rate",
                                "1e-2",
                                "warmup_ratio",
                                "0.05",
                                "save_steps",
                                "60",
                                "early_stopping_patience",
                                "0",
                                NULL};
    fx_ok(fx_run(part, &log, NULL));
    assert_true(log.loss[200] == whole);
    snprintf(path, sizeof path, "%s/checkpoint-200", fx_out);
    fx_ok(fm_remove_tree(path));
    const char *const again[] = {
        "stage",         "sft",        "dataset",      data,        "tokenizer",  tok,        "template",
        "chatml",        "cutoff_len", "128",          "max_steps", "200",        "val_size", "0.1",
        "learning_rate", "1e-2",       "warmup_ratio", "0.05",      "save_steps", "60",       "resume_from_checkpoint",
        "true",          NULL};
    fx_ok(fx_run(again, &log, NULL));
    assert_true(log.loss[200] == whole);
}

static void test_refusals(void **state) {
    (void)state;
    char data[300], tok[300];
    write_file("none.jsonl", "{\"text\":\"a\"}\n");
    snprintf(data, sizeof data, "%s/none.jsonl", fx_top);
    snprintf(tok, sizeof tok, "%s/tok", fx_top);
    const char *const set[] = {"stage", "sft", "dataset", data, "tokenizer", tok, "template", "chatml", NULL};
    assert_int_equal(fx_run(set, NULL, NULL), FM_ERR_DATA); /* nothing to train: never starts */
    const char *const packed[] = {"stage", "sft", "template", "chatml", NULL};
    assert_int_equal(fx_run(packed, NULL, NULL), FM_ERR_CONFIG);
    const char *const without[] = {"stage", "sft", "dataset", data, "tokenizer", tok, NULL};
    assert_int_equal(fx_run(without, NULL, NULL), FM_ERR_NOT_FOUND); /* the tokenizer has no template */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_marks, fx_fresh),
        cmocka_unit_test_setup(test_long_rows, fx_fresh),
        cmocka_unit_test_setup(test_learns, fx_fresh),
        cmocka_unit_test_setup(test_refusals, fx_fresh),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
