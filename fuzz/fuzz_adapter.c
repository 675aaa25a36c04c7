/* A PEFT folder: whatever opens on a small model has the shapes of that model, and every byte of it can be read.
 * Input: length of adapter_config.json (16 bits, little-endian), that file, adapter_model.safetensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "fuzz.h"
#include "model/adapter.h"
#include "model/files.h"

static const char base[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":16,\"hidden_size\":8,"
    "\"intermediate_size\":16,\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":2,"
    "\"rms_norm_eps\":1e-6,\"max_position_embeddings\":64,\"tie_word_embeddings\":true}";

static char dir[64];
static fm_json *json;
static fm_model_config cfg;
static const fm_family *family;
static fm_model *model;

static void leave(void) {
    fm_model_close(model);
    fm_json_free(json);
    if (fm_remove_tree(dir) != FM_OK) {
        fprintf(stderr, "%s could not be removed\n", dir);
    }
}

static void start(void) {
    snprintf(dir, sizeof dir, "/tmp/fuzz_adapter_XXXXXX");
    if (!mkdtemp(dir) || fm_json_parse(&json, base, sizeof base - 1, "base") != FM_OK ||
        fm_model_config_parse(&cfg, &family, json) != FM_OK || fm_model_build(&model, &cfg) != FM_OK) {
        abort();
    }
    atexit(leave);
}

static void write_file(const char *name, const uint8_t *data, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!model) {
        start();
    }
    size_t n = size < 2 ? 0 : (size_t)data[0] | (size_t)data[1] << 8;
    if (size < 2 || n > size - 2) {
        return 0;
    }
    write_file("adapter_config.json", data + 2, n);
    write_file("adapter_model.safetensors", data + 2 + n, size - 2 - n);

    fm_model_config with = cfg;
    fm_json *own;
    bool brings;
    if (fm_json_parse(&own, base, sizeof base - 1, "base") != FM_OK) {
        abort();
    }
    if (fm_adapter_heads(&with, family, own, dir, &brings) == FM_OK && with.head.kind != FM_HEAD_LM &&
        with.head.kind != FM_HEAD_NONE && with.head.n_labels < 1) {
        abort();
    }
    fm_json_free(own);

    fm_adapter *a;
    if (fm_adapter_open_apart(&a, model, dir) != FM_OK) {
        return 0;
    }
    unsigned sum = 0;
    for (int i = 0; i < fm_params_count(a->params); i++) {
        const fm_param *p = fm_params_at(a->params, i);
        const uint8_t *bytes = p->data;
        for (int64_t k = 0; k < fm_dtype_bytes(p->dtype, p->numel); k++) {
            sum += bytes[k];
        }
    }
    if (a->n == 0 || sum > 255u * size) {
        abort();
    }
    fm_adapter_free(a);
    return 0;
}
