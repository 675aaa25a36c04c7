/* Packed token shards: memory-mapped files of token ids with document boundaries, and a cursor over them.
 *
 * A dataset folder holds dataset.json (format version, tokenizer hash, vocab size, counts, per-shard hash, COMPLETE
 * mark) and shard-00000.fmt .... Each shard: header, token ids (u16 when vocab <= 65536, else u32), document end
 * offsets.
 *
 * Samples are windows of `seq_len` tokens over the concatenated documents of one split; inside a window the documents
 * are separate segments (no cross-talk), positions restart at each document. The order of windows is a pseudo-random
 * permutation computed point-wise (fm_permute) keyed by (seed, epoch): no memory proportional to the data, and the
 * cursor is two integers. */
#ifndef FM_DATA_SHARDS_H
#define FM_DATA_SHARDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_dataset fm_dataset;
FM_MUST_CHECK fm_status fm_dataset_open(fm_dataset **out, const char *dir);
void fm_dataset_close(fm_dataset *d);
int64_t fm_dataset_tokens(const fm_dataset *d);
int64_t fm_dataset_documents(const fm_dataset *d);
int64_t fm_dataset_bytes(const fm_dataset *d); /* of source text (UTF-8), for bits per byte */
int32_t fm_dataset_vocab(const fm_dataset *d);
const char *fm_dataset_hash(const fm_dataset *d); /* content hash, hex */
const char *fm_dataset_tokenizer_hash(const fm_dataset *d);
const char *fm_dataset_dir(const fm_dataset *d);
/* Tokens of [begin, begin+n) of the whole sequence of documents, with the ends of documents inside the range:
 * doc_start[i] true where token i begins a document. */
FM_MUST_CHECK fm_status fm_dataset_read(const fm_dataset *d, int64_t begin, int32_t n, int32_t *ids, bool *doc_start);

/* Documents that are examples: rows with marks or values (src/data/examples.h). */
bool fm_dataset_is_examples(const fm_dataset *d);
int32_t fm_dataset_n_values(const fm_dataset *d);
/* dataset.json, for what a task keeps there ("task", "labels", "mark_weights", "n_trained"); borrowed. */
const struct json_t *fm_dataset_json(const fm_dataset *d);
/* Tokens of document i: [begin, begin + n) of the whole sequence. */
void fm_dataset_document(const fm_dataset *d, int64_t i, int64_t *begin, int64_t *n);
/* Marks of the n tokens from `begin`, all of one document; zeros when there are none. */
void fm_dataset_marks(const fm_dataset *d, int64_t begin, int64_t n, int16_t *out);
/* The numbers of document i, [n_values]. */
void fm_dataset_values(const fm_dataset *d, int64_t i, float *out);

typedef struct fm_cursor {
    int64_t epoch, index; /* next sample inside the epoch */
} fm_cursor;

typedef struct fm_packing fm_packing;
typedef struct fm_curriculum fm_curriculum;

typedef struct fm_sampler {
    const fm_dataset *data;
    fm_packing *packing; /* of examples, owned; NULL: windows over the sequence of documents */
    int32_t seq_len;
    uint64_t seed;
    bool shuffle;
    fm_curriculum *levels; /* owned; NULL: all windows in each epoch */
    int64_t n_samples;     /* windows per epoch */
    fm_cursor at;
} fm_sampler;
/* FM_ERR_DATA when the dataset is shorter than one window. When the last window would be short it begins earlier, and
 * the targets that the window before it trains are masked. */
FM_MUST_CHECK fm_status fm_sampler_init(fm_sampler *s, const fm_dataset *d, int32_t seq_len, uint64_t seed,
                                        bool shuffle);
/* The same with windows in levels (data/curriculum.h), which are taken over. level [documents], of examples: they share
 * windows only with others of their level, and the bounds of the levels are set here. */
FM_MUST_CHECK fm_status fm_sampler_init_levels(fm_sampler *s, const fm_dataset *d, int32_t seq_len, uint64_t seed,
                                               bool shuffle, fm_curriculum *levels, const uint8_t *level);
void fm_sampler_deinit(fm_sampler *s);
/* One packed sample in the caller's arrays: ids, pos, targets [seq_len] (targets -100 where the next token belongs to
 * another document or there is none), seg_end offsets appended to offsets (relative to `base`). Returns the sample's
 * global id in *row (first token index) so that the rows of a bad step can be named. Advances the cursor. */
FM_MUST_CHECK fm_status fm_sampler_next(fm_sampler *s, int32_t *ids, int32_t *pos, int32_t *targets, int32_t base,
                                        int32_t *offsets, int32_t *n_segments, int64_t *row);
/* The same for a dataset of examples, whose windows hold whole documents (src/data/packing.h). mark [seq_len] is that
 * of the token itself (0 in the padding at the end, which is a segment of its own); document [seq_len] gets one entry a
 * segment: its number, or -1 for padding. targets are those of the next token inside the document. */
FM_MUST_CHECK fm_status fm_sampler_next_examples(fm_sampler *s, int32_t *ids, int32_t *pos, int32_t *targets,
                                                 int16_t *mark, int64_t *document, int32_t *offsets,
                                                 int32_t *n_segments, int64_t *row);
/* The folder of a part ("train", "val") of what data pack wrote: dir/part when it is a dataset, else dir itself. */
FM_MUST_CHECK fm_status fm_dataset_part(char *buf, size_t cap, const char *dir, const char *part);
/* Reads every shard and compares its hash with dataset.json; FM_ERR_CORRUPT names the file. */
FM_MUST_CHECK fm_status fm_dataset_verify(const fm_dataset *d);
/* Where a token position comes from: document number and, when the dataset kept it, source file and line. */
FM_MUST_CHECK fm_status fm_dataset_locate(const fm_dataset *d, int64_t token, int64_t *document, char *where,
                                          int64_t where_cap);

#endif
