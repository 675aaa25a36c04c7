/* A new column beside a model: what the model knew it still says bit for bit, the new rows are learned, and gradients,
 * caches, recomputation and resuming are those of any other model. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "learn_fixture.h"
#include "task_rows.h"

#include "backend/cpu/cpu.h"
#include "model/columns.h"

static char base[300];

static int setup(void **state) {
    if (fx_setup(state) != 0) {
        return -1;
    }
    snprintf(base, sizeof base, "%s/base", fx_top);
    fx_ok(fx_run((const char *[]){"output_dir", base, "max_steps", "40", "learning_rate", "1e-2", NULL}, NULL, NULL));
    return 0;
}

#define PROGRESSIVE                                                                                                    \
    "finetuning_type", "progressive", "train_from_scratch", "false", "model_name_or_path", base, "learning_rate",      \
        "1e-2", "progressive_width", "16"

enum { LENGTH = 24, MOST = 300 };
static int32_t vocab;

static void logits_of(float *out, const char *path, int column) {
    fm_model *m;
    int32_t ids[LENGTH];
    fm_model_options o = {.size = sizeof o, .threads = 1, .column = column};
    for (int i = 0; i < LENGTH; i++) {
        ids[i] = (i * 37 + 11) % 280;
    }
    fx_ok(fm_model_open(&m, path, &o));
    vocab = m->cfg.vocab_size;
    assert_true(vocab <= MOST);
    fx_ok(fm_model_logits(m, ids, LENGTH, out));
    fm_model_close(m);
}

static float *new_logits(void) {
    float *x = malloc(sizeof *x * LENGTH * MOST);
    assert_non_null(x);
    return x;
}

#define SAME(x, y)   assert_memory_equal(x, y, sizeof(float) * LENGTH * (size_t)vocab)
#define DIFFER(x, y) assert_memory_not_equal(x, y, sizeof(float) * LENGTH * (size_t)vocab)

/* Two columns more, one after the other: every earlier one says what it said. */
static void test_earlier_columns_stay(void **state) {
    (void)state;
    float *x = new_logits(), *y = new_logits(), *second = new_logits();
    char two[300];
    static fx_log log, plain;
    fx_ok(fx_run((const char *[]){PROGRESSIVE, NULL}, &log, NULL));
    logits_of(x, base, 0);
    logits_of(y, fx_out, 1);
    SAME(x, y);
    logits_of(second, fx_out, 0);
    DIFFER(x, second);
    logits_of(y, fx_out, 2);
    SAME(second, y);
    snprintf(two, sizeof two, "%s/two", fx_top);
    fx_ok(fm_remove_tree(two));
    fx_ok(fm_rename_dir(fx_out, two));
    fx_ok(fx_run((const char *[]){PROGRESSIVE, "model_name_or_path", two, "progressive_layers", "1",
                                  "progressive_lateral", "5", "progressive_width", "24", NULL},
                 NULL, NULL));
    logits_of(y, fx_out, 1);
    SAME(x, y);
    logits_of(y, fx_out, 2);
    SAME(second, y);
    logits_of(y, fx_out, 3);
    DIFFER(second, y);
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .threads = 1, .column = 4};
    assert_int_equal(fm_model_open(&m, fx_out, &o), FM_ERR_ARGUMENT);
    /* A cache holds all columns; the answer is the same without it. */
    for (o.column = 1; o.column <= 3; o.column++) {
        fx_ok(fm_model_open(&m, fx_out, &o));
        fx_same_generation(m);
        fm_model_close(m);
    }
    /* Before its first step a new column answers as the model does. */
    fx_clean();
    fx_ok(fx_run((const char *[]){PROGRESSIVE, "finetuning_type", "full", "max_steps", "1", NULL}, &plain, NULL));
    assert_true(fabs(plain.loss[1] - log.loss[1]) < 1e-5 && log.loss[12] < 0.98 * log.loss[1]);
    free(x);
    free(y);
    free(second);
}

/* Along its gradient the loss rises as the gradient says, for every parameter of the newest of two columns. */
static void test_gradient(void **state) {
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        fm_model_config cfg;
        const fm_family *family;
        fm_model *m;
        fm_ctx *c;
        fm_pool *pool;
        char path[300];
        snprintf(path, sizeof path, "%s/model", fx_top);
        fx_ok(fm_model_config_load(&cfg, &family, path));
        fx_ok(fm_columns_add(&cfg, 16, 0, 0));
        fx_ok(fm_columns_add(&cfg, 24, 1, 7));
        fx_ok(fm_model_build(&m, &cfg));
        for (int i = 0; i < fm_params_count(m->params); i++) {
            fm_param *p = fm_params_at(m->params, i);
            p->frozen = !fm_is_column_param(p, 2);
            p->init = p->init == FM_INIT_ZEROS ? FM_INIT_NORMAL : p->init;
            p->init_std = p->n_dims == 2 ? 0.2 : 0.02;
        }
        fx_ok(fm_params_alloc(m->params, FM_F32));
        fx_ok(fm_pool_new(&pool, 1));
        fx_ok(fm_params_init(m->params, 7, pool));
        fx_ok(fm_params_alloc_grads(m->params));
        m->checkpoint_layers = recompute;
        fm_ctx_options co = {.size = sizeof co,
                             .backend = fm_cpu_backend(),
                             .pool = pool,
                             .compute = FM_F32,
                             .arena_bytes = 64 << 20,
                             .grad_bytes = 64 << 20};
        fx_ok(fm_ctx_new(&c, &co));
        int32_t ids[20], pos[20], targets[20], ends[3] = {0, 13, 20};
        for (int i = 0; i < 20; i++) {
            ids[i] = (i * 13 + 5) % 300;
            pos[i] = i < 13 ? i : i - 13;
            targets[i] = (i * 29 + 1) % 300;
        }
        fm_batch b = {.n_tokens = 20, .n_segments = 2, .ids = ids, .pos = pos, .q_offsets = ends, .targets = targets};
        fm_loss_options o = {.ignore_index = -100, .scale = 1.0 / 20};
        fm_params_begin_step(m->params);
        fm_tape_begin(c);
        fm_tensor *loss = fm_model_loss(c, m, &b, &o, NULL);
        fx_ok(fm_ctx_status(c));
        fx_ok(fm_backward(c, loss, 1.0));
        int n = 0;
        for (int i = 0; i < fm_params_count(m->params); i++) {
            fm_param *p = fm_params_at(m->params, i);
            if (p->frozen) {
                assert_false(p->grad_written);
                continue;
            }
            n++;
            assert_true(p->grad_written);
            const float *g = p->grad;
            float *w = p->data;
            double norm = 0, at[2];
            for (int64_t j = 0; j < p->numel; j++) {
                norm += (double)g[j] * (double)g[j];
            }
            assert_true(norm > 0);
            double step = 3e-3 / sqrt(norm);
            for (int side = 0; side < 2; side++) {
                for (int64_t j = 0; j < p->numel; j++) {
                    w[j] += (float)((side ? -2 : 1) * step * (double)g[j]);
                }
                fm_param_changed(p);
                fm_tape_off(c);
                fm_ctx_reset(c);
                fm_tensor *y = fm_model_loss(c, m, &b, &o, NULL);
                fx_ok(fm_ctx_status(c));
                at[side] = (double)*(const float *)fm_data(c, y);
            }
            for (int64_t j = 0; j < p->numel; j++) {
                w[j] += (float)(step * (double)g[j]);
            }
            fm_param_changed(p);
            double slope = (at[0] - at[1]) / (2 * step), error = 4e-7 * fabs(at[0]) / step;
            if (!(fabs(slope - norm) <= 0.02 * norm + error)) {
                fail_msg("%s: slope %g, gradient says %g", p->name, slope, norm);
            }
        }
        assert_true(n > 15);
        fm_ctx_free(c);
        fm_pool_free(pool);
        fm_model_close(m);
    }
}

static void hash_of(char out[33]) {
    char path[400];
    snprintf(path, sizeof path, "%s/model.safetensors", fx_out);
    fx_ok(fm_file_hash(out, path));
}

static void test_resume(void **state) {
    (void)state;
    char want[33], got[33], path[400];
    fx_ok(fx_run((const char *[]){PROGRESSIVE, "dropout", "0.1", "save_steps", "6", NULL}, NULL, NULL));
    hash_of(want);
    snprintf(path, sizeof path, "%s/checkpoint-12", fx_out);
    fx_ok(fm_remove_tree(path));
    fx_ok(fx_run((const char *[]){PROGRESSIVE, "dropout", "0.1", "save_steps", "6", "resume_from_checkpoint", "true",
                                  "threads", "1", NULL},
                 NULL, NULL));
    hash_of(got);
    assert_string_equal(want, got);
    fx_clean();
    fx_ok(
        fx_run((const char *[]){PROGRESSIVE, "dropout", "0.1", "save_steps", "6", "gradient_checkpointing", "on", NULL},
               NULL, NULL));
    hash_of(got);
    assert_string_equal(want, got);
}

/* A head by name on the new column; what was there answers as before. */
static void test_task(void **state) {
    (void)state;
    static fx_log log;
    float *x = new_logits(), *y = new_logits();
    write_file("rows.jsonl", 0, 200, 1U << WHO, names);
    write_file("test.jsonl", 200, 240, 1U << WHO, names);
    fx_ok(run("who=cls", "%s/rows.jsonl",
              (const char *[]){PROGRESSIVE, "max_steps", "120", "logging_steps", "1000", NULL}, &log, NULL));
    double who = fx_metric(&log, "eval_who_accuracy");
    if (!(who > 0.9)) {
        fail_msg("accuracy %g", who);
    }
    logits_of(x, base, 0);
    logits_of(y, fx_out, 1);
    SAME(x, y);
    free(x);
    free(y);
}

static void expect(fm_status want, const char *part, fm_status s) {
    if (s != want || !strstr(fm_error_get().message, part)) {
        fail_msg("%s: %s", fm_status_name(s), fm_error_get().message);
    }
}

static void test_refused(void **state) {
    (void)state;
    char two[300];
    expect(FM_ERR_CONFIG, "rounded", fx_run((const char *[]){PROGRESSIVE, "precision", "bf16", NULL}, NULL, NULL));
    expect(FM_ERR_CONFIG, "progressive_layers",
           fx_run((const char *[]){PROGRESSIVE, "progressive_layers", "3", NULL}, NULL, NULL));
    write_file("rows.jsonl", 0, 20, 1U << WHO, names);
    write_file("test.jsonl", 20, 30, 1U << WHO, names);
    snprintf(two, sizeof two, "%s/rows.jsonl", fx_top);
    expect(FM_ERR_UNSUPPORTED, "replaces the head",
           fx_run((const char *[]){PROGRESSIVE, "stage", "cls", "dataset", two, NULL}, NULL, NULL));
    expect(FM_ERR_CONFIG, "trained weights",
           fx_run((const char *[]){PROGRESSIVE, "train_from_scratch", "true", NULL}, NULL, NULL));
    fx_clean();
    fx_ok(run("who=cls", "%s/rows.jsonl", (const char *[]){PROGRESSIVE, "max_steps", "2", NULL}, NULL, NULL));
    snprintf(two, sizeof two, "%s/head", fx_top);
    fx_ok(fm_rename_dir(fx_out, two));
    expect(FM_ERR_CONFIG, "another name",
           run("who=cls", "%s/rows.jsonl", (const char *[]){PROGRESSIVE, "model_name_or_path", two, NULL}, NULL, NULL));
    expect(
        FM_ERR_UNSUPPORTED, "2 progressive columns",
        fx_run((const char *[]){PROGRESSIVE, "model_name_or_path", two, "finetuning_type", "lora", NULL}, NULL, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_earlier_columns_stay, fx_fresh),
                                       cmocka_unit_test(test_gradient), cmocka_unit_test_setup(test_resume, fx_fresh),
                                       cmocka_unit_test_setup(test_task, fx_fresh),
                                       cmocka_unit_test_setup(test_refused, fx_fresh)};
    return cmocka_run_group_tests(tests, setup, fx_teardown);
}
