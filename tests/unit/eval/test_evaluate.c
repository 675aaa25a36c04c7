/* Evaluation against lm-evaluation-harness (tests/interop/lm_eval_diff.py wrote data/lm_eval), and likelihoods against
 * logits of whole sequences. `eval_test_evaluate --write DIR` writes the models that both evaluate. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/models.h"
#include "eval/likelihood.h"
#include "eval/task.h"
#include "../failures.h"

#define DATA FM_SOURCE_DIR "/tests/unit/eval/data/lm_eval"

static char dir[64];

/* ---- models ------------------------------------------------------------------------------------ */

typedef struct lines {
    char *text;
    bool given;
} lines;

static fm_status next_text(void *user, fm_text *text, bool *end) {
    lines *l = user;
    *end = l->given;
    l->given = true;
    *text = (fm_text){l->text, strlen(l->text)};
    return FM_OK;
}

static const char chatml[] =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

static void write_tokenizer(const char *to, bool add_bos, int32_t *vocab) {
    lines l = {0};
    size_t n;
    fm_tokenizer *t;
    fm_bpe_train_info info;
    assert_int_equal(fm_file_read(&l.text, &n, DATA "/held.txt", 0), FM_OK);
    fm_bpe_train_options o = {.size = sizeof o, .vocab_size = 400, .bos = "<s>", .eos = "</s>", .add_bos = add_bos};
    o.chat_template = strstr(to, "/chat") ? chatml : NULL;
    assert_int_equal(fm_tokenizer_train(&t, &info, next_text, &l, &o), FM_OK);
    assert_int_equal(fm_tokenizer_save(t, to), FM_OK);
    *vocab = fm_tokenizer_vocab_size(t);
    fm_tokenizer_free(t);
    fm_free(l.text);
}

static void write_model(const char *to, const char *family, int32_t window, bool add_bos, int64_t max_position) {
    fm_model_config cfg = {.d_model = 48,
                           .n_layers = 2,
                           .n_heads = 6,
                           .n_kv_heads = 2,
                           .head_dim = 16,
                           .d_ff = 80,
                           .max_position = max_position,
                           .act = FM_ACT_SILU,
                           .norm_eps = 1e-6,
                           .init_std = 0.12,
                           .rope = {.theta = 10000, .dim = 16, .factor = 1},
                           .window = window,
                           .bos_id = 0,
                           .eos_id = 1,
                           .pad_id = -1};
    snprintf(cfg.family, sizeof cfg.family, "%s", family);
    assert_int_equal(fm_mkdirs(to), FM_OK);
    write_tokenizer(to, add_bos, &cfg.vocab_size);
    if (strcmp(family, "deepseek") == 0) {
        cfg.moe = (fm_moe_config){.n_experts = 8, .n_active = 2, .n_shared = 1, .d_ff = 24, .first_dense = 1};
    } else if (strcmp(family, "bloom") == 0) {
        assert_int_equal(fm_model_config_reshape(&cfg, FM_POS_ALIBI, NULL, 0), FM_OK);
    }
    fm_model *m;
    assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
    assert_int_equal(fm_params_alloc(m->params, FM_F32), FM_OK);
    assert_int_equal(fm_params_init(m->params, 7, NULL), FM_OK);
    assert_int_equal(fm_model_save(m, to, FM_F32, 0), FM_OK);
    fm_model_close(m);
}

static const char *sub(const char *name) {
    static char path[2][128];
    static int at;
    at ^= 1;
    snprintf(path[at], sizeof path[at], "%s/%s", dir, name);
    return path[at];
}

static void write_all(const char *to) {
    snprintf(dir, sizeof dir, "%s", to);
    write_model(sub("plain"), "llama", 0, false, 512);
    write_model(sub("bos"), "llama", 0, true, 512);
    write_model(sub("short"), "llama", 0, false, 96);
    write_model(sub("chat"), "llama", 0, false, 512);
}

static int setup(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/fathom_eval_XXXXXX");
    assert_non_null(mkdtemp(dir));
    write_all(dir);
    write_model(sub("window"), "mistral", 24, false, 512);
    write_model(sub("moe"), "deepseek", 0, false, 512);
    write_model(sub("alibi"), "bloom", 0, false, 512);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return fm_remove_tree(dir) != FM_OK;
}

/* ---- likelihoods ------------------------------------------------------------------------------- */

#define VOCAB 400
static int32_t ids[4096];

static double direct(fm_model *m, const fm_ll_item *it, int32_t k, bool *greedy) {
    int32_t n = it->n_context + it->cont[k].n - 1, all[1024];
    float *logits = malloc((size_t)n * VOCAB * sizeof *logits);
    assert_non_null(logits);
    memcpy(all, it->context, (size_t)it->n_context * sizeof *all);
    memcpy(all + it->n_context, it->cont[k].ids, (size_t)(it->cont[k].n - 1) * sizeof *all);
    assert_int_equal(fm_model_logits(m, all, n, logits), FM_OK);
    double sum = 0;
    *greedy = true;
    for (int32_t i = 0; i < it->cont[k].n; i++) {
        const float *v = logits + (size_t)(it->n_context - 1 + i) * VOCAB;
        double z = 0, max = (double)v[0];
        int32_t best = 0;
        for (int32_t j = 0; j < VOCAB; j++) {
            best = v[j] > v[best] ? j : best;
            max = fmax(max, (double)v[j]);
        }
        for (int32_t j = 0; j < VOCAB; j++) {
            z += exp((double)v[j] - max);
        }
        sum += (double)v[it->cont[k].ids[i]] - max - log(z);
        *greedy = *greedy && best == it->cont[k].ids[i];
    }
    free(logits);
    return sum;
}

#define N_ITEMS 14
typedef struct batch {
    fm_ll_item item[N_ITEMS];
    fm_ll_seq cont[N_ITEMS][4];
    double logprob[N_ITEMS][4];
    bool greedy[N_ITEMS][4];
} batch;

/* Contexts that share much, little and nothing, one of a single token, continuations of 1 to 9 tokens. */
static void make_items(batch *b) {
    fm_rng_key key = {.seed = 5, .stream = fm_rng_stream("test")};
    for (size_t i = 0; i < FM_ARRAY_LEN(ids); i++) {
        ids[i] = (int32_t)fm_rng_below(key, i, VOCAB);
    }
    for (int i = 0; i < N_ITEMS; i++) {
        /* 0-5 begin with the same 100 tokens, 6-8 with 40 of them, the others stand elsewhere */
        int32_t same = i < 6 ? 100 : i < 9 ? 40 : 0, own = i == 12 ? 1 : 7 + 5 * i;
        int32_t *c = ids + 1000 + 200 * i;
        memcpy(c, ids, (size_t)same * sizeof *c);
        b->item[i] = (fm_ll_item){.context = c,
                                  .n_context = same + own,
                                  .cont = b->cont[i],
                                  .n_cont = 1 + i % 4,
                                  .logprob = b->logprob[i],
                                  .greedy = b->greedy[i]};
        for (int k = 0; k < 4; k++) {
            b->cont[i][k] = (fm_ll_seq){ids + 3000 + 11 * i + 40 * k, 1 + (i * 3 + k * 4) % 9};
        }
    }
    b->item[3].context = b->item[2].context; /* the same context twice */
    b->item[3].n_context = b->item[2].n_context;
}

static void check_family(const char *name, const char *dtype) {
    static batch whole, parts;
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = dtype, .threads = 2};
    int64_t computed, saved;
    assert_int_equal(fm_model_open(&m, sub(name), &o), FM_OK);
    assert_int_equal(m->cfg.vocab_size, VOCAB);
    for (int tokens = 1024; tokens > 0; tokens = tokens == 1024 ? 37 : tokens == 37 ? 3 : 0) {
        fm_likelihood *l;
        batch *b = tokens == 1024 ? &whole : &parts;
        make_items(b);
        assert_int_equal(fm_likelihood_new(&l, m, tokens), FM_OK);
        assert_int_equal(fm_likelihood_run(l, b->item, N_ITEMS, "test"), FM_OK);
        fm_likelihood_counts(l, &computed, &saved);
        assert_true(saved > 300);
        fm_likelihood_free(l);
        for (int i = 0; i < N_ITEMS; i++) {
            for (int32_t k = 0; k < b->item[i].n_cont; k++) {
                bool greedy;
                double want = direct(m, &b->item[i], k, &greedy);
                /* The losses are f32; the logits have the same bits. */
                if (fabs(want - b->logprob[i][k]) > 3e-6 * fabs(want)) {
                    fail_msg("%s %s, %d tokens a pass, item %d.%d: expected %.9g, found %.9g", name, dtype, tokens, i,
                             (int)k, want, b->logprob[i][k]);
                }
                assert_int_equal(greedy, b->greedy[i][k]);
                assert_true(whole.logprob[i][k] == b->logprob[i][k]);
            }
        }
    }
    fm_model_close(m);
}

static void test_likelihood(void **state) {
    (void)state;
    static const char *const names[] = {"plain", "window", "moe", "alibi"};
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        check_family(names[i], "f32");
        check_family(names[i], "bf16");
    }
}

/* ---- against lm-evaluation-harness -------------------------------------------------------------- */

static fm_json *evaluate(const char *const *kv) {
    fm_eval_config *cfg;
    char *text;
    fm_json *j;
    assert_int_equal(fm_eval_config_new(&cfg), FM_OK);
    for (; kv[0]; kv += 2) {
        assert_int_equal(fm_options_set(cfg, fm_eval_options(), kv[0], kv[1], "test"), FM_OK);
    }
    fm_status s = fm_eval_run(cfg, &text);
    if (s != FM_OK) {
        fail_msg("%s", fm_error_get().message);
    }
    assert_int_equal(fm_json_parse(&j, text, strlen(text), "report"), FM_OK);
    fm_string_free(text);
    fm_eval_config_free(cfg);
    return j;
}

static double metric(const fm_json *report, const char *name, const char *part) {
    return fm_json_num(fm_json_get(fm_json_get(fm_json_get(report, "metrics"), name), part), NAN);
}

static void check_number(const char *what, double got, double want, double tol) {
    if (!(fabs(got - want) <= tol * fmax(1, fabs(want)))) {
        fail_msg("%s: expected %.9g, found %.9g", what, want, got);
    }
}

/* A random model writes bytes that are no UTF-8: a run of U+FFFD counts as one. */
static void check_output(const char *got, const char *want) {
    static const char mark[] = "\xef\xbf\xbd";
    fm_str s = {0};
    for (const char *p = got; *p; p++) {
        while (strncmp(p, mark, 3) == 0 && strncmp(p + 3, mark, 3) == 0) {
            p += 3;
        }
        fm_str_putc(&s, *p);
    }
    assert_string_equal(s.data ? s.data : "", want);
    fm_str_free(&s);
}

static void test_golden(void **state) {
    (void)state;
    fm_json *golden;
    char rows[128];
    assert_int_equal(fm_json_load(&golden, DATA "/golden.json"), FM_OK);
    snprintf(rows, sizeof rows, "%s/rows.jsonl", dir);
    const fm_json *runs = fm_json_get(golden, "runs");
    assert_true(fm_json_size(runs) > 5);
    for (size_t i = 0; i < fm_json_size(runs); i++) {
        const fm_json *r = fm_json_at(runs, i), *args = fm_json_get(r, "args");
        const char *kv[64];
        char model[128], data[2][256];
        int n = 0, n_data = 0;
        snprintf(model, sizeof model, "%s", sub(fm_json_str(fm_json_get(r, "model"), NULL)));
        for (size_t k = 0; k < fm_json_size(args); k += 2) {
            kv[n] = fm_json_str(fm_json_at(args, k), NULL);
            kv[n + 1] = fm_json_str(fm_json_at(args, k + 1), NULL);
            if (strstr(kv[n], "data")) {
                snprintf(data[n_data], sizeof data[0], DATA "/%s", kv[n + 1]);
                kv[n + 1] = data[n_data++];
            }
            n += 2;
        }
        const char *const own[] = {"model", model,         "dtype", "f32",       "threads",
                                   "2",     "rows_output", rows,    "bootstrap", "20"};
        memcpy(kv + n, own, sizeof own);
        n += (int)FM_ARRAY_LEN(own);
        kv[n] = NULL;
        fm_json *report = evaluate(kv);
        const fm_json *want = fm_json_get(r, "metrics");
        assert_true(fm_json_size(want) > 0);
        for (size_t k = 0; k < fm_json_size(want); k++) {
            const fm_json *one = fm_json_at(want, k);
            const char *name = fm_json_str(fm_json_at(one, 0), NULL), *part = fm_json_str(fm_json_at(one, 1), NULL);
            char what[200];
            snprintf(what, sizeof what, "run %zu, %s %s", i, name, part);
            check_number(what, metric(report, name, part), fm_json_num(fm_json_at(one, 2), NAN), 1e-5);
        }
        /* Row by row: the likelihoods' margins, or the text that was generated. */
        const fm_json *margins = fm_json_get(r, "margins"), *outputs = fm_json_get(r, "outputs");
        char *text, *line;
        size_t n_text, row = 0;
        assert_int_equal(fm_file_read(&text, &n_text, rows, 0), FM_OK);
        for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), row++) {
            fm_json *j;
            assert_int_equal(fm_json_parse(&j, line, strlen(line), "rows"), FM_OK);
            if (margins) {
                check_number("margin", fm_json_num(fm_json_get(j, "margin"), NAN),
                             fm_json_num(fm_json_at(margins, row), NAN), 1e-4);
            }
            if (outputs) {
                check_output(fm_json_str(fm_json_get(j, "output"), NULL), fm_json_str(fm_json_at(outputs, row), NULL));
            }
            fm_json_free(j);
        }
        assert_int_equal(row, fm_json_int(fm_json_get(r, "n"), -1));
        fm_free(text);
        fm_json_free(report);
    }
    fm_json_free(golden);
}

static void test_filters(void **state) {
    (void)state;
    char *text, *line;
    size_t n, rows = 0;
    const fm_eval_filter *strict, *flexible;
    assert_int_equal(fm_eval_filter_find(&strict, fm_sv_of("strict")), FM_OK);
    assert_int_equal(fm_eval_filter_find(&flexible, fm_sv_of("flexible")), FM_OK);
    assert_int_equal(fm_file_read(&text, &n, DATA "/filters.jsonl", 0), FM_OK);
    for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), rows++) {
        fm_json *j;
        fm_sv t, clean;
        fm_bump arena = {0};
        assert_int_equal(fm_json_parse(&j, line, strlen(line), "filters"), FM_OK);
        t.ptr = fm_json_str(fm_json_get(j, "text"), &t.len);
        fm_sv got[3] = {strict->apply(t), flexible->apply(t)};
        assert_int_equal(fm_eval_gsm8k_clean(&arena, &clean, t), FM_OK);
        got[2] = clean;
        static const char *const key[] = {"strict", "flexible", "clean"};
        for (int k = 0; k < 3; k++) {
            fm_sv want;
            want.ptr = fm_json_str(fm_json_get(j, key[k]), &want.len);
            if (want.len != got[k].len || memcmp(want.ptr, got[k].ptr, want.len) != 0) {
                fail_msg("%s of \"%s\": expected \"%s\", found \"%.*s\"", key[k], t.ptr, want.ptr, (int)got[k].len,
                         got[k].ptr);
            }
        }
        fm_bump_free(&arena);
        fm_json_free(j);
    }
    assert_true(rows > 50);
    fm_free(text);
}

/* ---- statistics -------------------------------------------------------------------------------- */

/* A mean of n coin throws: the interval is near the normal one; the paired difference of equal scores is 0. */
static void test_bootstrap(void **state) {
    (void)state;
    enum { N = 400 };
    static double stats[N][2], other[N][2];
    fm_rng_key key = {.seed = 11, .stream = fm_rng_stream("coins")};
    fm_measure m = {.n_stats = 2};
    double sum = 0;
    for (int i = 0; i < N; i++) {
        stats[i][0] = fm_rng_uniform(key, (uint64_t)i) < 0.3;
        other[i][0] = i % 10 == 0 ? 1 - stats[i][0] : stats[i][0];
        stats[i][1] = other[i][1] = 1;
        sum += stats[i][0];
    }
    fm_interval v, same;
    assert_int_equal(fm_bootstrap(&v, &m, stats[0], other[0], 2, 0, NULL, N, 4000, 0.95, 1), FM_OK);
    double p = sum / N, se = sqrt(p * (1 - p) / (N - 1));
    assert_true(fabs(v.value - p) < 1e-12 && fabs(v.stderr_ - se) < 1e-12);
    assert_true(fabs(v.low - (p - 1.96 * se)) < 0.15 * se && fabs(v.high - (p + 1.96 * se)) < 0.15 * se);
    /* Pairing takes away what both share: the interval of the difference is far narrower than of two free samples. */
    assert_true(v.diff_high - v.diff_low < 0.6 * (v.high - v.low) * sqrt(2));
    assert_true(v.diff_low <= v.difference && v.difference <= v.diff_high);
    assert_int_equal(fm_bootstrap(&same, &m, stats[0], stats[0], 2, 0, NULL, N, 100, 0.95, 1), FM_OK);
    assert_true(same.difference == 0 && same.diff_low == 0 && same.diff_high == 0 && same.p == 1);
}

static void test_slices(void **state) {
    (void)state;
    fm_json *j = evaluate((const char *const[]){"model", sub("plain"), "task", "mc", "data", DATA "/mc.jsonl",
                                                "slice_by", "length,topic", "terms", "the", "compare", sub("bos"),
                                                "dtype", "f32", "bootstrap", "30", NULL});
    const fm_json *slices = fm_json_get(j, "slices");
    int64_t n[2] = {0};
    double right[2] = {0};
    for (size_t i = 0; i < fm_json_size(slices); i++) {
        const fm_json *s = fm_json_at(slices, i);
        const char *by = fm_json_str(fm_json_get(s, "by"), NULL);
        int k = strcmp(by, "length") == 0 ? 0 : strcmp(by, "topic") == 0 ? 1 : -1;
        if (k >= 0) {
            n[k] += fm_json_int(fm_json_get(s, "n"), 0);
            right[k] += (double)fm_json_int(fm_json_get(s, "n"), 0) * metric(s, "acc", "value");
        }
    }
    double all = metric(j, "acc", "value");
    for (int k = 0; k < 2; k++) { /* parts make up the whole */
        assert_int_equal(n[k], fm_json_int(fm_json_get(j, "n_rows"), -1));
        check_number("parts", right[k] / (double)n[k], all, 1e-12);
    }
    const fm_json *c = fm_json_get(fm_json_get(fm_json_get(j, "compare"), "metrics"), "acc");
    check_number("difference",
                 fm_json_num(fm_json_get(c, "value"), NAN) + fm_json_num(fm_json_get(c, "difference"), NAN), all,
                 1e-12);
    fm_json_free(j);
}

/* ---- faults ------------------------------------------------------------------------------------ */

static void refuse(fm_status want, const char *message, const char *const *kv) {
    fm_eval_config *cfg;
    char *text;
    assert_int_equal(fm_eval_config_new(&cfg), FM_OK);
    for (; kv[0]; kv += 2) {
        assert_int_equal(fm_options_set(cfg, fm_eval_options(), kv[0], kv[1], "test"), FM_OK);
    }
    assert_int_equal(fm_eval_run(cfg, &text), want);
    assert_null(text);
    if (!strstr(fm_error_get().message, message)) {
        fail_msg("expected \"%s\" in \"%s\"", message, fm_error_get().message);
    }
    fm_eval_config_free(cfg);
}

static const char *file_of(const char *name, const char *text) {
    const char *path = sub(name);
    assert_int_equal(fm_file_write_atomic(path, text, strlen(text)), FM_OK);
    return path;
}

static void test_refusals(void **state) {
    (void)state;
    char model[128];
    snprintf(model, sizeof model, "%s", sub("plain"));
#define REFUSE(status, message, ...) refuse(status, message, (const char *const[]){"model", model, __VA_ARGS__, NULL})
    REFUSE(FM_ERR_CONFIG, "no task", "dtype", "f32");
    REFUSE(FM_ERR_CONFIG, "no task and no file", "task", "mmlo");
    REFUSE(FM_ERR_CONFIG, "no data", "task", "mmlu");
    REFUSE(FM_ERR_NOT_FOUND, "nowhere", "task", "mc", "data", "/nowhere");
    REFUSE(FM_ERR_CONFIG, "no examples", "task", "mc", "num_fewshot", "2", "data", DATA "/mc.jsonl");
    REFUSE(FM_ERR_CONFIG, "columns", "task", file_of("a.jsonl", "{\"x\":1}\n"));
    REFUSE(FM_ERR_DATA, ":2: answer \"4\"", "task", "mc", "data",
           file_of("b.jsonl", "{\"question\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":0}\n"
                              "{\"question\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":4}\n"));
    REFUSE(FM_ERR_DATA, "fewer than two", "task", "mc", "data",
           file_of("c.jsonl", "{\"question\":\"a\",\"choices\":[\"b\"],\"answer\":0}\n"));
    REFUSE(FM_ERR_DATA, ":2", "task", "qa", "data",
           file_of("d.jsonl", "{\"question\":\"a\",\"answer\":\"b\"}\n{broken\n"));
    REFUSE(FM_ERR_DATA, "no column \"nothing\"", "task", "mc", "data", DATA "/mc.jsonl", "prompt", "{nothing}");
    REFUSE(FM_ERR_CONFIG, "stride", "task", "ppl", "data", DATA "/held.txt", "window", "10", "stride", "11");
    REFUSE(FM_ERR_CONFIG, "window", "task", "ppl", "data", DATA "/held.txt", "window", "100000");
    REFUSE(FM_ERR_DATA, "no rows", "task", "ppl", "data", file_of("e.txt", ""));
    REFUSE(FM_ERR_DATA, "examples of", "task", "mmlu", "data", DATA "/mmlu", "num_fewshot", "50");
    REFUSE(FM_ERR_CONFIG, "none of the metrics", "task", "qa", "data", DATA "/gsm8k.jsonl", "metrics", "blue");
    REFUSE(FM_ERR_NOT_FOUND, "template", "task", "mc", "data", DATA "/mc.jsonl", "apply_chat_template", "true");
    REFUSE(FM_ERR_CONFIG, "no filter", "task", "qa", "data", DATA "/gsm8k.jsonl", "filter", "strikt");
}

/* ---- several answers --------------------------------------------------------------------------- */

static size_t best_of(const char *const *text, size_t n) {
    fm_text t[8];
    size_t best = 99;
    for (size_t i = 0; i < n; i++) {
        t[i] = (fm_text){text[i], strlen(text[i])};
    }
    assert_int_equal(fm_eval_consensus(&best, t, n, FM_CUT_13A), FM_OK);
    return best;
}

static fm_json *sampled(const char *samples, const char *temperature, const char *threads, const char *rows) {
    return evaluate((const char *[]){"task",           "qa",         "data",    DATA "/gsm8k.jsonl",
                                     "model",          sub("plain"), "dtype",   "f32",
                                     "max_new_tokens", "12",         "metrics", "bleu",
                                     "bootstrap",      "5",          "samples", samples,
                                     "temperature",    temperature,  "threads", threads,
                                     "rows_output",    rows,         NULL});
}

static void test_consensus(void **state) {
    (void)state;
    assert_int_equal(best_of((const char *[]){"one"}, 1), 0);
    assert_int_equal(best_of((const char *[]){"", ""}, 2), 0);
    assert_int_equal(best_of((const char *[]){"a b c d e x", "q r s t u", "a b c d e f", "a b c d e f g"}, 4), 2);
    assert_int_equal(best_of((const char *[]){"said once", "said twice or more", "said twice or more"}, 3), 1);
    assert_int_equal(best_of((const char *[]){"", "a b c d", "a b c e"}, 3), 1);

    char path[4][128], *text[4];
    size_t n[4];
    const char *const how[4][3] = {{"0", "0.7", "2"}, {"4", "0.01", "2"}, {"4", "1.5", "1"}, {"4", "1.5", "2"}};
    for (int i = 0; i < 4; i++) {
        snprintf(path[i], sizeof path[i], "%s/consensus%d.jsonl", dir, i);
        fm_json *j = sampled(how[i][0], how[i][1], how[i][2], path[i]);
        const fm_json *bleu = fm_json_get(fm_json_get(j, "metrics"), "bleu");
        const char *what = fm_json_str(fm_json_get(bleu, "definition"), NULL);
        assert_non_null(what);
        assert_int_equal(i > 0, strstr(what, "consensus of 5 answers") != NULL);
        fm_json_free(j);
        assert_int_equal(fm_file_read(&text[i], &n[i], path[i], 0), FM_OK);
    }
    assert_string_equal(text[0], text[1]); /* cold samples say what the greedy answer says */
    assert_string_equal(text[2], text[3]); /* and hot ones the same whatever the threads */
    assert_string_not_equal(text[0], text[2]);
    for (int i = 0; i < 4; i++) {
        fm_free(text[i]);
    }
}

/* Memory that runs out anywhere: an error, nothing lost, and the same figures when it is back. */
static fm_status failing_run(int variant, uint64_t *sum) {
    static const char *const task[][8] = {
        {"task", "mc", "data", DATA "/mc.jsonl", "slice_by", "topic,length", "worst", "3"},
        {"task", "ppl", "data", DATA "/held.txt", "window", "64", "batch_tokens", "512"},
        {"task", "qa", "data", DATA "/gsm8k.jsonl", "max_new_tokens", "3", "metrics",
         "bleu,f1,rougeL,exact_match_strict"}};
    char *text = NULL;
    fm_eval_config *cfg;
    FM_TRY(fm_eval_config_new(&cfg));
    fm_status s = FM_OK;
    for (int i = 0; i < 8 && s == FM_OK; i += 2) {
        s = fm_options_set(cfg, fm_eval_options(), task[variant][i], task[variant][i + 1], "test");
    }
    const char *const own[] = {"model", sub("plain"), "max_samples", "3",     "bootstrap",
                               "5",     "threads",    "1",           "dtype", "f32"};
    for (size_t i = 0; i < FM_ARRAY_LEN(own) && s == FM_OK; i += 2) {
        s = fm_options_set(cfg, fm_eval_options(), own[i], own[i + 1], "test");
    }
    s = s == FM_OK ? fm_eval_run(cfg, &text) : s;
    if (s == FM_OK) { /* without the times */
        const char *end = strstr(text, "\"efficiency\"");
        *sum = fm_hash64(text, (size_t)(end - text), 0);
    }
    fm_string_free(text);
    fm_eval_config_free(cfg);
    return s;
}

static void test_memory(void **state) {
    (void)state;
    failures_check(&(failures_work){.name = "eval", .run = failing_run, .n_variants = 3});
}

/* What data steps get from models: the sum that logits of the same tokens give, in pieces where the context is short.
 */
static void test_data_models(void **state) {
    static const char *const names[] = {"plain", "bos", "short"};
    (void)state;
    fm_data_use_models();
    const fm_data_models *k = fm_data_get_models();
    char text[2000] = "";
    for (int i = 0; strlen(text) < 400; i++) {
        snprintf(text + strlen(text), sizeof text - strlen(text), "Sentence %d of a text, and 中文. ", i * 7);
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        void *judge;
        fm_model *m;
        const fm_tokenizer *t;
        fm_tokens got = {0};
        fm_model_options o = {.size = sizeof o, .threads = 2};
        double nats, want = 0;
        int64_t n;
        assert_int_equal(k->open(&judge, sub(names[i]), 2, true), FM_OK);
        assert_int_equal(fm_model_open(&m, sub(names[i]), &o), FM_OK);
        assert_int_equal(fm_model_tokenizer(&t, m), FM_OK);
        assert_int_equal(fm_tokenizer_encode(&got, t, text, strlen(text), NULL), FM_OK);
        int32_t all[1024], len = 0, piece = strcmp(names[i], "short") == 0 ? 96 : 512, pieces = 0;
        if (fm_tokenizer_bos(t) >= 0) {
            all[len++] = fm_tokenizer_bos(t);
        }
        assert_true(got.n > 100 && got.n < 500);
        memcpy(all + len, got.ids, got.n * sizeof *all);
        len += (int32_t)got.n;
        for (int32_t at = 0; at + 1 < len; at += piece - 1, pieces++) {
            bool greedy;
            const fm_ll_seq cont = {all + at + 1, FM_MIN(piece, len - at) - 1};
            const fm_ll_item item = {.context = all + at, .n_context = 1, .cont = &cont, .n_cont = 1};
            want -= direct(m, &item, 0, &greedy);
        }
        assert_true((pieces > 1) == (piece == 96));
        assert_int_equal(k->loss(judge, fm_sv_of(text), &nats, &n), FM_OK);
        assert_int_equal(n, len - 1);
        assert_true(fabs(nats - want) < 1e-5 * want);
        assert_int_equal(k->loss(judge, fm_sv_of(""), &nats, &n), FM_OK);
        assert_true(n == 0 && nats == 0);
        const float *v;
        float own[1024];
        int32_t width;
        const fm_encode_options special = {.size = sizeof special, .add_special = true};
        got.n = 0;
        assert_int_equal(fm_tokenizer_encode(&got, t, text, strlen(text), &special), FM_OK);
        const int32_t offsets[2] = {0, (int32_t)FM_MIN((int64_t)got.n, (int64_t)m->cfg.max_position)};
        const fm_texts one = {.size = sizeof one, .ids = got.ids, .offsets = offsets, .n = 1};
        assert_int_equal(k->embed(judge, fm_sv_of(text), &v, &width), FM_OK);
        assert_int_equal(width, m->cfg.d_model);
        assert_true(width <= 1024);
        assert_int_equal(fm_model_embed(m, &one, NULL, own), FM_OK);
        assert_memory_equal(v, own, (size_t)width * sizeof *v);
        fm_tokens_free(&got);
        fm_model_close(m);
        k->close(judge);
    }
    void *judge;
    assert_int_not_equal(k->open(&judge, "/nowhere/at/all", 1, true), FM_OK);
    assert_null(judge);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        write_all(argv[2]);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_likelihood), cmocka_unit_test(test_golden), cmocka_unit_test(test_filters),
        cmocka_unit_test(test_bootstrap),  cmocka_unit_test(test_slices), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_consensus),  cmocka_unit_test(test_memory), cmocka_unit_test(test_data_models),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
