/* fm_eval_run: configuration, data, model, scores. */
#include <math.h>
#include <string.h>

#include "data/frozen.h"
#include "base/file.h"
#include "base/log.h"
#include "eval/task.h"

#define F(k) .key = #k, .offset = offsetof(fm_eval_config, k)
static const fm_option rows[] = {
    {F(model), .type = FM_OPT_STR, .aliases = "model_name_or_path", .metavar = "DIR", .help = "The model."},
    {F(adapter), .type = FM_OPT_STR, .aliases = "adapter_name_or_path", .metavar = "DIR",
     .help = "PEFT folder whose additions it gets."},
    {F(column), .type = FM_OPT_INT, .def = "0", .min = 0, .max = 64,
     .help = "Of a model with progressive columns: the one that answers, 1 = the first; 0 = the newest."},
    {F(task), .type = FM_OPT_STR, .metavar = "NAME|FILE",
     .help = "A task of `fathom eval list`, or a data file whose columns say what it is."},
    {F(data), .type = FM_OPT_LIST, .metavar = "PATH", .help = "Rows to score: files, or the folder of a benchmark."},
    {F(fewshot_data), .type = FM_OPT_LIST, .metavar = "PATH",
     .help = "Rows that examples are taken from; a benchmark's folder has its own."},
    {F(num_fewshot), .type = FM_OPT_INT, .def = "-1", .min = -1, .max = 1000,
     .help = "Examples before each question; -1 = as the task says."},
    {F(split), .type = FM_OPT_STR, .help = "Part of a benchmark's folder: test, val ..."},
    {F(format), .type = FM_OPT_STR, .def = "auto", .help = "Format of the data (`fathom data list` names them)."},
    {F(columns), .type = FM_OPT_LIST, .metavar = "NAMES",
     .help = "Names of the columns of files without a header line."},
    {F(head), .type = FM_OPT_STR, .metavar = "NAME",
     .help = "head: which of the model's heads (`fathom info` lists them); the model's own without it."},
    {F(pair_column), .type = FM_OPT_STR, .metavar = "COLUMN", .help = "head: column with a second text."},
    {F(question), .type = FM_OPT_STR, .metavar = "COLUMN",
     .help = "Column of the question; else question, query, instruction or prompt."},
    {F(choices), .type = FM_OPT_LIST, .metavar = "COLUMNS",
     .help = "Columns of the choices, or one column with a list; else choices, options, or A, B, C ..."},
    {F(answer), .type = FM_OPT_STR, .metavar = "COLUMN",
     .help = "Column of the answer; else answer, label, gold, answerKey, target, output."},
    {F(answer_base), .type = FM_OPT_INT, .def = "0", .min = 0, .max = 1,
     .help = "Answers given as numbers begin with this."},
    {F(style), .type = FM_OPT_ENUM, .choices = "auto|letters|cloze",
     .help = "Choices as letters that the prompt lists (MMLU), or the text of each as continuation (cloze)."},
    {F(prompt), .type = FM_OPT_STR, .metavar = "TEMPLATE",
     .help = "Prompt of a row, with {column} for its columns, e.g. \"Question: {question}\\nAnswer:\"."},
    {F(description), .type = FM_OPT_STR, .metavar = "TEMPLATE", .help = "Text before the examples."},
    {F(target_delimiter), .type = FM_OPT_STR, .metavar = "TEXT",
     .help = "Between prompt and answer; a blank unless the task says otherwise."},
    {F(fewshot_delimiter), .type = FM_OPT_STR, .metavar = "TEXT",
     .help = "Between examples; an empty line unless the task says otherwise."},
    {F(apply_chat_template), .type = FM_OPT_BOOL, .help = "Ask by the model's chat template, examples as turns."},
    {F(system), .type = FM_OPT_STR, .metavar = "TEXT", .help = "With the chat template: the system message."},
    {F(text_column), .type = FM_OPT_STR, .def = "text", .metavar = "COLUMN", .help = "ppl: column of the text."},
    {F(text_template), .type = FM_OPT_STR, .metavar = "TEMPLATE",
     .help = "ppl: text made of columns, e.g. \"{title}\\n{body}\"."},
    {F(text_unit), .type = FM_OPT_ENUM, .choices = "file|paragraph|line", .help = "What a text of a .txt file is."},
    {F(window), .type = FM_OPT_INT, .def = "0", .min = 0, .max = 1e9,
     .help = "ppl: tokens the model reads at once; 0 = all it can."},
    {F(stride), .type = FM_OPT_INT, .def = "0", .min = 0, .max = 1e9,
     .help = "ppl: tokens a sliding window moves by; 0 = disjoint windows."},
    {F(metrics), .type = FM_OPT_LIST, .metavar = "NAMES",
     .help = "qa: em, f1, bleu, rouge1, rouge2, rougeL, exact_match_strict, exact_match_flexible; "
             "mc: acc, acc_norm, acc_bytes, acc_mutual_info; head: some of its own."},
    {F(tokenize), .type = FM_OPT_ENUM, .choices = "default|none|13a|intl|zh|char|word|mixed",
     .help = "qa: how metrics cut texts; default looks at the references (zh and mixed for Chinese)."},
    {F(lowercase), .type = FM_OPT_BOOL, .help = "qa: compare in lower case."},
    {F(normalize), .type = FM_OPT_BOOL, .help = "qa: em and f1 without case, punctuation and articles (SQuAD)."},
    {F(filter), .type = FM_OPT_STR,
     .help = "qa: what is taken of an answer: none, strip, first_line, strict, flexible."},
    {F(max_new_tokens), .type = FM_OPT_INT, .def = "0", .min = 0, .max = 1e6,
     .help = "qa: length of an answer at most; 0 = as the task says, else 256."},
    {F(samples), .type = FM_OPT_INT, .def = "0", .min = 0, .max = FM_EVAL_SAMPLES,
     .help = "qa: so many sampled answers besides the greedy one; the one that agrees best with the others (sentence "
             "BLEU) is scored. 0 = greedy."},
    {F(temperature), .type = FM_OPT_FLOAT, .def = "0.7", .min = 0.01, .max = 10, .help = "qa: of samples."},
    {F(repetition_penalty), .type = FM_OPT_FLOAT, .def = "1", .min = 0.01, .max = 10,
     .help = "qa: above 1 makes tokens that came before less likely."},
    {F(stop), .type = FM_OPT_LIST, .metavar = "TEXTS", .help = "qa: an answer ends before the first of these."},
    {F(max_samples), .type = FM_OPT_INT, .aliases = "limit", .def = "0", .min = 0, .max = 1e12,
     .help = "Score only the first rows of each subject; 0 = all."},
    {F(compare), .type = FM_OPT_STR, .metavar = "DIR",
     .help = "A second model on the same rows: paired differences with intervals."},
    {F(compare_adapter), .type = FM_OPT_STR, .metavar = "DIR",
     .help = "PEFT folder of the second model (compare may then be left out: the same base)."},
    {F(slice_by), .type = FM_OPT_LIST, .metavar = "COLUMNS",
     .help = "Figures for each value of these columns; length and language are made from the question."},
    {F(terms), .type = FM_OPT_LIST, .metavar = "WORDS",
     .help = "Figures for the rows whose question has each of these."},
    {F(worst), .type = FM_OPT_INT, .def = "10", .min = 0, .max = 1e6, .help = "Worst rows to show."},
    {F(bootstrap), .type = FM_OPT_INT, .def = "1000", .min = 0, .max = 1e6,
     .help = "Resamples behind intervals; 0 = none."},
    {F(confidence), .type = FM_OPT_FLOAT, .def = "0.95", .min = 0.5, .max = 0.9999,
     .help = "Share of resamples inside an interval."},
    {F(seed), .type = FM_OPT_INT, .def = "42", .help = "Of the resamples and sampled answers."},
    {F(rows_output), .type = FM_OPT_STR, .aliases = "output|o", .metavar = "FILE.jsonl",
     .help = "A line for each row: scores, answers, likelihoods."},
    {F(batch_tokens), .type = FM_OPT_INT, .def = "1024", .min = 1, .max = 1e6, .help = "Tokens of one forward pass."},
    {F(dtype), .type = FM_OPT_STR, .def = "auto", .help = "Precision: auto, bf16, f32."},
    {F(threads), .type = FM_OPT_INT, .def = "0", .min = 0, .max = 4096, .help = "Threads; 0 = all."},
    {0},
};
#undef F

const fm_option *fm_eval_options(void) {
    return rows;
}

fm_status fm_eval_config_new(fm_eval_config **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    fm_status s = fm_options_init(*out, rows);
    if (s != FM_OK) {
        fm_eval_config_free(*out);
        *out = NULL;
    }
    return s;
}

void fm_eval_config_free(fm_eval_config *cfg) {
    if (cfg) {
        fm_options_free(cfg, rows);
        fm_free(cfg);
    }
}

const char *fm_eval_config_model(const fm_eval_config *cfg) {
    return cfg->model;
}

/* ---- task and data ----------------------------------------------------------------------------- */

fm_status fm_eval_measure(fm_eval *e, const fm_measure *m, int *at) {
    FM_ASSERT(e->n_measures < FM_MAX_MEASURES && m->n_stats >= 1 && m->n_stats <= FM_MAX_STATS);
    *at = e->n_stats;
    e->measure[e->n_measures++] = *m;
    e->n_stats += m->n_stats;
    return FM_OK;
}

fm_status fm_eval_add_row(fm_eval *e, fm_eval_row **out) {
    FM_TRY(fm_grow((void **)&e->row, &e->cap_rows, e->n_rows + 1, sizeof *e->row));
    *out = &e->row[e->n_rows++];
    **out = (fm_eval_row){.subject = ""};
    return FM_OK;
}

static const fm_eval_task *find_task(const char *name) {
    const fm_eval_task *t = NULL;
    for (size_t i = 0; (t = fm_eval_task_at(i)) != NULL; i++) {
        if (strcmp(t->name, name) == 0) {
            return t;
        }
    }
    return NULL;
}

static fm_status unknown_task(const char *name) {
    const char *names[64];
    int n = 0;
    for (; n < 64 && fm_eval_task_at((size_t)n); n++) {
        names[n] = fm_eval_task_at((size_t)n)->name;
    }
    int near = fm_nearest_name(name, names, n);
    (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "\"%s\" is no task and no file", name);
    return near >= 0 ? fm_error_hint("did you mean %s?", names[near])
                     : fm_error_hint("'fathom eval list' names the tasks");
}

/* True for a model whose own head judges texts or words, by its configuration. */
static bool judges(const char *model) {
    char path[4096];
    fm_json *j = NULL;
    if (snprintf(path, sizeof path, "%s/config.json", model) >= (int)sizeof path || fm_json_load(&j, path) != FM_OK) {
        fm_error_clear();
        return false;
    }
    const char *name = fm_json_str(fm_json_at(fm_json_get(j, "architectures"), 0), NULL);
    bool yes = name && strstr(name, "Classification");
    fm_json_free(j);
    return yes;
}

/* A file's columns say what it is, to a model that writes. */
static const fm_eval_task *guess_task(const fm_eval *e) {
    const fm_rec *r = e->table.n > 0 ? e->table.row[0].rec : NULL;
    if (!r) {
        return NULL;
    }
    if (e->cfg->head || judges(e->cfg->model)) {
        return find_task("head");
    }
    if (e->cfg->choices.n > 0 || fm_rec_get(r, "choices") || fm_rec_get(r, "options") ||
        (fm_rec_get(r, "A") && fm_rec_get(r, "B"))) {
        return find_task("mc");
    }
    if (fm_rec_get(r, "question") || fm_rec_get(r, "instruction") || fm_rec_get(r, "query") || e->cfg->question) {
        return find_task("qa");
    }
    return fm_rec_get(r, e->cfg->text_column) || e->cfg->text_template ? find_task("ppl") : NULL;
}

/* At most max_samples rows of each subject. */
static void keep_first(fm_eval_table *t, int64_t most) {
    size_t n = 0;
    int64_t here = 0;
    for (size_t i = 0; most > 0 && i < t->n; i++) {
        here = i > 0 && t->row[i].subject == t->row[i - 1].subject ? here + 1 : 1;
        if (here <= most) {
            t->row[n++] = t->row[i];
        }
    }
    t->n = most > 0 ? n : t->n;
}

static fm_status load(fm_eval *e, fm_eval_table *t, const fm_strlist *paths, const char *one, const char *split) {
    const fm_eval_config *c = e->cfg;
    fm_sv *columns;
    fm_table_options o = {.format = c->format, .split = split, .txt_unit = c->text_unit};
    const fm_eval_task *task = e->task;
    FM_TRY(fm_eval_pick_list(e, &columns, &o.n_columns, &c->columns, task ? task->columns : NULL));
    o.columns = o.n_columns > 0 ? columns : NULL;
    o.subject = task ? task->subject : NULL;
    for (size_t i = 0; i < paths->n; i++) {
        FM_TRY(fm_frozen_verify(paths->item[i], e->frozen[0] ? (char[33]){0} : e->frozen));
        FM_TRY(fm_eval_table_load(t, paths->item[i], &o));
    }
    FM_TRY(one && paths->n == 0 ? fm_frozen_verify(one, e->frozen) : FM_OK);
    return one && paths->n == 0 ? fm_eval_table_load(t, one, &o) : FM_OK;
}

static fm_status load_data(fm_eval *e) {
    const fm_eval_config *c = e->cfg;
    if (!c->task) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "no task was given");
        return fm_error_hint("--task NAME of `fathom eval list`, or --task FILE");
    }
    e->task = find_task(c->task);
    if (!e->task && !fm_path_exists(c->task)) {
        return unknown_task(c->task);
    }
    if (e->task && c->data.n == 0) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "task %s: no data was given", c->task);
        return fm_error_hint("data=PATH: %s", e->task->help);
    }
    const char *split = fm_eval_pick(c->split, e->task ? e->task->split : NULL, NULL);
    FM_TRY(load(e, &e->table, &c->data, e->task ? NULL : c->task, split));
    if (!e->task) {
        e->task = guess_task(e);
        if (!e->task) {
            (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s: the columns do not say what to do with it",
                               c->task);
            return fm_error_hint("--task mc, qa or ppl with --data %s, and the keys that name columns", c->task);
        }
        fm_info("%s: scored as task %s", c->task, e->task->name);
    }
    keep_first(&e->table, c->max_samples);
    int64_t shots = c->num_fewshot >= 0 ? c->num_fewshot : e->task->num_fewshot;
    if (shots > 0) {
        bool own =
            c->fewshot_data.n == 0 && c->data.n == 1 && e->task->fewshot_split && fm_path_is_dir(c->data.item[0]);
        if (c->fewshot_data.n == 0 && !own) {
            (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "num_fewshot %lld: there are no examples",
                               (long long)shots);
            return fm_error_hint("fewshot_data=FILE gives them (training rows, not the ones that are scored), "
                                 "num_fewshot=0 does without");
        }
        FM_TRY(load(e, &e->shots, &c->fewshot_data, own ? c->data.item[0] : NULL, e->task->fewshot_split));
    }
    return FM_OK;
}

/* ---- models ------------------------------------------------------------------------------------ */

static fm_status prepare(fm_eval *e, fm_model *m) {
    e->model = m;
    if (e->cfg->apply_chat_template && e->task->kind != &fm_eval_kind_ppl) {
        fm_template_free(e->chat);
        e->chat = NULL;
        FM_TRY(fm_template_open(&e->chat, NULL, m->tokenizer));
    }
    e->n_rows = 0;
    FM_TRY(e->task->kind->prepare(e));
    if (e->n_rows == 0) {
        FM_FAIL(FM_ERR_DATA, "the data has no rows to score");
    }
    if (e->n_measures == 0) {
        FM_TRY(e->task->kind->measures(e));
    }
    if (e->n_measures == 0) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "none of the metrics is one of task %s", e->task->name);
        return fm_error_hint("`fathom eval --help` names them");
    }
    return FM_OK;
}

static fm_status score_with(fm_eval *e, fm_model *m, fm_eval_scores *s) {
    const fm_tokenizer *tok;
    FM_TRY(fm_model_tokenizer(&tok, m)); /* opens it */
    if (e->n_rows == 0 || e->chat) {     /* plain prompts are the same for every model */
        FM_TRY(prepare(e, m));
    }
    size_t n = e->n_rows;
    s->stats = fm_calloc(n * (size_t)e->n_stats, sizeof *s->stats);
    s->rank = fm_calloc(n, sizeof *s->rank);
    s->output = fm_calloc(n, sizeof *s->output);
    s->said = fm_calloc(n, sizeof *s->said);
    s->cut = fm_calloc(n, sizeof *s->cut);
    s->has_template = fm_tokenizer_chat_template(tok) != NULL;
    if (!s->stats || !s->rank || !s->output || !s->said || !s->cut) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the scores of %zu rows", n);
    }
    double begin = fm_now();
    FM_TRY(e->task->kind->score(e, m, s));
    s->seconds = fm_now() - begin;
    for (size_t i = 0; e->task->kind == &fm_eval_kind_ppl && i < n; i++) {
        s->rank[i] = -fm_measure_value(&e->measure[0], s->stats + i * (size_t)e->n_stats);
    }
    return FM_OK;
}

static fm_status run_model(fm_eval *e, const char *path, const char *adapter, int column, fm_eval_scores *s) {
    const fm_eval_config *c = e->cfg;
    fm_model *m = NULL;
    fm_model_options o = {
        .size = sizeof o, .dtype = c->dtype, .threads = (int)c->threads, .adapter = adapter, .column = column};
    double begin = fm_now();
    s->first_token_ms = s->per_token_ms = NAN;
    FM_TRY(fm_model_open(&m, path, &o));
    s->load_seconds = fm_now() - begin;
    fm_status st = score_with(e, m, s);
    fm_model_close(m);
    return st;
}

static void scores_deinit(fm_eval_scores *s) {
    fm_free(s->stats);
    fm_free(s->rank);
    fm_free(s->output);
    fm_free(s->said);
    fm_free(s->cut);
    fm_bump_free(&s->arena);
}

static fm_status run(fm_eval *e, char **json) {
    const fm_eval_config *c = e->cfg;
    fm_eval_scores s = {0}, other = {0};
    fm_str text = {0};
    fm_json *report = NULL;
    bool pair = c->compare || c->compare_adapter;
    fm_status st = load_data(e);
    st = st == FM_OK ? run_model(e, c->model, c->adapter, (int)c->column, &s) : st;
    if (st == FM_OK && pair) {
        st = run_model(e, c->compare ? c->compare : c->model, c->compare_adapter, 0, &other);
    }
    st = st == FM_OK && c->rows_output ? fm_eval_write_rows(e, &s, pair ? &other : NULL) : st;
    st = st == FM_OK ? fm_eval_report(&report, e, &s, pair ? &other : NULL) : st;
    st = st == FM_OK ? fm_json_dump(&text, report, 0) : st;
    if (st == FM_OK) {
        *json = fm_str_take(&text);
    }
    fm_str_free(&text);
    fm_json_free(report);
    scores_deinit(&s);
    scores_deinit(&other);
    return st;
}

fm_status fm_eval_run(const fm_eval_config *cfg, char **json) {
    *json = NULL;
    if (!cfg->model) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "no model was given");
        return fm_error_hint("--model DIR");
    }
    fm_eval e = {.cfg = cfg};
    fm_status s = run(&e, json);
    fm_eval_table_free(&e.table);
    fm_eval_table_free(&e.shots);
    fm_free(e.row);
    fm_bump_free(&e.arena);
    fm_template_free(e.chat);
    return s;
}
