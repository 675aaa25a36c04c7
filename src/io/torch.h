/* PyTorch state dicts (.bin, .pt, .pth): tensors, mapped, without running anything.
 *
 * Since PyTorch 1.6 a file is a zip archive: data.pkl describes the tensors, data/<key> are storages (tensors are
 * views of them, several may share one). Before that, pickles and storages follow each other in one stream. Both are
 * read; see pickle.h for what a pickle may and may not do here. A state dict may be wrapped once or twice in a
 * dict under "state_dict", "model" or "module"; values that are no tensors are passed over. */
#ifndef FM_IO_TORCH_H
#define FM_IO_TORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/dtype.h"
#include "fathom/status.h"

#define FM_TORCH_MAX_DIMS 8

typedef struct fm_torch_tensor {
    char *name;
    fm_dtype dtype;         /* FM_DTYPE_COUNT when we have no such type; see dtype_name */
    const char *dtype_name; /* PyTorch's: "bfloat16" */
    int n_dims;
    int64_t dims[FM_TORCH_MAX_DIMS], stride[FM_TORCH_MAX_DIMS]; /* strides in elements, not negative */
    const uint8_t *data;                                        /* of the first element; may be unaligned */
    int64_t bytes;                                              /* of the elements, without gaps */
    int32_t file;
} fm_torch_tensor;

typedef struct fm_torch fm_torch;

/* path: a file, an index (pytorch_model.bin.index.json), or a folder with an index, pytorch_model.bin or a single file
 * of tensors. A tensor in two files, or not in the file that the index names, is an error. */
FM_MUST_CHECK fm_status fm_torch_open(fm_torch **out, const char *path);
/* One file in memory that outlives *out. */
FM_MUST_CHECK fm_status fm_torch_parse(fm_torch **out, const void *data, size_t n, const char *name);
void fm_torch_close(fm_torch *t);
size_t fm_torch_count(const fm_torch *t);
const fm_torch_tensor *fm_torch_at(const fm_torch *t, size_t i);           /* sorted by name */
const fm_torch_tensor *fm_torch_find(const fm_torch *t, const char *name); /* NULL when missing */
size_t fm_torch_n_files(const fm_torch *t);
const char *fm_torch_file(const fm_torch *t, size_t i);
/* True when a folder has files for fm_torch_open. */
bool fm_torch_in_dir(const char *dir);

#endif
