/* See torch.h. */
#include "io/torch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/pickle.h"
#include "io/shard_index.h"
#include "io/zip.h"

typedef struct torch_file {
    char *path;
    fm_map map;
    fm_zip *zip;
} torch_file;

struct fm_torch {
    torch_file *file;
    size_t n_files, files_cap;
    fm_torch_tensor *tensor;
    size_t n, cap;
    fm_shard_index index;
};

/* ---- what a pickle may name ------------------------------------------------------------------ */

/* Ids of element types are places in this table. */
static const struct {
    const char *name;
    fm_dtype dtype;
    int bytes;
} types[] = {
    {"float64", FM_F64, 8}, {"float32", FM_F32, 4}, {"bfloat16", FM_BF16, 2},      {"float16", FM_F16, 2},
    {"int64", FM_I64, 8},   {"int32", FM_I32, 4},   {"int16", FM_DTYPE_COUNT, 2},  {"int8", FM_I8, 1},
    {"uint8", FM_U8, 1},    {"bool", FM_BOOL, 1},   {"float8_e4m3fn", FM_E4M3, 1}, {"float8_e5m2", FM_E5M2, 1},
};

enum { G_UNTYPED = 100, G_TENSOR, G_TENSOR_V2, G_TENSOR_V3, G_PARAMETER, G_FROM_TYPE, G_OTHER };

static const fm_pickle_global allowed[] = {
    {"collections", "OrderedDict", G_OTHER, true},
    {"torch._utils", "_rebuild_tensor", G_TENSOR, false},
    {"torch._utils", "_rebuild_tensor_v2", G_TENSOR_V2, false},
    {"torch._utils", "_rebuild_tensor_v3", G_TENSOR_V3, false},
    {"torch._utils", "_rebuild_parameter", G_PARAMETER, false},
    {"torch._utils", "_rebuild_parameter_with_state", G_PARAMETER, false},
    {"torch._tensor", "_rebuild_from_type_v2", G_FROM_TYPE, false},
    {"torch", "Tensor", G_OTHER, false},
    {"torch.nn.parameter", "Parameter", G_OTHER, false},
    {"torch", "Size", G_OTHER, false},
    {"torch", "device", G_OTHER, false},
    {"torch.storage", "UntypedStorage", G_UNTYPED, false},
    {"torch", "UntypedStorage", G_UNTYPED, false},
    {"torch", "DoubleStorage", 0, false},
    {"torch", "float64", 0, false},
    {"torch", "FloatStorage", 1, false},
    {"torch", "float32", 1, false},
    {"torch", "BFloat16Storage", 2, false},
    {"torch", "bfloat16", 2, false},
    {"torch", "HalfStorage", 3, false},
    {"torch", "float16", 3, false},
    {"torch", "LongStorage", 4, false},
    {"torch", "int64", 4, false},
    {"torch", "IntStorage", 5, false},
    {"torch", "int32", 5, false},
    {"torch", "ShortStorage", 6, false},
    {"torch", "int16", 6, false},
    {"torch", "CharStorage", 7, false},
    {"torch", "int8", 7, false},
    {"torch", "ByteStorage", 8, false},
    {"torch", "uint8", 8, false},
    {"torch", "BoolStorage", 9, false},
    {"torch", "bool", 9, false},
    {"torch", "float8_e4m3fn", 10, false},
    {"torch", "float8_e5m2", 11, false},
    {0},
};

/* ---- storages -------------------------------------------------------------------------------- */

typedef struct storage {
    const char *key;
    uint32_t n_key;
    int type;      /* or G_UNTYPED */
    int64_t bytes; /* as the pickle says */
    const uint8_t *data;
} storage;

/* One file while it is read. */
typedef struct reader {
    fm_torch *t;
    int32_t file;
    const char *path;
    const uint8_t *data;
    size_t n;
    fm_pickle *pickle;
    storage *storage; /* sorted by key */
    size_t n_storages, cap;
} reader;

#define BAD(r, ...)                                                                                                    \
    do {                                                                                                               \
        (void)fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, __VA_ARGS__);                                           \
        (void)fm_error_context("%s", (r)->path);                                                                       \
        return FM_ERR_CORRUPT;                                                                                         \
    } while (0)

static int by_key(const void *a, const void *b) {
    const storage *x = a, *y = b;
    int c = memcmp(x->key, y->key, FM_MIN(x->n_key, y->n_key));
    return c ? c : x->n_key < y->n_key ? -1 : x->n_key > y->n_key;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const fm_torch_tensor *)a)->name, ((const fm_torch_tensor *)b)->name);
}

static bool is_int(const fm_pickle_value *v, int64_t low) {
    return v->kind == FM_PICKLE_INT && v->i >= low;
}

/* ('storage', class, key, place, number of elements[, view]) */
static fm_status parse_storage(storage *out, const reader *r, const fm_pickle_value *persid) {
    const fm_pickle_value *id = persid->item[0];
    bool good = id->kind == FM_PICKLE_TUPLE && (id->n == 5 || id->n == 6) &&
                fm_pickle_text_is(id->item[0], "storage") && id->item[1]->kind == FM_PICKLE_GLOBAL &&
                id->item[1]->global->id <= G_UNTYPED && id->item[2]->kind == FM_PICKLE_STR && is_int(id->item[4], 0);
    if (!good) {
        BAD(r, "a storage that is not (storage, class, key, place, elements)");
    }
    if (id->n == 6 && id->item[5]->kind != FM_PICKLE_NONE) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: a file of PyTorch before 0.4 (views of storages)", r->path);
    }
    *out = (storage){.key = id->item[2]->text, .n_key = id->item[2]->n, .type = id->item[1]->global->id};
    int64_t size = out->type == G_UNTYPED ? 1 : types[out->type].bytes;
    if (__builtin_mul_overflow(id->item[4]->i, size, &out->bytes)) {
        BAD(r, "storage '%.*s': %lld elements", (int)FM_MIN(out->n_key, 100), out->key, (long long)id->item[4]->i);
    }
    return FM_OK;
}

/* All that the pickle names, each once. */
static fm_status collect_storages(reader *r) {
    for (size_t i = 0; i < fm_pickle_count(r->pickle); i++) {
        const fm_pickle_value *v = fm_pickle_at(r->pickle, i);
        if (v->kind != FM_PICKLE_PERSID) {
            continue;
        }
        void *p = r->storage;
        FM_TRY(fm_grow(&p, &r->cap, r->n_storages + 1, sizeof *r->storage));
        r->storage = p;
        FM_TRY(parse_storage(&r->storage[r->n_storages], r, v));
        r->n_storages++;
    }
    if (r->n_storages == 0) {
        return FM_OK;
    }
    qsort(r->storage, r->n_storages, sizeof *r->storage, by_key);
    size_t n = 1;
    for (size_t i = 1; i < r->n_storages; i++) {
        const storage *last = &r->storage[n - 1], *s = &r->storage[i];
        if (by_key(last, s) != 0) {
            r->storage[n++] = *s;
        } else if (last->type != s->type || last->bytes != s->bytes) {
            BAD(r, "storage '%.*s' is described in two ways", (int)FM_MIN(s->n_key, 100), s->key);
        }
    }
    r->n_storages = n;
    return FM_OK;
}

static storage *find_storage(const reader *r, const char *key, uint32_t n_key) {
    storage k = {.key = key, .n_key = n_key};
    return r->n_storages ? bsearch(&k, r->storage, r->n_storages, sizeof k, by_key) : NULL;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* The call that makes a tensor, under the wrappers of parameters and subclasses; NULL when it is none. */
static const fm_pickle_value *tensor_call(const fm_pickle_value *v, const fm_pickle_value **args, int *id) {
    for (int depth = 0; depth < 4; depth++) {
        if (v->kind != FM_PICKLE_CALL || v->global->id < G_TENSOR || v->global->id > G_FROM_TYPE) {
            return NULL;
        }
        *id = v->global->id;
        *args = v->item[0];
        if (*id == G_PARAMETER && (*args)->n > 0) {
            v = (*args)->item[0];
        } else if (*id == G_FROM_TYPE) {
            const fm_pickle_value *a = *args;
            if (a->n < 3 || a->item[0]->kind != FM_PICKLE_GLOBAL || a->item[2]->kind != FM_PICKLE_TUPLE) {
                return NULL;
            }
            *id = a->item[0]->global->id;
            *args = a->item[2];
            return *id >= G_TENSOR && *id <= G_TENSOR_V3 ? v : NULL;
        } else {
            return *id == G_PARAMETER ? NULL : v;
        }
    }
    return NULL;
}

/* Dims and strides; the last element must be inside the storage. */
static fm_status parse_view(fm_torch_tensor *t, const reader *r, const fm_pickle_value *dims,
                            const fm_pickle_value *strides, int64_t offset, int64_t n_storage) {
    int64_t count = 1, last = offset;
    for (uint32_t i = 0; i < dims->n; i++) {
        int64_t reach;
        if (!is_int(dims->item[i], 0) || !is_int(strides->item[i], 0)) {
            BAD(r, "tensor %s: dimension %u is not a possible size", t->name, (unsigned)i);
        }
        t->dims[i] = dims->item[i]->i;
        t->stride[i] = strides->item[i]->i;
        if (__builtin_mul_overflow(count, t->dims[i], &count) ||
            __builtin_mul_overflow(FM_MAX(t->dims[i] - 1, 0), t->stride[i], &reach) ||
            __builtin_add_overflow(last, reach, &last)) {
            BAD(r, "tensor %s: dimension %u is not a possible size", t->name, (unsigned)i);
        }
    }
    if (count && last >= n_storage) {
        BAD(r, "tensor %s: reaches element %lld of a storage of %lld", t->name, (long long)last, (long long)n_storage);
    }
    if (__builtin_mul_overflow(count, (int64_t)8, &last)) {
        BAD(r, "tensor %s: %lld elements", t->name, (long long)count);
    }
    t->bytes = count;
    return FM_OK;
}

/* (storage, offset, dims, strides, ...); dtype is the seventh of version 3. */
static fm_status parse_tensor(fm_torch_tensor *t, const reader *r, const fm_pickle_value *a, int id) {
    bool good = a->n >= (id == G_TENSOR_V3 ? 7 : 4) && a->item[0]->kind == FM_PICKLE_PERSID && is_int(a->item[1], 0) &&
                a->item[2]->kind == FM_PICKLE_TUPLE && a->item[3]->kind == FM_PICKLE_TUPLE &&
                a->item[2]->n == a->item[3]->n;
    if (!good || (id == G_TENSOR_V3 && (a->item[6]->kind != FM_PICKLE_GLOBAL || a->item[6]->global->id >= G_UNTYPED))) {
        BAD(r, "tensor %s: not (storage, offset, dims, strides)", t->name);
    }
    if (a->item[2]->n > FM_TORCH_MAX_DIMS) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: tensor %s: expected at most %d dimensions, found %u", r->path, t->name,
                FM_TORCH_MAX_DIMS, (unsigned)a->item[2]->n);
    }
    const fm_pickle_value *key = a->item[0]->item[0]->item[2];
    const storage *s = find_storage(r, key->text, key->n); /* all were collected */
    int type = id == G_TENSOR_V3 ? a->item[6]->global->id : s->type;
    if (type == G_UNTYPED) {
        BAD(r, "tensor %s: a storage without an element type", t->name);
    }
    t->dtype = types[type].dtype;
    t->dtype_name = types[type].name;
    t->n_dims = (int)a->item[2]->n;
    FM_TRY(parse_view(t, r, a->item[2], a->item[3], a->item[1]->i, s->bytes / types[type].bytes));
    t->data = s->data + (t->bytes ? a->item[1]->i * types[type].bytes : 0);
    t->bytes *= types[type].bytes;
    return FM_OK;
}

static fm_status add_tensor(reader *r, const fm_pickle_value *key, const fm_pickle_value *args, int id) {
    fm_torch *t = r->t;
    void *p = t->tensor;
    FM_TRY(fm_grow(&p, &t->cap, t->n + 1, sizeof *t->tensor));
    t->tensor = p;
    fm_torch_tensor *x = &t->tensor[t->n];
    *x = (fm_torch_tensor){.file = r->file};
    if (key->n == 0 || memchr(key->text, 0, key->n)) {
        BAD(r, "a tensor whose name is empty or has a zero byte");
    }
    x->name = fm_strndup(key->text, key->n);
    if (!x->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: no memory for the name of a tensor", r->path);
    }
    t->n++; /* from here close() frees it */
    return parse_tensor(x, r, args, id);
}

static size_t count_tensors(const fm_pickle_value *dict) {
    size_t n = 0;
    const fm_pickle_value *args;
    int id;
    for (uint32_t i = 0; dict && dict->kind == FM_PICKLE_DICT && i + 1 < dict->n; i += 2) {
        n += dict->item[i]->kind == FM_PICKLE_STR && tensor_call(dict->item[i + 1], &args, &id) != NULL;
    }
    return n;
}

static fm_status add_tensors(reader *r) {
    static const char *const inside[] = {"state_dict", "model", "module"};
    const fm_pickle_value *dict = fm_pickle_root(r->pickle), *args;
    int id;
    for (int depth = 0; depth < 2 && count_tensors(dict) == 0; depth++) {
        for (size_t i = 0; i < FM_ARRAY_LEN(inside); i++) {
            const fm_pickle_value *v = fm_pickle_get(dict, inside[i]);
            if (v && v->kind == FM_PICKLE_DICT) {
                dict = v;
                break;
            }
        }
    }
    if (count_tensors(dict) == 0) {
        FM_FAIL(FM_ERR_FORMAT, "%s: expected a dict of tensors, found none", r->path);
    }
    for (uint32_t i = 0; i + 1 < dict->n; i += 2) {
        if (dict->item[i]->kind == FM_PICKLE_STR && tensor_call(dict->item[i + 1], &args, &id)) {
            FM_TRY(add_tensor(r, dict->item[i], args, id));
        }
    }
    return FM_OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

static fm_status zip_member(const fm_zip_entry **out, const reader *r, const fm_zip *z, const char *prefix,
                            const storage *s) {
    char path[512];
    int n = snprintf(path, sizeof path, "%s%.*s", prefix, (int)FM_MIN(s->n_key, sizeof path), s->key);
    if (n < 0 || (size_t)n >= sizeof path) {
        BAD(r, "the name of a storage is too long");
    }
    return fm_zip_get(out, z, path);
}

static fm_status read_zip(reader *r, const fm_zip *z) {
    static const char pkl[] = "data.pkl";
    const fm_zip_entry *main = NULL, *e;
    char prefix[400];
    int n_prefix = 0;
    for (size_t i = 0; i < fm_zip_count(z); i++) {
        e = fm_zip_at(z, i);
        size_t n = strlen(e->name);
        const char *slash = strchr(e->name, '/');                             /* FOLDER/data.pkl */
        if (slash && strcmp(slash + 1, pkl) == 0 && n + 16 < sizeof prefix) { /* room for longer names below */
            main = e;
            n_prefix = (int)(n - sizeof pkl + 1);
            memcpy(prefix, e->name, (size_t)n_prefix);
        }
    }
    if (!main) {
        (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__,
                           "%s: a zip archive without data.pkl: not a PyTorch state dict", r->path);
        return fm_error_hint("a TorchScript archive or another format? Save model.state_dict() with torch.save");
    }
    FM_TRY(fm_zip_get(&main, z, main->name));
    if (crc32(0, main->data, (uInt)FM_MIN(main->bytes, UINT32_MAX)) != main->crc) {
        BAD(r, "data.pkl: its checksum does not agree with its bytes");
    }
    FM_TRY(fm_pickle_read(&r->pickle, main->data, (size_t)main->bytes, NULL, allowed, r->path));
    FM_TRY(collect_storages(r));
    memcpy(prefix + n_prefix, "byteorder", 10);
    e = fm_zip_find(z, prefix);
    if (e && e->method == 0 && e->bytes == 3 && memcmp(e->data, "big", 3) == 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: written on a big-endian machine", r->path);
    }
    memcpy(prefix + n_prefix, "data/", 6);
    for (size_t i = 0; i < r->n_storages; i++) {
        storage *s = &r->storage[i];
        FM_TRY(zip_member(&e, r, z, prefix, s));
        if (e->bytes < (uint64_t)s->bytes) {
            BAD(r, "storage '%s': expected %lld bytes, found %llu", e->name, (long long)s->bytes,
                (unsigned long long)e->bytes);
        }
        s->data = e->data;
    }
    return add_tensors(r);
}

/* Before PyTorch 1.6: pickles of a magic number, the protocol, the machine, the object, the keys of its storages; then
 * for each key the number of elements (64 bits) and the elements. */
static const uint8_t legacy_magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                       0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

static bool is_legacy(const void *data, size_t n) {
    return n > sizeof legacy_magic && memcmp(data, legacy_magic, sizeof legacy_magic) == 0;
}

static fm_status next_pickle(fm_pickle **out, const reader *r, size_t *at) {
    size_t used;
    FM_TRY(fm_pickle_read(out, r->data + *at, r->n - *at, &used, allowed, r->path));
    *at += used;
    return FM_OK;
}

static fm_status locate_legacy(reader *r, const fm_pickle_value *keys, size_t at) {
    if (keys->kind != FM_PICKLE_LIST) {
        BAD(r, "expected a list of storages after the tensors");
    }
    for (uint32_t i = 0; i < keys->n; i++) {
        const fm_pickle_value *k = keys->item[i];
        storage *s = k->kind == FM_PICKLE_STR ? find_storage(r, k->text, k->n) : NULL;
        uint64_t count = 0;
        if (!s || r->n - at < 8) {
            BAD(r, "storage %u of %u is not described, or the file is cut short", (unsigned)i, (unsigned)keys->n);
        }
        for (int b = 7; b >= 0; b--) {
            count = count << 8 | r->data[at + (size_t)b];
        }
        at += 8;
        uint64_t size = s->type == G_UNTYPED ? 1 : (uint64_t)types[s->type].bytes;
        if (count > (r->n - at) / size || count * size != (uint64_t)s->bytes) {
            BAD(r, "storage '%.*s': expected %lld bytes, found %llu elements of %llu with %zu bytes left",
                (int)FM_MIN(s->n_key, 100), s->key, (long long)s->bytes, (unsigned long long)count,
                (unsigned long long)size, r->n - at);
        }
        s->data = r->data + at;
        at += (size_t)(count * size);
    }
    for (size_t i = 0; i < r->n_storages; i++) {
        if (!r->storage[i].data) {
            BAD(r, "storage '%.*s' is missing", (int)FM_MIN(r->storage[i].n_key, 100), r->storage[i].key);
        }
    }
    return FM_OK;
}

static fm_status read_legacy(reader *r) {
    size_t at = sizeof legacy_magic;
    fm_pickle *p = NULL;
    FM_TRY(next_pickle(&p, r, &at));
    bool version = p && is_int(fm_pickle_root(p), 1001) && fm_pickle_root(p)->i == 1001;
    fm_pickle_free(p);
    if (!version) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: expected version 1001 of the old PyTorch format", r->path);
    }
    FM_TRY(next_pickle(&p, r, &at));
    const fm_pickle_value *little = p ? fm_pickle_get(fm_pickle_root(p), "little_endian") : NULL;
    bool big = little && little->kind == FM_PICKLE_BOOL && !little->i;
    fm_pickle_free(p);
    if (big) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: written on a big-endian machine", r->path);
    }
    FM_TRY(next_pickle(&r->pickle, r, &at));
    FM_TRY(collect_storages(r));
    FM_TRY(next_pickle(&p, r, &at));
    fm_status s = p ? locate_legacy(r, fm_pickle_root(p), at) : FM_ERR_CORRUPT;
    fm_pickle_free(p);
    return s == FM_OK ? add_tensors(r) : s;
}

static fm_status read_bytes(fm_torch *t, int32_t file, const void *data, size_t n, const char *path, fm_zip **zip) {
    reader r = {.t = t, .file = file, .path = path, .data = data, .n = n};
    fm_status s;
    if (fm_zip_is(data, n)) {
        s = fm_zip_open(zip, data, n, path);
        s = s == FM_OK ? read_zip(&r, *zip) : s;
    } else if (is_legacy(data, n)) {
        s = read_legacy(&r);
    } else {
        (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "%s: not a PyTorch state dict", path);
        s = fm_error_hint("expected the zip format of torch.save (PyTorch 1.6 and later) or the one before it; a Git "
                          "LFS pointer is a small text file: get the file itself");
    }
    fm_pickle_free(r.pickle);
    fm_free(r.storage);
    return s;
}

static fm_status add_file(fm_torch *t, const char *path) {
    void *p = t->file;
    FM_TRY(fm_grow(&p, &t->files_cap, t->n_files + 1, sizeof *t->file));
    t->file = p;
    torch_file *f = &t->file[t->n_files];
    *f = (torch_file){.path = fm_strdup(path)};
    t->n_files++; /* from here close() frees it */
    if (!f->path) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a file name");
    }
    FM_TRY(fm_map_open(&f->map, path));
    return read_bytes(t, (int32_t)t->n_files - 1, f->map.data, f->map.size, f->path, &f->zip);
}

static fm_status finish(fm_torch *t) {
    if (t->n) {
        qsort(t->tensor, t->n, sizeof *t->tensor, by_name);
    }
    for (size_t i = 1; i < t->n; i++) {
        const fm_torch_tensor *a = &t->tensor[i - 1], *b = &t->tensor[i];
        if (strcmp(a->name, b->name) == 0) {
            const char *pa = t->file ? t->file[a->file].path : "", *pb = t->file ? t->file[b->file].path : "";
            FM_FAIL(FM_ERR_CORRUPT, "%s: tensor %s is there twice, also in %s", pb, b->name, pa);
        }
    }
    return FM_OK;
}

static int file_of(const void *arg, const char *name) {
    const fm_torch_tensor *x = fm_torch_find(arg, name);
    return x ? x->file : -1;
}

static fm_status open_index(fm_torch *t, const char *path) {
    char file[4096];
    FM_TRY(fm_shard_index_load(&t->index, path));
    for (size_t i = 0; i < t->index.n_files; i++) {
        FM_TRY(fm_path_join(file, sizeof file, t->index.dir, t->index.file[i]));
        FM_TRY(add_file(t, file));
    }
    FM_TRY(finish(t));
    return fm_shard_index_check(&t->index, file_of, t);
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

/* Name of the weight file of a folder in buf, "" when there is none or a choice. */
static fm_status pick_file(char *buf, size_t cap, const char *dir) {
    static const char *const known[] = {"pytorch_model.bin.index.json", "pytorch_model.bin", "model.pt", "model.pth"};
    /* What trainers leave beside the weights. */
    static const char *const not_weights[] = {"training_args.bin", "optimizer.pt",  "optimizer.bin",    "scheduler.pt",
                                              "scaler.pt",         "rng_state.pth", "adapter_model.bin"};
    char path[4096];
    *buf = '\0';
    for (size_t i = 0; i < FM_ARRAY_LEN(known); i++) {
        FM_TRY(fm_path_join(path, sizeof path, dir, known[i]));
        if (fm_path_exists(path)) {
            return fm_path_join(buf, cap, dir, known[i]);
        }
    }
    char **names;
    size_t n, found = 0, at = 0;
    FM_TRY(fm_dir_list(&names, &n, dir));
    for (size_t i = 0; i < n; i++) {
        bool candidate = ends_with(names[i], ".bin") || ends_with(names[i], ".pt") || ends_with(names[i], ".pth");
        for (size_t k = 0; candidate && k < FM_ARRAY_LEN(not_weights); k++) {
            candidate = strcmp(names[i], not_weights[k]) != 0;
        }
        found += candidate;
        at = candidate ? i : at;
    }
    fm_status s = found == 1 ? fm_path_join(buf, cap, dir, names[at]) : FM_OK;
    fm_names_free(names, n);
    return s;
}

bool fm_torch_in_dir(const char *dir) {
    char path[4096];
    if (pick_file(path, sizeof path, dir) != FM_OK) {
        fm_error_clear();
        return false;
    }
    return *path != '\0';
}

static fm_status open_path(fm_torch *t, const char *path) {
    char file[4096];
    if (fm_path_is_dir(path)) {
        FM_TRY(pick_file(file, sizeof file, path));
        if (!*file) {
            FM_FAIL(FM_ERR_NOT_FOUND, "%s: expected pytorch_model.bin, its index, or a single .bin, .pt or .pth", path);
        }
        path = file;
    }
    if (ends_with(path, ".json")) {
        return open_index(t, path);
    }
    FM_TRY(add_file(t, path));
    return finish(t);
}

static fm_status new_torch(fm_torch **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to read a PyTorch file");
    }
    return FM_OK;
}

fm_status fm_torch_open(fm_torch **out, const char *path) {
    *out = NULL;
    fm_torch *t;
    FM_TRY(new_torch(&t));
    fm_status s = open_path(t, path);
    if (s != FM_OK) {
        fm_torch_close(t);
        return s;
    }
    *out = t;
    return FM_OK;
}

fm_status fm_torch_parse(fm_torch **out, const void *data, size_t n, const char *name) {
    *out = NULL;
    fm_torch *t;
    fm_zip *zip = NULL;
    FM_TRY(new_torch(&t));
    fm_status s = read_bytes(t, 0, data, n, name, &zip);
    fm_zip_close(zip); /* the tensors point into data */
    s = s == FM_OK ? finish(t) : s;
    if (s != FM_OK) {
        fm_torch_close(t);
        return s;
    }
    *out = t;
    return FM_OK;
}

void fm_torch_close(fm_torch *t) {
    if (!t) {
        return;
    }
    for (size_t i = 0; i < t->n_files; i++) {
        fm_zip_close(t->file[i].zip);
        fm_map_close(&t->file[i].map);
        fm_free(t->file[i].path);
    }
    for (size_t i = 0; i < t->n; i++) {
        fm_free(t->tensor[i].name);
    }
    fm_shard_index_free(&t->index);
    fm_free(t->file);
    fm_free(t->tensor);
    fm_free(t);
}

size_t fm_torch_count(const fm_torch *t) {
    return t->n;
}

const fm_torch_tensor *fm_torch_at(const fm_torch *t, size_t i) {
    return i < t->n ? &t->tensor[i] : NULL;
}

const fm_torch_tensor *fm_torch_find(const fm_torch *t, const char *name) {
    fm_torch_tensor key = {.name = (char *)name};
    return t->n ? bsearch(&key, t->tensor, t->n, sizeof key, by_name) : NULL;
}

size_t fm_torch_n_files(const fm_torch *t) {
    return t->n_files;
}

const char *fm_torch_file(const fm_torch *t, size_t i) {
    return i < t->n_files ? t->file[i].path : NULL;
}
