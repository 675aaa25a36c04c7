/* Files, mappings and durability. See file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

/* Status for errno after `what` failed on `path`. */
static fm_status io_fail(int line, const char *what, const char *path) {
    int e = errno;
    fm_status s = e == ENOENT || e == ENOTDIR ? FM_ERR_NOT_FOUND : e == ENOMEM ? FM_ERR_NO_MEMORY : FM_ERR_IO;
    fm_error_set(s, __FILE__, line, "cannot %s '%s': %s", what, path, strerror(e));
    if (e == ENOSPC) {
        fm_error_hint("free some space on the disk");
    } else if (e == EROFS) {
        fm_error_hint("that file system can only be read: write to another one");
    } else if (e == EACCES || e == EPERM) {
        fm_error_hint("check the permissions of the file and of its folder");
    }
    return s;
}
#define IO_FAIL(what, path) return io_fail(__LINE__, what, path)

/* Reads to the end; works for pipes too, where the size is not known. */
static fm_status read_all(int fd, fm_str *buf, const char *path, size_t max_bytes) {
    for (;;) {
        char chunk[1 << 16];
        ssize_t k = read(fd, chunk, sizeof chunk);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            IO_FAIL("read", path);
        }
        if (k == 0) {
            fm_str_append(buf, "", 0); /* storage even for an empty file */
            return fm_str_check(buf);
        }
        if (max_bytes && (size_t)k > max_bytes - buf->len) {
            FM_FAIL(FM_ERR_DATA, "'%s': expected at most %zu bytes, found more", path, max_bytes);
        }
        fm_str_append(buf, chunk, (size_t)k);
        FM_TRY(fm_str_check(buf));
    }
}

fm_status fm_file_read(char **out, size_t *n, const char *path, size_t max_bytes) {
    *out = NULL;
    *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        IO_FAIL("open", path);
    }
    fm_str buf = {0};
    struct stat st;
    fm_status s = FM_OK;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        (max_bytes == 0 || (size_t)st.st_size <= max_bytes)) {
        void *p = NULL;
        s = fm_grow(&p, &buf.cap, (size_t)st.st_size + 1, 1);
        buf.data = p;
    }
    if (s == FM_OK) {
        s = read_all(fd, &buf, path, max_bytes);
    }
    close(fd);
    if (s != FM_OK) {
        fm_str_free(&buf);
        return s;
    }
    *n = buf.len;
    *out = fm_str_take(&buf);
    return FM_OK;
}

fm_status fm_write_all(int fd, const void *data, size_t n, const char *path) {
    const char *p = data;
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            IO_FAIL("write", path);
        }
        p += k;
        n -= (size_t)k;
    }
    return FM_OK;
}

fm_status fm_pwrite_all(int fd, const void *data, size_t n, int64_t at, const char *path) {
    const char *p = data;
    while (n) {
        ssize_t k = pwrite(fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k <= 0) {
            IO_FAIL("write", path);
        }
        p += k;
        at += k;
        n -= (size_t)k;
    }
    return FM_OK;
}

/* The folder part of a path; "." when it has none. */
static fm_status parent_of(char *buf, size_t cap, const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    while (n > 0 && path[n - 1] != '/') {
        n--;
    }
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    if (n >= cap || cap < 2) {
        FM_FAIL(FM_ERR_ARGUMENT, "path is too long: '%s'", path);
    }
    if (n == 0) {
        memcpy(buf, ".", 2);
    } else {
        memcpy(buf, path, n);
        buf[n] = '\0';
    }
    return FM_OK;
}

fm_status fm_sync_path(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        IO_FAIL("open", path);
    }
    /* Some file systems refuse to sync a folder; there is nothing more that could be done there. */
    if (fsync(fd) != 0 && errno != EINVAL && errno != EROFS) {
        int e = errno;
        close(fd);
        errno = e;
        IO_FAIL("sync", path);
    }
    close(fd);
    return FM_OK;
}

static fm_status sync_parent(const char *path) {
    char dir[4096];
    FM_TRY(parent_of(dir, sizeof dir, path));
    return fm_sync_path(dir);
}

fm_status fm_file_write_atomic(const char *path, const void *data, size_t n) {
    char tmp[4096];
    int len = snprintf(tmp, sizeof tmp, "%s.tmp", path);
    if (len < 0 || (size_t)len >= sizeof tmp) {
        FM_FAIL(FM_ERR_ARGUMENT, "path is too long: '%s'", path);
    }
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        IO_FAIL("create", tmp);
    }
    fm_status s = fm_write_all(fd, data, n, tmp);
    if (s == FM_OK && fsync(fd) != 0) {
        s = io_fail(__LINE__, "sync", tmp);
    }
    if (close(fd) != 0 && s == FM_OK) {
        s = io_fail(__LINE__, "close", tmp);
    }
    if (s == FM_OK) {
        fm_crash_point("write_atomic.before_rename");
        if (rename(tmp, path) != 0) {
            s = io_fail(__LINE__, "rename to", path);
        }
    }
    if (s != FM_OK) {
        unlink(tmp);
        return s;
    }
    return sync_parent(path);
}

fm_status fm_map_open(fm_map *out, const char *path) {
    memset(out, 0, sizeof *out);
    out->fd = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        IO_FAIL("open", path);
    }
    struct stat st;
    fm_status s = FM_OK;
    if (fstat(fd, &st) != 0) {
        s = io_fail(__LINE__, "inspect", path);
    } else if (!S_ISREG(st.st_mode)) {
        s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "'%s': expected a regular file, found %s", path,
                         S_ISDIR(st.st_mode) ? "a folder" : "something else");
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            s = io_fail(__LINE__, "map", path);
        } else {
            out->data = p;
            out->size = (size_t)st.st_size;
            out->fd = fd;
            fm_ledger_add(FM_MEM_MAPPED, (int64_t)out->size);
            return FM_OK;
        }
    }
    close(fd);
    return s;
}

fm_status fm_disk_memory(void **out, const char *path, size_t bytes) {
    *out = NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        IO_FAIL("create", path);
    }
    fm_status s = FM_OK;
    errno = posix_fallocate(fd, 0, (off_t)bytes);
    if (errno != 0) {
        s = io_fail(__LINE__, "take space for", path);
    } else {
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            s = io_fail(__LINE__, "map", path);
        } else {
            *out = p;
            fm_ledger_add(FM_MEM_MAPPED, (int64_t)bytes);
        }
    }
    (void)unlink(path);
    close(fd);
    return s;
}

void fm_disk_memory_free(void *p, size_t bytes) {
    if (p) {
        (void)munmap(p, bytes);
        fm_ledger_add(FM_MEM_MAPPED, -(int64_t)bytes);
    }
}

void fm_map_release(const void *data, size_t n) {
    long page = sysconf(_SC_PAGESIZE);
    if (page <= 0 || n == 0) {
        return;
    }
    uintptr_t size = (uintptr_t)page, a = ((uintptr_t)data + size - 1) / size * size;
    uintptr_t b = ((uintptr_t)data + n) / size * size;
    if (b > a) {
        (void)madvise((void *)a, b - a, MADV_DONTNEED); /* advice only */
    }
}

void fm_map_close(fm_map *m) {
    if (m->data) {
        union {
            const uint8_t *r;
            void *w;
        } p = {m->data};
        munmap(p.w, m->size);
        close(m->fd);
        fm_ledger_add(FM_MEM_MAPPED, -(int64_t)m->size);
    }
    memset(m, 0, sizeof *m);
    m->fd = -1;
}

bool fm_path_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool fm_path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int64_t fm_file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
}

fm_status fm_path_join(char *buf, size_t cap, const char *dir, const char *name) {
    size_t n = strlen(dir);
    const char *sep = n == 0 || dir[n - 1] == '/' ? "" : "/";
    int len = snprintf(buf, cap, "%s%s%s", dir, sep, name);
    if (len < 0 || (size_t)len >= cap) {
        FM_FAIL(FM_ERR_ARGUMENT, "path is too long: '%s/%s'", dir, name);
    }
    return FM_OK;
}

fm_status fm_mkdirs(const char *path) {
    char buf[4096];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof buf) {
        FM_FAIL(FM_ERR_ARGUMENT, "cannot create folder '%s': name is %s", path, n ? "too long" : "empty");
    }
    memcpy(buf, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (buf[i] == '/' || buf[i] == '\0') {
            char keep = buf[i];
            buf[i] = '\0';
            if (mkdir(buf, 0777) != 0 && errno != EEXIST) {
                IO_FAIL("create folder", buf);
            }
            buf[i] = keep;
        }
    }
    if (!fm_path_is_dir(path)) {
        FM_FAIL(FM_ERR_EXISTS, "cannot create folder '%s': a file has that name", path);
    }
    return FM_OK;
}

fm_status fm_rename_dir(const char *from, const char *to) {
    if (rename(from, to) != 0) {
        int e = errno;
        io_fail(__LINE__, "rename", from);
        fm_error_context("to '%s'", to);
        if (e == EXDEV) {
            fm_error_hint("both names must be on the same file system");
        }
        return fm_error_get().status;
    }
    FM_TRY(sync_parent(to));
    return sync_parent(from);
}

int64_t fm_disk_free(const char *path) {
    struct statvfs v;
    if (statvfs(path, &v) != 0) {
        return -1;
    }
    return (int64_t)v.f_bavail * (int64_t)v.f_frsize;
}

double fm_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int64_t fm_unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void fm_crash_point(const char *name) {
    static atomic_int hits;
    const char *want = getenv("FATHOM_CRASH_POINT");
    size_t n = strlen(name);
    if (!want || strncmp(want, name, n) != 0 || (want[n] != '\0' && want[n] != ':')) {
        return;
    }
    long at = want[n] == ':' ? strtol(want + n + 1, NULL, 10) : 1;
    if (atomic_fetch_add(&hits, 1) + 1 == at) {
        raise(SIGKILL);
    }
}

fm_status fm_dir_check_empty(const char *path) {
    char **names;
    size_t n;
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    FM_TRY(fm_dir_list(&names, &n, path));
    fm_names_free(names, n);
    if (n > 0) {
        FM_FAIL(FM_ERR_EXISTS, "%s exists and is not empty", path);
    }
    return FM_OK;
}
