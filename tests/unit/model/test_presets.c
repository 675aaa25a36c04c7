/* Parameter counts of the presets: on paper, in the table, and of the built model. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "model/model.h"

/* Published counts of the models whose shapes are used. */
static const struct {
    const char *name;
    int64_t n_params;
} published[] = {
    {"0.5b", 494032768},  /* Qwen2.5-0.5B */
    {"6.7b", 6740512768}, /* DeepSeek-Coder 6.7B */
    {"7b", 6910365696},   /* DeepSeek LLM 7B */
    {"13b", 13015864320}, /* Llama 2 13B */
    {"67b", 67425001472}, /* DeepSeek LLM 67B */
    {"pro", 6740512768},  {"ultra", 13015864320},
};

static void test_counts(void **state) {
    (void)state;
    assert_int_equal(fm_preset_count(), 13);
    for (int i = 0; i < fm_preset_count(); i++) {
        const fm_preset *p = fm_preset_at(i);
        fm_model_config cfg;
        fm_model *m;
        assert_int_equal(fm_model_config_from_preset(&cfg, p->name, 0), FM_OK);
        assert_int_equal(fm_model_config_params(&cfg), p->n_params);
        assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
        assert_int_equal(fm_params_numel(m->params), p->n_params);
        fm_model_close(m);
        /* The name says the size: 139m, or 139m-a29m of which 29m are active. */
        int64_t said, active = fm_model_config_params_active(&cfg);
        char name[32];
        snprintf(name, sizeof name, "%s", p->name);
        char *dash = strstr(name, "-a");
        if (dash) {
            *dash = 0;
            assert_int_equal(fm_parse_count(&said, dash + 2), FM_OK);
            assert_true(fabs((double)active / (double)said - 1) < 0.12);
        } else {
            assert_true(active == p->n_params);
        }
        if (p->name[0] >= '0' && p->name[0] <= '9') { /* others are called by their model */
            assert_int_equal(fm_parse_count(&said, name), FM_OK);
            assert_true(fabs((double)p->n_params / (double)said - 1) < 0.12);
        }
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(published); i++) {
        assert_int_equal(fm_preset_find(published[i].name)->n_params, published[i].n_params);
    }
    /* A model of experts costs what the dense one of its active size costs, but for the router. */
    fm_model_config moe, twin;
    assert_int_equal(fm_model_config_from_preset(&moe, "139m-a29m", 0), FM_OK);
    assert_int_equal(fm_model_config_from_preset(&twin, "26m", 0), FM_OK);
    assert_int_equal(fm_model_config_params_active(&moe), fm_model_config_params(&twin) + 7 * 64 * 512);
    assert_null(fm_preset_at(-1));
    assert_null(fm_preset_at(13));
}

/* Counts of transformers' GPT2LMHeadModel, BertModel with its pooler, BertForMaskedLM, MobileBertModel as
 * published (no dense layer in the pooler), MobileBertForMaskedLM. */
static void test_published_trunks(void **state) {
    (void)state;
    static const struct {
        const char *preset;
        fm_head_kind kind;
        int64_t n_params;
    } want[] = {{"gpt2", FM_HEAD_LM, 124439808},
                {"bert-base", FM_HEAD_NONE, 109482240},
                {"bert-base", FM_HEAD_LM, 109514298},
                {"mobilebert", FM_HEAD_NONE, 24581888},
                {"mobilebert", FM_HEAD_LM, 36596538}};
    for (size_t i = 0; i < FM_ARRAY_LEN(want); i++) {
        fm_model_config cfg;
        assert_int_equal(fm_model_config_from_preset(&cfg, want[i].preset, 0), FM_OK);
        cfg.head.kind = want[i].kind;
        assert_int_equal(fm_model_config_params(&cfg), want[i].n_params);
    }
}

static void test_reshape(void **state) {
    (void)state;
    fm_model_config cfg;
    static const struct {
        fm_positions positions;
        const char *pattern, *family;
        int32_t window;
    } ok[] = {{FM_POS_LEARNED, NULL, "gpt2", 0},
              {FM_POS_ALIBI, NULL, "bloom", 0},
              {FM_POS_ROPE, "local:local:global", "qwen2", 64},
              {FM_POS_ROPE, NULL, "mistral", 64},
              {FM_POS_ROPE, NULL, "llama", 0}};
    for (size_t i = 0; i < FM_ARRAY_LEN(ok); i++) {
        fm_model *m;
        assert_int_equal(fm_model_config_from_preset(&cfg, "26m", 0), FM_OK);
        assert_int_equal(fm_model_config_reshape(&cfg, ok[i].positions, ok[i].pattern, ok[i].window), FM_OK);
        assert_string_equal(cfg.family, ok[i].family);
        assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
        fm_json *json = fm_json_new_object();
        assert_int_equal(m->family->write(&cfg, json), FM_OK);
        fm_json_free(json);
        int64_t n = fm_params_numel(m->params);
        assert_true(n > 25000000 && n < 31000000);
        fm_model_close(m);
    }
    assert_int_equal(fm_model_config_from_preset(&cfg, "26m", 0), FM_OK);
    assert_int_equal(fm_model_config_reshape(&cfg, FM_POS_ALIBI, "local", 8), FM_ERR_CONFIG);
    assert_int_equal(fm_model_config_reshape(&cfg, FM_POS_ROPE, "local", 0), FM_ERR_CONFIG);
    assert_int_equal(fm_model_config_from_preset(&cfg, "bert-base", 0), FM_OK);
    assert_int_equal(fm_model_config_reshape(&cfg, FM_POS_ROPE, "local", 8), FM_ERR_CONFIG);
}

static void test_vocabulary(void **state) {
    (void)state;
    fm_model_config cfg;
    assert_int_equal(fm_model_config_from_preset(&cfg, "26M", 1000), FM_OK);
    assert_int_equal(cfg.vocab_size, 1000);
    assert_int_equal(fm_model_config_params(&cfg), 28975616 - (6400 - 1000) * 512);
    assert_int_equal(fm_model_config_from_preset(&cfg, "27m", 0), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().hint, "26m"));
    assert_ptr_equal(fm_preset_find("base"), fm_preset_find("1.2b"));
    assert_null(fm_preset_find("none"));
}

static void test_any_size(void **state) {
    (void)state;
    static const int64_t sizes[] = {1000000,    3000000,    10000000,    26000000,    60000000,
                                    125000000,  300000000,  500000000,   1000000000,  1500000000,
                                    3000000000, 6700000000, 13000000000, 34000000000, 70000000000};
    static const int32_t vocabs[] = {512, 6400, 32000, 128000};
    for (size_t i = 0; i < FM_ARRAY_LEN(sizes); i++) {
        for (size_t v = 0; v < FM_ARRAY_LEN(vocabs); v++) {
            fm_model_config cfg;
            fm_model *m;
            if ((double)vocabs[v] * 256 > (double)sizes[i]) {
                continue; /* next to nothing is left for the layers */
            }
            assert_int_equal(fm_model_config_from_params(&cfg, sizes[i], vocabs[v]), FM_OK);
            assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
            double n = (double)fm_params_numel(m->params), aspect = (double)cfg.d_model / cfg.n_layers;
            assert_int_equal((int64_t)n, fm_model_config_params(&cfg));
            assert_true(fabs(n / (double)sizes[i] - 1) <= 0.03);
            assert_int_equal(cfg.n_heads * cfg.head_dim, cfg.d_model);
            assert_true(aspect >= 16 && aspect <= 320);
            assert_true(cfg.d_ff >= 2 * cfg.d_model - 32 && cfg.d_ff <= 3.5 * cfg.d_model + 64);
            fm_model_close(m);
        }
    }
    fm_model_config cfg;
    assert_int_equal(fm_model_config_from_params(&cfg, 1000, 32000), FM_ERR_CONFIG);
    assert_int_equal(fm_model_config_from_params(&cfg, 300000000, 32000), FM_OK);
    print_message("300M: D %d L %d H %d F %d, %lld parameters\n", cfg.d_model, cfg.n_layers, cfg.n_heads, cfg.d_ff,
                  (long long)fm_model_config_params(&cfg));
}

static void test_bad_configs(void **state) {
    (void)state;
    fm_model_config good, c;
    assert_int_equal(fm_model_config_from_preset(&good, "26m", 0), FM_OK);
    assert_int_equal(fm_model_config_check(&good), FM_OK);
#define BAD(field, value)                                                                                              \
    c = good;                                                                                                          \
    c.field = value;                                                                                                   \
    assert_int_equal(fm_model_config_check(&c), FM_ERR_CONFIG)
    BAD(vocab_size, 0);
    BAD(d_model, -1);
    BAD(n_layers, 1 << 20);
    BAD(n_kv_heads, 3);
    BAD(n_kv_heads, 16);
    BAD(head_dim, 7);
    BAD(rope.dim, 32);
    BAD(norm_eps, 0);
    BAD(hidden_dropout, 1);
    BAD(attention_dropout, NAN);
    BAD(max_position, 0);
    fm_model *m;
    c = good;
    strcpy(c.family, "mamba");
    assert_int_equal(fm_model_build(&m, &c), FM_ERR_UNSUPPORTED);
    c = good;
    c.rope.theta = 0;
    assert_int_equal(fm_model_build(&m, &c), FM_ERR_CONFIG);
}

/* DeepSeekMoE 16B: the published shape and its exact counts, on paper and of the built model. */
static void test_deepseek_moe_16b(void **state) {
    (void)state;
    fm_model *m;
    fm_model_config cfg = {.family = "deepseek",
                           .vocab_size = 102400,
                           .d_model = 2048,
                           .n_layers = 28,
                           .n_heads = 16,
                           .n_kv_heads = 16,
                           .head_dim = 128,
                           .d_ff = 10944,
                           .max_position = 4096,
                           .act = FM_ACT_SILU,
                           .norm_eps = 1e-6,
                           .init_std = 0.006,
                           .rope = {.theta = 1e4, .dim = 128, .factor = 1},
                           .moe = {.n_experts = 64, .n_active = 6, .n_shared = 2, .d_ff = 1408, .first_dense = 1}};
    assert_int_equal(fm_model_config_params(&cfg), 16375728128);
    assert_int_equal(fm_model_config_params_active(&cfg), 2828650496);
    assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
    assert_int_equal(fm_params_numel(m->params), 16375728128);
    assert_int_equal(fm_model_params_active(m), 2828650496);
    assert_null(fm_model_moe_layer(m, 0));
    assert_non_null(fm_model_moe_layer(m, 27));
    fm_model_close(m);
}

/* DeepSeek V2-Lite, V2, V3 and V3.2: the published shapes; parameters and active ones with embedding and head, and
 * numbers that the cache holds of a token. V3.2 adds to each layer of V3 an indexer of 13,959,424 parameters and 128
 * numbers of cache. */
static void test_deepseek_latent(void **state) {
    (void)state;
    static const struct {
        const char *family;
        int32_t vocab, d, layers, heads, ff, q_rank, experts, active, shared, ff_expert, first_dense;
        int64_t params, params_active, cache;
    } rows[] = {
        {"deepseek_v2", 102400, 2048, 27, 16, 10944, 0, 64, 6, 2, 1408, 1, 15706484224, 2661150208, 15552},
        {"deepseek_v2", 102400, 5120, 60, 128, 12288, 1536, 160, 6, 2, 1536, 1, 235741434880, 21375800320, 34560},
        {"deepseek_v3", 129280, 7168, 61, 128, 18432, 1536, 256, 8, 1, 2048, 3, 671026419200, 37552282624, 35136},
        {"deepseek_v32", 129280, 7168, 61, 128, 18432, 1536, 256, 8, 1, 2048, 3, 671877944064, 38403807488, 42944},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        bool v3 = strncmp(rows[i].family, "deepseek_v3", 11) == 0, sparse = strcmp(rows[i].family, "deepseek_v32") == 0;
        fm_model_config cfg = {.vocab_size = rows[i].vocab,
                               .d_model = rows[i].d,
                               .n_layers = rows[i].layers,
                               .n_heads = rows[i].heads,
                               .n_kv_heads = rows[i].heads,
                               .head_dim = 192,
                               .d_ff = rows[i].ff,
                               .max_position = 163840,
                               .act = FM_ACT_SILU,
                               .norm_eps = 1e-6,
                               .init_std = 0.006,
                               .rope = {.theta = 1e4, .dim = 64, .factor = 1, .interleaved = true},
                               .mla = {.q_rank = rows[i].q_rank,
                                       .kv_rank = 512,
                                       .nope_dim = 128,
                                       .rope_dim = 64,
                                       .v_dim = 128,
                                       .softmax_scale = 0.07,
                                       .index_heads = sparse ? 64 : 0,
                                       .index_dim = 128,
                                       .index_topk = 2048},
                               .moe = {.n_experts = rows[i].experts,
                                       .n_active = rows[i].active,
                                       .n_shared = rows[i].shared,
                                       .d_ff = rows[i].ff_expert,
                                       .first_dense = rows[i].first_dense,
                                       .correction_bias = v3}};
        memcpy(cfg.family, rows[i].family, strlen(rows[i].family));
        cfg.moe.score = v3 ? FM_ROUTER_SIGMOID : FM_ROUTER_SOFTMAX;
        assert_int_equal(fm_model_kv_bytes_per_token(&cfg, FM_BF16), 2 * rows[i].cache);
        print_message("%s: %lld, active %lld\n", rows[i].family, (long long)fm_model_config_params(&cfg),
                      (long long)fm_model_config_params_active(&cfg));
        assert_int_equal(fm_model_config_params(&cfg), rows[i].params);
        /* The published count of V3 has the correction biases in the whole and not in the active part. */
        int64_t biases = v3 ? (rows[i].layers - rows[i].first_dense) * (int64_t)rows[i].experts : 0;
        assert_int_equal(fm_model_config_params_active(&cfg), rows[i].params_active + biases);
        if (rows[i].d == 2048) {
            fm_model *m;
            assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
            assert_int_equal(fm_params_numel(m->params), rows[i].params);
            fm_model_close(m);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),           cmocka_unit_test(test_deepseek_moe_16b),
        cmocka_unit_test(test_deepseek_latent),  cmocka_unit_test(test_vocabulary),
        cmocka_unit_test(test_published_trunks), cmocka_unit_test(test_reshape),
        cmocka_unit_test(test_any_size),         cmocka_unit_test(test_bad_configs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
