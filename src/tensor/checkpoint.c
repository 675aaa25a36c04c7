/* Activation checkpointing (Chen et al. 2016): forward keeps a function's inputs and outputs only; backward runs it
 * again.
 *
 * Forward runs fn with the tape off. Its temporaries lie in the data arena between the mark and the outputs; the
 * outputs are moved down to the mark, in order of address, so no move overwrites one that is still to come. Backward
 * appends the nodes of the second run behind the checkpoint's own node, walks them, and drops them. The second run
 * reads random streams at the same keys, so it computes the same bits. */
#include "tensor/ctx.h"

#include <string.h>

#define MAX_IO 4

typedef struct checkpoint_attr {
    fm_checkpoint_fn fn;
    void *args;
} checkpoint_attr;

static fm_status checkpoint_backward(fm_ctx *c, fm_node *n) {
    checkpoint_attr *a = n->attr;
    size_t begin = c->n_nodes;
    for (size_t i = 0; i < c->n_nodes; i++) {
        if (c->node[i] == n) {
            begin = i + 1; /* later nodes have run */
            break;
        }
    }
    c->n_nodes = begin;
    int64_t mark = c->data.used;
    bool outer = c->recomputing;
    c->recomputing = true;
    fm_tensor *out[MAX_IO] = {0};
    fm_status s = a->fn(c, a->args, n->in, out);
    if (s == FM_OK) {
        s = c->status;
    }
    for (int o = 0; o < n->n_out && s == FM_OK; o++) {
        if (fm_has_dout(n, o) && out[o] && out[o]->needs_grad) {
            s = fm_grad_give(c, out[o], n->out[o]->grad_root->grad);
        }
    }
    if (s == FM_OK) {
        s = fm_backward_range(c, begin, c->n_nodes);
    }
    c->recomputing = outer;
    c->n_nodes = begin;
    c->data.used = mark;
    return s;
}

static const fm_op checkpoint_op = {
    .name = "checkpoint",
    .formula = "outputs of a function, computed again in backward",
    .onnx = NULL,
    .onnx_why = "export records with checkpointing off",
    .kernels = {FM_KERNEL_COUNT},
    .backward = checkpoint_backward,
};

/* Moves the outputs of the untaped run down to `mark` and gives them fresh tensor structs. */
static fm_status keep_outputs(fm_ctx *c, int64_t mark, int n_out, fm_tensor *const *run, fm_tensor **out) {
    int order[MAX_IO];
    for (int i = 0; i < n_out; i++) {
        int j = i;
        while (j > 0 && run[order[j - 1]]->storage->arena_offset > run[i]->storage->arena_offset) {
            order[j] = order[j - 1];
            j--;
        }
        order[j] = i;
    }
    c->data.used = mark;
    for (int k = 0; k < n_out; k++) {
        fm_tensor *r = run[order[k]];
        fm_tensor *t = fm_tensor_struct(c, r->dtype, r->n_dims, r->dim);
        if (!t) {
            return c->status;
        }
        bool below = r->storage->kind != FM_STORAGE_ARENA || r->storage->arena_offset < mark;
        const fm_tensor *same = NULL; /* an earlier output in the same storage was moved already */
        for (int q = 0; q < k; q++) {
            if (run[order[q]]->storage == r->storage) {
                same = out[order[q]];
            }
        }
        if (below || same) {
            t->storage = below ? r->storage : same->storage;
            t->offset_bytes = r->offset_bytes;
        } else {
            int64_t offset;
            void *src = r->storage->data ? (uint8_t *)r->storage->data + r->offset_bytes : NULL;
            FM_TRY(fm_arena_back(c, t, &offset));
            if (src) {
                memmove(t->storage->data, src, (size_t)fm_dtype_bytes(t->dtype, fm_numel(t)));
            }
        }
        out[order[k]] = t;
    }
    return FM_OK;
}

fm_status fm_checkpoint(fm_ctx *c, fm_checkpoint_fn fn, const void *args, size_t args_size, int n_in,
                        fm_tensor *const *in, int n_out, fm_tensor **out) {
    FM_TRY(c->status);
    FM_ASSERT(n_in <= MAX_IO && n_out <= FM_MAX_OUT && n_out >= 1);
    for (int i = 0; i < n_in; i++) {
        if (!in[i]) {
            return c->status;
        }
    }
    void *own = fm_host_take(c, FM_MAX(args_size, 1));
    if (!own) {
        return c->status;
    }
    if (args_size > 0) {
        memcpy(own, args, args_size);
    }
    if (!c->tape_on) {
        return fn(c, own, in, out);
    }
    const char *file = c->file;
    int line = c->line;
    int64_t mark = (c->data.used + FM_ALIGN - 1) / FM_ALIGN * FM_ALIGN;
    fm_tensor *run[MAX_IO] = {0};
    c->tape_on = false;
    fm_status s = fn(c, own, in, run);
    c->tape_on = true;
    if (s == FM_OK) {
        s = c->status;
    }
    FM_TRY(s);
    for (int i = 0; i < n_out; i++) {
        FM_ASSERT(run[i]);
    }
    FM_TRY(keep_outputs(c, mark, n_out, run, out));

    fm_node *n = fm_host_take(c, sizeof *n);
    checkpoint_attr *a = n ? fm_host_take(c, sizeof *a) : NULL;
    if (!a || !fm_node_inputs(c, n, n_in, in)) {
        return c->status;
    }
    *a = (checkpoint_attr){.fn = fn, .args = own};
    n->op = &checkpoint_op;
    n->attr = a;
    n->file = file;
    n->line = line;
    n->n_out = n_out;
    for (int i = 0; i < n_out; i++) {
        n->out[i] = out[i];
        out[i]->needs_grad = true;
        out[i]->computed = true;
    }
    return fm_tape_push(c, n);
}
