/* Reading the registry: lists, whole runs, comparisons, removal, tags. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "track/registry.h"

#define SERIES_POINTS 4000 /* of one series in a run's JSON: of more, every k-th and the last */

static fm_status set_text(fm_json *o, const char *key, const fm_sql_value *v) {
    return v->kind == FM_SQL_TEXT && v->t ? fm_json_set(o, key, fm_json_new_str(v->t)) : FM_OK;
}
static fm_status set_number(fm_json *o, const char *key, double v) {
    return isfinite(v) ? fm_json_set(o, key, fm_json_new_num(v)) : FM_OK;
}
static fm_status nest(fm_json *o, const char *key, bool array, fm_json **out) {
    *out = array ? fm_json_new_array() : fm_json_new_object();
    return fm_json_set(o, key, *out);
}
static fm_status nest_item(fm_json *array, fm_json **out) {
    *out = fm_json_new_object();
    return fm_json_append(array, *out);
}

static fm_status set_time(fm_json *o, const char *key, const fm_sql_value *ms) {
    char when[40];
    if (ms->kind != FM_SQL_INT) {
        return FM_OK;
    }
    return fm_json_set(o, key, fm_json_new_str(fm_format_utc(when, sizeof when, ms->i)));
}

/* ---- which run --------------------------------------------------------------------------------- */

static fm_status first_int(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    *(int64_t *)arg = v[0].kind == FM_SQL_INT ? v[0].i : 0;
    return FM_OK;
}

fm_status fm_run_resolve(fm_registry *r, const char *which, int64_t *id) {
    static const char *const query[] = {"SELECT id FROM run WHERE id = ?", "SELECT run FROM tag WHERE name = ?",
                                        "SELECT id FROM run WHERE name = ? ORDER BY id DESC LIMIT 1"};
    int64_t number;
    bool is_number = fm_parse_i64(&number, which) == FM_OK;
    *id = 0;
    fm_error_clear();
    for (size_t i = is_number ? 0 : 1; i < FM_ARRAY_LEN(query) && *id == 0; i++) {
        const fm_sql_value v = i == 0 ? FM_SQL_I(number) : FM_SQL_T(which);
        FM_TRY(fm_sql_run(r->db, query[i], &v, 1, first_int, id));
    }
    if (*id == 0) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "there is no run %s", which);
        return fm_error_hint("'fathom runs list' shows numbers, names and tags");
    }
    return FM_OK;
}

static fm_status need(const fm_registry *r) {
    if (r) {
        return FM_OK;
    }
    (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "there is no registry of runs");
    return fm_error_hint("train and eval make it; FATHOM_REGISTRY=FILE says where it is (none: off)");
}

/* ---- lists ------------------------------------------------------------------------------------- */

static fm_status on_figure_short(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    return set_number(arg, v[0].t, v[1].d);
}
static fm_status on_tag(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    return fm_json_append(arg, fm_json_new_str(v[0].t));
}

static fm_status head(fm_json *o, const fm_sql_value *v) {
    FM_TRY(fm_json_set(o, "id", fm_json_new_int(v[0].i)));
    FM_TRY(set_text(o, "name", &v[1]));
    FM_TRY(set_text(o, "kind", &v[2]));
    FM_TRY(set_text(o, "status", &v[3]));
    FM_TRY(set_time(o, "started", &v[4]));
    if (v[5].kind == FM_SQL_INT) {
        FM_TRY(set_number(o, "seconds", (double)(v[5].i - v[4].i) / 1000));
    }
    return set_text(o, "output_dir", &v[6]);
}

typedef struct list_arg {
    fm_registry *r;
    fm_json *list;
} list_arg;

static fm_status on_run(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    const list_arg *a = arg;
    fm_json *o, *figures, *tags;
    const fm_sql_value id = FM_SQL_I(v[0].i);
    FM_TRY(nest_item(a->list, &o));
    FM_TRY(head(o, v));
    FM_TRY(nest(o, "figures", false, &figures));
    FM_TRY(fm_sql_run(a->r->db, "SELECT name, value FROM figure WHERE run = ? AND value IS NOT NULL", &id, 1,
                      on_figure_short, figures));
    FM_TRY(nest(o, "tags", true, &tags));
    return fm_sql_run(a->r->db, "SELECT name FROM tag WHERE run = ?", &id, 1, on_tag, tags);
}

static fm_status dump(char **out, fm_json *j, fm_status s) {
    fm_str text = {0};
    *out = NULL;
    s = s == FM_OK ? fm_json_dump(&text, j, 0) : s;
    if (s == FM_OK) {
        *out = fm_str_take(&text);
    }
    fm_str_free(&text);
    fm_json_free(j);
    return s;
}

/* "7d", "12h", or a day with or without a time, as milliseconds since 1970. */
static fm_status since_ms(int64_t *out, const char *text) {
    int year, month, day, hour = 0, minute = 0, used = 0;
    char unit = '\0';
    long long n = 0;
    *out = INT64_MIN;
    if (!text) {
        return FM_OK;
    }
    if (sscanf(text, "%lld%c%n", &n, &unit, &used) == 2 && !text[used] && (unit == 'd' || unit == 'h') && n >= 0 &&
        n < 1000000) {
        *out = fm_unix_ms() - n * (unit == 'd' ? 86400000LL : 3600000LL);
        return FM_OK;
    }
    bool ok = sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &used) == 3;
    if (ok && text[used]) {
        int more = 0;
        ok = sscanf(text + used, "T%2d:%2d%n", &hour, &minute, &more) == 2 && !text[used + more];
    }
    struct tm tm = {.tm_year = ok ? year - 1900 : 0, .tm_mon = ok ? month - 1 : 0, .tm_mday = ok ? day : 1};
    tm.tm_hour = hour;
    tm.tm_min = minute;
    if (!ok || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59) {
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "since: \"%s\" is no time", text);
        return fm_error_hint("a day (2026-11-02), a time in UTC (2026-11-02T15:30), or an age (12h, 7d)");
    }
    *out = (int64_t)timegm(&tm) * 1000;
    return FM_OK;
}

/* ---- runs that learned from a row --------------------------------------------------------------- */

typedef struct row_arg {
    fm_registry *r;
    const fm_run_filter *f;
} row_arg;

static fm_status on_data(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    const row_arg *a = arg;
    char now[33] = "";
    bool has = false;
    fm_status s = fm_path_is_dir(v[0].t) ? FM_OK : fm_path_hash(now, v[0].t);
    if (s == FM_ERR_NO_MEMORY) {
        return s;
    }
    if (s != FM_OK) {
        fm_error_clear();
    }
    if (!now[0] || v[1].kind != FM_SQL_TEXT || strcmp(now, v[1].t) != 0) {
        if (a->f->n_unknown && !fm_path_is_dir(v[0].t)) {
            ++*a->f->n_unknown;
        }
        return FM_OK;
    }
    FM_TRY(a->f->has_row(a->f->user, v[0].t, &has));
    const fm_sql_value hash = FM_SQL_T(v[1].t);
    return has ? fm_sql_run(a->r->db, "INSERT OR IGNORE INTO temp.learned VALUES(?)", &hash, 1, NULL, NULL) : FM_OK;
}

/* Hashes of the data files that have the row go into temp.learned. A file that was packed in the course of a run stands
 * there with the hash of its packed form as "data", and as itself as "source". */
static fm_status find_row(fm_registry *r, const fm_run_filter *f) {
    FM_TRY(fm_sql_exec(r->db, "CREATE TEMP TABLE IF NOT EXISTS learned(hash TEXT PRIMARY KEY); DELETE FROM learned"));
    if (!f->has_row) {
        return FM_OK;
    }
    return fm_sql_run(r->db,
                      "SELECT DISTINCT path, hash FROM file AS d WHERE made = 0 AND (role = 'source' OR (role = 'data' "
                      "AND NOT EXISTS (SELECT 1 FROM file AS s WHERE s.run = d.run AND s.role = 'source' AND s.path = "
                      "d.path)))",
                      NULL, 0, on_data, &(row_arg){r, f});
}

static const char list_query[] =
    /* Runs that read the row, and those that began with what such runs made. */
    "WITH RECURSIVE touched(id) AS (SELECT run FROM file WHERE made = 0 AND hash IN (SELECT hash FROM temp.learned) "
    "UNION SELECT f.run FROM touched JOIN file AS m ON m.run = touched.id AND m.made = 1 AND m.hash IS NOT NULL JOIN "
    "file AS f ON f.made = 0 AND f.hash = m.hash) "
    "SELECT run.id, run.name, kind, status, started, ended, output_dir FROM run LEFT JOIN figure ON figure.run = "
    "run.id AND figure.name = ?8 WHERE kind = coalesce(?1, kind) AND status = coalesce(?2, status) AND (?3 IS NULL OR "
    "run.id IN (SELECT run FROM tag WHERE name = ?3)) AND (?4 IS NULL OR run.id IN (SELECT run FROM file WHERE path = "
    "?4 OR hash = ?5)) AND (?7 IS NULL OR instr(run.name, ?7) > 0) AND started >= ?9 AND (?10 = 0 OR run.id IN "
    "touched) ORDER BY CASE WHEN ?8 IS NULL THEN 0 WHEN ?8 = 'name' THEN 0 WHEN ?8 = 'seconds' THEN ended IS NULL ELSE "
    "figure.value IS NULL END, CASE WHEN ?8 = 'seconds' THEN (ended - started) * ?11 WHEN ?8 = 'name' THEN 0 ELSE "
    "figure.value * ?11 END, CASE WHEN ?8 = 'name' AND ?11 > 0 THEN run.name END, CASE WHEN ?8 = 'name' AND ?11 < 0 "
    "THEN run.name END DESC, run.id DESC LIMIT ?6";

fm_status fm_registry_list(char **json, fm_registry *r, const fm_run_filter *f) {
    *json = NULL;
    int64_t since = 0;
    FM_TRY(since_ms(&since, f->since));
    fm_json *list = fm_json_new_array();
    if (!list) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a list of runs");
    }
    char real[4096] = "";
    if (f->input && !realpath(f->input, real)) {
        snprintf(real, sizeof real, "%s", f->input);
    }
    bool down = f->sort && f->sort[0] == '-';
    const fm_sql_value v[] = {FM_SQL_T(f->kind),      FM_SQL_T(f->status),
                              FM_SQL_T(f->tag),       FM_SQL_T(f->input ? real : NULL),
                              FM_SQL_T(f->input),     FM_SQL_I(f->limit > 0 ? f->limit : INT64_MAX),
                              FM_SQL_T(f->name),      FM_SQL_T(f->sort ? f->sort + down : NULL),
                              FM_SQL_I(since),        FM_SQL_I(f->has_row != NULL),
                              FM_SQL_I(down ? -1 : 1)};
    fm_status s = r ? find_row(r, f) : FM_OK;
    if (s == FM_OK && r) {
        s = fm_sql_run(r->db, list_query, v, (int)FM_ARRAY_LEN(v), on_run, &(list_arg){r, list});
    }
    return dump(json, list, s);
}

/* ---- one run ----------------------------------------------------------------------------------- */

static fm_status on_whole(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    fm_json *o = arg;
    FM_TRY(head(o, v));
    FM_TRY(set_text(o, "config", &v[7]));
    FM_TRY(set_text(o, "code", &v[8]));
    static const char *const part[] = {"environment", "report"};
    for (int i = 0; i < 2; i++) {
        const char *text = v[9 + i].t;
        fm_json *j;
        if (v[9 + i].kind == FM_SQL_TEXT && text) { /* written by this program */
            FM_TRY(fm_json_parse(&j, text, strlen(text), part[i]));
            FM_TRY(fm_json_set(o, part[i], j));
        }
    }
    return FM_OK;
}

static fm_status on_file(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    fm_json *o, *list = fm_json_get(arg, v[0].i ? "artefacts" : "inputs");
    FM_TRY(nest_item(list, &o));
    FM_TRY(set_text(o, "role", &v[1]));
    FM_TRY(set_text(o, "path", &v[2]));
    FM_TRY(set_text(o, "hash", &v[3]));
    FM_TRY(v[4].kind == FM_SQL_INT ? fm_json_set(o, "bytes", fm_json_new_int(v[4].i)) : FM_OK);
    bool known = v[5].kind == FM_SQL_INT && !v[0].i;
    return known ? fm_json_set(o, "made_by", fm_json_new_int(v[5].i)) : FM_OK;
}

static fm_status on_figure(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    fm_json *o;
    FM_TRY(nest(arg, v[0].t, false, &o));
    FM_TRY(set_number(o, "value", v[1].d));
    FM_TRY(set_number(o, "low", v[2].d));
    FM_TRY(set_number(o, "high", v[3].d));
    return set_text(o, "definition", &v[4]);
}

typedef struct series_arg {
    fm_registry *r;
    fm_json *all, *one;
    int64_t id, n, at, stride;
} series_arg;

static fm_status on_point(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    series_arg *a = arg;
    int64_t i = a->at++;
    if (i % a->stride != 0 && i + 1 != a->n) {
        return FM_OK;
    }
    fm_json *pair = fm_json_new_array();
    fm_status s = fm_json_append(a->one, pair);
    s = s == FM_OK ? fm_json_append(pair, fm_json_new_int(v[0].i)) : s;
    return s == FM_OK ? fm_json_append(pair, fm_json_new_num(v[1].d)) : s;
}

static fm_status on_series(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    series_arg *a = arg;
    const fm_sql_value key[] = {FM_SQL_I(a->id), FM_SQL_T(v[0].t)};
    a->n = v[1].i;
    a->at = 0;
    a->stride = (a->n + SERIES_POINTS - 1) / SERIES_POINTS;
    FM_TRY(nest(a->all, v[0].t, true, &a->one));
    return fm_sql_run(a->r->db, "SELECT step, value FROM point WHERE run = ? AND series = ? ORDER BY step", key, 2,
                      on_point, a);
}

/* An evaluation of a model that the run made: its figures and samples, and what it was scored on. */
static fm_status on_evaluation(void *arg, const fm_sql_value *v, int n) {
    FM_UNUSED(n);
    const list_arg *a = arg;
    fm_json *o, *figures, *report = NULL;
    const fm_sql_value id = FM_SQL_I(v[0].i);
    FM_TRY(nest_item(a->list, &o));
    FM_TRY(fm_json_set(o, "id", fm_json_new_int(v[0].i)));
    FM_TRY(set_text(o, "name", &v[1]));
    FM_TRY(set_time(o, "started", &v[2]));
    FM_TRY(set_text(o, "data", &v[4]));
    FM_TRY(nest(o, "figures", false, &figures));
    FM_TRY(fm_sql_run(a->r->db, "SELECT name, value, low, high, definition FROM figure WHERE run = ?", &id, 1,
                      on_figure, figures));
    if (v[3].kind != FM_SQL_TEXT || !v[3].t) {
        return FM_OK;
    }
    FM_TRY(fm_json_parse(&report, v[3].t, strlen(v[3].t), "report"));
    const char *frozen = fm_json_str(fm_json_get(report, "frozen"), NULL);
    const fm_json *samples = fm_json_get(report, "samples");
    fm_status s = frozen ? fm_json_set(o, "frozen", fm_json_new_str(frozen)) : FM_OK;
    if (s == FM_OK && samples) {
        fm_json *copy;
        s = fm_json_copy(&copy, samples);
        s = s == FM_OK ? fm_json_set(o, "samples", copy) : s;
    }
    fm_json_free(report);
    return s;
}

static fm_status load_evaluations(fm_json *o, fm_registry *r, int64_t id) {
    fm_json *list;
    const fm_sql_value v = FM_SQL_I(id);
    FM_TRY(nest(o, "evaluations", true, &list));
    return fm_sql_run(
        r->db,
        "SELECT id, name, started, report, (SELECT path FROM file WHERE file.run = run.id AND role = 'data' "
        "ORDER BY rowid LIMIT 1) FROM run WHERE kind = 'eval' AND id IN (SELECT f.run FROM file AS m "
        "JOIN file AS f ON f.made = 0 AND f.role IN ('model', 'adapter') AND f.hash = m.hash WHERE m.run "
        "= ? AND m.made = 1) ORDER BY id",
        &v, 1, on_evaluation, &(list_arg){r, list});
}

static fm_status load(fm_json *o, fm_registry *r, int64_t id) {
    fm_json *figures, *series, *tags, *list;
    const fm_sql_value v = FM_SQL_I(id);
    FM_TRY(
        fm_sql_run(r->db,
                   "SELECT id, name, kind, status, started, ended, output_dir, config, code, environment, report FROM "
                   "run WHERE id = ?",
                   &v, 1, on_whole, o));
    FM_TRY(nest(o, "tags", true, &tags));
    FM_TRY(fm_sql_run(r->db, "SELECT name FROM tag WHERE run = ?", &v, 1, on_tag, tags));
    FM_TRY(nest(o, "inputs", true, &list));
    FM_TRY(nest(o, "artefacts", true, &list));
    FM_TRY(fm_sql_run(r->db,
                      "SELECT made, role, path, hash, bytes, (SELECT max((m.path = file.path) * 1000000000000 + m.run) "
                      "% 1000000000000 FROM file AS m WHERE m.made = 1 AND m.hash = file.hash AND m.run <> file.run) "
                      "FROM file WHERE run = ? ORDER BY rowid",
                      &v, 1, on_file, o));
    FM_TRY(nest(o, "figures", false, &figures));
    FM_TRY(fm_sql_run(r->db, "SELECT name, value, low, high, definition FROM figure WHERE run = ?", &v, 1, on_figure,
                      figures));
    FM_TRY(load_evaluations(o, r, id));
    FM_TRY(nest(o, "series", false, &series));
    series_arg a = {.r = r, .all = series, .id = id};
    return fm_sql_run(r->db, "SELECT series, count(*) FROM point WHERE run = ? GROUP BY series ORDER BY series", &v, 1,
                      on_series, &a);
}

fm_status fm_registry_load(fm_json **out, fm_registry *r, const char *which) {
    int64_t id;
    *out = NULL;
    FM_TRY(need(r));
    FM_TRY(fm_run_resolve(r, which, &id));
    fm_json *o = fm_json_new_object();
    if (!o) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a run");
    }
    fm_status s = load(o, r, id);
    if (s != FM_OK) {
        fm_json_free(o);
        return s;
    }
    *out = o;
    return FM_OK;
}

fm_status fm_registry_show(char **json, fm_registry *r, const char *which) {
    fm_json *o;
    *json = NULL;
    FM_TRY(fm_registry_load(&o, r, which));
    return dump(json, o, FM_OK);
}

fm_status fm_registry_html(char **html, fm_registry *r, const char *which) {
    fm_json *o;
    fm_str s = {0};
    *html = NULL;
    FM_TRY(fm_registry_load(&o, r, which));
    fm_status st = fm_run_html(&s, o);
    if (st == FM_OK) {
        *html = fm_str_take(&s);
    }
    fm_str_free(&s);
    fm_json_free(o);
    return st;
}

/* ---- comparison -------------------------------------------------------------------------------- */

#define MOST_RUNS FM_MOST_COMPARED

/* A configuration as flat keys; JSON is YAML too. */
typedef struct keys {
    char **key, **value;
    size_t n, cap_key, cap_value;
} keys;

static void keys_free(keys *k) {
    for (size_t i = 0; i < k->n; i++) {
        fm_free(k->key[i]);
        fm_free(k->value[i]);
    }
    fm_free(k->key);
    fm_free(k->value);
}

static fm_status add_key(keys *k, const char *key, const fm_yaml *v) {
    fm_str s = {0};
    FM_TRY(fm_grow((void **)&k->key, &k->cap_key, k->n + 1, sizeof *k->key));
    FM_TRY(fm_grow((void **)&k->value, &k->cap_value, k->n + 1, sizeof *k->value));
    fm_str_puts(&s, v->kind == FM_YAML_SCALAR && v->text ? v->text : "");
    for (size_t i = 0; v->kind == FM_YAML_LIST && i < v->n; i++) {
        fm_str_puts(&s, i ? "," : "");
        fm_str_puts(&s, v->child[i]->text ? v->child[i]->text : "");
    }
    fm_status st = fm_str_check(&s);
    k->key[k->n] = fm_strdup(key);
    k->value[k->n] = st == FM_OK ? fm_strdup(s.data ? s.data : "") : NULL;
    fm_str_free(&s);
    if (!k->key[k->n] || !k->value[k->n]) {
        fm_free(k->key[k->n]);
        fm_free(k->value[k->n]);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    k->n++;
    return FM_OK;
}

static fm_status read_keys(keys *k, const char *prefix, const fm_yaml *y) {
    for (size_t i = 0; y && y->kind == FM_YAML_MAP && i < y->n; i++) {
        char name[256];
        const fm_yaml *c = y->child[i];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", c->key);
        FM_TRY(c->kind == FM_YAML_MAP ? read_keys(k, name, c) : add_key(k, name, c));
    }
    return FM_OK;
}

static const char *value_of(const keys *k, const char *key) {
    for (size_t i = 0; i < k->n; i++) {
        if (strcmp(k->key[i], key) == 0) {
            return k->value[i];
        }
    }
    return NULL;
}

static fm_status config_differences(fm_json *list, const keys *k, int n) {
    for (int from = 0; from < n; from++) {
        for (size_t i = 0; i < k[from].n; i++) {
            const char *key = k[from].key[i], *value = k[from].value[i];
            FM_ASSERT(value);
            bool seen = false, differs = false;
            for (int j = 0; j < n; j++) {
                const char *v = value_of(&k[j], key);
                seen = seen || (j < from && v);
                differs = differs || !v || strcmp(v, value) != 0;
            }
            if (seen || !differs) {
                continue;
            }
            fm_json *o, *values;
            FM_TRY(nest_item(list, &o));
            FM_TRY(fm_json_set(o, "key", fm_json_new_str(key)));
            FM_TRY(nest(o, "values", true, &values));
            for (int j = 0; j < n; j++) {
                const char *v = value_of(&k[j], key);
                FM_TRY(fm_json_append(values, v ? fm_json_new_str(v) : fm_json_new_null()));
            }
        }
    }
    return FM_OK;
}

typedef struct figures_arg {
    fm_json *const *run;
    fm_json *list;
    int from, n;
} figures_arg;

static fm_status on_compared(void *arg, const char *key, fm_json *value) {
    FM_UNUSED(value);
    const figures_arg *a = arg;
    fm_json *o, *values;
    for (int j = 0; j < a->from; j++) {
        if (fm_json_get(fm_json_get(a->run[j], "figures"), key)) {
            return FM_OK; /* an earlier run put it in */
        }
    }
    FM_TRY(nest_item(a->list, &o));
    FM_TRY(fm_json_set(o, "name", fm_json_new_str(key)));
    FM_TRY(nest(o, "values", true, &values));
    for (int j = 0; j < a->n; j++) {
        double v = fm_json_num(fm_json_get(fm_json_get(fm_json_get(a->run[j], "figures"), key), "value"), NAN);
        FM_TRY(fm_json_append(values, fm_json_new_num(v)));
    }
    return FM_OK;
}

static fm_status compare(fm_json *out, fm_json *const *run, int n) {
    fm_json *runs, *config, *figures, *o;
    keys k[MOST_RUNS] = {{0}};
    fm_status s = nest(out, "runs", true, &runs);
    for (int i = 0; i < n && s == FM_OK; i++) {
        static const char *const member[] = {"name", "kind", "status", "started", "code"};
        const char *text = fm_json_str(fm_json_get(run[i], "config"), NULL);
        fm_yaml *y = NULL;
        s = nest_item(runs, &o);
        s = s == FM_OK ? fm_json_set(o, "id", fm_json_new_int(fm_json_int(fm_json_get(run[i], "id"), 0))) : s;
        for (size_t m = 0; m < FM_ARRAY_LEN(member) && s == FM_OK; m++) {
            const char *v = fm_json_str(fm_json_get(run[i], member[m]), NULL);
            s = v ? fm_json_set(o, member[m], fm_json_new_str(v)) : FM_OK;
        }
        s = s == FM_OK && text ? fm_yaml_parse(&y, text, strlen(text), "config") : s;
        s = s == FM_OK ? read_keys(&k[i], "", y) : s;
        fm_yaml_free(y);
    }
    s = s == FM_OK ? nest(out, "config", true, &config) : s;
    s = s == FM_OK ? config_differences(config, k, n) : s;
    s = s == FM_OK ? nest(out, "figures", true, &figures) : s;
    for (int i = 0; i < n && s == FM_OK; i++) {
        s = fm_json_each(fm_json_get(run[i], "figures"), on_compared, &(figures_arg){run, figures, i, n});
    }
    for (int i = 0; i < n; i++) {
        keys_free(&k[i]);
    }
    return s;
}

/* Loads the runs and what compare() makes of them; the caller frees all of it, whatever comes back. */
static fm_status load_compared(fm_json **run, fm_json **out, fm_registry *r, const char *const *which, int n) {
    *out = fm_json_new_object();
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a comparison");
    }
    if (n < 2 || n > MOST_RUNS) {
        FM_FAIL(FM_ERR_ARGUMENT, "expected 2 to %d runs to compare, found %d", MOST_RUNS, n);
    }
    for (int i = 0; i < n; i++) {
        FM_TRY(fm_registry_load(&run[i], r, which[i]));
    }
    return compare(*out, run, n);
}

static void free_runs(fm_json **run) {
    for (int i = 0; i < MOST_RUNS; i++) {
        fm_json_free(run[i]);
    }
}

fm_status fm_registry_compare(char **json, fm_registry *r, const char *const *which, int n) {
    fm_json *run[MOST_RUNS] = {0}, *out;
    fm_status s = load_compared(run, &out, r, which, n);
    free_runs(run);
    return dump(json, out, s);
}

fm_status fm_registry_compare_html(char **html, fm_registry *r, const char *const *which, int n) {
    fm_json *run[MOST_RUNS] = {0}, *out;
    fm_str page = {0};
    fm_status s = load_compared(run, &out, r, which, n);
    s = s == FM_OK ? fm_compare_html(&page, run, n, out) : s;
    *html = s == FM_OK ? fm_str_take(&page) : NULL;
    fm_str_free(&page);
    fm_json_free(out);
    free_runs(run);
    return s;
}

/* ---- changes ----------------------------------------------------------------------------------- */

fm_status fm_registry_remove(fm_registry *r, const char *which) {
    int64_t id;
    FM_TRY(need(r));
    FM_TRY(fm_run_resolve(r, which, &id));
    const fm_sql_value v = FM_SQL_I(id);
    return fm_sql_run(r->db, "DELETE FROM run WHERE id = ?", &v, 1, NULL, NULL);
}

fm_status fm_registry_tag(fm_registry *r, const char *which, const char *tag) {
    int64_t id, number;
    FM_TRY(need(r));
    FM_TRY(fm_run_resolve(r, which, &id));
    if (tag[0] == '-') {
        const fm_sql_value v[] = {FM_SQL_T(tag + 1), FM_SQL_I(id)};
        return fm_sql_run(r->db, "DELETE FROM tag WHERE name = ? AND run = ?", v, 2, NULL, NULL);
    }
    if (!*tag || fm_parse_i64(&number, tag) == FM_OK) {
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "\"%s\" is no tag", tag);
        return fm_error_hint("a tag is a word; numbers are runs");
    }
    fm_error_clear();
    const fm_sql_value v[] = {FM_SQL_T(tag), FM_SQL_I(id)};
    return fm_sql_run(r->db, "INSERT OR REPLACE INTO tag VALUES(?, ?)", v, 2, NULL, NULL);
}
