/* The GGUF container (layout: the GGUF specification in the ggml project, docs/gguf.md):
 *   "GGUF", u32 version, u64 tensors, u64 keys; keys: {string, u32 type, value}; tensors: {string, u32 dims, u64 dim[],
 *   u32 type, u64 offset}; padding to general.alignment; data. A string is u64 length and bytes, an array u32 item
 *   type, u64 count and the items. */
#include "base/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF values are read in place: a little-endian machine is needed"
#endif

#define MAX_ITEMS         ((uint64_t)1 << 20) /* keys, and tensors: far above any model */
#define MAX_KEY           65535
#define DEFAULT_ALIGNMENT 32
#define MAX_ALIGNMENT     ((int64_t)1 << 20)

struct fm_gguf {
    char *name;
    fm_map map;
    const uint8_t *data;
    size_t size;
    fm_gguf_kv *kv; /* in file order */
    size_t n_kv, kv_cap;
    uint32_t *kv_sorted; /* by key */
    fm_gguf_tensor *tensor;
    size_t n_tensors, tensor_cap;
    uint32_t *tensor_sorted; /* by name */
};

/* Names that go into messages: what cannot be printed becomes '?'. */
#define SHOWN 80
static const char *shown(char buf[SHOWN], const char *p, size_t n) {
    size_t m = FM_MIN(n, (size_t)SHOWN - 1);
    for (size_t i = 0; i < m; i++) {
        buf[i] = p[i] >= 0x20 && p[i] != 0x7f ? p[i] : '?';
    }
    buf[m] = '\0';
    return buf;
}

/* ---- reading with bounds --------------------------------------------------------------------- */

typedef struct reader {
    const fm_gguf *g;
    size_t at;
} reader;

static fm_status take(reader *r, void *out, size_t n, const char *what) {
    if (n > r->g->size - r->at) {
        FM_FAIL(FM_ERR_FORMAT, "%s: cut off at byte %zu: %zu bytes of %s expected, %zu left", r->g->name, r->at, n,
                what, r->g->size - r->at);
    }
    memcpy(out, r->g->data + r->at, n);
    r->at += n;
    return FM_OK;
}

static fm_status take_text(reader *r, fm_gguf_text *out, const char *what) {
    uint64_t n;
    FM_TRY(take(r, &n, sizeof n, what));
    if (n > r->g->size - r->at) {
        FM_FAIL(FM_ERR_FORMAT, "%s: %s at byte %zu has length %llu, but %zu bytes are left", r->g->name, what, r->at,
                (unsigned long long)n, r->g->size - r->at);
    }
    *out = (fm_gguf_text){(const char *)r->g->data + r->at, (size_t)n};
    r->at += (size_t)n;
    return FM_OK;
}

/* Bytes of one value; 0 for strings and arrays. */
static size_t width_of(fm_gguf_type t) {
    static const uint8_t width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return width[t];
}

static fm_status take_values(reader *r, fm_gguf_kv *kv) {
    char name[SHOWN];
    kv->value = r->g->data + r->at;
    size_t left = r->g->size - r->at;
    if (kv->item == FM_GGUF_STRING) {
        for (uint64_t i = 0; i < kv->n; i++) {
            fm_gguf_text t;
            fm_status s = take_text(r, &t, "a string");
            if (s != FM_OK) {
                return fm_error_context("metadata key \"%s\", item %llu of %llu", shown(name, kv->key.ptr, kv->key.len),
                                        (unsigned long long)i, (unsigned long long)kv->n);
            }
        }
        return FM_OK;
    }
    size_t w = width_of(kv->item);
    if (kv->n > left / w) {
        FM_FAIL(FM_ERR_FORMAT, "%s: metadata key \"%s\" has %llu values of %zu bytes, but %zu bytes are left",
                r->g->name, shown(name, kv->key.ptr, kv->key.len), (unsigned long long)kv->n, w, left);
    }
    r->at += (size_t)kv->n * w;
    return FM_OK;
}

static fm_status take_kv(reader *r, fm_gguf_kv *kv) {
    char name[SHOWN];
    uint32_t type, item;
    FM_TRY(take_text(r, &kv->key, "a metadata key"));
    if (kv->key.len == 0 || kv->key.len > MAX_KEY) {
        FM_FAIL(FM_ERR_FORMAT, "%s: metadata key %zu: expected a name of 1 to %d bytes, found %zu", r->g->name,
                r->g->n_kv, MAX_KEY, kv->key.len);
    }
    shown(name, kv->key.ptr, kv->key.len);
    FM_TRY(take(r, &type, sizeof type, "a value type"));
    if (type > FM_GGUF_F64) {
        FM_FAIL(FM_ERR_FORMAT, "%s: metadata key \"%s\": expected a value type 0 to %d, found %u", r->g->name, name,
                FM_GGUF_F64, (unsigned)type);
    }
    kv->type = kv->item = (fm_gguf_type)type;
    kv->n = 1;
    if (kv->type == FM_GGUF_ARRAY) {
        FM_TRY(take(r, &item, sizeof item, "an item type"));
        if (item > FM_GGUF_F64 || item == FM_GGUF_ARRAY) {
            FM_FAIL(FM_ERR_FORMAT,
                    "%s: metadata key \"%s\": expected an array of numbers or strings, found item type %u", r->g->name,
                    name, (unsigned)item);
        }
        kv->item = (fm_gguf_type)item;
        FM_TRY(take(r, &kv->n, sizeof kv->n, "an array length"));
    }
    return take_values(r, kv);
}

static fm_status take_tensor(reader *r, fm_gguf_tensor *t) {
    fm_gguf_text name;
    uint32_t n_dims;
    FM_TRY(take_text(r, &name, "a tensor name"));
    if (name.len == 0 || name.len >= sizeof t->name || memchr(name.ptr, 0, name.len)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: tensor %zu: expected a name of 1 to %zu bytes without NUL, found %zu bytes",
                r->g->name, r->g->n_tensors, sizeof t->name - 1, name.len);
    }
    memcpy(t->name, name.ptr, name.len);
    t->name[name.len] = '\0';
    FM_TRY(take(r, &n_dims, sizeof n_dims, "a number of dimensions"));
    if (n_dims < 1 || n_dims > FM_GGUF_MAX_DIMS) {
        FM_FAIL(FM_ERR_FORMAT, "%s: tensor %s: expected 1 to %d dimensions, found %u", r->g->name, t->name,
                FM_GGUF_MAX_DIMS, (unsigned)n_dims);
    }
    t->n_dims = (int)n_dims;
    int64_t numel = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        FM_TRY(take(r, &t->dim[i], sizeof t->dim[i], "a dimension"));
        if (t->dim[i] < 1 || __builtin_mul_overflow(numel, t->dim[i], &numel)) {
            FM_FAIL(FM_ERR_FORMAT, "%s: tensor %s: dimension %u is %lld, or the number of elements overflows",
                    r->g->name, t->name, (unsigned)i, (long long)t->dim[i]);
        }
    }
    for (uint32_t i = n_dims; i < FM_GGUF_MAX_DIMS; i++) {
        t->dim[i] = 1;
    }
    FM_TRY(take(r, &t->type, sizeof t->type, "an element type"));
    return take(r, &t->offset, sizeof t->offset, "a tensor offset");
}

/* ---- order and lookup ------------------------------------------------------------------------ */

static int compare_text(fm_gguf_text a, fm_gguf_text b) {
    int c = memcmp(a.ptr, b.ptr, FM_MIN(a.len, b.len));
    return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}

static fm_gguf_text key_text(const fm_gguf *g, uint32_t i) {
    return g->kv[i].key;
}

static fm_gguf_text tensor_text(const fm_gguf *g, uint32_t i) {
    return (fm_gguf_text){g->tensor[i].name, strlen(g->tensor[i].name)};
}

typedef fm_gguf_text (*text_fn)(const fm_gguf *g, uint32_t i);

/* Merge sort of the index (qsort has no argument for g); false with *twice when a name occurs twice. */
static fm_status sort_index(uint32_t **out, const fm_gguf *g, size_t n, text_fn text, const char *what) {
    uint32_t *a = fm_malloc(FM_MAX(n, (size_t)1) * sizeof *a), *b = fm_malloc(FM_MAX(n, (size_t)1) * sizeof *b);
    if (!a || !b) {
        fm_free(a);
        fm_free(b);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an index of %zu names", n);
    }
    for (size_t i = 0; i < n; i++) {
        a[i] = (uint32_t)i;
    }
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t from = 0; from < n; from += 2 * width) {
            size_t i = from, mid = FM_MIN(from + width, n), j = mid, end = FM_MIN(from + 2 * width, n);
            for (size_t k = from; k < end; k++) {
                bool left = i < mid && (j >= end || compare_text(text(g, a[i]), text(g, a[j])) <= 0);
                b[k] = left ? a[i++] : a[j++];
            }
        }
        uint32_t *swap = a;
        a = b;
        b = swap;
    }
    fm_free(b);
    *out = a;
    for (size_t i = 1; i < n; i++) {
        fm_gguf_text t = text(g, a[i]);
        if (compare_text(text(g, a[i - 1]), t) == 0) {
            char name[SHOWN];
            FM_FAIL(FM_ERR_FORMAT, "%s: %s \"%s\" occurs twice", g->name, what, shown(name, t.ptr, t.len));
        }
    }
    return FM_OK;
}

/* Index of a name, or n. */
static size_t lookup(const fm_gguf *g, const uint32_t *sorted, size_t n, text_fn text, const char *name) {
    fm_gguf_text want = {name, strlen(name)};
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = compare_text(text(g, sorted[mid]), want);
        if (c == 0) {
            return sorted[mid];
        }
        if (c < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return n;
}

/* ---- opening --------------------------------------------------------------------------------- */

static fm_status check_magic(reader *r) {
    uint8_t magic[4];
    uint32_t version;
    if (r->g->size < 24) {
        FM_FAIL(FM_ERR_FORMAT, "%s: not a GGUF file: expected a header of 24 bytes, found %zu bytes", r->g->name,
                r->g->size);
    }
    FM_TRY(take(r, magic, sizeof magic, "the magic"));
    if (memcmp(magic, "GGUF", 4) != 0) {
        (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__,
                           "%s: not a GGUF file: expected the bytes 47 47 55 46 at its beginning, found %02x %02x %02x "
                           "%02x",
                           r->g->name, magic[0], magic[1], magic[2], magic[3]);
        return memcmp(magic + 1, "gg", 2) == 0
                   ? fm_error_hint("files from before GGUF (ggml, ggmf, ggjt) have to be converted by llama.cpp first")
                   : FM_ERR_FORMAT;
    }
    FM_TRY(take(r, &version, sizeof version, "the version"));
    if (version != 2 && version != 3) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: expected GGUF version 2 or 3, found %s%u", r->g->name,
                (version & 0xffffu) == 0 && version ? "a big-endian file, which is not supported: " : "",
                (unsigned)version);
    }
    return FM_OK;
}

static fm_status check_count(const fm_gguf *g, uint64_t n, const char *what) {
    if (n > MAX_ITEMS) {
        FM_FAIL(FM_ERR_FORMAT, "%s: the header claims %llu %s; at most %llu are accepted", g->name,
                (unsigned long long)n, what, (unsigned long long)MAX_ITEMS);
    }
    return FM_OK;
}

/* Offsets become absolute; the extent of the data needs the element types, which src/io knows. */
static fm_status place_tensors(fm_gguf *g, size_t header_end) {
    int64_t alignment;
    FM_TRY(fm_gguf_get_int(&alignment, g, "general.alignment", DEFAULT_ALIGNMENT));
    if (alignment < 1 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0) {
        FM_FAIL(FM_ERR_FORMAT, "%s: general.alignment: expected a power of two up to %lld, found %lld", g->name,
                (long long)MAX_ALIGNMENT, (long long)alignment);
    }
    uint64_t a = (uint64_t)alignment, base = ((uint64_t)header_end + a - 1) / a * a;
    for (size_t i = 0; i < g->n_tensors; i++) {
        fm_gguf_tensor *t = &g->tensor[i];
        if (t->offset % a != 0) {
            FM_FAIL(FM_ERR_FORMAT, "%s: tensor %s: expected an offset that is a multiple of %llu, found %llu", g->name,
                    t->name, (unsigned long long)a, (unsigned long long)t->offset);
        }
        if (base > g->size || t->offset >= g->size - base) {
            FM_FAIL(FM_ERR_FORMAT, "%s: tensor %s begins at byte %llu of the data, but the file has %llu bytes of it",
                    g->name, t->name, (unsigned long long)t->offset,
                    (unsigned long long)(base > g->size ? 0 : g->size - base));
        }
        t->offset += base;
    }
    return FM_OK;
}

static fm_status parse(fm_gguf *g) {
    reader r = {g, 0};
    uint64_t n_tensors, n_kv;
    FM_TRY(check_magic(&r));
    FM_TRY(take(&r, &n_tensors, sizeof n_tensors, "the number of tensors"));
    FM_TRY(take(&r, &n_kv, sizeof n_kv, "the number of keys"));
    FM_TRY(check_count(g, n_tensors, "tensors"));
    FM_TRY(check_count(g, n_kv, "metadata keys"));
    /* The arrays grow as entries are found to exist, so a lying header costs nothing. */
    for (; g->n_kv < n_kv; g->n_kv++) {
        FM_TRY(fm_grow((void **)&g->kv, &g->kv_cap, g->n_kv + 1, sizeof *g->kv));
        FM_TRY(take_kv(&r, &g->kv[g->n_kv]));
    }
    for (; g->n_tensors < n_tensors; g->n_tensors++) {
        FM_TRY(fm_grow((void **)&g->tensor, &g->tensor_cap, g->n_tensors + 1, sizeof *g->tensor));
        FM_TRY(take_tensor(&r, &g->tensor[g->n_tensors]));
    }
    FM_TRY(sort_index(&g->kv_sorted, g, g->n_kv, key_text, "metadata key"));
    FM_TRY(sort_index(&g->tensor_sorted, g, g->n_tensors, tensor_text, "tensor"));
    return place_tensors(g, r.at);
}

static fm_status open_common(fm_gguf **out, const char *name, const char *path, const void *data, size_t n) {
    *out = NULL;
    fm_gguf *g = fm_calloc(1, sizeof *g);
    if (g) {
        g->name = fm_strdup(name);
    }
    if (!g || !g->name) {
        fm_free(g);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to read %s", name);
    }
    fm_status s = path ? fm_map_open(&g->map, path) : FM_OK;
    if (s == FM_OK) {
        g->data = path ? g->map.data : data;
        g->size = path ? g->map.size : n;
        s = parse(g);
    }
    if (s != FM_OK) {
        fm_gguf_close(g);
        return s;
    }
    *out = g;
    return FM_OK;
}

bool fm_gguf_is_file(const char *path) {
    char magic[4];
    FILE *f = fm_path_is_dir(path) ? NULL : fopen(path, "rb");
    bool yes = f && fread(magic, 1, 4, f) == 4 && memcmp(magic, "GGUF", 4) == 0;
    if (f) {
        (void)fclose(f);
    }
    return yes;
}

fm_status fm_gguf_open(fm_gguf **out, const char *path) {
    return open_common(out, path, path, NULL, 0);
}

fm_status fm_gguf_parse(fm_gguf **out, const void *data, size_t n, const char *name) {
    return open_common(out, name, NULL, data, n);
}

void fm_gguf_close(fm_gguf *g) {
    if (!g) {
        return;
    }
    fm_map_close(&g->map);
    fm_free(g->kv);
    fm_free(g->kv_sorted);
    fm_free(g->tensor);
    fm_free(g->tensor_sorted);
    fm_free(g->name);
    fm_free(g);
}

const void *fm_gguf_data(const fm_gguf *g, size_t *n_bytes) {
    *n_bytes = g->size;
    return g->data;
}

/* ---- getters --------------------------------------------------------------------------------- */

size_t fm_gguf_kv_count(const fm_gguf *g) {
    return g->n_kv;
}

const fm_gguf_kv *fm_gguf_kv_at(const fm_gguf *g, size_t i) {
    return i < g->n_kv ? &g->kv[i] : NULL;
}

const fm_gguf_kv *fm_gguf_find(const fm_gguf *g, const char *key) {
    size_t i = lookup(g, g->kv_sorted, g->n_kv, key_text, key);
    return i < g->n_kv ? &g->kv[i] : NULL;
}

size_t fm_gguf_tensor_count(const fm_gguf *g) {
    return g->n_tensors;
}

const fm_gguf_tensor *fm_gguf_tensor_at(const fm_gguf *g, size_t i) {
    return i < g->n_tensors ? &g->tensor[i] : NULL;
}

const fm_gguf_tensor *fm_gguf_tensor_find(const fm_gguf *g, const char *name) {
    size_t i = lookup(g, g->tensor_sorted, g->n_tensors, tensor_text, name);
    return i < g->n_tensors ? &g->tensor[i] : NULL;
}

#define LOAD(type, p)                                                                                                  \
    type v_;                                                                                                           \
    memcpy(&v_, (p), sizeof v_)

/* Integers of any width; false for other types and for what does not fit. */
static bool load_int(int64_t *out, fm_gguf_type t, const uint8_t *p) {
    switch (t) {
    case FM_GGUF_U8:
        *out = *p;
        return true;
    case FM_GGUF_I8:
        *out = *p < 128 ? *p : *p - 256;
        return true;
    case FM_GGUF_U16: {
        LOAD(uint16_t, p);
        *out = v_;
        return true;
    }
    case FM_GGUF_I16: {
        LOAD(int16_t, p);
        *out = v_;
        return true;
    }
    case FM_GGUF_U32: {
        LOAD(uint32_t, p);
        *out = v_;
        return true;
    }
    case FM_GGUF_I32: {
        LOAD(int32_t, p);
        *out = v_;
        return true;
    }
    case FM_GGUF_U64:
    case FM_GGUF_I64: {
        LOAD(int64_t, p);
        *out = v_;
        return t == FM_GGUF_I64 || v_ >= 0;
    }
    default:
        return false;
    }
}

static bool load_num(double *out, fm_gguf_type t, const uint8_t *p) {
    int64_t i;
    if (load_int(&i, t, p)) {
        *out = (double)i;
        return true;
    }
    switch (t) {
    case FM_GGUF_F32: {
        LOAD(float, p);
        *out = (double)v_;
        return true;
    }
    case FM_GGUF_F64: {
        LOAD(double, p);
        *out = v_;
        return true;
    }
    case FM_GGUF_U64: {
        LOAD(uint64_t, p);
        *out = (double)v_;
        return true;
    }
    case FM_GGUF_BOOL:
        *out = *p != 0;
        return true;
    default:
        return false;
    }
}

static fm_status wrong_type(const fm_gguf *g, const fm_gguf_kv *kv, const char *key, const char *expected) {
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    FM_FAIL(FM_ERR_FORMAT, "%s: metadata key \"%s\": expected %s, found %s", g->name, key, expected, names[kv->type]);
}

fm_status fm_gguf_get_int(int64_t *out, const fm_gguf *g, const char *key, int64_t def) {
    const fm_gguf_kv *kv = fm_gguf_find(g, key);
    *out = def;
    return !kv || load_int(out, kv->type, kv->value) ? FM_OK : wrong_type(g, kv, key, "an integer of at most 63 bits");
}

fm_status fm_gguf_get_num(double *out, const fm_gguf *g, const char *key, double def) {
    const fm_gguf_kv *kv = fm_gguf_find(g, key);
    *out = def;
    return !kv || (kv->type != FM_GGUF_BOOL && load_num(out, kv->type, kv->value)) ? FM_OK
                                                                                   : wrong_type(g, kv, key, "a number");
}

fm_status fm_gguf_get_bool(bool *out, const fm_gguf *g, const char *key, bool def) {
    const fm_gguf_kv *kv = fm_gguf_find(g, key);
    *out = def;
    if (kv && kv->type != FM_GGUF_BOOL) {
        return wrong_type(g, kv, key, "a bool");
    }
    if (kv) {
        *out = *kv->value != 0;
    }
    return FM_OK;
}

fm_status fm_gguf_get_text(fm_gguf_text *out, const fm_gguf *g, const char *key) {
    const fm_gguf_kv *kv = fm_gguf_find(g, key);
    *out = (fm_gguf_text){NULL, 0};
    if (kv && kv->type != FM_GGUF_STRING) {
        return wrong_type(g, kv, key, "a string");
    }
    if (kv) {
        const uint8_t *at = kv->value;
        *out = fm_gguf_next_text(&at);
    }
    return FM_OK;
}

fm_gguf_text fm_gguf_next_text(const uint8_t **at) {
    uint64_t n;
    memcpy(&n, *at, sizeof n);
    fm_gguf_text t = {(const char *)*at + sizeof n, (size_t)n};
    *at += sizeof n + (size_t)n;
    return t;
}

double fm_gguf_item_num(const fm_gguf_kv *kv, uint64_t i) {
    double v = 0;
    FM_ASSERT(i < kv->n && kv->item != FM_GGUF_STRING);
    (void)load_num(&v, kv->item, kv->value + i * width_of(kv->item));
    return v;
}
