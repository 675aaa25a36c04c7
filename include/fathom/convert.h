/* Models from one file format to another: Hugging Face folders and GGUF files.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_CONVERT_H
#define FATHOM_CONVERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_convert_options {
    size_t size;       /* sizeof(fm_convert_options) */
    const char *dtype; /* f32, f16, bf16; folders also int8, GGUF also q8_0, q4_0, q4_k_m, q6_k. NULL or "auto": as the
                          weights are */
    int threads;       /* 0 = all */
    bool overwrite;    /* replace `out` when it exists */
    bool inexact;      /* write GGUF although llama.cpp computes something slightly different; said as a warning */
    bool no_files;     /* leave config.json, tokenizer.json and the like out of a GGUF file */
    int64_t max_shard; /* of safetensors files, bytes; 0 = 5 GB */
} fm_convert_options;

typedef struct fm_convert_report {
    size_t size;                 /* sizeof(fm_convert_report) */
    const char *from, *to;       /* "huggingface", "gguf" */
    const char *dtype;           /* the type written to most bytes */
    int64_t n_tensors, n_params; /* written */
    int64_t bytes_in, bytes_out; /* of weights */
    int64_t n_fallback;          /* tensors with rows that do not fit the type's blocks: a larger type was used */
    int64_t n_overflow;          /* numbers too large for f16, written as infinity */
    double seconds;
} fm_convert_report;

/* in and out are a folder or a .gguf file; in may also be any part of a split GGUF. `out` appears whole or not at all.
 * Tensors are converted one after another: memory stays near one tensor's share of rows, not the model. A GGUF file to
 * a GGUF file keeps all metadata and names and works for every architecture. Errors: FM_ERR_EXISTS; FM_ERR_UNSUPPORTED
 * naming the key of config.json that cannot be exported; FM_ERR_CANCELLED after fm_cancel. */
FM_API FM_MUST_CHECK fm_status fm_convert(fm_convert_report *report, const char *in, const char *out,
                                          const fm_convert_options *options);

#ifdef __cplusplus
}
#endif
#endif
