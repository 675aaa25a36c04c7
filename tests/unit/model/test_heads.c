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

/* ---- configs ------------------------------------------------------------------------------------- */

static fm_json *config_of(const char *name) {
    char path[512];
    fm_json *j;
    snprintf(path, sizeof path, DATA "%s/config.json", name);
    ok(fm_json_load(&j, path));
    return j;
}

/* A copy of a case with another config.json. */
static void edited(char dir[64], const char *name, const fm_json *config) {
    char path[600], target[600];
    snprintf(dir, 64, "/tmp/fathom_heads_XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    fm_str text = {0};
    ok(fm_json_dump(&text, config, 2));
    ok(fm_file_write_atomic(path, text.data, text.len));
    fm_str_free(&text);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    snprintf(target, sizeof target, DATA "%s/model.safetensors", name);
    assert_int_equal(symlink(target, path), 0);
}

static fm_status set_member(void *arg, const char *key, fm_json *value) {
    fm_str text = {0};
    fm_json *copy;
    ok(fm_json_dump(&text, value, 0));
    /* One value in a list, as a document must be one. */
    fm_str list = {0};
    fm_str_printf(&list, "[%s]", text.data);
    ok(fm_json_parse(&copy, list.data, list.len, key));
    fm_str_free(&text);
    fm_str_free(&list);
    fm_json *one = fm_json_at(copy, 0), *made = fm_json_is_string(one)   ? fm_json_new_str(fm_json_str(one, NULL))
                                                : fm_json_is_bool(one)   ? fm_json_new_bool(fm_json_bool(one, false))
                                                : fm_json_is_number(one) ? fm_json_new_num(fm_json_num(one, 0))
                                                                         : NULL;
    if (fm_json_is_number(one) && floor(fm_json_num(one, 0)) == fm_json_num(one, 0)) {
        fm_json_free(made);
        made = fm_json_new_int(fm_json_int(one, 0));
    }
    if (fm_json_is_array(one)) { /* of texts */
        made = fm_json_new_array();
        for (size_t i = 0; i < fm_json_size(one); i++) {
            ok(fm_json_append(made, fm_json_new_str(fm_json_str(fm_json_at(one, i), NULL))));
        }
    }
    fm_json_free(copy);
    return fm_json_set(arg, key, made);
}

static fm_json *changed(const char *name, const char *edit) {
    fm_json *config = config_of(name), *change;
    ok(fm_json_parse(&change, edit, strlen(edit), "edit"));
    ok(fm_json_each(change, set_member, config));
    fm_json_free(change);
    return config;
}

/* Every key that alters the mathematics does. */
static void test_edited_configs_differ(void **state) {
    (void)state;
    static const char *const edits[][2] = {
        {"bert", "{\"layer_norm_eps\":1e-3}"},
        {"bert", "{\"hidden_act\":\"gelu_new\"}"},
        {"bert", "{\"num_attention_heads\":1}"},
        {"bert_mlm", "{\"hidden_act\":\"relu\"}"},
        {"bert_reg", "{\"hidden_act\":\"gelu\"}"},
        {"mobilebert", "{\"hidden_act\":\"gelu\"}"},
        {"mobilebert", "{\"num_attention_heads\":1}"},
        {"mobilebert", "{\"normalization_type\":\"layer_norm\"}"},
        {"mobilebert_mlm", "{\"layer_norm_eps\":1e-2}"},
        {"mobilebert_cls", "{\"layer_norm_eps\":1e-5}"},
        {"mobilebert_cls", "{\"normalization_type\":\"no_norm\"}"},
        {"mobilebert_tag", "{\"hidden_act\":\"relu\"}"},
        {"gpt2", "{\"activation_function\":\"gelu\"}"},
        {"gpt2", "{\"layer_norm_epsilon\":1e-3}"},
        {"gpt2", "{\"n_head\":1}"},
        {"gpt2", "{\"scale_attn_weights\":false}"},
        {"gpt2", "{\"scale_attn_by_inverse_layer_idx\":true}"},
        {"gpt2_scaled", "{\"scale_attn_weights\":true}"},
        {"gpt2_scaled", "{\"scale_attn_by_inverse_layer_idx\":false}"},
        {"gpt2_scaled", "{\"activation_function\":\"silu\"}"},
        {"bloom", "{\"n_head\":2}"},
        {"bloom", "{\"layer_norm_epsilon\":1e-3}"},
        {"mpt", "{\"n_heads\":4}"},
        {"mpt", "{\"layer_norm_epsilon\":1e-3}"},
        {"llama_reward", "{\"rms_norm_eps\":1e-3}"},
        {"qwen2_mixed", "{\"sliding_window\":6}"},
        {"qwen2_mixed", "{\"layer_types\":[\"full_attention\",\"sliding_attention\",\"sliding_attention\","
                        "\"full_attention\"]}"},
        {"qwen2_mixed", "{\"layer_types\":[\"sliding_attention\",\"full_attention\",\"sliding_attention\","
                        "\"sliding_attention\"]}"},
        {"qwen2_mixed", "{\"use_sliding_window\":false}"},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(edits); i++) {
        char dir[64];
        golden g;
        open_golden(&g, edits[i][0]);
        fm_json *config = changed(edits[i][0], edits[i][1]);
        edited(dir, edits[i][0], config);
        fm_model *m;
        ok(fm_model_load(&m, dir, true, FM_F32)); /* it opens; a difference is one of the outputs */
        fm_model_close(m);
        double d = difference(dir, &g, FM_F32, false);
        if (!(d > 1e-4)) {
            print_error("%s %s: difference %g\n", edits[i][0], edits[i][1], d);
        }
        assert_true(d > 1e-4);
        ok(fm_remove_tree(dir));
        fm_json_free(config);
        fm_safetensors_close(g.st);
    }
}

/* What would change the mathematics in a way that is not supported is refused by name. */
static void test_refused_configs(void **state) {
    (void)state;
    static const char *const edits[][3] = {
        {"bert", "{\"position_embedding_type\":\"relative_key\"}", "position_embedding_type"},
        {"bert", "{\"is_decoder\":true}", "is_decoder"},
        {"bert", "{\"num_attention_heads\":3}", "hidden_size"},
        {"bert", "{\"type_vocab_size\":0}", "type_vocab_size"},
        {"bert_cls", "{\"problem_type\":\"ranking\"}", "problem_type"},
        {"bert_cls", "{\"num_labels\":0}", "num_labels"},
        {"bert_cls", "{\"num_labels\":7}", "id2label"},
        {"mobilebert", "{\"normalization_type\":\"batch_norm\"}", "normalization_type"},
        {"mobilebert", "{\"key_query_shared_bottleneck\":false}", "key_query_shared_bottleneck"},
        {"mobilebert", "{\"embedding_size\":99}", "embedding_size"},
        {"mobilebert", "{\"num_feedforward_networks\":0}", "num_feedforward_networks"},
        {"mobilebert", "{\"intra_bottleneck_size\":7}", "intra_bottleneck_size"},
        {"gpt2", "{\"add_cross_attention\":true}", "add_cross_attention"},
        {"gpt2", "{\"activation_function\":\"mish\"}", "activation_function"},
        {"gpt2", "{\"n_head\":3}", "heads"},
        {"bloom", "{\"apply_residual_connection_post_layernorm\":true}", "apply_residual_connection_post_layernorm"},
        {"mpt", "{\"no_bias\":false}", "no_bias"},
        {"mpt", "{\"expansion_ratio\":2}", "expansion_ratio"},
        {"mpt", "{\"logit_scale\":2}", "logit_scale"},
        {"qwen2_mixed", "{\"layer_types\":[\"full_attention\"]}", "layer_types"},
        {"qwen2_mixed",
         "{\"layer_types\":[\"full_attention\",\"full_attention\",\"chunked_attention\","
         "\"full_attention\"]}",
         "chunked_attention"},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(edits); i++) {
        char dir[64];
        fm_json *config = changed(edits[i][0], edits[i][1]);
        edited(dir, edits[i][0], config);
        fm_model *m;
        fm_status s = fm_model_load(&m, dir, true, FM_F32);
        if (s == FM_OK || !strstr(fm_error_get().message, edits[i][2])) {
            print_error("%s %s: %s\n", edits[i][0], edits[i][1], fm_error_get().message);
        }
        assert_true(s == FM_ERR_CONFIG || s == FM_ERR_UNSUPPORTED);
        assert_non_null(strstr(fm_error_get().message, edits[i][2]));
        ok(fm_remove_tree(dir));
        fm_json_free(config);
    }
}

static void same_config(const fm_model *a, const fm_model *b) {
    fm_json *x = fm_json_new_object(), *y = fm_json_new_object();
    fm_str tx = {0}, ty = {0};
    ok(a->family->write(&a->cfg, x));
    ok(fm_heads_write(&a->cfg, x));
    ok(b->family->write(&b->cfg, y));
    ok(fm_heads_write(&b->cfg, y));
    ok(fm_json_dump(&tx, x, 0));
    ok(fm_json_dump(&ty, y, 0));
    assert_string_equal(tx.data, ty.data);
    fm_str_free(&tx);
    fm_str_free(&ty);
    fm_json_free(x);
    fm_json_free(y);
}

/* What we write again means the same model, bit for bit; also from allocated masters. */
static void test_saved_again(void **state) {
    (void)state;
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        char dir[64] = "/tmp/fathom_heads_XXXXXX", from[512];
        golden g;
        fm_model *m, *back;
        open_golden(&g, cases[i]);
        snprintf(from, sizeof from, DATA "%s", cases[i]);
        assert_non_null(mkdtemp(dir));
        ok(fm_model_load(&m, from, i % 2 == 0, FM_F32));
        ok(fm_model_save(m, dir, FM_F32, 0));
        ok(fm_model_load(&back, dir, true, FM_F32));
        same_config(m, back);
        assert_int_equal(fm_params_count(m->params), fm_params_count(back->params));
        for (int k = 0; k < fm_params_count(m->params); k++) {
            const fm_param *p = fm_params_at(m->params, k), *q = fm_params_at(back->params, k);
            assert_string_equal(p->name, q->name);
            if (!p->tie) {
                assert_memory_equal(p->data, q->data, (size_t)p->numel * 4);
            }
        }
        fm_model_close(back);
        fm_model_close(m);
        assert_true(difference(dir, &g, FM_F32, false) <= 1e-4);
        ok(fm_remove_tree(dir));
        fm_safetensors_close(g.st);
    }
}

/* A head more on the trunk of another: its scores, loss and gradients; saved and read by name. */
static void named_heads(const char *family, bool encoder) {
    char dir[64] = "/tmp/fathom_heads_XXXXXX", from[512];
    golden g;
    fm_model_config cfg;
    const fm_family *f;
    fm_model *m, *back;
    open_golden(&g, family);
    snprintf(from, sizeof from, DATA "%s", family);
    ok(fm_model_config_load(&cfg, &f, from));
    cfg.hidden_dropout = cfg.attention_dropout = cfg.embedding_dropout = 0;
    cfg.init_std = 0.3; /* away from the kinks of relu */
    cfg.more_heads[0] = (fm_head_config){.name = "topic", .kind = FM_HEAD_TEXT, .n_labels = 3};
    cfg.more_heads[1] =
        (fm_head_config){.name = "value", .kind = FM_HEAD_TOKEN, .problem = FM_PROBLEM_REGRESSION, .n_labels = 1};
    cfg.n_more_heads = 2;
    ok(fm_model_build(&m, &cfg));
    ok(fm_params_alloc(m->params, FM_F64));
    ok(fm_params_init(m->params, 7, NULL));
    ok(fm_params_alloc_grads(m->params));
    assert_int_equal(fm_head_find(m, "topic"), 1);
    assert_int_equal(fm_head_find(m, "value"), 2);
    assert_int_equal(fm_head_find(m, NULL), 0);
    assert_int_equal(fm_head_find(m, "none"), -1);
    assert_non_null(fm_params_find(m->params, "heads.topic.weight"));
    assert_true((fm_params_find(m->params, "heads.topic.pooler.dense.weight") != NULL) == encoder);
    fm_ctx *c = context(FM_F64);
    int32_t labels[8] = {2, 0, 1, 0, 2, 1, 0, 1};
    float values[MAX_TOKENS];
    for (int32_t t = 0; t < g.b.n_tokens; t++) {
        values[t] = t % 4 == 3 ? NAN : 0.1f * (float)(t % 7) - 0.2f;
    }
    g.b.labels = labels;
    g.b.values = values;
    for (int head = 1; head <= 2; head++) {
        g.b.head = head;
        fm_loss_options o = {.ignore_index = -100, .scale = 0.3, .is_root = true};
        fm_tape_begin(c);
        fm_params_begin_step(m->params);
        fm_tensor *l = fm_model_loss(c, m, &g.b, &o, NULL);
        ok(fm_ctx_status(c));
        ok(fm_backward(c, l, 1));
        fm_tape_off(c);
        for (int i = 0; i < fm_params_count(m->params); i++) {
            fm_param *p = fm_params_at(m->params, i);
            bool mine = strncmp(p->name, head == 1 ? "heads.topic" : "heads.value", 11) == 0;
            if (p->tie || (i >= m->n_trunk && !mine)) {
                assert_true(p->tie || !p->grad_written);
                continue;
            }
            double *w = (double *)p->data + p->numel / 2, old = *w, h = 1e-6, v[2];
            for (int side = 0; side < 2; side++) {
                *w = side ? old - h : old + h;
                fm_param_changed(p);
                fm_ctx_reset(c);
                fm_tensor *y = fm_model_loss(c, m, &g.b, &o, NULL);
                ok(fm_ctx_status(c));
                v[side] = fm_load_as_f64(y->dtype, fm_data(c, y), 0);
            }
            *w = old;
            fm_param_changed(p);
            double want = (v[0] - v[1]) / (2 * h), got = p->grad_written ? ((double *)p->grad)[p->numel / 2] : 0;
            if (fabs(got - want) > 1e-7 * fmax(1, fabs(want))) {
                fail_msg("%s head %d %s: gradient %.9g, differences give %.9g", family, head, p->name, got, want);
            }
        }
    }
    fm_ctx_free(c);
    assert_non_null(mkdtemp(dir));
    ok(fm_model_save(m, dir, FM_F32, 0));
    ok(fm_model_load(&back, dir, true, FM_F32));
    same_config(m, back);
    fm_model_close(back);
    fm_model_close(m);
    ok(fm_remove_tree(dir));
    fm_safetensors_close(g.st);
}

static void test_named_heads(void **state) {
    (void)state;
    named_heads("bert_mlm", true);
    named_heads("mobilebert", true);
    named_heads("gpt2_base", false);
    named_heads("qwen2_cls", false);
}

/* Files of the first releases, and of pretraining with more heads than the model has. */
static void test_older_files(void **state) {
    (void)state;
    char dir[64] = "/tmp/fathom_heads_XXXXXX";
    golden g;
    fm_model *m;
    fm_json *config = config_of("bert_mlm"), *arch = fm_json_new_array();
    open_golden(&g, "bert_mlm");
    ok(fm_model_load(&m, DATA "bert_mlm", false, FM_F32));
    assert_non_null(mkdtemp(dir));
    fm_st_writer *w;
    ok(fm_st_writer_new(&w, dir, NULL));
    float nsp[32] = {0};
    const int64_t nsp_dim[2] = {2, 16};
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < fm_params_count(m->params); i++) {
            const fm_param *p = fm_params_at(m->params, i);
            char name[256];
            const char *at = strstr(p->name, "LayerNorm.");
            snprintf(name, sizeof name, "%s", p->name);
            if (at) {
                snprintf(name, sizeof name, "%.*sLayerNorm.%s", (int)(at - p->name), p->name,
                         strcmp(at, "LayerNorm.weight") == 0 ? "gamma" : "beta");
            }
            if (p->tie) {
                continue;
            }
            ok(pass ? fm_st_writer_put(w, name, 0, p->data, p->numel * 4)
                    : fm_st_writer_declare(w, name, FM_F32, p->n_dims, p->dim));
        }
        ok(pass ? fm_st_writer_put(w, "cls.seq_relationship.weight", 0, nsp, sizeof nsp)
                : fm_st_writer_declare(w, "cls.seq_relationship.weight", FM_F32, 2, nsp_dim));
        if (pass == 0) {
            ok(fm_st_writer_begin(w));
        }
    }
    ok(fm_st_writer_finish(w));
    fm_st_writer_free(w);
    fm_model_close(m);
    ok(fm_json_append(arch, fm_json_new_str("BertForPreTraining")));
    ok(fm_json_set(config, "architectures", arch));
    char path[128];
    fm_str text = {0};
    snprintf(path, sizeof path, "%s/config.json", dir);
    ok(fm_json_dump(&text, config, 2));
    ok(fm_file_write_atomic(path, text.data, text.len));
    assert_true(difference(dir, &g, FM_F32, false) <= 1e-4);
    fm_str_free(&text);
    fm_json_free(config);
    ok(fm_remove_tree(dir));
    fm_safetensors_close(g.st);
}

static void test_patterns(void **state) {
    (void)state;
    fm_model_config cfg = {.n_layers = 5};
    ok(fm_layers_from_pattern(&cfg, "local:local:global", 7));
    static const int32_t want[] = {7, 7, 0, 7, 7};
    for (int32_t l = 0; l < 5; l++) {
        assert_int_equal(fm_layer_window(&cfg, l), want[l]);
    }
    assert_true(fm_layers_mixed(&cfg));
    ok(fm_layers_from_pattern(&cfg, "local", 3));
    assert_false(fm_layers_mixed(&cfg));
    assert_int_equal(fm_layer_window(&cfg, 4), 3);
    assert_int_equal(fm_layers_from_pattern(&cfg, "local:far", 3), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().message, "far"));
    assert_int_equal(fm_layers_from_pattern(&cfg, "", 3), FM_ERR_CONFIG);
    assert_int_equal(fm_layers_from_pattern(&cfg, "local", 0), FM_ERR_CONFIG);
}

static void test_slopes(void **state) {
    (void)state;
    float s[6];
    static const float eight[] = {1 / 2.0f, 1 / 4.0f, 1 / 8.0f, 1 / 16.0f},
                       six[] = {0.25f, 0.0625f, 0.015625f, 0.00390625f, 0.5f, 0.125f};
    float all[8];
    fm_alibi_slopes(all, 8);
    assert_memory_equal(all, eight, sizeof eight);
    fm_alibi_slopes(s, 6);
    assert_memory_equal(s, six, sizeof six);
    fm_alibi_slopes(s, 1);
    assert_true(s[0] == 1 / 256.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_outputs),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_edited_configs_differ),
        cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_saved_again),
        cmocka_unit_test(test_named_heads),
        cmocka_unit_test(test_older_files),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_slopes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
