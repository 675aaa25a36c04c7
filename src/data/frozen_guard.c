/* Keeping frozen test sets out of training, and changed ones out of evaluation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/frozen.h"
#include "data/records.h"

#define MOST_COLUMNS 16 /* that sets name; rows of further ones are looked up by the usual columns */

typedef struct guard {
    uint64_t *keys;
    size_t n, cap;
    char question[MOST_COLUMNS][128]; /* that sets name; "" = the usual ones */
    size_t n_questions;
    fm_str hashes, names; /* of the sets that are in; for messages */
} guard;

/* Where the manifests of all sets frozen on this machine are kept: beside the registry of runs, and off with it. A set
 * that was moved, renamed or copied into another file is known by them. */
static bool remembered(char *buf, size_t cap) {
    const char *given = getenv("FATHOM_REGISTRY"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n = -1;
    if (given && *given) {
        const char *slash = strrchr(given, '/');
        n = strcmp(given, "none") == 0 ? -1
            : slash                    ? snprintf(buf, cap, "%.*s/frozen", (int)(slash - given), given)
                                       : snprintf(buf, cap, "frozen");
    } else if (data && *data) {
        n = snprintf(buf, cap, "%s/fathom/frozen", data);
    } else if (home && *home) {
        n = snprintf(buf, cap, "%s/.local/share/fathom/frozen", home);
    }
    return n > 0 && (size_t)n < cap;
}

/* A home that cannot be written is told of: the set is still guarded beside its file and by frozen_tests. */
fm_status fm_frozen_remember(const char *hash, const char *manifest, size_t n) {
    char dir[4096], path[4200];
    if (!remembered(dir, sizeof dir)) {
        return FM_OK;
    }
    snprintf(path, sizeof path, "%s/%s" FM_FROZEN_SUFFIX, dir, hash);
    fm_status s = fm_mkdirs(dir);
    s = s == FM_OK ? fm_file_write_atomic(path, manifest, n) : s;
    if (s == FM_ERR_NO_MEMORY) {
        return s;
    }
    if (s != FM_OK) {
        fm_warn("%s was not written: training elsewhere does not know this set unless frozen_tests names it", path);
        fm_error_clear();
    }
    return FM_OK;
}

static fm_status load_manifest(fm_json **out, const char *path) {
    FM_TRY(fm_json_load(out, path));
    const char *format = fm_json_str(fm_json_get(*out, "format"), NULL);
    if (!format || strcmp(format, "fathom-frozen") != 0 || fm_json_int(fm_json_get(*out, "version"), 0) != 1 ||
        !fm_json_is_array(fm_json_get(*out, "keys"))) {
        fm_json_free(*out);
        *out = NULL;
        FM_FAIL(FM_ERR_FORMAT, "%s is no list of frozen rows that this program reads", path);
    }
    return FM_OK;
}

/* A set that is in already, under whatever name, is not read twice. */
static fm_status add_set(guard *g, const char *path) {
    fm_json *j;
    FM_TRY(load_manifest(&j, path));
    const fm_json *keys = fm_json_get(j, "keys");
    const char *q = fm_json_str(fm_json_get(j, "question"), NULL), *hash = fm_json_str(fm_json_get(j, "hash"), NULL),
               *file = fm_json_str(fm_json_get(j, "file"), NULL);
    if (hash && g->hashes.data && strstr(g->hashes.data, hash)) {
        fm_json_free(j);
        return FM_OK;
    }
    bool known = false;
    for (size_t i = 0; i < g->n_questions; i++) {
        known = known || strcmp(g->question[i], q ? q : "") == 0;
    }
    if (!known && g->n_questions < MOST_COLUMNS) {
        snprintf(g->question[g->n_questions++], sizeof g->question[0], "%s", q ? q : "");
    }
    fm_status s = FM_OK;
    for (size_t i = 0; i < fm_json_size(keys) && s == FM_OK; i++) {
        const char *hex = fm_json_str(fm_json_at(keys, i), NULL);
        void *p = g->keys;
        s = fm_grow(&p, &g->cap, g->n + 1, sizeof *g->keys);
        if (s == FM_OK) {
            g->keys = p;
            g->keys[g->n++] = hex ? strtoull(hex, NULL, 16) : 0;
        }
    }
    fm_str_printf(&g->hashes, "%s ", hash ? hash : "-");
    fm_str_printf(&g->names, "%s%s", g->names.len ? ", " : "", file ? file : path);
    s = s == FM_OK ? fm_str_check(&g->hashes) : s;
    s = s == FM_OK ? fm_str_check(&g->names) : s;
    fm_json_free(j);
    return s;
}

static bool is_manifest(const char *name) {
    size_t n = strlen(name), k = strlen(FM_FROZEN_SUFFIX);
    return n > k && strcmp(name + n - k, FM_FROZEN_SUFFIX) == 0;
}

/* Sets in the folder of a file, or in a folder. */
static fm_status add_folder(guard *g, const char *input) {
    char dir[4096], path[4096], **names;
    size_t n;
    snprintf(dir, sizeof dir, "%s", input);
    char *slash = strrchr(dir, '/');
    if (!fm_path_is_dir(dir)) {
        snprintf(slash ? slash : dir, 2, "%s", slash == dir ? "/" : slash ? "" : ".");
    }
    if (!fm_path_is_dir(dir)) { /* a pattern whose folder has one too, or standard input */
        return FM_OK;
    }
    FM_TRY(fm_dir_list(&names, &n, dir));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        if (is_manifest(names[i])) {
            s = fm_path_join(path, sizeof path, dir, names[i]);
            s = s == FM_OK ? add_set(g, path) : s;
        }
    }
    fm_names_free(names, n);
    return s;
}

static fm_status scan(guard *g, const fm_strlist *input, const char *format) {
    fm_records *rows;
    fm_rec *row;
    fm_bump *arena;
    fm_str scratch = {0};
    char first[512] = "";
    int64_t hits = 0, n = 0;
    fm_records_options ro = {.input = *input, .format = format};
    FM_TRY(fm_records_open(&rows, &ro));
    fm_status s = FM_OK;
    for (;; n++) {
        s = fm_records_next(rows, &row, &arena);
        if (s != FM_OK || !row) {
            break;
        }
        bool hit = false;
        for (size_t i = 0; i < g->n_questions && !hit; i++) {
            const char *named = g->question[i];
            uint64_t key;
            hit = fm_frozen_key(&key, row, *named ? named : NULL, NULL, &scratch) && fm_frozen_has(g->keys, g->n, key);
        }
        if (hit && hits++ == 0) {
            snprintf(first, sizeof first, "%s:%lld", fm_records_file(rows, fm_records_file_index(rows)),
                     (long long)row->line);
        }
    }
    fm_records_close(rows);
    fm_str_free(&scratch);
    FM_TRY(s);
    if (hits == 0) {
        return FM_OK;
    }
    fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                 "%lld of %lld training rows ask what a frozen test set asks (%s); the first is %s", (long long)hits,
                 (long long)n, g->names.data ? g->names.data : "", first);
    char dir[4096];
    bool kept = remembered(dir, sizeof dir);
    return fm_error_hint("train on the rest that `fathom data freeze --rest` wrote, or take these rows out%s%s",
                         kept ? "; sets that are given up are files to remove in " : "", kept ? dir : "");
}

fm_status fm_frozen_check(const fm_strlist *input, const fm_strlist *named, const char *format) {
    guard g = {0};
    fm_status s = FM_OK;
    for (size_t i = 0; i < named->n && s == FM_OK; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s%s", named->item[i], is_manifest(named->item[i]) ? "" : FM_FROZEN_SUFFIX);
        s = add_set(&g, path);
    }
    for (size_t i = 0; i < input->n && s == FM_OK; i++) {
        s = add_folder(&g, input->item[i]);
    }
    char dir[4096];
    if (s == FM_OK && remembered(dir, sizeof dir) && fm_path_is_dir(dir)) {
        s = add_folder(&g, dir);
    }
    if (s == FM_OK && g.n > 0) {
        fm_frozen_sort(g.keys, g.n);
        s = scan(&g, input, format);
    }
    fm_free(g.keys);
    fm_str_free(&g.hashes);
    fm_str_free(&g.names);
    return s;
}

fm_status fm_frozen_verify(const char *path, char *hash) {
    char manifest[4096], now[33];
    hash[0] = 0;
    if ((size_t)snprintf(manifest, sizeof manifest, "%s" FM_FROZEN_SUFFIX, path) >= sizeof manifest ||
        !fm_path_exists(manifest)) {
        return FM_OK;
    }
    fm_json *j;
    FM_TRY(load_manifest(&j, manifest));
    const char *want = fm_json_str(fm_json_get(j, "hash"), NULL);
    snprintf(hash, 33, "%s", want ? want : "");
    fm_json_free(j);
    FM_TRY(fm_file_hash(now, path));
    if (strcmp(now, hash) != 0) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s was frozen with hash %s and has %s now", path, hash, now);
        return fm_error_hint(
            "figures on it cannot be compared; restore the file, or freeze a new set under another name");
    }
    return FM_OK;
}
