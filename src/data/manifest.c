/* The manifest of a dataset: what it was made of, by which steps, with which counts. The manifests of the inputs are
 * carried along inside it, so that a dataset knows its whole history. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/manifest.h"
#include "data/run.h"

/* The manifest beside an input file or in its folder, or NULL. */
static fm_status manifest_of(fm_json **out, const char *path, bool with_folder) {
    char name[4096];
    *out = NULL;
    int k = snprintf(name, sizeof name, "%s.manifest.json", path);
    if (k > 0 && (size_t)k < sizeof name && fm_path_exists(name)) {
        return fm_json_load(out, name);
    }
    if (!with_folder) {
        return FM_OK;
    }
    const char *slash = strrchr(path, '/');
    k = snprintf(name, sizeof name, "%.*smanifest.json", slash ? (int)(slash - path + 1) : 0, path);
    if (k > 0 && (size_t)k < sizeof name && fm_path_exists(name)) {
        FM_TRY(fm_json_load(out, name));
        const char *format = NULL;
        if (!fm_json_is_object(*out) || fm_json_get_str(&format, *out, "format", "") != FM_OK ||
            strcmp(format, "fathom-data") != 0) {
            fm_json_free(*out);
            *out = NULL;
        }
    }
    return FM_OK;
}

fm_status fm_manifest_input(fm_json *e, const char *path, bool with_folder) {
    char hash[33];
    fm_json *from = NULL;
    FM_TRY(fm_file_hash(hash, path));
    FM_TRY(fm_json_set(e, "bytes", fm_json_new_int(fm_file_size(path))));
    FM_TRY(fm_json_set(e, "hash", fm_json_new_str(hash)));
    FM_TRY(manifest_of(&from, path, with_folder));
    return from ? fm_json_set(e, "from", from) : FM_OK;
}

/* One hash over the names and hashes of the output files. */
static fm_status content_hash(char hash[33], const fm_json *files) {
    fm_hasher *h;
    FM_TRY(fm_hasher_new(&h));
    for (size_t i = 0; i < fm_json_size(files); i++) {
        static const char *const keys[] = {"file", "hash"};
        for (size_t k = 0; k < FM_ARRAY_LEN(keys); k++) {
            const char *v = fm_json_str(fm_json_get(fm_json_at(files, i), keys[k]), NULL);
            fm_hasher_update(h, v ? v : "", v ? strlen(v) + 1 : 1);
        }
    }
    fm_hasher_hex(h, hash);
    fm_hasher_free(h);
    return FM_OK;
}

fm_status fm_manifest_rehash(fm_json *doc, int64_t rows) {
    char hash[33];
    FM_TRY(content_hash(hash, fm_json_get(doc, "output")));
    FM_TRY(fm_json_set(doc, "hash", fm_json_new_str(hash)));
    return fm_json_set(doc, "rows", fm_json_new_int(rows));
}

fm_status fm_manifest_outputs(fm_json *doc, fm_json *files_take, int64_t rows) {
    FM_TRY(fm_json_set(doc, "output", files_take));
    return fm_manifest_rehash(doc, rows);
}

fm_status fm_manifest_begin(fm_json *doc) {
    char when[32];
    FM_TRY(fm_json_set(doc, "format", fm_json_new_str("fathom-data")));
    FM_TRY(fm_json_set(doc, "version", fm_json_new_int(1)));
    FM_TRY(fm_json_set(doc, "program", fm_json_new_str("fathom " FATHOM_VERSION)));
    return fm_json_set(doc, "made", fm_json_new_str(fm_format_utc(when, sizeof when, fm_unix_ms())));
}

static fm_status input_json(fm_json *list, const fm_run *r, size_t i, bool first_of_dir) {
    const fm_job_file *f = &r->job->file[i];
    const fm_job_input *in = &r->job->input[f->input];
    fm_json *e = fm_json_new_object();
    FM_TRY(fm_json_append(list, e));
    FM_TRY(fm_json_set(e, "file", fm_json_new_str(f->path)));
    FM_TRY(fm_json_set(e, "format", fm_json_new_str(f->reader->name)));
    if (in->name) {
        FM_TRY(fm_json_set(e, "name", fm_json_new_str(in->name)));
    }
    if (in->licence) {
        FM_TRY(fm_json_set(e, "licence", fm_json_new_str(in->licence)));
    }
    if (in->source) {
        FM_TRY(fm_json_set(e, "source", fm_json_new_str(in->source)));
    }
    if (f->bytes >= 0 && !fm_path_is_dir(f->path)) {
        FM_TRY(fm_manifest_input(e, f->path, first_of_dir));
    }
    return FM_OK;
}

static bool same_dir(const char *a, const char *b) {
    const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
    size_t n = x ? (size_t)(x - a) : 0, m = y ? (size_t)(y - b) : 0;
    return n == m && memcmp(a, b, n) == 0;
}

static fm_status fill(fm_json *doc, const fm_run *r) {
    FM_TRY(fm_manifest_begin(doc));
    FM_TRY(fm_json_set(doc, "seed", fm_json_new_int(r->job->o->seed)));
    if (r->job->o->rejects) {
        FM_TRY(fm_json_set(doc, "rejects", fm_json_new_str(r->job->o->rejects)));
    }
    fm_json *inputs = fm_json_new_array(), *steps, *v = NULL;
    FM_TRY(fm_json_set(doc, "inputs", inputs));
    for (size_t i = 0; i < r->job->n_files; i++) {
        FM_TRY(input_json(inputs, r, i, i == 0 || !same_dir(r->job->file[i].path, r->job->file[i - 1].path)));
    }
    fm_status s = fm_total_json(&v, &r->read);
    FM_TRY(s == FM_OK ? fm_json_set(doc, "read", v) : (fm_json_free(v), s));
    steps = fm_json_new_array();
    FM_TRY(fm_json_set(doc, "steps", steps));
    for (size_t i = 0; i < r->job->n_steps; i++) {
        fm_json *e = NULL;
        s = fm_job_describe_step(&e, &r->step[i]);
        FM_TRY(s == FM_OK ? fm_json_append(steps, e) : (fm_json_free(e), s));
        s = fm_total_json(&v, &r->total[i]);
        FM_TRY(s == FM_OK ? fm_json_set(e, "result", v) : (fm_json_free(v), s));
        if (r->step[i].def->report) {
            fm_str text = {0};
            s = r->step[i].def->report(&r->step[i], &text);
            if (s == FM_OK && text.len) {
                s = fm_json_parse(&v, text.data, text.len, "report");
                s = s == FM_OK ? fm_json_set(e, "report", v) : s;
            }
            fm_str_free(&text);
            FM_TRY(s);
        }
    }
    return FM_OK;
}

fm_status fm_manifest_make(fm_json **out, const fm_run *r, fm_json *files_take) {
    fm_json *doc = *out = fm_json_new_object();
    FM_TRY(fm_manifest_outputs(doc, files_take, r->rows_out));
    return fill(doc, r);
}

fm_status fm_manifest_write(const char *dataset, const fm_json *manifest) {
    char path[4096];
    fm_str text = {0};
    FM_TRY(fm_job_beside(path, sizeof path, dataset, "manifest.json"));
    fm_status s = fm_json_dump(&text, manifest, 2);
    fm_str_putc(&text, '\n');
    if (s == FM_OK) {
        s = fm_str_check(&text);
    }
    if (s == FM_OK) {
        s = fm_file_write_atomic(path, text.data, text.len);
    }
    fm_str_free(&text);
    return s;
}

typedef struct lines {
    fm_str *out;
    const char *mark;
} lines;

static fm_status put_count(void *arg, const char *key, fm_json *value) {
    const lines *l = arg;
    fm_str_printf(l->out, "    %s%s: %lld\n", l->mark, key, (long long)fm_json_int(value, 0));
    return FM_OK;
}

static fm_status put_total(fm_str *out, const char *name, const fm_json *t) {
    long long added = (long long)fm_json_int(fm_json_get(t, "added"), 0);
    fm_str_printf(out, "%-16s %lld -> %lld rows", name, (long long)fm_json_int(fm_json_get(t, "rows_in"), 0),
                  (long long)fm_json_int(fm_json_get(t, "rows_out"), 0));
    if (added) {
        fm_str_printf(out, ", %lld of them new", added);
    }
    fm_str_puts(out, "\n");
    lines dropped = {out, "- "}, counted = {out, "  "};
    if (fm_json_is_object(fm_json_get(t, "reasons"))) {
        FM_TRY(fm_json_each(fm_json_get(t, "reasons"), put_count, &dropped));
    }
    return fm_json_is_object(fm_json_get(t, "counts")) ? fm_json_each(fm_json_get(t, "counts"), put_count, &counted)
                                                       : FM_OK;
}

fm_status fm_data_manifest_text(char **out, const char *manifest_json) {
    fm_json *doc;
    fm_str s = {0};
    *out = NULL;
    FM_TRY(fm_json_parse(&doc, manifest_json, strlen(manifest_json), "manifest"));
    fm_status st = put_total(&s, "read", fm_json_get(doc, "read"));
    const fm_json *steps = fm_json_get(doc, "steps");
    for (size_t i = 0; st == FM_OK && i < fm_json_size(steps); i++) {
        const char *name;
        const fm_json *e = fm_json_at(steps, i);
        st = fm_json_get_str(&name, e, "name", "?");
        if (st == FM_OK) {
            st = put_total(&s, name, fm_json_get(e, "result"));
        }
    }
    fm_json_free(doc);
    if (st == FM_OK) {
        st = fm_str_check(&s);
    }
    if (st == FM_OK) {
        *out = fm_str_take(&s);
    }
    fm_str_free(&s);
    return st;
}
