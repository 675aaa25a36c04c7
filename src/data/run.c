/* A data run: the plan of passes, and what is made ready before and put away after them.
 *
 * Whole-set steps cut the pipeline: rows up to such a step go to a temporary file while it observes them, and the next
 * pass reads them from there. An output format with a header (CSV) is such a step too when its columns were not named.
 */
#include "data/run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/option_row.h"
#include "data/manifest.h"
#include "data/out_parquet.h"

static bool is_whole(const fm_step_def *d) {
    return d->observe || d->resolve || d->apply || d->tail;
}

/* ---- columns of the output: the frame's own whole-set step ------------------------------------ */

typedef struct columns {
    char **name;
    unsigned *kinds; /* [n] of cells */
    size_t n, cap, kinds_cap;
} columns;

static fm_status columns_open(fm_step *s) {
    s->state = fm_calloc(1, sizeof(columns));
    if (!s->state) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a list of columns");
    }
    return FM_OK;
}

static void columns_close(fm_step *s) {
    columns *c = s->state;
    if (c) {
        fm_names_free(c->name, c->n);
        fm_free(c->kinds);
        fm_free(c);
        s->state = NULL;
    }
}

static fm_status columns_observe(fm_step_ctx *x, fm_rec *r) {
    columns *c = x->step->state;
    for (size_t i = 0; i < r->n; i++) {
        size_t at = i < c->n && fm_sv_eq(r->cell[i].name, c->name[i]) ? i : 0;
        while (at < c->n && !fm_sv_eq(r->cell[i].name, c->name[at])) {
            at++;
        }
        if (at < c->n) {
            c->kinds[at] |= fm_cells_kind(&r->cell[i]);
            continue;
        }
        if (memchr(r->cell[i].name.ptr, 0, r->cell[i].name.len)) {
            FM_FAIL(FM_ERR_DATA, "a column name holds a NUL character: it cannot be written as CSV or Parquet");
        }
        void *p = c->name;
        FM_TRY(fm_grow(&p, &c->cap, c->n + 1, sizeof *c->name));
        c->name = p;
        p = c->kinds;
        FM_TRY(fm_grow(&p, &c->kinds_cap, c->n + 1, sizeof *c->kinds));
        c->kinds = p;
        c->kinds[c->n] = fm_cells_kind(&r->cell[i]);
        c->name[c->n] = fm_strndup(r->cell[i].name.ptr, r->cell[i].name.len);
        if (!c->name[c->n]) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a column name");
        }
        c->n++;
    }
    return FM_OK;
}

static const fm_step_def columns_step = {
    .name = "columns",
    .help = "finds the columns of the output",
    .memory = "the names",
    .open = columns_open,
    .close = columns_close,
    .observe = columns_observe,
};

/* ---- preparation ------------------------------------------------------------------------------ */

static fm_status list_steps(fm_run *r) {
    fm_data_job *j = r->job;
    bool needs = j->o->columns.n == 0 ? fm_out_needs_columns(j->o->output, j->o->output_format)
                                      : fm_out_needs_types(j->o->output, j->o->output_format);
    size_t n = j->n_steps + needs;
    r->step = fm_calloc(n + 1, sizeof *r->step);
    r->total = fm_calloc(n + 1, sizeof *r->total);
    if (!r->step || !r->total) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu steps", n);
    }
    r->n_steps = n;
    if (j->n_steps) {
        memcpy(r->step, j->step, j->n_steps * sizeof *r->step);
    }
    if (needs) {
        r->step[j->n_steps].def = &columns_step;
    }
    for (size_t i = 0; i < r->n_steps; i++) {
        fm_step *s = &r->step[i];
        s->index = (int32_t)i;
        s->seed = (uint64_t)j->o->seed ^ fm_hash64(s->def->name, strlen(s->def->name), i);
        s->env = &r->env;
    }
    return FM_OK;
}

static fm_status open_steps(fm_run *r) {
    for (size_t i = 0; i < r->n_steps; i++) {
        fm_step *s = &r->step[i];
        if (s->def->open && s->def->open(s) != FM_OK) {
            return fm_error_context("step %s", s->def->name);
        }
    }
    return FM_OK;
}

static fm_status make_env(fm_run *r, char *work_dir, size_t cap) {
    fm_data_job *j = r->job;
    const char **path = fm_calloc(j->n_files + 1, sizeof *path), **name = fm_calloc(j->n_files + 1, sizeof *name);
    r->env.source = path;
    r->env.source_name = name;
    if (!path || !name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the list of inputs");
    }
    for (size_t i = 0; i < j->n_files; i++) {
        path[i] = j->file[i].path;
        name[i] = j->input[j->file[i].input].name;
    }
    r->env.n_sources = (int32_t)j->n_files;
    r->env.output = j->o->output;
    r->env.n_threads = fm_pool_threads(r->pool);
    r->env.work_dir = work_dir;
    if (strcmp(j->o->output, "-") == 0) {
        snprintf(work_dir, cap, "/tmp/fathom-data-%ld", (long)getpid());
        return FM_OK;
    }
    return fm_job_beside(work_dir, cap, j->o->output, "work");
}

/* What makes two runs the same: options, steps, inputs with their sizes. */
static fm_status fingerprint(fm_run *r) {
    fm_str s = {0};
    fm_status st = FM_OK;
    fm_str_printf(&s, "%s\n", FATHOM_VERSION);
    for (const fm_option *o = fm_job_option_rows; o->key && st == FM_OK; o++) {
        if (strcmp(o->key, "threads") != 0 && strcmp(o->key, "overwrite") != 0) {
            fm_str_printf(&s, "%s=", o->key);
            st = fm_option_text(&s, r->job->o, o);
            fm_str_putc(&s, '\n');
        }
    }
    for (size_t i = 0; i < r->n_steps && st == FM_OK; i++) {
        fm_str_printf(&s, "step %s\n", r->step[i].def->name);
        for (const fm_option *o = r->step[i].def->options; o && o->key && st == FM_OK; o++) {
            fm_str_printf(&s, "%s=", o->key);
            st = fm_option_text(&s, r->step[i].opt, o);
            fm_str_putc(&s, '\n');
        }
    }
    for (size_t i = 0; i < r->job->n_files; i++) {
        fm_str_printf(&s, "%s %lld\n", r->job->file[i].path, (long long)r->job->file[i].bytes);
    }
    if (st == FM_OK) {
        st = fm_str_check(&s);
    }
    if (st == FM_OK) {
        r->fingerprint = fm_hash64(s.data, s.len, 0);
    }
    fm_str_free(&s);
    return st;
}

static fm_status open_outputs(fm_run *r) {
    const fm_job_options *o = r->job->o;
    fm_out_options oo = {.path = o->output,
                         .format = o->output_format,
                         .shard_bytes = o->shard_bytes,
                         .column = (const char *const *)o->columns.item,
                         .n_columns = o->columns.n,
                         .overwrite = o->overwrite};
    if (r->n_steps > r->job->n_steps) { /* found by the frame's step */
        const columns *c = r->step[r->n_steps - 1].state;
        if (o->columns.n == 0) {
            oo.column = (const char *const *)c->name;
            oo.kinds = c->kinds;
            oo.n_columns = c->n;
        } else { /* Parquet: the columns that were named, with the kinds that were found */
            r->kinds = fm_calloc(o->columns.n, sizeof *r->kinds);
            if (!r->kinds) {
                FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the columns");
            }
            for (size_t i = 0; i < o->columns.n; i++) {
                for (size_t k = 0; k < c->n; k++) {
                    r->kinds[i] |= strcmp(o->columns.item[i], c->name[k]) == 0 ? c->kinds[k] : 0;
                }
            }
            oo.kinds = r->kinds;
        }
    }
    return fm_out_new(&r->out, &oo);
}

static fm_status open_rejects(fm_run *r) {
    fm_out_options ro = {.path = r->job->o->rejects, .overwrite = true};
    if (ro.path && fm_out_needs_columns(ro.path, NULL)) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "rejected rows are written as JSONL, not as '%s'", ro.path);
        return fm_error_hint("name the rejects file .jsonl, .jsonl.gz or .jsonl.zst");
    }
    return ro.path ? fm_out_new(&r->rejects, &ro) : FM_OK;
}

/* ---- passes ----------------------------------------------------------------------------------- */

static fm_status next_pass(fm_run *r, const char *work_dir, int number) {
    char path[4200];
    fm_pass *k = &r->pass;
    k->end = k->first;
    k->observe = -1;
    while ((size_t)k->end < r->n_steps && !is_whole(r->step[k->end].def)) {
        k->end++;
    }
    if ((size_t)k->end < r->n_steps) {
        k->observe = k->end;
        FM_TRY(fm_mkdirs(work_dir));
        snprintf(path, sizeof path, "%s/rows-%d", work_dir, number);
        FM_TRY(fm_spill_create(&r->next_spill, path));
    }
    if (k->observe < 0 && !r->out) {
        FM_TRY(open_outputs(r));
    }
    return fm_pass_run(r);
}

static fm_status run_passes(fm_run *r, const char *work_dir) {
    r->pass = (fm_pass){.apply = -1};
    for (int number = 0;; number++) {
        FM_TRY(next_pass(r, work_dir, number));
        fm_spill_close(r->spill);
        r->spill = r->next_spill;
        r->next_spill = NULL;
        if (r->pass.observe < 0) {
            return FM_OK;
        }
        int w = r->pass.observe;
        const fm_step_def *d = r->step[w].def;
        if (d->resolve && d->resolve(&r->step[w]) != FM_OK) {
            return fm_error_context("step %s", d->name);
        }
        FM_TRY(fm_spill_rewind(r->spill));
        r->pass = (fm_pass){.apply = w, .first = w + 1};
        r->start_file = 0;
        r->start_batch = 0;
    }
}

static fm_status finish(fm_run *r, fm_json **manifest) {
    fm_json *files, *rejects = NULL;
    fm_status s = fm_out_finish(r->out, &files);
    if (s == FM_OK && r->rejects) {
        s = fm_out_finish(r->rejects, &rejects);
        fm_json_free(rejects);
    }
    if (s != FM_OK) {
        fm_json_free(files);
        return s;
    }
    FM_TRY(fm_manifest_make(manifest, r, files));
    if (strcmp(r->job->o->output, "-") != 0) {
        FM_TRY(fm_manifest_write(r->job->o->output, *manifest));
    }
    unlink(r->state_path);
    return FM_OK;
}

static fm_status all(fm_run *r, char *work_dir, size_t cap, fm_json **manifest) {
    const fm_job_options *o = r->job->o;
    if (!o->output) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "no output was named");
        return fm_error_hint("give a file or folder with -o, or -o - for stdout");
    }
    FM_TRY(fm_job_resolve(r->job));
    r->reader_options = fm_job_reader_options(r->job);
    if (o->text_template) {
        FM_TRY(fm_text_template_new(&r->template_, o->text_template));
    }
    FM_TRY(fm_pool_new(&r->pool, (int)o->threads));
    FM_TRY(list_steps(r));
    FM_TRY(make_env(r, work_dir, cap));
    FM_TRY(fingerprint(r));
    FM_TRY(open_steps(r));
    bool one_pass = true, to_file = strcmp(o->output, "-") != 0;
    for (size_t i = 0; i < r->n_steps; i++) {
        one_pass = one_pass && !is_whole(r->step[i].def);
    }
    for (size_t i = 0; i < r->job->n_files; i++) {
        to_file = to_file && r->job->file[i].bytes >= 0;
    }
    r->resumable = one_pass && to_file;
    if (to_file) {
        FM_TRY(fm_job_beside(r->state_path, sizeof r->state_path, o->output, "state.json"));
    }
    char done[4096];
    if (strcmp(o->output, "-") != 0 && !o->overwrite) {
        FM_TRY(fm_job_beside(done, sizeof done, o->output, "manifest.json"));
        if (fm_path_exists(done) || (!fm_out_is_folder(o->output) && fm_path_exists(o->output))) {
            fm_error_set(FM_ERR_EXISTS, __FILE__, __LINE__, "'%s' exists already", o->output);
            return fm_error_hint("--overwrite replaces it");
        }
    }
    FM_TRY(open_rejects(r));
    bool resumed = false;
    if (r->resumable) {
        FM_TRY(open_outputs(r));
        FM_TRY(fm_run_load(r, &resumed));
        if (resumed) {
            fm_info("going on where the interrupted run stopped (%lld rows were done)", (long long)r->read.in);
        }
    }
    FM_TRY(run_passes(r, work_dir));
    if (r->read.in > 0 && r->read.out == 0) {
        const char *why = r->read.reasons.n ? r->read.reasons.item[0].name : "none could be read";
        FM_FAIL(FM_ERR_DATA, "no row could be read from '%s'%s: %s", r->job->file[0].path,
                r->job->n_files > 1 ? " and the other files" : "", why);
    }
    return finish(r, manifest);
}

static fm_status report(fm_data_report *out, const fm_run *r, const fm_json *manifest, char **json) {
    fm_data_report rep = {.size = out->size,
                          .n_files = (int64_t)r->job->n_files,
                          .n_rows = r->read.in,
                          .n_bad = r->read.dropped,
                          .n_out = r->rows_out,
                          .n_broken_files = r->n_broken,
                          .n_bytes = r->bytes_in,
                          .seconds = fm_now() - r->started};
    memcpy(out, &rep, FM_MIN(out->size, sizeof rep));
    fm_str text = {0};
    fm_status s = fm_json_dump(&text, manifest, 0);
    *json = s == FM_OK ? fm_str_take(&text) : NULL;
    fm_str_free(&text);
    if (s == FM_OK && !*json) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the report");
    }
    return s;
}

fm_status fm_data_run(fm_data_report *out, char **manifest_json, fm_data_job *job) {
    char work_dir[4096] = "";
    fm_run r = {.job = job, .started = fm_now()};
    fm_json *manifest = NULL;
    char *text = NULL;
    fm_status s = all(&r, work_dir, sizeof work_dir, &manifest);
    if (s == FM_OK) {
        s = report(out, &r, manifest, &text);
    }
    fm_error_record error;
    fm_error_save(&error);
    fm_json_free(manifest);
    for (size_t i = 0; i < r.n_steps; i++) {
        if (r.step[i].def && r.step[i].def->close) {
            r.step[i].def->close(&r.step[i]);
        }
        fm_tallies_free(&r.total[i].reasons);
        fm_tallies_free(&r.total[i].counts);
    }
    bool keep = s == FM_ERR_CANCELLED && r.resumable;
    fm_out_free(r.out, s != FM_OK && !keep);
    fm_out_free(r.rejects, s != FM_OK && !keep);
    if (s != FM_OK && !keep && r.out) {
        unlink(r.state_path);
    }
    fm_spill_close(r.spill);
    fm_spill_close(r.next_spill);
    if (*work_dir && fm_path_exists(work_dir) && fm_remove_tree(work_dir) != FM_OK && s == FM_OK) {
        fm_warn("the folder '%s' could not be removed", work_dir);
    }
    fm_tallies_free(&r.read.reasons);
    fm_tallies_free(&r.broken);
    fm_text_template_free(r.template_);
    fm_free(r.kinds);
    fm_pool_free(r.pool);
    fm_free((void *)(uintptr_t)r.env.source);
    fm_free((void *)(uintptr_t)r.env.source_name);
    fm_free(r.step);
    fm_free(r.total);
    fm_error_restore(&error);
    if (manifest_json) {
        *manifest_json = text;
    } else {
        fm_string_free(text);
    }
    return s;
}
