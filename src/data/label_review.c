/* review: takes verdicts of one level into the log, gives the rows that wait for a level, and reports by annotator. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/label_verdicts.h"

typedef struct reviewing {
    fm_label_job *j;
    fm_verdicts v;
    fm_str lines; /* for the log */
    fm_rows_out out;
    size_t at; /* row of the second reading */
    int64_t n_taken, n_refused;
} reviewing;

static void put_cell(fm_str *out, const char *name, const fm_cell *c) {
    if (c) {
        fm_str_printf(out, "\"%s\":", name);
        fm_cell_put_json(out, c);
        fm_str_putc(out, ',');
    }
}

static fm_status take(void *arg, fm_records *in, const fm_rec *row) {
    reviewing *k = arg;
    const fm_label_settings *o = k->j->o;
    const char *why = NULL;
    FM_TRY(fm_verdicts_apply(&k->v, row, o->level, o->reviewer, &why));
    if (why) {
        k->n_refused++;
        fm_records_reject(in, row, why);
        return fm_tally_add(&k->v.refused, why, 1);
    }
    char when[32];
    fm_format_utc(when, sizeof when, fm_unix_ms());
    fm_str_putc(&k->lines, '{');
    put_cell(&k->lines, "task_id", fm_rec_get(row, "task_id"));
    put_cell(&k->lines, "annotation_id", fm_rec_get(row, "annotation_id"));
    put_cell(&k->lines, "verdict", fm_rec_get(row, "verdict"));
    put_cell(&k->lines, "note", fm_rec_get(row, "note"));
    const fm_cell *label = fm_annotated(row, o->column);
    if (label && fm_sv_eq(fm_rec_get(row, "verdict")->text, "fixed")) {
        fm_str_json(&k->lines, label->name.ptr, label->name.len);
        fm_str_putc(&k->lines, ':');
        fm_cell_put_json(&k->lines, label);
        fm_str_putc(&k->lines, ',');
    }
    fm_str_printf(&k->lines, "\"level\":\"%s\",\"reviewer\":", fm_level_names[o->level]);
    fm_str_json(&k->lines, o->reviewer, strlen(o->reviewer));
    fm_str_printf(&k->lines, ",\"at\":\"%s\"}\n", when);
    k->n_taken++;
    return fm_str_check(&k->lines);
}

/* Lines at the end of the log, on disk before anything is said about them. */
static fm_status append_log(const reviewing *k) {
    const char *path = k->j->o->log;
    FILE *f = fopen(path, "ab");
    if (!f) {
        FM_FAIL(FM_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    }
    bool good = fwrite(k->lines.data, 1, k->lines.len, f) == k->lines.len && fflush(f) == 0 && fsync(fileno(f)) == 0;
    good = fclose(f) == 0 && good;
    if (!good) {
        FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", path, strerror(errno));
    }
    return FM_OK;
}

/* Rows that wait for the level: those before it are passed, and it has no verdict. Of the expert's: of the sample. */
static fm_status waiting(void *arg, fm_records *in, const fm_rec *row) {
    reviewing *k = arg;
    int level = k->j->o->level;
    FM_UNUSED(in);
    if (k->at >= k->v.n) {
        FM_FAIL(FM_ERR_DATA, "the rows changed while they were read");
    }
    const fm_judged *r = &k->v.item[k->at++];
    bool waits = r->verdict[level] == FM_VERDICT_NONE && (level == 0 || fm_verdicts_passed(r, level - 1)) &&
                 (level < FM_LEVEL_EXPERT || r->sampled);
    if (!waits) {
        return FM_OK;
    }
    fm_rec *copy = NULL;
    FM_TRY(fm_rows_out_copy(&k->out, &copy, row));
    return fm_rows_out_flush(&k->out, 256);
}

static fm_status report(reviewing *k) {
    fm_json *list = fm_json_new_array();
    FM_TRY(fm_json_set(k->j->report, "annotators", list));
    for (int32_t who = 0; who < (int32_t)k->v.people.n; who++) {
        fm_json *o = fm_json_new_object();
        int64_t sampled = 0, rows = 0;
        FM_TRY(fm_json_append(list, o));
        FM_TRY(fm_json_set(o, "name", fm_json_new_str(k->v.people.name[who])));
        for (int l = 0; l < FM_LEVELS; l++) {
            fm_level_counts c;
            fm_json *e = fm_json_new_object();
            fm_verdicts_count(&k->v, who, l, &c, &sampled, &rows);
            FM_TRY(fm_json_set(o, fm_level_names[l], e));
            FM_TRY(fm_json_set(e, "judged", fm_json_new_int(c.judged)));
            FM_TRY(fm_json_set(e, "accepted", fm_json_new_int(c.accepted)));
            FM_TRY(fm_json_set(e, "rejected", fm_json_new_int(c.rejected)));
            FM_TRY(fm_json_set(e, "fixed", fm_json_new_int(c.fixed)));
            FM_TRY(fm_json_set(e, "error_rate", fm_json_new_num(fm_level_error(&c))));
        }
        FM_TRY(fm_json_set(o, "rows", fm_json_new_int(rows)));
        FM_TRY(fm_json_set(o, "sampled", fm_json_new_int(sampled)));
    }
    FM_TRY(fm_json_set(k->j->report, "taken", fm_json_new_int(k->n_taken)));
    return fm_tallies_json(k->j->report, "refused", &k->v.refused);
}

static fm_status review(reviewing *k) {
    const fm_label_settings *o = k->j->o;
    FM_TRY(fm_label_needs("review", "input FILE", o->input.n > 0));
    FM_TRY(fm_label_needs("review", "log FILE", o->log != NULL));
    FM_TRY(fm_verdicts_load(&k->v, k->j));
    if (o->verdicts.n) {
        FM_TRY(fm_label_needs("review", "reviewer NAME", o->reviewer != NULL));
        FM_TRY(fm_label_each(k->j, &o->verdicts, take, k));
        if (k->lines.len) {
            FM_TRY(append_log(k));
        }
    }
    FM_TRY(report(k));
    if (o->output) {
        FM_TRY(fm_rows_out_open(&k->out, o->output, o->overwrite));
        FM_TRY(fm_label_each(k->j, &o->input, waiting, k));
        return fm_rows_out_finish(&k->out, k->j->report, NULL);
    }
    return FM_OK;
}

static fm_status run(fm_label_job *j) {
    reviewing k = {.j = j};
    fm_status s = review(&k);
    fm_verdicts_free(&k.v);
    fm_str_free(&k.lines);
    fm_rows_out_close(&k.out);
    return s;
}

const fm_label_action fm_label_action_review = {
    .name = "review",
    .help = "takes verdicts of a level into the log, writes the rows that wait for it (-o), reports error rates",
    .run = run,
};
