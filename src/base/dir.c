/* Folders: listing, globbing, removing trees. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

typedef struct names {
    char **item;
    size_t n, cap;
} names;

static fm_status add(names *a, const char *name) {
    void *p = a->item;
    FM_TRY(fm_grow(&p, &a->cap, a->n + 1, sizeof *a->item));
    a->item = p;
    char *copy = fm_strdup(name);
    if (!copy) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a file name");
    }
    a->item[a->n++] = copy;
    return FM_OK;
}

/* By bytes, so that the order does not depend on the locale. */
static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static fm_status finish(fm_status s, names *a, char ***out, size_t *n) {
    if (s != FM_OK) {
        fm_names_free(a->item, a->n);
        return s;
    }
    if (a->n > 1) {
        qsort(a->item, a->n, sizeof *a->item, by_bytes);
    }
    *out = a->item;
    *n = a->n;
    return FM_OK;
}

void fm_names_free(char **item, size_t n) {
    for (size_t i = 0; item && i < n; i++) {
        fm_free(item[i]);
    }
    fm_free(item);
}

fm_status fm_dir_list(char ***out, size_t *n, const char *path) {
    *out = NULL;
    *n = 0;
    DIR *d = opendir(path);
    if (!d) {
        FM_FAIL(errno == ENOENT || errno == ENOTDIR ? FM_ERR_NOT_FOUND : FM_ERR_IO, "cannot open folder '%s': %s", path,
                strerror(errno));
    }
    names a = {0};
    fm_status s = FM_OK;
    for (struct dirent *e; s == FM_OK && (errno = 0, e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            s = add(&a, e->d_name);
        }
    }
    if (s == FM_OK && errno) {
        s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot read folder '%s': %s", path, strerror(errno));
    }
    closedir(d);
    return finish(s, &a, out, n);
}

fm_status fm_glob(char ***out, size_t *n, const char *pattern) {
    *out = NULL;
    *n = 0;
    names a = {0};
    if (fm_path_exists(pattern)) { /* a name may hold brackets */
        return finish(add(&a, pattern), &a, out, n);
    }
    glob_t g;
    memset(&g, 0, sizeof g);
    int rc = glob(pattern, GLOB_NOSORT, NULL, &g);
    fm_status s = FM_OK;
    if (rc == GLOB_NOSPACE) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot list '%s'", pattern);
    } else if (rc == GLOB_NOMATCH) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "no file matches '%s'", pattern);
        s = fm_error_hint("there is no file or folder of this name; see its spelling, and the folder you are in");
    } else if (rc != 0) {
        s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot read a folder of '%s'", pattern);
    }
    for (size_t i = 0; s == FM_OK && i < g.gl_pathc; i++) {
        s = add(&a, g.gl_pathv[i]);
    }
    globfree(&g);
    return finish(s, &a, out, n);
}

#define MAX_DEPTH 256

/* Removes what is in folder fd (taken), then the caller removes the folder. Works by descriptor, so
 * long paths are no matter and a symbolic link is removed, never followed. */
static int remove_inside(int fd, int depth) {
    DIR *d = fdopendir(fd);
    if (!d) {
        int e = errno;
        close(fd);
        return e;
    }
    int err = depth > MAX_DEPTH ? ELOOP : 0;
    for (struct dirent *e; err == 0 && (errno = 0, e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (unlinkat(dirfd(d), e->d_name, 0) == 0) {
            continue;
        }
        int why = errno;
        int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub < 0) {
            err = why;
            break;
        }
        err = remove_inside(sub, depth + 1);
        if (err == 0 && unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) != 0) {
            err = errno;
        }
    }
    if (err == 0 && errno) {
        err = errno;
    }
    closedir(d);
    return err;
}

fm_status fm_remove_tree(const char *path) {
    struct stat st;
    if (lstat(path, &st) != 0) {
        if (errno == ENOENT) {
            return FM_OK;
        }
        FM_FAIL(FM_ERR_IO, "cannot inspect '%s': %s", path, strerror(errno));
    }
    int err = 0;
    if (S_ISDIR(st.st_mode)) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        err = fd < 0 ? errno : remove_inside(fd, 0);
        if (err == 0 && rmdir(path) != 0) {
            err = errno;
        }
    } else if (unlink(path) != 0) {
        err = errno;
    }
    if (err) {
        FM_FAIL(FM_ERR_IO, "cannot remove '%s': %s", path, strerror(err));
    }
    return FM_OK;
}
