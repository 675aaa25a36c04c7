/* import: annotations from an export file or a Label Studio server, checked against the guide, as rows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/label.h"

#define PAGE 100

typedef struct importer {
    fm_label_job *j;
    fm_guide guide;
    fm_ls_options ls;
    fm_rows_out out, rejects;
    fm_tallies counts;
    int64_t low, high; /* ids; high < low: all */
    bool list;         /* only ids of o->tasks */
    int64_t n_refused;
} importer;

static fm_status parse_ids(importer *m) {
    const char *p = m->j->o->ids;
    char *end = NULL;
    m->low = 1;
    m->high = 0;
    m->list = m->j->o->tasks.n > 0;
    if (p) {
        errno = 0;
        m->low = strtoll(p, &end, 10);
        m->high = end != p && *end == '-' ? strtoll(end + 1, &end, 10) : -1;
        if (errno || *end || m->low < 0 || m->high < m->low) {
            FM_FAIL(FM_ERR_CONFIG, "ids is '%s', expected a range such as 10-20", p);
        }
    }
    for (size_t i = 0; i < m->j->o->tasks.n; i++) {
        int64_t id = 0;
        FM_TRY(fm_parse_i64(&id, m->j->o->tasks.item[i]));
    }
    return FM_OK;
}

static bool wanted(const importer *m, const fm_json *task) {
    const fm_json *id = fm_json_is_object(task) ? fm_json_get(task, "id") : NULL;
    int64_t v = fm_json_int(id, -1);
    if (m->high >= m->low && (v < m->low || v > m->high)) {
        return false;
    }
    bool found = !m->list;
    for (size_t i = 0; m->list && i < m->j->o->tasks.n && !found; i++) {
        int64_t one = 0;
        found = fm_parse_i64(&one, m->j->o->tasks.item[i]) == FM_OK && one == v;
    }
    return found;
}

/* Refused rows go to the rejects file with the reason, and are counted. */
static fm_status put_rejects(importer *m, size_t from) {
    for (size_t i = from; i < m->out.batch.n; i++) {
        const fm_rec *r = m->out.batch.rec[i];
        if (!r->drop) {
            continue;
        }
        m->n_refused++;
        if (m->j->o->rejects) {
            fm_rec *copy = NULL;
            fm_bump *a = &m->rejects.batch.arena;
            FM_TRY(fm_rows_out_copy(&m->rejects, &copy, r));
            FM_TRY(fm_rec_set_text(a, copy, "reason", r->drop, strlen(r->drop)));
            if (r->detail && *r->detail) {
                FM_TRY(fm_rec_set_text(a, copy, "detail", r->detail, strlen(r->detail)));
            }
        }
    }
    return m->j->o->rejects ? fm_rows_out_flush(&m->rejects, 256) : FM_OK;
}

static fm_status add_task(importer *m, const fm_json *task) {
    if (!wanted(m, task)) {
        return FM_OK;
    }
    size_t from = m->out.batch.n;
    FM_TRY(fm_ls_rows(&m->out.batch, task, &m->ls, &m->counts));
    FM_TRY(put_rejects(m, from));
    return fm_rows_out_flush(&m->out, 256);
}

static fm_status add_row(void *arg, fm_records *in, const fm_rec *row) {
    fm_str json = {0};
    fm_json *task = NULL;
    FM_UNUSED(in);
    fm_rec_put_json(&json, row);
    fm_status s = fm_str_check(&json);
    s = s == FM_OK ? fm_json_parse(&task, json.data, json.len, "task") : s;
    s = s == FM_OK ? add_task(arg, task) : s;
    fm_json_free(task);
    fm_str_free(&json);
    return s;
}

/* One task of the server; one that is not there is counted. */
static fm_status fetch(importer *m, fm_ls_client *c, int64_t id) {
    char path[64];
    fm_json *task = NULL;
    (void)snprintf(path, sizeof path, "/api/tasks/%lld/", (long long)id);
    fm_status s = fm_ls_call(c, &task, "GET", path, NULL);
    if (s == FM_ERR_NOT_FOUND) {
        fm_error_clear();
        return fm_tally_add(&m->counts, "ids without a task", 1);
    }
    s = s == FM_OK ? add_task(m, task) : s;
    fm_json_free(task);
    return s;
}

static fm_status fetch_project(importer *m, fm_ls_client *c) {
    int64_t seen = 0, total = 1;
    for (int64_t page = 1; seen < total; page++) {
        char path[160];
        fm_json *doc = NULL;
        (void)snprintf(path, sizeof path, "/api/tasks?project=%lld&page=%lld&page_size=%d&fields=all",
                       (long long)m->j->o->project, (long long)page, PAGE);
        FM_TRY(fm_ls_call(c, &doc, "GET", path, NULL));
        const fm_json *tasks = fm_json_is_object(doc) ? fm_json_get(doc, "tasks") : NULL;
        size_t n = fm_json_is_array(tasks) ? fm_json_size(tasks) : 0;
        total = fm_json_is_object(doc) ? fm_json_int(fm_json_get(doc, "total"), 0) : 0;
        fm_status s = FM_OK;
        for (size_t i = 0; i < n && s == FM_OK; i++) {
            s = add_task(m, fm_json_at(tasks, i));
        }
        fm_json_free(doc);
        FM_TRY(s);
        seen += (int64_t)n;
        if (n == 0) {
            break;
        }
    }
    return FM_OK;
}

static fm_status from_server(importer *m) {
    const fm_label_settings *o = m->j->o;
    fm_ls_client *c = NULL;
    FM_TRY(fm_ls_client_new(&c, o));
    fm_status s = FM_OK;
    if (o->project) {
        s = fetch_project(m, c);
    } else if (m->list) {
        for (size_t i = 0; i < o->tasks.n && s == FM_OK; i++) {
            int64_t id = 0;
            s = fm_parse_i64(&id, o->tasks.item[i]);
            s = s == FM_OK ? fetch(m, c, id) : s;
        }
    } else if (m->high >= m->low) {
        for (int64_t id = m->low; id <= m->high && s == FM_OK; id++) {
            s = fetch(m, c, id);
        }
    } else {
        s = fm_label_needs("import", "project, --tasks or --ids", false);
    }
    fm_ls_client_free(c);
    return s;
}

static fm_status import(importer *m) {
    const fm_label_settings *o = m->j->o;
    m->ls = (fm_ls_options){.left = o->left, .right = o->right, .from_name = o->from_name};
    FM_TRY(parse_ids(m));
    if (o->guide) {
        FM_TRY(fm_guide_load(&m->guide, o->guide));
        m->ls.guide = &m->guide;
        if (o->output) {
            FM_TRY(fm_guide_check_manifest(&m->guide, o->output));
        }
    }
    FM_TRY(fm_label_needs("import", "url URL or -i EXPORT.json", o->url || o->input.n));
    FM_TRY(fm_rows_out_open(&m->out, o->output, o->overwrite));
    if (o->rejects) {
        FM_TRY(fm_rows_out_open(&m->rejects, o->rejects, o->overwrite));
    }
    FM_TRY(o->url ? from_server(m) : fm_label_each(m->j, &o->input, add_row, m));
    FM_TRY(fm_rows_out_flush(&m->out, 0));
    fm_json *doc = m->j->report, *inputs = fm_json_new_array();
    FM_TRY(fm_json_set(doc, "inputs", inputs));
    FM_TRY(fm_files_json(inputs, (const char *const *)o->input.item, o->input.n));
    if (o->url) {
        FM_TRY(fm_json_set(doc, "url", fm_json_new_str(o->url)));
        FM_TRY(fm_json_set(doc, "project", fm_json_new_int(o->project)));
    }
    if (o->guide) {
        FM_TRY(fm_guide_json(doc, &m->guide));
    }
    FM_TRY(fm_json_set(doc, "refused", fm_json_new_int(m->n_refused)));
    if (m->n_refused > 0) {
        fm_warn("%lld annotations or tasks were not taken (see counts in the report%s)", (long long)m->n_refused,
                o->rejects ? ", and the rejects file" : "; --rejects FILE keeps them with the reason");
    }
    FM_TRY(fm_tallies_json(doc, "counts", &m->counts));
    if (o->rejects) {
        fm_json *of_rejects = fm_json_new_object();
        fm_status s = fm_rows_out_finish(&m->rejects, of_rejects, NULL);
        fm_json_free(of_rejects);
        FM_TRY(s);
    }
    if (m->out.n_rows == 0 && m->n_refused > 0) {
        (void)fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                           "none of %lld annotations or tasks was taken; %s is not written", (long long)m->n_refused,
                           o->output);
        return o->rejects ? fm_error_hint("%s has the reasons", o->rejects)
                          : fm_error_hint("--rejects FILE keeps them with the reason");
    }
    return fm_rows_out_finish(&m->out, doc, NULL);
}

static fm_status run(fm_label_job *j) {
    importer *m = fm_calloc(1, sizeof *m);
    if (!m) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an import");
    }
    m->j = j;
    fm_status s = import(m);
    fm_rows_out_close(&m->out);
    fm_rows_out_close(&m->rejects);
    fm_guide_free(&m->guide);
    fm_tallies_free(&m->counts);
    fm_free(m);
    return s;
}

const fm_label_action fm_label_action_import = {
    .name = "import",
    .help = "annotations from an export file (-i) or a server (--url) as rows, checked against the guide",
    .run = run,
};
