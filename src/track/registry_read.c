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

fm_status fm_registry_list(char **json, fm_registry *r, const fm_run_filter *f) {
    *json = NULL;
    fm_json *list = fm_json_new_array();
    if (!list) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a list of runs");
    }
    char real[4096] = "";
    if (f->input && !realpath(f->input, real)) {
        snprintf(real, sizeof real, "%s", f->input);
    }
    const fm_sql_value v[] = {FM_SQL_T(f->kind),  FM_SQL_T(f->status),
                              FM_SQL_T(f->tag),   FM_SQL_T(f->input ? real : NULL),
                              FM_SQL_T(f->input), FM_SQL_I(f->limit > 0 ? f->limit : INT64_MAX)};
    fm_status s =
        !r ? FM_OK
           : fm_sql_run(r->db,
                        "SELECT id, name, kind, status, started, ended, output_dir FROM run WHERE kind = "
                        "coalesce(?1, kind) AND status = coalesce(?2, status) AND (?3 IS NULL OR id IN (SELECT "
                        "run FROM tag WHERE name = ?3)) AND (?4 IS NULL OR id IN (SELECT run FROM file WHERE "
                        "path = ?4 OR hash = ?5)) ORDER BY id DESC LIMIT ?6",
                        v, (int)FM_ARRAY_LEN(v), on_run, &(list_arg){r, list});
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
    return v[4].kind == FM_SQL_INT ? fm_json_set(o, "bytes", fm_json_new_int(v[4].i)) : FM_OK;
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
    FM_TRY(fm_sql_run(r->db, "SELECT made, role, path, hash, bytes FROM file WHERE run = ? ORDER BY rowid", &v, 1,
                      on_file, o));
    FM_TRY(nest(o, "figures", false, &figures));
    FM_TRY(fm_sql_run(r->db, "SELECT name, value, low, high, definition FROM figure WHERE run = ?", &v, 1, on_figure,
                      figures));
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

#define MOST_RUNS 32

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
    fm_str_puts(&s, v->kind == FM_YAML_SCALAR && v->text ? v->text : "");
    for (size_t i = 0; v->kind == FM_YAML_LIST && i < v->n; i++) {
        fm_str_puts(&s, i ? "," : "");
        fm_str_puts(&s, v->child[i]->text ? v->child[i]->text : "");
    }
    FM_TRY(fm_grow((void **)&k->key, &k->cap_key, k->n + 1, sizeof *k->key));
    FM_TRY(fm_grow((void **)&k->value, &k->cap_value, k->n + 1, sizeof *k->value));
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

fm_status fm_registry_compare(char **json, fm_registry *r, const char *const *which, int n) {
    fm_json *run[MOST_RUNS] = {0}, *out = fm_json_new_object();
    *json = NULL;
    fm_status s = out ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a comparison");
    if (s == FM_OK && (n < 2 || n > MOST_RUNS)) {
        s = fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "expected 2 to %d runs to compare, found %d", MOST_RUNS,
                         n);
    }
    int loaded = 0;
    for (; loaded < n && s == FM_OK; loaded++) {
        s = fm_registry_load(&run[loaded], r, which[loaded]);
    }
    s = s == FM_OK ? compare(out, run, n) : s;
    for (int i = 0; i < loaded; i++) {
        fm_json_free(run[i]);
    }
    return dump(json, out, s);
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
