/* Jobs: options, pipeline files, inputs. */
#include "data/job.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/option_row.h"
#include "base/yaml.h"
#include "data/out.h"

#define T fm_job_options
#define ROW(key, type, field, def, lo, hi, choices, alias, meta, help)                                                 \
    { key, type, offsetof(T, field), def, lo, hi, choices, alias, meta, help }

const fm_option fm_job_option_rows[] = {
    ROW("input", FM_OPT_LIST, input, NULL, 0, 0, NULL, "i|in", "IN",
        "files, folders, glob patterns or - for stdin; plain, gzip, zstd, bzip2, or in tar and zip archives"),
    ROW("output", FM_OPT_STR, output, NULL, 0, 0, NULL, "o|out", "OUT",
        "file (.parquet, or .jsonl, .csv, .tsv, each also .gz or .zst), folder, or - for stdout"),
    ROW("format", FM_OPT_STR, format, "auto", 0, 0, NULL, NULL, "NAME",
        "how input is read ('fathom data list' names the formats); auto goes by the file name, then by content"),
    ROW("output_format", FM_OPT_STR, output_format, NULL, 0, 0, NULL, NULL, "NAME",
        "format of the files in an output folder, such as jsonl.zst or csv; default jsonl"),
    ROW("text_column", FM_OPT_STR, text_column, "text", 0, 0, NULL, NULL, "NAME",
        "column that plain text and templates go into"),
    ROW("text_template", FM_OPT_STR, text_template, NULL, 0, 0, NULL, NULL, "TEXT",
        "makes the text column from others, such as \"{title}\\n{body}\""),
    ROW("txt_unit", FM_OPT_ENUM, txt_unit, "file", 0, 0, "file|paragraph|line", NULL, NULL,
        "what a row of a text file is"),
    ROW("html", FM_OPT_ENUM, html, "main", 0, 0, "main|all|source", NULL, NULL,
        "what becomes of web and wiki pages: their main text, all visible text, or the page as it is"),
    ROW("record_path", FM_OPT_STR, record_path, NULL, 0, 0, NULL, NULL, "PATH",
        "where the records are: a path in JSON (data.items) or XML (//article), kinds of web archive records, wiki "
        "namespaces"),
    ROW("encoding", FM_OPT_STR, encoding, NULL, 0, 0, NULL, NULL, "NAME",
        "encoding of text input, such as gb18030, big5, utf-16le, latin1; default: detected"),
    ROW("query", FM_OPT_STR, query, NULL, 0, 0, NULL, NULL, "SQL", "rows to read from a database"),
    ROW("delimiter", FM_OPT_STR, delimiter, NULL, 0, 0, NULL, NULL, "C", "character between CSV fields"),
    ROW("no_header", FM_OPT_BOOL, no_header, "false", 0, 0, NULL, NULL, NULL,
        "CSV has no line of names; columns are c1, c2 ..."),
    ROW("repair_utf8", FM_OPT_BOOL, repair_utf8, "false", 0, 0, NULL, NULL, NULL,
        "bytes that are no UTF-8 become U+FFFD instead of setting the row aside"),
    ROW("max_row_bytes", FM_OPT_BYTES, max_row_bytes, "64MiB", 1024, 4e9, NULL, NULL, NULL,
        "a longer row is set aside"),
    ROW("shard_bytes", FM_OPT_BYTES, shard_bytes, "0", 0, 1e15, NULL, NULL, NULL,
        "in an output folder: begin a new file after so many bytes of rows; 0 = never"),
    ROW("columns", FM_OPT_LIST, columns, NULL, 0, 0, NULL, NULL, "NAMES",
        "CSV and Parquet output: columns and their order; default: all that occur"),
    ROW("rejects", FM_OPT_STR, rejects, NULL, 0, 0, NULL, NULL, "FILE",
        "JSONL file for rows that were set aside or dropped, with file, line, step and reason"),
    ROW("seed", FM_OPT_INT, seed, "42", 0, 9e18, NULL, NULL, NULL, "seed of everything random"),
    ROW("threads", FM_OPT_INT, threads, "0", 0, 1024, NULL, NULL, NULL,
        "0 = all cores; the output is the same for any"),
    ROW("licence", FM_OPT_STR, licence, NULL, 0, 0, NULL, "license", "TEXT", "licence of the input, for the manifest"),
    ROW("source", FM_OPT_STR, source, NULL, 0, 0, NULL, NULL, "TEXT", "where the input comes from, for the manifest"),
    ROW("strict", FM_OPT_BOOL, strict, "false", 0, 0, NULL, NULL, NULL,
        "a row that cannot be read ends the run instead of being set aside"),
    ROW("overwrite", FM_OPT_BOOL, overwrite, "false", 0, 0, NULL, NULL, NULL, "replace output that is there"),
    FM_STEP_OPTIONS_END,
};
#undef ROW
#undef T

#define N_JOB_ROWS (FM_ARRAY_LEN(fm_job_option_rows) - 1)

static fm_status new_job(fm_data_job **out, const fm_step_def *def) {
    size_t n_step = 0, front = (sizeof(fm_job_options) + 63) / 64 * 64;
    while (def && def->options && def->options[n_step].key) {
        n_step++;
    }
    fm_data_job *j = *out = fm_calloc(1, sizeof *j);
    if (!j) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a data job");
    }
    j->object = fm_calloc(1, front + (def ? def->options_bytes : 0));
    j->table = fm_calloc(N_JOB_ROWS + n_step + 1, sizeof *j->table);
    if (!j->object || !j->table) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a data job");
    }
    j->o = j->object;
    memcpy(j->table, fm_job_option_rows, N_JOB_ROWS * sizeof *j->table);
    for (size_t i = 0; i < n_step; i++) {
        j->table[N_JOB_ROWS + i] = def->options[i];
        j->table[N_JOB_ROWS + i].offset += front;
        FM_ASSERT(!fm_option_find(fm_job_option_rows, def->options[i].key, strlen(def->options[i].key)));
    }
    FM_TRY(fm_options_init(j->object, j->table));
    if (def) {
        void *p = NULL;
        FM_TRY(fm_grow(&p, &j->steps_cap, 1, sizeof *j->step));
        j->step = p;
        j->step[0] = (fm_step){.def = def, .opt = (char *)j->object + front};
        j->n_steps = 1;
    }
    return FM_OK;
}

void fm_data_job_free(fm_data_job *j) {
    if (!j) {
        return;
    }
    for (size_t i = 0; j->own_step_options && i < j->n_steps; i++) {
        if (j->step[i].opt && j->step[i].def->options) {
            fm_options_free(j->step[i].opt, j->step[i].def->options);
        }
        fm_free(j->step[i].opt);
    }
    fm_free(j->step);
    for (size_t i = 0; i < j->n_inputs; i++) {
        fm_free(j->input[i].path);
        fm_free(j->input[i].name);
        fm_free(j->input[i].licence);
        fm_free(j->input[i].source);
    }
    fm_free(j->input);
    for (size_t i = 0; i < j->n_files; i++) {
        fm_free(j->file[i].path);
        fm_free(j->file[i].location);
    }
    fm_free(j->file);
    if (j->object && j->table) {
        fm_options_free(j->object, j->table);
    }
    fm_free(j->object);
    fm_free(j->table);
    fm_free(j);
}

fm_status fm_data_job_step(fm_data_job **out, const char *step) {
    *out = NULL;
    const fm_step_def *def = step ? fm_step_find(step) : NULL;
    if (step && !def) {
        return fm_step_unknown(step, "data");
    }
    fm_data_job *j = NULL;
    fm_status s = new_job(&j, def);
    if (s != FM_OK) {
        fm_data_job_free(j);
        return s;
    }
    *out = j;
    return FM_OK;
}

const fm_option *fm_data_job_options(const fm_data_job *j) {
    return j->table;
}

void *fm_data_job_object(fm_data_job *j) {
    return j->object;
}

/* ---- pipeline files --------------------------------------------------------------------------- */

static fm_status copy(char **out, const char *text) {
    *out = text ? fm_strdup(text) : NULL;
    if (text && !*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a text");
    }
    return FM_OK;
}

static fm_status add_input(fm_data_job *j, const char *path, const char *name, const char *licence,
                           const char *source) {
    void *p = j->input;
    FM_TRY(fm_grow(&p, &j->inputs_cap, j->n_inputs + 1, sizeof *j->input));
    j->input = p;
    fm_job_input *in = &j->input[j->n_inputs++];
    memset(in, 0, sizeof *in);
    FM_TRY(copy(&in->path, path));
    FM_TRY(copy(&in->name, name));
    FM_TRY(copy(&in->licence, licence));
    return copy(&in->source, source);
}

static const char *text_of(const fm_yaml *map, const char *key) {
    const fm_yaml *v = fm_yaml_get(map, key);
    return v && v->kind == FM_YAML_SCALAR && !v->is_null ? v->text : NULL;
}

static fm_status read_inputs(fm_data_job *j, const fm_yaml *v, const char *path) {
    if (v->kind == FM_YAML_SCALAR) {
        return add_input(j, v->text, NULL, NULL, NULL);
    }
    for (size_t i = 0; i < v->n; i++) {
        const fm_yaml *e = v->child[i];
        if (e->kind == FM_YAML_SCALAR && v->kind == FM_YAML_LIST) {
            FM_TRY(add_input(j, e->text, NULL, NULL, NULL));
            continue;
        }
        const char *p = text_of(e, "path");
        if (v->kind != FM_YAML_LIST || e->kind != FM_YAML_MAP || !p) {
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s:%zu: an input is a path or a mapping with one", path,
                         e->line);
            return fm_error_hint("such as {path: web/*.jsonl, name: web, licence: CC0, source: URL}");
        }
        for (size_t k = 0; k < e->n; k++) {
            const char *key = e->child[k]->key;
            if (strcmp(key, "path") != 0 && strcmp(key, "name") != 0 && strcmp(key, "licence") != 0 &&
                strcmp(key, "license") != 0 && strcmp(key, "source") != 0) {
                FM_FAIL(FM_ERR_CONFIG, "%s:%zu: unknown key '%s' of an input (path, name, licence, source)", path,
                        e->child[k]->line, key);
            }
        }
        const char *licence = text_of(e, "licence");
        FM_TRY(add_input(j, p, text_of(e, "name"), licence ? licence : text_of(e, "license"), text_of(e, "source")));
    }
    return FM_OK;
}

/* "- name", "- name: {options}", "- step: name" with options beside it. */
static fm_status read_step(fm_data_job *j, const fm_yaml *e, const char *path) {
    char where[512];
    snprintf(where, sizeof where, "%s:%zu", path, e->line);
    const fm_yaml *options = NULL;
    const char *name = NULL;
    if (e->kind == FM_YAML_SCALAR) {
        name = e->text;
    } else if (e->kind == FM_YAML_MAP && e->n == 1) {
        name = e->child[0]->key;
        options = e->child[0];
        if (options->kind == FM_YAML_SCALAR) {
            if (!options->is_null) {
                FM_FAIL(FM_ERR_CONFIG, "%s: expected the options of '%s' as lines 'key: value'", where, name);
            }
            options = NULL;
        }
    } else {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s: a step is its name, or its name with options", where);
        return fm_error_hint("such as '- clean' or '- filter-length: {min_chars: 20}'");
    }
    const fm_step_def *def = fm_step_find(name);
    if (!def) {
        return fm_step_unknown(name, where);
    }
    void *p = j->step;
    FM_TRY(fm_grow(&p, &j->steps_cap, j->n_steps + 1, sizeof *j->step));
    j->step = p;
    fm_step *s = &j->step[j->n_steps];
    *s = (fm_step){.def = def, .index = (int32_t)j->n_steps};
    s->opt = fm_calloc(1, def->options_bytes + 1);
    if (!s->opt) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the options of '%s'", name);
    }
    j->n_steps++;
    if (def->options) {
        FM_TRY(fm_options_init(s->opt, def->options));
        return fm_options_from_yaml(s->opt, def->options, options, path);
    }
    return FM_OK;
}

static fm_status read_pipeline(fm_data_job *j, fm_yaml *doc, const char *path) {
    if (!doc || doc->kind != FM_YAML_MAP) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s: expected the keys input, output and steps", path);
        return fm_error_hint("'fathom data run --help' shows a pipeline");
    }
    j->own_step_options = true;
    size_t kept = 0;
    fm_status st = FM_OK;
    for (size_t i = 0; i < doc->n; i++) {
        fm_yaml *v = doc->child[i];
        bool steps = strcmp(v->key, "steps") == 0, input = strcmp(v->key, "input") == 0;
        if (!steps && !input) {
            doc->child[kept++] = v;
            continue;
        }
        if (st == FM_OK && input) {
            st = read_inputs(j, v, path);
        } else if (st == FM_OK && v->kind != FM_YAML_LIST) {
            st = fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s:%zu: steps is a list, each line begins with '- '",
                              path, v->line);
        }
        for (size_t k = 0; st == FM_OK && steps && k < v->n; k++) {
            st = read_step(j, v->child[k], path);
        }
        fm_yaml_free(v);
    }
    doc->n = kept;
    FM_TRY(st);
    return fm_options_from_yaml(j->object, j->table, doc, path);
}

fm_status fm_data_job_load(fm_data_job **out, const char *path) {
    *out = NULL;
    fm_yaml *doc;
    FM_TRY(fm_yaml_load(&doc, path));
    fm_data_job *j = NULL;
    fm_status s = new_job(&j, NULL);
    if (s == FM_OK) {
        s = read_pipeline(j, doc, path);
    }
    fm_yaml_free(doc);
    if (s != FM_OK) {
        fm_data_job_free(j);
        return s;
    }
    *out = j;
    return FM_OK;
}

/* ---- inputs ----------------------------------------------------------------------------------- */

/* scheme://user:password@host: the password is taken out. */
static void hide_password(char *url) {
    char *host = strstr(url, "://"), *at = host ? strchr(host + 3, '@') : NULL;
    char *colon = at ? memchr(host + 3, ':', (size_t)(at - host - 3)) : NULL;
    if (colon) {
        memmove(colon, at, strlen(at) + 1);
    }
}

static fm_status add_file(fm_data_job *j, const char *path, size_t input) {
    void *p = j->file;
    FM_TRY(fm_grow(&p, &j->files_cap, j->n_files + 1, sizeof *j->file));
    j->file = p;
    fm_job_file *f = &j->file[j->n_files];
    *f = (fm_job_file){.input = input, .path = fm_strdup(path), .location = fm_strdup(path)};
    if (!f->path || !f->location) {
        fm_free(f->path);
        fm_free(f->location);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a path");
    }
    hide_password(f->path);
    j->n_files++;
    f->bytes = strcmp(path, "-") == 0 ? -1 : fm_file_size(path);
    return fm_reader_find(&f->reader, j->o->format, path);
}

/* Names that this program, or save_to_disk of Hugging Face datasets, puts beside data. */
static bool is_ours(const char *name) {
    static const char *const ends[] = {"manifest.json", "state.json", ".tmp", "dataset_info.json", "dataset_dict.json"};
    for (size_t i = 0; i < FM_ARRAY_LEN(ends); i++) {
        size_t n = strlen(name), k = strlen(ends[i]);
        if (n >= k && strcmp(name + n - k, ends[i]) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status add_dir(fm_data_job *j, const char *dir, size_t input, int depth) {
    char **names, path[4096];
    size_t n;
    FM_TRY(fm_dir_list(&names, &n, dir));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        s = fm_path_join(path, sizeof path, dir, names[i]);
        if (s != FM_OK || names[i][0] == '.') {
            continue;
        }
        const fm_reader_def *r = NULL;
        bool own = false;
        for (size_t k = 0; fm_path_is_dir(path) && (r = fm_reader_at(k)) != NULL && !own; k++) {
            own = r->is_dir && r->is_mine && r->is_mine(path);
        }
        if (fm_path_is_dir(path) && !own) {
            s = depth < 16 ? add_dir(j, path, input, depth + 1) : FM_OK;
        } else if (own || strcmp(j->o->format, "auto") != 0 || fm_reader_knows(path)) {
            s = is_ours(names[i]) ? FM_OK : add_file(j, path, input);
        }
    }
    fm_names_free(names, n);
    return s;
}

static fm_status add_path(fm_data_job *j, const char *path, size_t input) {
    if (strcmp(path, "-") == 0 || strstr(path, "://")) {
        return add_file(j, path, input);
    }
    char **found;
    size_t n, before = j->n_files;
    FM_TRY(fm_glob(&found, &n, path));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        const fm_reader_def *r = NULL;
        if (fm_path_is_dir(found[i])) {
            s = fm_reader_find(&r, j->o->format, found[i]);
            fm_error_clear();
            bool own = s == FM_OK && r->is_dir;
            s = own ? add_file(j, found[i], input) : add_dir(j, found[i], input, 0);
        } else {
            s = add_file(j, found[i], input);
        }
    }
    fm_names_free(found, n);
    FM_TRY(s);
    if (j->n_files == before) {
        fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "'%s' has no data files", path);
        return fm_error_hint("--format says how files with other names are read; 'fathom data list' shows known names");
    }
    return FM_OK;
}

fm_status fm_job_resolve(fm_data_job *j) {
    for (size_t i = 0; i < j->o->input.n; i++) { /* of the command line */
        FM_TRY(add_input(j, j->o->input.item[i], NULL, NULL, NULL));
    }
    if (j->n_inputs == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "no input was named");
        return fm_error_hint("give files, folders, glob patterns, or - for stdin with -i");
    }
    for (size_t i = 0; i < j->n_inputs; i++) {
        fm_job_input *in = &j->input[i];
        if (!in->licence) {
            FM_TRY(copy(&in->licence, j->o->licence));
        }
        if (!in->source) {
            FM_TRY(copy(&in->source, j->o->source));
        }
        FM_TRY(add_path(j, in->path, i));
    }
    return FM_OK;
}

fm_reader_options fm_job_reader_options(const fm_data_job *j) {
    const fm_job_options *o = j->o;
    return (fm_reader_options){
        .format = o->format,
        .text_column = o->text_column ? o->text_column : "text",
        .text_template = o->text_template,
        .record_path = o->record_path,
        .encoding = o->encoding,
        .query = o->query,
        .txt_unit = o->txt_unit,
        .html = o->html,
        .delimiter = o->delimiter ? (o->delimiter[0] == '\\' && o->delimiter[1] == 't' ? '\t' : o->delimiter[0]) : '\0',
        .no_header = o->no_header,
        .repair_utf8 = o->repair_utf8,
        .max_row_bytes = (size_t)o->max_row_bytes,
    };
}

fm_status fm_job_beside(char *buf, size_t cap, const char *output, const char *name) {
    size_t n = strlen(output);
    bool dir = fm_path_is_dir(output) || (n && output[n - 1] == '/') || fm_out_is_folder(output);
    int k = snprintf(buf, cap, "%s%s%s", output, !dir ? "." : n && output[n - 1] == '/' ? "" : "/", name);
    if (k < 0 || (size_t)k >= cap) {
        FM_FAIL(FM_ERR_ARGUMENT, "the output path is too long: '%.60s...'", output);
    }
    return FM_OK;
}

fm_status fm_job_describe_step(fm_json **out, const fm_step *s) {
    fm_json *e = *out = fm_json_new_object();
    FM_TRY(fm_json_set(e, "name", fm_json_new_str(s->def->name)));
    fm_json *opts = fm_json_new_object();
    FM_TRY(fm_json_set(e, "options", opts));
    for (const fm_option *r = s->def->options; r && r->key; r++) {
        fm_str text = {0};
        fm_status st = fm_option_text(&text, s->opt, r);
        if (st == FM_OK) {
            st = fm_json_set(opts, r->key, fm_json_new_strn(text.data ? text.data : "", text.len));
        }
        fm_str_free(&text);
        FM_TRY(st);
    }
    return FM_OK;
}
