/* Writing safetensors. The whole layout is planned in begin(); data then goes to its place with
 * pwrite, so tensors may arrive in any order and in pieces. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/safetensors.h"

typedef struct item {
    char *name;
    fm_dtype dtype;
    int n_dims;
    int64_t dims[FM_ST_MAX_DIMS];
    int64_t bytes, written;
    int64_t offset; /* in the data of its shard */
    size_t shard, order;
} item;

typedef struct shard {
    int fd;
    int64_t bytes;       /* of data */
    int64_t header_size; /* with the 8 bytes in front */
    char name[256];
} shard;

struct fm_st_writer {
    char *dir, *base;
    int64_t max_shard;
    fm_str metadata; /* members of __metadata__ */
    item *items;
    size_t n, cap;
    item **sorted; /* by name, for put */
    shard *shards;
    size_t n_shards;
    bool begun, done;
};

fm_status fm_st_writer_new(fm_st_writer **out, const char *dir, const fm_st_writer_options *options) {
    *out = NULL;
    fm_st_writer *w = fm_calloc(1, sizeof *w);
    if (w) {
        w->dir = fm_strdup(dir);
        w->base = fm_strdup(options && options->base ? options->base : "model");
        w->max_shard = options && options->max_shard_bytes > 0 ? options->max_shard_bytes : INT64_MAX;
        fm_str_puts(&w->metadata, "\"format\":\"pt\"");
    }
    if (!w || !w->dir || !w->base || w->metadata.failed) {
        fm_st_writer_free(w);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a safetensors writer");
    }
    *out = w;
    return FM_OK;
}

fm_status fm_st_writer_metadata(fm_st_writer *w, const char *key, const char *value) {
    FM_ASSERT(!w->begun);
    fm_str_putc(&w->metadata, ',');
    fm_str_json(&w->metadata, key, strlen(key));
    fm_str_putc(&w->metadata, ':');
    fm_str_json(&w->metadata, value, strlen(value));
    return fm_str_check(&w->metadata);
}

fm_status fm_st_writer_declare(fm_st_writer *w, const char *name, fm_dtype dtype, int n_dims, const int64_t *dims) {
    FM_ASSERT(!w->begun && n_dims >= 0 && n_dims <= FM_ST_MAX_DIMS);
    const fm_dtype_info *info = fm_dtype_get(dtype);
    if (!info->safetensors_name[0]) {
        FM_FAIL(FM_ERR_DTYPE, "tensor '%s': safetensors has no element type for %s", name, info->name);
    }
    void *p = w->items;
    FM_TRY(fm_grow(&p, &w->cap, w->n + 1, sizeof *w->items));
    w->items = p;
    item *t = &w->items[w->n];
    memset(t, 0, sizeof *t);
    t->dtype = dtype;
    t->n_dims = n_dims;
    t->order = w->n;
    int64_t count = 1;
    for (int i = 0; i < n_dims; i++) {
        t->dims[i] = dims[i];
        if (dims[i] < 0 || __builtin_mul_overflow(count, dims[i], &count)) {
            FM_FAIL(FM_ERR_SHAPE, "tensor '%s': dimension %d is %lld", name, i, (long long)dims[i]);
        }
    }
    t->bytes = fm_dtype_bytes(dtype, count);
    if (t->bytes < 0) {
        FM_FAIL(FM_ERR_SHAPE, "tensor '%s': %lld elements of %s are not a possible size", name, (long long)count,
                info->name);
    }
    t->name = fm_strdup(name);
    if (!t->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the name of a tensor");
    }
    w->n++;
    return FM_OK;
}

static int by_name(const void *a, const void *b) {
    const item *x = *(item *const *)a, *y = *(item *const *)b;
    return strcmp(x->name, y->name);
}

/* Place in the file: by shard, larger elements first, then by declaration. */
static int by_place(const void *a, const void *b) {
    const item *x = *(item *const *)a, *y = *(item *const *)b;
    if (x->shard != y->shard) {
        return x->shard < y->shard ? -1 : 1;
    }
    int ex = fm_dtype_get(x->dtype)->block_bytes, ey = fm_dtype_get(y->dtype)->block_bytes;
    if (ex != ey) {
        return ex > ey ? -1 : 1;
    }
    return x->order < y->order ? -1 : x->order > y->order;
}

/* JSON header of shard k, whose tensors are items[0..n) in order. */
static fm_status make_header(fm_str *out, const fm_st_writer *w, item *const *items, size_t n) {
    fm_str_append(out, "\0\0\0\0\0\0\0\0", 8);
    fm_str_printf(out, "{\"__metadata__\":{%s}", w->metadata.data);
    for (size_t i = 0; i < n; i++) {
        const item *t = items[i];
        fm_str_putc(out, ',');
        fm_str_json(out, t->name, strlen(t->name));
        fm_str_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", fm_dtype_get(t->dtype)->safetensors_name);
        for (int d = 0; d < t->n_dims; d++) {
            fm_str_printf(out, "%s%lld", d ? "," : "", (long long)t->dims[d]);
        }
        fm_str_printf(out, "],\"data_offsets\":[%lld,%lld]}", (long long)t->offset,
                      (long long)t->offset + (long long)t->bytes);
    }
    fm_str_putc(out, '}');
    while (!out->failed && out->len % 8) { /* so that the data is aligned in the mapping */
        fm_str_putc(out, ' ');
    }
    FM_TRY(fm_str_check(out));
    uint64_t size = out->len - 8;
    for (size_t i = 0; i < 8; i++) {
        out->data[i] = (char)(size >> (8 * i) & 0xFF);
    }
    return FM_OK;
}

static fm_status temp_path(char *buf, size_t cap, const fm_st_writer *w, const shard *s) {
    char name[300];
    snprintf(name, sizeof name, "%s.tmp", s->name);
    return fm_path_join(buf, cap, w->dir, name);
}

static fm_status begin_shard(fm_st_writer *w, size_t k, item *const *items, size_t n) {
    shard *s = &w->shards[k];
    char path[4096];
    if (w->n_shards == 1) {
        snprintf(s->name, sizeof s->name, "%s.safetensors", w->base);
    } else {
        snprintf(s->name, sizeof s->name, "%s-%05zu-of-%05zu.safetensors", w->base, k + 1, w->n_shards);
    }
    FM_TRY(temp_path(path, sizeof path, w, s));
    fm_str header = {0};
    fm_status status = make_header(&header, w, items, n);
    if (status == FM_OK) {
        s->header_size = (int64_t)header.len;
        s->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (s->fd < 0) {
            status = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot create '%s': %s", path, strerror(errno));
        }
    }
    if (status == FM_OK && ftruncate(s->fd, s->header_size + s->bytes) != 0) {
        status = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot set the size of '%s': %s", path, strerror(errno));
    }
    if (status == FM_OK) {
        status = fm_pwrite_all(s->fd, header.data, header.len, 0, path);
    }
    fm_str_free(&header);
    return status;
}

static fm_status plan(fm_st_writer *w, item **place, int64_t *total) {
    int64_t used = 0;
    size_t n_shards = 1;
    *total = 0;
    for (size_t i = 0; i < w->n; i++) {
        item *t = &w->items[i];
        place[i] = w->sorted[i] = t;
        if (__builtin_add_overflow(*total, t->bytes, total)) {
            FM_FAIL(FM_ERR_SHAPE, "the sizes of %zu tensors do not fit in 63 bits", w->n);
        }
        if (used > 0 && t->bytes > w->max_shard - used) {
            n_shards++;
            used = 0;
        }
        used += t->bytes;
        t->shard = n_shards - 1;
    }
    if (w->n) {
        qsort(w->sorted, w->n, sizeof *w->sorted, by_name);
        qsort(place, w->n, sizeof *place, by_place);
    }
    for (size_t i = 1; i < w->n; i++) {
        if (strcmp(w->sorted[i - 1]->name, w->sorted[i]->name) == 0) {
            FM_FAIL(FM_ERR_ARGUMENT, "tensor '%s' is declared twice", w->sorted[i]->name);
        }
    }
    w->shards = fm_calloc(n_shards, sizeof *w->shards);
    if (!w->shards) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the list of shards");
    }
    w->n_shards = n_shards;
    for (size_t k = 0; k < w->n_shards; k++) {
        w->shards[k].fd = -1;
    }
    for (size_t i = 0; i < w->n; i++) {
        shard *s = &w->shards[place[i]->shard];
        place[i]->offset = s->bytes;
        s->bytes += place[i]->bytes;
    }
    return FM_OK;
}

fm_status fm_st_writer_begin(fm_st_writer *w) {
    FM_ASSERT(!w->begun);
    w->begun = true;
    FM_TRY(fm_mkdirs(w->dir));
    w->sorted = fm_calloc(w->n + 1, sizeof *w->sorted);
    item **place = fm_calloc(w->n + 1, sizeof *place);
    fm_status status = FM_OK;
    int64_t total = 0;
    if (!w->sorted || !place) {
        status = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot allocate a list of %zu tensors", w->n);
    } else {
        status = plan(w, place, &total);
    }
    int64_t room = fm_disk_free(w->dir);
    if (status == FM_OK && room >= 0 && room < total) {
        char a[32], b[32];
        fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "'%s': expected %s of free space, found %s", w->dir,
                     fm_format_bytes(a, sizeof a, (double)total), fm_format_bytes(b, sizeof b, (double)room));
        status = fm_error_hint("free some space on the disk");
    }
    size_t first = 0;
    for (size_t k = 0; place && status == FM_OK && k < w->n_shards; k++) {
        size_t n = 0;
        while (first + n < w->n && place[first + n]->shard == k) {
            n++;
        }
        status = begin_shard(w, k, place + first, n);
        first += n;
    }
    fm_free(place);
    return status;
}

fm_status fm_st_writer_put(fm_st_writer *w, const char *name, int64_t offset, const void *data, int64_t n) {
    FM_ASSERT(w->begun && !w->done);
    union { /* bsearch wants a non-const key to compare with */
        const char *r;
        char *w;
    } u = {name};
    item key, *pkey = &key;
    memset(&key, 0, sizeof key);
    key.name = u.w;
    item **found = w->n ? bsearch(&pkey, w->sorted, w->n, sizeof *w->sorted, by_name) : NULL;
    if (!found) {
        FM_FAIL(FM_ERR_ARGUMENT, "tensor '%s' was not declared", name);
    }
    item *t = *found;
    if (offset < 0 || n < 0 || offset > t->bytes || n > t->bytes - offset || n > t->bytes - t->written) {
        FM_FAIL(FM_ERR_ARGUMENT, "tensor '%s': bytes %lld to %lld do not fit in its %lld bytes", name,
                (long long)offset, (long long)(offset + n), (long long)t->bytes);
    }
    const shard *s = &w->shards[t->shard];
    FM_TRY(fm_pwrite_all(s->fd, data, (size_t)n, s->header_size + t->offset + offset, s->name));
    t->written += n;
    return FM_OK;
}

static fm_status write_index(const fm_st_writer *w, const char *path) {
    fm_str s = {0};
    int64_t total = 0;
    for (size_t i = 0; i < w->n; i++) {
        total += w->items[i].bytes;
    }
    fm_str_printf(&s, "{\n  \"metadata\": {\n    \"total_size\": %lld\n  },\n  \"weight_map\": {", (long long)total);
    for (size_t i = 0; i < w->n; i++) {
        fm_str_puts(&s, i ? ",\n    " : "\n    ");
        fm_str_json(&s, w->sorted[i]->name, strlen(w->sorted[i]->name));
        fm_str_puts(&s, ": ");
        const char *file = w->shards[w->sorted[i]->shard].name;
        fm_str_json(&s, file, strlen(file));
    }
    fm_str_puts(&s, "\n  }\n}\n");
    fm_status status = fm_str_check(&s);
    if (status == FM_OK) {
        status = fm_file_write_atomic(path, s.data, s.len);
    }
    fm_str_free(&s);
    return status;
}

fm_status fm_st_writer_finish(fm_st_writer *w) {
    FM_ASSERT(w->begun && !w->done);
    for (size_t i = 0; i < w->n; i++) {
        const item *t = &w->items[i];
        if (t->written != t->bytes) {
            FM_FAIL(FM_ERR_STATE, "tensor '%s': expected %lld bytes, got %lld", t->name, (long long)t->bytes,
                    (long long)t->written);
        }
    }
    char from[4096], to[4096], name[300];
    for (size_t k = 0; k < w->n_shards; k++) {
        shard *s = &w->shards[k];
        int rc = fsync(s->fd);
        rc |= close(s->fd);
        s->fd = -1;
        if (rc != 0) {
            FM_FAIL(FM_ERR_IO, "cannot sync '%s': %s", s->name, strerror(errno));
        }
    }
    for (size_t k = 0; k < w->n_shards; k++) {
        FM_TRY(temp_path(from, sizeof from, w, &w->shards[k]));
        FM_TRY(fm_path_join(to, sizeof to, w->dir, w->shards[k].name));
        FM_TRY(fm_rename_dir(from, to));
        fm_crash_point("safetensors.between_shards");
    }
    snprintf(name, sizeof name, "%s.safetensors.index.json", w->base);
    FM_TRY(fm_path_join(to, sizeof to, w->dir, name));
    if (w->n_shards > 1) {
        FM_TRY(write_index(w, to));
    } else if (unlink(to) != 0 && errno != ENOENT) { /* of an earlier save in shards */
        FM_FAIL(FM_ERR_IO, "cannot remove the old '%s': %s", to, strerror(errno));
    }
    w->done = true;
    return FM_OK;
}

void fm_st_writer_free(fm_st_writer *w) {
    if (!w) {
        return;
    }
    for (size_t k = 0; k < w->n_shards; k++) {
        char path[4096];
        if (w->shards[k].fd >= 0) {
            close(w->shards[k].fd);
        }
        if (!w->done && w->shards[k].name[0] && temp_path(path, sizeof path, w, &w->shards[k]) == FM_OK) {
            unlink(path);
        }
    }
    for (size_t i = 0; i < w->n; i++) {
        fm_free(w->items[i].name);
    }
    fm_str_free(&w->metadata);
    fm_free(w->items);
    fm_free(w->sorted);
    fm_free(w->shards);
    fm_free(w->dir);
    fm_free(w->base);
    fm_free(w);
}
