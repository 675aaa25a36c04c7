/* Tensor structs, storage and leaves. */
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

#include "tensor/ctx.h"

fm_tensor *fm_tensor_struct(fm_ctx *c, fm_dtype dtype, int n_dims, const int64_t *dim) {
    FM_ASSERT(n_dims >= 1 && n_dims <= FM_MAX_DIMS);
    fm_tensor *t = fm_host_take(c, sizeof *t);
    if (!t) {
        return NULL;
    }
    t->dtype = dtype;
    t->n_dims = (uint8_t)n_dims;
    int64_t stride = 1;
    for (int i = n_dims - 1; i >= 0; i--) {
        FM_ASSERT(dim[i] >= 0);
        t->dim[i] = dim[i];
        t->stride[i] = stride;
        if (dim[i] > 0 && stride > INT64_MAX / 16 / dim[i]) {
            fm_ctx_fail(c, fm_error_set(FM_ERR_SHAPE, __FILE__, __LINE__, "tensor of dimension %d = %lld is too large",
                                        i, (long long)dim[i]));
            return NULL;
        }
        stride *= dim[i] > 0 ? dim[i] : 1;
    }
    t->grad_root = t;
    return t;
}

fm_status fm_arena_back(fm_ctx *c, fm_tensor *t, int64_t *offset) {
    int64_t bytes = fm_dtype_bytes(t->dtype, fm_numel(t));
    if (bytes < 0) {
        FM_FAIL(FM_ERR_SHAPE, "tensor of %lld elements of %s has no whole number of blocks", (long long)fm_numel(t),
                fm_dtype_get(t->dtype)->name);
    }
    int64_t begin = (c->data.used + FM_ALIGN - 1) / FM_ALIGN * FM_ALIGN;
    if (bytes > c->data.cap - begin) {
        char need[32], cap[32];
        fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__,
                     "activations need more than the %s set aside for them (%s in use and %lld bytes more asked for)",
                     fm_format_bytes(cap, sizeof cap, (double)c->data.cap),
                     fm_format_bytes(need, sizeof need, (double)c->data.used), (long long)bytes);
        return fm_error_hint("lower the micro-batch or the sequence length, or turn gradient_checkpointing on");
    }
    fm_storage *st = fm_host_take(c, sizeof *st);
    if (!st) {
        return c->status;
    }
    st->kind = FM_STORAGE_ARENA;
    st->data = c->data.base ? c->data.base + begin : NULL;
    t->storage = st;
    c->data.used = begin + bytes;
    c->data.peak = FM_MAX(c->data.peak, c->data.used);
    *offset = begin;
    st->arena_offset = begin;
    return FM_OK;
}

fm_tensor *fm_new(fm_ctx *c, fm_dtype dtype, int n_dims, const int64_t *dim) {
    if (c->status != FM_OK) {
        return NULL;
    }
    fm_tensor *t = fm_tensor_struct(c, dtype, n_dims, dim);
    int64_t offset;
    if (!t) {
        return NULL;
    }
    fm_status s = fm_arena_back(c, t, &offset);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    return t;
}

fm_tensor *fm_new_like(fm_ctx *c, const fm_tensor *t) {
    return t ? fm_new(c, t->dtype, t->n_dims, t->dim) : NULL;
}

fm_tensor *fm_from_memory(fm_ctx *c, fm_dtype dtype, int n_dims, const int64_t *dim, void *data) {
    if (c->status != FM_OK) {
        return NULL;
    }
    fm_tensor *t = fm_tensor_struct(c, dtype, n_dims, dim);
    fm_storage *st = t ? fm_host_take(c, sizeof *st) : NULL;
    if (!st) {
        return NULL;
    }
    st->kind = FM_STORAGE_EXTERNAL;
    st->data = data;
    t->storage = st;
    return t;
}

static size_t leaf_slot(const fm_ctx *c, const fm_param *p) {
    size_t mask = c->cap_leaves - 1;
    size_t i = ((uintptr_t)p >> 4) * (size_t)0x9E3779B97F4A7C15u >> 17;
    for (i &= mask; c->leaf[i].param && c->leaf[i].param != p; i = (i + 1) & mask) {
    }
    return i;
}

fm_leaf_entry *fm_leaf_find(fm_ctx *c, const fm_param *p) {
    if (c->cap_leaves == 0) {
        return NULL;
    }
    fm_leaf_entry *e = &c->leaf[leaf_slot(c, p)];
    return e->param ? e : NULL;
}

void fm_leaf_clear(fm_ctx *c) {
    if (c->n_leaves > 0) {
        memset(c->leaf, 0, c->cap_leaves * sizeof *c->leaf);
        c->n_leaves = 0;
    }
}

static fm_status leaf_room(fm_ctx *c) {
    if ((c->n_leaves + 1) * 2 <= c->cap_leaves) {
        return FM_OK;
    }
    size_t old_cap = c->cap_leaves, cap = old_cap ? old_cap * 2 : 64;
    fm_leaf_entry *old = c->leaf, *fresh = fm_calloc(cap, sizeof *fresh);
    if (!fresh) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu parameter leaves", cap);
    }
    c->leaf = fresh;
    c->cap_leaves = cap;
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i].param) {
            c->leaf[leaf_slot(c, old[i].param)] = old[i];
        }
    }
    fm_free(old);
    return FM_OK;
}

fm_tensor *fm_leaf(fm_ctx *c, fm_param *p) {
    return fm_leaf_as(c, p, c->compute);
}

fm_tensor *fm_leaf_as(fm_ctx *c, fm_param *p, fm_dtype dtype) {
    if (!p || c->status != FM_OK) {
        return NULL;
    }
    p = p->tie ? p->tie : p;
    p = p->instead ? p->instead : p;
    fm_leaf_entry *e = fm_leaf_find(c, p);
    if (e) {
        FM_ASSERT(e->leaf->dtype == dtype);
        return e->leaf;
    }
    fm_status s = leaf_room(c);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    fm_tensor *t = fm_tensor_struct(c, dtype, p->n_dims, p->dim);
    fm_storage *st = t ? fm_host_take(c, sizeof *st) : NULL;
    if (!st) {
        return NULL;
    }
    st->kind = FM_STORAGE_PARAM;
    t->storage = st;
    t->param = p;
    t->needs_grad = !p->frozen;
    t->name = p->name;
    c->leaf[leaf_slot(c, p)] = (fm_leaf_entry){.param = p, .leaf = t};
    c->n_leaves++;
    return t;
}

fm_tensor *fm_require_grad(fm_tensor *t) {
    if (t) {
        t->needs_grad = true;
    }
    return t;
}

int64_t fm_numel(const fm_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) {
        n *= t->dim[i];
    }
    return n;
}
int64_t fm_last(const fm_tensor *t) {
    return t->dim[t->n_dims - 1];
}
int64_t fm_rows(const fm_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i + 1 < t->n_dims; i++) {
        n *= t->dim[i];
    }
    return n;
}
bool fm_contiguous(const fm_tensor *t) {
    int64_t stride = 1;
    for (int i = t->n_dims - 1; i >= 0; i--) {
        if (t->dim[i] != 1 && t->stride[i] != stride) {
            return false;
        }
        stride *= t->dim[i] > 0 ? t->dim[i] : 1;
    }
    return true;
}

void *fm_data(fm_ctx *c, const fm_tensor *t) {
    if (!t || c->status != FM_OK || fm_ctx_is_meta(c)) {
        return NULL;
    }
    if (t->storage->kind == FM_STORAGE_PARAM) {
        void *p = NULL;
        fm_status s = fm_param_acquire(c->backend, &c->exec, t->param, t->dtype, &p);
        if (s != FM_OK) {
            fm_ctx_fail(c, s);
            return NULL;
        }
        return p;
    }
    return t->storage->data ? (uint8_t *)t->storage->data + t->offset_bytes : NULL;
}

void fm_touch(fm_tensor *t) {
    t->storage->version++;
}

const char *fm_tensor_describe(char *buf, size_t cap, const fm_tensor *t) {
    if (!t) {
        snprintf(buf, cap, "(none)");
        return buf;
    }
    fm_str s = {0};
    fm_str_putc(&s, '[');
    for (int i = 0; i < t->n_dims; i++) {
        fm_str_printf(&s, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    }
    fm_str_printf(&s, "] %s", fm_dtype_get(t->dtype)->name);
    snprintf(buf, cap, "%s", s.data ? s.data : "?");
    fm_str_free(&s);
    return buf;
}
