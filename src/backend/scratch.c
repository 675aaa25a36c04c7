/* Scratch memory: a few blocks filled from the front. A request that does not fit opens another block, so that
 * earlier addresses stay valid; once all is given back the blocks are replaced by one of the high-water size. */
#include "backend/scratch.h"

#include "base/error.h"

#define ALIGN      64
#define MIN_BLOCK  ((int64_t)1 << 16)
#define MAX_BLOCKS 24

typedef struct block {
    void *base;
    int64_t size;
} block;

struct fm_scratch {
    block blocks[MAX_BLOCKS];
    int64_t n_blocks;
    int64_t current; /* block that requests are served from */
    int64_t used;    /* bytes of it */
    int64_t total;   /* bytes taken in all blocks */
    int64_t high_water;
};

fm_status fm_scratch_new(fm_scratch **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "out of memory for kernel scratch");
    }
    return FM_OK;
}

static void free_from(fm_scratch *s, int64_t first) {
    for (int64_t i = first; i < s->n_blocks; i++) {
        fm_pages_free(s->blocks[i].base, (size_t)s->blocks[i].size, FM_MEM_SCRATCH);
    }
    s->n_blocks = FM_MIN(s->n_blocks, first);
}

void fm_scratch_free(fm_scratch *s) {
    if (s) {
        free_from(s, 0);
        fm_free(s);
    }
}

int64_t fm_scratch_high_water(const fm_scratch *s) {
    return s->high_water;
}

fm_scratch_mark fm_scratch_save(const fm_scratch *s) {
    return (fm_scratch_mark){s->current, s->used, s->total};
}

void fm_scratch_restore(fm_scratch *s, fm_scratch_mark mark) {
    s->current = mark.block;
    s->used = mark.used;
    s->total = mark.total;
    if (mark.total == 0 && s->n_blocks > 1) {
        free_from(s, 0);
    }
}

/* Opens a block of at least `bytes` behind the present ones. */
static bool open_block(fm_scratch *s, int64_t bytes) {
    if (s->n_blocks == MAX_BLOCKS) {
        return false;
    }
    /* Doubling keeps the number of blocks small; an empty scratch gets its old size back at once. */
    int64_t size = FM_MAX(FM_MAX(bytes, s->total), MIN_BLOCK);
    if (s->n_blocks == 0) {
        size = FM_MAX(size, s->high_water);
    }
    void *p;
    if (fm_pages_alloc(&p, (size_t)size, FM_MEM_SCRATCH) != FM_OK) {
        return false;
    }
    s->blocks[s->n_blocks++] = (block){p, size};
    return true;
}

void *fm_scratch_take(const fm_exec *x, int64_t bytes) {
    fm_scratch *s = x->scratch;
    if (bytes < 0 || bytes > INT64_MAX / 4) {
        return NULL;
    }
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    while (s->current < s->n_blocks && s->blocks[s->current].size - s->used < bytes) {
        s->current++;
        s->used = 0;
    }
    if (s->current >= s->n_blocks) {
        if (!open_block(s, bytes)) {
            s->current = s->n_blocks ? s->n_blocks - 1 : 0;
            s->used = s->n_blocks ? s->blocks[s->current].size : 0;
            return NULL;
        }
        s->current = s->n_blocks - 1;
        s->used = 0;
    }
    char *p = (char *)s->blocks[s->current].base + s->used;
    s->used += bytes;
    s->total += bytes;
    s->high_water = FM_MAX(s->high_water, s->total);
    return p;
}
