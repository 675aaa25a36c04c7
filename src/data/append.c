/* See append.h. */
#include "data/append.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#define MOST_FILES 999999

struct fm_append {
    fm_append_options o;
    char *dir, *prefix, *suffix;
    int fd;
    fm_append_place at;
    double first_s; /* when the open file got its first row */
};

static fm_status name_of(const fm_append *a, char *buf, size_t cap, int64_t file, bool open_one) {
    int k =
        snprintf(buf, cap, "%s/%s-%06lld%s%s", a->dir, a->prefix, (long long)file, a->suffix, open_one ? ".open" : "");
    if (k < 0 || (size_t)k >= cap) {
        FM_FAIL(FM_ERR_ARGUMENT, "the path '%s' is too long", a->dir);
    }
    return FM_OK;
}

static fm_status io_failed(const char *path) {
    (void)fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "%s: %s", path, strerror(errno));
    return errno == ENOSPC ? fm_error_hint("the disk is full") : FM_ERR_IO;
}

static fm_status open_file(fm_append *a, int64_t file, bool fresh) {
    char path[4096];
    FM_TRY(name_of(a, path, sizeof path, file, true));
    a->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (fresh ? O_TRUNC : 0), 0666);
    if (a->fd < 0) {
        return io_failed(path);
    }
    a->at.file = file;
    a->at.bytes = fresh ? 0 : (int64_t)lseek(a->fd, 0, SEEK_END);
    a->first_s = fm_now();
    return a->at.bytes < 0 ? io_failed(path) : FM_OK;
}

static fm_status cut_at(fm_append *a, int64_t bytes) {
    if (ftruncate(a->fd, bytes) != 0 || lseek(a->fd, bytes, SEEK_SET) != bytes) {
        return io_failed(a->dir);
    }
    a->at.bytes = bytes;
    return FM_OK;
}

/* Behind the last line end of the open file. */
static fm_status cut_at_line(fm_append *a) {
    char buf[65536];
    int64_t end = a->at.bytes;
    while (end > 0) {
        int64_t from = FM_MAX(end - (int64_t)sizeof buf, 0);
        ssize_t k = pread(a->fd, buf, (size_t)(end - from), from);
        if (k != end - from) {
            return io_failed(a->dir);
        }
        const char *nl = memrchr(buf, '\n', (size_t)k);
        if (nl) {
            return cut_at(a, from + (nl - buf) + 1);
        }
        end = from;
    }
    return cut_at(a, 0);
}

/* The number of the last file there is, 0 for none. */
static fm_status last_file(const fm_append *a, int64_t *last) {
    char **names = NULL;
    size_t n = 0, k = strlen(a->prefix);
    *last = 0;
    FM_TRY(fm_dir_list(&names, &n, a->dir));
    for (size_t i = 0; i < n; i++) {
        long long v = 0;
        if (strncmp(names[i], a->prefix, k) == 0 && sscanf(names[i] + k, "-%6lld.", &v) == 1) {
            *last = FM_MAX(*last, v);
        }
    }
    fm_names_free(names, n);
    return FM_OK;
}

/* Files behind the place go; the one at it is open again. */
static fm_status return_to(fm_append *a, const fm_append_place *place, int64_t last) {
    char path[4096], open_path[4096];
    for (int64_t i = place->file + 1; i <= last; i++) {
        for (int k = 0; k < 2; k++) {
            FM_TRY(name_of(a, path, sizeof path, i, k));
            if (unlink(path) != 0 && errno != ENOENT) {
                return io_failed(path);
            }
        }
    }
    FM_TRY(name_of(a, path, sizeof path, place->file, false));
    FM_TRY(name_of(a, open_path, sizeof open_path, place->file, true));
    if (fm_path_exists(path) && rename(path, open_path) != 0) {
        return io_failed(path);
    }
    FM_TRY(open_file(a, place->file, false));
    if (a->at.bytes < place->bytes) {
        (void)fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, "%s: expected %lld bytes or more, found %lld", open_path,
                           (long long)place->bytes, (long long)a->at.bytes);
        return fm_error_hint("the file was changed since the last run; begin anew in another folder");
    }
    return cut_at(a, place->bytes);
}

static fm_status start(fm_append *a, const fm_append_options *o, const fm_append_place *place) {
    char path[4096];
    int64_t last;
    a->dir = fm_strdup(o->dir);
    a->prefix = fm_strdup(o->prefix);
    a->suffix = fm_strdup(o->suffix);
    if (!a->dir || !a->prefix || !a->suffix) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for output files");
    }
    FM_TRY(fm_mkdirs(a->dir));
    FM_TRY(last_file(a, &last));
    if (place && place->file > 0) {
        return return_to(a, place, last);
    }
    if (last > 0) {
        FM_TRY(name_of(a, path, sizeof path, last, true));
        if (fm_path_exists(path)) {
            FM_TRY(open_file(a, last, false));
            return place ? cut_at(a, 0) : cut_at_line(a);
        }
    }
    return open_file(a, last + 1, true);
}

fm_status fm_append_open(fm_append **out, const fm_append_options *o, const fm_append_place *place) {
    *out = NULL;
    fm_append *a = fm_calloc(1, sizeof *a);
    if (!a) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for output files");
    }
    a->o = *o;
    a->fd = -1;
    fm_status s = start(a, o, place);
    if (s != FM_OK) {
        fm_append_close(a);
        return s;
    }
    *out = a;
    return FM_OK;
}

/* The open file is whole: it gets its name. */
static fm_status seal(fm_append *a) {
    char path[4096], open_path[4096];
    FM_TRY(name_of(a, path, sizeof path, a->at.file, false));
    FM_TRY(name_of(a, open_path, sizeof open_path, a->at.file, true));
    bool synced = fdatasync(a->fd) == 0, closed = close(a->fd) == 0;
    a->fd = -1;
    if (!synced || !closed || (a->at.bytes ? rename(open_path, path) : unlink(open_path)) != 0) {
        return io_failed(open_path);
    }
    return fm_sync_path(a->dir);
}

fm_status fm_append_finish(fm_append *a) {
    return a->fd >= 0 ? seal(a) : FM_OK;
}

void fm_append_close(fm_append *a) {
    char path[4096];
    if (!a) {
        return;
    }
    if (a->fd >= 0) {
        (void)close(a->fd);
        if (a->at.bytes == 0 && name_of(a, path, sizeof path, a->at.file, true) == FM_OK) {
            (void)unlink(path);
        }
    }
    fm_free(a->dir);
    fm_free(a->prefix);
    fm_free(a->suffix);
    fm_free(a);
}

fm_status fm_append_write(fm_append *a, const char *p, size_t n) {
    if (a->fd < 0) { /* the last change of files failed */
        FM_TRY(open_file(a, a->at.file + 1, true));
    }
    if (a->at.bytes == 0) {
        a->first_s = fm_now();
    }
    fm_status s = fm_write_all(a->fd, p, n, a->dir);
    if (s != FM_OK) {
        if (ftruncate(a->fd, a->at.bytes) != 0 || lseek(a->fd, a->at.bytes, SEEK_SET) < 0) {
            return fm_error_context("the last row could not be taken back");
        }
        return s;
    }
    a->at.bytes += (int64_t)n;
    return FM_OK;
}

fm_status fm_append_sync(fm_append *a) {
    if (a->fd >= 0 && fdatasync(a->fd) != 0) {
        return io_failed(a->dir);
    }
    bool full = a->o.rotate_bytes > 0 && a->at.bytes >= a->o.rotate_bytes;
    bool old = a->o.rotate_s > 0 && a->at.bytes > 0 && fm_now() - a->first_s >= a->o.rotate_s;
    if (a->fd >= 0 && (full || old) && a->at.file < MOST_FILES) {
        int64_t next = a->at.file + 1;
        FM_TRY(seal(a));
        FM_TRY(open_file(a, next, true));
        return fm_sync_path(a->dir);
    }
    return FM_OK;
}

fm_append_place fm_append_at(const fm_append *a) {
    return a->at;
}

int64_t fm_append_files(const fm_append *a) {
    return a->at.file - (a->at.bytes == 0);
}
