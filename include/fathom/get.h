/* Fetching models and data sets from a Hugging Face-compatible hub or mirror.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_GET_H
#define FATHOM_GET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/option.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fm_get_type { FM_GET_MODEL, FM_GET_DATASET } fm_get_type;

typedef struct fm_get_options {
    size_t size;                 /* sizeof(fm_get_options) */
    int type;                    /* fm_get_type */
    char *revision;              /* branch, tag or commit */
    char *output;                /* folder; NULL = NAME in the current one */
    char *endpoint;              /* NULL = HF_ENDPOINT, else the public hub */
    char *pack;                  /* also write this tar archive, or NULL */
    fm_strlist include, exclude; /* shell patterns on paths; without include, weights of other frameworks are left
                                  * out where safetensors are there */
    int64_t retries;             /* attempts in a row that bring nothing */
    double retry_wait;           /* seconds before the second attempt, doubled each time */
    bool list;                   /* only say what there is */
} fm_get_options;
/* The table; fm_options_init sets defaults. */
FM_API const fm_option *fm_get_option_table(void);

typedef struct fm_get_result {
    char commit[72]; /* what the revision is */
    char output[1024];
    int64_t n_files, n_bytes;         /* of all that was asked for */
    int64_t n_fetched, fetched_bytes; /* in this run */
    int64_t n_skipped;                /* weights of other frameworks, left out */
    int64_t pack_bytes;
} fm_get_result;

/* Called for each file of a list. */
typedef void (*fm_get_file_fn)(void *user, const char *path, int64_t bytes);

/* Fetches NAME ("owner/name"). The token of HF_TOKEN goes to the endpoint's host only. Files are written beside their
 * names (.part), checked against the hub's hashes, and renamed; the same call continues where one stopped.
 * FM_ERR_CANCELLED after fm_cancel. */
FM_API FM_MUST_CHECK fm_status fm_get(fm_get_result *out, const char *name, const fm_get_options *opt,
                                      fm_get_file_fn on_file, void *user);

#ifdef __cplusplus
}
#endif
#endif
