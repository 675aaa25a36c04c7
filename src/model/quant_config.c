/* quantization_config of config.json: how the weight files are quantised.
 *
 * Read: block-scaled fp8 as DeepSeek V3 publishes it (quant_method "fp8", fmt "e4m3": X.weight F8_E4M3 with
 * X.weight_scale_inv [ceil(out/rows), ceil(in/cols)]; scale_fmt "ue8m0" says that the factors are powers of two).
 * Read and written: int8 with a factor a row, as compressed-tensors has it (quant_method "compressed-tensors", format
 * "int-quantized": X.weight I8 [out,in] with X.weight_scale [out,1]).
 * Others are refused with the way to convert them. */
#include <stdio.h>
#include <string.h>

#include "model/files.h"

/* Methods whose layout we do not read, and what their users have besides. */
static const struct {
    const char *method, *hint;
} others[] = {
    {"gptq", "get the model it was made from, or its GGUF file; or load it with transformers and GPTQModel, call "
             "dequantize() and save_pretrained()"},
    {"awq", "get the model it was made from, or its GGUF file; or load it with transformers and autoawq, call "
            "dequantize() and save_pretrained()"},
    {"bitsandbytes", "load it in transformers, call model.dequantize(), then model.save_pretrained(DIR)"},
    {"compressed-tensors", "int8 weights of format int-quantized are read; of others, load it in transformers with "
                           "run_compressed=False, then model.save_pretrained(DIR)"},
    {"mxfp4", "load it in transformers with Mxfp4Config(dequantize=True), then model.save_pretrained(DIR)"},
};

static const char *hint_of(const char *method) {
    for (size_t i = 0; i < FM_ARRAY_LEN(others); i++) {
        if (strcmp(others[i].method, method) == 0) {
            return others[i].hint;
        }
    }
    return "get the model in bf16, f16 or f32, or as GGUF";
}

/* Every group of weights is symmetric int8 with a factor a row or a tensor. */
static fm_status parse_int8(fm_quant_config *out, const fm_json *q) {
    const char *format;
    FM_TRY(fm_json_get_str(&format, q, "format", ""));
    const fm_json *groups = fm_json_get(q, "config_groups");
    char key[32];
    int n = 0;
    bool fits = strcmp(format, "int-quantized") == 0;
    for (; fits; n++) {
        snprintf(key, sizeof key, "group_%d", n);
        const fm_json *g = fm_json_get(groups, key), *w = fm_json_get(g, "weights");
        const char *type, *strategy;
        if (fm_json_is_null(g)) {
            break;
        }
        FM_TRY(fm_json_get_str(&type, w, "type", "int"));
        FM_TRY(fm_json_get_str(&strategy, w, "strategy", "tensor"));
        fits = fm_json_int(fm_json_get(w, "num_bits"), 8) == 8 && strcmp(type, "int") == 0 &&
               (strcmp(strategy, "channel") == 0 || strcmp(strategy, "tensor") == 0) &&
               fm_json_bool(fm_json_get(w, "symmetric"), true);
    }
    if (!fits || n == 0) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                           "quantization_config: of compressed-tensors only symmetric int8 weights of format "
                           "\"int-quantized\" are read, found \"%s\"",
                           format);
        return fm_error_hint("%s", hint_of("compressed-tensors"));
    }
    out->int8 = true;
    return FM_OK;
}

static const char int8_config[] =
    "{\"quant_method\":\"compressed-tensors\",\"format\":\"int-quantized\",\"quantization_status\":\"compressed\","
    "\"ignore\":[],\"config_groups\":{"
    "\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":8,\"type\":\"int\",\"symmetric\":true,"
    "\"strategy\":\"channel\",\"dynamic\":false},\"input_activations\":{\"num_bits\":8,\"type\":\"int\","
    "\"symmetric\":true,\"strategy\":\"token\",\"dynamic\":true}},"
    "\"group_1\":{\"targets\":[\"Embedding\"],\"weights\":{\"num_bits\":8,\"type\":\"int\",\"symmetric\":true,"
    "\"strategy\":\"channel\",\"dynamic\":false}}}}";

fm_status fm_quant_config_int8(fm_json **out) {
    return fm_json_parse(out, int8_config, sizeof int8_config - 1, "quantization_config");
}

fm_status fm_quant_config_parse(fm_quant_config *out, const fm_json *json) {
    *out = (fm_quant_config){0};
    const fm_json *q = fm_json_get(json, "quantization_config");
    const char *method, *fmt, *scale_fmt;
    if (fm_json_is_null(q)) {
        return FM_OK;
    }
    if (!fm_json_is_object(q)) {
        FM_FAIL(FM_ERR_FORMAT, "quantization_config: expected an object");
    }
    FM_TRY(fm_json_get_str(&method, q, "quant_method", ""));
    if (strcmp(method, "compressed-tensors") == 0) {
        return parse_int8(out, q);
    }
    if (strcmp(method, "fp8") != 0) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                           "quantization_config: quant_method \"%s\" is not read; expected \"fp8\" with fmt \"e4m3\"",
                           method);
        return fm_error_hint("%s", hint_of(method));
    }
    FM_TRY(fm_json_get_str(&fmt, q, "fmt", "e4m3"));
    FM_TRY(fm_json_get_str(&scale_fmt, q, "scale_fmt", ""));
    if (strcmp(fmt, "e4m3") != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "quantization_config: fmt \"%s\" is not read; expected \"e4m3\"", fmt);
    }
    if (*scale_fmt && strcmp(scale_fmt, "ue8m0") != 0 && strcmp(scale_fmt, "float") != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "quantization_config: scale_fmt \"%s\" is not read; expected \"ue8m0\" or \"float\"", scale_fmt);
    }
    const fm_json *block = fm_json_get(q, "weight_block_size");
    out->fp8 = true;
    if (fm_json_is_null(block)) {
        return FM_OK; /* one factor for each tensor */
    }
    out->block_rows = fm_json_int(fm_json_at(block, 0), 0);
    out->block_cols = fm_json_int(fm_json_at(block, 1), 0);
    if (fm_json_size(block) != 2 || out->block_rows < 1 || out->block_cols < 1 || out->block_rows > INT32_MAX ||
        out->block_cols > INT32_MAX) {
        FM_FAIL(FM_ERR_CONFIG, "quantization_config: weight_block_size: expected two sizes");
    }
    return FM_OK;
}
