/* Models: open, describe, run.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_MODEL_H
#define FATHOM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"
#include "fathom/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_model fm_model;

typedef struct fm_model_options {
    size_t size; /* sizeof(fm_model_options) */
    /* "auto" (or NULL): quantised weights are multiplied as they are; plain ones in bf16 where the file is bf16 and the
     * CPU has it, else f32. "bf16", "f32": all are converted, and activations are not rounded to int8. */
    const char *dtype;
    int threads;         /* 0 = all */
    const char *adapter; /* PEFT folder whose additions are applied, or NULL */
    int column;          /* of a model with progressive columns: the one that answers, 1 = the first, as it was before
                            any was added; 0 = the newest */
} fm_model_options;

/* A Hugging Face folder. Weights are mapped; opt may be NULL. */
FM_API FM_MUST_CHECK fm_status fm_model_open(fm_model **out, const char *path, const fm_model_options *opt);
FM_API void fm_model_close(fm_model *m);
/* The folder's tokenizer, owned by the model, opened at first use. */
FM_API FM_MUST_CHECK fm_status fm_model_tokenizer(const fm_tokenizer **out, fm_model *m);

/* What `fathom info` shows. Strings are owned by the model. */
typedef struct fm_model_info {
    const char *family;       /* "llama" */
    const char *architecture; /* "LlamaForCausalLM" */
    int64_t n_params, n_params_active, n_params_embedding;
    int32_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size;
    int64_t max_position;
    bool tied_embeddings, qkv_bias, qk_norm;
    const char *positions; /* "rope", "learned", "alibi" */
    double rope_theta;
    const char *rope_scaling; /* "none", "linear" ... */
    const char *dtype;        /* of the stored weights */
    const char *dtype_mix;    /* "q4_k 74%, q6_k 26%" by bytes; NULL when all have that type */
    int64_t file_bytes;
    int32_t n_files;
    int64_t train_bytes_per_param; /* weights, copy, gradient, AdamW state in the default precision */
    int64_t kv_bytes_per_token;    /* bf16 cache */
    const char *chat_template;     /* NULL when none */
    int32_t n_experts, n_experts_active, n_experts_shared; /* 0 = dense */
    int64_t serve_bytes;                                   /* of the weights as they are computed with */
    const char *compute;                                   /* type they are computed with */
    const char *license;                                   /* NULL when unknown */
    int32_t n_columns, column; /* progressive columns, 1 = no more than the model itself; the one that answers */
} fm_model_info;
FM_API FM_MUST_CHECK fm_status fm_model_get_info(fm_model_info *out, fm_model *m);
/* Path and bytes of a weight file; NULL past the last (also when the model was not opened from a folder). */
FM_API const char *fm_model_file(const fm_model *m, int32_t i, int64_t *bytes);
/* Reads every weight and refuses NaN and infinity (FM_ERR_NUMERIC naming the tensor and the place); quantised blocks
 * are passed over. *n gets the numbers that were looked at. */
FM_API FM_MUST_CHECK fm_status fm_model_check(fm_model *m, int64_t *n);

/* Logits of every position of one sequence: out [n_ids, vocab] float32, caller's memory. */
FM_API FM_MUST_CHECK fm_status fm_model_logits(fm_model *m, const int32_t *ids, int32_t n_ids, float *out);

/* Texts as token ids, one behind the other: text i is ids[offsets[i] .. offsets[i+1]). They do not see each other. */
typedef struct fm_texts {
    size_t size;            /* sizeof(fm_texts) */
    const int32_t *ids;     /* [offsets[n]] */
    const int32_t *types;   /* [offsets[n]] token types of an encoder, or NULL: all 0 */
    const int32_t *offsets; /* [n+1], begins with 0 */
    int32_t n;
} fm_texts;

/* Last hidden states: out [offsets[n], d_model]. */
FM_API FM_MUST_CHECK fm_status fm_model_hidden(fm_model *m, const fm_texts *texts, float *out);

/* Heads: the main one (0, name "") and others by name. Strings are owned by the model. */
typedef struct fm_head_info {
    const char *name;    /* "" for the main head */
    const char *kind;    /* "lm", "none", "classification", "multi-label", "reward", "tagging", "value" ... */
    const char *problem; /* "single" (softmax), "multi" (sigmoids), "regression" */
    bool per_token;      /* a row of scores for each token, else for each text */
    int32_t n_outputs;   /* scores in a row: labels, or the vocabulary; 0 without a head */
} fm_head_info;
/* True when the model continues texts: a decoder with a language model head. */
FM_API bool fm_model_generates(const fm_model *m);
FM_API int fm_model_head_count(const fm_model *m);
FM_API FM_MUST_CHECK fm_status fm_model_head_info(fm_head_info *out, const fm_model *m, int head);
/* name NULL or "": the main head. */
FM_API FM_MUST_CHECK fm_status fm_model_head_find(int *out, const fm_model *m, const char *name);
/* id2label of config.json; NULL when it has none. */
FM_API const char *fm_model_label(const fm_model *m, int head, int32_t label);
/* Scores before softmax or sigmoid: out [rows, n_outputs], a row for each text or token. */
FM_API FM_MUST_CHECK fm_status fm_model_scores(fm_model *m, int head, const fm_texts *texts, float *out);

typedef enum fm_normalize { FM_NORMALIZE_AUTO, FM_NORMALIZE_ON, FM_NORMALIZE_OFF } fm_normalize;
typedef struct fm_embed_options {
    size_t size;            /* sizeof(fm_embed_options) */
    const char *pooling;    /* "mean", "cls" (first token), "last"; NULL or "auto": 1_Pooling/config.json of
                               sentence-transformers, else mean for encoders and last for decoders */
    fm_normalize normalize; /* to length 1; auto: when modules.json says so */
} fm_embed_options;
/* One vector a text: out [n, d_model]. opt may be NULL. */
FM_API FM_MUST_CHECK fm_status fm_model_embed(fm_model *m, const fm_texts *texts, const fm_embed_options *opt,
                                              float *out);

/* What merging did to the logits of a fixed made-up text, in f32: largest difference between base plus adapter and the
 * merged model as it was written, and the largest logit. */
typedef struct fm_merge_report {
    size_t size; /* sizeof(fm_merge_report) */
    int n_weights;
    int64_t rank;
    double max_difference, max_logit;
    double max_difference_quantised; /* the same between the quantised base with its adapter and the merged model; NaN
                                        without a type */
} fm_merge_report;
typedef struct fm_merge_options {
    size_t size;              /* sizeof(fm_merge_options) */
    const char *dtype;        /* f32, bf16, f16 or NULL = as base */
    const char *quantization; /* what the frozen weights were held in while the adapter was trained: nf4, int8, q4_k ...
                                 or NULL; "stored" files need none */
    bool single_quantization; /* nf4: scales in f32 (double_quantization: false) */
    bool dequantised;         /* merge into the rounded weights instead of the full ones */
} fm_merge_options;
/* Adds a PEFT adapter to the weights of `base` and writes a Hugging Face folder `out` (must not exist or be empty).
 * dtype: f32, bf16, f16 or NULL = as base. report may be NULL. */
FM_API FM_MUST_CHECK fm_status fm_model_merge(fm_merge_report *report, const char *base, const char *adapter,
                                              const char *out, const char *dtype);
FM_API FM_MUST_CHECK fm_status fm_model_merge_with(fm_merge_report *report, const char *base, const char *adapter,
                                                   const char *out, const fm_merge_options *o);

/* Writes a Hugging Face folder `out` (must not exist or be empty) whose weights are the mean of those of n models of
 * one shape; other files come from the first. FM_ERR_CONFIG names the first tensor that does not fit. dtype: f32, bf16,
 * f16 or NULL = as the first. */
FM_API FM_MUST_CHECK fm_status fm_model_average(const char *const *paths, int n, const char *out, const char *dtype);

/* Presets: one row per named size. */
typedef struct fm_preset {
    const char *name; /* "26m" */
    int32_t d_model, n_layers, n_heads, n_kv_heads, d_ff, vocab_size;
    bool tied;
    int64_t n_params;
    const char *use;
    double tokens_per_s; /* bf16 training measured on two cores (docs/performance.md); 0 = not measured */
} fm_preset;
FM_API int fm_preset_count(void);
FM_API const fm_preset *fm_preset_at(int i);
FM_API const fm_preset *fm_preset_find(const char *name); /* NULL when unknown */

#ifdef __cplusplus
}
#endif
#endif
