/* Opening weight files. See weights.h. */
#include "model/weights.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

struct fm_weights {
    fm_safetensors *st;
};

fm_status fm_weights_open(fm_weights **out, const char *dir) {
    *out = NULL;
    fm_weights *ws = fm_calloc(1, sizeof *ws);
    if (!ws) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the weight files of %s", dir);
    }
    fm_status s = fm_safetensors_open(&ws->st, dir);
    if (s != FM_OK) {
        fm_weights_close(ws);
        return s;
    }
    *out = ws;
    return FM_OK;
}

void fm_weights_close(fm_weights *ws) {
    if (ws) {
        fm_safetensors_close(ws->st);
        fm_free(ws);
    }
}

static void of_safetensors(fm_weight *out, const fm_st_tensor *t) {
    *out = (fm_weight){.name = t->name,
                       .dtype = t->dtype,
                       .dtype_name = t->dtype_name,
                       .n_dims = t->n_dims,
                       .dense = true,
                       .data = t->data,
                       .bytes = t->bytes};
    int64_t stride = 1;
    for (int i = t->n_dims - 1; i >= 0; i--) {
        out->dims[i] = t->dims[i];
        out->stride[i] = stride;
        stride *= t->dims[i];
    }
}

size_t fm_weights_count(const fm_weights *ws) {
    return fm_safetensors_count(ws->st);
}

void fm_weights_at(fm_weight *out, const fm_weights *ws, size_t i) {
    of_safetensors(out, fm_safetensors_at(ws->st, i));
}

bool fm_weights_find(fm_weight *out, const fm_weights *ws, const char *name) {
    const fm_st_tensor *t = fm_safetensors_find(ws->st, name);
    if (t) {
        of_safetensors(out, t);
    }
    return t != NULL;
}

size_t fm_weights_n_files(const fm_weights *ws) {
    return fm_safetensors_n_files(ws->st);
}

const char *fm_weights_file(const fm_weights *ws, size_t i) {
    return fm_safetensors_file(ws->st, i);
}

void fm_weight_transpose(fm_weight *w) {
    FM_ASSERT(w->n_dims == 2);
    int64_t d = w->dims[0], s = w->stride[0];
    w->dims[0] = w->dims[1];
    w->stride[0] = w->stride[1];
    w->dims[1] = d;
    w->stride[1] = s;
    w->dense = false;
}

bool fm_weight_in_place(const fm_weight *w) {
    if (!w->dense || w->dtype == FM_DTYPE_COUNT) {
        return false;
    }
    const fm_dtype_info *i = fm_dtype_get(w->dtype);
    return i->block > 1 || (uintptr_t)w->data % (uintptr_t)i->block_bytes == 0;
}

void fm_weight_release(const fm_weight *w) {
    long page = sysconf(_SC_PAGESIZE);
    if (page <= 0 || w->bytes == 0) {
        return;
    }
    /* Whole pages inside the tensor: the edges may belong to a neighbour still in use. */
    uintptr_t size = (uintptr_t)page, a = ((uintptr_t)w->data + size - 1) / size * size;
    uintptr_t b = ((uintptr_t)w->data + (uintptr_t)w->bytes) / size * size;
    if (b > a) {
        madvise((void *)a, b - a, MADV_DONTNEED);
    }
}

const char *fm_weight_shape(char *buf, size_t cap, int n_dims, const int64_t *dims) {
    size_t n = 0;
    for (int i = 0; i < n_dims && n < cap; i++) {
        n += (size_t)snprintf(buf + n, cap - n, "%s%lld", i ? "," : "[", (long long)dims[i]);
    }
    if (n < cap) {
        snprintf(buf + n, cap - n, n_dims ? "]" : "[]");
    }
    return buf;
}
