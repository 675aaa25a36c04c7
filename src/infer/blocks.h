/* Blocks of a paged KV cache: who uses them, and which hold a known beginning.
 *
 * A block holds the keys and values of block_tokens consecutive tokens. A full one can be published: it is then found
 * by the block before it and its token ids, so that another sequence with the same beginning uses it instead of
 * computing it. Blocks that nobody uses keep what they hold until they are needed for something else; the one unused
 * longest goes first.
 *
 * A block that is given new content gets a new serial number. A link names block and serial number of the block before,
 * so what followed lost content can no longer be found: no comparison of hashes alone ever decides. */
#ifndef FM_INFER_BLOCKS_H
#define FM_INFER_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_blocks fm_blocks;

/* The place in a chain after which a block stands. */
typedef struct fm_block_link {
    int32_t block;   /* -1: the beginning of a text */
    uint32_t serial; /* of the block; at the beginning whatever tells texts apart that do not share (an adapter) */
} fm_block_link;

FM_MUST_CHECK fm_status fm_blocks_new(fm_blocks **out, int32_t n_blocks, int32_t block_tokens);
void fm_blocks_free(fm_blocks *b);
int32_t fm_blocks_unused(const fm_blocks *b); /* those that nobody uses, with or without content */

/* A block for new content, used once; -1 when all are in use. */
int32_t fm_blocks_take(fm_blocks *b);
/* The published block that holds ids[block_tokens] after `link`, used once more; -1 when there is none. On success
 * *link is the link to what follows. */
int32_t fm_blocks_find(fm_blocks *b, fm_block_link *link, const int32_t *ids);
/* Publishes block i, in use, that holds ids[block_tokens] after *link, unless another one with that content is there.
 * *link becomes the link to what follows, in either case. */
void fm_blocks_publish(fm_blocks *b, int32_t i, fm_block_link *link, const int32_t *ids);
void fm_blocks_release(fm_blocks *b, int32_t i);
/* Forgets all content, so that nothing is found any more. */
void fm_blocks_forget(fm_blocks *b);

#endif
