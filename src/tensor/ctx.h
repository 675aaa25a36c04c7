/* Inside of a context; for the files of src/tensor only (not ops/). */
#ifndef FM_TENSOR_CTX_H
#define FM_TENSOR_CTX_H

#include "tensor/param.h"
#include "tensor/tensor.h"

#define FM_ALIGN 64

/* Host arena: structs of tensors and nodes. Blocks never move, so pointers stay valid until release. */
typedef struct fm_host_arena {
    uint8_t **block;
    size_t n_blocks, cap_blocks;
    size_t at_block, at; /* next free byte */
} fm_host_arena;

/* Data arena: a stack over one reservation; on meta only the numbers move. */
typedef struct fm_data_arena {
    uint8_t *base;
    int64_t cap, used, peak;
} fm_data_arena;

/* Gradient region: first fit over sorted free blocks, neighbours merged. */
typedef struct fm_free_block {
    int64_t offset, bytes;
} fm_free_block;
typedef struct fm_grad_heap {
    uint8_t *base;
    int64_t cap, peak;
    fm_free_block *free_block; /* sorted by offset; the last one reaches cap */
    size_t n_free, cap_free;
} fm_grad_heap;

struct fm_grad {
    fm_dtype dtype;
    void *data; /* NULL on meta */
    int64_t offset, bytes;
    int32_t refs;
};

typedef struct fm_leaf_entry {
    fm_param *param;
    fm_tensor *leaf;
    int64_t uses; /* recorded uses whose backward has not run */
} fm_leaf_entry;

struct fm_ctx {
    const fm_backend *backend;
    fm_exec exec;
    fm_dtype compute;
    uint64_t seed;
    fm_status status;
    fm_host_arena host;
    fm_data_arena data;
    fm_grad_heap grads;
    fm_node **node;
    size_t n_nodes, cap_nodes;
    fm_leaf_entry *leaf; /* open addressing by parameter, cap a power of two */
    size_t n_leaves, cap_leaves;
    bool tape_on, training, recomputing, pack, cur_records;
    uint32_t step;
    uint64_t first_token;
    const struct fm_lora_mix *mix;
    const char *file;
    int line;
};

void *fm_host_take(fm_ctx *c, size_t bytes); /* zeroed; NULL with the context failed */
fm_tensor *fm_tensor_struct(fm_ctx *c, fm_dtype dtype, int n_dims, const int64_t *dim); /* no storage yet */
/* Arena bytes for a tensor struct; FM_ERR_NO_MEMORY when the arena is full. */
fm_status fm_arena_back(fm_ctx *c, fm_tensor *t, int64_t *offset);
fm_status fm_grad_alloc(fm_ctx *c, fm_grad **out, fm_dtype dtype, int64_t numel);
void fm_grad_unref(fm_ctx *c, fm_grad *g);
void fm_grad_heap_reset(fm_ctx *c);
/* Room for n_in inputs and a note of them; false with the context failed. */
bool fm_node_inputs(fm_ctx *c, fm_node *n, int n_in, fm_tensor *const *in);
fm_status fm_tape_push(fm_ctx *c, fm_node *n);
fm_leaf_entry *fm_leaf_find(fm_ctx *c, const fm_param *p);
void fm_leaf_clear(fm_ctx *c);
/* Runs backward of nodes [begin, end) in reverse. */
fm_status fm_backward_range(fm_ctx *c, size_t begin, size_t end);
/* Adds gradient g (a reference is taken) to tensor t. */
fm_status fm_grad_give(fm_ctx *c, fm_tensor *t, fm_grad *g);

#endif
