/* Archives: see archive.h. */
#include "io/archive.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/inflate.h"
#include "io/stream.h"
#include "io/zip.h"

#define BLOCK     512u
#define MOST_PAX  ((uint64_t)1 << 20)
#define DEFLATED  8
#define MOST_FEED ((uint64_t)1 << 30)

struct fm_archive {
    char *name;
    fm_archive_member m;
    /* zip */
    fm_map map;
    fm_zip *zip;
    size_t next;
    const fm_zip_entry *entry;
    uint64_t taken; /* of the entry's packed bytes, given to zlib */
    uint32_t crc;
    z_stream z;
    bool inflating, ended;
    /* tar */
    fm_stream *tar;
    fm_str member;
    uint64_t left, padding; /* of the current file */
    bool any, at_end;
};

/* ---- zip -------------------------------------------------------------------------------------- */

static void end_entry(fm_archive *a) {
    if (a->inflating) {
        inflateEnd(&a->z);
        a->inflating = false;
    }
}

static fm_status next_entry(fm_archive *a, bool *more) {
    end_entry(a);
    *more = false;
    while ((a->entry = fm_zip_at(a->zip, a->next)) != NULL) {
        a->next++;
        size_t n = strlen(a->entry->name);
        if (n == 0 || a->entry->name[n - 1] == '/') {
            continue;
        }
        bool known = a->entry->method == 0 || a->entry->method == DEFLATED;
        a->m = (fm_archive_member){.name = a->entry->name, .packed = a->entry->bytes};
        a->m.refused = a->entry->encrypted ? "it is encrypted" : known ? NULL : "its packing is not known";
        a->taken = 0;
        a->crc = 0;
        a->ended = false;
        *more = true;
        return FM_OK;
    }
    return FM_OK;
}

static fm_status bad_entry(const fm_archive *a, const char *why) {
    FM_FAIL(FM_ERR_CORRUPT, "'%s': '%.200s' is damaged: %s", a->name, a->m.name, why);
}

static fm_status inflate_some(fm_archive *a, void *buf, size_t cap, size_t *n) {
    const fm_zip_entry *e = a->entry;
    if (!a->inflating) {
        memset(&a->z, 0, sizeof a->z);
        a->z.zalloc = fm_z_alloc;
        a->z.zfree = fm_z_free;
        if (inflateInit2(&a->z, -15) != Z_OK) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the reader of '%s'", a->name);
        }
        a->inflating = true;
    }
    a->z.next_out = buf;
    a->z.avail_out = (uInt)FM_MIN(cap, (size_t)1 << 30);
    uInt room = a->z.avail_out;
    while (a->z.avail_out == room && !a->ended) {
        if (a->z.avail_in == 0) {
            uint64_t k = FM_MIN(e->bytes - a->taken, MOST_FEED);
            a->z.next_in = (Bytef *)(uintptr_t)(e->data + a->taken);
            a->z.avail_in = (uInt)k;
            a->taken += k;
        }
        int r = inflate(&a->z, Z_NO_FLUSH);
        a->ended = r == Z_STREAM_END;
        if (r == Z_MEM_ERROR) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot unpack '%s'", a->name);
        }
        if (r != Z_OK && r != Z_STREAM_END) {
            return bad_entry(a, a->taken == e->bytes && a->z.avail_in == 0 ? "it is cut short" : "it does not unpack");
        }
    }
    *n = room - a->z.avail_out;
    return FM_OK;
}

static fm_status read_entry(fm_archive *a, void *buf, size_t cap, size_t *n) {
    const fm_zip_entry *e = a->entry;
    *n = 0;
    if (e->method == DEFLATED) {
        FM_TRY(inflate_some(a, buf, cap, n));
    } else {
        *n = (size_t)FM_MIN((uint64_t)cap, e->bytes - a->taken);
        memcpy(buf, e->data + a->taken, *n);
        a->taken += *n;
    }
    a->crc = (uint32_t)crc32_z(a->crc, buf, *n);
    return *n == 0 && a->crc != e->crc ? bad_entry(a, "its checksum is another") : FM_OK;
}

/* ---- tar -------------------------------------------------------------------------------------- */

static fm_status cut_short(const fm_archive *a) {
    FM_FAIL(FM_ERR_CORRUPT, "'%s' is cut short", a->name);
}

/* All n bytes; *got less only at the end of the archive. */
static fm_status take(fm_archive *a, void *buf, size_t n, size_t *got) {
    *got = 0;
    for (size_t k = 1; *got < n && k > 0; *got += k) {
        FM_TRY(fm_stream_read(a->tar, (char *)buf + *got, n - *got, &k));
    }
    return FM_OK;
}

static fm_status pass_over(fm_archive *a, uint64_t n) {
    uint8_t buf[8192];
    while (n > 0) {
        size_t got, want = (size_t)FM_MIN(n, sizeof buf);
        FM_TRY(take(a, buf, want, &got));
        if (got < want) {
            return cut_short(a);
        }
        n -= got;
    }
    return FM_OK;
}

/* Octal text, or 64 bits behind a byte 0x80. */
static bool tar_number(const uint8_t *p, size_t n, uint64_t *out) {
    uint64_t v = 0;
    if (*p == 0x80) {
        for (size_t i = 1; i < n; i++) {
            if (v >> 56) {
                return false;
            }
            v = v << 8 | p[i];
        }
        *out = v;
        return true;
    }
    size_t i = 0;
    while (i < n && p[i] == ' ') {
        i++;
    }
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
        v = v << 3 | (uint64_t)(p[i] - '0');
    }
    *out = v;
    return i == n || p[i] == 0 || p[i] == ' ';
}

static bool checksum_holds(const uint8_t *h) {
    uint64_t want, sum = 0;
    for (size_t i = 0; i < BLOCK; i++) {
        sum += i >= 148 && i < 156 ? ' ' : h[i];
    }
    return tar_number(h + 148, 8, &want) && want == sum;
}

/* The name and size of pax records "LENGTH KEY=VALUE\n". */
static fm_status read_pax(fm_archive *a, const fm_str *s, uint64_t *size, bool *has_size) {
    for (size_t at = 0; at < s->len;) {
        size_t len = 0, i = at;
        for (; i < s->len && s->data[i] >= '0' && s->data[i] <= '9' && len < MOST_PAX; i++) {
            len = len * 10 + (size_t)(s->data[i] - '0');
        }
        if (len < 5 || len > s->len - at || i >= at + len || s->data[i] != ' ') {
            FM_FAIL(FM_ERR_CORRUPT, "'%s': a pax header is damaged", a->name);
        }
        const char *key = s->data + i + 1, *end = s->data + at + len - 1, *eq = memchr(key, '=', (size_t)(end - key));
        if (eq && eq - key == 4 && memcmp(key, "path", 4) == 0) {
            fm_str_clear(&a->member);
            fm_str_append(&a->member, eq + 1, (size_t)(end - eq - 1));
        } else if (eq && eq - key == 4 && memcmp(key, "size", 4) == 0) {
            *has_size = true;
            *size = 0;
            for (const char *p = eq + 1; p < end && *p >= '0' && *p <= '9' && *size < UINT64_MAX / 16; p++) {
                *size = *size * 10 + (uint64_t)(*p - '0');
            }
        }
        at += len;
    }
    return fm_str_check(&a->member);
}

/* The content of a header that describes the next file. */
static fm_status read_note(fm_archive *a, uint64_t size, fm_str *s) {
    if (size > MOST_PAX) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': a header of %llu bytes", a->name, (unsigned long long)size);
    }
    char *p = fm_malloc((size_t)size + 1);
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot read a header of '%s'", a->name);
    }
    size_t got;
    fm_status st = take(a, p, (size_t)size, &got);
    if (st == FM_OK) {
        fm_str_clear(s);
        fm_str_append(s, p, got);
        st = got < size ? cut_short(a) : fm_str_check(s);
    }
    fm_free(p);
    return st == FM_OK ? pass_over(a, (BLOCK - size % BLOCK) % BLOCK) : st;
}

/* NUL-terminated, or all of the field. */
static void put_field(fm_str *s, const uint8_t *p, size_t n) {
    fm_str_append(s, (const char *)p, strnlen((const char *)p, n));
}

static fm_status name_member(fm_archive *a, const uint8_t *h) {
    if (a->member.len == 0) {
        if (memcmp(h + 257, "ustar", 6) == 0 && h[345]) {
            put_field(&a->member, h + 345, 155);
            fm_str_putc(&a->member, '/');
        }
        put_field(&a->member, h, 100);
    }
    fm_str_append(&a->member, "", 0);
    FM_TRY(fm_str_check(&a->member));
    a->m = (fm_archive_member){.name = a->member.data ? a->member.data : ""};
    return FM_OK;
}

static fm_status next_header(fm_archive *a, bool *more) {
    uint8_t h[BLOCK];
    uint64_t size = 0, pax_size = 0;
    bool has_size = false;
    fm_str note = {0};
    fm_status s = FM_OK;
    fm_str_clear(&a->member);
    for (;;) {
        size_t got = 0;
        FM_TRY_GOTO(s, done, take(a, h, BLOCK, &got));
        bool zero = got == BLOCK && h[0] == 0 && memcmp(h, h + 1, BLOCK - 1) == 0;
        if (got == 0 || zero) {
            a->at_end = true;
            s = a->any || zero ? FM_OK : cut_short(a);
            break;
        }
        if (got < BLOCK || !checksum_holds(h) || !tar_number(h + 124, 12, &size) || size > (uint64_t)INT64_MAX / 2) {
            s = a->any ? fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, "'%s': a header is damaged", a->name)
                       : fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "'%s' is no tar archive", a->name);
            break;
        }
        a->any = true;
        char type = (char)h[156];
        if (type == 'L' || type == 'x') {
            FM_TRY_GOTO(s, done, read_note(a, size, &note));
            if (type == 'x') {
                FM_TRY_GOTO(s, done, read_pax(a, &note, &pax_size, &has_size));
            } else {
                fm_str_clear(&a->member);
                put_field(&a->member, (const uint8_t *)(note.data ? note.data : ""), note.len);
            }
            continue;
        }
        size = has_size ? pax_size : size;
        bool linked = type >= '1' && type <= '6';
        uint64_t padded = linked ? 0 : (BLOCK - size % BLOCK) % BLOCK;
        if (type == '0' || type == 0 || type == '7') {
            a->left = size;
            a->padding = padded;
            s = name_member(a, h);
            *more = s == FM_OK;
            break;
        }
        FM_TRY_GOTO(s, done, pass_over(a, linked ? 0 : size + padded));
        fm_str_clear(&a->member);
        has_size = false;
    }
done:
    fm_str_free(&note);
    return s;
}

/* ---- both ------------------------------------------------------------------------------------- */

static fm_status new_archive(fm_archive **out, const char *name) {
    fm_archive *a = *out = fm_calloc(1, sizeof *a);
    if (a) {
        a->map.fd = -1;
        a->name = fm_strdup(name);
    }
    if (!a || !a->name) {
        fm_free(a);
        *out = NULL;
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", name);
    }
    return FM_OK;
}

static bool is_zip(const char *path) {
    char head[4];
    FILE *f = strcmp(path, "-") == 0 ? NULL : fopen(path, "rb");
    bool zip = f && fread(head, 1, 4, f) == 4 && (fm_zip_is(head, 4) || memcmp(head, "PK\5\6", 4) == 0);
    if (f) {
        fclose(f);
    }
    return zip;
}

fm_status fm_archive_open(fm_archive **out, const char *path) {
    FM_TRY(new_archive(out, path));
    fm_archive *a = *out;
    fm_status s;
    if (is_zip(path)) {
        s = fm_map_open(&a->map, path);
        s = s == FM_OK ? fm_zip_open(&a->zip, a->map.data, a->map.size, path) : s;
    } else {
        s = fm_stream_open(&a->tar, path);
    }
    if (s != FM_OK) {
        fm_archive_close(a);
        *out = NULL;
    }
    return s;
}

fm_status fm_archive_open_memory(fm_archive **out, const void *data, size_t n, const char *name) {
    FM_TRY(new_archive(out, name));
    fm_archive *a = *out;
    fm_status s =
        fm_zip_is(data, n) ? fm_zip_open(&a->zip, data, n, name) : fm_stream_open_memory(&a->tar, data, n, name);
    if (s != FM_OK) {
        fm_archive_close(a);
        *out = NULL;
    }
    return s;
}

void fm_archive_close(fm_archive *a) {
    if (a) {
        end_entry(a);
        fm_zip_close(a->zip);
        fm_map_close(&a->map);
        fm_stream_close(a->tar);
        fm_str_free(&a->member);
        fm_free(a->name);
        fm_free(a);
    }
}

fm_status fm_archive_next(fm_archive *a, const fm_archive_member **m, bool *more) {
    *more = false;
    *m = &a->m;
    if (a->zip) {
        return next_entry(a, more);
    }
    if (a->at_end) {
        return FM_OK;
    }
    uint64_t rest = a->left + a->padding;
    a->left = a->padding = 0;
    FM_TRY(pass_over(a, rest));
    return next_header(a, more);
}

fm_status fm_archive_read(fm_archive *a, void *buf, size_t cap, size_t *n) {
    *n = 0;
    if (a->m.refused) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': '%.200s' cannot be read: %s", a->name, a->m.name, a->m.refused);
    }
    if (a->zip) {
        return read_entry(a, buf, cap, n);
    }
    if (a->left == 0) {
        return FM_OK;
    }
    FM_TRY(fm_stream_read(a->tar, buf, (size_t)FM_MIN((uint64_t)cap, a->left), n));
    a->left -= *n;
    if (*n == 0) {
        a->left = a->padding = 0;
        a->at_end = true;
        return cut_short(a);
    }
    return FM_OK;
}

int64_t fm_archive_consumed(const fm_archive *a) {
    if (a->tar) {
        return fm_stream_consumed(a->tar);
    }
    int64_t sum = 0;
    for (size_t i = 0; i < a->next; i++) {
        sum += (int64_t)fm_zip_at(a->zip, i)->bytes;
    }
    return sum;
}
