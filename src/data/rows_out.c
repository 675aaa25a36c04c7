/* See rows_out.h. */
#include "data/rows_out.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "data/manifest.h"

fm_status fm_rows_out_open(fm_rows_out *w, const char *path, bool overwrite) {
    *w = (fm_rows_out){.path = path};
    if (!path) {
        FM_FAIL(FM_ERR_CONFIG, "no output is named (-o FILE.jsonl)");
    }
    if (fm_out_needs_columns(path, NULL) || fm_out_is_folder(path) || strcmp(path, "-") == 0) {
        FM_FAIL(FM_ERR_CONFIG, "'%s' is no JSONL file: expected .jsonl, .jsonl.gz or .jsonl.zst", path);
    }
    fm_out_options o = {.path = path, .overwrite = overwrite};
    return fm_out_new(&w->out, &o);
}

fm_status fm_rows_out_flush(fm_rows_out *w, size_t at_least) {
    if (w->batch.n < at_least) {
        return FM_OK;
    }
    for (size_t i = 0; i < w->batch.n; i++) {
        w->n_rows += !w->batch.rec[i]->drop;
    }
    FM_TRY(fm_out_encode(w->out, &w->batch, &w->pieces));
    FM_TRY(fm_out_write(w->out, &w->batch, &w->pieces));
    fm_recs_reset(&w->batch);
    return FM_OK;
}

fm_status fm_rows_out_copy(fm_rows_out *w, fm_rec **out, const fm_rec *row) {
    fm_str json = {0};
    fm_rec_put_json(&json, row);
    fm_status s = fm_str_check(&json);
    char *keep = s == FM_OK ? fm_bump_copy(&w->batch.arena, json.data, json.len) : NULL;
    size_t n = json.len;
    fm_str_free(&json);
    if (!keep) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a row");
    }
    FM_TRY(fm_recs_add(&w->batch, out));
    return fm_rec_parse_json(&w->batch.arena, *out, keep, n);
}

fm_status fm_rows_out_finish(fm_rows_out *w, fm_json *doc, fm_str *text) {
    char path[4096];
    fm_json *files = NULL;
    fm_str own = {0};
    FM_TRY(fm_rows_out_flush(w, 0));
    fm_status done = fm_out_finish(w->out, &files);
    if (done != FM_OK) {
        fm_json_free(files);
        return done;
    }
    FM_TRY(fm_json_set(doc, "output", files));
    FM_TRY(fm_manifest_begin(doc));
    FM_TRY(fm_json_set(doc, "rows", fm_json_new_int(w->n_rows)));
    int k = snprintf(path, sizeof path, "%s.manifest.json", w->path);
    if (k < 0 || (size_t)k >= sizeof path) {
        FM_FAIL(FM_ERR_ARGUMENT, "the output path is too long: '%.60s...'", w->path);
    }
    text = text ? text : &own;
    fm_status s = fm_json_dump(text, doc, 2);
    fm_str_putc(text, '\n');
    s = s == FM_OK ? fm_str_check(text) : s;
    s = s == FM_OK ? fm_file_write_atomic(path, text->data, text->len) : s;
    fm_str_free(&own);
    return s;
}

void fm_rows_out_close(fm_rows_out *w) {
    fm_out_pieces_free(&w->pieces);
    fm_recs_free(&w->batch);
    fm_out_free(w->out, true);
    *w = (fm_rows_out){0};
}

fm_status fm_files_json(fm_json *list, const char *const *path, size_t n) {
    for (size_t i = 0; i < n; i++) {
        fm_json *e = fm_json_new_object();
        FM_TRY(fm_json_append(list, e));
        FM_TRY(fm_json_set(e, "file", fm_json_new_str(path[i])));
        if (fm_path_exists(path[i]) && !fm_path_is_dir(path[i])) {
            char hash[33];
            FM_TRY(fm_file_hash(hash, path[i]));
            FM_TRY(fm_json_set(e, "hash", fm_json_new_str(hash)));
        }
    }
    return FM_OK;
}

fm_status fm_tallies_json(fm_json *into, const char *key, const fm_tallies *t) {
    fm_json *o = fm_json_new_object();
    FM_TRY(fm_json_set(into, key, o));
    for (size_t i = 0; i < t->n; i++) {
        FM_TRY(fm_json_set(o, t->item[i].name, fm_json_new_int(t->item[i].n)));
    }
    return FM_OK;
}
