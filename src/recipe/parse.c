/* The recipe file:
 *
 *   output_dir: out/demo
 *   vars: {corpus: data/corpus.jsonl}
 *   stages:
 *     - name: tokenizer
 *       run: tokenizer train
 *       with: {input: "${corpus}", vocab_size: 8000}
 *     - name: model
 *       run: train
 *       with: {dataset: "${corpus}", tokenizer: "${tokenizer}", max_steps: 500}
 *
 * ${name} is a variable, the output of an earlier stage, ${out} this stage's own, ${here} the folder of the file. */
#include <string.h>

#include "base/file.h"
#include "base/yaml.h"
#include "recipe/recipe.h"

fm_status fm_list_add(fm_texts_list *l, const char *text, size_t n) {
    FM_TRY(fm_grow((void **)&l->item, &l->cap, l->n + 1, sizeof *l->item));
    l->item[l->n] = fm_strndup(text, n);
    if (!l->item[l->n]) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a recipe");
    }
    l->n++;
    return FM_OK;
}

void fm_list_free(fm_texts_list *l) {
    for (size_t i = 0; i < l->n; i++) {
        fm_free(l->item[i]);
    }
    fm_free(l->item);
    *l = (fm_texts_list){0};
}

static fm_status add(fm_texts_list *l, const char *text) {
    return fm_list_add(l, text, strlen(text));
}

static fm_status bad(const fm_recipe *r, size_t line, const char *what, const char *hint) {
    (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s:%zu: %s", r->path, line, what);
    return fm_error_hint("%s", hint);
}

fm_stage_output fm_stage_output_of(const char *command, const char **key) {
    *key = "output";
    if (strcmp(command, "train") == 0) {
        *key = "output_dir";
        return FM_OUT_OPTION;
    }
    if (strcmp(command, "convert") == 0 || strcmp(command, "merge") == 0 || strcmp(command, "quantize") == 0) {
        return FM_OUT_LAST;
    }
    if (strncmp(command, "data ", 5) == 0 || strcmp(command, "tokenizer train") == 0) {
        return FM_OUT_OPTION;
    }
    return FM_OUT_STDOUT;
}

/* ---- ${name} ----------------------------------------------------------------------------------- */

/* Value of a name for stage `at` (its index); NULL when there is none. */
static const char *value_of(const fm_recipe *r, const char *name, size_t n, const fm_stage *at) {
    for (size_t i = 0; i < r->var.n; i++) {
        if (strlen(r->var.item[i]) == n && memcmp(r->var.item[i], name, n) == 0) {
            return r->var_value.item[i];
        }
    }
    for (size_t i = 0; i < r->n && &r->stage[i] != at; i++) {
        if (strlen(r->stage[i].name) == n && memcmp(r->stage[i].name, name, n) == 0) {
            return r->stage[i].output;
        }
    }
    if (n == 10 && memcmp(name, "output_dir", 10) == 0) {
        return r->output_dir;
    }
    return NULL;
}

static fm_status fill(const fm_recipe *r, fm_stage *s, const char *text, size_t line, fm_str *out) {
    fm_str_clear(out);
    for (const char *p = text; *p;) {
        const char *end = p[0] == '$' && p[1] == '{' ? strchr(p, '}') : NULL;
        if (!end) {
            fm_str_putc(out, *p++);
            continue;
        }
        size_t n = (size_t)(end - p) - 2;
        const char *v = NULL;
        if (n == 3 && memcmp(p + 2, "out", 3) == 0 && s) {
            s->names_output = true;
            v = s->output;
        } else if (n == 4 && memcmp(p + 2, "here", 4) == 0) {
            const char *slash = strrchr(r->path, '/');
            fm_str_append(out, slash ? r->path : ".", slash ? (size_t)(slash - r->path) : 1);
            v = "";
        } else {
            v = value_of(r, p + 2, n, s);
        }
        if (!v) {
            char what[160];
            snprintf(what, sizeof what, "${%.*s} is no variable and no earlier stage", (int)FM_MIN(n, 80), p + 2);
            return bad(r, line, what,
                       "names stand under vars, or are those of stages above; ${out} is this stage's own output");
        }
        fm_str_puts(out, v);
        p = end + 1;
    }
    return fm_str_check(out);
}

static fm_status add_filled(const fm_recipe *r, fm_stage *s, fm_texts_list *l, const fm_yaml *y) {
    fm_str t = {0};
    fm_status st = y->kind != FM_YAML_SCALAR ? bad(r, y->line, "expected a text", "lists have texts as items")
                                             : fill(r, s, y->text ? y->text : "", y->line, &t);
    st = st == FM_OK ? add(l, t.data ? t.data : "") : st;
    fm_str_free(&t);
    return st;
}

/* A text or a list of them. */
static fm_status add_all(const fm_recipe *r, fm_stage *s, fm_texts_list *l, const fm_yaml *y) {
    if (y->kind == FM_YAML_LIST) {
        for (size_t i = 0; i < y->n; i++) {
            FM_TRY(add_filled(r, s, l, y->child[i]));
        }
        return FM_OK;
    }
    return y->is_null ? FM_OK : add_filled(r, s, l, y);
}

/* ---- stages ------------------------------------------------------------------------------------ */

static fm_status add_options(const fm_recipe *r, fm_stage *s, const fm_yaml *map, const char *prefix) {
    for (size_t i = 0; i < map->n; i++) {
        const fm_yaml *y = map->child[i];
        char key[256];
        if (snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", y->key) >= (int)sizeof key) {
            return bad(r, y->line, "the key is too long", "nested keys are joined by dots");
        }
        if (y->kind == FM_YAML_MAP) {
            FM_TRY(add_options(r, s, y, key));
            continue;
        }
        size_t before = s->value.n;
        FM_TRY(add_all(r, s, &s->value, y));
        for (; before < s->value.n; before++) {
            FM_TRY(add(&s->key, key));
        }
    }
    return FM_OK;
}

static bool good_name(const char *name) {
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return n > 0 && name[n] == '\0' && name[0] != '-' && strcmp(name, "out") != 0 && strcmp(name, "here") != 0 &&
           strcmp(name, "output_dir") != 0;
}

static const char *scalar(const fm_yaml *map, const char *key) {
    const fm_yaml *y = fm_yaml_get(map, key);
    return y && y->kind == FM_YAML_SCALAR && y->text && *y->text ? y->text : NULL;
}

static fm_status known_keys(const fm_recipe *r, const fm_yaml *map, const char *const *keys, size_t n) {
    for (size_t i = 0; i < map->n; i++) {
        bool known = false;
        for (size_t k = 0; k < n; k++) {
            known = known || strcmp(map->child[i]->key, keys[k]) == 0;
        }
        if (!known) {
            char what[160], hint[200] = "keys:";
            snprintf(what, sizeof what, "unknown key \"%.100s\"", map->child[i]->key);
            for (size_t k = 0; k < n; k++) {
                size_t used = strlen(hint);
                snprintf(hint + used, sizeof hint - used, " %s", keys[k]);
            }
            return bad(r, map->child[i]->line, what, hint);
        }
    }
    return FM_OK;
}

/* Single blanks between the words of a command. */
static fm_status normalise(char **out, const char *words) {
    fm_str s = {0};
    for (const char *p = words; *p;) {
        size_t n = strcspn(p, " ");
        fm_str_puts(&s, n > 0 && s.len > 0 ? " " : "");
        fm_str_append(&s, p, n);
        p += n + strspn(p + n, " ");
    }
    fm_status st = fm_str_check(&s);
    if (st == FM_OK) {
        *out = fm_str_take(&s);
    }
    fm_str_free(&s);
    return st;
}

static fm_status output_path(const fm_recipe *r, fm_stage *s, const fm_yaml *y) {
    const char *given = scalar(y, "output"), *key;
    char path[4096], name[300];
    fm_str t = {0};
    bool printed = fm_stage_output_of(s->command, &key) == FM_OUT_STDOUT;
    snprintf(name, sizeof name, "%.250s%s", s->name, printed ? ".json" : "");
    fm_status st = given ? fill(r, NULL, given, y->line, &t) : FM_OK;
    st = st == FM_OK ? fm_path_join(path, sizeof path, r->output_dir, given ? t.data : name) : st;
    if (st == FM_OK && given && t.data[0] == '/') {
        snprintf(path, sizeof path, "%.4000s", t.data);
    }
    fm_str_free(&t);
    FM_TRY(st);
    s->output = fm_strdup(path);
    return s->output ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a recipe");
}

static fm_status add_stage(fm_recipe *r, const fm_yaml *y) {
    static const char *const keys[] = {"name", "run", "with", "args", "inputs", "output"};
    if (y->kind != FM_YAML_MAP) {
        return bad(r, y->line, "expected a stage", "- name: NAME, run: COMMAND, with: {KEY: VALUE}");
    }
    FM_TRY(known_keys(r, y, keys, FM_ARRAY_LEN(keys)));
    const char *name = scalar(y, "name"), *command = scalar(y, "run");
    if (!name || !good_name(name) || value_of(r, name, strlen(name), NULL)) {
        return bad(r, y->line, "the stage has no name of its own",
                   "letters, digits, _ and -; no other stage or variable has it");
    }
    if (!command) {
        return bad(r, y->line, "the stage does not say what to run",
                   "run: COMMAND as on the command line, such as 'tokenizer train'");
    }
    FM_TRY(fm_grow((void **)&r->stage, &r->cap, r->n + 1, sizeof *r->stage));
    fm_stage *s = &r->stage[r->n++];
    *s = (fm_stage){.line = y->line, .name = fm_strdup(name)};
    if (!s->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a recipe");
    }
    FM_TRY(normalise(&s->command, command));
    FM_TRY(output_path(r, s, y));
    const fm_yaml *with = fm_yaml_get(y, "with"), *args = fm_yaml_get(y, "args"), *inputs = fm_yaml_get(y, "inputs");
    if (with && with->kind != FM_YAML_MAP && !with->is_null) {
        return bad(r, with->line, "with: expected a mapping", "with: {KEY: VALUE}, the options of the command");
    }
    FM_TRY(args ? add_all(r, s, &s->args, args) : FM_OK);
    FM_TRY(inputs ? add_all(r, s, &s->input, inputs) : FM_OK);
    return with && with->kind == FM_YAML_MAP ? add_options(r, s, with, "") : FM_OK;
}

/* ---- file -------------------------------------------------------------------------------------- */

static fm_status add_vars(fm_recipe *r, const fm_yaml *vars) {
    for (size_t i = 0; vars && i < vars->n; i++) {
        const fm_yaml *y = vars->child[i];
        if (y->kind != FM_YAML_SCALAR) {
            return bad(r, y->line, "a variable is one text", "vars: {NAME: TEXT}");
        }
        fm_str t = {0};
        fm_status s = fill(r, NULL, y->text ? y->text : "", y->line, &t);
        s = s == FM_OK ? add(&r->var_value, t.data ? t.data : "") : s;
        fm_str_free(&t);
        FM_TRY(s);
        FM_TRY(add(&r->var, y->key));
    }
    return FM_OK;
}

static fm_status override(fm_recipe *r, const char *text) {
    const char *eq = strchr(text, '=');
    size_t n = eq ? (size_t)(eq - text) : 0;
    char *copy = eq ? fm_strdup(eq + 1) : NULL;
    if (eq && !copy) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a recipe");
    }
    if (n == 10 && memcmp(text, "output_dir", 10) == 0) {
        fm_free(r->output_dir);
        r->output_dir = copy;
        return FM_OK;
    }
    for (size_t i = 0; copy && i < r->var.n; i++) {
        if (strlen(r->var.item[i]) == n && memcmp(r->var.item[i], text, n) == 0) {
            fm_free(r->var_value.item[i]);
            r->var_value.item[i] = copy;
            return FM_OK;
        }
    }
    fm_free(copy);
    (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s: the recipe has no variable \"%.*s\"", r->path,
                       (int)FM_MIN(eq ? n : strlen(text), 80), text);
    return fm_error_hint("NAME=VALUE sets output_dir or an entry of vars");
}

static fm_status read_file(fm_recipe *r, const fm_yaml *y, const char *const *overrides, int n) {
    static const char *const keys[] = {"name", "output_dir", "vars", "stages"};
    if (!y || y->kind != FM_YAML_MAP) {
        return bad(r, 1, "expected a recipe", "output_dir, vars and stages: docs/recipes.md");
    }
    FM_TRY(known_keys(r, y, keys, FM_ARRAY_LEN(keys)));
    const char *name = scalar(y, "name"), *dir = scalar(y, "output_dir");
    const char *slash = strrchr(r->path, '/');
    r->name = fm_strdup(name ? name : slash ? slash + 1 : r->path);
    if (!r->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a recipe");
    }
    FM_TRY(add_vars(r, fm_yaml_get(y, "vars")));
    if (dir) {
        fm_str t = {0};
        fm_status s = fill(r, NULL, dir, fm_yaml_get(y, "output_dir")->line, &t);
        r->output_dir = s == FM_OK ? fm_str_take(&t) : NULL;
        fm_str_free(&t);
        FM_TRY(s);
    }
    for (int i = 0; i < n; i++) {
        FM_TRY(override(r, overrides[i]));
    }
    if (!r->output_dir) {
        return bad(r, 1, "there is no output_dir", "output_dir: FOLDER, where all stages write");
    }
    const fm_yaml *stages = fm_yaml_get(y, "stages");
    if (!stages || stages->kind != FM_YAML_LIST || stages->n == 0) {
        return bad(r, stages ? stages->line : 1, "there are no stages", "stages: a list");
    }
    for (size_t i = 0; i < stages->n; i++) {
        FM_TRY(add_stage(r, stages->child[i]));
    }
    return FM_OK;
}

fm_status fm_recipe_open(fm_recipe **out, const char *path, const char *const *overrides, int n) {
    *out = NULL;
    fm_recipe *r = fm_calloc(1, sizeof *r);
    fm_yaml *y = NULL;
    size_t len;
    if (!r || !(r->path = fm_strdup(path))) {
        fm_free(r);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a recipe");
    }
    fm_status s = fm_file_read(&r->text, &len, path, (size_t)16 << 20);
    s = s == FM_OK ? fm_yaml_parse(&y, r->text, len, path) : s;
    s = s == FM_OK ? read_file(r, y, overrides, n) : s;
    fm_yaml_free(y);
    if (s != FM_OK) {
        fm_recipe_free(r);
        return s;
    }
    *out = r;
    return FM_OK;
}

void fm_recipe_free(fm_recipe *r) {
    if (!r) {
        return;
    }
    for (size_t i = 0; i < r->n; i++) {
        fm_stage *s = &r->stage[i];
        fm_free(s->name);
        fm_free(s->command);
        fm_free(s->output);
        fm_list_free(&s->args);
        fm_list_free(&s->key);
        fm_list_free(&s->value);
        fm_list_free(&s->input);
    }
    fm_free(r->stage);
    fm_list_free(&r->var);
    fm_list_free(&r->var_value);
    fm_free(r->path);
    fm_free(r->name);
    fm_free(r->output_dir);
    fm_free(r->text);
    fm_free(r);
}

const char *fm_recipe_output_dir(const fm_recipe *r) {
    return r->output_dir;
}

const char *fm_recipe_stage(const fm_recipe *r, int i, const char **words, const char *const **keys, int *n) {
    if (i < 0 || (size_t)i >= r->n) {
        return NULL;
    }
    const fm_stage *s = &r->stage[i];
    *words = s->command;
    *keys = (const char *const *)s->key.item;
    *n = (int)s->key.n;
    return s->name;
}
