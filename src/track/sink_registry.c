/* Training runs in the registry. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "track/registry.h"
#include "track/sinks.h"

typedef struct sink {
    fm_registry *r;
    int64_t id;
    char *dir;
    const fm_findings_source *findings; /* or NULL */
    fm_json *report;                    /* data card, then findings */
} sink;

static void sink_free(sink *s) {
    if (s) {
        fm_registry_close(s->r);
        fm_json_free(s->report);
        fm_free(s->dir);
        fm_free(s);
    }
}

/* A packed folder names the files that it was made of: they were read too. */
static fm_status note_packed(sink *s, const char *path) {
    char file[4096];
    fm_json *j;
    FM_TRY(fm_path_join(file, sizeof file, path, "dataset.json"));
    if (!fm_path_exists(file)) {
        return FM_OK;
    }
    FM_TRY(fm_json_load(&j, file));
    const fm_json *files = fm_json_get(j, "files");
    fm_status st = FM_OK;
    for (size_t i = 0; i < fm_json_size(files) && st == FM_OK; i++) {
        const char *name = fm_json_str(fm_json_at(files, i), NULL);
        st = name ? fm_run_file(s->r, s->id, false, "source", name, NULL) : FM_OK;
    }
    fm_json_free(j);
    return st;
}

/* Rows that were packed in the course of the run stand there with the hash of their packed form, and as they are. An
 * entry may name the task of a file: TASK=FILE. */
static fm_status note_input(sink *s, const char *role, const char *path, const char *hash) {
    const char *file = strchr(path, '=');
    path = file && !fm_path_exists(path) && fm_path_exists(file + 1) ? file + 1 : path;
    FM_TRY(fm_run_file(s->r, s->id, false, role, path, hash));
    if (hash && strcmp(role, "data") == 0 && fm_path_exists(path) && !fm_path_is_dir(path)) {
        return fm_run_file(s->r, s->id, false, "source", path, NULL);
    }
    return strcmp(role, "data") == 0 && fm_path_is_dir(path) ? note_packed(s, path) : FM_OK;
}

/* Paths that the configuration names; the packed data has a hash of its own. */
static fm_status note_inputs(sink *s, const fm_train_info *info) {
    static const char *const role[][2] = {
        {"dataset", "data"}, {"eval_dataset", "data"}, {"tokenizer", "tokenizer"}, {"model_name_or_path", "model"}};
    fm_yaml *y;
    FM_TRY(fm_yaml_parse(&y, info->config_yaml, strlen(info->config_yaml), "config"));
    fm_status st = FM_OK;
    for (size_t i = 0; i < FM_ARRAY_LEN(role) && st == FM_OK; i++) {
        const fm_yaml *v = y ? fm_yaml_get(y, role[i][0]) : NULL;
        const char *hash = i == 0 && info->data_hash && *info->data_hash ? info->data_hash : NULL;
        if (v && v->kind == FM_YAML_SCALAR && v->text && *v->text) {
            st = note_input(s, role[i][1], v->text, hash);
        }
        for (size_t k = 0; v && v->kind == FM_YAML_LIST && k < v->n && st == FM_OK; k++) {
            const char *text = v->child[k]->text;
            st = text ? note_input(s, role[i][1], text, v->n == 1 ? hash : NULL) : FM_OK;
        }
    }
    fm_yaml_free(y);
    return st;
}

static fm_status card_member(fm_json *card, const char *key, const fm_json *v) {
    fm_json *copy;
    if (fm_json_is_null(v)) {
        return FM_OK;
    }
    FM_TRY(fm_json_copy(&copy, v));
    return fm_json_set(card, key, copy);
}

/* What the packed data counts: OUTPUT/cache/data, or the folder that was named. */
static fm_status read_card(fm_json **out, const char *dir) {
    static const char *const places[] = {"cache/data/dataset.json", "cache/data/train/dataset.json"};
    static const char *const own[] = {"task",    "problem",    "labels", "n_documents",    "n_examples", "n_tokens",
                                      "n_bytes", "vocab_size", "hash",   "tokenizer_hash", "files"};
    static const char *const counted[] = {"n_rows", "n_bad", "n_long", "n_cut", "n_split", "n_dropped"};
    char path[4096] = "";
    fm_json *j;
    for (size_t i = 0; i < FM_ARRAY_LEN(places); i++) {
        FM_TRY(fm_path_join(path, sizeof path, dir, places[i]));
        if (fm_path_exists(path)) {
            break;
        }
    }
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    FM_TRY(fm_json_load(&j, path));
    *out = fm_json_new_object();
    fm_status s = *out ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a data card");
    for (size_t i = 0; i < FM_ARRAY_LEN(own) && s == FM_OK; i++) {
        s = card_member(*out, own[i], fm_json_get(j, own[i]));
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(counted) && s == FM_OK; i++) {
        s = card_member(*out, counted[i], fm_json_get(fm_json_get(j, "counts"), counted[i]));
    }
    fm_json_free(j);
    return s;
}

static fm_status write_report(const sink *s) {
    fm_str text = {0};
    fm_status st = fm_json_dump(&text, s->report, 0);
    st = st == FM_OK ? fm_run_report(s->r, s->id, text.data) : st;
    fm_str_free(&text);
    return st;
}

static fm_status note_card(sink *s) {
    fm_json *card = NULL;
    fm_status st = read_card(&card, s->dir);
    if (st == FM_OK && card) {
        FM_TRY(fm_json_set(s->report, "data", card));
        return write_report(s);
    }
    fm_json_free(card);
    return st;
}

/* A run that is resumed goes on in its row; points of the lost past are taken away. */
static fm_status start(sink *s, const fm_train_info *info) {
    if (info->first_step > 0) {
        FM_TRY(fm_run_find_output(s->r, "train", info->output_dir, &s->id));
    }
    if (s->id > 0) {
        const fm_sql_value v[] = {FM_SQL_I(s->id), FM_SQL_I(info->first_step)};
        FM_TRY(fm_sql_run(s->r->db, "DELETE FROM point WHERE run = ? AND step > ?", v, 2, NULL, NULL));
        FM_TRY(fm_sql_run(s->r->db, "UPDATE run SET status = 'running', ended = NULL WHERE id = ?", v, 1, NULL, NULL));
        return fm_sql_run(s->r->db, "DELETE FROM file WHERE run = ? AND made = 1", v, 1, NULL, NULL);
    }
    FM_TRY(
        fm_run_begin(s->r, &(fm_run_start){info->run_name, "train", info->config_yaml, info->output_dir, 0}, &s->id));
    FM_TRY(note_inputs(s, info));
    FM_TRY(fm_run_figure(s->r, s->id, "parameters", (double)info->n_params, NAN, NAN, NULL));
    return fm_run_figure(s->r, s->id, "tokens_per_step", (double)info->tokens_per_step, NAN, NAN, NULL);
}

static fm_status begin(void **state, void *user, const fm_train_info *info) {
    *state = NULL;
    fm_registry *r;
    FM_TRY(fm_registry_open(&r, NULL, true));
    if (!r) {
        return FM_OK;
    }
    sink *s = fm_calloc(1, sizeof *s);
    if (!s) {
        fm_registry_close(r);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a run");
    }
    s->r = r;
    s->findings = user;
    s->dir = fm_strdup(info->output_dir);
    s->report = fm_json_new_object();
    fm_status st = s->dir && s->report ? start(s, info)
                                       : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a run");
    st = st == FM_OK ? note_card(s) : st;
    if (st != FM_OK) {
        sink_free(s);
        return st;
    }
    *state = s;
    return FM_OK;
}

static fm_status points(sink *s, const fm_train_event *e) {
    const struct {
        const char *series;
        double value;
    } row[] = {{"loss", e->loss},
               {"learning_rate", e->learning_rate},
               {"grad_norm", e->grad_norm},
               {"tokens_per_second", e->tokens_per_s},
               {"mfu", e->mfu},
               {"expert_max_violation", e->expert_max_violation},
               {"eval_loss", e->eval_loss},
               {"eval_perplexity", e->eval_perplexity},
               {"eval_bits_per_byte", e->eval_bits_per_byte}};
    for (size_t i = 0; i < FM_ARRAY_LEN(row); i++) {
        FM_TRY(fm_run_point(s->r, s->id, row[i].series, e->step, row[i].value));
    }
    for (int i = 0; i < e->n_metrics; i++) {
        FM_TRY(fm_run_point(s->r, s->id, e->metrics[i].name, e->step, e->metrics[i].value));
        FM_TRY(fm_run_figure(s->r, s->id, e->metrics[i].name, e->metrics[i].value, NAN, NAN, "of the last evaluation"));
    }
    return FM_OK;
}

static fm_status event(void *state, const fm_train_event *e) {
    sink *s = state;
    if (!s) {
        return FM_OK;
    }
    FM_TRY(fm_sql_exec(s->r->db, "BEGIN IMMEDIATE"));
    fm_status st = points(s, e);
    if (st != FM_OK) {
        return st; /* the sink is left out from here on; closing rolls back */
    }
    return fm_sql_exec(s->r->db, "COMMIT");
}

/* What the run's numbers say; a log that cannot be read says nothing. */
static fm_status note_findings(const sink *s) {
    char *json = NULL;
    fm_json *j = NULL, *list = NULL;
    if (!s->findings || s->findings->of_folder(&json, s->dir) != FM_OK) {
        fm_error_clear();
        return FM_OK;
    }
    fm_status st = fm_json_parse(&j, json, strlen(json), "findings");
    st = st == FM_OK ? fm_json_copy(&list, fm_json_get(j, "findings")) : st;
    st = st == FM_OK ? fm_json_set(s->report, "findings", list) : st;
    st = st == FM_OK ? write_report(s) : st;
    fm_json_free(j);
    fm_string_free(json);
    return st;
}

static fm_status finish(sink *s, const fm_train_result *r) {
    const struct {
        const char *name;
        double value;
    } row[] = {{"train_loss", r->train_loss},
               {"eval_loss", r->eval_loss},
               {"eval_bits_per_byte", r->eval_bits_per_byte},
               {"steps", (double)r->steps},
               {"tokens", (double)r->tokens},
               {"seconds", r->seconds},
               {"tokens_per_second", r->tokens_per_s},
               {"mfu", r->mfu},
               {"skipped_steps", (double)r->skipped_steps}};
    for (size_t i = 0; i < FM_ARRAY_LEN(row); i++) {
        if (isfinite(row[i].value)) {
            FM_TRY(fm_run_figure(s->r, s->id, row[i].name, row[i].value, NAN, NAN, NULL));
        }
    }
    FM_TRY(note_findings(s));
    FM_TRY(fm_run_file(s->r, s->id, true, "model", s->dir, NULL));
    return fm_run_end(s->r, s->id, strcmp(r->stopped_by, "interrupt") == 0 ? "interrupted" : "done");
}

static void end(void *state, const fm_train_result *r) {
    sink *s = state;
    if (!s) {
        return;
    }
    fm_error_record failure; /* a run that failed keeps its own error */
    fm_error_save(&failure);
    fm_status st = r ? finish(s, r) : fm_run_end(s->r, s->id, fm_cancelled() ? "interrupted" : "failed");
    if (st != FM_OK) {
        fm_warn("the registry of runs was not brought up to date: %s", fm_error_get().message);
    }
    fm_error_restore(&failure);
    sink_free(s);
}

const fm_train_sink fm_sink_registry = {.name = "registry of runs", .begin = begin, .event = event, .end = end};
