/* Layout of a shard file, shared by writer and reader. All numbers little-endian.
 *
 *   header           64 bytes (fm_shard_header)
 *   token ids        n_tokens x token_bytes (2 or 4)
 *   pad to 8 bytes
 *   document ends    n_documents x u64: first token after the document, counted from the shard's first token
 *   document sources n_documents x fm_shard_source
 *
 * Examples (rows with a loss of their own: answers, labels) have more, at extra_at:
 *   fm_shard_extra   16 bytes
 *   marks            n_tokens x i16, when has_marks: what a token is for, by the task of dataset.json
 *   pad to 8 bytes
 *   values           n_documents x n_values x f32
 *
 * A document never crosses a shard. Version 1 has no extra part and is still what is written without one; a reader
 * accepts every version up to its own. */
#ifndef FM_DATA_SHARD_FORMAT_H
#define FM_DATA_SHARD_FORMAT_H

#include <stdint.h>

#define FM_SHARD_MAGIC     "FMSHARD\n"
#define FM_SHARD_VERSION   2
#define FM_DATASET_FORMAT  "fathom-dataset"
#define FM_DATASET_VERSION 2
#define FM_DATASET_FILE    "dataset.json"

typedef struct fm_shard_header {
    char magic[8];
    uint32_t version, token_bytes;
    uint64_t n_tokens, n_documents;
    uint64_t ends_at, sources_at, file_bytes; /* offsets from the start of the file */
    uint64_t extra_at;                        /* 0 = none (version 1) */
} fm_shard_header;
_Static_assert(sizeof(fm_shard_header) == 64, "the header is 64 bytes");

typedef struct fm_shard_extra {
    uint32_t has_marks, n_values;
    uint64_t reserved;
} fm_shard_extra;
_Static_assert(sizeof(fm_shard_extra) == 16, "the extra part begins with 16 bytes");

typedef struct fm_shard_source {
    uint32_t file; /* index into "files" of dataset.json */
    uint32_t line_low, line_high;
    uint32_t piece; /* 0, or which part of a row that was split */
} fm_shard_source;
_Static_assert(sizeof(fm_shard_source) == 16, "a source is 16 bytes");

#endif
