/* Writing packed token shards. A shard is kept in memory until it is full, then written to a temporary name, synced and
 * renamed; dataset.json comes last and makes the folder a dataset. */
#ifndef FM_DATA_SHARD_WRITE_H
#define FM_DATA_SHARD_WRITE_H

#include "base/json.h"
#include "data/shard_format.h"

typedef struct fm_shard_writer fm_shard_writer;

/* The folder is made. token_bytes is 2 when every id fits in 16 bits, else 4. */
FM_MUST_CHECK fm_status fm_shard_writer_new(fm_shard_writer **out, const char *dir, int32_t vocab_size,
                                            int64_t shard_tokens);
void fm_shard_writer_free(fm_shard_writer *w);
/* Appends a document of n > 0 ids, each in [0, vocab_size). n_bytes: source text behind it. */
FM_MUST_CHECK fm_status fm_shard_writer_add(fm_shard_writer *w, const int32_t *ids, int64_t n, int64_t n_bytes,
                                            uint32_t file, int64_t line, uint32_t piece);
/* Makes the documents examples: each has a mark per token (when marks) and n_values numbers. Before the first one. */
void fm_shard_writer_set_extra(fm_shard_writer *w, bool marks, uint32_t n_values);
/* As fm_shard_writer_add with marks [n] (or NULL) and values [n_values] (or NULL), as set_extra said. */
FM_MUST_CHECK fm_status fm_shard_writer_add_example(fm_shard_writer *w, const int32_t *ids, const int16_t *marks,
                                                    int64_t n, const float *values, int64_t n_bytes, uint32_t file,
                                                    int64_t line);
/* Closes the shard in memory, if there is one. */
FM_MUST_CHECK fm_status fm_shard_writer_flush(fm_shard_writer *w);
int64_t fm_shard_writer_tokens(const fm_shard_writer *w); /* all, with those in memory */
int64_t fm_shard_writer_documents(const fm_shard_writer *w);
int64_t fm_shard_writer_bytes(const fm_shard_writer *w);
int64_t fm_shard_writer_n_shards(const fm_shard_writer *w);

/* State for a later run: an owned JSON object; only with nothing in memory (after flush). */
FM_MUST_CHECK fm_status fm_shard_writer_state(fm_json **out, const fm_shard_writer *w);
/* Takes up where a state was saved; the shard files it names are checked (size and hash), later ones are removed. */
FM_MUST_CHECK fm_status fm_shard_writer_resume(fm_shard_writer *w, const fm_json *state);

/* Flushes and writes dataset.json. `files` (names that document sources point into) and `extra` (members added to
 * dataset.json, may be NULL) are borrowed. */
FM_MUST_CHECK fm_status fm_shard_writer_finish(fm_shard_writer *w, const char *tokenizer_hash, const fm_json *files,
                                               const fm_json *extra);

#endif
