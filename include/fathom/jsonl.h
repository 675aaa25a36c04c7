/* Reading fields of one JSON line, for programs that talk JSONL.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_JSONL_H
#define FATHOM_JSONL_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The string member `key` of the object on this line: bytes with NUL terminator (fm_string_free). `name` is for
 * messages. */
FM_API FM_MUST_CHECK fm_status fm_jsonl_string(char **out, size_t *n_out, const char *line, size_t n, const char *key,
                                               const char *name);
/* The member `key`, an array of integers in [0, 2^31) (fm_ids_free). */
FM_API FM_MUST_CHECK fm_status fm_jsonl_ids(int32_t **out, size_t *n_out, const char *line, size_t n, const char *key,
                                            const char *name);
FM_API void fm_ids_free(int32_t *ids);

#ifdef __cplusplus
}
#endif
#endif
