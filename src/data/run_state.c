/* The state of an interrupted run: how far the input was done, the lengths of the output files, the counts. Written to
 * disk after the output, so that what it promises is there. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/run.h"

static fm_status tallies_json(fm_json **out, const fm_tallies *t) {
    *out = fm_json_new_object();
    for (size_t i = 0; i < t->n; i++) {
        if (t->item[i].n) {
            FM_TRY(fm_json_set(*out, t->item[i].name, fm_json_new_int(t->item[i].n)));
        }
    }
    return FM_OK;
}

fm_status fm_total_json(fm_json **out, const fm_step_total *t) {
    fm_json *e = *out = fm_json_new_object(), *list;
    FM_TRY(fm_json_set(e, "rows_in", fm_json_new_int(t->in)));
    FM_TRY(fm_json_set(e, "rows_out", fm_json_new_int(t->out)));
    FM_TRY(fm_json_set(e, "dropped", fm_json_new_int(t->dropped)));
    FM_TRY(fm_json_set(e, "added", fm_json_new_int(t->emitted)));
    fm_status s = tallies_json(&list, &t->reasons);
    FM_TRY(s == FM_OK ? fm_json_set(e, "reasons", list) : (fm_json_free(list), s));
    s = tallies_json(&list, &t->counts);
    return s == FM_OK ? fm_json_set(e, "counts", list) : (fm_json_free(list), s);
}

typedef struct tally_sink {
    fm_tallies *t;
} tally_sink;

static fm_status take_tally(void *arg, const char *key, fm_json *value) {
    return fm_tally_add(((tally_sink *)arg)->t, key, fm_json_int(value, 0));
}

static fm_status load_total(fm_step_total *t, const fm_json *e) {
    t->in = fm_json_int(fm_json_get(e, "rows_in"), 0);
    t->out = fm_json_int(fm_json_get(e, "rows_out"), 0);
    t->dropped = fm_json_int(fm_json_get(e, "dropped"), 0);
    t->emitted = fm_json_int(fm_json_get(e, "added"), 0);
    tally_sink reasons = {&t->reasons}, counts = {&t->counts};
    FM_TRY(fm_json_each(fm_json_get(e, "reasons"), take_tally, &reasons));
    return fm_json_each(fm_json_get(e, "counts"), take_tally, &counts);
}

static fm_status fill(fm_run *r, fm_json *doc, size_t file, int64_t batch) {
    char print[24];
    fm_json *v = NULL;
    snprintf(print, sizeof print, "%016" PRIx64, r->fingerprint);
    FM_TRY(fm_json_set(doc, "format", fm_json_new_str("fathom-data-state")));
    FM_TRY(fm_json_set(doc, "version", fm_json_new_int(1)));
    FM_TRY(fm_json_set(doc, "job", fm_json_new_str(print)));
    FM_TRY(fm_json_set(doc, "file", fm_json_new_int((int64_t)file)));
    FM_TRY(fm_json_set(doc, "batch", fm_json_new_int(batch)));
    FM_TRY(fm_json_set(doc, "rows_out", fm_json_new_int(r->rows_out)));
    FM_TRY(fm_json_set(doc, "broken_files", fm_json_new_int(r->n_broken)));
    fm_status s = fm_out_state(r->out, &v);
    FM_TRY(s == FM_OK ? fm_json_set(doc, "output", v) : (fm_json_free(v), s));
    if (r->rejects) {
        s = fm_out_state(r->rejects, &v);
        FM_TRY(s == FM_OK ? fm_json_set(doc, "rejects", v) : (fm_json_free(v), s));
    }
    s = fm_total_json(&v, &r->read);
    FM_TRY(s == FM_OK ? fm_json_set(doc, "read", v) : (fm_json_free(v), s));
    fm_json *steps = fm_json_new_array();
    FM_TRY(fm_json_set(doc, "steps", steps));
    for (size_t i = 0; i < r->n_steps; i++) {
        s = fm_total_json(&v, &r->total[i]);
        FM_TRY(s == FM_OK ? fm_json_append(steps, v) : (fm_json_free(v), s));
    }
    return FM_OK;
}

fm_status fm_run_save(fm_run *r, size_t file, int64_t batch) {
    fm_json *doc = fm_json_new_object();
    fm_str text = {0};
    fm_status s = fill(r, doc, file, batch);
    if (s == FM_OK) {
        s = fm_json_dump(&text, doc, 1);
    }
    if (s == FM_OK) {
        s = fm_file_write_atomic(r->state_path, text.data, text.len);
    }
    fm_str_free(&text);
    fm_json_free(doc);
    return s;
}

static fm_status take(fm_run *r, const fm_json *doc, bool *resumed) {
    const char *print;
    char mine[24];
    snprintf(mine, sizeof mine, "%016" PRIx64, r->fingerprint);
    FM_TRY(fm_json_get_str(&print, doc, "job", ""));
    if (strcmp(print, mine) != 0 || fm_json_int(fm_json_get(doc, "version"), 0) != 1) {
        return FM_OK; /* of another job: this one begins anew */
    }
    r->start_file = (size_t)fm_json_int(fm_json_get(doc, "file"), 0);
    r->start_batch = fm_json_int(fm_json_get(doc, "batch"), 0);
    r->rows_out = fm_json_int(fm_json_get(doc, "rows_out"), 0);
    r->n_broken = fm_json_int(fm_json_get(doc, "broken_files"), 0);
    FM_TRY(fm_out_resume(r->out, fm_json_get(doc, "output")));
    if (r->rejects) {
        FM_TRY(fm_out_resume(r->rejects, fm_json_get(doc, "rejects")));
    }
    FM_TRY(load_total(&r->read, fm_json_get(doc, "read")));
    for (size_t i = 0; i < r->n_steps; i++) {
        FM_TRY(load_total(&r->total[i], fm_json_at(fm_json_get(doc, "steps"), i)));
    }
    *resumed = true;
    return FM_OK;
}

fm_status fm_run_load(fm_run *r, bool *resumed) {
    fm_json *doc;
    *resumed = false;
    if (!fm_path_exists(r->state_path)) {
        return FM_OK;
    }
    FM_TRY(fm_json_load(&doc, r->state_path));
    fm_status s = take(r, doc, resumed);
    fm_json_free(doc);
    return s;
}
