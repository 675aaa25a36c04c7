/* See tar.h. Format: POSIX.1-2001, pax interchange format. */
#include "net/tar.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/str.h"

#define BLOCK    512
#define COPY     ((size_t)1 << 20)
#define MAX_SIZE ((int64_t)8 << 30) /* what 11 octal digits hold */

struct fm_tar {
    char *path, *tmp;
    FILE *f;
    int64_t bytes;
    bool done;
};

fm_status fm_tar_new(fm_tar **out, const char *path) {
    *out = NULL;
    fm_tar *t = fm_calloc(1, sizeof *t);
    fm_str tmp = {0};
    fm_str_printf(&tmp, "%s.tmp", path);
    if (!t || fm_str_check(&tmp) != FM_OK || !(t->path = fm_strdup(path))) {
        fm_str_free(&tmp);
        fm_tar_free(t);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to write %s", path);
    }
    t->tmp = fm_str_take(&tmp);
    t->f = fopen(t->tmp, "wb");
    if (!t->f) {
        fm_status s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "%s: %s", t->tmp, strerror(errno));
        fm_tar_free(t);
        return s;
    }
    *out = t;
    return FM_OK;
}

static fm_status put(fm_tar *t, const void *data, size_t n) {
    if (n && fwrite(data, 1, n, t->f) != n) {
        FM_FAIL(FM_ERR_IO, "%s: %s", t->tmp, strerror(errno));
    }
    t->bytes += (int64_t)n;
    return FM_OK;
}

static fm_status pad(fm_tar *t) {
    static const char zeros[BLOCK];
    return put(t, zeros, (size_t)(-t->bytes & (BLOCK - 1)));
}

static fm_status put_header(fm_tar *t, const char *name, int64_t size, char type, bool executable) {
    static const char magic[8] = {'u', 's', 't', 'a', 'r', '\0', '0', '0'};
    char h[BLOCK] = {0};
    unsigned sum = 0;
    for (size_t i = 0; i < 100 && name[i]; i++) {
        h[i] = name[i];
    }
    (void)snprintf(h + 100, 8, "%07o", executable ? 0755u : 0644u);
    (void)snprintf(h + 108, 8, "%07o", 0u);
    (void)snprintf(h + 116, 8, "%07o", 0u);
    (void)snprintf(h + 124, 12, "%011llo", (unsigned long long)(size < MAX_SIZE ? size : 0));
    (void)snprintf(h + 136, 12, "%011o", 0u);
    memset(h + 148, ' ', 8);
    h[156] = type;
    memcpy(h + 257, magic, sizeof magic);
    for (int i = 0; i < BLOCK; i++) {
        sum += (unsigned char)h[i];
    }
    (void)snprintf(h + 148, 8, "%06o", sum & 0777777u);
    return put(t, h, sizeof h);
}

/* "LENGTH key=value\n", where LENGTH counts itself. */
static void add_record(fm_str *s, const char *key, const char *value) {
    size_t n = strlen(key) + strlen(value) + 3, total = n + 1;
    while (total != n + (size_t)snprintf(NULL, 0, "%zu", total)) {
        total = n + (size_t)snprintf(NULL, 0, "%zu", total);
    }
    fm_str_printf(s, "%zu %s=%s\n", total, key, value);
}

static fm_status begin(fm_tar *t, const char *name, int64_t size, bool executable) {
    if (strlen(name) > 100 || size >= MAX_SIZE) {
        fm_str s = {0};
        char number[32];
        (void)snprintf(number, sizeof number, "%lld", (long long)size);
        add_record(&s, "path", name);
        add_record(&s, "size", number);
        fm_status st = fm_str_check(&s);
        st = st == FM_OK ? put_header(t, "pax_header", (int64_t)s.len, 'x', false) : st;
        st = st == FM_OK ? put(t, s.data, s.len) : st;
        st = st == FM_OK ? pad(t) : st;
        fm_str_free(&s);
        FM_TRY(st);
    }
    return put_header(t, name, size, '0', executable);
}

fm_status fm_tar_add_bytes(fm_tar *t, const char *name, const void *data, size_t n, bool executable) {
    FM_TRY(begin(t, name, (int64_t)n, executable));
    FM_TRY(put(t, data, n));
    return pad(t);
}

static fm_status copy(fm_tar *t, FILE *in, const char *path, int64_t size, char *buffer) {
    fm_meter meter;
    fm_meter_start(&meter, "packing", "bytes", (double)size);
    int64_t done = 0;
    while (done < size) {
        size_t want = (size_t)FM_MIN((int64_t)COPY, size - done), n = fread(buffer, 1, want, in);
        if (n == 0) {
            FM_FAIL(FM_ERR_IO, "%s: expected %lld bytes, found %lld", path, (long long)size, (long long)done);
        }
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted while packing %s", path);
        }
        FM_TRY(put(t, buffer, n));
        done += (int64_t)n;
        fm_meter_update(&meter, (double)done, path);
    }
    fm_meter_end(&meter, (double)done, path);
    return pad(t);
}

fm_status fm_tar_add_file(fm_tar *t, const char *name, const char *path, bool executable) {
    FILE *in = fopen(path, "rb");
    if (!in) {
        FM_FAIL(FM_ERR_IO, "%s: %s", path, strerror(errno));
    }
    int64_t size = fm_file_size(path);
    char *buffer = fm_malloc(COPY);
    fm_status s = FM_OK;
    if (!buffer || size < 0) {
        s = fm_error_set(buffer ? FM_ERR_IO : FM_ERR_NO_MEMORY, __FILE__, __LINE__, "%s cannot be read", path);
    }
    s = s == FM_OK ? begin(t, name, size, executable) : s;
    s = s == FM_OK ? copy(t, in, path, size, buffer) : s;
    fm_free(buffer);
    (void)fclose(in);
    return s;
}

fm_status fm_tar_finish(fm_tar *t, int64_t *bytes) {
    static const char zeros[2 * BLOCK];
    FM_TRY(put(t, zeros, sizeof zeros));
    bool good = fflush(t->f) == 0 && fsync(fileno(t->f)) == 0;
    good = fclose(t->f) == 0 && good;
    t->f = NULL;
    if (!good || rename(t->tmp, t->path) != 0) {
        FM_FAIL(FM_ERR_IO, "%s: %s", t->path, strerror(errno));
    }
    t->done = true;
    *bytes = t->bytes;
    return FM_OK;
}

void fm_tar_free(fm_tar *t) {
    if (!t) {
        return;
    }
    if (t->f) {
        (void)fclose(t->f);
    }
    if (!t->done && t->tmp) {
        (void)unlink(t->tmp);
    }
    fm_free(t->tmp);
    fm_free(t->path);
    fm_free(t);
}
