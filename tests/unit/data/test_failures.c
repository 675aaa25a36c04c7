/* Every allocation refused in turn (failures.h): packing, and going on with it; checking; training a tokenizer from
 * files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "data/shards.h"
#include "fathom/data.h"
#include "../failures.h"

static char top[64], out_dir[80], packed[80];

static char inputs[4][96], tokenizer[96], learned[96], typed[96], typed_parquet[96], changed[96];

static fm_status pack(int variant, uint64_t *sum) {
    fm_pack_config *c;
    fm_pack_report r = {.size = sizeof r};
    const char *const set[] = {
        "input",      inputs[3], "tokenizer",    tokenizer, "output",   out_dir,
        "cutoff_len", "24",      "long_rows",    "split",   "val_size", variant == 1 ? "0.2" : "0",
        "threads",    "2",       "shard_tokens", "4096",    NULL};
    FM_TRY(fm_pack_config_new(&c));
    fm_status s = failures_set(c, fm_pack_options(), set);
    s = s == FM_OK ? fm_data_pack(&r, c, NULL, NULL) : s;
    fm_pack_config_free(c);
    if (s == FM_OK) {
        char path[160];
        snprintf(path, sizeof path, "%s%s/shard-00000.fmt", out_dir, variant == 1 ? "/train" : "");
        *sum = failures_hash(path) + (uint64_t)(r.n_tokens + r.n_eval_tokens);
    }
    return s;
}

static fm_status check(int variant, uint64_t *sum) {
    fm_check_config *c;
    fm_check_report r = {.size = sizeof r};
    const char *const set[] = {"input", inputs[variant], "cutoff_len", "24", "threads",
                               "2",     "tokenizer",     tokenizer,    NULL};
    FM_TRY(fm_check_config_new(&c));
    fm_status s = failures_set(c, fm_check_options(), set);
    s = s == FM_OK ? fm_data_check(&r, c, NULL, NULL) : s;
    fm_check_config_free(c);
    *sum = (uint64_t)(r.n_rows * 1000000 + r.n_bad * 10000 + r.n_tokens);
    return s;
}

static fm_status learn(int variant, uint64_t *sum) {
    fm_tokenizer_train_config *c;
    fm_tokenizer_train_result r = {.size = sizeof r};
    const char *const set[] = {"input", inputs[0], "output", out_dir, "vocab_size", "290", "threads", "2", NULL};
    (void)variant;
    FM_TRY(fm_tokenizer_train_config_new(&c));
    fm_status s = failures_set(c, fm_tokenizer_train_options(), set);
    s = s == FM_OK ? fm_tokenizer_train_run(&r, c, NULL, NULL) : s;
    fm_tokenizer_train_config_free(c);
    if (s == FM_OK) {
        *sum = failures_hash(learned) + (uint64_t)r.vocab_size;
    }
    return s;
}

/* Rows of every kind of column to Parquet and back. */
static fm_status convert(int variant, uint64_t *sum) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s", out_dir, variant ? "rows.jsonl" : "rows.parquet");
    const char *const set[] = {
        "input", variant ? typed_parquet : typed, "output", path, "threads", "1", "overwrite", "true", NULL};
    fm_data_job *j;
    fm_data_report r = {.size = sizeof r};
    char *manifest = NULL;
    FM_TRY(fm_data_job_step(&j, NULL));
    fm_status s = failures_set(fm_data_job_object(j), fm_data_job_options(j), set);
    s = s == FM_OK ? fm_data_run(&r, &manifest, j) : s;
    fm_string_free(manifest);
    fm_data_job_free(j);
    *sum = s == FM_OK ? failures_hash(path) : 0;
    return s;
}

/* Statistics, and a comparison by key. */
static fm_status look(int variant, uint64_t *sum) {
    char *json = NULL;
    fm_status s;
    if (variant == 0) {
        fm_stats_config *c;
        const char *const set[] = {"input", typed, "label", "yes", "text_column", "t", NULL};
        FM_TRY(fm_stats_config_new(&c));
        s = failures_set(c, fm_stats_options(), set);
        s = s == FM_OK ? fm_data_stats(&json, c) : s;
        fm_stats_config_free(c);
    } else {
        fm_diff_config c = {.key = (char *)(uintptr_t) "n", .show = 2, .memory = 1 << 20};
        s = fm_data_diff(&json, typed, changed, &c);
    }
    *sum = json ? fm_hash64(json, strlen(json), 0) : 0;
    fm_string_free(json);
    return s;
}

/* A packed folder read as a trainer reads it. */
static fm_status read_samples(const fm_dataset *d, uint64_t *sum) {
    static int32_t ids[32], pos[32], targets[32], offsets[64];
    fm_sampler s;
    FM_TRY(fm_dataset_verify(d));
    FM_TRY(fm_sampler_init(&s, d, 32, 5, true));
    for (int i = 0; i < 10; i++) {
        int32_t n = 0;
        int64_t row, document;
        char where[128];
        FM_TRY(fm_sampler_next(&s, ids, pos, targets, 0, offsets, &n, &row));
        FM_TRY(fm_dataset_locate(d, row, &document, where, sizeof where));
        *sum = fm_hash64(ids, sizeof ids, *sum + (uint64_t)document);
    }
    return FM_OK;
}

static fm_status read_packed(int variant, uint64_t *sum) {
    (void)variant;
    fm_dataset *d;
    *sum = 0;
    FM_TRY(fm_dataset_open(&d, packed));
    fm_status s = read_samples(d, sum);
    fm_dataset_close(d);
    return s;
}

static void fresh(void) {
    assert_int_equal(fm_remove_tree(out_dir), FM_OK);
    assert_int_equal(fm_mkdirs(out_dir), FM_OK);
}

static const failures_work works[] = {
    {"pack", pack, 2, out_dir, fresh},       {"check", check, 3, NULL, NULL},      {"learn", learn, 1, out_dir, fresh},
    {"convert", convert, 2, out_dir, fresh}, {"read", read_packed, 1, NULL, NULL}, {"look", look, 2, NULL, NULL},
};

static void run_work(void **state) {
    failures_check(*state);
}

static int setup(void **state) {
    (void)state;
    uint64_t sum;
    snprintf(top, sizeof top, "/tmp/fathom_failures_XXXXXX");
    if (!mkdtemp(top)) {
        return -1;
    }
    snprintf(out_dir, sizeof out_dir, "%s/out", top);
    snprintf(packed, sizeof packed, "%s/packed", top);
    snprintf(learned, sizeof learned, "%s/tokenizer.json", out_dir);
    snprintf(tokenizer, sizeof tokenizer, "%s/tok", top);
    static const char *const names[] = {"rows/a.jsonl", "rows/b.csv", "rows/c.txt", "rows"};
    for (int i = 0; i < 4; i++) {
        snprintf(inputs[i], sizeof inputs[i], "%s/%s", top, names[i]);
    }
    FILE *f[3] = {NULL};
    bool good = fm_mkdirs(inputs[3]) == FM_OK;
    for (int i = 0; i < 3 && good; i++) {
        good = (f[i] = fopen(inputs[i], "w")) != NULL;
    }
    if (!good) {
        return -1;
    }
    fprintf(f[1], "id,text\n");
    for (int i = 0; i < 60; i++) {
        fprintf(f[0], "{\"text\": \"row %d: the quick brown fox, \\u4f60\\u597d\\n%d times\"}\n", i, i * 37);
        fprintf(f[1], "%d,\"a \"\"quoted\"\" row %d,\nof two lines\"\n", i, i);
        fprintf(f[2], "a line of text, the %dth\n", i);
    }
    fprintf(f[0], "{\"text\": 12}\n{\"text\n");
    for (int i = 0; i < 3; i++) {
        fclose(f[i]);
    }
    snprintf(typed, sizeof typed, "%s/typed.jsonl", top);
    snprintf(typed_parquet, sizeof typed_parquet, "%s/typed.parquet", top);
    snprintf(changed, sizeof changed, "%s/changed.jsonl", top);
    FILE *t = fopen(typed, "w"), *c = fopen(changed, "w");
    for (int i = 0; t && c && i < 40; i++) {
        fprintf(c, "{\"n\":%d,\"x\":%d.5,\"t\":\"other row\"}\n", 50 - i, 50 - i);
        fprintf(t, "{\"n\":%d,\"x\":%d.5,\"t\":\"row %d\",\"yes\":true,\"list\":[%d],\"no\":null}\n", i, i, i, i);
    }
    good = t && c && fclose(t) == 0 && fclose(c) == 0;
    char rows[96];
    fresh();
    good = good && convert(0, &sum) == FM_OK;
    snprintf(rows, sizeof rows, "%s/rows.parquet", out_dir);
    good = good && rename(rows, typed_parquet) == 0;
    fresh();
    good = good && learn(0, &sum) == FM_OK && fm_rename_dir(out_dir, tokenizer) == FM_OK;
    fresh();
    good = good && pack(0, &sum) == FM_OK && fm_rename_dir(out_dir, packed) == FM_OK;
    if (!good) {
        print_error("%s\n", fm_error_get().message);
    }
    return good ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    return fm_remove_tree(top) == FM_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        {"pack", run_work, NULL, NULL, (void *)&works[0]},  {"check", run_work, NULL, NULL, (void *)&works[1]},
        {"learn", run_work, NULL, NULL, (void *)&works[2]}, {"convert", run_work, NULL, NULL, (void *)&works[3]},
        {"read", run_work, NULL, NULL, (void *)&works[4]},  {"look", run_work, NULL, NULL, (void *)&works[5]},
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
