/* data erase: the rows of one subject leave a dataset.
 *
 * Each file is written anew into a folder beside it and takes its old place when all of them are on disk; then the
 * manifest gets the new hashes and an entry in `erasures` with a keyed hash of the subject, never the subject. A run
 * that is cut off in between is made good by the same command: files whose hash is not the manifest's are written down
 * again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/job.h"
#include "data/keyed.h"
#include "data/manifest.h"
#include "data/manifest_diff.h"

#define WORK_DIR     ".fathom-erase"
#define MANIFEST_MAX ((int64_t)256 << 20)

static const fm_option table[] = {
    {"column", FM_OPT_STR, offsetof(fm_erase_config, column), NULL, 0, 0, NULL, NULL, "NAME",
     "column that says whose row it is, such as patient_id"},
    {"anywhere", FM_OPT_BOOL, offsetof(fm_erase_config, anywhere), "false", 0, 0, NULL, NULL, NULL,
     "also rows that name the subject in any text, as a whole word"},
    {"subject_file", FM_OPT_STR, offsetof(fm_erase_config, subject_file), NULL, 0, 0, NULL, NULL, "FILE",
     "file that holds the subject on one line; - is stdin (a command line is seen by others)"},
    {"subject", FM_OPT_STR, offsetof(fm_erase_config, subject), NULL, 0, 0, NULL, NULL, "TEXT", "the subject itself"},
    {"key_file", FM_OPT_STR, offsetof(fm_erase_config, key_file), NULL, 0, 0, NULL, NULL, "FILE",
     "key of the hash that the manifest keeps, 16 bytes or more; keep it away from the data"},
    {"search", FM_OPT_LIST, offsetof(fm_erase_config, search), NULL, 0, 0, NULL, NULL, "DIRS",
     "where to look for datasets and shards made from this one; default: the folder the dataset is in"},
    {"dry_run", FM_OPT_BOOL, offsetof(fm_erase_config, dry_run), "false", 0, 0, NULL, NULL, NULL,
     "count and list, change nothing"},
    {0},
};

const fm_option *fm_erase_options(void) {
    return table;
}

typedef struct erase {
    const fm_erase_config *c;
    const char *dataset;
    char dir[4096], work[4200];
    fm_str subject;
    char hash[65];
    fm_json *manifest;       /* as it was, or a new one */
    fm_json *report, *files; /* files: of the report */
    int64_t rows, unreadable, rows_left;
    bool changed; /* some file is not what the manifest says, or will not be */
} erase;

static const char *word(const fm_json *o, const char *key) {
    const char *s = fm_json_str(fm_json_get(o, key), NULL);
    return s ? s : "";
}

/* ---- the step --------------------------------------------------------------------------------- */

static bool word_byte(char c) {
    unsigned char u = (unsigned char)c;
    return (u >= '0' && u <= '9') || (u >= 'A' && u <= 'Z') || (u >= 'a' && u <= 'z');
}

/* The subject with no letter or digit beside it that would make it a part of another word. */
static bool names_subject(fm_sv text, const fm_str *subject) {
    const char *p = text.ptr, *end = text.ptr + text.len;
    while (p && (size_t)(end - p) >= subject->len) {
        p = memmem(p, (size_t)(end - p), subject->data, subject->len);
        if (!p) {
            return false;
        }
        const char *q = p + subject->len;
        bool before = p > text.ptr && word_byte(p[-1]) && word_byte(*p);
        bool after = q < end && word_byte(*q) && word_byte(q[-1]);
        if (!before && !after) {
            return true;
        }
        p++;
    }
    return false;
}

static bool is_subjects(const erase *e, const fm_rec *r) {
    const fm_cell *c = e->c->column ? fm_rec_get(r, e->c->column) : NULL;
    if (c && c->text.len == e->subject.len && memcmp(c->text.ptr, e->subject.data, c->text.len) == 0) {
        return true;
    }
    for (size_t i = 0; e->c->anywhere && i < r->n; i++) {
        if (r->cell[i].kind != FM_CELL_NULL && names_subject(r->cell[i].text, &e->subject)) {
            return true;
        }
    }
    return false;
}

typedef struct erase_options {
    const erase *e;
} erase_options;

/* Rejects files keep the row that was refused as JSON in the column row. */
static fm_status erase_row(fm_step_ctx *x, fm_rec *r) {
    const erase *e = ((const erase_options *)x->step->opt)->e;
    bool found = is_subjects(e, r);
    const fm_cell *inner = found ? NULL : fm_rec_get(r, "row");
    if (inner && inner->kind == FM_CELL_JSON && inner->text.len && *inner->text.ptr == '{' && fm_rec_get(r, "reason")) {
        fm_rec *refused;
        FM_TRY(fm_rec_new(x->arena, &refused, NULL));
        fm_status s = fm_rec_parse_json(x->arena, refused, inner->text.ptr, inner->text.len);
        if (s == FM_ERR_NO_MEMORY) {
            return s;
        }
        fm_error_clear();
        found = s == FM_OK && is_subjects(e, refused);
    }
    return found ? fm_step_drop(x, r, "erased", NULL) : FM_OK;
}

static const fm_step_def erase_step = {.name = "erase", .help = "leaves out the rows of one subject", .row = erase_row};

/* ---- one file --------------------------------------------------------------------------------- */

static fm_status set_option(fm_data_job *j, const char *key, const char *value) {
    return fm_options_append(fm_data_job_object(j), fm_data_job_options(j), key, value, "data erase");
}

static int64_t total(const fm_json *t, const char *key) {
    return fm_json_int(fm_json_get(t, key), 0);
}

static fm_status run_job(erase *e, const char *path, const char *target, fm_json **result) {
    fm_data_job *j = NULL;
    erase_options opt = {e};
    fm_data_report r = {.size = sizeof r};
    char *json = NULL;
    FM_TRY(fm_data_job_step(&j, NULL));
    fm_status s = set_option(j, "input", path);
    s = s == FM_OK ? set_option(j, "output", target) : s;
    s = s == FM_OK ? set_option(j, "overwrite", "true") : s;
    void *p = NULL;
    s = s == FM_OK ? fm_grow(&p, &j->steps_cap, 1, sizeof *j->step) : s;
    if (s == FM_OK) {
        j->step = p;
        j->step[0] = (fm_step){.def = &erase_step, .opt = &opt};
        j->n_steps = 1;
        s = fm_data_run(&r, &json, j);
    }
    s = s == FM_OK ? fm_json_parse(result, json, strlen(json), "result") : s;
    fm_string_free(json);
    fm_data_job_free(j);
    return s;
}

static fm_status erase_file(erase *e, const char *path, int64_t *rows_left) {
    char target[8400];
    const char *base = strrchr(path, '/');
    fm_json *result = NULL;
    int k = snprintf(target, sizeof target, "%s/%s", e->work, base ? base + 1 : path);
    if (k < 0 || (size_t)k >= sizeof target) {
        FM_FAIL(FM_ERR_ARGUMENT, "the path is too long: '%.60s...'", path);
    }
    FM_TRY(fm_mkdirs(e->work));
    FM_TRY(run_job(e, path, target, &result));
    const fm_json *read = fm_json_get(result, "read");
    const fm_json *step = fm_json_get(fm_json_at(fm_json_get(result, "steps"), 0), "result");
    int64_t gone = total(step, "dropped"), bad = total(read, "dropped");
    *rows_left = total(step, "rows_out");
    fm_json_free(result);
    e->rows += gone;
    e->unreadable += bad;
    e->changed = e->changed || gone > 0;
    fm_json *f = fm_json_new_object();
    FM_TRY(fm_json_append(e->files, f));
    FM_TRY(fm_json_set(f, "file", fm_json_new_str(path)));
    FM_TRY(fm_json_set(f, "rows", fm_json_new_int(gone)));
    return fm_json_set(f, "unreadable", fm_json_new_int(bad));
}

/* ---- all of them ------------------------------------------------------------------------------ */

static fm_status read_subject(erase *e) {
    const fm_erase_config *c = e->c;
    if ((c->subject != NULL) == (c->subject_file != NULL)) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "expected one of subject_file and subject");
        return fm_error_hint("printf 4711 | fathom data erase DATA --column id --subject-file - --key-file KEY");
    }
    if (!c->column && !c->anywhere) {
        FM_FAIL(FM_ERR_CONFIG, "neither column nor anywhere says which rows are the subject's");
    }
    if (!c->key_file) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "the record of an erasure needs a key");
        return fm_error_hint("head -c 32 /dev/urandom | base64 > KEY, then --key-file KEY");
    }
    if (c->subject) {
        fm_str_puts(&e->subject, c->subject);
    } else {
        char *data;
        size_t n;
        FM_TRY(fm_file_read(&data, &n, strcmp(c->subject_file, "-") == 0 ? "/dev/stdin" : c->subject_file, 1 << 16));
        while (n && (data[n - 1] == '\n' || data[n - 1] == '\r')) {
            n--;
        }
        fm_str_append(&e->subject, data, n);
        memset(data, 0, n);
        fm_free(data);
    }
    FM_TRY(fm_str_check(&e->subject));
    if (e->subject.len == 0) {
        FM_FAIL(FM_ERR_CONFIG, "the subject is empty");
    }
    fm_keyed key;
    FM_TRY(fm_keyed_load(&key, c->key_file));
    fm_keyed_hex(&key, "subject", e->subject.data, e->subject.len, e->hash);
    memset(&key, 0, sizeof key);
    return FM_OK;
}

/* The list `output` of the manifest; of a dataset without one, itself. */
static fm_status find_files(erase *e) {
    const char *slash = strrchr(e->dataset, '/');
    bool folder = fm_path_is_dir(e->dataset);
    int n = folder ? (int)strlen(e->dataset) : slash ? (int)(slash - e->dataset) + (slash == e->dataset) : 1;
    snprintf(e->dir, sizeof e->dir, "%.*s", n, folder || slash ? e->dataset : ".");
    snprintf(e->work, sizeof e->work, "%s/%s", e->dir, WORK_DIR);
    FM_TRY(fm_manifest_of(&e->manifest, e->dataset));
    if (e->manifest) {
        return FM_OK;
    }
    if (folder || !fm_path_exists(e->dataset)) {
        fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "'%s' is no file, nor a folder with a manifest.json",
                     e->dataset);
        return fm_error_hint("of a folder of other files, erase from each of them");
    }
    e->manifest = fm_json_new_object();
    FM_TRY(fm_manifest_begin(e->manifest));
    fm_json *list, *f;
    FM_TRY(fm_json_set(e->manifest, "output", list = fm_json_new_array()));
    FM_TRY(fm_json_append(list, f = fm_json_new_object()));
    char hash[33];
    FM_TRY(fm_file_hash(hash, e->dataset));
    FM_TRY(fm_json_set(f, "file", fm_json_new_str(slash ? slash + 1 : e->dataset)));
    return fm_json_set(f, "hash", fm_json_new_str(hash));
}

/* fn for each data file of the dataset, then for its rejects file (no entry). */
typedef fm_status (*file_fn)(erase *e, const char *path, fm_json *output);

static fm_status each_file(erase *e, file_fn fn) {
    char path[4096];
    const fm_json *list = fm_json_get(e->manifest, "output");
    for (size_t i = 0; i < fm_json_size(list); i++) {
        FM_TRY(fm_path_join(path, sizeof path, e->dir, word(fm_json_at(list, i), "file")));
        FM_TRY(fn(e, path, fm_json_at(list, i)));
    }
    const char *rejects = word(e->manifest, "rejects");
    return *rejects && fm_path_exists(rejects) ? fn(e, rejects, NULL) : FM_OK;
}

static fm_status write_new(erase *e, const char *path, fm_json *output) {
    int64_t left = 0;
    if (output) {
        char hash[33];
        FM_TRY(fm_file_hash(hash, path));
        e->changed = e->changed || strcmp(hash, word(output, "hash")) != 0;
    }
    FM_TRY(erase_file(e, path, &left));
    e->rows_left += output ? left : 0;
    return output ? fm_json_set(output, "rows", fm_json_new_int(left)) : FM_OK;
}

static fm_status put_in_place(erase *e, const char *path, fm_json *output) {
    char from[8400], hash[33];
    const char *base = strrchr(path, '/');
    snprintf(from, sizeof from, "%s/%s", e->work, base ? base + 1 : path);
    FM_TRY(fm_sync_path(from));
    FM_TRY(fm_file_hash(hash, from));
    fm_crash_point("erase.rename");
    if (rename(from, path) != 0) {
        FM_FAIL(FM_ERR_IO, "cannot replace '%s'", path);
    }
    if (output) {
        FM_TRY(fm_json_set(output, "bytes", fm_json_new_int(fm_file_size(path))));
        FM_TRY(fm_json_set(output, "hash", fm_json_new_str(hash)));
    }
    return FM_OK;
}

static fm_status record(erase *e) {
    fm_json *list = fm_json_get(e->manifest, "erasures");
    if (!fm_json_is_array(list)) {
        list = fm_json_new_array();
        FM_TRY(fm_json_set(e->manifest, "erasures", list));
    }
    fm_json *entry = fm_json_new_object();
    FM_TRY(fm_json_append(list, entry));
    FM_TRY(fm_manifest_begin(entry));
    fm_json_remove(entry, "format");
    fm_json_remove(entry, "version");
    FM_TRY(fm_json_set(entry, "subject", fm_json_new_str(e->hash)));
    FM_TRY(fm_json_set(entry, "hash", fm_json_new_str("hmac-sha256")));
    FM_TRY(fm_json_set(entry, "column", e->c->column ? fm_json_new_str(e->c->column) : fm_json_new_null()));
    FM_TRY(fm_json_set(entry, "anywhere", fm_json_new_bool(e->c->anywhere)));
    FM_TRY(fm_json_set(entry, "rows", fm_json_new_int(e->rows)));
    FM_TRY(fm_manifest_rehash(e->manifest, e->rows_left));
    return fm_manifest_write(e->dataset, e->manifest);
}

/* ---- what was made from it -------------------------------------------------------------------- */

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

/* Does the list of files of a packed dataset name one of ours? */
static bool lists_file(const erase *e, const fm_json *shards, const char *key, const char *member) {
    const fm_json *files = fm_json_get(shards, key), *ours = fm_json_get(e->manifest, "output");
    bool found = false;
    for (size_t i = 0; i < fm_json_size(files) && !found; i++) {
        const fm_json *f = fm_json_at(files, i);
        const char *path = member ? word(f, member) : fm_json_str(f, NULL);
        char *real = path ? realpath(path, NULL) : NULL; /* of libc, which frees it too */
        for (size_t k = 0; k < fm_json_size(ours) && real && !found; k++) {
            char own[4096];
            char *mine = fm_path_join(own, sizeof own, e->dir, word(fm_json_at(ours, k), "file")) == FM_OK
                             ? realpath(own, NULL)
                             : NULL;
            found = mine && strcmp(mine, real) == 0;
            free(mine);
        }
        free(real);
    }
    return found;
}

static bool made_from_us(const erase *e, const fm_json *doc) {
    const fm_json *ours = fm_json_get(e->manifest, "output");
    for (size_t i = 0; i < fm_json_size(ours); i++) {
        const char *hash = word(fm_json_at(ours, i), "hash");
        if (*hash && fm_json_mentions(fm_json_get(doc, "inputs"), hash)) {
            return true;
        }
    }
    return lists_file(e, doc, "inputs", "file") || lists_file(e, doc, "files", NULL);
}

static fm_status look_at(erase *e, fm_json *derived, const char *path, bool shards) {
    fm_json *doc = NULL;
    if (fm_file_size(path) > MANIFEST_MAX || fm_json_load(&doc, path) != FM_OK) {
        fm_error_clear(); /* not one of ours */
        return FM_OK;
    }
    fm_status s = FM_OK;
    bool ours = strcmp(word(doc, "format"), "fathom-data") == 0 || shards;
    if (fm_json_is_object(doc) && ours && made_from_us(e, doc)) {
        fm_json *d = fm_json_new_object();
        s = fm_json_append(derived, d);
        s = s == FM_OK ? fm_json_set(d, "path", fm_json_new_str(path)) : s;
        s = s == FM_OK ? fm_json_set(d, "kind", fm_json_new_str(shards ? "shards" : "dataset")) : s;
        bool done = fm_json_mentions(fm_json_get(doc, "erasures"), e->hash);
        s = s == FM_OK ? fm_json_set(d, "erased", fm_json_new_bool(done)) : s;
    }
    fm_json_free(doc);
    return s;
}

static fm_status search(erase *e, fm_json *derived, const char *dir, int depth) {
    char **names, path[4096];
    size_t n;
    FM_TRY(fm_dir_list(&names, &n, dir));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        if (names[i][0] == '.' || fm_path_join(path, sizeof path, dir, names[i]) != FM_OK) {
            fm_error_clear();
            continue;
        }
        bool shards = strcmp(names[i], "dataset.json") == 0;
        if (fm_path_is_dir(path)) {
            s = depth < 8 ? search(e, derived, path, depth + 1) : FM_OK;
        } else if (shards || ends_with(names[i], "manifest.json")) {
            s = look_at(e, derived, path, shards);
        }
    }
    fm_names_free(names, n);
    if (s == FM_OK && fm_cancelled()) {
        FM_FAIL(FM_ERR_CANCELLED, "interrupted while looking for what was made from '%s'", e->dataset);
    }
    return s;
}

static fm_status find_derived(erase *e) {
    fm_json *derived, *sources;
    FM_TRY(fm_json_set(e->report, "derived", derived = fm_json_new_array()));
    FM_TRY(fm_json_set(e->report, "sources", sources = fm_json_new_array()));
    const fm_json *inputs = fm_json_get(e->manifest, "inputs");
    for (size_t i = 0; i < fm_json_size(inputs); i++) {
        FM_TRY(fm_json_append(sources, fm_json_new_str(word(fm_json_at(inputs, i), "file"))));
    }
    for (size_t i = 0; i < e->c->search.n; i++) {
        FM_TRY(search(e, derived, e->c->search.item[i], 0));
    }
    if (e->c->search.n > 0) {
        return FM_OK;
    }
    char parent[4200];
    snprintf(parent, sizeof parent, "%s%s", e->dir, fm_path_is_dir(e->dataset) ? "/.." : "");
    return search(e, derived, parent, 0);
}

static fm_status all(erase *e) {
    FM_TRY(read_subject(e));
    FM_TRY(find_files(e));
    e->report = fm_json_new_object();
    e->files = fm_json_new_array();
    FM_TRY(fm_json_set(e->report, "files", e->files));
    FM_TRY(fm_json_set(e->report, "dataset", fm_json_new_str(e->dataset)));
    FM_TRY(fm_json_set(e->report, "subject", fm_json_new_str(e->hash)));
    FM_TRY(find_derived(e)); /* by the hashes before they change */
    FM_TRY(each_file(e, write_new));
    FM_TRY(fm_json_set(e->report, "rows", fm_json_new_int(e->rows)));
    FM_TRY(fm_json_set(e->report, "rows_left", fm_json_new_int(e->rows_left)));
    FM_TRY(fm_json_set(e->report, "unreadable", fm_json_new_int(e->unreadable)));
    FM_TRY(fm_json_set(e->report, "written", fm_json_new_bool(e->changed && !e->c->dry_run)));
    if (!e->changed || e->c->dry_run) {
        return FM_OK;
    }
    FM_TRY(each_file(e, put_in_place));
    return record(e);
}

fm_status fm_data_erase(char **json, const char *dataset, const fm_erase_config *c) {
    *json = NULL;
    erase *e = fm_calloc(1, sizeof *e);
    if (!e) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an erasure");
    }
    e->c = c;
    e->dataset = dataset;
    fm_str text = {0};
    fm_status s = all(e);
    s = s == FM_OK ? fm_json_dump(&text, e->report, 0) : s;
    s = s == FM_OK ? fm_str_check(&text) : s;
    *json = s == FM_OK ? fm_str_take(&text) : NULL;
    fm_str_free(&text);
    fm_error_record error;
    fm_error_save(&error);
    if (*e->work && fm_path_exists(e->work) && fm_remove_tree(e->work) != FM_OK) {
        fm_warn("the folder '%s' could not be removed", e->work);
    }
    fm_error_restore(&error);
    fm_json_free(e->report);
    fm_json_free(e->manifest);
    if (e->subject.data) {
        memset(e->subject.data, 0, e->subject.len);
    }
    fm_str_free(&e->subject);
    fm_free(e);
    return s;
}

/* ---- for people ------------------------------------------------------------------------------- */

fm_status fm_data_erase_text(char **out, const char *json) {
    fm_json *o;
    fm_str s = {0};
    *out = NULL;
    FM_TRY(fm_json_parse(&o, json, strlen(json), "erasure"));
    const fm_json *sources = fm_json_get(o, "sources"), *derived = fm_json_get(o, "derived");
    fm_str_printf(&s, "%s: %lld rows %s, %lld are left\n", word(o, "dataset"), (long long)total(o, "rows"),
                  fm_json_bool(fm_json_get(o, "written"), false) ? "erased" : "found, nothing was changed",
                  (long long)total(o, "rows_left"));
    if (total(o, "unreadable") > 0) {
        fm_str_printf(&s, "warning: %lld rows could not be read; they are not in the files any more either\n",
                      (long long)total(o, "unreadable"));
    }
    for (size_t i = 0; i < fm_json_size(derived); i++) {
        const fm_json *d = fm_json_at(derived, i);
        bool shards = strcmp(word(d, "kind"), "shards") == 0;
        fm_str_printf(&s, "made from it: %s (%s)\n", word(d, "path"),
                      fm_json_bool(fm_json_get(d, "erased"), false) ? "erased there too"
                      : shards                                      ? "to be packed again"
                                                                    : "to be erased or made again");
    }
    for (size_t i = 0; i < fm_json_size(sources); i++) {
        fm_str_printf(&s, "it was made from: %s (may hold the rows)\n", fm_json_str(fm_json_at(sources, i), NULL));
    }
    fm_json_free(o);
    fm_status st = fm_str_check(&s);
    *out = st == FM_OK ? fm_str_take(&s) : NULL;
    fm_str_free(&s);
    return st;
}
