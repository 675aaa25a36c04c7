/* Files to rows. */
#include "eval/table.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/reader.h"
#include "fathom/log.h"

void fm_eval_table_free(fm_eval_table *t) {
    for (size_t i = 0; i < t->n_batches; i++) {
        fm_recs_free(t->batch[i]);
        fm_free(t->batch[i]);
    }
    fm_free(t->batch);
    fm_free(t->row);
    fm_bump_free(&t->names);
    *t = (fm_eval_table){0};
}

static fm_status name_columns(fm_rec *r, const char *path, const fm_table_options *o) {
    if (r->n != o->n_columns) {
        (void)fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s:%lld: %zu columns, expected %zu", path,
                           (long long)r->line, r->n, o->n_columns);
        return fm_error_hint("the file has no header line; key `columns` names its columns");
    }
    for (size_t i = 0; i < r->n; i++) {
        r->cell[i].name = o->columns[i];
    }
    return FM_OK;
}

static fm_status take_batch(fm_eval_table *t, fm_recs *b, const char *path, const char *subject,
                            const fm_table_options *o) {
    for (size_t i = 0; i < b->n; i++) {
        fm_rec *r = b->rec[i];
        if (r->drop) {
            FM_FAIL(FM_ERR_DATA, "%s:%lld: %s%s%s", path, (long long)r->line, r->drop, r->detail ? ": " : "",
                    r->detail ? r->detail : "");
        }
        if (o->columns) {
            FM_TRY(name_columns(r, path, o));
        }
        FM_TRY(fm_grow((void **)&t->row, &t->cap, t->n + 1, sizeof *t->row));
        t->row[t->n++] = (fm_eval_entry){r, path, subject, &b->arena};
    }
    return FM_OK;
}

/* The batch belongs to the table at once, so that a failure leaves nothing. */
static fm_status new_batch(fm_eval_table *t, fm_recs **out) {
    FM_TRY(fm_grow((void **)&t->batch, &t->cap_batches, t->n_batches + 1, sizeof *t->batch));
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for rows");
    }
    t->batch[t->n_batches++] = *out;
    return FM_OK;
}

static fm_status load_file(fm_eval_table *t, const char *path, const char *subject, const fm_table_options *o) {
    const fm_reader_def *def;
    fm_reader_options ro = {.text_column = "text",
                            .txt_unit = o->txt_unit,
                            .no_header = o->columns != NULL,
                            .max_row_bytes = (size_t)64 << 20};
    void *state = NULL;
    fm_sv name;
    FM_TRY(fm_reader_find(&def, o->format ? o->format : "auto", path));
    FM_TRY(fm_bump_sv(&t->names, &name, path, strlen(path)));
    fm_status s = def->open(&state, path, &ro);
    for (bool more = true; s == FM_OK && more;) {
        fm_recs *b = NULL;
        s = new_batch(t, &b);
        s = s == FM_OK ? def->next(state, b, &more) : s;
        if (s == FM_OK && def->parse && (b->raw.len > 0 || b->n_pieces > 0)) {
            s = def->parse(b, &ro);
        }
        s = s == FM_OK ? take_batch(t, b, name.ptr, subject, o) : s;
        if (s == FM_OK && fm_cancelled()) {
            s = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted while reading %s", path);
        }
    }
    def->close(state);
    return s;
}

/* "anatomy_test.csv.gz" -> "anatomy"; false when the name does not end so. split NULL: the name without suffixes. */
static bool stem_of(const char *name, const char *split, char *out, size_t cap) {
    const char *dot = strchr(name, '.');
    size_t n = dot ? (size_t)(dot - name) : strlen(name), k = split ? strlen(split) : 0;
    if (split && (n <= k + 1 || name[n - k - 1] != '_' || memcmp(name + n - k, split, k) != 0)) {
        return false;
    }
    n -= split ? k + 1 : 0;
    if (n == 0 || n >= cap) {
        return false;
    }
    memcpy(out, name, n);
    out[n] = '\0';
    return true;
}

static fm_status subject_name(fm_eval_table *t, const char **out, const char *stem, const fm_table_options *o) {
    fm_sv v;
    const char *known = o->subject ? o->subject(stem) : NULL;
    known = known ? known : stem;
    FM_TRY(fm_bump_sv(&t->names, &v, known, strlen(known) + 1));
    for (char *p = (char *)(uintptr_t)v.ptr; *p; p++) {
        *p = *p == '_' ? ' ' : *p;
    }
    *out = v.ptr;
    return FM_OK;
}

static fm_status load_dir(fm_eval_table *t, const char *dir, const char *split, const fm_table_options *o, size_t *n) {
    char **names;
    size_t n_names;
    fm_status s = fm_dir_list(&names, &n_names, dir);
    FM_TRY(s);
    for (size_t i = 0; i < n_names && s == FM_OK; i++) {
        char path[4096], stem[256];
        s = fm_path_join(path, sizeof path, dir, names[i]);
        if (s == FM_OK && !fm_path_is_dir(path) && fm_reader_knows(path) &&
            stem_of(names[i], split, stem, sizeof stem)) {
            const char *subject = "";
            s = subject_name(t, &subject, stem, o);
            s = s == FM_OK ? load_file(t, path, subject, o) : s;
            (*n)++;
        }
    }
    fm_names_free(names, n_names);
    return s;
}

fm_status fm_eval_table_load(fm_eval_table *t, const char *path, const fm_table_options *o) {
    size_t n = 0;
    if (!fm_path_is_dir(path)) {
        if (strcmp(path, "-") != 0 && !fm_path_exists(path)) {
            FM_FAIL(FM_ERR_NOT_FOUND, "there is no file or folder %s", path);
        }
        return load_file(t, path, "", o);
    }
    if (o->split) {
        char sub[4096];
        FM_TRY(fm_path_join(sub, sizeof sub, path, o->split));
        FM_TRY(load_dir(t, fm_path_is_dir(sub) ? sub : path, o->split, o, &n));
    } else {
        FM_TRY(load_dir(t, path, NULL, o, &n));
    }
    if (n == 0) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s: the folder has no data files%s%s", path,
                           o->split ? " of the part " : "", o->split ? o->split : "");
        return fm_error_hint("files are looked for as %s/SUBJECT_%s.csv (or .jsonl, .tsv, packed or not)",
                             o->split ? o->split : ".", o->split ? o->split : "test");
    }
    return FM_OK;
}
