/* Reading safetensors. See safetensors.h. */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/shard_index.h"

#define MAX_HEADER_BYTES ((uint64_t)100 << 20)

typedef struct st_file {
    char *path;
    fm_map map;
    fm_json *header; /* owns the names of the tensors */
    const uint8_t *data;
    uint64_t data_bytes;
} st_file;

struct fm_safetensors {
    st_file *files;
    size_t n_files, files_cap;
    fm_st_tensor *tensors; /* sorted by name */
    size_t n, cap;
    fm_shard_index index;
};

static int by_name(const void *a, const void *b) {
    const fm_st_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int by_place(const void *a, const void *b) {
    const fm_st_tensor *x = a, *y = b;
    if (x->data != y->data) {
        return x->data < y->data ? -1 : 1;
    }
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

typedef struct entry_ctx {
    fm_safetensors *s;
    const st_file *file;
} entry_ctx;

#define BAD(...) FM_FAIL(FM_ERR_CORRUPT, __VA_ARGS__)

/* A whole number at array[i] in [0, INT64_MAX]. */
static bool read_u63(int64_t *out, const fm_json *array, size_t i) {
    const fm_json *j = fm_json_at(array, i);
    *out = fm_json_int(j, -1);
    return *out >= 0;
}

static fm_status add_tensor(void *arg, const char *name, fm_json *value) {
    const entry_ctx *c = arg;
    const char *path = c->file->path;
    if (strcmp(name, "__metadata__") == 0) {
        return FM_OK;
    }
    fm_st_tensor t;
    memset(&t, 0, sizeof t);
    t.name = name;
    t.dtype_name = fm_json_str(fm_json_get(value, "dtype"), NULL);
    const fm_json *shape = fm_json_get(value, "shape"), *range = fm_json_get(value, "data_offsets");
    if (!t.dtype_name || !fm_json_is_array(shape) || !fm_json_is_array(range) || fm_json_size(range) != 2) {
        BAD("%s: tensor '%s': expected dtype, shape and two data_offsets", path, name);
    }
    if (fm_json_size(shape) > FM_ST_MAX_DIMS) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: tensor '%s': expected at most %d dimensions, found %zu", path, name,
                FM_ST_MAX_DIMS, fm_json_size(shape));
    }
    t.n_dims = (int)fm_json_size(shape);
    int64_t count = 1, begin, end;
    for (size_t i = 0; i < (size_t)t.n_dims; i++) {
        if (!read_u63(&t.dims[i], shape, i) || __builtin_mul_overflow(count, t.dims[i], &count)) {
            BAD("%s: tensor '%s': dimension %zu is not a possible size", path, name, i);
        }
    }
    if (!read_u63(&begin, range, 0) || !read_u63(&end, range, 1) || begin > end ||
        (uint64_t)end > c->file->data_bytes) {
        BAD("%s: tensor '%s': data_offsets [%lld, %lld] are not inside the %llu bytes of data", path, name,
            (long long)fm_json_int(fm_json_at(range, 0), -1), (long long)fm_json_int(fm_json_at(range, 1), -1),
            (unsigned long long)c->file->data_bytes);
    }
    t.bytes = end - begin;
    t.data = c->file->data + begin;
    if (!fm_dtype_parse(&t.dtype, t.dtype_name) || strcmp(fm_dtype_get(t.dtype)->safetensors_name, t.dtype_name) != 0) {
        t.dtype = FM_DTYPE_COUNT; /* size unknown: an error only when the tensor is asked for */
    } else {
        int64_t want = fm_dtype_bytes(t.dtype, count);
        if (want != t.bytes) {
            BAD("%s: tensor '%s': expected %lld bytes for its shape and type %s, found %lld", path, name,
                (long long)want, t.dtype_name, (long long)t.bytes);
        }
    }
    fm_safetensors *s = c->s;
    void *p = s->tensors;
    FM_TRY(fm_grow(&p, &s->cap, s->n + 1, sizeof *s->tensors));
    s->tensors = p;
    s->tensors[s->n++] = t;
    return FM_OK;
}

/* The ranges of one file must cover its data exactly, each byte once. */
static fm_status check_cover(fm_st_tensor *t, size_t n, const st_file *f) {
    const uint8_t *at = f->data;
    if (n) {
        qsort(t, n, sizeof *t, by_place);
    }
    for (size_t i = 0; i < n; i++) {
        if (t[i].data != at) {
            BAD("%s: tensor '%s': expected its data at offset %lld, found %lld (%s)", f->path, t[i].name,
                (long long)(at - f->data), (long long)(t[i].data - f->data),
                t[i].data < at ? "it overlaps another tensor" : "there is a hole before it");
        }
        at += t[i].bytes;
    }
    if ((uint64_t)(at - f->data) != f->data_bytes) {
        BAD("%s: expected %lld bytes of data, found %llu", f->path, (long long)(at - f->data),
            (unsigned long long)f->data_bytes);
    }
    return FM_OK;
}

/* Opens a file into slot f (whose path is set) and adds its tensors. */
static fm_status open_file(fm_safetensors *s, st_file *f) {
    FM_TRY(fm_map_open(&f->map, f->path));
    uint64_t size = f->map.size, header = 0;
    for (size_t i = 0; i < 8 && size >= 8; i++) {
        header |= (uint64_t)f->map.data[i] << (8 * i);
    }
    if (size < 8 || header > MAX_HEADER_BYTES || header > size - 8) {
        fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__,
                     "%s: not a safetensors file, or cut short: header of %llu bytes in a file of %llu", f->path,
                     (unsigned long long)header, (unsigned long long)size);
        return fm_error_hint("check that the file was downloaded completely (a Git LFS pointer is a small text file)");
    }
    FM_TRY(fm_json_parse(&f->header, (const char *)f->map.data + 8, (size_t)header, f->path));
    if (!fm_json_is_object(f->header)) {
        BAD("%s: expected an object in the header", f->path);
    }
    f->data = f->map.data + 8 + header;
    f->data_bytes = size - 8 - header;
    entry_ctx c = {s, f};
    size_t first = s->n;
    FM_TRY(fm_json_each(f->header, add_tensor, &c));
    return s->n > first ? check_cover(s->tensors + first, s->n - first, f) : check_cover(NULL, 0, f);
}

static fm_status new_file(fm_safetensors *s, const char *dir, const char *name, st_file **out) {
    char path[4096];
    if (dir) {
        FM_TRY(fm_path_join(path, sizeof path, dir, name));
    }
    void *p = s->files;
    FM_TRY(fm_grow(&p, &s->files_cap, s->n_files + 1, sizeof *s->files));
    s->files = p;
    st_file *f = &s->files[s->n_files];
    memset(f, 0, sizeof *f);
    f->path = fm_strdup(dir ? path : name);
    s->n_files++; /* from here close() frees it */
    if (!f->path) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a file name");
    }
    *out = f;
    return FM_OK;
}

static fm_status finish(fm_safetensors *s) {
    if (s->n) {
        qsort(s->tensors, s->n, sizeof *s->tensors, by_name);
    }
    for (size_t i = 1; i < s->n; i++) {
        if (strcmp(s->tensors[i - 1].name, s->tensors[i].name) == 0) {
            BAD("%s: tensor '%s' is there twice", s->files[0].path, s->tensors[i].name);
        }
    }
    return FM_OK;
}

static int shard_of(const void *arg, const char *name) {
    const fm_safetensors *s = arg;
    const fm_st_tensor *t = fm_safetensors_find(s, name);
    for (size_t i = 0; t && i < s->n_files; i++) {
        const st_file *f = &s->files[i];
        if (t->data >= f->data && t->data <= f->data + f->data_bytes) {
            return (int)i;
        }
    }
    return -1;
}

static fm_status open_index(fm_safetensors *s, const char *path) {
    FM_TRY(fm_shard_index_load(&s->index, path));
    for (size_t i = 0; i < s->index.n_files; i++) {
        st_file *f;
        FM_TRY(new_file(s, s->index.dir, s->index.file[i], &f));
        FM_TRY(open_file(s, f));
    }
    FM_TRY(finish(s));
    return fm_shard_index_check(&s->index, shard_of, s);
}

static fm_status open_single(fm_safetensors *s, const char *path) {
    st_file *f;
    FM_TRY(new_file(s, NULL, path, &f));
    FM_TRY(open_file(s, f));
    return finish(s);
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static fm_status open_dir(fm_safetensors *s, const char *dir) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, dir, "model.safetensors.index.json"));
    if (fm_path_exists(path)) {
        return open_index(s, path);
    }
    char **names;
    size_t n, found = 0, at = 0;
    FM_TRY(fm_dir_list(&names, &n, dir));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i], "model.safetensors") == 0) {
            at = i;
            found = 1;
            break;
        }
        if (ends_with(names[i], ".safetensors")) {
            at = i;
            found++;
        }
    }
    fm_status status = found == 1 ? fm_path_join(path, sizeof path, dir, names[at]) : FM_OK;
    fm_names_free(names, n);
    FM_TRY(status);
    if (found != 1) {
        FM_FAIL(FM_ERR_NOT_FOUND,
                "'%s': expected model.safetensors or model.safetensors.index.json, found %zu other files "
                "ending in .safetensors",
                dir, found);
    }
    return open_single(s, path);
}

fm_status fm_safetensors_open(fm_safetensors **out, const char *path) {
    *out = NULL;
    fm_safetensors *s = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a safetensors reader");
    }
    fm_status status = fm_path_is_dir(path)       ? open_dir(s, path)
                       : ends_with(path, ".json") ? open_index(s, path)
                                                  : open_single(s, path);
    if (status != FM_OK) {
        fm_safetensors_close(s);
        return status;
    }
    *out = s;
    return FM_OK;
}

void fm_safetensors_close(fm_safetensors *s) {
    if (!s) {
        return;
    }
    for (size_t i = 0; i < s->n_files; i++) {
        fm_json_free(s->files[i].header);
        fm_map_close(&s->files[i].map);
        fm_free(s->files[i].path);
    }
    fm_shard_index_free(&s->index);
    fm_free(s->files);
    fm_free(s->tensors);
    fm_free(s);
}

size_t fm_safetensors_count(const fm_safetensors *s) {
    return s->n;
}

const fm_st_tensor *fm_safetensors_at(const fm_safetensors *s, size_t i) {
    return i < s->n ? &s->tensors[i] : NULL;
}

const fm_st_tensor *fm_safetensors_find(const fm_safetensors *s, const char *name) {
    fm_st_tensor key;
    memset(&key, 0, sizeof key);
    key.name = name;
    return s->n ? bsearch(&key, s->tensors, s->n, sizeof key, by_name) : NULL;
}

fm_status fm_safetensors_get(const fm_st_tensor **out, const fm_safetensors *s, const char *name) {
    *out = fm_safetensors_find(s, name);
    const char *where = s->n_files ? s->files[0].path : "";
    if (!*out) {
        FM_FAIL(FM_ERR_NOT_FOUND, "%s: tensor '%s' is missing among %zu tensors", where, name, s->n);
    }
    if ((*out)->dtype == FM_DTYPE_COUNT) {
        FM_FAIL(FM_ERR_DTYPE, "%s: tensor '%s' has element type %s", where, name, (*out)->dtype_name);
    }
    return FM_OK;
}

size_t fm_safetensors_n_files(const fm_safetensors *s) {
    return s->n_files;
}

const char *fm_safetensors_file(const fm_safetensors *s, size_t i) {
    return i < s->n_files ? s->files[i].path : NULL;
}

const char *fm_safetensors_metadata(const fm_safetensors *s, const char *key) {
    const fm_json *m = s->n_files ? fm_json_get(s->files[0].header, "__metadata__") : NULL;
    return fm_json_str(fm_json_get(m, key), NULL);
}

bool fm_st_aligned(const fm_st_tensor *t) {
    if (t->dtype == FM_DTYPE_COUNT) {
        return false;
    }
    const fm_dtype_info *i = fm_dtype_get(t->dtype);
    return i->block > 1 || (uintptr_t)t->data % (uintptr_t)i->block_bytes == 0;
}

void fm_st_release_pages(const fm_st_tensor *t) {
    fm_map_release(t->data, (size_t)t->bytes);
}
