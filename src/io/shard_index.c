/* See shard_index.h. */
#include "io/shard_index.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

static fm_status add_file(void *arg, const char *key, fm_json *value) {
    fm_shard_index *x = arg;
    size_t n = 0;
    const char *name = fm_json_str(value, &n);
    /* A name with a folder part could lead anywhere on the disk. */
    if (!name || n == 0 || strlen(name) != n || strchr(name, '/') || name[0] == '.') {
        FM_FAIL(FM_ERR_CORRUPT, "%s: tensor '%s': expected the name of a file in the same folder", x->path, key);
    }
    for (size_t i = x->n_files; i-- > 0;) { /* the last one is the likely one */
        if (strcmp(x->file[i], name) == 0) {
            return FM_OK;
        }
    }
    void *p = x->file;
    FM_TRY(fm_grow(&p, &x->cap, x->n_files + 1, sizeof *x->file));
    x->file = p;
    x->file[x->n_files] = fm_strdup(name);
    if (!x->file[x->n_files]) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: no memory for a file name", x->path);
    }
    x->n_files++;
    return FM_OK;
}

static fm_status load(fm_shard_index *x, const char *path) {
    const char *slash = strrchr(path, '/');
    x->path = fm_strdup(path);
    x->dir = !slash ? fm_strdup(".") : slash == path ? fm_strdup("/") : fm_strndup(path, (size_t)(slash - path));
    if (!x->path || !x->dir) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: no memory for a file name", path);
    }
    FM_TRY(fm_json_load(&x->json, path));
    fm_json *map = fm_json_get(x->json, "weight_map");
    if (!fm_json_is_object(map)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: expected an object 'weight_map'", path);
    }
    return fm_json_each(map, add_file, x);
}

fm_status fm_shard_index_load(fm_shard_index *out, const char *path) {
    *out = (fm_shard_index){0};
    fm_status s = load(out, path);
    if (s != FM_OK) {
        fm_shard_index_free(out);
    }
    return s;
}

void fm_shard_index_free(fm_shard_index *x) {
    for (size_t i = 0; i < x->n_files; i++) {
        fm_free(x->file[i]);
    }
    fm_free(x->file);
    fm_free(x->path);
    fm_free(x->dir);
    fm_json_free(x->json);
    *x = (fm_shard_index){0};
}

typedef struct check_ctx {
    const fm_shard_index *x;
    fm_shard_find_fn find;
    const void *arg;
} check_ctx;

static fm_status check_entry(void *arg, const char *key, fm_json *value) {
    const check_ctx *c = arg;
    const char *want = fm_json_str(value, NULL);
    int found = c->find(c->arg, key);
    if (found < 0) {
        FM_FAIL(FM_ERR_CORRUPT, "%s: tensor '%s' is not in '%s'", c->x->path, key, want);
    }
    if (strcmp(c->x->file[found], want) != 0) {
        FM_FAIL(FM_ERR_CORRUPT, "%s: tensor '%s' is not in '%s', but in '%s'", c->x->path, key, want,
                c->x->file[found]);
    }
    return FM_OK;
}

fm_status fm_shard_index_check(const fm_shard_index *x, fm_shard_find_fn find, const void *arg) {
    check_ctx c = {x, find, arg};
    return fm_json_each(fm_json_get(x->json, "weight_map"), check_entry, &c);
}
