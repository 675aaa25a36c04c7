/* Writing runs into the registry.
 *
 * Version 1 of the file (PRAGMA user_version):
 *   run      one row each; environment and report are JSON, config is the text that was used
 *   file     what a run read (made 0) and wrote (made 1), by path and hash: the way from a model to its data and back
 *   point    series over steps;  figure: results;  tag */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "track/registry.h"

#define VERSION 1

static const char schema[] =
    "CREATE TABLE run(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, kind TEXT NOT NULL, status TEXT NOT NULL, "
    "started INTEGER NOT NULL, ended INTEGER, output_dir TEXT, config TEXT, code TEXT, environment TEXT, report TEXT);"
    "CREATE TABLE file(run INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE, made INTEGER NOT NULL, role TEXT, "
    "path TEXT NOT NULL, hash TEXT, bytes INTEGER);"
    "CREATE TABLE point(run INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE, series TEXT NOT NULL, step INTEGER "
    "NOT NULL, value REAL NOT NULL, PRIMARY KEY(run, series, step)) WITHOUT ROWID;"
    "CREATE TABLE figure(run INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE, name TEXT NOT NULL, value REAL, "
    "low "
    "REAL, high REAL, definition TEXT, PRIMARY KEY(run, name)) WITHOUT ROWID;"
    "CREATE TABLE tag(name TEXT PRIMARY KEY, run INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE) WITHOUT ROWID;"
    "CREATE INDEX file_run ON file(run); CREATE INDEX file_hash ON file(hash); CREATE INDEX run_output ON "
    "run(output_dir);"
    "PRAGMA user_version=1;";

static fm_status first_int(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    *(int64_t *)arg = v[0].kind == FM_SQL_INT ? v[0].i : 0;
    return FM_OK;
}

/* Makes the tables in a new file. Two processes may come at once: the second finds them made. */
static fm_status prepare(fm_registry *r) {
    int64_t version = 0;
    FM_TRY(fm_sql_exec(r->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
                              "BEGIN IMMEDIATE"));
    fm_status s = fm_sql_run(r->db, "PRAGMA user_version", NULL, 0, first_int, &version);
    s = s == FM_OK && version == 0 ? fm_sql_exec(r->db, schema) : s;
    if (s != FM_OK) {
        return s; /* closing rolls back */
    }
    FM_TRY(fm_sql_exec(r->db, "COMMIT"));
    if (version > VERSION) {
        (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "%s: version %lld, expected at most %d", r->path,
                           (long long)version, VERSION);
        return fm_error_hint("a later version of the program made it; FATHOM_REGISTRY=FILE uses another");
    }
    return FM_OK;
}

/* "" when the registry is off. */
static fm_status default_path(char *buf, size_t cap, const char *path) {
    const char *given = path ? path : getenv("FATHOM_REGISTRY"), *data = getenv("XDG_DATA_HOME"),
               *home = getenv("HOME");
    int n = 0;
    buf[0] = '\0';
    if (given && *given) {
        n = strcmp(given, "none") == 0 ? 0 : snprintf(buf, cap, "%s", given);
    } else if (data && *data) {
        n = snprintf(buf, cap, "%s/fathom/runs.db", data);
    } else if (home && *home) {
        n = snprintf(buf, cap, "%s/.local/share/fathom/runs.db", home);
    }
    if (n < 0 || (size_t)n >= cap) {
        FM_FAIL(FM_ERR_ARGUMENT, "the path of the registry is too long");
    }
    return FM_OK;
}

fm_status fm_registry_open(fm_registry **out, const char *path, bool create) {
    char buf[4096];
    *out = NULL;
    FM_TRY(default_path(buf, sizeof buf, path));
    if (!buf[0] || (!create && !fm_path_exists(buf))) {
        return FM_OK;
    }
    char *slash = strrchr(buf, '/');
    if (slash && slash != buf) {
        *slash = '\0';
        FM_TRY(fm_mkdirs(buf));
        *slash = '/';
    }
    fm_registry *r = fm_calloc(1, sizeof *r);
    if (!r || !(r->path = fm_strdup(buf))) {
        fm_free(r);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the registry");
    }
    fm_status s = fm_sql_open(&r->db, buf);
    s = s == FM_OK ? prepare(r) : s;
    if (s != FM_OK) {
        fm_registry_close(r);
        return s;
    }
    *out = r;
    return FM_OK;
}

void fm_registry_close(fm_registry *r) {
    if (r) {
        fm_sql_close(r->db);
        fm_free(r->path);
        fm_free(r);
    }
}

const char *fm_registry_path(const fm_registry *r) {
    return r ? r->path : NULL;
}

/* ---- what a run is made with ------------------------------------------------------------------- */

static fm_status set_str(fm_json *o, const char *key, const char *v) {
    return fm_json_set(o, key, fm_json_new_str(v));
}

static fm_status environment(fm_str *out) {
    struct utsname u;
    const fm_cpu_info *cpu = fm_cpu_get();
    char cwd[4096];
    fm_json *o = fm_json_new_object();
    fm_status s = o ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a run");
    if (s == FM_OK && uname(&u) == 0) {
        char system[200];
        snprintf(system, sizeof system, "%.60s %.60s %.60s", u.sysname, u.release, u.machine);
        s = set_str(o, "system", system);
        s = s == FM_OK ? set_str(o, "host", u.nodename) : s;
    }
    s = s == FM_OK ? set_str(o, "cpu", cpu->model) : s;
    s = s == FM_OK ? fm_json_set(o, "cpus", fm_json_new_int(cpu->n_cpus)) : s;
    s = s == FM_OK ? set_str(o, "kernels", fm_isa_name(fm_cpu_isa())) : s;
    s = s == FM_OK ? fm_json_set(o, "memory_bytes", fm_json_new_int(fm_mem_total())) : s;
    s = s == FM_OK && getcwd(cwd, sizeof cwd) ? set_str(o, "folder", cwd) : s;
    s = s == FM_OK ? fm_json_dump(out, o, 0) : s;
    fm_json_free(o);
    return s;
}

/* Version, and the hash of the program itself: two builds of one version are two codes. */
static fm_status code_version(char *buf, size_t cap) {
    char hash[33] = "";
    fm_status s = fm_file_hash(hash, "/proc/self/exe");
    if (s == FM_ERR_NO_MEMORY) {
        return s;
    }
    if (s != FM_OK) {
        fm_error_clear(); /* a system without /proc */
    }
    snprintf(buf, cap, "%s+%.12s", FATHOM_VERSION, s == FM_OK ? hash : "unknown");
    return FM_OK;
}

fm_status fm_run_begin(fm_registry *r, const fm_run_start *s, int64_t *id) {
    *id = 0;
    if (!r) {
        return FM_OK;
    }
    char code[64], dir[4096] = "";
    fm_str env = {0};
    FM_TRY(code_version(code, sizeof code));
    if (s->output_dir && !realpath(s->output_dir, dir)) {
        snprintf(dir, sizeof dir, "%s", s->output_dir);
    }
    fm_status st = environment(&env);
    if (st == FM_OK) {
        const fm_sql_value v[] = {FM_SQL_T(s->name),
                                  FM_SQL_T(s->kind),
                                  FM_SQL_I(s->started_ms > 0 ? s->started_ms : fm_unix_ms()),
                                  FM_SQL_T(dir[0] ? dir : NULL),
                                  FM_SQL_T(s->config),
                                  FM_SQL_T(code),
                                  FM_SQL_T(env.data)};
        st = fm_sql_run(r->db,
                        "INSERT INTO run(name, kind, status, started, output_dir, config, code, environment) "
                        "VALUES(?, ?, 'running', ?, ?, ?, ?, ?)",
                        v, (int)FM_ARRAY_LEN(v), NULL, NULL);
    }
    fm_str_free(&env);
    if (st == FM_OK) {
        *id = fm_sql_last_id(r->db);
    }
    return st;
}

fm_status fm_run_end(fm_registry *r, int64_t id, const char *status) {
    const fm_sql_value v[] = {FM_SQL_T(status), FM_SQL_I(fm_unix_ms()), FM_SQL_I(id)};
    return r ? fm_sql_run(r->db, "UPDATE run SET status = ?, ended = ? WHERE id = ?", v, 3, NULL, NULL) : FM_OK;
}

fm_status fm_run_find_output(fm_registry *r, const char *kind, const char *output_dir, int64_t *id) {
    char dir[4096];
    *id = 0;
    if (!r || !realpath(output_dir, dir)) {
        return FM_OK;
    }
    const fm_sql_value v[] = {FM_SQL_T(kind), FM_SQL_T(dir)};
    return fm_sql_run(r->db, "SELECT id FROM run WHERE kind = ? AND output_dir = ? ORDER BY id DESC LIMIT 1", v, 2,
                      first_int, id);
}

/* Parts of a model folder that make it what it is. */
static bool counts(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && (strcmp(dot, ".safetensors") == 0 || strcmp(dot, ".gguf") == 0 || strcmp(dot, ".bin") == 0 ||
                   strcmp(name, "config.json") == 0 || strcmp(name, "tokenizer.json") == 0 ||
                   strcmp(name, "adapter_config.json") == 0 || strcmp(name, "dataset.json") == 0);
}

static fm_status folder_hash(char out[33], const char *path) {
    char **names;
    size_t n, found = 0;
    fm_hasher *h;
    FM_TRY(fm_dir_list(&names, &n, path));
    fm_status s = fm_hasher_new(&h);
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        char file[4096], hash[33];
        if (!counts(names[i])) {
            continue;
        }
        s = fm_path_join(file, sizeof file, path, names[i]);
        s = s == FM_OK ? fm_file_hash(hash, file) : s;
        if (s == FM_OK) {
            fm_hasher_update(h, names[i], strlen(names[i]) + 1);
            fm_hasher_update(h, hash, sizeof hash);
            found++;
        }
    }
    if (s == FM_OK && found > 0) {
        fm_hasher_hex(h, out);
    }
    fm_hasher_free(h);
    fm_names_free(names, n);
    return s;
}

fm_status fm_path_hash(char out[33], const char *path) {
    out[0] = '\0';
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    return fm_path_is_dir(path) ? folder_hash(out, path) : fm_file_hash(out, path);
}

fm_status fm_run_file(fm_registry *r, int64_t id, bool made, const char *role, const char *path, const char *hash) {
    char own[33], full[4096];
    if (!r) {
        return FM_OK;
    }
    if (!hash) {
        FM_TRY(fm_path_hash(own, path));
        hash = own[0] ? own : NULL;
    }
    int64_t bytes = fm_path_is_dir(path) ? -1 : fm_file_size(path);
    if (!realpath(path, full)) {
        snprintf(full, sizeof full, "%s", path);
    }
    const fm_sql_value v[] = {FM_SQL_I(id),   FM_SQL_I(made), FM_SQL_T(role),
                              FM_SQL_T(full), FM_SQL_T(hash), bytes >= 0 ? FM_SQL_I(bytes) : FM_SQL_T(NULL)};
    return fm_sql_run(r->db, "INSERT INTO file(run, made, role, path, hash, bytes) VALUES(?, ?, ?, ?, ?, ?)", v, 6,
                      NULL, NULL);
}

fm_status fm_run_point(fm_registry *r, int64_t id, const char *series, int64_t step, double value) {
    const fm_sql_value v[] = {FM_SQL_I(id), FM_SQL_T(series), FM_SQL_I(step), FM_SQL_D(value)};
    if (!r || !isfinite(value)) {
        return FM_OK;
    }
    return fm_sql_run(r->db, "INSERT OR REPLACE INTO point VALUES(?, ?, ?, ?)", v, 4, NULL, NULL);
}

fm_status fm_run_figure(fm_registry *r, int64_t id, const char *name, double value, double low, double high,
                        const char *definition) {
    const fm_sql_value v[] = {FM_SQL_I(id),  FM_SQL_T(name), FM_SQL_D(value),
                              FM_SQL_D(low), FM_SQL_D(high), FM_SQL_T(definition)};
    return r ? fm_sql_run(r->db, "INSERT OR REPLACE INTO figure VALUES(?, ?, ?, ?, ?, ?)", v, 6, NULL, NULL) : FM_OK;
}

fm_status fm_run_report(fm_registry *r, int64_t id, const char *json) {
    const fm_sql_value v[] = {FM_SQL_T(json), FM_SQL_I(id)};
    return r ? fm_sql_run(r->db, "UPDATE run SET report = ? WHERE id = ?", v, 2, NULL, NULL) : FM_OK;
}

/* ---- evaluations ------------------------------------------------------------------------------- */

typedef struct eval_arg {
    fm_registry *r;
    int64_t id;
} eval_arg;

static fm_status eval_figure(void *arg, const char *key, fm_json *m) {
    const eval_arg *a = arg;
    return fm_run_figure(a->r, a->id, key, fm_json_num(fm_json_get(m, "value"), NAN),
                         fm_json_num(fm_json_get(m, "low"), NAN), fm_json_num(fm_json_get(m, "high"), NAN),
                         fm_json_str(fm_json_get(m, "definition"), NULL));
}

/* A list of paths as options write it: by commas. */
static fm_status eval_files(fm_registry *r, int64_t id, const char *role, const char *list) {
    for (const char *p = list; p && *p;) {
        char path[4096];
        size_t n = strcspn(p, ",");
        if (n > 0 && n < sizeof path) {
            memcpy(path, p, n);
            path[n] = '\0';
            FM_TRY(fm_run_file(r, id, false, role, path, NULL));
        }
        p += n + (p[n] == ',');
    }
    return FM_OK;
}

static fm_status add_eval(fm_registry *r, const fm_json *j, const char *report, int64_t started_ms, int64_t *id) {
    fm_str config = {0};
    const fm_json *settings = fm_json_get(j, "settings");
    const char *task = fm_json_str(fm_json_get(j, "task"), NULL),
               *path = fm_json_str(fm_json_get(settings, "task"), NULL);
    fm_status s = fm_json_dump(&config, settings, 2);
    s = s == FM_OK ? fm_run_begin(r, &(fm_run_start){task, "eval", config.data, NULL, started_ms}, id) : s;
    fm_str_free(&config);
    FM_TRY(s);
    static const char *const role[][2] = {{"model", "model"},
                                          {"adapter", "adapter"},
                                          {"data", "data"},
                                          {"fewshot_data", "data"},
                                          {"compare", "compared"}};
    for (size_t i = 0; i < FM_ARRAY_LEN(role); i++) {
        FM_TRY(eval_files(r, *id, role[i][1], fm_json_str(fm_json_get(settings, role[i][0]), NULL)));
    }
    if (path && !fm_json_get(settings, "data")) {
        FM_TRY(fm_run_file(r, *id, false, "data", path, NULL));
    }
    FM_TRY(fm_json_each(fm_json_get(j, "metrics"), eval_figure, &(eval_arg){r, *id}));
    FM_TRY(fm_run_report(r, *id, report));
    return fm_run_end(r, *id, "done");
}

fm_status fm_registry_add_eval(fm_registry *r, const char *report, int64_t started_ms, int64_t *id) {
    int64_t own;
    fm_json *j;
    id = id ? id : &own;
    *id = 0;
    if (!r) {
        return FM_OK;
    }
    FM_TRY(fm_json_parse(&j, report, strlen(report), "report"));
    fm_status s = fm_sql_exec(r->db, "BEGIN IMMEDIATE");
    s = s == FM_OK ? add_eval(r, j, report, started_ms, id) : s;
    if (s == FM_OK) {
        s = fm_sql_exec(r->db, "COMMIT");
    } else {
        fm_error_record first;
        fm_error_save(&first);
        if (fm_sql_exec(r->db, "ROLLBACK") != FM_OK) {
            fm_error_clear();
        }
        fm_error_restore(&first);
    }
    fm_json_free(j);
    return s;
}
