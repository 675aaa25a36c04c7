#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "fathom/convert.h"
#include "fathom/log.h"
#include "model/gguf.h"

#define GOLDEN FM_SOURCE_DIR "/tests/golden/data/"
#define SEEDS  FM_SOURCE_DIR "/fuzz/corpus/gguf/" /* by the gguf package for Python */
#define N_IDS  12

static char dir[64];

static int make(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/fathom_gguf_XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static int drop(void **state) {
    (void)state;
    return fm_remove_tree(dir) == FM_OK ? 0 : -1;
}

static const char *in_dir(const char *name) {
    static char ring[6][128];
    static int at;
    at = (at + 1) % 6;
    snprintf(ring[at], sizeof ring[at], "%s/%s", dir, name);
    return ring[at];
}

static void convert(const char *in, const char *out, const char *dtype, bool no_files) {
    fm_convert_options o = {.size = sizeof o, .dtype = dtype, .threads = 2, .overwrite = true, .no_files = no_files};
    fm_convert_report r = {.size = sizeof r};
    if (fm_convert(&r, in, out, &o) != FM_OK) {
        fail_msg("%s -> %s: %s", in, out, fm_error_get().message);
    }
    assert_true(r.n_tensors > 5 && r.bytes_out > 1000);
}

static float *logits_as(const char *path, const char *dtype, int32_t *vocab) {
    static const int32_t ids[N_IDS] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 3};
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = dtype, .threads = 1};
    if (fm_model_open(&m, path, &o) != FM_OK) {
        fail_msg("%s: %s", path, fm_error_get().message);
    }
    *vocab = m->cfg.vocab_size;
    float *out = fm_malloc(N_IDS * (size_t)*vocab * sizeof *out);
    assert_non_null(out);
    assert_int_equal(fm_model_logits(m, ids, N_IDS, out), FM_OK);
    fm_model_close(m);
    return out;
}

/* Largest difference of logits over the largest logit. */
static double distance_as(const char *a, const char *dtype_a, const char *b) {
    int32_t va, vb;
    float *x = logits_as(a, dtype_a, &va), *y = logits_as(b, "f32", &vb);
    assert_int_equal(va, vb);
    double diff = 0, max = 0;
    for (int i = 0; i < N_IDS * va; i++) {
        double d = (double)x[i] - (double)y[i];
        diff = FM_MAX(diff, d < 0 ? -d : d);
        max = FM_MAX(max, (double)(y[i] < 0 ? -y[i] : y[i]));
    }
    fm_free(x);
    fm_free(y);
    return diff / max;
}
static double distance(const char *a, const char *b) {
    return distance_as(a, "f32", b);
}

static void same_weights(const char *a, const char *b) {
    fm_model *x, *y;
    assert_int_equal(fm_model_load(&x, a, false, FM_F32), FM_OK);
    assert_int_equal(fm_model_load(&y, b, false, FM_F32), FM_OK);
    assert_int_equal(fm_params_count(x->params), fm_params_count(y->params));
    for (int i = 0; i < fm_params_count(x->params); i++) {
        const fm_param *p = fm_params_at(x->params, i), *q = fm_params_find(y->params, p->name);
        assert_non_null(q);
        if (!p->tie) {
            assert_memory_equal(p->data, q->data, (size_t)p->numel * 4);
        }
    }
    assert_int_equal(memcmp(&x->cfg.rope, &y->cfg.rope, sizeof x->cfg.rope), 0);
    assert_true(x->cfg.norm_eps == y->cfg.norm_eps && x->cfg.max_position == y->cfg.max_position);
    fm_model_close(x);
    fm_model_close(y);
}

/* Folder -> GGUF -> folder: the same bits, with and without the files the GGUF carries. */
static void test_round_trip(void **state) {
    FM_UNUSED(state);
    static const char *const cases[] = {"llama_gqa", "llama_linear", "llama_llama3", "llama_yarn", "qwen2", "qwen3"};
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        char folder[256];
        snprintf(folder, sizeof folder, GOLDEN "%s", cases[i]);
        for (int bare = 0; bare < 2; bare++) {
            const char *file = in_dir("m.gguf"), *back = in_dir("back");
            convert(folder, file, "f32", bare);
            assert_true(distance(file, folder) <= (bare ? 1e-5 : 0));
            convert(file, back, NULL, false);
            if (!bare) {
                same_weights(folder, back);
            }
            assert_true(distance(back, folder) <= (bare ? 1e-5 : 0));
        }
    }
}

/* Mixtures of experts, latent attention with a prediction layer, learned positions: weights keep their bits on the way
 * to GGUF and back. Configurations that GGUF's own keys cannot say come from the carried config.json. */
static void test_round_trip_weights(void **state) {
    FM_UNUSED(state);
    static const char *const cases[] = {"mixtral",
                                        "deepseek",
                                        "deepseek_v2",
                                        "deepseek_v2_lite",
                                        "deepseek_v3",
                                        "deepseek_grads/v3_mtp",
                                        "deepseek_grads/v32",
                                        "heads/gpt2"};
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        char folder[256];
        snprintf(folder, sizeof folder, GOLDEN "%s", cases[i]);
        const char *file = in_dir("w.gguf"), *back = in_dir("w");
        fm_convert_options o = {.size = sizeof o, .dtype = "f32", .threads = 2, .overwrite = true, .inexact = true};
        if (fm_convert(NULL, folder, file, &o) != FM_OK) {
            fail_msg("%s: %s", folder, fm_error_get().message);
        }
        convert(file, back, NULL, false);
        same_weights(folder, back);
        assert_true(distance(file, folder) == 0 && distance(back, folder) == 0);
    }
}

/* Mean of the hidden states. */
static void embedding(const char *path, float *out) {
    static const int32_t ids[N_IDS] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 3}, offsets[2] = {0, N_IDS};
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1};
    if (fm_model_open(&m, path, &o) != FM_OK) {
        fail_msg("%s: %s", path, fm_error_get().message);
    }
    assert_int_equal(m->cfg.d_model, 16);
    fm_texts t = {.size = sizeof t, .ids = ids, .offsets = offsets, .n = 1};
    assert_int_equal(fm_model_embed(m, &t, NULL, out), FM_OK);
    fm_model_close(m);
}

/* BERT: the encoder with its pooling; pooler and head of a masked language model have no place, heads that would
 * change what the model answers are refused. */
static void test_bert(void **state) {
    FM_UNUSED(state);
    static const char *const cases[] = {"heads/bert", "heads/bert_mlm"};
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        char folder[256];
        float want[16], have[16];
        fm_model *m;
        snprintf(folder, sizeof folder, GOLDEN "%s", cases[i]);
        embedding(folder, want);
        for (int bare = 0; bare < 2; bare++) {
            const char *file = in_dir("b.gguf"), *back = in_dir("b");
            convert(folder, file, "f32", bare);
            embedding(file, have);
            assert_memory_equal(have, want, sizeof want);
            convert(file, back, NULL, false);
            embedding(back, have);
            assert_memory_equal(have, want, sizeof want);
            assert_int_equal(fm_model_load(&m, back, true, FM_F32), FM_OK);
            assert_true(m->cfg.head.kind == FM_HEAD_NONE && m->cfg.no_pooler);
            assert_null(fm_params_find(m->params, "pooler.dense.weight"));
            fm_model_close(m);
        }
    }
}

/* How to pool travels. */
static void test_pooling(void **state) {
    FM_UNUSED(state);
    static const struct {
        const char *text;
        fm_pooling want;
    } cases[] = {{"{\"pooling_mode_cls_token\":true}", FM_POOL_CLS},
                 {"{\"pooling_mode_mean_tokens\":true}", FM_POOL_MEAN},
                 {"{\"pooling_mode_lasttoken\":true}", FM_POOL_LAST}};
    const char *folder = in_dir("pooled"), *file = in_dir("p.gguf");
    convert(GOLDEN "heads/bert", folder, NULL, false);
    char path[200];
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    assert_int_equal(fm_mkdirs(path), FM_OK);
    snprintf(path, sizeof path, "%s/1_Pooling/config.json", folder);
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        fm_model *m;
        fm_pooling p;
        assert_int_equal(fm_file_write_atomic(path, cases[i].text, strlen(cases[i].text)), FM_OK);
        convert(folder, file, "f32", true);
        assert_int_equal(fm_model_load(&m, file, true, FM_F32), FM_OK);
        assert_int_equal(fm_model_pooling(&p, m), FM_OK);
        assert_int_equal(p, cases[i].want);
        fm_model_close(m);
    }
}

static void test_types(void **state) {
    FM_UNUSED(state);
    static const struct {
        const char *name;
        double distance;
    } types[] = {{"f32", 0},     {"f16", 2e-3}, {"bf16", 2e-2}, {"q8_0", 3e-2},
                 {"q6_k", 5e-2}, {"q4_0", 0.4}, {"q4_k_m", 0.3}};
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        const char *a = in_dir("a.gguf"), *b = in_dir("b.gguf"), *f32 = in_dir("f32.gguf"), *back = in_dir("folder");
        convert(GOLDEN "qwen3", f32, "f32", false);
        convert(GOLDEN "qwen3", a, types[i].name, false);
        convert(f32, b, types[i].name, false); /* from one GGUF to another */
        double d = distance(a, GOLDEN "qwen3");
        assert_true(d <= types[i].distance);
        assert_true(i == 0 || d > 0);
        assert_true(distance(b, a) == 0);
        /* Blocks as they are: only activations are rounded besides. */
        bool blocks = i > 2;
        double kept = distance_as(a, "auto", a);
        assert_true(blocks ? kept > 0 && kept < 0.03 : kept < 2e-2);
        convert(a, back, "f32", false); /* blocks are exact in f32 */
        assert_true(distance(back, a) == 0);
    }
}

static void test_foreign(void **state) {
    FM_UNUSED(state);
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32"};
    assert_int_equal(fm_model_open(&m, SEEDS "llama.gguf", &o), FM_OK);
    assert_string_equal(m->family->name, "llama");
    assert_int_equal(m->cfg.n_layers, 1);
    assert_int_equal(m->cfg.n_kv_heads, 1);
    assert_true(m->cfg.tied && m->cfg.norm_eps == 1e-5); /* f32 1e-5 is not the double 1e-5 */
    assert_int_equal(m->eos[0], 1);
    assert_int_equal(m->stored, FM_F16);
    /* Weights in f16 stand in the file; those of permuted rows are copies; the sources stay known. */
    const fm_param *v = fm_params_find(m->params, "model.layers.0.self_attn.v_proj.weight"),
                   *q = fm_params_find(m->params, "model.layers.0.self_attn.q_proj.weight");
    assert_int_equal(v->storage, FM_STORAGE_MAP);
    assert_ptr_equal(v->data, v->source);
    assert_int_equal(v->source_dtype, FM_F16);
    assert_int_equal(q->dtype, FM_F32);
    /* Row 1 of ours is row 2 of the file: head of 4, pairs (0,2) and (1,3) interleaved. */
    fm_gguf_set *s;
    const fm_gguf_weight *w;
    float row[8];
    assert_int_equal(fm_gguf_set_open(&s, SEEDS "llama.gguf"), FM_OK);
    assert_int_equal(fm_gguf_set_get(&w, s, "blk.0.attn_q.weight"), FM_OK);
    fm_gguf_read_f32(row, w, 2 * 8, 8);
    assert_memory_equal((const float *)q->data + 8, row, sizeof row);
    fm_gguf_set_close(s);
    const fm_tokenizer *t;
    assert_int_equal(fm_model_tokenizer(&t, m), FM_OK);
    assert_string_equal(fm_tokenizer_chat_template(t), "{{ messages }}");
    fm_tokens ids = {0};
    fm_encode_options e = {.size = sizeof e, .add_special = true};
    assert_int_equal(fm_tokenizer_encode(&ids, t, "abc a", 5, &e), FM_OK);
    assert_int_equal(ids.n, 3);
    assert_true(ids.ids[0] == 0 && ids.ids[1] == 259 && ids.ids[2] == 260);
    fm_tokens_free(&ids);
    fm_model_close(m);
}

static void says(fm_status s, fm_status want, const char *part) {
    assert_int_equal(s, want);
    if (!strstr(fm_error_get().message, part)) {
        fail_msg("\"%s\" does not say \"%s\"", fm_error_get().message, part);
    }
}

/* The first occurrence of text in the file overwritten. */
static fm_status spoiled(const char *text, const char *with, size_t n) {
    char *file;
    size_t size;
    assert_int_equal(fm_file_read(&file, &size, SEEDS "llama.gguf", 0), FM_OK);
    char *at = memmem(file, size, text, strlen(text));
    assert_non_null(at);
    memcpy(at, with, n);
    fm_status s = fm_model_parse_gguf(file, size);
    fm_free(file);
    return s;
}

static void test_hostile(void **state) {
    FM_UNUSED(state);
    says(spoiled("blk.0.ffn_up", "blk.7.ffn_up", 12), FM_ERR_NOT_FOUND, "blk.0.ffn_up.weight is missing");
    says(spoiled("output_norm", "output_nurm", 11), FM_ERR_NOT_FOUND, "output_norm.weight is missing");
    says(spoiled("block_count\4\0\0\0\1", "block_count\4\0\0\0\xff", 16), FM_ERR_FORMAT, "llama.block_count");
    says(spoiled("head_count\4\0\0\0", "head_count\4\0\0\0\0", 15), FM_ERR_FORMAT, "heads");
    says(spoiled("feed_forward_length\4\0\0\0", "feed_forward_length\4\0\0\0\x20", 24), FM_ERR_SHAPE,
         "tensor blk.0.ffn_gate.weight: the metadata makes it [32,8], the file has [16,8]");
    says(spoiled("general.architecture\10\0\0\0\5\0\0\0\0\0\0\0llama",
                 "general.architecture\10\0\0\0\5\0\0\0\0\0\0\0whale", 37),
         FM_ERR_UNSUPPORTED, "general.architecture \"whale\" is not supported");
    says(spoiled("llama.context_length", "llama.context_lenght", 20), FM_ERR_FORMAT,
         "\"llama.context_length\" is missing");
}

static void test_refused(void **state) {
    FM_UNUSED(state);
    fm_convert_options o = {.size = sizeof o};
    const char *out = in_dir("refused.gguf");
    says(fm_convert(NULL, GOLDEN "mistral_window", out, &o), FM_ERR_UNSUPPORTED, "sliding_window");
    says(fm_convert(NULL, GOLDEN "llama_dynamic", out, &o), FM_ERR_UNSUPPORTED, "rope_scaling");
    says(fm_convert(NULL, GOLDEN "llama_bias", out, &o), FM_ERR_UNSUPPORTED, "hidden_act");
    says(fm_convert(NULL, GOLDEN "heads/gpt2_scaled", out, &o), FM_ERR_UNSUPPORTED, "activation_function");
    says(fm_convert(NULL, GOLDEN "heads/bert_cls", out, &o), FM_ERR_UNSUPPORTED, "classifier.weight");
    says(fm_convert(NULL, GOLDEN "heads/bloom", out, &o), FM_ERR_UNSUPPORTED, "bloom");
    assert_false(fm_path_exists(out));
    o.inexact = true;
    assert_int_equal(fm_convert(NULL, GOLDEN "mistral_window", out, &o), FM_OK);
    says(fm_convert(NULL, GOLDEN "qwen3", out, &o), FM_ERR_EXISTS, "already exists");
    o.dtype = "q3_k";
    says(fm_convert(NULL, GOLDEN "qwen3", in_dir("x.gguf"), &o), FM_ERR_ARGUMENT, "q3_k");
    o.dtype = "q8_0";
    says(fm_convert(NULL, out, in_dir("x"), &o), FM_ERR_ARGUMENT, "a folder holds f32, bf16, f16 or int8");
    assert_false(fm_path_exists(in_dir("x")) || fm_path_exists(in_dir("x.tmp")));
}

static void test_cancelled(void **state) {
    FM_UNUSED(state);
    fm_convert_options o = {.size = sizeof o};
    fm_cancel();
    fm_status a = fm_convert(NULL, GOLDEN "qwen3", in_dir("c.gguf"), &o);
    fm_status b = fm_convert(NULL, SEEDS "llama.gguf", in_dir("c"), &o);
    fm_cancel_reset();
    assert_int_equal(a, FM_ERR_CANCELLED);
    assert_int_equal(b, FM_ERR_CANCELLED);
    assert_false(fm_path_exists(in_dir("c.gguf")) || fm_path_exists(in_dir("c.gguf.tmp")));
    assert_false(fm_path_exists(in_dir("c")) || fm_path_exists(in_dir("c.tmp")));
}

static void test_no_memory(void **state) {
    FM_UNUSED(state);
    char *file;
    size_t size;
    assert_int_equal(fm_file_read(&file, &size, SEEDS "llama.gguf", 0), FM_OK);
    for (int64_t i = 1;; i++) {
        fm_mem_fail_at(i, false);
        fm_status s = fm_model_parse_gguf(file, size);
        fm_mem_fail_at(0, false);
        if (s == FM_OK) {
            assert_true(i > 50);
            break;
        }
        assert_int_equal(s, FM_ERR_NO_MEMORY);
    }
    fm_free(file);
    for (int64_t i = 1;; i += 7) { /* every seventh of a whole conversion */
        fm_convert_options o = {.size = sizeof o, .dtype = "q8_0", .threads = 1, .overwrite = true};
        fm_mem_fail_at(i, false);
        fm_status s = fm_convert(NULL, GOLDEN "qwen2", in_dir("n.gguf"), &o);
        fm_mem_fail_at(0, false);
        if (s == FM_OK) {
            break;
        }
        assert_int_equal(s, FM_ERR_NO_MEMORY);
        assert_false(fm_path_exists(in_dir("n.gguf")) || fm_path_exists(in_dir("n.gguf.tmp")));
    }
}

/* llama.cpp's mixture: first and last eighth of the layers and every third between get more bits. */
static void test_mixture(void **state) {
    FM_UNUSED(state);
    fm_gguf_mix m = {.base = FM_Q4_K, .k_m = true, .n_layers = 16, .n_v = 16};
    const int64_t dim[2] = {512, 256}, small[2] = {512, 64}, odd[2] = {512, 72};
    char name[64];
    static const bool more[16] = {1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 1};
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        assert_int_equal(fm_gguf_mix_next(&m, name, 2, dim), more[i] ? FM_Q6_K : FM_Q4_K);
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", i);
        assert_int_equal(fm_gguf_mix_next(&m, name, 2, dim), more[i] ? FM_Q6_K : FM_Q4_K);
    }
    assert_int_equal(fm_gguf_mix_next(&m, "output.weight", 2, dim), FM_Q6_K);
    assert_int_equal(fm_gguf_mix_next(&m, "output.weight", 2, small), FM_Q8_0);
    assert_int_equal(fm_gguf_mix_next(&m, "token_embd.weight", 2, dim), FM_Q4_K);
    assert_int_equal(fm_gguf_mix_next(&m, "blk.0.attn_q.weight", 2, small), FM_Q5_0);
    assert_int_equal(fm_gguf_mix_next(&m, "blk.0.attn_q.weight", 2, odd), FM_F16);
    assert_int_equal(fm_gguf_mix_next(&m, "blk.0.attn_norm.weight", 1, dim), FM_F32);
    assert_int_equal(fm_gguf_mix_next(&m, "blk.0.ffn_gate_inp.weight", 2, dim), FM_F32);
    assert_int_equal(m.n_fallback, 2);
    m = (fm_gguf_mix){.base = FM_Q4_K, .k_m = true, .n_layers = 16, .n_v = 16, .n_experts = 8};
    assert_int_equal(fm_gguf_mix_next(&m, "blk.9.ffn_down_exps.weight", 2, dim), FM_Q4_K);
    assert_int_equal(fm_gguf_mix_next(&m, "blk.10.ffn_down_exps.weight", 2, dim), FM_Q6_K);
    assert_int_equal(fm_gguf_mix_next(&m, "blk.9.attn_k.weight", 2, dim), FM_Q8_0);
    assert_int_equal(fm_gguf_mix_next(&m, "blk.9.attn_output.weight", 2, dim), FM_Q5_K);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_round_trip_weights),
        cmocka_unit_test(test_bert),       cmocka_unit_test(test_pooling),
        cmocka_unit_test(test_types),      cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_hostile),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cancelled),  cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_mixture),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
