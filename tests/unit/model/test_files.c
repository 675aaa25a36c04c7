/* Saving, loading, and folders that must be refused with a message that names the cause. */
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

#include "base/file.h"
#include "io/safetensors.h"
#include "model/model.h"

static char dir[64];

static void make_dir(void) {
    snprintf(dir, sizeof dir, "/tmp/fathom_files_XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static fm_model_config small(const char *family) {
    fm_model_config cfg = {.vocab_size = 40,
                           .d_model = 16,
                           .n_layers = 2,
                           .n_heads = 4,
                           .n_kv_heads = 2,
                           .head_dim = 8,
                           .d_ff = 24,
                           .max_position = 128,
                           .act = FM_ACT_SILU,
                           .norm_eps = 1e-6,
                           .init_std = 0.02,
                           .rope = {.theta = 10000, .dim = 8, .factor = 1},
                           .bos_id = 0,
                           .eos_id = 1,
                           .pad_id = -1};
    snprintf(cfg.family, sizeof cfg.family, "%s", family);
    cfg.qkv_bias = strcmp(family, "qwen2") == 0;
    cfg.qk_norm = strcmp(family, "qwen3") == 0;
    return cfg;
}

static fm_model *built(const fm_model_config *cfg) {
    fm_model *m;
    assert_int_equal(fm_model_build(&m, cfg), FM_OK);
    assert_int_equal(fm_params_alloc(m->params, FM_F32), FM_OK);
    assert_int_equal(fm_params_init(m->params, 11, NULL), FM_OK);
    return m;
}

static void assert_equal_params(const fm_model *a, const fm_model *b, fm_dtype through) {
    assert_int_equal(fm_params_count(a->params), fm_params_count(b->params));
    for (int i = 0; i < fm_params_count(a->params); i++) {
        const fm_param *p = fm_params_at(a->params, i), *q = fm_params_at(b->params, i);
        assert_string_equal(p->name, q->name);
        for (int64_t k = 0; k < p->numel; k++) {
            double want = fm_round_to(through, fm_load_as_f64(p->dtype, p->data, k));
            assert_true(want == fm_load_as_f64(q->dtype, q->data, k));
        }
    }
}

static void test_round_trip(void **state) {
    (void)state;
    static const char *const families[] = {"llama", "qwen2", "qwen3", "mistral"};
    static const fm_dtype dtypes[] = {FM_F32, FM_BF16, FM_F16};
    for (size_t f = 0; f < 4; f++) {
        for (size_t d = 0; d < 3; d++) {
            fm_model_config cfg = small(families[f]);
            cfg.tied = f % 2 == 0;
            cfg.window = f == 3 ? 9 : f == 1 ? 5 : 0;
            fm_layer_set_global(&cfg, 0, f == 1);
            cfg.rope.kind = (fm_rope_kind)((f * 3 + d) % 5);
            if (cfg.rope.kind != FM_ROPE_NONE) {
                cfg.rope.factor = 4;
                cfg.rope.original_max_position = cfg.rope.kind == FM_ROPE_DYNAMIC ? 128 : 32;
            }
            if (cfg.rope.kind == FM_ROPE_LINEAR) {
                cfg.rope.original_max_position = 128; /* what reading gives it; not used */
            }
            if (cfg.rope.kind == FM_ROPE_LLAMA3) {
                cfg.rope.low_freq_factor = 1;
                cfg.rope.high_freq_factor = 4;
            }
            if (cfg.rope.kind == FM_ROPE_YARN) {
                cfg.rope.mscale = 0.7;
                cfg.rope.no_truncate = true;
            }
            fm_model *m = built(&cfg), *back, *mapped;
            make_dir();
            assert_int_equal(fm_model_save(m, dir, dtypes[d], d == 0 ? 3000 : 0), FM_OK);
            assert_int_equal(fm_model_load(&back, dir, false, FM_F32), FM_OK);
            assert_int_equal(fm_model_load(&mapped, dir, true, FM_F32), FM_OK);
            if (memcmp(&cfg, &back->cfg, sizeof cfg) != 0) {
                print_error("%s: config changed, rope kind %d\n", families[f], (int)cfg.rope.kind);
            }
            assert_memory_equal(&cfg, &back->cfg, sizeof cfg);
            assert_equal_params(m, back, dtypes[d]);
            assert_equal_params(m, mapped, dtypes[d]);
            assert_int_equal(mapped->stored, dtypes[d]);
            assert_int_equal(fm_params_at(mapped->params, 0)->storage, FM_STORAGE_MAP);
            assert_true(d == 0 ? mapped->n_files > 1 : mapped->n_files == 1);
            assert_int_equal(mapped->n_eos, 1);
            assert_int_equal(mapped->eos[0], 1);
            fm_model_close(back);
            fm_model_close(mapped);
            fm_model_close(m);
            assert_int_equal(fm_remove_tree(dir), FM_OK);
        }
    }
}

static void write_text(const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(fm_file_write_atomic(path, text, strlen(text)), FM_OK);
}

/* Keys that we do not know survive reading and writing; end ids come as a list. */
static void test_unknown_keys(void **state) {
    (void)state;
    fm_model_config cfg = small("llama");
    fm_model *m = built(&cfg), *back;
    make_dir();
    assert_int_equal(fm_model_save(m, dir, FM_F32, 0), FM_OK);
    fm_model_close(m);
    write_text(
        "config.json",
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":16,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":8,"
        "\"intermediate_size\":24,\"eos_token_id\":[5,6],\"my_note\":{\"a\":[1,2]},\"dtype\":\"float32\"}");
    write_text("generation_config.json", "{\"eos_token_id\":[7,8,9],\"temperature\":0.6,\"note\":{\"a\":1}}");
    write_text("README.md", "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n");
    assert_int_equal(fm_model_load(&m, dir, false, FM_F32), FM_OK);
    assert_string_equal(m->license, "apache-2.0");
    assert_int_equal(m->n_eos, 3);
    assert_int_equal(m->eos[2], 9);
    assert_int_equal(m->cfg.eos_id, 5);
    assert_int_equal(fm_model_save(m, dir, FM_BF16, 0), FM_OK);
    assert_int_equal(fm_model_load(&back, dir, false, FM_F32), FM_OK);
    assert_int_equal(back->n_eos, 3);
    assert_true(fm_json_num(fm_json_get(back->generation, "temperature"), 0) == 0.6);
    assert_int_equal(fm_json_int(fm_json_get(fm_json_get(back->generation, "note"), "a"), 0), 1);
    assert_int_equal(fm_json_size(fm_json_get(fm_json_get(back->json, "my_note"), "a")), 2);
    assert_int_equal(fm_json_size(fm_json_get(back->json, "eos_token_id")), 2);
    assert_string_equal(fm_json_str(fm_json_get(back->json, "dtype"), NULL), "bfloat16");
    assert_null(fm_json_get(back->json, "torch_dtype"));
    fm_model_close(back);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

#define BASE                                                                                                           \
    "\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":16,\"num_hidden_layers\":2,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"head_dim\":8,\"intermediate_size\":24"

static void test_refused_configs(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
        fm_status status;
    } bad[] = {
        {"", "config.json", FM_ERR_FORMAT},
        {"[]", "config.json", FM_ERR_FORMAT},
        {"{}", "not supported", FM_ERR_UNSUPPORTED},
        {"{\"model_type\":\"mamba\"}", "mamba", FM_ERR_UNSUPPORTED},
        {"{\"architectures\":[\"LlamaForMultipleChoice\"]," BASE "}", "LlamaForMultiple", FM_ERR_UNSUPPORTED},
        {"{\"model_type\":\"llama\"}", "vocab_size", FM_ERR_FORMAT},
        {"{" BASE ",\"hidden_act\":\"mish\"}", "mish", FM_ERR_UNSUPPORTED},
        {"{" BASE ",\"quantization_config\":{}}", "quantization_config", FM_ERR_UNSUPPORTED},
        {"{" BASE ",\"quantization_config\":{\"quant_method\":\"gptq\"}}", "gptq", FM_ERR_UNSUPPORTED},
        {"{" BASE ",\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}}", "e5m2", FM_ERR_UNSUPPORTED},
        {"{" BASE ",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[0,8]}}",
         "weight_block_size", FM_ERR_CONFIG},
        {"{" BASE ",\"quantization_config\":[]}", "quantization_config", FM_ERR_FORMAT},
        {"{" BASE ",\"rope_scaling\":{\"type\":\"longrope\"}}", "longrope", FM_ERR_UNSUPPORTED},
        {"{" BASE ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}}", "factor", FM_ERR_CONFIG},
        {"{" BASE ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8}}", "low_freq_factor", FM_ERR_CONFIG},
        {"{" BASE ",\"partial_rotary_factor\":0.5}", "partial_rotary_factor", FM_ERR_UNSUPPORTED},
        {"{" BASE ",\"rms_norm_eps\":\"x\"}", "rms_norm_eps", FM_ERR_FORMAT},
        {"{" BASE ",\"max_position_embeddings\":-4}", "max_position_embeddings", FM_ERR_CONFIG},
        {"{\"model_type\":\"llama\",\"vocab_size\":1e30}", "vocab_size", FM_ERR_FORMAT},
        {"{\"model_type\":\"llama\",\"vocab_size\":-3}", "vocab_size", FM_ERR_CONFIG},
        {"{\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":16,\"num_hidden_layers\":2,\"num_attention_"
         "heads\":0,"
         "\"intermediate_size\":24}",
         "num_attention_heads", FM_ERR_CONFIG},
    };
    make_dir();
    fm_model *m;
    assert_int_equal(fm_model_load(&m, "/nonexistent/model", true, FM_F32), FM_ERR_NOT_FOUND);
    assert_int_equal(fm_model_load(&m, dir, true, FM_F32), FM_ERR_NOT_FOUND);
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        write_text("config.json", bad[i].text);
        fm_status s = fm_model_load(&m, dir, true, FM_F32);
        if (s != bad[i].status || !strstr(fm_error_get().message, bad[i].says)) {
            print_error("%s: %s, %s\n", bad[i].text, fm_status_name(s), fm_error_get().message);
        }
        assert_int_equal(s, bad[i].status);
        assert_null(m);
        assert_non_null(strstr(fm_error_get().message, bad[i].says));
    }
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

/* A folder whose tensors are those of `cfg` except what `change` does to the i-th. */
typedef struct tensor_change {
    const char *name, *rename, *says, *strip; /* strip: taken from the beginning of every name */
    int64_t first_dim;                        /* 0 = as it is */
    fm_dtype dtype;
    bool drop, add, nan;
    fm_status status;
} tensor_change;

static void write_changed(const fm_model *m, const tensor_change *ch) {
    fm_st_writer *w;
    float zeros[4096] = {0};
    assert_int_equal(fm_st_writer_new(&w, dir, NULL), FM_OK);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < fm_params_count(m->params) + 1; i++) {
            const fm_param *p = fm_params_at(m->params, i < fm_params_count(m->params) ? i : 0);
            bool extra = i == fm_params_count(m->params), hit = extra || strcmp(p->name, ch->name) == 0;
            if ((extra && !ch->add) || (!extra && hit && ch->drop)) {
                continue;
            }
            const char *name = hit && ch->rename ? ch->rename : p->name;
            size_t strip = ch->strip ? strlen(ch->strip) : 0;
            name += strip && strncmp(name, ch->strip, strip) == 0 ? strip : 0;
            int64_t dim[2] = {hit && ch->first_dim ? ch->first_dim : p->dim[0], p->dim[1]};
            fm_dtype d = hit && ch->dtype ? ch->dtype : FM_F32;
            if (pass == 0) {
                assert_int_equal(fm_st_writer_declare(w, name, d, p->n_dims, dim), FM_OK);
            } else {
                int64_t n = dim[0] * (p->n_dims > 1 ? dim[1] : 1);
                zeros[7] = hit && ch->nan ? NAN : 0;
                assert_int_equal(fm_st_writer_put(w, name, 0, zeros, fm_dtype_bytes(d, n)), FM_OK);
            }
        }
        if (pass == 0) {
            assert_int_equal(fm_st_writer_begin(w), FM_OK);
        }
    }
    assert_int_equal(fm_st_writer_finish(w), FM_OK);
    fm_st_writer_free(w);
}

static void test_refused_weights(void **state) {
    (void)state;
    static const tensor_change changes[] = {
        {.name = "model.norm.weight", .drop = true, .says = "model.norm.weight", .status = FM_ERR_NOT_FOUND},
        {.name = "model.norm.weight", .first_dim = 15, .says = "[15]", .status = FM_ERR_SHAPE},
        {.name = "model.layers.1.self_attn.q_proj.weight", .first_dim = 16, .says = "[16,16]", .status = FM_ERR_SHAPE},
        {.name = "model.norm.weight", .dtype = FM_I32, .says = "I32", .status = FM_ERR_DTYPE},
        {.name = "",
         .add = true,
         .rename = "model.layers.2.extra",
         .says = "model.layers.2.extra",
         .status = FM_ERR_FORMAT},
        {.name = "", .add = true, .rename = "model.layers.0.self_attn.rotary_emb.inv_freq", .status = FM_OK},
        {.name = "", .add = true, .rename = "lm_head.weight", .status = FM_OK}, /* tied, and equal */
        {.name = "", .add = true, .rename = "model.embeddings.position_ids", .status = FM_OK},
        {.name = "", .strip = "model.", .status = FM_OK}, /* a base model */
        {.name = "model.norm.weight",
         .strip = "model.",
         .drop = true,
         .says = " norm.weight",
         .status = FM_ERR_NOT_FOUND},
        {.name = "", .strip = "model.", .add = true, .rename = "extra", .says = "extra", .status = FM_ERR_FORMAT},
        {.name = "model.norm.weight",
         .nan = true,
         .says = "model.norm.weight: expected finite numbers, found NaN or "
                 "infinity at [7]",
         .status = FM_ERR_NUMERIC},
        {.name = "model.layers.0.mlp.up_proj.weight",
         .dtype = FM_E4M3,
         .says = "without factors",
         .status = FM_ERR_DTYPE},
    };
    fm_model_config cfg = small("llama");
    cfg.tied = true;
    fm_model *m = built(&cfg), *back;
    for (size_t i = 0; i < FM_ARRAY_LEN(changes); i++) {
        make_dir();
        assert_int_equal(fm_model_save(m, dir, FM_F32, 0), FM_OK);
        write_changed(m, &changes[i]);
        fm_status s = fm_model_load(&back, dir, i % 2 == 0, FM_F32);
        if (s != changes[i].status) {
            print_error("change %zu: %s\n", i, fm_error_get().message);
        }
        assert_int_equal(s, changes[i].status);
        if (s != FM_OK) {
            assert_non_null(strstr(fm_error_get().message, changes[i].says));
        }
        fm_model_close(s == FM_OK ? back : NULL);
        assert_int_equal(fm_remove_tree(dir), FM_OK);
    }
    fm_model_close(m);
}

static void test_no_memory(void **state) {
    (void)state;
    fm_model_config cfg = small("qwen2");
    fm_model *m = built(&cfg), *back;
    make_dir();
    fm_status s = FM_ERR_NO_MEMORY;
    for (int64_t n = 1; s != FM_OK && n < 2000; n++) {
        fm_mem_fail_at(n, false);
        s = fm_model_save(m, dir, FM_BF16, 0);
        fm_mem_fail_at(0, false);
        assert_true(s == FM_OK || s == FM_ERR_NO_MEMORY);
    }
    assert_int_equal(s, FM_OK);
    s = FM_ERR_NO_MEMORY;
    for (int64_t n = 1; s != FM_OK && n < 2000; n++) {
        fm_mem_fail_at(n, false);
        s = fm_model_load(&back, dir, n % 2 == 0, FM_F32);
        fm_mem_fail_at(0, false);
        assert_true(s == FM_OK || s == FM_ERR_NO_MEMORY);
    }
    assert_int_equal(s, FM_OK);
    fm_model_close(back);
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

static void test_check(void **state) {
    (void)state;
    fm_model_config cfg = small("llama");
    fm_model *m = built(&cfg);
    int64_t n;
    assert_int_equal(fm_model_check(m, &n), FM_OK);
    fm_param *p = fm_params_find(m->params, "model.layers.1.mlp.up_proj.weight");
    fm_store_from_f64(p->dtype, p->data, 16 * 5 + 3, INFINITY);
    assert_int_equal(fm_model_check(m, &n), FM_ERR_NUMERIC);
    assert_non_null(strstr(fm_error_get().message, "model.layers.1.mlp.up_proj.weight"));
    assert_non_null(strstr(fm_error_get().message, "[5,3]"));
    fm_model_close(m);
}

static void test_info(void **state) {
    (void)state;
    fm_model *m;
    fm_model_info i;
    assert_int_equal(fm_model_open(&m, FM_SOURCE_DIR "/tests/golden/data/qwen2", NULL), FM_OK);
    assert_int_equal(fm_model_get_info(&i, m), FM_OK);
    assert_string_equal(i.family, "qwen2");
    assert_string_equal(i.architecture, "Qwen2ForCausalLM");
    assert_string_equal(i.dtype, "f32");
    assert_string_equal(i.rope_scaling, "none");
    assert_int_equal(i.n_params, fm_model_config_params(&m->cfg));
    assert_int_equal(i.n_params_embedding, 32 * 32);
    assert_int_equal(i.kv_bytes_per_token, 2 * 1 * 2 * 8 * 2);
    assert_true(i.qkv_bias && i.tied_embeddings && !i.qk_norm);
    assert_null(i.chat_template);
    int64_t bytes, checked;
    assert_non_null(strstr(fm_model_file(m, 0, &bytes), "qwen2"));
    assert_int_equal(bytes, i.file_bytes);
    assert_null(fm_model_file(m, 1, &bytes));
    assert_int_equal(fm_model_check(m, &checked), FM_OK);
    assert_int_equal(checked, i.n_params);
    assert_true(i.file_bytes > 4 * i.n_params);
    const fm_tokenizer *t;
    assert_true(fm_model_tokenizer(&t, m) != FM_OK);
    fm_model_close(m);
    fm_model_options o = {.size = sizeof o, .dtype = "f99"};
    assert_int_equal(fm_model_open(&m, FM_SOURCE_DIR "/tests/golden/data/qwen2", &o), FM_ERR_ARGUMENT);
    o.size = 1;
    assert_int_equal(fm_model_open(&m, FM_SOURCE_DIR "/tests/golden/data/qwen2", &o), FM_ERR_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_refused_configs), cmocka_unit_test(test_refused_weights),
        cmocka_unit_test(test_no_memory),       cmocka_unit_test(test_info),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
