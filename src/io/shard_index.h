/* The index of weights in several files: model.safetensors.index.json, pytorch_model.bin.index.json.
 * {"metadata": ..., "weight_map": {tensor: file in the same folder}} */
#ifndef FM_IO_SHARD_INDEX_H
#define FM_IO_SHARD_INDEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

typedef struct fm_shard_index {
    char *path, *dir;
    fm_json *json;
    char **file; /* names of the files, each once, in the order of the map */
    size_t n_files, cap;
} fm_shard_index;

/* Names that lead out of the folder are refused. */
FM_MUST_CHECK fm_status fm_shard_index_load(fm_shard_index *out, const char *path);
void fm_shard_index_free(fm_shard_index *x); /* a zeroed one is legal */

/* Asks for each tensor of the map which file it was found in (a place in file[], or -1); another than the map's is
 * FM_ERR_CORRUPT. */
typedef int (*fm_shard_find_fn)(const void *arg, const char *tensor);
FM_MUST_CHECK fm_status fm_shard_index_check(const fm_shard_index *x, fm_shard_find_fn find, const void *arg);

#endif
