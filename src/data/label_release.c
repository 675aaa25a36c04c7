/* release: one row for each task, of annotations that passed the required level; where several did, what most of them
 * say. The rest goes to the rejects with the reason. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/label_verdicts.h"

typedef struct releasing {
    fm_label_job *j;
    fm_verdicts v;
    const char **why; /* [n] NULL: released */
    fm_rows_out out, rejects;
    size_t at;
    fm_tallies reasons;
} releasing;

/* Whether the expert's sample lets the annotator's rows pass. */
static const char *judge_annotator(const releasing *k, int32_t who) {
    fm_level_counts c;
    int64_t sampled = 0, rows = 0;
    fm_verdicts_count(&k->v, who, FM_LEVEL_EXPERT, &c, &sampled, &rows);
    double error = fm_level_error(&c);
    return c.judged == 0 && sampled == 0 ? "none of the annotator's rows was in the expert's sample"
           : c.judged < sampled          ? "the expert has not seen the whole sample of the annotator"
           : error > k->j->o->max_error  ? "the annotator's error rate is above max_error"
                                         : NULL;
}

static fm_status judge_rows(releasing *k) {
    int require = k->j->o->require;
    const char **of_people = fm_calloc(k->v.people.n + 1, sizeof *of_people);
    if (!of_people) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu annotators", k->v.people.n);
    }
    for (size_t p = 0; p < k->v.people.n && require == FM_LEVEL_EXPERT; p++) {
        of_people[p] = judge_annotator(k, (int32_t)p);
    }
    for (size_t i = 0; i < k->v.n; i++) {
        const fm_judged *r = &k->v.item[i];
        bool rejected = false;
        for (int l = 0; l < FM_LEVELS; l++) {
            rejected = rejected || r->verdict[l] == FM_VERDICT_REJECT;
        }
        k->why[i] = rejected                                   ? "rejected in review"
                    : !fm_verdicts_passed(r, require)          ? "did not pass the required level"
                    : r->who >= 0 && of_people[r->who]         ? of_people[r->who]
                    : r->who < 0 && require == FM_LEVEL_EXPERT ? "without an annotator"
                                                               : NULL;
    }
    fm_free(of_people);
    return FM_OK;
}

typedef struct vote {
    uint64_t task, value;
    size_t at;
} vote;

static int by_task(const void *a, const void *b) {
    const vote *x = a, *y = b;
    if (x->task != y->task) {
        return x->task < y->task ? -1 : 1;
    }
    return x->value != y->value ? (x->value < y->value ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

/* Of the rows of one task that passed, [from, end) by value: the first of the value that most have stays. */
static void choose(releasing *k, const vote *list, size_t from, size_t end) {
    size_t best = from, best_n = 0, ties = 0;
    for (size_t i = from, e; i < end; i = e) {
        e = i;
        while (e < end && list[e].value == list[i].value) {
            e++;
        }
        ties = e - i == best_n ? ties + 1 : e - i > best_n ? 0 : ties;
        best = e - i > best_n ? i : best;
        best_n = FM_MAX(best_n, e - i);
    }
    for (size_t i = from; i < end; i++) {
        k->why[list[i].at] = ties                                ? "annotators disagree"
                             : i == best                         ? NULL
                             : list[i].value == list[best].value ? "the same as a released annotation"
                                                                 : "outvoted";
    }
}

static fm_status choose_rows(releasing *k) {
    vote *list = fm_calloc(k->v.n + 1, sizeof *list);
    size_t n = 0;
    if (!list) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu rows", k->v.n);
    }
    for (size_t i = 0; i < k->v.n; i++) {
        if (!k->why[i]) {
            list[n++] = (vote){k->v.item[i].task, k->v.item[i].value, i};
        }
    }
    qsort(list, n, sizeof *list, by_task);
    for (size_t i = 0, e; i < n; i = e) {
        e = i;
        while (e < n && list[e].task == list[i].task) {
            e++;
        }
        choose(k, list, i, e);
    }
    fm_free(list);
    return FM_OK;
}

/* The label that a reviewer put in the place of the annotator's. */
static fm_status put_fixed(const releasing *k, fm_bump *a, fm_rec *row, const char *json) {
    const fm_cell *old = fm_annotated(row, k->j->o->column);
    const char *name = old ? fm_bump_copy(a, old->name.ptr, old->name.len) : k->j->o->column;
    fm_rec *value = NULL;
    fm_str one = {0};
    fm_str_printf(&one, "{\"v\":%s}", json);
    fm_status s = fm_str_check(&one);
    char *text = s == FM_OK ? fm_bump_copy(a, one.data, one.len) : NULL;
    size_t n = one.len;
    fm_str_free(&one);
    if (!text || !name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a row");
    }
    FM_TRY(fm_rec_new(a, &value, NULL));
    FM_TRY(fm_rec_parse_json(a, value, text, n));
    const fm_cell *v = fm_rec_get(value, "v");
    FM_ASSERT(v);
    return v->kind == FM_CELL_TEXT ? fm_rec_set_text(a, row, name, v->text.ptr, v->text.len)
                                   : fm_rec_set_json(a, row, name, v->text.ptr, v->text.len);
}

static fm_status write_row(void *arg, fm_records *in, const fm_rec *row) {
    releasing *k = arg;
    FM_UNUSED(in);
    if (k->at >= k->v.n) {
        FM_FAIL(FM_ERR_DATA, "the rows changed while they were read");
    }
    const fm_judged *r = &k->v.item[k->at];
    const char *why = k->why[k->at++];
    if (why) {
        FM_TRY(fm_tally_add(&k->reasons, why, 1));
        if (!k->j->o->rejects) {
            return FM_OK;
        }
    }
    fm_rows_out *w = why ? &k->rejects : &k->out;
    fm_bump *a = &w->batch.arena;
    fm_rec *copy = NULL;
    FM_TRY(fm_rows_out_copy(w, &copy, row));
    if (r->fixed && !why) {
        FM_TRY(put_fixed(k, a, copy, r->fixed));
    }
    const char *mark = why ? why : fm_level_names[k->j->o->require];
    FM_TRY(fm_rec_set_text(a, copy, why ? "reason" : "review", mark, strlen(mark)));
    return fm_rows_out_flush(w, 256);
}

static fm_status release(releasing *k) {
    const fm_label_settings *o = k->j->o;
    FM_TRY(fm_label_needs("release", "input FILE", o->input.n > 0));
    FM_TRY(fm_label_needs("release", "log FILE", o->log != NULL));
    FM_TRY(fm_verdicts_load(&k->v, k->j));
    k->why = fm_calloc(k->v.n + 1, sizeof *k->why);
    if (!k->why) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu rows", k->v.n);
    }
    FM_TRY(judge_rows(k));
    FM_TRY(choose_rows(k));
    FM_TRY(fm_rows_out_open(&k->out, o->output, o->overwrite));
    if (o->rejects) {
        FM_TRY(fm_rows_out_open(&k->rejects, o->rejects, o->overwrite));
    }
    FM_TRY(fm_label_each(k->j, &o->input, write_row, k));
    fm_json *doc = k->j->report, *inputs = fm_json_new_array();
    FM_TRY(fm_json_set(doc, "inputs", inputs));
    FM_TRY(fm_files_json(inputs, (const char *const *)o->input.item, o->input.n));
    FM_TRY(fm_files_json(inputs, (const char *const *)&o->log, 1));
    FM_TRY(fm_json_set(doc, "required", fm_json_new_str(fm_level_names[o->require])));
    FM_TRY(fm_tallies_json(doc, "reasons", &k->reasons));
    if (o->rejects) {
        fm_json *of_rejects = fm_json_new_object();
        fm_status s = fm_rows_out_finish(&k->rejects, of_rejects, NULL);
        fm_json_free(of_rejects);
        FM_TRY(s);
    }
    return fm_rows_out_finish(&k->out, doc, NULL);
}

static fm_status run(fm_label_job *j) {
    releasing k = {.j = j};
    fm_status s = release(&k);
    fm_verdicts_free(&k.v);
    fm_free(k.why);
    fm_tallies_free(&k.reasons);
    fm_rows_out_close(&k.out);
    fm_rows_out_close(&k.rejects);
    return s;
}

const fm_label_action fm_label_action_release = {
    .name = "release",
    .help = "one row for each task, of annotations that passed the required level",
    .run = run,
};
