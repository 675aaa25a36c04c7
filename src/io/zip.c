/* See zip.h. */
#include "io/zip.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#define LOCAL_SIGN     0x04034b50u
#define CENTRAL_SIGN   0x02014b50u
#define END_SIGN       0x06054b50u
#define END64_SIGN     0x06064b50u
#define LOCATOR64_SIGN 0x07064b50u
#define LOCAL_BYTES    30u
#define CENTRAL_BYTES  46u
#define END_BYTES      22u
#define END64_BYTES    56u
#define LOCATOR_BYTES  20u

struct fm_zip {
    char *path;
    fm_zip_entry *entry;
    size_t n, cap;
};

typedef struct directory {
    const uint8_t *data; /* the file */
    uint64_t size;
    uint64_t begin, bytes, n; /* central directory */
    const char *name;
} directory;

#define BAD(d, ...)                                                                                                    \
    do {                                                                                                               \
        (void)fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, __VA_ARGS__);                                           \
        (void)fm_error_context("%s: zip", (d)->name);                                                                  \
        return FM_ERR_CORRUPT;                                                                                         \
    } while (0)

static uint64_t read_le(const uint8_t *p, int n) {
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--) {
        v = v << 8 | p[i];
    }
    return v;
}

bool fm_zip_is(const void *data, size_t n) {
    return n >= 4 && read_le(data, 4) == LOCAL_SIGN;
}

/* [at, at + n) is inside the file. */
static bool inside(const directory *d, uint64_t at, uint64_t n) {
    return at <= d->size && n <= d->size - at;
}

/* The end record is the last thing in the file but for a comment of at most 65,535 bytes. */
static fm_status find_directory(directory *d) {
    uint64_t lowest = d->size > END_BYTES + 65535 ? d->size - END_BYTES - 65535 : 0, end = UINT64_MAX;
    if (d->size >= END_BYTES) {
        for (uint64_t at = d->size - END_BYTES + 1; at-- > lowest && end == UINT64_MAX;) {
            const uint8_t *p = d->data + at;
            if (read_le(p, 4) == END_SIGN && read_le(p + 20, 2) == d->size - END_BYTES - at) {
                end = at;
            }
        }
    }
    if (end == UINT64_MAX) {
        (void)fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, "%s: zip: no end of the archive: the file is cut short",
                           d->name);
        return fm_error_hint("check that the file was downloaded completely");
    }
    const uint8_t *p = d->data + end;
    d->n = read_le(p + 10, 2);
    d->bytes = read_le(p + 12, 4);
    d->begin = read_le(p + 16, 4);
    if (end >= LOCATOR_BYTES && read_le(p - LOCATOR_BYTES, 4) == LOCATOR64_SIGN) {
        uint64_t at = read_le(p - LOCATOR_BYTES + 8, 8);
        if (!inside(d, at, END64_BYTES) || read_le(d->data + at, 4) != END64_SIGN) {
            BAD(d, "the Zip64 end record is not at byte %llu", (unsigned long long)at);
        }
        p = d->data + at;
        d->n = read_le(p + 32, 8);
        d->bytes = read_le(p + 40, 8);
        d->begin = read_le(p + 48, 8);
    }
    if (!inside(d, d->begin, d->bytes) || d->n > d->bytes / CENTRAL_BYTES) {
        BAD(d, "a directory of %llu entries in %llu bytes at byte %llu of %llu", (unsigned long long)d->n,
            (unsigned long long)d->bytes, (unsigned long long)d->begin, (unsigned long long)d->size);
    }
    return FM_OK;
}

/* Sizes of 4 GiB and more stand in an extra field, in this order, each only when the field of 32 bits is full. */
static fm_status read_zip64(const directory *d, const uint8_t *extra, uint64_t n, uint64_t *full, uint64_t *packed,
                            uint64_t *offset) {
    uint64_t *const field[3] = {full, packed, offset};
    for (uint64_t at = 0; at + 4 <= n;) {
        uint64_t id = read_le(extra + at, 2), len = read_le(extra + at + 2, 2);
        if (len > n - at - 4) {
            break; /* padding by other writers */
        }
        const uint8_t *p = extra + at + 4, *end = p + len;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*field[i] == UINT32_MAX) {
                if (end - p < 8) {
                    BAD(d, "a Zip64 field that is too short");
                }
                *field[i] = read_le(p, 8);
                p += 8;
            }
        }
        at += 4 + len;
    }
    return FM_OK;
}

static fm_status add_entry(fm_zip *z, const directory *d, uint64_t *at) {
    const uint8_t *p = d->data + *at;
    uint64_t end = d->begin + d->bytes;
    if (end - *at < CENTRAL_BYTES || read_le(p, 4) != CENTRAL_SIGN) {
        BAD(d, "no directory entry at byte %llu", (unsigned long long)*at);
    }
    uint64_t n_name = read_le(p + 28, 2), n_extra = read_le(p + 30, 2), n_note = read_le(p + 32, 2);
    uint64_t packed = read_le(p + 20, 4), full = read_le(p + 24, 4), offset = read_le(p + 42, 4);
    if (n_name + n_extra + n_note > end - *at - CENTRAL_BYTES) {
        BAD(d, "the directory entry at byte %llu is cut short", (unsigned long long)*at);
    }
    FM_TRY(read_zip64(d, p + CENTRAL_BYTES + n_name, n_extra, &full, &packed, &offset));
    fm_zip_entry e = {.bytes = packed,
                      .crc = (uint32_t)read_le(p + 16, 4),
                      .method = (uint16_t)read_le(p + 10, 2),
                      .encrypted = read_le(p + 8, 2) & 1};
    if (!inside(d, offset, LOCAL_BYTES) || read_le(d->data + offset, 4) != LOCAL_SIGN) {
        BAD(d, "entry '%.*s': no local header at byte %llu", (int)FM_MIN(n_name, 200), (const char *)p + CENTRAL_BYTES,
            (unsigned long long)offset);
    }
    uint64_t data = offset + LOCAL_BYTES + read_le(d->data + offset + 26, 2) + read_le(d->data + offset + 28, 2);
    if (!inside(d, data, packed) || data + packed > d->begin || (e.method == 0 && packed != full)) {
        BAD(d, "entry '%.*s': %llu bytes at byte %llu are not inside the file", (int)FM_MIN(n_name, 200),
            (const char *)p + CENTRAL_BYTES, (unsigned long long)packed, (unsigned long long)data);
    }
    e.data = d->data + data;
    if (memchr(p + CENTRAL_BYTES, 0, (size_t)n_name)) {
        BAD(d, "an entry name with a zero byte");
    }
    void *grown = z->entry;
    FM_TRY(fm_grow(&grown, &z->cap, z->n + 1, sizeof *z->entry));
    z->entry = grown;
    e.name = fm_strndup((const char *)p + CENTRAL_BYTES, (size_t)n_name);
    if (!e.name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: no memory for the names of a zip archive", d->name);
    }
    z->entry[z->n++] = e;
    *at += CENTRAL_BYTES + n_name + n_extra + n_note;
    return FM_OK;
}

static int by_name(const void *a, const void *b) {
    const fm_zip_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int by_place(const void *a, const void *b) {
    const fm_zip_entry *x = a, *y = b;
    if (x->data != y->data) {
        return x->data < y->data ? -1 : 1;
    }
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static fm_status read_entries(fm_zip *z, const directory *d) {
    uint64_t at = d->begin;
    for (uint64_t i = 0; i < d->n; i++) {
        FM_TRY(add_entry(z, d, &at));
    }
    if (z->n == 0) {
        return FM_OK;
    }
    qsort(z->entry, z->n, sizeof *z->entry, by_place);
    for (size_t i = 1; i < z->n; i++) {
        if (z->entry[i].data < z->entry[i - 1].data + z->entry[i - 1].bytes) {
            BAD(d, "entries '%s' and '%s' overlap", z->entry[i - 1].name, z->entry[i].name);
        }
    }
    qsort(z->entry, z->n, sizeof *z->entry, by_name);
    for (size_t i = 1; i < z->n; i++) {
        if (strcmp(z->entry[i].name, z->entry[i - 1].name) == 0) {
            BAD(d, "entry '%s' is there twice", z->entry[i].name);
        }
    }
    return FM_OK;
}

fm_status fm_zip_open(fm_zip **out, const void *data, size_t n, const char *name) {
    *out = NULL;
    directory d = {.data = data, .size = n, .name = name};
    FM_TRY(find_directory(&d));
    fm_zip *z = fm_calloc(1, sizeof *z);
    if (!z || !(z->path = fm_strdup(name))) {
        fm_zip_close(z);
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: no memory to read a zip archive", name);
    }
    fm_status s = read_entries(z, &d);
    if (s != FM_OK) {
        fm_zip_close(z);
        return s;
    }
    *out = z;
    return FM_OK;
}

void fm_zip_close(fm_zip *z) {
    if (!z) {
        return;
    }
    for (size_t i = 0; i < z->n; i++) {
        fm_free((void *)z->entry[i].name);
    }
    fm_free(z->entry);
    fm_free(z->path);
    fm_free(z);
}

size_t fm_zip_count(const fm_zip *z) {
    return z->n;
}

const fm_zip_entry *fm_zip_at(const fm_zip *z, size_t i) {
    return i < z->n ? &z->entry[i] : NULL;
}

const fm_zip_entry *fm_zip_find(const fm_zip *z, const char *name) {
    fm_zip_entry key = {.name = name};
    return z->n ? bsearch(&key, z->entry, z->n, sizeof key, by_name) : NULL;
}

fm_status fm_zip_get(const fm_zip_entry **out, const fm_zip *z, const char *name) {
    *out = fm_zip_find(z, name);
    if (!*out) {
        FM_FAIL(FM_ERR_CORRUPT, "%s: zip: entry '%s' is missing", z->path, name);
    }
    if ((*out)->method != 0 || (*out)->encrypted) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: zip: entry '%s' is %s; expected stored entries", z->path, name,
                (*out)->encrypted ? "encrypted" : "compressed");
    }
    return FM_OK;
}
