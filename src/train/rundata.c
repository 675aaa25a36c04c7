/* The data of a run: packed folders, or raw files packed into OUTPUT/cache first. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/frozen.h"
#include "train/difficulty.h"
#include "train/tasks.h"

#define VERIFY_LIMIT ((int64_t)8 << 30) /* tokens: above it the hashes would take minutes */

static fm_status is_packed(bool *out, const char *dir) {
    char part[4096], path[4096];
    *out = false;
    if (fm_path_is_dir(dir)) {
        FM_TRY(fm_dataset_part(part, sizeof part, dir, "train"));
        FM_TRY(fm_path_join(path, sizeof path, part, "dataset.json"));
        *out = fm_path_exists(path);
    }
    return FM_OK;
}

static fm_status set_if(fm_pack_config *p, const char *key, const char *value) {
    return value ? fm_options_set(p, fm_pack_options(), key, value, "training configuration") : FM_OK;
}

static fm_status fill_pack_config(fm_pack_config *p, const fm_trainer *r, const fm_strlist *files, double val_size,
                                  const char *output) {
    const fm_train_config *c = r->cfg;
    for (size_t i = 0; i < files->n; i++) {
        FM_TRY(fm_options_append(p, fm_pack_options(), "input", files->item[i], "dataset"));
    }
    FM_TRY(set_if(p, "tokenizer", c->tokenizer ? c->tokenizer : c->model_name_or_path));
    FM_TRY(set_if(p, "output", output));
    FM_TRY(set_if(p, "text_column", c->rows.text_column));
    FM_TRY(set_if(p, "text_template", c->rows.text_template));
    p->rows.format = c->rows.format;
    p->rows.txt_unit = c->rows.txt_unit;
    p->val_size = val_size;
    p->threads = c->threads;
    p->guarded = true;              /* resolve() looked */
    p->overwrite_output_dir = true; /* the cache is ours */
    return FM_OK;
}

static fm_status pack_raw(fm_trainer *r, const fm_strlist *files, double val_size, const char *name, char *dir,
                          size_t cap) {
    const fm_train_config *c = r->cfg;
    if (!c->tokenizer && !c->model_name_or_path) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "dataset %s is not packed and no tokenizer is named",
                     files->item[0]);
        return fm_error_hint("set tokenizer, or pack the data first: fathom data pack");
    }
    char cache[4096];
    FM_TRY(fm_path_join(cache, sizeof cache, c->output_dir, "cache"));
    FM_TRY(fm_mkdirs(cache));
    FM_TRY(fm_path_join(dir, cap, cache, name));
    fm_pack_config *p;
    FM_TRY(fm_pack_config_new(&p));
    fm_pack_report rep = {.size = sizeof rep};
    fm_status s = fill_pack_config(p, r, files, val_size, dir);
    if (s == FM_OK) {
        s = fm_data_pack(&rep, p, NULL, NULL);
    }
    fm_pack_config_free(p);
    FM_TRY(s);
    fm_info("data: %lld rows, %lld documents, %lld tokens", (long long)rep.n_rows, (long long)rep.n_documents,
            (long long)rep.n_tokens);
    if (rep.n_bad > 0) {
        fm_warn("%lld bad rows were set aside in %s/rejects.jsonl", (long long)rep.n_bad, dir);
    }
    return FM_OK;
}

/* Labels that the model's head has already: training goes on with them. */
static fm_json *known_labels(const fm_train_config *c, bool several) {
    char path[4096];
    fm_json *j = NULL, *out = NULL;
    if (!c->model_name_or_path || c->train_from_scratch ||
        fm_path_join(path, sizeof path, c->model_name_or_path, "config.json") != FM_OK || !fm_path_exists(path) ||
        fm_json_load(&j, path) != FM_OK) {
        fm_error_clear();
        return NULL;
    }
    const char *arch = fm_json_str(fm_json_at(fm_json_get(j, "architectures"), 0), NULL);
    const fm_json *map = fm_json_get(j, "id2label");
    if (several) {
        out = fm_tasks_labels(fm_json_get(j, "fathom_heads"));
        fm_json_free(j);
        return out;
    }
    const char *head = strcmp(c->stage, "tag") == 0 ? "ForTokenClassification" : "ForSequenceClassification";
    bool use = arch && strstr(arch, head) && fm_json_is_object(map);
    out = use ? fm_json_new_array() : NULL;
    for (size_t i = 0; use && i < fm_json_size(map); i++) {
        char id[24];
        size_t n = 0;
        snprintf(id, sizeof id, "%zu", i);
        const char *name = fm_json_str(fm_json_get(map, id), &n);
        use = name && fm_json_append(out, fm_json_new_strn(name, n)) == FM_OK;
    }
    if (!use) {
        fm_json_free(out);
        out = NULL;
    }
    fm_json_free(j);
    return out;
}

/* Rows that carry what is learned: packed as examples. `labels` (or NULL) fixes the ids of labels. */
static fm_status make_examples(fm_trainer *r, const fm_strlist *files, double val_size, const char *name,
                               const fm_json *labels, char *dir, size_t cap) {
    static const int long_rows[] = {FM_LONG_REFUSE, FM_LONG_DROP, FM_LONG_CUT};
    static const char *const formats[] = {"auto", "txt", "jsonl", "csv", "tsv"};
    const fm_train_config *c = r->cfg;
    char cache[4096];
    if (!c->tokenizer && !c->model_name_or_path) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "stage %s needs a tokenizer", r->choice.objective->name);
        return fm_error_hint("set tokenizer, or model_name_or_path to start from a model that has one");
    }
    FM_TRY(fm_path_join(cache, sizeof cache, c->output_dir, "cache"));
    FM_TRY(fm_mkdirs(cache));
    FM_TRY(fm_path_join(dir, cap, cache, name));
    fm_columns columns = c->columns;
    fm_task_files by_task = {0};
    columns.text = c->rows.text_column;
    fm_examples_options o = {.task = r->choice.objective->examples,
                             .input = *files,
                             .format = formats[c->rows.format],
                             .tokenizer = c->tokenizer ? c->tokenizer : c->model_name_or_path,
                             .output = dir,
                             .columns = &columns,
                             .template_ = c->template_,
                             .train_on = c->train_on,
                             .problem = c->problem_type,
                             .labels = labels,
                             .difficulty = strcmp(name, "data") == 0 ? c->curriculum_column : NULL,
                             .cutoff_len = c->cutoff_len,
                             .long_rows = long_rows[c->long_rows],
                             .val_size = val_size,
                             .threads = (int)c->threads};
    if (r->choice.objective->several) {
        FM_TRY(fm_tasks_split(&by_task, files));
        o.tasks = &c->tasks;
        o.task_column = c->task_column;
        o.input = by_task.files;
        o.input_task = by_task.task;
    }
    fm_examples_report rep;
    fm_status made = fm_examples_make(&rep, &o);
    fm_task_files_free(&by_task);
    FM_TRY(made);
    double share = rep.n_tokens > 0 ? 100.0 * (double)rep.n_trained / (double)rep.n_tokens : 0;
    if (strcmp(o.task, "chat") == 0) {
        fm_info("data: %lld examples%s, %lld tokens, %.1f%% of them are learned", (long long)rep.n_examples,
                rep.reused ? " (made before)" : "", (long long)rep.n_tokens, share);
    } else {
        fm_info("data: %lld examples%s, %lld tokens", (long long)rep.n_examples, rep.reused ? " (made before)" : "",
                (long long)rep.n_tokens);
    }
    if (rep.n_bad > 0) {
        fm_warn("%lld rows were set aside in %s/rejects.jsonl", (long long)rep.n_bad, dir);
    }
    if (rep.n_long > 0) {
        fm_warn("%lld rows are longer than cutoff_len %lld (the longest has %lld tokens): %s", (long long)rep.n_long,
                (long long)c->cutoff_len, (long long)rep.longest,
                c->long_rows == 1 ? "dropped" : "their ends are cut off");
    }
    return FM_OK;
}

/* A packed dataset must be of the stage's kind. */
static fm_status check_kind(const fm_trainer *r, const char *dir) {
    const char *want = r->choice.objective->examples;
    const char *task = fm_json_str(fm_json_get(fm_dataset_json(r->data), "task"), NULL);
    if (!want && fm_dataset_is_examples(r->data)) {
        FM_FAIL(FM_ERR_CONFIG, "%s holds examples (%s), stage %s learns from plain text", dir, task ? task : "?",
                r->choice.objective->name);
    }
    if (want && (!task || strcmp(task, want) != 0)) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s holds %s, stage %s needs rows with %s", dir,
                     task ? task : "packed text", r->choice.objective->name,
                     strcmp(want, "chat") == 0 ? "questions and answers" : "labels");
        return fm_error_hint("name the JSONL, JSON or CSV files themselves as dataset");
    }
    return FM_OK;
}

/* Rows that a frozen test set has are not learned. */
static fm_status check_frozen(const fm_trainer *r, const fm_strlist *list) {
    const fm_train_config *c = r->cfg;
    fm_task_files by_task;
    FM_TRY(fm_tasks_split(&by_task, list));
    fm_status s = fm_frozen_check(r->choice.objective->several ? &by_task.files : list, &c->frozen_tests, NULL);
    fm_task_files_free(&by_task);
    return s;
}

/* The folder that holds a dataset: the one named, or the packed form of what was named. */
static fm_status resolve(fm_trainer *r, const fm_strlist *list, double val_size, const char *name,
                         const fm_json *labels, char *dir, size_t cap) {
    bool packed = false;
    for (size_t i = 0; i < list->n; i++) {
        const char *item = r->choice.objective->several ? fm_task_path(list->item[i]) : list->item[i];
        if (strcmp(item, "-") != 0 && !strpbrk(item, "*?[") && !fm_path_exists(item)) {
            FM_FAIL(FM_ERR_NOT_FOUND, "dataset %s does not exist", item);
        }
        FM_TRY(is_packed(&packed, list->item[i]));
        if (packed && list->n > 1) {
            fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "%s is one of %zu datasets; a packed one stands alone",
                         list->item[i], list->n);
            return fm_error_hint("pack all files together: fathom data pack -i A B ...");
        }
    }
    bool learned = strcmp(name, "data") == 0 || strcmp(name, "replay") == 0;
    if (!packed && learned) {
        FM_TRY(check_frozen(r, list));
    }
    if (!packed && r->choice.objective->examples) {
        return make_examples(r, list, val_size, name, labels, dir, cap);
    }
    if (!packed) {
        return pack_raw(r, list, val_size, name, dir, cap);
    }
    if ((size_t)snprintf(dir, cap, "%s", list->item[0]) >= cap) {
        FM_FAIL(FM_ERR_ARGUMENT, "path is longer than %zu bytes: %s", cap, list->item[0]);
    }
    return FM_OK;
}

static fm_status open_one(fm_trainer *r, fm_dataset **out, const char *dir) {
    FM_TRY(fm_dataset_open(out, dir));
    if (r->cfg->verify_data && fm_dataset_tokens(*out) < VERIFY_LIMIT) {
        FM_TRY(fm_dataset_verify(*out));
    }
    return FM_OK;
}

/* Where the tokenizer is: named, beside the packed data, or the model's. */
static fm_status find_tokenizer(fm_trainer *r, const char *dir) {
    const char *named = r->cfg->tokenizer;
    char path[4096], json[4096], hash[33];
    FM_TRY(fm_path_join(path, sizeof path, dir, "tokenizer"));
    const char *use = named ? named : fm_path_is_dir(path) ? path : r->cfg->model_name_or_path;
    if (!use) {
        fm_warn("no tokenizer is known for %s: the model folder will have none", dir);
        return FM_OK;
    }
    snprintf(r->tokenizer, sizeof r->tokenizer, "%s", use);
    if (fm_path_is_dir(use)) {
        FM_TRY(fm_path_join(json, sizeof json, use, "tokenizer.json"));
    } else {
        snprintf(json, sizeof json, "%s", use);
    }
    FM_TRY(fm_file_hash(hash, json));
    if (strcmp(hash, fm_dataset_tokenizer_hash(r->data)) != 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "dataset %s was packed with another tokenizer than %s", dir,
                     json);
        return fm_error_hint("pack the data again with this tokenizer, or leave the key tokenizer out");
    }
    return FM_OK;
}

static fm_status same_tokenizer(const fm_trainer *r, const fm_dataset *d) {
    if (strcmp(fm_dataset_tokenizer_hash(d), fm_dataset_tokenizer_hash(r->data)) != 0) {
        FM_FAIL(FM_ERR_CONFIG, "%s and dataset %s were packed with different tokenizers", fm_dataset_dir(d),
                fm_dataset_dir(r->data));
    }
    return FM_OK;
}

fm_status fm_trainer_open_more(fm_trainer *r, fm_dataset **out, const fm_strlist *list, const char *name) {
    char dir[4096] = "", part[4096];
    const fm_json *data = fm_dataset_json(r->data), *labels = fm_json_get(data, "labels");
    fm_json *own = r->choice.objective->several ? fm_tasks_labels(fm_json_get(data, "tasks")) : NULL;
    fm_status s = resolve(r, list, 0, name, own ? own : labels, dir, sizeof dir);
    fm_json_free(own);
    FM_TRY(s);
    FM_TRY(fm_dataset_part(part, sizeof part, dir, "train"));
    FM_TRY(open_one(r, out, part));
    return same_tokenizer(r, *out);
}

static fm_status open_eval(fm_trainer *r, const char *train_dir) {
    char part[4096];
    if (r->cfg->eval_dataset.n > 0) {
        FM_TRY(fm_trainer_open_more(r, &r->eval_data, &r->cfg->eval_dataset, "eval"));
    } else {
        FM_TRY(fm_dataset_part(part, sizeof part, train_dir, "val"));
        if (strcmp(part, train_dir) == 0) {
            return FM_OK; /* nothing held out */
        }
        FM_TRY(open_one(r, &r->eval_data, part));
        FM_TRY(same_tokenizer(r, r->eval_data));
    }
    if (strcmp(fm_dataset_hash(r->eval_data), fm_dataset_hash(r->data)) == 0) {
        fm_warn("eval_dataset is the training data itself: its loss will say nothing about new text");
    }
    return FM_OK;
}

fm_status fm_trainer_open_data(fm_trainer *r) {
    const fm_train_config *c = r->cfg;
    if (c->rows.input.n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "dataset is not set");
        return fm_error_hint("name a packed folder, or text, JSONL or CSV files");
    }
    char dir[4096], part[4096];
    fm_json *labels = r->choice.objective->configure ? known_labels(c, r->choice.objective->several) : NULL;
    fm_status s = resolve(r, &c->rows.input, c->val_size, "data", labels, dir, sizeof dir);
    fm_json_free(labels);
    FM_TRY(s);
    FM_TRY(fm_dataset_part(part, sizeof part, dir, "train"));
    FM_TRY(open_one(r, &r->data, part));
    FM_TRY(check_kind(r, dir));
    FM_TRY(find_tokenizer(r, dir));
    FM_TRY(open_eval(r, dir));
    r->seq_len = (int32_t)c->cutoff_len;
    if (r->choice.objective->examples) {
        FM_TRY(fm_trainer_open_sampler(r));
        return r->eval_data ? fm_sampler_init(&r->eval_sampler, r->eval_data, r->seq_len, 0, false) : FM_OK;
    }
    if (fm_dataset_tokens(r->data) < r->seq_len) {
        r->seq_len = (int32_t)FM_MAX(fm_dataset_tokens(r->data), 2);
        fm_warn("the data has %lld tokens, fewer than cutoff_len %lld: windows have %d",
                (long long)fm_dataset_tokens(r->data), (long long)c->cutoff_len, r->seq_len);
    }
    FM_TRY(fm_trainer_open_sampler(r));
    if (r->eval_data) {
        /* Shorter windows where there is less to evaluate than one; memory was planned for seq_len. */
        int32_t len = (int32_t)FM_MIN((int64_t)r->seq_len, fm_dataset_tokens(r->eval_data));
        FM_TRY(fm_sampler_init(&r->eval_sampler, r->eval_data, len, 0, false));
    }
    return FM_OK;
}
