/* Labels, numbers, tags and answers by a head of the model. Rows become tokens by the same code that makes training
 * examples of them (data/examples.h), so what is scored is what was learned. */
#include <math.h>
#include <string.h>

#include "base/progress.h"
#include "data/examples.h"
#include "eval/head.h"

typedef struct runner {
    fm_eval *e;
    fm_model *m;
    fm_judged_head h;
    fm_json *labels; /* array of the head's names */
    fm_columns columns;
    fm_examples_options o;
    const fm_example_task *task;
    void *state;
    fm_example ex;
    uint32_t n_values;
    int64_t limit;
    /* A pass: texts of at most batch_tokens tokens. */
    int32_t *ids, *offsets;
    int16_t *marks;
    float *values, *out;
    size_t cap_ids, cap_offsets, cap_marks, cap_values, cap_out;
    size_t from, n_texts, n_ids; /* rows [from, from + n_texts) */
    double *said, *truth;        /* numbers: [n_rows,n_outputs] */
} runner;

static void runner_deinit(runner *r) {
    if (r->task) {
        r->task->close(r->state);
    }
    fm_json_free(r->labels);
    fm_free(r->h.name);
    fm_free(r->ex.ids);
    fm_free(r->ex.marks);
    fm_free(r->ex.values);
    fm_free(r->ids);
    fm_free(r->offsets);
    fm_free(r->marks);
    fm_free(r->values);
    fm_free(r->out);
    fm_free(r->said);
    fm_free(r->truth);
}

/* ---- the head ---------------------------------------------------------------------------------- */

static fm_status find_head(runner *r, const fm_eval *e, const fm_model *m) {
    fm_head_info info;
    const char *name = e->cfg->head;
    FM_TRY(fm_model_head_find(&r->h.index, m, name));
    FM_TRY(fm_model_head_info(&info, m, r->h.index));
    const char *task = "label";
    if (strcmp(info.problem, "span") == 0) {
        r->h.what = FM_JUDGED_SPAN;
        task = "span";
    } else if (strcmp(info.kind, "tagging") == 0) {
        r->h.what = FM_JUDGED_TAGS;
        task = "tag";
    } else if (info.per_token || info.n_outputs < 1) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "the head \"%s\" (%s) is none that judges texts",
                           info.name, info.kind);
        return fm_model_head_count(m) > 1 ? fm_error_hint("`fathom info` lists the heads; head NAME picks one")
                                          : fm_error_hint("tasks ppl, mc and qa are for language models");
    } else if (strcmp(info.problem, "regression") == 0) {
        r->h.what = FM_JUDGED_NUMBERS;
        task = "number";
    } else {
        r->h.what = strcmp(info.problem, "multi") == 0 ? FM_JUDGED_LABELS : FM_JUDGED_LABEL;
    }
    r->h.n_outputs = info.n_outputs;
    r->task = NULL;
    r->o.task = task;
    return FM_OK;
}

/* Names of labels; an output without a name is its number. */
static fm_status name_labels(runner *r) {
    if (r->h.what == FM_JUDGED_NUMBERS || r->h.what == FM_JUDGED_SPAN) {
        return FM_OK;
    }
    r->labels = fm_json_new_array();
    r->h.name = fm_calloc((size_t)r->h.n_outputs, sizeof *r->h.name);
    if (!r->labels || !r->h.name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for labels");
    }
    for (int32_t i = 0; i < r->h.n_outputs; i++) {
        const char *name = fm_model_label(r->m, r->h.index, i);
        char number[16];
        snprintf(number, sizeof number, "%d", (int)i);
        FM_TRY(fm_json_append(r->labels, fm_json_new_str(name ? name : number)));
        r->h.name[i] = fm_json_str(fm_json_at(r->labels, (size_t)i), NULL);
    }
    return FM_OK;
}

static fm_status open_runner(runner *r, fm_eval *e, fm_model *m) {
    const fm_eval_config *c = e->cfg;
    const fm_tokenizer *tok;
    fm_eval_encoder x;
    *r = (runner){.e = e, .m = m};
    FM_TRY(find_head(r, e, m));
    FM_TRY(name_labels(r));
    FM_TRY(fm_model_tokenizer(&tok, m));
    FM_TRY(fm_eval_encoder_init(&x, m, false));
    r->limit = x.limit;
    bool span = r->h.what == FM_JUDGED_SPAN;
    r->columns = (fm_columns){.prompt = span ? c->question : NULL,
                              .text = !span && c->question ? c->question : c->text_column,
                              .text_pair = c->pair_column,
                              .label = c->answer};
    r->o.columns = &r->columns;
    r->o.labels = r->labels;
    r->o.cutoff_len = r->limit;
    r->o.problem = r->h.what == FM_JUDGED_LABELS ? FM_PROBLEM_TYPE_MULTI : FM_PROBLEM_TYPE_SINGLE;
    r->task = fm_example_task_find(r->o.task);
    FM_ASSERT(r->task);
    return r->task->open(&r->state, &r->o, tok);
}

/* ---- rows -------------------------------------------------------------------------------------- */

static const fm_cell *cell_of(const fm_rec *row, const char *given, const char *const *usual) {
    const fm_cell *c = given ? fm_rec_get(row, given) : NULL;
    for (; !c && *usual; usual++) {
        c = fm_rec_get(row, *usual);
    }
    return c;
}

/* Rows of other heads, in a file with those of several, are passed over. */
static fm_status prepare(fm_eval *e) {
    static const char *const texts[] = {"text",  "sentence", "sentence1", "tokens",
                                        "words", "question", "content",   NULL};
    static const char *const truths[] = {"label",    "labels",   "category", "score",   "tags",
                                         "ner_tags", "entities", "answer",   "answers", NULL};
    int head;
    FM_TRY(fm_model_head_find(&head, e->model, e->cfg->head)); /* before rows are left out by a name that is none */
    for (size_t i = 0; i < e->table.n; i++) {
        const fm_eval_entry *in = &e->table.row[i];
        const fm_cell *task = e->cfg->head ? fm_rec_get(in->rec, "task") : NULL;
        if (task && task->kind == FM_CELL_TEXT && !fm_sv_eq(task->text, e->cfg->head)) {
            continue;
        }
        const fm_cell *text = cell_of(in->rec, e->cfg->question, texts),
                      *truth = cell_of(in->rec, e->cfg->answer, truths);
        fm_eval_row *r;
        FM_TRY(fm_eval_add_row(e, &r));
        r->rec = in->rec;
        r->file = in->file;
        r->subject = in->subject;
        r->question = text ? text->text : (fm_sv){"", 0};
        r->target = truth ? truth->text : (fm_sv){NULL, 0};
    }
    return FM_OK;
}

static fm_status measures(fm_eval *e) {
    runner r;
    fm_status s = open_runner(&r, e, e->model);
    s = s == FM_OK ? fm_head_measures(e, &r.h) : s;
    runner_deinit(&r);
    return s;
}

/* ---- running ----------------------------------------------------------------------------------- */

static fm_status at_row(const fm_eval_row *row, const char *what) {
    (void)fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s:%lld: %s", row->file, (long long)row->rec->line, what);
    return fm_error_hint("keys question (or text_column) and answer name the columns of text and label");
}

static fm_status scan(runner *r) {
    for (size_t i = 0; i < r->e->n_rows && r->task->needs_scan; i++) {
        FM_TRY(r->task->scan(r->state, r->e->row[i].rec));
    }
    FM_TRY(r->task->ready(r->state, &r->n_values));
    bool fits = r->h.what != FM_JUDGED_NUMBERS || (int32_t)r->n_values == r->h.n_outputs;
    if (!fits) {
        FM_FAIL(FM_ERR_DATA, "rows have %u numbers, the head says %d", r->n_values, (int)r->h.n_outputs);
    }
    r->n_values = FM_MAX(r->n_values, 1);
    return fm_grow((void **)&r->ex.values, &r->ex.cap_values, r->n_values, sizeof *r->ex.values);
}

/* The row as tokens in r->ex. Texts longer than the model reads keep their beginning, as in training. */
static fm_status make(runner *r, size_t i, fm_eval_scores *s) {
    fm_example *x = &r->ex;
    x->n = 0;
    x->reason = NULL;
    x->keep_at_end = 0;
    FM_TRY(r->task->make(r->state, x, r->e->row[i].rec));
    if (x->reason || x->n == 0) {
        return at_row(&r->e->row[i], x->reason ? x->reason : "its text has no tokens");
    }
    if ((int64_t)x->n <= r->limit) {
        return FM_OK;
    }
    if (r->h.what == FM_JUDGED_TAGS || (int64_t)x->keep_at_end >= r->limit) {
        return at_row(&r->e->row[i], "it is longer than the model reads");
    }
    size_t head = (size_t)r->limit - x->keep_at_end, tail = x->n - x->keep_at_end;
    memmove(x->ids + head, x->ids + tail, x->keep_at_end * sizeof *x->ids);
    memmove(x->marks + head, x->marks + tail, x->keep_at_end * sizeof *x->marks);
    x->n = (size_t)r->limit;
    s->n_truncated++;
    return FM_OK;
}

/* Behind the texts of the pass. */
static fm_status take(runner *r) {
    const fm_example *x = &r->ex;
    FM_TRY(fm_grow((void **)&r->ids, &r->cap_ids, r->n_ids + x->n, sizeof *r->ids));
    FM_TRY(fm_grow((void **)&r->marks, &r->cap_marks, r->n_ids + x->n, sizeof *r->marks));
    FM_TRY(fm_grow((void **)&r->offsets, &r->cap_offsets, r->n_texts + 2, sizeof *r->offsets));
    FM_TRY(fm_grow((void **)&r->values, &r->cap_values, (r->n_texts + 1) * r->n_values, sizeof *r->values));
    memcpy(r->ids + r->n_ids, x->ids, x->n * sizeof *x->ids);
    memcpy(r->marks + r->n_ids, x->marks, x->n * sizeof *x->marks);
    memcpy(r->values + r->n_texts * r->n_values, x->values, r->n_values * sizeof *x->values);
    r->offsets[0] = 0;
    r->n_ids += x->n;
    r->offsets[++r->n_texts] = (int32_t)r->n_ids;
    return FM_OK;
}

static fm_status flush(runner *r, fm_eval_scores *s) {
    bool each_token = r->h.what == FM_JUDGED_TAGS || r->h.what == FM_JUDGED_SPAN;
    size_t width = (size_t)r->h.n_outputs, n = each_token ? r->n_ids : r->n_texts;
    if (r->n_texts == 0) {
        return FM_OK;
    }
    FM_TRY(fm_grow((void **)&r->out, &r->cap_out, n * width, sizeof *r->out));
    const fm_texts t = {.size = sizeof t, .ids = r->ids, .offsets = r->offsets, .n = (int32_t)r->n_texts};
    FM_TRY(fm_model_scores(r->m, r->h.index, &t, r->out));
    for (size_t k = 0; k < r->n_texts; k++) {
        size_t i = r->from + k, at = (size_t)r->offsets[k];
        const float *y = r->out + (each_token ? at : k) * width, *v = r->values + k * r->n_values;
        const fm_judged_text one = {y, r->marks + at, r->offsets[k + 1] - r->offsets[k], v};
        for (size_t j = 0; r->said && j < width; j++) {
            r->said[i * width + j] = (double)y[j];
            r->truth[i * width + j] = (double)v[j];
        }
        FM_TRY(fm_head_judge(r->e, &r->h, s, i, &one));
    }
    s->tokens += (int64_t)r->n_ids;
    r->from += r->n_texts;
    r->n_texts = r->n_ids = 0;
    return FM_OK;
}

static fm_status run(runner *r, fm_eval_scores *s) {
    fm_eval *e = r->e;
    fm_meter meter;
    if (r->h.what == FM_JUDGED_NUMBERS) {
        size_t n = e->n_rows * (size_t)r->h.n_outputs + 1;
        r->said = fm_calloc(n, sizeof *r->said);
        r->truth = fm_calloc(n, sizeof *r->truth);
        if (!r->said || !r->truth) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the numbers of %zu rows", e->n_rows);
        }
    }
    FM_TRY(scan(r));
    fm_meter_start(&meter, "judging", "rows", (double)e->n_rows);
    for (size_t i = 0; i < e->n_rows; i++) {
        FM_TRY(make(r, i, s));
        if (r->n_texts > 0 && r->n_ids + r->ex.n > (size_t)e->cfg->batch_tokens) {
            FM_TRY(flush(r, s));
            fm_meter_update(&meter, (double)i, "");
        }
        FM_TRY(take(r));
    }
    FM_TRY(flush(r, s));
    return r->said ? fm_head_numbers(e, &r->h, s, r->said, r->truth) : FM_OK;
}

static fm_status score(fm_eval *e, fm_model *m, fm_eval_scores *s) {
    runner r;
    fm_status st = open_runner(&r, e, m);
    if (st == FM_OK) {
        st = run(&r, s);
    }
    runner_deinit(&r);
    return st;
}

const fm_eval_kind fm_eval_kind_head = {.name = "head", .prepare = prepare, .measures = measures, .score = score};
