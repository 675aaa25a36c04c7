/* Manifests compared: see manifest_diff.h. */
#include "data/manifest_diff.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/job.h"

fm_status fm_manifest_of(fm_json **out, const char *dataset) {
    char path[4096];
    *out = NULL;
    FM_TRY(fm_job_beside(path, sizeof path, dataset, "manifest.json"));
    return fm_path_exists(path) ? fm_json_load(out, path) : FM_OK;
}

typedef struct search {
    const char *text;
    bool found;
} search;

static fm_status look_in(void *arg, const char *key, fm_json *value) {
    search *s = arg;
    FM_UNUSED(key);
    s->found = s->found || fm_json_mentions(value, s->text);
    return FM_OK;
}

bool fm_json_mentions(const fm_json *tree, const char *text) {
    if (fm_json_is_string(tree)) {
        return strcmp(fm_json_str(tree, NULL), text) == 0;
    }
    for (size_t i = 0; fm_json_is_array(tree) && i < fm_json_size(tree); i++) {
        if (fm_json_mentions(fm_json_at(tree, i), text)) {
            return true;
        }
    }
    search s = {text, false};
    if (fm_json_is_object(tree)) {
        (void)!fm_json_each((fm_json *)(uintptr_t)tree, look_in, &s);
    }
    return s.found;
}

static const char *word(const fm_json *o, const char *key) {
    const char *s = fm_json_str(fm_json_get(o, key), NULL);
    return s ? s : "";
}

/* A value as its text, so that values of any kind can be shown and compared. */
static fm_status text_of(fm_str *s, const fm_json *v) {
    fm_str_clear(s);
    if (fm_json_is_string(v)) {
        fm_str_puts(s, fm_json_str(v, NULL));
    } else if (v && !fm_json_is_null(v)) {
        FM_TRY(fm_json_dump(s, v, 0));
    }
    fm_str_append(s, "", 0);
    return fm_str_check(s);
}

static fm_status copy_json(fm_json **out, const fm_json *v) {
    fm_str s = {0};
    *out = NULL;
    fm_status st = fm_json_dump(&s, v, 0);
    st = st == FM_OK ? fm_json_parse(out, s.data, s.len, "manifest") : st;
    fm_str_free(&s);
    return st;
}

/* Adds {key, a, b} to the list when the two differ. */
static fm_status compare(fm_json *list, const char *key, const fm_json *a, const fm_json *b) {
    fm_str x = {0}, y = {0};
    fm_status s = text_of(&x, a);
    s = s == FM_OK ? text_of(&y, b) : s;
    if (s == FM_OK && (x.len != y.len || (x.len && memcmp(x.data, y.data, x.len) != 0))) {
        fm_json *e = fm_json_new_object();
        s = fm_json_append(list, e);
        s = s == FM_OK ? fm_json_set(e, "key", fm_json_new_str(key)) : s;
        s = s == FM_OK ? fm_json_set(e, "a", fm_json_new_strn(x.data ? x.data : "", x.len)) : s;
        s = s == FM_OK ? fm_json_set(e, "b", fm_json_new_strn(y.data ? y.data : "", y.len)) : s;
    }
    fm_str_free(&x);
    fm_str_free(&y);
    return s;
}

typedef struct pair {
    const fm_json *other;
    fm_json *list;
    bool both; /* of keys in the other as well, compare the values; else only name those that are missing there */
} pair;

static fm_status compare_member(void *arg, const char *key, fm_json *value) {
    const pair *p = arg;
    const fm_json *other = fm_json_get(p->other, key);
    if (p->both) {
        return compare(p->list, key, value, other);
    }
    return other ? FM_OK : compare(p->list, key, NULL, value);
}

static fm_status compare_options(fm_json *list, const fm_json *a, const fm_json *b) {
    pair ab = {b, list, true}, ba = {a, list, false};
    if (fm_json_is_object(a)) {
        FM_TRY(fm_json_each((fm_json *)(uintptr_t)a, compare_member, &ab));
    }
    return fm_json_is_object(b) ? fm_json_each((fm_json *)(uintptr_t)b, compare_member, &ba) : FM_OK;
}

static const fm_json *find_input(const fm_json *list, const char *file) {
    for (size_t i = 0; i < fm_json_size(list); i++) {
        if (strcmp(word(fm_json_at(list, i), "file"), file) == 0) {
            return fm_json_at(list, i);
        }
    }
    return NULL;
}

static fm_status note_input(fm_json *list, const fm_json *in, const char *change) {
    fm_json *e = fm_json_new_object();
    FM_TRY(fm_json_append(list, e));
    FM_TRY(fm_json_set(e, "file", fm_json_new_str(word(in, "file"))));
    return fm_json_set(e, "change", fm_json_new_str(change));
}

static fm_status compare_inputs(fm_json *list, const fm_json *a, const fm_json *b) {
    for (size_t i = 0; i < fm_json_size(a); i++) {
        const fm_json *x = fm_json_at(a, i), *y = find_input(b, word(x, "file"));
        if (!y) {
            FM_TRY(note_input(list, x, "removed"));
        } else if (strcmp(word(x, "hash"), word(y, "hash")) != 0) {
            FM_TRY(note_input(list, y, "changed"));
        }
    }
    for (size_t i = 0; i < fm_json_size(b); i++) {
        if (!find_input(a, word(fm_json_at(b, i), "file"))) {
            FM_TRY(note_input(list, fm_json_at(b, i), "added"));
        }
    }
    return FM_OK;
}

static fm_status note_step(fm_json *list, const fm_json *step, const char *change, fm_json **out) {
    fm_json *e = *out = fm_json_new_object();
    FM_TRY(fm_json_append(list, e));
    FM_TRY(fm_json_set(e, "name", fm_json_new_str(word(step, "name"))));
    return change ? fm_json_set(e, "change", fm_json_new_str(change)) : FM_OK;
}

static int64_t rows_out(const fm_json *step) {
    return fm_json_int(fm_json_get(fm_json_get(step, "result"), "rows_out"), 0);
}

static fm_status same_step(fm_json *list, const fm_json *a, const fm_json *b) {
    fm_json *options = fm_json_new_array(), *e;
    fm_status s = compare_options(options, fm_json_get(a, "options"), fm_json_get(b, "options"));
    if (s != FM_OK || (fm_json_size(options) == 0 && rows_out(a) == rows_out(b))) {
        fm_json_free(options);
        return s;
    }
    s = note_step(list, b, fm_json_size(options) ? "options" : "rows", &e);
    FM_TRY(s == FM_OK ? fm_json_set(e, "options", options) : (fm_json_free(options), s));
    fm_json *rows = fm_json_new_array();
    FM_TRY(fm_json_set(e, "rows_out", rows));
    FM_TRY(fm_json_append(rows, fm_json_new_int(rows_out(a))));
    return fm_json_append(rows, fm_json_new_int(rows_out(b)));
}

/* Steps by name in order: the longest common subsequence stays, the rest was removed or added. */
static fm_status compare_steps(fm_json *list, const fm_json *a, const fm_json *b) {
    size_t n = fm_json_size(a), m = fm_json_size(b), w = m + 1;
    uint16_t *best = n < 1000 && m < 1000 ? fm_calloc((n + 1) * w, sizeof *best) : NULL;
    if (!best) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot compare %zu with %zu steps", n, m);
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = m; k-- > 0;) {
            bool same = strcmp(word(fm_json_at(a, i), "name"), word(fm_json_at(b, k), "name")) == 0;
            uint16_t down = best[(i + 1) * w + k], right = best[i * w + k + 1];
            best[i * w + k] = same ? (uint16_t)(best[(i + 1) * w + k + 1] + 1) : FM_MAX(down, right);
        }
    }
    fm_status s = FM_OK;
    fm_json *e;
    for (size_t i = 0, k = 0; s == FM_OK && (i < n || k < m);) {
        const fm_json *x = fm_json_at(a, i), *y = fm_json_at(b, k);
        if (i < n && k < m && strcmp(word(x, "name"), word(y, "name")) == 0) {
            s = same_step(list, x, y);
            i++, k++;
        } else if (k == m || (i < n && best[(i + 1) * w + k] >= best[i * w + k + 1])) {
            s = note_step(list, x, "removed", &e);
            i++;
        } else {
            s = note_step(list, y, "added", &e);
            k++;
        }
    }
    fm_free(best);
    return s;
}

/* Is one of a's output files an input of b, or of what b was made from? */
static bool made_from(const fm_json *a, const fm_json *b) {
    const fm_json *files = fm_json_get(a, "output");
    for (size_t i = 0; i < fm_json_size(files); i++) {
        const char *hash = word(fm_json_at(files, i), "hash");
        if (*hash && fm_json_mentions(fm_json_get(b, "inputs"), hash)) {
            return true;
        }
    }
    return false;
}

/* What was done to make b: its steps with their counts. */
static fm_status copy_steps(fm_json *list, const fm_json *steps) {
    for (size_t i = 0; i < fm_json_size(steps); i++) {
        fm_json *e, *result = NULL;
        FM_TRY(note_step(list, fm_json_at(steps, i), NULL, &e));
        fm_status s = copy_json(&result, fm_json_get(fm_json_at(steps, i), "result"));
        FM_TRY(s == FM_OK ? fm_json_set(e, "result", result) : s);
    }
    return FM_OK;
}

fm_status fm_manifest_diff(fm_json **out, const fm_json *a, const fm_json *b) {
    static const char *const keys[] = {"program", "seed"};
    fm_json *o = *out = fm_json_new_object(), *settings, *inputs, *steps;
    FM_TRY(fm_json_set(o, "a", fm_json_new_bool(a != NULL)));
    FM_TRY(fm_json_set(o, "b", fm_json_new_bool(b != NULL)));
    FM_TRY(fm_json_set(o, "settings", settings = fm_json_new_array()));
    FM_TRY(fm_json_set(o, "inputs", inputs = fm_json_new_array()));
    FM_TRY(fm_json_set(o, "steps", steps = fm_json_new_array()));
    bool derived = a && b && made_from(a, b);
    FM_TRY(fm_json_set(o, "made_from", fm_json_new_bool(derived)));
    if (derived) {
        return copy_steps(steps, fm_json_get(b, "steps"));
    }
    if (!a || !b) {
        return FM_OK;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(keys); i++) {
        FM_TRY(compare(settings, keys[i], fm_json_get(a, keys[i]), fm_json_get(b, keys[i])));
    }
    FM_TRY(compare_inputs(inputs, fm_json_get(a, "inputs"), fm_json_get(b, "inputs")));
    return compare_steps(steps, fm_json_get(a, "steps"), fm_json_get(b, "steps"));
}

/* ---- for people ------------------------------------------------------------------------------- */

static void put_pairs(fm_str *s, const fm_json *list, const char *indent) {
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *e = fm_json_at(list, i);
        fm_str_printf(s, "%s%s: %s -> %s\n", indent, word(e, "key"), word(e, "a"), word(e, "b"));
    }
}

static fm_status put_reason(void *arg, const char *key, fm_json *value) {
    fm_str_printf(arg, "    - %s: %lld\n", key, (long long)fm_json_int(value, 0));
    return FM_OK;
}

static void put_step(fm_str *s, const fm_json *e) {
    const fm_json *rows = fm_json_get(e, "rows_out"), *result = fm_json_get(e, "result");
    fm_str_printf(s, "  step %s", word(e, "name"));
    if (*word(e, "change")) {
        fm_str_printf(s, " %s",
                      strcmp(word(e, "change"), "rows") == 0      ? "as before"
                      : strcmp(word(e, "change"), "options") == 0 ? "with other options"
                                                                  : word(e, "change"));
    }
    if (rows) {
        fm_str_printf(s, ": rows out %lld -> %lld", (long long)fm_json_int(fm_json_at(rows, 0), 0),
                      (long long)fm_json_int(fm_json_at(rows, 1), 0));
    }
    if (result) {
        fm_str_printf(s, ": %lld -> %lld rows", (long long)fm_json_int(fm_json_get(result, "rows_in"), 0),
                      (long long)fm_json_int(fm_json_get(result, "rows_out"), 0));
    }
    fm_str_putc(s, '\n');
    put_pairs(s, fm_json_get(e, "options"), "    ");
    fm_json *reasons = fm_json_get(result, "reasons");
    if (fm_json_is_object(reasons)) {
        (void)!fm_json_each(reasons, put_reason, s);
    }
}

void fm_manifest_diff_text(fm_str *s, const fm_json *diff) {
    const fm_json *steps = fm_json_get(diff, "steps"), *inputs = fm_json_get(diff, "inputs");
    bool a = fm_json_bool(fm_json_get(diff, "a"), false), b = fm_json_bool(fm_json_get(diff, "b"), false);
    if (!a || !b) {
        fm_str_printf(s, "manifests: %s\n", a ? "the second has none" : b ? "the first has none" : "none");
        return;
    }
    bool derived = fm_json_bool(fm_json_get(diff, "made_from"), false);
    fm_str_puts(s, derived ? "the second was made from the first by\n" : "manifests:\n");
    put_pairs(s, fm_json_get(diff, "settings"), "  ");
    for (size_t i = 0; i < fm_json_size(inputs); i++) {
        fm_str_printf(s, "  input %s %s\n", word(fm_json_at(inputs, i), "file"), word(fm_json_at(inputs, i), "change"));
    }
    for (size_t i = 0; i < fm_json_size(steps); i++) {
        put_step(s, fm_json_at(steps, i));
    }
    if (!derived && fm_json_size(steps) + fm_json_size(inputs) + fm_json_size(fm_json_get(diff, "settings")) == 0) {
        fm_str_puts(s, "  no difference in inputs, steps and seed\n");
    }
}
