/* Weight files of a model; for the files of src/model only. */
#ifndef FM_MODEL_FILES_H
#define FM_MODEL_FILES_H

#include "model/model.h"

void fm_model_files_close(fm_model *m);
void fm_model_gguf_close(fm_model *m);
/* generation_config.json, config.json for weights of this type. */
FM_MUST_CHECK fm_status fm_model_save_config(const fm_model *m, const char *dir, fm_dtype dtype);
FM_MUST_CHECK fm_status fm_model_write_config(const fm_model *m, const char *dir,
                                              fm_dtype dtype); /* config.json alone */
/* config.json -> config, checked. */
FM_MUST_CHECK fm_status fm_model_config_parse(fm_model_config *cfg, const fm_family **family, const fm_json *json);
/* End ids: an int or a list under `key` of an object. */
int fm_eos_ids(int32_t *out, int cap, const fm_json *object);
/* The plain type (f32, bf16, f16) that holds most bytes of the files; f32 when none does. */
fm_dtype fm_model_plain_dtype(const fm_model *m);
/* "license: x" of the front matter of README.md, or the first line of LICENSE; NULL when there is none (fm_free). */
char *fm_license_of(const char *dir);

/* How the tensors of the files are quantised; see quant_config.c. */
typedef struct fm_quant_config {
    bool fp8;                       /* X.weight in F8_E4M3 with X.weight_scale_inv */
    bool int8;                      /* X.weight in I8 with X.weight_scale, a factor a row or one in all */
    int64_t block_rows, block_cols; /* of one factor; 0 = the whole tensor */
} fm_quant_config;
/* From config.json; all zero when it has no quantization_config. */
FM_MUST_CHECK fm_status fm_quant_config_parse(fm_quant_config *out, const fm_json *json);
/* The quantization_config of a folder whose matrices are int8 with a factor a row; owned by the caller. */
FM_MUST_CHECK fm_status fm_quant_config_int8(fm_json **out);

#endif
