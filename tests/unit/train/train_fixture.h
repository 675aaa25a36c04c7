/* A tiny corpus, tokenizer, packed dataset and model configuration under /tmp, and configurations for runs on them. */
#ifndef TRAIN_FIXTURE_H
#define TRAIN_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/run.h"

static char fx_top[200], fx_out[256];

typedef struct fx_feed {
    int i;
    char buf[256];
} fx_feed;

static void fx_text(char *buf, size_t cap, int i) {
    static const char *const who[] = {"fox", "dog", "cat", "owl", "bear"}, *const what[] = {"sees", "likes", "meets",
                                                                                            "finds"};
    snprintf(buf, cap, "the %s %s the %s and the %s %s the %s.", who[i % 5], what[i % 4], who[(i / 3) % 5],
             who[(i / 7) % 5], what[(i / 5) % 4], who[(i / 2) % 5]);
}

static fm_status fx_next(void *user, fm_text *t, bool *end) {
    fx_feed *f = user;
    *end = f->i == 150;
    fx_text(f->buf, sizeof f->buf, f->i++);
    *t = (fm_text){.ptr = f->buf, .len = strlen(f->buf)};
    return FM_OK;
}

static int fx_setup(void **state) {
    (void)state;
    snprintf(fx_top, sizeof fx_top, "/tmp/fm_train_%d", (int)getpid());
    snprintf(fx_out, sizeof fx_out, "%s/out", fx_top);
    char path[300];
    assert_int_equal(fm_remove_tree(fx_top), FM_OK);
    snprintf(path, sizeof path, "%s/model", fx_top);
    assert_int_equal(fm_mkdirs(path), FM_OK);
    const char *const special[] = {"[MASK]"};
    fm_bpe_train_options o = {
        .size = sizeof o, .vocab_size = 300, .special = special, .n_special = 1, .eos = "<eos>", .n_threads = 1};
    fx_feed f = {0};
    fm_tokenizer *t;
    assert_int_equal(fm_tokenizer_train(&t, NULL, fx_next, &f, &o), FM_OK);
    snprintf(path, sizeof path, "%s/tok", fx_top);
    assert_int_equal(fm_tokenizer_save(t, path), FM_OK);
    fm_tokenizer_free(t);
    snprintf(path, sizeof path, "%s/data.txt", fx_top);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (int i = 0; i < 150; i++) {
        char buf[256];
        fx_text(buf, sizeof buf, i);
        fprintf(out, "%s\n", buf);
    }
    fclose(out);
    snprintf(path, sizeof path, "%s/model/config.json", fx_top);
    static const char config[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":32,"
        "\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
        "\"num_key_value_heads\":2,\"vocab_size\":300,\"max_position_embeddings\":128,"
        "\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"hidden_act\":\"silu\","
        "\"tie_word_embeddings\":false,\"initializer_range\":0.02}";
    assert_int_equal(fm_file_write_atomic(path, config, strlen(config)), FM_OK);
    fm_pack_config *pc;
    assert_int_equal(fm_pack_config_new(&pc), FM_OK);
    const char *const kv[][2] = {{"input", "data.txt"}, {"tokenizer", "tok"}, {"output", "packed"}};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", fx_top, kv[i][1]);
        assert_int_equal(fm_options_set(pc, fm_pack_options(), kv[i][0], path, "test"), FM_OK);
    }
    assert_int_equal(fm_options_set(pc, fm_pack_options(), "txt_unit", "line", "test"), FM_OK);
    assert_int_equal(fm_options_set(pc, fm_pack_options(), "val_size", "0.1", "test"), FM_OK);
    fm_pack_report r = {.size = sizeof r};
    assert_int_equal(fm_data_pack(&r, pc, NULL, NULL), FM_OK);
    fm_pack_config_free(pc);
    return 0;
}

static int fx_teardown(void **state) {
    (void)state;
    return fm_remove_tree(fx_top) == FM_OK ? 0 : -1;
}

/* Defaults of the tests, then pairs of key and value ended by NULL. */
static fm_train_config *fx_config(const char *const *set) {
    fm_train_config *c;
    assert_int_equal(fm_train_config_new(&c), FM_OK);
    char model[300], data[300];
    snprintf(model, sizeof model, "%s/model", fx_top);
    snprintf(data, sizeof data, "%s/packed", fx_top);
    const char *const base[] = {"model_name_or_path",
                                model,
                                "train_from_scratch",
                                "true",
                                "dataset",
                                data,
                                "output_dir",
                                fx_out,
                                "cutoff_len",
                                "32",
                                "per_device_train_batch_size",
                                "4",
                                "max_steps",
                                "12",
                                "learning_rate",
                                "3e-3",
                                "logging_steps",
                                "1",
                                "save_steps",
                                "0",
                                "eval_steps",
                                "0",
                                "precision",
                                "fp32",
                                "threads",
                                "2",
                                "measure_mfu",
                                "false",
                                "report_to",
                                "none",
                                NULL};
    for (int pass = 0; pass < 2; pass++) {
        for (const char *const *p = pass ? set : base; p && *p; p += 2) {
            if (fm_options_set(c, fm_train_options(), p[0], p[1], "test") != FM_OK) {
                fail_msg("%s", fm_error_get().message);
            }
        }
    }
    return c;
}

/* Losses of logged steps. */
typedef struct fx_log {
    double loss[512], eval[512], violation[512];
    int64_t n_tokens;
    int n;
    char metric[48][64]; /* of the last evaluation */
    double value[48];
    int n_metrics;
} fx_log;
static fm_status fx_begin(void **state, void *user, const fm_train_info *info) {
    (void)info;
    *state = user;
    return FM_OK;
}
static fm_status fx_event(void *state, const fm_train_event *e) {
    fx_log *l = state;
    l->loss[e->step] = e->loss;
    l->eval[e->step] = e->eval_loss;
    l->violation[e->step] = isfinite(e->expert_max_violation) ? e->expert_max_violation : -1;
    l->n_tokens = e->n_tokens;
    for (int i = 0; i < e->n_metrics && i < 48; i++) {
        snprintf(l->metric[i], sizeof l->metric[i], "%s", e->metrics[i].name);
        l->value[i] = e->metrics[i].value;
        l->n_metrics = e->n_metrics;
    }
    l->n++;
    return FM_OK;
}

static fm_status fx_run(const char *const *set, fx_log *log, fm_train_result *result) {
    fm_train_config *c = fx_config(set);
    fx_log unused;
    fm_train_result r = {.size = sizeof r};
    memset(log ? log : &unused, 0, sizeof unused);
    for (size_t i = 0; i < FM_ARRAY_LEN(unused.eval); i++) {
        (log ? log : &unused)->eval[i] = NAN;
    }
    fm_train_sink sink = {.name = "test", .user = log ? log : &unused, .begin = fx_begin, .event = fx_event};
    fm_status s = fm_train_run_sinks(c, &sink, 1, &r);
    if (result) {
        *result = r;
    }
    fm_train_config_free(c);
    return s;
}

static void fx_ok(fm_status s) {
    if (s != FM_OK) {
        fail_msg("%s: %s (%s:%d)", fm_status_name(s), fm_error_get().message, fm_error_get().file, fm_error_get().line);
    }
}

/* Metric of the last evaluation. */
static inline double fx_metric(const fx_log *l, const char *name) {
    for (int i = 0; i < l->n_metrics; i++) {
        if (strcmp(l->metric[i], name) == 0) {
            return l->value[i];
        }
    }
    fail_msg("%s was not measured", name);
    return 0;
}

static int fx_fresh(void **state) {
    (void)state;
    return fm_remove_tree(fx_out) == FM_OK ? 0 : -1;
}

static void fx_clean(void) {
    assert_int_equal(fm_remove_tree(fx_out), FM_OK);
}

#endif
