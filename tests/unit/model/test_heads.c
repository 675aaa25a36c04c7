/* Heads, encoders and the decoders with layer norm against transformers (tests/golden/make_heads.py): outputs, losses,
 * gradients, configs that must change them, and what is written again. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "model/model.h"

#define DATA       FM_SOURCE_DIR "/tests/golden/data/heads/"
#define MAX_TOKENS 64

static const char *const cases[] = {
    "bert",         "bert_mlm",       "bert_cls",       "bert_multi",     "bert_reg", "bert_tag",
    "mobilebert",   "mobilebert_mlm", "mobilebert_cls", "mobilebert_tag", "gpt2",     "gpt2_scaled",
    "gpt2_base",    "gpt2_cls",       "bloom",          "bloom_tag",      "mpt",      "llama_base",
    "llama_reward", "llama_tag",      "qwen2_cls",      "qwen2_mixed",
};

typedef struct golden {
    fm_safetensors *st;
    fm_batch b;
    int32_t pos[MAX_TOKENS];
    const float *out, *hidden, *loss;
    int64_t rows, columns, width;
    int64_t n_trained;
} golden;

static void ok(fm_status s) {
    if (s != FM_OK) {
        fail_msg("%s: %s (%s:%d)", fm_status_name(s), fm_error_get().message, fm_error_get().file, fm_error_get().line);
    }
}

static const fm_st_tensor *find(const golden *g, const char *name) {
    return fm_safetensors_find(g->st, name);
}

static void open_golden(golden *g, const char *name) {
    char path[512];
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, DATA "%s/golden", name);
    ok(fm_safetensors_open(&g->st, path));
    const fm_st_tensor *ids = find(g, "ids"), *off = find(g, "offsets"), *out = find(g, "out");
    g->b = (fm_batch){.n_tokens = (int32_t)ids->dims[0],
                      .n_segments = (int32_t)off->dims[0] - 1,
                      .ids = (const int32_t *)(const void *)ids->data,
                      .types = (const int32_t *)(const void *)find(g, "types")->data,
                      .q_offsets = (const int32_t *)(const void *)off->data,
                      .pos = g->pos};
    assert_true(g->b.n_tokens <= MAX_TOKENS);
    for (int32_t s = 0; s < g->b.n_segments; s++) {
        for (int32_t t = g->b.q_offsets[s]; t < g->b.q_offsets[s + 1]; t++) {
            g->pos[t] = t - g->b.q_offsets[s];
        }
    }
    g->rows = out->dims[0];
    g->columns = out->dims[1];
    g->out = (const float *)(const void *)out->data;
    g->hidden = (const float *)(const void *)find(g, "hidden")->data;
    g->width = find(g, "hidden")->dims[1];
    const fm_st_tensor *labels = find(g, "labels"), *values = find(g, "values"), *loss = find(g, "loss");
    g->loss = loss ? (const float *)(const void *)loss->data : NULL;
    g->n_trained = g->rows;
    if (labels) {
        const int32_t *l = (const int32_t *)(const void *)labels->data;
        g->b.labels = g->b.targets = l;
        for (int64_t i = 0; i < g->rows; i++) {
            g->n_trained -= l[i] < 0;
        }
    }
    g->b.values = values ? (const float *)(const void *)values->data : NULL;
}

static fm_ctx *context(fm_dtype compute) {
    fm_ctx *c;
    fm_ctx_options o = {.size = sizeof o,
                        .backend = fm_cpu_backend(),
                        .compute = compute,
                        .arena_bytes = 16 << 20,
                        .grad_bytes = 16 << 20};
    ok(fm_ctx_new(&c, &o));
    return c;
}

/* Largest difference over the largest reference value of a row, at worst; HUGE_VAL when a row's top differs. */
static double rule(const float *got, const float *want, int64_t rows, int64_t columns) {
    double worst = 0;
    for (int64_t r = 0; r < rows; r++) {
        double diff = 0, top = 0;
        int64_t a = 0, b = 0;
        for (int64_t j = 0; j < columns; j++) {
            double g = (double)got[r * columns + j], w = (double)want[r * columns + j];
            diff = fmax(diff, fabs(g - w));
            top = fmax(top, fabs(w));
            a = got[r * columns + j] > got[r * columns + a] ? j : a;
            b = want[r * columns + j] > want[r * columns + b] ? j : b;
        }
        worst = fmax(worst, a == b ? diff / fmax(top, 1e-3) : HUGE_VAL);
    }
    return worst;
}

/* The first head's output of the packed texts; of a model without a head its hidden states. HUGE_VAL when it does not
 * open. */
static double difference(const char *dir, const golden *g, fm_dtype dtype, bool hidden) {
    fm_model *m;
    if (fm_model_load(&m, dir, true, FM_F32) != FM_OK) {
        return HUGE_VAL;
    }
    fm_ctx *c = context(dtype);
    fm_tensor *h = fm_model_forward(c, m, &g->b);
    fm_tensor *y = hidden || m->cfg.head.kind == FM_HEAD_NONE ? h : fm_head_scores(c, m, 0, h, &g->b);
    double d = HUGE_VAL;
    if (y) {
        int64_t n = fm_numel(y), rows = hidden ? g->b.n_tokens : g->rows, columns = hidden ? g->width : g->columns;
        assert_int_equal(n, rows * columns);
        float *got = malloc((size_t)n * sizeof *got);
        assert_non_null(got);
        for (int64_t i = 0; i < n; i++) {
            got[i] = (float)fm_load_as_f64(y->dtype, fm_data(c, y), i);
        }
        d = rule(got, hidden ? g->hidden : g->out, rows, columns);
        free(got);
    }
    fm_ctx_free(c);
    fm_model_close(m);
    return d;
}

static void test_same_outputs(void **state) {
    (void)state;
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        char dir[512];
        golden g;
        open_golden(&g, cases[i]);
        snprintf(dir, sizeof dir, DATA "%s", cases[i]);
        double out = difference(dir, &g, FM_F32, false);
        if (!(out <= 1e-4)) {
            print_error("%s: %s\n", cases[i], fm_error_get().message);
        }
        double hidden = difference(dir, &g, FM_F32, true);
        print_message("%-16s out %.2e hidden %.2e\n", cases[i], out, hidden);
        assert_true(out <= 1e-4);
        assert_true(hidden <= 1e-4);
        fm_safetensors_close(g.st);
    }
}

/* ---- losses and gradients -------------------------------------------------------------------- */

static double check_gradient(const fm_param *p, const fm_safetensors *st) {
    char name[256];
    snprintf(name, sizeof name, "grad.%s", p->name);
    const fm_st_tensor *t = fm_safetensors_find(st, name);
    if (!t || !p->grad_written) {
        return (t != NULL) == p->grad_written ? 0 : HUGE_VAL;
    }
    const float *want = (const float *)(const void *)t->data, *got = p->grad;
    double diff = 0, top = 1e-2; /* that of a key's bias is zero but for rounding */
    for (int64_t i = 0; i < p->numel; i++) {
        int64_t at = p->file_transposed ? i % p->dim[1] * p->dim[0] + i / p->dim[1] : i;
        diff = fmax(diff, fabs((double)got[i] - (double)want[at]));
        top = fmax(top, fabs((double)want[at]));
    }
    return diff / top;
}

static void one_loss(const char *name, bool recompute, bool by_rows) {
    char dir[512];
    golden g;
    fm_model *m;
    open_golden(&g, name);
    snprintf(dir, sizeof dir, DATA "%s", name);
    ok(fm_model_load(&m, dir, false, FM_F32));
    ok(fm_params_alloc_grads(m->params));
    m->checkpoint_layers = recompute;
    /* Dropout must not act outside training; the saved folders ask for some. */
    fm_ctx *c = context(FM_F32);
    fm_tape_begin(c);
    fm_params_begin_step(m->params);
    int32_t rows[MAX_TOKENS], targets[MAX_TOKENS];
    if (by_rows) { /* the same loss from the rows that carry it, in another order */
        for (int32_t t = g.b.n_tokens - 1; t >= 0; t--) {
            if (g.b.targets[t] >= 0) {
                rows[g.b.n_rows] = t;
                targets[g.b.n_rows++] = g.b.targets[t];
            }
        }
        g.b.rows = rows;
        g.b.targets = targets;
    }
    fm_loss_options o = {.ignore_index = -100, .scale = 1.0 / (double)g.n_trained, .is_root = true};
    fm_tensor *token_loss = NULL, *l = fm_model_loss(c, m, &g.b, &o, &token_loss);
    ok(fm_ctx_status(c));
    double v = (double)*(const float *)fm_data(c, l), sum = 0;
    for (int64_t i = 0; i < fm_numel(token_loss); i++) {
        sum += (double)((const float *)fm_data(c, token_loss))[i];
    }
    assert_true(fabs(sum * o.scale - v) <= 1e-5 * fabs(v));
    ok(fm_backward(c, l, 1));
    double worst = 0;
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i);
        /* A layer that MobileBERT keeps and does not use has no gradient there either. */
        double d = p->tie ? 0 : check_gradient(p, g.st);
        if (d > 2e-4) {
            print_error("%s %s: gradient differs by %g\n", name, p->name, d);
        }
        worst = fmax(worst, d);
    }
    print_message("%-16s loss %.6f (%.6f) gradients %.2e\n", name, v, (double)*g.loss, worst);
    assert_true(fabs(v - (double)*g.loss) <= 2e-5 * fabs((double)*g.loss));
    assert_true(worst <= 2e-4);
    fm_ctx_free(c);
    fm_model_close(m);
    fm_safetensors_close(g.st);
}

static void test_losses(void **state) {
    (void)state;
    int n = 0;
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        golden g;
        open_golden(&g, cases[i]);
        bool has = g.loss != NULL;
        fm_safetensors_close(g.st);
        if (has) {
            one_loss(cases[i], i % 2 == 1, false);
            n++;
        }
    }
    assert_int_equal(n, 17);
    one_loss("bert_mlm", false, true);
    one_loss("mobilebert_mlm", true, true);
    one_loss("gpt2", false, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_outputs),
        cmocka_unit_test(test_losses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
