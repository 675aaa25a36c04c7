/* Frozen test sets: a file of rows with FILE.frozen.json beside it, which keeps the file's hash and a key of what each
 * row asks. Rows with such a key are refused as training data, and a changed file as test data.
 *
 * The key of a row is a hash of its question (columns question, prompt, instruction, query, text, sentence, messages or
 * conversations, or the one named) without case, blanks and ASCII punctuation. */
#ifndef FM_DATA_FROZEN_H
#define FM_DATA_FROZEN_H

#include "data/rec.h"
#include "fathom/data.h"
#include "fathom/option.h"

/* FM_ERR_DATA naming the first row of `input` (files, folders, globs) that a frozen test set has. Sets are those of
 * `named` (manifests or the files themselves) and those beside the inputs; without one nothing is read. */
FM_MUST_CHECK fm_status fm_frozen_check(const fm_strlist *input, const fm_strlist *named, const char *format);
/* FM_ERR_DATA when the file is a frozen test set and is not what was frozen. hash [33]: of the manifest, "" = none. */
FM_MUST_CHECK fm_status fm_frozen_verify(const char *path, char *hash);

#endif
