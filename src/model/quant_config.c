/* quantization_config of config.json: how the weight files are quantised.
 *
 * Read: block-scaled fp8 as DeepSeek V3 publishes it (quant_method "fp8", fmt "e4m3": X.weight F8_E4M3 with
 * X.weight_scale_inv [ceil(out/rows), ceil(in/cols)]; scale_fmt "ue8m0" says that the factors are powers of two).
 * Others are refused with the way to convert them. */
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
    {"compressed-tensors", "load it in transformers with run_compressed=False, then model.save_pretrained(DIR)"},
    {"mxfp4", "load it in transformers with Mxfp4Config(dequantize=True), then model.save_pretrained(DIR)"},
};

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
    if (strcmp(method, "fp8") != 0) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                           "quantization_config: quant_method \"%s\" is not read; expected \"fp8\" with fmt \"e4m3\"",
                           method);
        for (size_t i = 0; i < FM_ARRAY_LEN(others); i++) {
            if (strcmp(others[i].method, method) == 0) {
                return fm_error_hint("%s", others[i].hint);
            }
        }
        return fm_error_hint("get the model in bf16, f16 or f32, or as GGUF");
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
