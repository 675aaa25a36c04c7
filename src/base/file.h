/* Files: whole reads, mappings, atomic writes, directories, hashes. All paths are UTF-8 bytes. */
#ifndef FM_BASE_FILE_H
#define FM_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "fathom/status.h"

/* Whole file into a NUL-terminated buffer (fm_free). max_bytes 0 = no limit. */
FM_MUST_CHECK fm_status fm_file_read(char **out, size_t *n, const char *path, size_t max_bytes);

/* All n bytes to a descriptor; at an offset. path is for the message. */
FM_MUST_CHECK fm_status fm_write_all(int fd, const void *p, size_t n, const char *path);
FM_MUST_CHECK fm_status fm_pwrite_all(int fd, const void *p, size_t n, int64_t at, const char *path);

/* Writes path.tmp, fsyncs, renames over path, fsyncs the folder. Old content stays on failure. */
FM_MUST_CHECK fm_status fm_file_write_atomic(const char *path, const void *data, size_t n);

typedef struct fm_map {
    const uint8_t *data;
    size_t size;
    int fd;
} fm_map;
/* Read-only shared mapping. An empty file gives data NULL, size 0. Charged to FM_MEM_MAPPED. */
FM_MUST_CHECK fm_status fm_map_open(fm_map *out, const char *path);
void fm_map_close(fm_map *m); /* zeroed map is legal */
/* Zeroed memory that the system may keep in a file instead: created at path, its space taken (a full disk is an error
 * here, not a crash later) and its name removed. Charged to FM_MEM_MAPPED. */
FM_MUST_CHECK fm_status fm_disk_memory(void **out, const char *path, size_t bytes);
void fm_disk_memory_free(void *p, size_t bytes); /* NULL is legal */
/* Tells the system that these bytes of a file mapping were used and their pages may leave memory: whole pages only, as
 * the edges may belong to a neighbour. Never for other memory, which would be cleared. */
void fm_map_release(const void *data, size_t n);

bool fm_path_exists(const char *path);
bool fm_path_is_dir(const char *path);
int64_t fm_file_size(const char *path); /* -1 when it cannot be had */
/* dir + "/" + name into buf; FM_ERR_ARGUMENT when it does not fit. */
FM_MUST_CHECK fm_status fm_path_join(char *buf, size_t cap, const char *dir, const char *name);
FM_MUST_CHECK fm_status fm_mkdirs(const char *path);                     /* like mkdir -p */
FM_MUST_CHECK fm_status fm_remove_tree(const char *path);                /* like rm -rf; missing is fine */
FM_MUST_CHECK fm_status fm_rename_dir(const char *from, const char *to); /* rename + fsync of the parent */
FM_MUST_CHECK fm_status fm_sync_path(const char *path);                  /* fsync of a file or folder */
int64_t fm_disk_free(const char *path);                                  /* bytes available to this user; -1 on error */

/* FM_ERR_EXISTS when the path is there and no empty folder. */
FM_MUST_CHECK fm_status fm_dir_check_empty(const char *path);
/* Sorted names in a folder (without . and ..); free with fm_names_free. */
FM_MUST_CHECK fm_status fm_dir_list(char ***names, size_t *n, const char *path);
/* Sorted paths matching a glob pattern, or the path itself when it exists. */
FM_MUST_CHECK fm_status fm_glob(char ***names, size_t *n, const char *pattern);
void fm_names_free(char **item, size_t n);

/* XXH3. */
uint64_t fm_hash64(const void *p, size_t n, uint64_t seed);
typedef struct fm_hasher fm_hasher;
FM_MUST_CHECK fm_status fm_hasher_new(fm_hasher **out);
void fm_hasher_update(fm_hasher *h, const void *p, size_t n);
void fm_hasher_hex(const fm_hasher *h, char out[33]); /* 128-bit, hex */
void fm_hasher_free(fm_hasher *h);
FM_MUST_CHECK fm_status fm_file_hash(char out[33], const char *path);

double fm_now(void);      /* monotonic seconds */
int64_t fm_unix_ms(void); /* wall clock */

/* Crash-point hook for durability tests: when the environment variable FATHOM_CRASH_POINT equals
 * `name` (optionally "name:n" for the n-th time), the process kills itself with SIGKILL here. */
void fm_crash_point(const char *name);

#endif
