/* Reading: see gguf.h. */
#include "io/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/quant.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- element types --------------------------------------------------------------------------- */

static const fm_ggml_type types[] = {
    {0, FM_F32, "F32"},        {1, FM_F16, "F16"},    {2, FM_Q4_0, "Q4_0"},  {3, FM_Q4_1, "Q4_1"},
    {6, FM_Q5_0, "Q5_0"},      {7, FM_Q5_1, "Q5_1"},  {8, FM_Q8_0, "Q8_0"},  {10, FM_Q2_K, "Q2_K"},
    {11, FM_Q3_K, "Q3_K"},     {12, FM_Q4_K, "Q4_K"}, {13, FM_Q5_K, "Q5_K"}, {14, FM_Q6_K, "Q6_K"},
    {20, FM_IQ4_NL, "IQ4_NL"}, {30, FM_BF16, "BF16"},
};

const fm_ggml_type *fm_ggml_type_of(fm_dtype d) {
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (types[i].dtype == d) {
            return &types[i];
        }
    }
    return NULL;
}

const fm_ggml_type *fm_ggml_type_by_number(uint32_t number) {
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (types[i].number == number) {
            return &types[i];
        }
    }
    return NULL;
}

const char *fm_ggml_type_name(uint32_t number) {
    static const struct {
        uint32_t number;
        const char *name;
    } others[] = {{9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
                  {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"}, {24, "I8"},
                  {25, "I16"},   {26, "I32"},   {27, "I64"},     {28, "F64"},    {29, "IQ1_M"},
                  {34, "TQ1_0"}, {35, "TQ2_0"}, {39, "MXFP4"},   {40, "NVFP4"}};
    const fm_ggml_type *t = fm_ggml_type_by_number(number);
    for (size_t i = 0; !t && i < FM_ARRAY_LEN(others); i++) {
        if (others[i].number == number) {
            return others[i].name;
        }
    }
    return t ? t->name : "?";
}

/* ---- a set of files -------------------------------------------------------------------------- */

struct fm_gguf_set {
    fm_gguf **file;
    int n_files;
    fm_gguf_weight *weight; /* file after file */
    size_t n;
    uint32_t *sorted; /* by name */
    int64_t bytes;
};

static fm_status fill_weight(fm_gguf_weight *w, const fm_gguf *g, const fm_gguf_tensor *t, const char *path) {
    size_t size;
    const uint8_t *data = fm_gguf_data(g, &size);
    const fm_ggml_type *type = fm_ggml_type_by_number(t->type);
    *w = (fm_gguf_weight){
        .name = t->name, .type = t->type, .dtype = type ? type->dtype : FM_DTYPE_COUNT, .n_dims = t->n_dims};
    int64_t numel = 1;
    for (int i = 0; i < FM_GGUF_MAX_DIMS; i++) {
        w->dim[i] = i < t->n_dims ? t->dim[t->n_dims - 1 - i] : 1;
        numel *= w->dim[i]; /* checked against overflow when the file was opened */
    }
    if (!type) {
        return FM_OK; /* an error when it is asked for */
    }
    int64_t block = fm_dtype_get(w->dtype)->block;
    w->bytes = fm_dtype_bytes(w->dtype, numel);
    if (t->dim[0] % block != 0 || w->bytes < 0) {
        FM_FAIL(FM_ERR_FORMAT, "%s: tensor %s: expected rows of a multiple of %lld elements (%s), found %lld", path,
                t->name, (long long)block, type->name, (long long)t->dim[0]);
    }
    if ((uint64_t)w->bytes > size - t->offset) {
        FM_FAIL(FM_ERR_FORMAT, "%s: tensor %s: cut off: its %lld bytes begin at byte %llu, but the file has %zu", path,
                t->name, (long long)w->bytes, (unsigned long long)t->offset, size);
    }
    w->data = data + t->offset;
    return FM_OK;
}

static int by_place(const void *a, const void *b) {
    const fm_gguf_weight *x = *(const fm_gguf_weight *const *)a, *y = *(const fm_gguf_weight *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

static int by_name(const void *a, const void *b) {
    const fm_gguf_weight *x = *(const fm_gguf_weight *const *)a, *y = *(const fm_gguf_weight *const *)b;
    return strcmp(x->name, y->name);
}

/* Overlaps, and names in two files; keeps the order by name. */
static fm_status check_set(fm_gguf_set *s, const char *path) {
    fm_gguf_weight **p = fm_malloc(FM_MAX(s->n, (size_t)1) * sizeof(fm_gguf_weight *));
    s->sorted = fm_malloc(FM_MAX(s->n, (size_t)1) * sizeof *s->sorted);
    if (!p || !s->sorted) {
        fm_free((void *)p);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the tensors of %s", path);
    }
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->weight[i].data) {
            p[n++] = &s->weight[i];
        }
    }
    qsort((void *)p, n, sizeof(fm_gguf_weight *), by_place);
    fm_status st = FM_OK;
    for (size_t i = 1; i < n && st == FM_OK; i++) {
        if (p[i]->data < p[i - 1]->data + p[i - 1]->bytes) {
            st = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__,
                              "%s: tensor %s begins %lld bytes before the end of tensor %s", path, p[i]->name,
                              (long long)(p[i - 1]->data + p[i - 1]->bytes - p[i]->data), p[i - 1]->name);
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        p[i] = &s->weight[i];
    }
    qsort((void *)p, s->n, sizeof(fm_gguf_weight *), by_name);
    for (size_t i = 0; i < s->n && st == FM_OK; i++) {
        s->sorted[i] = (uint32_t)(p[i] - s->weight);
        if (i > 0 && strcmp(p[i]->name, p[i - 1]->name) == 0) {
            st = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "%s: tensor %s stands in two files of the split", path,
                              p[i]->name);
        }
    }
    fm_free((void *)p);
    return st;
}

static fm_status add_weights(fm_gguf_set *s, const char *path) {
    for (int f = 0; f < s->n_files; f++) {
        size_t size;
        fm_gguf_data(s->file[f], &size);
        s->n += fm_gguf_tensor_count(s->file[f]);
        s->bytes += (int64_t)size;
    }
    s->weight = fm_calloc(FM_MAX(s->n, (size_t)1), sizeof *s->weight);
    if (!s->weight) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the tensors of %s", path);
    }
    fm_gguf_weight *w = s->weight;
    for (int f = 0; f < s->n_files; f++) {
        for (size_t i = 0; i < fm_gguf_tensor_count(s->file[f]); i++) {
            FM_TRY(fill_weight(w++, s->file[f], fm_gguf_tensor_at(s->file[f], i), path));
        }
    }
    return check_set(s, path);
}

#define MAX_FILES 10000

/* "x-00002-of-00005.gguf" -> prefix length; 0 when the name is not of that form. */
static size_t split_prefix(const char *path) {
    static const char tail[] = "-00000-of-00000.gguf";
    size_t n = strlen(path), t = sizeof tail - 1;
    if (n <= t) {
        return 0;
    }
    for (size_t i = 0; i < t; i++) {
        char c = path[n - t + i];
        if (tail[i] == '0' ? c < '0' || c > '9' : c != tail[i]) {
            return 0;
        }
    }
    return n - t;
}

static fm_status check_part(const fm_gguf *g, const char *path, int64_t no, int64_t count) {
    int64_t have_no, have_count;
    FM_TRY(fm_gguf_get_int(&have_no, g, "split.no", 0));
    FM_TRY(fm_gguf_get_int(&have_count, g, "split.count", 1));
    if (have_no != no || have_count != count) {
        FM_FAIL(FM_ERR_FORMAT, "%s: expected part %lld of %lld by its name, found split.no %lld, split.count %lld",
                path, (long long)no, (long long)count, (long long)have_no, (long long)have_count);
    }
    return FM_OK;
}

static fm_status open_files(fm_gguf_set *s, const char *path) {
    fm_gguf *first;
    int64_t count;
    FM_TRY(fm_gguf_open(&first, path));
    s->file[s->n_files++] = first;
    FM_TRY(fm_gguf_get_int(&count, first, "split.count", 1));
    size_t prefix = split_prefix(path);
    if (count <= 1) {
        return FM_OK;
    }
    if (count > MAX_FILES || prefix == 0) {
        FM_FAIL(FM_ERR_FORMAT, "%s: split.count is %lld: expected a name as x-00001-of-%05lld.gguf", path,
                (long long)count, (long long)FM_MIN(count, MAX_FILES));
    }
    fm_gguf **all = fm_calloc((size_t)count, sizeof(fm_gguf *));
    if (!all) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %s", path);
    }
    fm_gguf_close(first);
    s->n_files = 0;
    fm_free((void *)s->file);
    s->file = all;
    fm_str name = {0};
    fm_status st = FM_OK;
    for (int64_t i = 0; i < count && st == FM_OK; i++) {
        fm_str_clear(&name);
        fm_str_append(&name, path, prefix);
        fm_str_printf(&name, "-%05lld-of-%05lld.gguf", (long long)i + 1, (long long)count);
        st = fm_str_check(&name);
        if (st == FM_OK) {
            st = fm_gguf_open(&all[i], name.data);
        }
        if (st == FM_OK) {
            s->n_files++;
            st = check_part(all[i], name.data, i, count);
        }
    }
    fm_str_free(&name);
    return st;
}

static fm_status set_new(fm_gguf_set **out, const char *path) {
    *out = fm_calloc(1, sizeof **out);
    if (*out) {
        (*out)->file = fm_calloc(1, sizeof(fm_gguf *));
    }
    if (!*out || !(*out)->file) {
        fm_gguf_set_close(*out);
        *out = NULL;
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to open %s", path);
    }
    return FM_OK;
}

static fm_status set_finish(fm_gguf_set **out, fm_status s, const char *path) {
    if (s == FM_OK) {
        s = add_weights(*out, path);
    }
    if (s != FM_OK) {
        fm_gguf_set_close(*out);
        *out = NULL;
    }
    return s;
}

fm_status fm_gguf_set_open(fm_gguf_set **out, const char *path) {
    FM_TRY(set_new(out, path));
    return set_finish(out, open_files(*out, path), path);
}

fm_status fm_gguf_set_parse(fm_gguf_set **out, const void *data, size_t n, const char *name) {
    FM_TRY(set_new(out, name));
    fm_status s = fm_gguf_parse(&(*out)->file[0], data, n, name);
    (*out)->n_files = s == FM_OK;
    return set_finish(out, s, name);
}

void fm_gguf_set_close(fm_gguf_set *s) {
    if (!s) {
        return;
    }
    for (int i = 0; s->file && i < s->n_files; i++) {
        fm_gguf_close(s->file[i]);
    }
    fm_free((void *)s->file);
    fm_free(s->weight);
    fm_free(s->sorted);
    fm_free(s);
}

const fm_gguf *fm_gguf_set_meta(const fm_gguf_set *s) {
    return s->file[0];
}

size_t fm_gguf_set_count(const fm_gguf_set *s) {
    return s->n;
}

const fm_gguf_weight *fm_gguf_set_at(const fm_gguf_set *s, size_t i) {
    return i < s->n ? &s->weight[i] : NULL;
}

const fm_gguf_weight *fm_gguf_set_find(const fm_gguf_set *s, const char *name) {
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const fm_gguf_weight *w = &s->weight[s->sorted[mid]];
        int c = strcmp(w->name, name);
        if (c == 0) {
            return w;
        }
        if (c < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

fm_status fm_gguf_set_get(const fm_gguf_weight **out, const fm_gguf_set *s, const char *name) {
    *out = fm_gguf_set_find(s, name);
    if (!*out) {
        FM_FAIL(FM_ERR_NOT_FOUND, "tensor %s is missing", name);
    }
    if ((*out)->dtype == FM_DTYPE_COUNT) {
        (void)fm_error_set(FM_ERR_DTYPE, __FILE__, __LINE__, "tensor %s: element type %u (%s) is not supported", name,
                           (unsigned)(*out)->type, fm_ggml_type_name((*out)->type));
        return fm_error_hint("supported: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K, IQ4_NL");
    }
    return FM_OK;
}

int fm_gguf_set_n_files(const fm_gguf_set *s) {
    return s->n_files;
}

int64_t fm_gguf_set_bytes(const fm_gguf_set *s) {
    return s->bytes;
}

void fm_gguf_release_pages(const void *data, int64_t n) {
    fm_map_release(data, (size_t)n);
}

void fm_gguf_read_f32(float *out, const fm_gguf_weight *w, int64_t from, int64_t n) {
    const fm_dtype_info *d = fm_dtype_get(w->dtype);
    FM_ASSERT(from % d->block == 0 && n % d->block == 0);
    const uint8_t *src = w->data + fm_dtype_bytes(w->dtype, from);
    const fm_quant_type *q = fm_quant_find(w->dtype);
    if (q) {
        q->dequantise(src, out, n / d->block);
        return;
    }
    if (w->dtype == FM_F32) {
        memcpy(out, src, (size_t)n * sizeof *out);
        return;
    }
    FM_ASSERT(w->dtype == FM_BF16 || w->dtype == FM_F16);
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        out[i] = w->dtype == FM_BF16 ? fm_bf16_to_f32(h) : fm_f16_to_f32(h);
    }
}
