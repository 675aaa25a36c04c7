/* Writing: see gguf.h. The header is composed in memory; tensors are streamed after it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/gguf.h"

#define VERSION   3
#define ALIGNMENT 32

typedef struct declared {
    char *name;
    int64_t bytes, offset; /* of the data */
} declared;

struct fm_gguf_writer {
    char *path, *temp;
    FILE *file;
    fm_str kv, tensors;
    uint64_t n_kv;
    declared *tensor;
    size_t n, cap;
    int64_t data_bytes;
    size_t current; /* tensor being written */
    int64_t done;   /* bytes of it */
};

fm_status fm_gguf_writer_new(fm_gguf_writer **out, const char *path) {
    *out = NULL;
    fm_gguf_writer *w = fm_calloc(1, sizeof *w);
    fm_str temp = {0};
    fm_str_printf(&temp, "%s.tmp", path);
    if (w) {
        w->path = fm_strdup(path);
        w->temp = fm_str_take(&temp);
    }
    fm_str_free(&temp);
    if (!w || !w->path || !w->temp) {
        fm_gguf_writer_free(w);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to write %s", path);
    }
    *out = w;
    return FM_OK;
}

void fm_gguf_writer_free(fm_gguf_writer *w) {
    if (!w) {
        return;
    }
    if (w->file) {
        (void)fclose(w->file);
        (void)remove(w->temp);
    }
    for (size_t i = 0; i < w->n; i++) {
        fm_free(w->tensor[i].name);
    }
    fm_free(w->tensor);
    fm_str_free(&w->kv);
    fm_str_free(&w->tensors);
    fm_free(w->path);
    fm_free(w->temp);
    fm_free(w);
}

/* ---- metadata -------------------------------------------------------------------------------- */

static void raw(fm_str *s, const void *p, size_t n) {
    fm_str_append(s, p, n);
}

static void text(fm_str *s, const char *p, size_t n) {
    raw(s, &(uint64_t){n}, 8);
    raw(s, p, n);
}

static void key_of(fm_gguf_writer *w, const char *key, size_t n, fm_gguf_type type) {
    text(&w->kv, key, n);
    raw(&w->kv, &(uint32_t){(uint32_t)type}, 4);
    w->n_kv++;
}

void fm_gguf_put_int(fm_gguf_writer *w, const char *key, fm_gguf_type type, int64_t v) {
    static const uint8_t width[] = {1, 1, 2, 2, 4, 4, 0, 0, 0, 0, 8, 8, 0};
    FM_ASSERT(width[type] > 0);
    key_of(w, key, strlen(key), type);
    raw(&w->kv, &v, width[type]); /* little-endian: the low bytes */
}

void fm_gguf_put_u32(fm_gguf_writer *w, const char *key, int64_t v) {
    FM_ASSERT(v >= 0 && v <= UINT32_MAX);
    fm_gguf_put_int(w, key, FM_GGUF_U32, v);
}

void fm_gguf_put_f32(fm_gguf_writer *w, const char *key, double v) {
    key_of(w, key, strlen(key), FM_GGUF_F32);
    raw(&w->kv, &(float){(float)v}, 4);
}

void fm_gguf_put_bool(fm_gguf_writer *w, const char *key, bool v) {
    key_of(w, key, strlen(key), FM_GGUF_BOOL);
    raw(&w->kv, &(uint8_t){v}, 1);
}

void fm_gguf_put_text(fm_gguf_writer *w, const char *key, const char *p, size_t n) {
    key_of(w, key, strlen(key), FM_GGUF_STRING);
    text(&w->kv, p, n);
}

void fm_gguf_put_array(fm_gguf_writer *w, const char *key, fm_gguf_type item, uint64_t n) {
    key_of(w, key, strlen(key), FM_GGUF_ARRAY);
    raw(&w->kv, &(uint32_t){(uint32_t)item}, 4);
    raw(&w->kv, &n, 8);
}

void fm_gguf_item_text(fm_gguf_writer *w, const char *p, size_t n) {
    text(&w->kv, p, n);
}

void fm_gguf_item_i32(fm_gguf_writer *w, int32_t v) {
    raw(&w->kv, &v, 4);
}

void fm_gguf_item_f32(fm_gguf_writer *w, float v) {
    raw(&w->kv, &v, 4);
}

void fm_gguf_put_copy(fm_gguf_writer *w, const fm_gguf_kv *kv) {
    static const uint8_t width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    key_of(w, kv->key.ptr, kv->key.len, kv->type);
    if (kv->type == FM_GGUF_ARRAY) {
        raw(&w->kv, &(uint32_t){(uint32_t)kv->item}, 4);
        raw(&w->kv, &kv->n, 8);
    }
    if (kv->item != FM_GGUF_STRING) {
        raw(&w->kv, kv->value, (size_t)kv->n * width[kv->item]);
        return;
    }
    const uint8_t *at = kv->value;
    for (uint64_t i = 0; i < kv->n; i++) {
        fm_gguf_text t = fm_gguf_next_text(&at);
        text(&w->kv, t.ptr, t.len);
    }
}

/* ---- tensors --------------------------------------------------------------------------------- */

static int64_t align(int64_t n) {
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

fm_status fm_gguf_writer_declare(fm_gguf_writer *w, const char *name, fm_dtype dtype, int n_dims, const int64_t *dim) {
    const fm_ggml_type *type = fm_ggml_type_of(dtype);
    FM_ASSERT(type && !w->file && n_dims >= 1 && n_dims <= FM_GGUF_MAX_DIMS);
    int64_t numel = 1;
    for (int i = 0; i < n_dims; i++) {
        numel *= dim[i]; /* of a tensor in memory or in a checked file */
    }
    int64_t bytes = fm_dtype_bytes(dtype, numel);
    FM_ASSERT(bytes > 0 && dim[n_dims - 1] % fm_dtype_get(dtype)->block == 0);
    FM_TRY(fm_grow((void **)&w->tensor, &w->cap, w->n + 1, sizeof *w->tensor));
    declared *t = &w->tensor[w->n];
    *t = (declared){fm_strdup(name), bytes, w->data_bytes};
    if (!t->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the name of tensor %s", name);
    }
    w->n++;
    w->data_bytes += align(bytes);
    text(&w->tensors, name, strlen(name));
    raw(&w->tensors, &(uint32_t){(uint32_t)n_dims}, 4);
    for (int i = n_dims; i-- > 0;) {
        raw(&w->tensors, &dim[i], 8);
    }
    raw(&w->tensors, &type->number, 4);
    raw(&w->tensors, &t->offset, 8);
    return fm_str_check(&w->tensors);
}

int64_t fm_gguf_writer_data_bytes(const fm_gguf_writer *w) {
    return w->data_bytes;
}

static fm_status write_all(fm_gguf_writer *w, const void *p, size_t n) {
    if (n > 0 && fwrite(p, 1, n, w->file) != n) {
        FM_FAIL(FM_ERR_IO, "cannot write %s: %s", w->temp, strerror(errno));
    }
    return FM_OK;
}

static fm_status pad(fm_gguf_writer *w, int64_t written) {
    static const char zeros[ALIGNMENT];
    return write_all(w, zeros, (size_t)(align(written) - written));
}

static fm_status check_room(const fm_gguf_writer *w, int64_t need) {
    fm_str dir = {0};
    const char *slash = strrchr(w->path, '/');
    if (slash) {
        fm_str_append(&dir, w->path, slash == w->path ? 1 : (size_t)(slash - w->path));
    } else {
        fm_str_putc(&dir, '.');
    }
    fm_status s = fm_str_check(&dir);
    int64_t room = s == FM_OK ? fm_disk_free(dir.data) : -1;
    fm_str_free(&dir);
    if (s == FM_OK && room >= 0 && room < need) {
        char a[32], b[32];
        FM_FAIL(FM_ERR_IO, "%s needs %s, the disk has %s free", w->path, fm_format_bytes(a, sizeof a, (double)need),
                fm_format_bytes(b, sizeof b, (double)room));
    }
    return s;
}

fm_status fm_gguf_writer_begin(fm_gguf_writer *w) {
    FM_ASSERT(!w->file);
    FM_TRY(fm_str_check(&w->kv));
    int64_t head = (int64_t)(24 + w->kv.len + w->tensors.len);
    FM_TRY(check_room(w, align(head) + w->data_bytes));
    w->file = fopen(w->temp, "wb");
    if (!w->file) {
        FM_FAIL(FM_ERR_IO, "cannot create %s: %s", w->temp, strerror(errno));
    }
    FM_TRY(write_all(w, "GGUF", 4));
    FM_TRY(write_all(w, &(uint32_t){VERSION}, 4));
    FM_TRY(write_all(w, &(uint64_t){w->n}, 8));
    FM_TRY(write_all(w, &w->n_kv, 8));
    FM_TRY(write_all(w, w->kv.data, w->kv.len));
    FM_TRY(write_all(w, w->tensors.data, w->tensors.len));
    return pad(w, head);
}

fm_status fm_gguf_writer_put(fm_gguf_writer *w, const void *data, int64_t n) {
    FM_ASSERT(w->file && w->current < w->n);
    const declared *t = &w->tensor[w->current];
    FM_ASSERT(n >= 0 && n <= t->bytes - w->done);
    FM_TRY(write_all(w, data, (size_t)n));
    w->done += n;
    if (w->done == t->bytes) {
        FM_TRY(pad(w, t->bytes));
        w->current++;
        w->done = 0;
    }
    return FM_OK;
}

fm_status fm_gguf_writer_finish(fm_gguf_writer *w) {
    if (!w->file || w->current != w->n) {
        FM_FAIL(FM_ERR_STATE, "%s: %zu of %zu tensors were written", w->path, w->current, w->n);
    }
    int bad = fflush(w->file);
    fm_status s = bad == 0 ? fm_sync_path(w->temp) : FM_ERR_IO;
    bad |= fclose(w->file);
    w->file = NULL;
    if (bad != 0 && s == FM_OK) {
        s = FM_ERR_IO;
    }
    if (bad != 0) {
        (void)fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write %s: %s", w->temp, strerror(errno));
    }
    if (s == FM_OK) {
        fm_crash_point("gguf_before_rename");
        s = fm_rename_dir(w->temp, w->path);
    }
    if (s != FM_OK) {
        (void)remove(w->temp);
    }
    return s;
}
