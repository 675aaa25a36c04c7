/* Every key of config.json counts: changed, it gives other results or is refused, or it stands in the list of those
 * that cannot matter here, with the reason. A key that a family silently ignored would be found. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/model.h"

#define DATA     FM_SOURCE_DIR "/tests/golden/data/"
#define MAX_KEYS 256
#define N_TOKENS 30

static const char *const folders[] = {
    "llama_gqa",
    "llama_bias",
    "llama_linear",
    "llama_llama3",
    "llama_yarn",
    "llama_yarn_mscale",
    "llama_dynamic",
    "qwen2",
    "qwen2_window",
    "qwen3",
    "mistral_window",
    "qwen3_moe",
    "qwen3_moe_sparse",
    "mixtral",
    "deepseek",
    "deepseek_freq",
    "deepseek_v2_lite",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v3_half",
    "deepseek_grads/v3_mtp",
    "deepseek_grads/v32",
    "heads/bert",
    "heads/bert_mlm",
    "heads/mobilebert",
    "heads/mobilebert_mlm",
    "heads/gpt2",
    "heads/gpt2_scaled",
    "heads/bloom",
    "heads/mpt",
    "heads/qwen2_mixed",
};

/* Keys that may change without another result, and why. */
static const struct {
    const char *folder, *key; /* folder: its beginning; "" for all. key "x.*": all of an object */
} harmless[] = {
    /* not of the mathematics */
    {"", "transformers_version"},
    {"", "model_type"}, /* "architectures" decides */
    {"", "dtype"},      /* of the files */
    {"", "use_cache"},
    {"", "pretraining_tp"},
    {"", "slow_but_exact"},
    {"heads/gpt2", "reorder_and_upcast_attn"},
    {"heads/mpt", "init_device"},
    {"heads/mpt", "attn_config._name_or_path"},
    {"heads/mpt", "attn_config.return_dict"},
    {"heads/mpt", "attn_config.output_hidden_states"},
    {"heads/mpt", "attn_config.output_attentions"},
    {"heads/mpt", "attn_config.model_type"},
    {"heads/mpt", "attn_config.label2id.*"},
    {"heads/mpt", "attn_config.id2label.*"},
    {"heads/mpt", "attn_config.is_encoder_decoder"},
    {"heads/mpt", "attn_config.chunk_size_feed_forward"},
    {"heads/mpt", "attn_config.attn_impl"},
    /* token ids, read by other parts */
    {"", "bos_token_id"},
    {"", "eos_token_id"},
    {"", "pad_token_id"},
    /* training only */
    {"", "initializer_range"},
    {"", "attention_probs_dropout_prob"},
    {"", "hidden_dropout_prob"},
    {"", "hidden_dropout"},
    {"", "attention_dropout"},
    {"", "resid_pdrop"},
    {"", "embd_pdrop"},
    {"", "emb_pdrop"},
    {"", "attn_pdrop"},
    {"", "attn_config.attn_pdrop"},
    {"", "classifier_dropout"},
    {"", "aux_loss_alpha"},
    {"", "seq_aux"},
    {"", "router_aux_loss_coef"},
    {"", "output_router_logits"},
    {"heads/mpt", "embedding_fraction"},
    /* a limit; tables of positions have their size in the weights */
    {"", "max_position_embeddings"},
    {"heads/mpt", "max_seq_len"},
    {"heads/mpt", "learned_pos_emb"}, /* not with ALiBi */
    /* heads that the models here do not have */
    {"heads/gpt2", "summary_type"},
    {"heads/gpt2", "summary_use_proj"},
    {"heads/gpt2", "summary_proj_to_labels"},
    {"heads/gpt2", "summary_first_dropout"},
    {"heads/mobilebert", "classifier_activation"},
    {"heads/bert", "tie_word_embeddings"},
    {"heads/mobilebert", "tie_word_embeddings"},
    /* no window, or layer_types says which layers have one */
    {"qwen", "use_sliding_window"},
    {"qwen", "max_window_layers"},
    {"heads/qwen2_mixed", "max_window_layers"},
    /* latent attention has other keys for these */
    {"deepseek_", "head_dim"},
    {"deepseek_", "qk_head_dim"},
    {"deepseek_", "num_key_value_heads"},
    /* no groups with topk_method "greedy" */
    {"deepseek_v2_lite", "n_group"},
    {"deepseek_v2_lite", "topk_group"},
    {"deepseek_grads/v32", "first_k_dense_replace"}, /* mlp_layer_types wins */
    /* the files have no prediction layers (a warning says so) */
    {"deepseek_v3", "num_nextn_predict_layers"},
    {"heads/mobilebert", "true_hidden_size"}, /* follows from the bottleneck */
    {"heads/mobilebert", "layer_norm_eps"},   /* normalization_type "no_norm" has none */
    /* YaRN of two frequencies: what the range is rounded to stays the same */
    {"deepseek_grads", "rope_parameters.beta_fast"},
    {"deepseek_grads", "rope_parameters.beta_slow"},
    {"deepseek_grads", "rope_parameters.original_max_position_embeddings"},
};

static char dir[64];

/* Hidden states after the last norm, then of decoders the logits; NULL: refused. */
static float *output(int64_t *n) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1};
    int32_t ids[N_TOKENS], offsets[2] = {0, N_TOKENS};
    if (fm_model_open(&m, dir, &o) != FM_OK) {
        return NULL;
    }
    int32_t len = (int32_t)(m->cfg.positions == FM_POS_LEARNED ? FM_MIN(N_TOKENS, m->cfg.max_position) : N_TOKENS);
    int64_t d = m->cfg.d_model, v = fm_model_generates(m) ? m->cfg.vocab_size : 0;
    for (int32_t i = 0; i < len; i++) {
        ids[i] = (i * 7 + i / 5) % (m->cfg.vocab_size - 1);
    }
    offsets[1] = len;
    *n = len * (d + v);
    float *out = fm_malloc((size_t)*n * sizeof *out);
    assert_non_null(out);
    fm_texts t = {.size = sizeof t, .ids = ids, .offsets = offsets, .n = 1};
    fm_status s = fm_model_hidden(m, &t, out);
    if (s == FM_OK && v > 0) {
        s = fm_model_logits(m, ids, len, out + len * d);
    } else if (s == FM_OK && m->cfg.head.kind == FM_HEAD_LM) {
        fm_free(out);
        *n = len * (int64_t)m->cfg.vocab_size;
        out = fm_malloc((size_t)*n * sizeof *out);
        assert_non_null(out);
        s = fm_model_scores(m, 0, &t, out);
    }
    fm_model_close(m);
    if (s != FM_OK) {
        fm_free(out);
        return NULL;
    }
    return out;
}

/* Leaves of a document by number, in order. */
typedef struct walk {
    int at, wanted;
    char path[256];
    bool changed, down; /* down: numbers are made smaller */
    fm_json *object;
} walk;

static fm_json *changed(const fm_json *v, bool down) {
    if (fm_json_is_bool(v)) {
        return fm_json_new_bool(!fm_json_bool(v, false));
    }
    if (fm_json_is_string(v)) {
        bool act = strcmp(fm_json_str(v, NULL), "silu") == 0;
        return fm_json_new_str(act ? "gelu" : "something_else");
    }
    if (fm_json_is_array(v)) {
        fm_json *list = fm_json_new_array();
        for (size_t i = 0; i < fm_json_size(v); i++) {
            assert_int_equal(fm_json_append(list, fm_json_new_str("something_else")), FM_OK);
        }
        return list;
    }
    double x = fm_json_num(v, 0);
    fm_str text = {0};
    assert_int_equal(fm_json_dump(&text, v, 0), FM_OK);
    bool whole = !strpbrk(text.data, ".e");
    fm_str_free(&text);
    if (whole) {
        return fm_json_new_int(down ? (int64_t)x / 5 : 3 * (int64_t)x + 1);
    }
    return fm_json_new_num(down ? x / 5 : 1.5 * x + 1e-2);
}

static fm_status visit(void *arg, const char *key, fm_json *value) {
    walk *w = arg;
    fm_json *object = w->object;
    size_t len = strlen(w->path);
    if (w->changed) {
        return FM_OK;
    }
    snprintf(w->path + len, sizeof w->path - len, "%s%s", len ? "." : "", key);
    if (fm_json_is_object(value)) {
        w->object = value;
        assert_int_equal(fm_json_each(value, visit, w), FM_OK);
        w->object = object;
    } else if (!fm_json_is_null(value) && !(fm_json_is_array(value) && fm_json_size(value) == 0) &&
               w->at++ == w->wanted) {
        w->changed = true;
        return fm_json_set(object, key, changed(value, w->down));
    }
    if (!w->changed) {
        w->path[len] = '\0';
    }
    return FM_OK;
}

static bool is_harmless(const char *folder, const char *path) {
    for (size_t i = 0; i < FM_ARRAY_LEN(harmless); i++) {
        const char *key = harmless[i].key;
        size_t n = strlen(key);
        bool here = key[n - 1] == '*' ? strncmp(path, key, n - 1) == 0 : strcmp(path, key) == 0;
        if (here && strncmp(folder, harmless[i].folder, strlen(harmless[i].folder)) == 0) {
            return true;
        }
    }
    return false;
}

/* Writes config.json of the folder with the i-th leaf changed (i < 0: none); false when it has no such leaf. */
static bool write_config(walk *w, const char *folder, int i, bool down) {
    char path[600];
    fm_json *json;
    fm_str text = {0};
    *w = (walk){.wanted = i, .down = down};
    snprintf(path, sizeof path, DATA "%s/config.json", folder);
    assert_int_equal(fm_json_load(&json, path), FM_OK);
    w->object = json;
    assert_int_equal(fm_json_each(json, visit, w), FM_OK);
    assert_int_equal(fm_json_dump(&text, json, 1), FM_OK);
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w"); /* not synced */
    assert_non_null(f);
    assert_int_equal(fwrite(text.data, 1, text.len, f), text.len);
    assert_int_equal(fclose(f), 0);
    fm_str_free(&text);
    fm_json_free(json);
    return w->changed;
}

static int check_folder(const char *folder) {
    char from[600], to[128];
    int64_t n_base, n;
    int n_bad = 0, n_other = 0, n_refused = 0, n_same = 0;
    walk w;
    snprintf(from, sizeof from, DATA "%s/model.safetensors", folder);
    snprintf(to, sizeof to, "%s/model.safetensors", dir);
    assert_int_equal(symlink(from, to), 0);
    (void)write_config(&w, folder, -1, false);
    float *base = output(&n_base);
    assert_non_null(base);
    for (int i = 0; i < MAX_KEYS; i++) {
        bool same = true, refused = false;
        for (int down = 0; down < 2 && same; down++) {
            if (!write_config(&w, folder, i, down)) {
                break;
            }
            float *out = output(&n);
            refused = !out;
            same = out && n == n_base && memcmp(out, base, (size_t)n * sizeof *out) == 0;
            fm_free(out);
        }
        if (!w.changed) {
            assert_true(i > 10);
            break;
        }
        n_refused += refused;
        n_other += !refused && !same;
        n_same += same;
        if (same && !is_harmless(folder, w.path)) {
            print_error("%s: %s changes nothing\n", folder, w.path);
            n_bad++;
        }
    }
    fm_free(base);
    assert_int_equal(unlink(to), 0);
    print_message("%-22s %d keys refused, %d change results, %d cannot matter\n", folder, n_refused, n_other, n_same);
    return n_bad;
}

static void test_keys(void **state) {
    (void)state;
    int n_bad = 0;
    snprintf(dir, sizeof dir, "/tmp/fathom_keys_XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < FM_ARRAY_LEN(folders); i++) {
        n_bad += check_folder(folders[i]);
    }
    assert_int_equal(fm_remove_tree(dir), FM_OK);
    assert_int_equal(n_bad, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
