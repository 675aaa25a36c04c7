/* A folder for the files of one test program. */
#ifndef FM_TEST_TMPDIR_H
#define FM_TEST_TMPDIR_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static char tmp_dir[64];

static inline int tmp_make(void **state) {
    (void)state;
    snprintf(tmp_dir, sizeof tmp_dir, "/tmp/fathom_io_XXXXXX");
    return mkdtemp(tmp_dir) ? 0 : -1;
}

static inline int tmp_remove(void **state) {
    (void)state;
    return fm_remove_tree(tmp_dir) == FM_OK ? 0 : -1;
}

/* Path of a name in the folder; a few may be in use at a time. */
static inline const char *tmp_path(const char *name) {
    static char ring[8][256];
    static int at;
    at = (at + 1) % 8;
    snprintf(ring[at], sizeof ring[at], "%s/%s", tmp_dir, name);
    return ring[at];
}

static inline const char *tmp_write(const char *name, const void *data, size_t n) {
    const char *path = tmp_path(name);
    return fm_file_write_atomic(path, data, n) == FM_OK ? path : NULL;
}

static inline const char *tmp_text(const char *name, const char *text) {
    return tmp_write(name, text, strlen(text));
}

#endif
