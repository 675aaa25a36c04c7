/* Writes small models of every family that transformers has, and the logits Fathom computes from each folder, for
 * test_model.py.
 *
 *   fm_write_model OUT [FOLDER ...]      each FOLDER is read and written again under OUT
 *
 * logits.bin: u32 n, u32 vocab, i32 ids[n], f32 logits[n][vocab]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/model.h"

#define N 48

typedef struct kind {
    const char *name, *family;
    fm_dtype dtype;
    bool tied, bias;
    int32_t window, window_from, head_dim;
    int64_t shard;
    fm_rope_config rope;
} kind;

static const kind kinds[] = {
    {"llama", "llama", FM_F32, false, false, 0, 0, 8, 0, {.theta = 1e4}},
    {"llama_bias_shards", "llama", FM_F32, true, true, 0, 0, 12, 9000, {.theta = 500}},
    {"llama_bf16", "llama", FM_BF16, true, false, 0, 0, 8, 0, {.theta = 1e4}},
    {"llama_f16", "llama", FM_F16, false, false, 0, 0, 8, 0, {.theta = 1e4}},
    {"llama_linear", "llama", FM_F32, true, false, 0, 0, 8, 0, {.theta = 1e4, .kind = FM_ROPE_LINEAR, .factor = 4}},
    {"llama_llama3",
     "llama",
     FM_F32,
     true,
     false,
     0,
     0,
     8,
     0,
     {.theta = 100,
      .kind = FM_ROPE_LLAMA3,
      .factor = 8,
      .low_freq_factor = 1,
      .high_freq_factor = 4,
      .original_max_position = 32}},
    {"llama_yarn",
     "llama",
     FM_F32,
     true,
     false,
     0,
     0,
     8,
     0,
     {.theta = 100,
      .kind = FM_ROPE_YARN,
      .factor = 4,
      .beta_fast = 4,
      .no_truncate = true,
      .original_max_position = 32}},
    {"llama_dynamic",
     "llama",
     FM_F32,
     true,
     false,
     0,
     0,
     8,
     0,
     {.theta = 100, .kind = FM_ROPE_DYNAMIC, .factor = 2, .original_max_position = 128}},
    {"qwen2", "qwen2", FM_F32, true, true, 0, 0, 8, 0, {.theta = 1e4}},
    {"qwen2_window", "qwen2", FM_F32, false, true, 7, 1, 8, 0, {.theta = 1e4}},
    {"qwen3", "qwen3", FM_F32, true, false, 0, 0, 16, 0, {.theta = 1e4}},
    {"mistral", "mistral", FM_F32, false, false, 9, 0, 8, 0, {.theta = 1e4}},
    {"mistral_full", "mistral", FM_F32, false, false, 0, 0, 8, 0, {.theta = 1e4}},
    {"qwen3_moe", "qwen3_moe", FM_F32, false, false, 0, 0, 16, 0, {.theta = 1e4}},
    {"qwen3_moe_bf16_shards", "qwen3_moe", FM_BF16, true, true, 0, 0, 8, 20000, {.theta = 1e4}},
    {"mixtral", "mixtral", FM_F32, false, false, 9, 0, 8, 0, {.theta = 1e4}},
};

static fm_status build(fm_model **m, const kind *k) {
    fm_model_config cfg = {.vocab_size = 70,
                           .d_model = 32,
                           .n_layers = 2,
                           .n_heads = 4,
                           .n_kv_heads = 2,
                           .d_ff = 48,
                           .max_position = 128,
                           .act = FM_ACT_SILU,
                           .norm_eps = 1e-6,
                           .init_std = 0.2,
                           .bos_id = 1,
                           .eos_id = 2,
                           .pad_id = -1};
    snprintf(cfg.family, sizeof cfg.family, "%s", k->family);
    cfg.head_dim = k->head_dim;
    cfg.tied = k->tied;
    cfg.qkv_bias = k->bias;
    cfg.o_bias = cfg.mlp_bias = k->bias && strcmp(k->family, "llama") == 0;
    cfg.qk_norm = strncmp(k->family, "qwen3", 5) == 0;
    if (strcmp(k->family, "qwen3_moe") == 0) {
        cfg.o_bias = k->bias;
        cfg.moe = (fm_moe_config){.n_experts = 6,
                                  .n_active = 2,
                                  .d_ff = 20,
                                  .first_dense = 1,
                                  .layer_phase = 1,
                                  .norm_topk = !k->bias,
                                  .aux_alpha = 0.001,
                                  .aux_pooled = true};
    } else if (strcmp(k->family, "mixtral") == 0) {
        cfg.moe = (fm_moe_config){.n_experts = 4,
                                  .n_active = 2,
                                  .d_ff = cfg.d_ff,
                                  .norm_topk = true,
                                  .aux_alpha = 0.001,
                                  .aux_pooled = true,
                                  .mixtral_names = true};
    }
    cfg.window = k->window;
    for (int32_t l = 0; l < k->window_from; l++) {
        fm_layer_set_global(&cfg, l, true);
    }
    cfg.rope = k->rope;
    cfg.rope.dim = k->head_dim;
    FM_TRY(fm_model_build(m, &cfg));
    FM_TRY(fm_params_alloc((*m)->params, FM_F32));
    FM_TRY(fm_params_init((*m)->params, 17, NULL));
    for (int i = 0; i < fm_params_count((*m)->params); i++) { /* norms and biases must count */
        fm_param *p = fm_params_at((*m)->params, i);
        for (int64_t j = 0; j < p->numel && p->n_dims == 1; j++) {
            ((float *)p->data)[j] += 0.1f * (float)((j * 7 + i) % 5 - 2);
        }
    }
    return FM_OK;
}

static fm_status write_logits(const char *dir) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32"};
    FM_TRY(fm_model_open(&m, dir, &o));
    uint32_t head[2] = {N, (uint32_t)m->cfg.vocab_size};
    int32_t ids[N];
    for (int32_t i = 0; i < N; i++) {
        ids[i] = (i * 37 + 11) % m->cfg.vocab_size;
    }
    float *out = malloc((size_t)N * head[1] * sizeof *out);
    fm_status s = out ? fm_model_logits(m, ids, N, out) : FM_ERR_NO_MEMORY;
    char path[4096];
    if (s == FM_OK) {
        s = fm_path_join(path, sizeof path, dir, "logits.bin");
    }
    FILE *f = s == FM_OK ? fopen(path, "wb") : NULL;
    if (f) {
        size_t n = fwrite(head, 4, 2, f) + fwrite(ids, 4, N, f) + fwrite(out, 4, (size_t)N * head[1], f);
        s = fclose(f) == 0 && n == 2 + N + (size_t)N * head[1] ? FM_OK : FM_ERR_IO;
    }
    free(out);
    fm_model_close(m);
    return f ? s : FM_ERR_IO;
}

static fm_status save(const fm_model *m, const char *out, const char *name, fm_dtype dtype, int64_t shard) {
    char dir[4096];
    FM_TRY(fm_path_join(dir, sizeof dir, out, name));
    FM_TRY(fm_mkdirs(dir));
    FM_TRY(fm_model_save(m, dir, dtype, shard));
    return write_logits(dir);
}

static fm_status run(int argc, char **argv) {
    fm_model *m;
    for (size_t i = 0; i < FM_ARRAY_LEN(kinds); i++) {
        FM_TRY(build(&m, &kinds[i]));
        FM_TRY(save(m, argv[1], kinds[i].name, kinds[i].dtype, kinds[i].shard));
        fm_model_close(m);
    }
    for (int i = 2; i < argc; i++) {
        char name[256];
        const char *base = strrchr(argv[i], '/');
        snprintf(name, sizeof name, "again_%s", base ? base + 1 : argv[i]);
        FM_TRY(fm_model_load(&m, argv[i], true, FM_F32));
        FM_TRY(save(m, argv[1], name, FM_F32, 0));
        fm_model_close(m);
    }
    return FM_OK;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s OUT [FOLDER ...]\n", argv[0]);
        return 2;
    }
    if (run(argc, argv) != FM_OK) {
        fprintf(stderr, "%s\n%s\n", fm_error_get().message, fm_error_get().hint);
        return 1;
    }
    return 0;
}
