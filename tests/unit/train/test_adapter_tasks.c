/* Adapters whose stage has a head of its own: it is learned whole beside LoRA, DoRA and QLoRA, the base stays as it is,
 * the folder opens with its base, merges to the same outputs, and a resumed run ends with the same bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "task_rows.h"
#include "../../quick.h"

static char base[300];

static int setup(void **state) {
    if (fx_setup(state) != 0) {
        return -1;
    }
    snprintf(base, sizeof base, "%s/base", fx_top);
    fx_ok(fx_run((const char *[]){"output_dir", base, "max_steps", "40", "learning_rate", "1e-2", NULL}, NULL, NULL));
    return 0;
}

#define ADAPTER                                                                                                        \
    "finetuning_type", "lora", "train_from_scratch", "false", "model_name_or_path", base, "lora_rank", "8",            \
        "learning_rate", "1e-2", "warmup_ratio", "0.05", "spike_factor", "0"

/* A stage of one head on rows of one kind. */
static fm_status run_stage(const char *stage, int kind, const char *const *more, fx_log *log, fm_train_result *r) {
    char train[300], test[300];
    write_file("rows.jsonl", 0, 300, 1U << kind, NULL);
    write_file("test.jsonl", 300, 350, 1U << kind, NULL);
    snprintf(train, sizeof train, "%s/rows.jsonl", fx_top);
    snprintf(test, sizeof test, "%s/test.jsonl", fx_top);
    const char *set[64] = {"stage",         stage,  "dataset",      train,
                           "eval_dataset",  test,   "label_column", kind == FOX ? "stars" : "label",
                           "cutoff_len",    "64",   "max_steps",    "120",
                           "logging_steps", "1000", ADAPTER};
    size_t n = 0;
    for (; set[n]; n++) {
    }
    for (; more && *more; more++) {
        set[n++] = *more;
    }
    return fx_run(set, log, r);
}

/* What the model says of sentence i, and how many numbers that are. */
static int scores_of(fm_model *m, const char *head, int i, float *out) {
    const fm_tokenizer *t;
    char text[256];
    int at;
    fm_tokens ids = {0};
    fm_head_info h;
    fm_encode_options eo = {.size = sizeof eo, .add_special = true, .n_threads = 1};
    fx_text(text, sizeof text, i);
    fx_ok(fm_model_tokenizer(&t, m));
    fx_ok(fm_tokenizer_encode(&ids, t, text, strlen(text), &eo));
    int32_t n = (int32_t)ids.n, offsets[] = {0, n};
    fm_texts in = {.size = sizeof in, .ids = ids.ids, .offsets = offsets, .n = 1};
    fx_ok(fm_model_head_find(&at, m, head));
    fx_ok(fm_model_head_info(&h, m, at));
    fx_ok(fm_model_scores(m, at, &in, out));
    fm_tokens_free(&ids);
    return h.n_outputs * (h.per_token ? n : 1);
}

/* The base with the adapter says what the merged model says; labels included. */
static void same_when_merged(const char *head, const char *quantization) {
    char merged[300];
    fm_model *a, *b;
    static float x[4096], y[4096];
    snprintf(merged, sizeof merged, "%s/merged", fx_top);
    fx_ok(fm_remove_tree(merged));
    fm_merge_report r = {.size = sizeof r};
    fm_merge_options mo = {.size = sizeof mo, .quantization = quantization};
    fx_ok(fm_model_merge_with(&r, base, fx_out, merged, &mo));
    assert_true(r.max_difference <= 1e-4 * r.max_logit);
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1, .adapter = fx_out};
    fx_ok(fm_model_open(&a, base, &o));
    o.adapter = NULL;
    fx_ok(fm_model_open(&b, merged, &o));
    for (int i = 300; i < 310; i++) {
        int n = scores_of(a, head, i, x);
        assert_int_equal(n, scores_of(b, head, i, y));
        for (int k = 0; k < n; k++) {
            assert_true(fabsf(x[k] - y[k]) <= 1e-4F * fmaxf(1, fabsf(x[k])));
        }
    }
    fm_head_info h, g;
    int at;
    fx_ok(fm_model_head_find(&at, a, head));
    fx_ok(fm_model_head_info(&h, a, at));
    fx_ok(fm_model_head_info(&g, b, at));
    assert_string_equal(h.kind, g.kind);
    for (int k = 0; k < h.n_outputs && fm_model_label(a, at, k); k++) {
        assert_string_equal(fm_model_label(a, at, k), fm_model_label(b, at, k));
    }
    fm_model_close(a);
    fm_model_close(b);
}

static void test_learns(void **state) {
    (void)state;
    static const struct {
        const char *stage;
        int kind;
        const char *key, *value, *metric;
        double least;
    } cases[] = {{"cls", WHO, "use_dora", "false", "eval_accuracy", 0.95},
                 {"reg", FOX, "use_dora", "true", "eval_pearson", 0.9},
                 {"tag", NAMES, "quantization_type", "nf4", "eval_f1", 0.95},
                 {"cls", WHO, "quantization_type", "int8", "eval_accuracy", 0.95},
                 {"tag", NAMES, "use_dora", "true", "eval_f1", 0.95}};
    for (size_t i = 0; i < (test_quick() ? 3 : FM_ARRAY_LEN(cases)); i++) {
        static fx_log log;
        char before[33], after[33], path[400];
        bool rounded = strcmp(cases[i].key, "quantization_type") == 0;
        snprintf(path, sizeof path, "%s/model.safetensors", base);
        fx_clean();
        fx_ok(fm_file_hash(before, path));
        fx_ok(
            run_stage(cases[i].stage, cases[i].kind, (const char *[]){cases[i].key, cases[i].value, NULL}, &log, NULL));
        double got = fx_metric(&log, cases[i].metric);
        if (!(got > cases[i].least)) {
            fail_msg("%s, %s %s: %s is %g", cases[i].stage, cases[i].key, cases[i].value, cases[i].metric, got);
        }
        fx_ok(fm_file_hash(after, path));
        assert_string_equal(before, after);
        snprintf(path, sizeof path, "%s/model.safetensors", fx_out);
        assert_false(fm_path_exists(path));
        same_when_merged("", rounded ? cases[i].value : NULL);
    }
}

/* The adapter folder says what training measured of it. */
static void test_says_what_was_measured(void **state) {
    (void)state;
    static fx_log log;
    fm_model *m;
    fx_ok(run_stage("cls", WHO, NULL, &log, NULL));
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1, .adapter = fx_out};
    fx_ok(fm_model_open(&m, base, &o));
    int right = 0;
    for (int i = 300; i < 350; i++) {
        float y[16];
        char text[256];
        int n = scores_of(m, "", i, y), best = 0;
        fx_text(text, sizeof text, i);
        for (int k = 1; k < n; k++) {
            best = y[k] > y[best] ? k : best;
        }
        const char *name = fm_model_label(m, 0, best);
        right += strncmp(text + 4, name, strlen(name)) == 0;
    }
    fm_model_close(m);
    assert_true(fabs(right / 50.0 - fx_metric(&log, "eval_accuracy")) < 1e-6);
}

static void test_several(void **state) {
    (void)state;
    static fx_log log;
    write_file("rows.jsonl", 0, 240, 0x3f, names);
    write_file("test.jsonl", 240, 290, 0x3f, names);
    /* A tiny base knows nothing of the chat template's tokens: its tables learn too. */
    fx_ok(run(TASKS, "%s/rows.jsonl",
              (const char *const[]){ADAPTER, "max_steps", "480", "logging_steps", "1000", "task_weights", "uncertainty",
                                    "modules_to_save", "lm_head,embed_tokens", NULL},
              &log, NULL));
    double who = fx_metric(&log, "eval_who_accuracy"), tags = fx_metric(&log, "eval_names_f1"),
           find = fx_metric(&log, "eval_find_em"), say = fx_metric(&log, "eval_say_perplexity");
    if (!(who > 0.9 && tags > 0.9 && find > 0.8 && say < 2)) {
        fail_msg("who %g, names %g, find %g, say %g", who, tags, find, say);
    }
    for (int i = 0; i < SAY; i++) {
        same_when_merged(names[i], NULL);
    }
}

static void resumes(const char *const *set, fm_status (*go)(const char *const *set)) {
    char want[33], got[33], path[400], gone[400];
    const char *again[40];
    size_t n = 0;
    fx_clean();
    fx_ok(go(set));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", fx_out);
    fx_ok(fm_file_hash(want, path));
    snprintf(gone, sizeof gone, "%s/checkpoint-10", fx_out);
    fx_ok(fm_remove_tree(gone));
    fx_ok(fm_remove_tree(path));
    for (; set[n]; n++) {
        again[n] = set[n];
    }
    memcpy(again + n, (const char *[]){"resume_from_checkpoint", "true", "threads", "1", NULL}, 5 * sizeof *again);
    fx_ok(go(again));
    fx_ok(fm_file_hash(got, path));
    assert_string_equal(want, got);
}

static fm_status go_cls(const char *const *set) {
    return run_stage("cls", WHO, set, NULL, NULL);
}
static fm_status go_multi(const char *const *set) {
    write_file("rows.jsonl", 0, 60, 0x3f, names);
    write_file("test.jsonl", 60, 70, 0x3f, names);
    return run(TASKS, "%s/rows.jsonl", set, NULL, NULL);
}

static void test_resume(void **state) {
    (void)state;
    resumes((const char *[]){"max_steps", "10", "save_steps", "5", "lora_dropout", "0.1", "use_dora", "true",
                             "precision", "bf16", NULL},
            go_cls);
    resumes((const char *[]){ADAPTER, "max_steps", "10", "save_steps", "5", "lora_dropout", "0.1", "quantization_type",
                             "nf4", "task_weights", "uncertainty", NULL},
            go_multi);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_learns, fx_fresh), cmocka_unit_test_setup(test_says_what_was_measured, fx_fresh),
        cmocka_unit_test_setup(test_several, fx_fresh), cmocka_unit_test_setup(test_resume, fx_fresh)};
    return cmocka_run_group_tests(tests, setup, fx_teardown);
}
