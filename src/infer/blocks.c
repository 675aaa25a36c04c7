/* Blocks of a paged KV cache. */
#include "infer/blocks.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

typedef struct block {
    int32_t uses;
    int32_t older, newer; /* among the unused: the ring through b->ring */
    int32_t bucket_next;
    uint32_t serial;
    fm_block_link link;
    uint64_t hash;
    bool published;
} block;

struct fm_blocks {
    int32_t n, tokens, n_unused;
    uint32_t mask, serial;
    block *at;       /* [n+1]; the last one is the head of the ring: its newer is the block unused longest */
    int32_t *bucket; /* [mask+1] first block, or -1 */
    int32_t *ids;    /* [n,tokens] of published blocks */
};

static void ring_insert(fm_blocks *b, int32_t i) {
    int32_t last = b->at[b->n].older;
    b->at[i].older = last;
    b->at[i].newer = b->n;
    b->at[last].newer = i;
    b->at[b->n].older = i;
    b->n_unused++;
}

static void ring_remove(fm_blocks *b, int32_t i) {
    b->at[b->at[i].older].newer = b->at[i].newer;
    b->at[b->at[i].newer].older = b->at[i].older;
    b->n_unused--;
}

fm_status fm_blocks_new(fm_blocks **out, int32_t n_blocks, int32_t block_tokens) {
    *out = NULL;
    FM_ASSERT(n_blocks > 0 && n_blocks < INT32_MAX / 2 && block_tokens > 0);
    fm_blocks *b = fm_calloc(1, sizeof *b);
    if (b) {
        uint32_t size = 16;
        while (size < (uint32_t)n_blocks) {
            size *= 2;
        }
        *b = (fm_blocks){.n = n_blocks, .tokens = block_tokens, .mask = size - 1};
        b->at = fm_calloc((size_t)n_blocks + 1, sizeof *b->at);
        b->bucket = fm_malloc((size_t)size * sizeof *b->bucket);
        b->ids = fm_calloc((size_t)n_blocks * (size_t)block_tokens, sizeof *b->ids);
    }
    if (!b || !b->at || !b->bucket || !b->ids) {
        fm_blocks_free(b);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to keep account of %d cache blocks", (int)n_blocks);
    }
    b->at[b->n].older = b->at[b->n].newer = b->n;
    for (int32_t i = 0; i < b->n; i++) {
        ring_insert(b, i);
    }
    memset(b->bucket, 0xff, ((size_t)b->mask + 1) * sizeof *b->bucket);
    *out = b;
    return FM_OK;
}

void fm_blocks_free(fm_blocks *b) {
    if (!b) {
        return;
    }
    fm_free(b->at);
    fm_free(b->bucket);
    fm_free(b->ids);
    fm_free(b);
}

int32_t fm_blocks_unused(const fm_blocks *b) {
    return b->n_unused;
}

static uint64_t hash_of(const fm_blocks *b, const fm_block_link *link, const int32_t *ids) {
    uint64_t seed = (uint64_t)(uint32_t)link->block << 32 | link->serial;
    return fm_hash64(ids, (size_t)b->tokens * sizeof *ids, seed);
}

static void unpublish(fm_blocks *b, int32_t i) {
    if (!b->at[i].published) {
        return;
    }
    int32_t *p = &b->bucket[b->at[i].hash & b->mask];
    while (*p != i) {
        p = &b->at[*p].bucket_next;
    }
    *p = b->at[i].bucket_next;
    b->at[i].published = false;
}

int32_t fm_blocks_take(fm_blocks *b) {
    int32_t i = b->at[b->n].newer;
    if (i == b->n) {
        return -1;
    }
    ring_remove(b, i);
    unpublish(b, i);
    b->at[i].uses = 1;
    b->at[i].serial = ++b->serial;
    return i;
}

/* The published block with this content, or -1. */
static int32_t lookup(const fm_blocks *b, uint64_t hash, const fm_block_link *link, const int32_t *ids) {
    int32_t i = b->bucket[hash & b->mask];
    for (; i >= 0; i = b->at[i].bucket_next) {
        const block *k = &b->at[i];
        if (k->hash == hash && k->link.block == link->block && k->link.serial == link->serial &&
            memcmp(b->ids + (int64_t)i * b->tokens, ids, (size_t)b->tokens * sizeof *ids) == 0) {
            return i;
        }
    }
    return -1;
}

int32_t fm_blocks_find(fm_blocks *b, fm_block_link *link, const int32_t *ids) {
    int32_t i = lookup(b, hash_of(b, link, ids), link, ids);
    if (i >= 0) {
        if (b->at[i].uses++ == 0) {
            ring_remove(b, i);
        }
        *link = (fm_block_link){i, b->at[i].serial};
    }
    return i;
}

void fm_blocks_publish(fm_blocks *b, int32_t i, fm_block_link *link, const int32_t *ids) {
    uint64_t hash = hash_of(b, link, ids);
    int32_t there = lookup(b, hash, link, ids);
    if (there >= 0) {
        *link = (fm_block_link){there, b->at[there].serial};
        return;
    }
    FM_ASSERT(b->at[i].uses > 0 && !b->at[i].published);
    memcpy(b->ids + (int64_t)i * b->tokens, ids, (size_t)b->tokens * sizeof *ids);
    b->at[i].hash = hash;
    b->at[i].link = *link;
    b->at[i].published = true;
    b->at[i].bucket_next = b->bucket[hash & b->mask];
    b->bucket[hash & b->mask] = i;
    *link = (fm_block_link){i, b->at[i].serial};
}

void fm_blocks_release(fm_blocks *b, int32_t i) {
    FM_ASSERT(b->at[i].uses > 0);
    if (--b->at[i].uses == 0) {
        ring_insert(b, i);
    }
}

void fm_blocks_forget(fm_blocks *b) {
    for (int32_t i = 0; i < b->n; i++) {
        unpublish(b, i);
        b->at[i].serial = ++b->serial; /* links that sequences hold lead nowhere */
    }
}
