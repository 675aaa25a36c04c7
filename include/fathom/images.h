/* Changed copies of pictures.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_IMAGES_H
#define FATHOM_IMAGES_H

#include "fathom/option.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_images_config fm_images_config;
FM_API const fm_option *fm_images_options(void);
FM_API FM_MUST_CHECK fm_status fm_images_config_new(fm_images_config **out);
FM_API void fm_images_config_free(fm_images_config *c);

typedef struct fm_images_report {
    size_t size;
    int64_t n_pictures, n_bad, n_written; /* read, refused, files written (originals and copies) */
    double seconds;
} fm_images_report;
/* Reads a folder of pictures and writes another with them, copies of them, metadata.jsonl and manifest.json. The same
 * files for any number of threads. FM_ERR_UNSUPPORTED without libvips. */
FM_API FM_MUST_CHECK fm_status fm_images_run(fm_images_report *out, const fm_images_config *c);

#ifdef __cplusplus
}
#endif
#endif
