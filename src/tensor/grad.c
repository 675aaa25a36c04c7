/* Gradients of activations: a region with a free list, sharing by reference count. */
#include "tensor/ctx.h"

#include <string.h>

void fm_grad_heap_reset(fm_ctx *c) {
    c->grads.free_block[0] = (fm_free_block){.offset = 0, .bytes = c->grads.cap};
    c->grads.n_free = 1;
}

fm_status fm_grad_alloc(fm_ctx *c, fm_grad **out, fm_dtype dtype, int64_t numel) {
    *out = NULL;
    int64_t bytes = fm_dtype_bytes(dtype, numel);
    bytes = (FM_MAX(bytes, 1) + FM_ALIGN - 1) / FM_ALIGN * FM_ALIGN;
    fm_grad_heap *h = &c->grads;
    size_t i = 0;
    while (i < h->n_free && h->free_block[i].bytes < bytes) {
        i++;
    }
    if (i == h->n_free) {
        char cap[32];
        fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__,
                     "gradients of activations need more than the %s set aside for them (%lld bytes asked for)",
                     fm_format_bytes(cap, sizeof cap, (double)h->cap), (long long)bytes);
        (void)fm_error_hint("lower the micro-batch or the sequence length, or turn gradient_checkpointing on");
        return FM_ERR_NO_MEMORY;
    }
    fm_grad *g = fm_host_take(c, sizeof *g);
    if (!g) {
        return FM_ERR_NO_MEMORY; /* recorded by fm_host_take */
    }
    g->dtype = dtype;
    g->offset = h->free_block[i].offset;
    g->bytes = bytes;
    g->refs = 1;
    g->data = h->base ? h->base + g->offset : NULL;
    h->free_block[i].offset += bytes;
    h->free_block[i].bytes -= bytes;
    if (h->free_block[i].bytes == 0) {
        memmove(&h->free_block[i], &h->free_block[i + 1], (h->n_free - i - 1) * sizeof *h->free_block);
        h->n_free--;
    }
    h->peak = FM_MAX(h->peak, g->offset + bytes);
    *out = g;
    return FM_OK;
}

/* Gives a block back. Room in the list is made first by merging; when the list itself cannot grow the block is lost
 * until the next reset, which costs memory and nothing else. */
static void heap_free(fm_grad_heap *h, int64_t offset, int64_t bytes) {
    size_t i = 0;
    while (i < h->n_free && h->free_block[i].offset < offset) {
        i++;
    }
    bool left = i > 0 && h->free_block[i - 1].offset + h->free_block[i - 1].bytes == offset;
    bool right = i < h->n_free && offset + bytes == h->free_block[i].offset;
    if (left && right) {
        h->free_block[i - 1].bytes += bytes + h->free_block[i].bytes;
        memmove(&h->free_block[i], &h->free_block[i + 1], (h->n_free - i - 1) * sizeof *h->free_block);
        h->n_free--;
    } else if (left) {
        h->free_block[i - 1].bytes += bytes;
    } else if (right) {
        h->free_block[i].offset = offset;
        h->free_block[i].bytes += bytes;
    } else if (fm_grow((void **)&h->free_block, &h->cap_free, h->n_free + 1, sizeof *h->free_block) == FM_OK) {
        memmove(&h->free_block[i + 1], &h->free_block[i], (h->n_free - i) * sizeof *h->free_block);
        h->free_block[i] = (fm_free_block){.offset = offset, .bytes = bytes};
        h->n_free++;
    }
}

void fm_grad_unref(fm_ctx *c, fm_grad *g) {
    if (--g->refs == 0) {
        heap_free(&c->grads, g->offset, g->bytes);
    }
}

/* Makes the gradient of root private before it is written to. */
static fm_status make_unique(fm_ctx *c, fm_tensor *root) {
    fm_grad *g = root->grad;
    if (g->refs == 1) {
        return FM_OK;
    }
    fm_grad *own;
    FM_TRY(fm_grad_alloc(c, &own, g->dtype, fm_numel(root)));
    fm_axpby_args a = {.n = fm_numel(root), .alpha = 1, .beta = 0, .x = g->data, .y = own->data};
    FM_TRY(fm_run(c, FM_K_axpby, g->dtype, &a));
    g->refs--;
    root->grad = own;
    return FM_OK;
}

fm_status fm_grad_give(fm_ctx *c, fm_tensor *t, fm_grad *g) {
    fm_tensor *root = t->grad_root;
    if (!root->grad) {
        root->grad = g;
        g->refs++;
        return FM_OK;
    }
    if (root->grad == g) {
        /* The same buffer arrives twice (x + x): the sum is twice the buffer. */
        FM_TRY(make_unique(c, root));
        if (root->grad == g) {
            fm_axpby_args twice = {.n = fm_numel(root), .alpha = 1, .beta = 1, .x = g->data, .y = g->data};
            return fm_run(c, FM_K_axpby, g->dtype, &twice);
        }
    }
    FM_TRY(make_unique(c, root));
    FM_ASSERT(root->grad->dtype == g->dtype);
    fm_axpby_args a = {.n = fm_numel(root), .alpha = 1, .beta = 1, .x = g->data, .y = root->grad->data};
    return fm_run(c, FM_K_axpby, g->dtype, &a);
}

bool fm_has_dout(const fm_node *n, int i) {
    return i < n->n_out && n->out[i]->grad_root->grad != NULL;
}

void *fm_dout(fm_ctx *c, fm_node *n, int i) {
    FM_UNUSED(c);
    return fm_has_dout(n, i) ? n->out[i]->grad_root->grad->data : NULL;
}

bool fm_wants(const fm_node *n, int i) {
    return i < n->n_in && n->in[i] && n->in[i]->needs_grad;
}

static fm_status grad_slot(fm_ctx *c, fm_tensor *t, fm_dtype dtype, void **data, bool *acc) {
    fm_tensor *root = t->grad_root;
    if (root->computed && root->dtype != dtype) {
        /* Its producer's backward reads the gradient in the tensor's own dtype. */
        FM_FAIL(FM_ERR_UNSUPPORTED, "a computed %s tensor cannot serve as a weight: its gradient would be %s",
                fm_dtype_get(root->dtype)->name, fm_dtype_get(dtype)->name);
    }
    if (!root->grad) {
        FM_TRY(fm_grad_alloc(c, &root->grad, dtype, fm_numel(root)));
        *acc = false;
    } else {
        if (root->grad->dtype != dtype) {
            FM_FAIL(FM_ERR_STATE,
                    "tensor %s is used both as a weight and as an activation: its gradient would have two types",
                    root->name ? root->name : "(unnamed)");
        }
        FM_TRY(make_unique(c, root));
        *acc = true;
    }
    *data = root->grad->data;
    return FM_OK;
}

fm_status fm_din(fm_ctx *c, fm_node *n, int i, void **data, bool *acc) {
    FM_ASSERT(fm_wants(n, i));
    if (n->in[i]->param) {
        FM_FAIL(FM_ERR_STATE, "input %d of %s takes an activation, found parameter %s", i, n->op->name,
                n->in[i]->param->name);
    }
    return grad_slot(c, n->in[i], n->in[i]->dtype, data, acc);
}

fm_status fm_dweight(fm_ctx *c, fm_node *n, int i, void **data, bool *acc) {
    FM_ASSERT(fm_wants(n, i));
    fm_param *p = n->in[i]->param;
    if (!p) {
        return grad_slot(c, n->in[i], fm_dtype_acc(n->in[i]->dtype), data, acc);
    }
    if (!p->grad && !fm_ctx_is_meta(c)) {
        FM_FAIL(FM_ERR_STATE, "parameter %s has no gradient memory (fm_params_alloc_grads)", p->name);
    }
    *data = p->grad;
    *acc = p->grad_written;
    if (!fm_ctx_is_meta(c)) {
        p->grad_written = true;
    }
    return FM_OK;
}

fm_status fm_dweight_add(fm_ctx *c, fm_node *n, int i, void **data) {
    bool acc;
    FM_TRY(fm_dweight(c, n, i, data, &acc));
    if (!acc) {
        const fm_tensor *t = n->in[i];
        fm_fill_args a = {.n = fm_numel(t), .value = 0, .y = *data};
        FM_TRY(fm_run(c, FM_K_fill, fm_dtype_acc(t->dtype), &a));
    }
    return FM_OK;
}

fm_status fm_dshare(fm_ctx *c, fm_node *n, int o, int i) {
    if (!fm_has_dout(n, o) || !fm_wants(n, i)) {
        return FM_OK;
    }
    FM_ASSERT(n->in[i]->dtype == n->out[o]->dtype && !n->in[i]->param);
    return fm_grad_give(c, n->in[i], n->out[o]->grad_root->grad);
}

fm_status fm_dmove(fm_ctx *c, fm_node *n, int o, int i, void **data, bool *acc) {
    FM_ASSERT(fm_has_dout(n, o) && fm_wants(n, i));
    fm_grad *g = n->out[o]->grad_root->grad;
    fm_tensor *root = n->in[i]->grad_root;
    if (g->refs == 1 && !root->grad && !n->in[i]->param && g->dtype == root->dtype) {
        root->grad = g;
        g->refs++;
        *data = g->data;
        *acc = false;
        return FM_OK;
    }
    return fm_din(c, n, i, data, acc);
}

void *fm_grad_of(const fm_tensor *t, fm_dtype *dtype) {
    if (!t) {
        return NULL;
    }
    if (t->param) {
        *dtype = fm_dtype_acc(t->dtype);
        return t->param->grad_written ? t->param->grad : NULL;
    }
    const fm_grad *g = t->grad_root->grad;
    if (!g) {
        return NULL;
    }
    *dtype = g->dtype;
    return g->data;
}
