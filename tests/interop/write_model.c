/* Writes small models of every family that transformers has, and what Fathom computes from each folder, for
 * test_model.py.
 *
 *   fm_write_model OUT [FOLDER ...]      each FOLDER is read and written again under OUT
 *
 * outputs.bin: u32 n, u32 rows, u32 columns, i32 ids[n], f32 outputs[rows][columns]: logits, scores of the head, or
 * hidden states. */
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

/* What the model gives for a text: logits, scores of its head, or hidden states. */
static fm_status compute(fm_model *m, const int32_t *ids, int32_t n, float *out) {
    const int32_t offsets[2] = {0, n};
    fm_texts t = {.size = sizeof t, .ids = ids, .offsets = offsets, .n = 1};
    if (fm_model_generates(m)) {
        return fm_model_logits(m, ids, n, out);
    }
    return m->cfg.head.kind == FM_HEAD_NONE ? fm_model_hidden(m, &t, out) : fm_model_scores(m, 0, &t, out);
}

static fm_status write_outputs(const char *dir) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32"};
    fm_head_info h;
    FM_TRY(fm_model_open(&m, dir, &o));
    fm_status s = fm_model_head_info(&h, m, 0);
    int32_t n = (int32_t)FM_MIN(m->cfg.max_position, N), ids[N];
    uint32_t columns = (uint32_t)(h.n_outputs ? h.n_outputs : m->cfg.d_model);
    uint32_t head[3] = {(uint32_t)n, h.per_token ? (uint32_t)n : 1, columns};
    size_t numbers = (size_t)head[1] * columns;
    for (int32_t i = 0; i < n; i++) {
        ids[i] = (i * 37 + 11) % m->cfg.vocab_size;
    }
    float *out = malloc(numbers * sizeof *out);
    s = s == FM_OK && out ? compute(m, ids, n, out) : s;
    char path[4096];
    if (s == FM_OK) {
        s = fm_path_join(path, sizeof path, dir, "outputs.bin");
    }
    FILE *f = s == FM_OK && out ? fopen(path, "wb") : NULL;
    if (f) {
        size_t done = fwrite(head, 4, 3, f) + fwrite(ids, 4, (size_t)n, f) + fwrite(out, 4, numbers, f);
        s = fclose(f) == 0 && done == 3 + (size_t)n + numbers ? FM_OK : FM_ERR_IO;
    }
    free(out);
    fm_model_close(m);
    return f ? s : s == FM_OK ? FM_ERR_IO : s;
}

static fm_status save(const fm_model *m, const char *out, const char *name, fm_dtype dtype, int64_t shard) {
    char dir[4096];
    FM_TRY(fm_path_join(dir, sizeof dir, out, name));
    FM_TRY(fm_mkdirs(dir));
    FM_TRY(fm_model_save(m, dir, dtype, shard));
    return write_outputs(dir);
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
