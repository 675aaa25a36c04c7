/* Recording and backward.
 *
 * fm_apply runs one operation and, when the tape is on and an input needs a gradient, appends a node. Backward walks
 * the nodes in reverse: an output without a gradient means the node had no influence on the loss and is skipped. After
 * a node has run, the gradients of its outputs have served and go back to the free list. */
#include "tensor/ctx.h"

#include <string.h>

fm_status fm_tape_push(fm_ctx *c, fm_node *n) {
    FM_TRY(fm_grow((void **)&c->node, &c->cap_nodes, c->n_nodes + 1, sizeof *c->node));
    c->node[c->n_nodes++] = n;
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] && n->in[i]->param) {
            fm_leaf_entry *e = fm_leaf_find(c, n->in[i]->param);
            if (e) {
                e->uses++;
            }
        }
    }
    return FM_OK;
}

static uint32_t tensor_version(const fm_tensor *t) {
    return t->param ? t->param->version : t->storage->version;
}

bool fm_node_records(const fm_ctx *c, const fm_node *n) {
    FM_UNUSED(n);
    return c->cur_records;
}

bool fm_node_inputs(fm_ctx *c, fm_node *n, int n_in, fm_tensor *const *in) {
    n->in = fm_host_take(c, (size_t)FM_MAX(n_in, 1) * sizeof *n->in);
    n->in_version = n->in ? fm_host_take(c, (size_t)FM_MAX(n_in, 1) * sizeof *n->in_version) : NULL;
    n->keeps_in = n->in_version ? fm_host_take(c, (size_t)FM_MAX(n_in, 1) * sizeof *n->keeps_in) : NULL;
    if (!n->keeps_in) {
        return false;
    }
    n->n_in = n_in;
    for (int i = 0; i < n_in; i++) {
        n->in[i] = in[i];
        n->keeps_in[i] = true;
        n->in_version[i] = in[i] ? tensor_version(in[i]) : 0;
    }
    return true;
}

fm_tensor *fm_apply(fm_ctx *c, const fm_op *op, int n_required, int n_in, fm_tensor *const *in, const void *attr,
                    size_t attr_size, fm_tensor **outs) {
    FM_ASSERT(n_required <= n_in);
    if (c->status != FM_OK) {
        return NULL;
    }
    for (int i = 0; i < n_required; i++) {
        if (!in[i]) {
            return NULL;
        }
    }
    fm_node *n = fm_host_take(c, sizeof *n);
    if (!n || !fm_node_inputs(c, n, n_in, in)) {
        return NULL;
    }
    n->op = op;
    n->file = c->file;
    n->line = c->line;
    bool wants = false;
    for (int i = 0; i < n_in; i++) {
        wants = wants || (in[i] && in[i]->needs_grad);
    }
    for (int i = 0; i < FM_MAX_OUT; i++) {
        n->keeps_out[i] = true;
    }
    if (attr_size > 0) {
        n->attr = fm_host_take(c, attr_size);
        if (!n->attr) {
            return NULL;
        }
        memcpy(n->attr, attr, attr_size);
    }
    bool records = c->tape_on && wants && op->backward;
    bool outer = c->cur_records;
    c->cur_records = records;
    fm_status s = op->shape(c, n);
    if (s == FM_OK && !fm_ctx_is_meta(c)) {
        s = op->forward(c, n);
    }
    c->cur_records = outer;
    if (s == FM_OK) {
        s = c->status; /* fm_data or fm_node_out may have failed the context */
    }
    if (s != FM_OK) {
        fm_ctx_fail(c, fm_error_context("%s (%s:%d)", op->name, n->file ? n->file : "?", n->line));
        c->status = s;
        return NULL;
    }
    for (int i = 0; i < n->n_out; i++) {
        for (int j = 0; j < n_in; j++) {
            if (in[j] && n->out[i]->storage == in[j]->storage) {
                fm_touch(n->out[i]);
                break;
            }
        }
    }
    for (int i = 0; i < n->n_out; i++) {
        n->out_version[i] = tensor_version(n->out[i]);
        n->out[i]->needs_grad = records;
        n->out[i]->computed = records;
        if (outs) {
            outs[i] = n->out[i];
        }
    }
    if (records) {
        s = fm_tape_push(c, n);
        if (s != FM_OK) {
            fm_ctx_fail(c, s);
            return NULL;
        }
    }
    return n->out[0];
}

fm_tensor *fm_node_out(fm_ctx *c, fm_node *n, fm_dtype dtype, int n_dims, const int64_t *dim) {
    FM_ASSERT(n->n_out < FM_MAX_OUT);
    fm_tensor *t = fm_new(c, dtype, n_dims, dim);
    if (t) {
        n->out[n->n_out++] = t;
    }
    return t;
}

fm_tensor *fm_node_save(fm_ctx *c, fm_node *n, fm_dtype dtype, int n_dims, const int64_t *dim) {
    FM_ASSERT(n->n_saved < FM_MAX_SAVED);
    fm_tensor *t = fm_new(c, dtype, n_dims, dim);
    if (t) {
        n->saved[n->n_saved++] = t;
    }
    return t;
}

fm_tensor *fm_node_out_inplace(fm_ctx *c, fm_node *n, int i) {
    FM_ASSERT(n->n_out < FM_MAX_OUT);
    const fm_tensor *x = n->in[i];
    fm_tensor *t = fm_tensor_struct(c, x->dtype, x->n_dims, x->dim);
    if (t) {
        t->storage = x->storage;
        t->offset_bytes = x->offset_bytes;
        n->keeps_in[i] = false;
        n->out[n->n_out++] = t;
    }
    return t;
}

/* ---- backward ---------------------------------------------------------------------------------- */

static fm_status check_versions(const fm_node *n) {
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] && n->keeps_in[i] && tensor_version(n->in[i]) != n->in_version[i]) {
            FM_FAIL(FM_ERR_STATE, "input %d of %s recorded at %s:%d was changed in place before its backward ran", i,
                    n->op->name, n->file, n->line);
        }
    }
    for (int i = 0; i < n->n_out; i++) {
        if (n->keeps_out[i] && tensor_version(n->out[i]) != n->out_version[i]) {
            FM_FAIL(FM_ERR_STATE, "output %d of %s recorded at %s:%d was changed in place before its backward ran", i,
                    n->op->name, n->file, n->line);
        }
    }
    return FM_OK;
}

static void leaf_done(fm_ctx *c, const fm_node *n) {
    for (int i = 0; i < n->n_in; i++) {
        fm_leaf_entry *e = n->in[i] && n->in[i]->param ? fm_leaf_find(c, n->in[i]->param) : NULL;
        if (e && --e->uses == 0 && e->param->grad_ready) {
            e->param->grad_ready(e->param->grad_ready_user, e->param);
        }
    }
}

fm_status fm_backward_range(fm_ctx *c, size_t begin, size_t end) {
    for (size_t i = end; i-- > begin;) {
        fm_node *n = c->node[i];
        bool reached = false;
        for (int o = 0; o < n->n_out; o++) {
            reached = reached || fm_has_dout(n, o);
        }
        if (reached) {
            FM_TRY(check_versions(n));
            fm_status s = n->op->backward(c, n);
            if (s == FM_OK) {
                s = c->status;
            }
            if (s != FM_OK) {
                fm_error_context("backward of %s (%s:%d)", n->op->name, n->file ? n->file : "?", n->line);
                return s;
            }
        }
        for (int o = 0; o < n->n_out; o++) {
            fm_tensor *root = n->out[o]->grad_root;
            if (root->grad) {
                fm_grad_unref(c, root->grad);
                root->grad = NULL;
            }
        }
        leaf_done(c, n);
    }
    return FM_OK;
}

fm_status fm_backward(fm_ctx *c, fm_tensor *loss, double seed) {
    FM_TRY(c->status);
    FM_ASSERT(loss);
    if (fm_numel(loss) != 1) {
        char d[96];
        FM_FAIL(FM_ERR_SHAPE, "backward starts from one element, found %s", fm_tensor_describe(d, sizeof d, loss));
    }
    if (!loss->needs_grad) {
        FM_FAIL(FM_ERR_STATE, "backward from a value that no trainable parameter or marked leaf led to");
    }
    fm_tensor *root = loss->grad_root;
    if (!root->grad) {
        FM_TRY(fm_grad_alloc(c, &root->grad, root->dtype, 1));
    }
    fm_fill_args a = {.n = 1, .value = seed, .y = root->grad->data};
    FM_TRY(fm_run(c, FM_K_fill, root->dtype, &a));
    fm_status s = fm_backward_range(c, 0, c->n_nodes);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
    }
    return s;
}
