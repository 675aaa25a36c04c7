/* Frozen test sets: a file of rows with FILE.frozen.json beside it, which keeps the file's hash and a key of what each
 * row asks. Rows with such a key are refused as training data, and a changed file as test data.
 *
 * The key of a row is a hash of its question (columns question, prompt, instruction, query, text, sentence, messages or
 * conversations, or the one named; of a conversation its first turn behind the system's) without case, blanks and ASCII
 * punctuation. */
#ifndef FM_DATA_FROZEN_H
#define FM_DATA_FROZEN_H

#include "data/rec.h"
#include "fathom/data.h"
#include "fathom/option.h"

#define FM_FROZEN_SUFFIX ".frozen.json"

/* Key of what the row asks; false when it asks nothing. named: the column, NULL or not there = the usual ones. length:
 * bytes of the question, or NULL. */
bool fm_frozen_key(uint64_t *key, const fm_rec *row, const char *named, int64_t *length, fm_str *scratch);
bool fm_frozen_text_key(uint64_t *key, fm_sv text, fm_str *scratch);
void fm_frozen_sort(uint64_t *keys, size_t n);
bool fm_frozen_has(const uint64_t *keys, size_t n, uint64_t key); /* keys [n] sorted */
/* Keeps a manifest among those of all sets frozen on this machine. */
FM_MUST_CHECK fm_status fm_frozen_remember(const char *hash, const char *manifest, size_t n);
/* FM_ERR_DATA naming the first row of `input` (files, folders, globs) that a frozen test set has. Sets are those of
 * `named` (manifests or the files themselves), those beside the inputs and those frozen on this machine before
 * (frozen/ beside the registry of runs; FATHOM_REGISTRY=none turns it off); without one nothing is read. */
FM_MUST_CHECK fm_status fm_frozen_check(const fm_strlist *input, const fm_strlist *named, const char *format);
/* FM_ERR_DATA when the file is a frozen test set and is not what was frozen. hash [33]: of the manifest, "" = none. */
FM_MUST_CHECK fm_status fm_frozen_verify(const char *path, char *hash);

#endif
