/* Parts of manifests that several commands write. */
#ifndef FM_DATA_MANIFEST_H
#define FM_DATA_MANIFEST_H

#include "base/json.h"

/* format, version, program and time. */
FM_MUST_CHECK fm_status fm_manifest_begin(fm_json *doc);
/* bytes and hash of an input file, and in `from` the manifest beside it or, with_folder, in its folder. */
FM_MUST_CHECK fm_status fm_manifest_input(fm_json *e, const char *path, bool with_folder);
/* Sets output (taken), rows, and hash: one over names and hashes of the files. */
FM_MUST_CHECK fm_status fm_manifest_outputs(fm_json *doc, fm_json *files_take, int64_t rows);
/* Sets rows, and hash from what output says now. */
FM_MUST_CHECK fm_status fm_manifest_rehash(fm_json *doc, int64_t rows);
/* Writes the manifest of a dataset that is a file or a folder. */
FM_MUST_CHECK fm_status fm_manifest_write(const char *dataset, const fm_json *manifest);

#endif
