/* See label_guide.h. */
#include "data/label_guide.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/str.h"

static const char *const kinds[] = {"classification", "entities", "qa", "preference"};

void fm_guide_free(fm_guide *g) {
    fm_yaml_free(g->doc);
    fm_label_names_free(&g->labels);
    *g = (fm_guide){0};
}

static const char *text_of(const fm_yaml *y) {
    return y && y->kind == FM_YAML_SCALAR && !y->is_null ? y->text : NULL;
}

static fm_status check_keys(const fm_guide *g, const fm_yaml *map, const char *const *known, int n) {
    for (size_t i = 0; i < map->n; i++) {
        int best = fm_nearest_name(map->child[i]->key, known, n);
        if (best < 0 || strcmp(known[best], map->child[i]->key) != 0) {
            (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s:%zu: there is no key '%s' in a labelling guide",
                               g->path, map->child[i]->line, map->child[i]->key);
            return fm_error_hint("%s%s", best >= 0 ? "did you mean " : "see docs/labelling.md",
                                 best >= 0 ? known[best] : "");
        }
    }
    return FM_OK;
}

static fm_status add_label(fm_guide *g, const fm_yaml *y) {
    static const char *const known[] = {"name", "definition", "examples"};
    if (y->kind != FM_YAML_MAP) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: a label needs name, definition and examples", g->path, y->line);
    }
    FM_TRY(check_keys(g, y, known, 3));
    const char *name = text_of(fm_yaml_get(y, "name")), *definition = text_of(fm_yaml_get(y, "definition"));
    const fm_yaml *examples = fm_yaml_get(y, "examples");
    if (!name || !*name) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: a label without a name", g->path, y->line);
    }
    if (!definition || !*definition) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: the label '%s' has no definition", g->path, y->line, name);
    }
    if (!examples || examples->kind != FM_YAML_LIST || examples->n == 0) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: the label '%s' has no list of examples", g->path, y->line, name);
    }
    if (fm_label_names_find(&g->labels, name, strlen(name)) >= 0) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: the label '%s' is there twice", g->path, y->line, name);
    }
    return fm_label_names_add(&g->labels, name, strlen(name), FM_MAX_LABEL_NAMES);
}

static fm_status read_guide(fm_guide *g) {
    static const char *const known[] = {"version", "kind", "multiple", "labels", "title"};
    if (!g->doc || g->doc->kind != FM_YAML_MAP) {
        FM_FAIL(FM_ERR_CONFIG, "%s: expected version, kind and labels", g->path);
    }
    FM_TRY(check_keys(g, g->doc, known, 5));
    const char *version = text_of(fm_yaml_get(g->doc, "version")), *kind = text_of(fm_yaml_get(g->doc, "kind")),
               *multiple = text_of(fm_yaml_get(g->doc, "multiple"));
    if (!version || fm_parse_i64(&g->version, version) != FM_OK || g->version < 1) {
        FM_FAIL(FM_ERR_CONFIG, "%s: version is no whole number from 1", g->path);
    }
    bool found = false;
    for (size_t i = 0; i < FM_ARRAY_LEN(kinds); i++) {
        if (strcmp(kind ? kind : kinds[0], kinds[i]) == 0) {
            g->kind = (fm_guide_kind)i;
            found = true;
        }
    }
    if (!found) {
        FM_FAIL(FM_ERR_CONFIG, "%s: kind is '%s', expected classification, entities, qa or preference", g->path, kind);
    }
    g->multiple = multiple && strcmp(multiple, "true") == 0;
    const fm_yaml *labels = fm_yaml_get(g->doc, "labels");
    for (size_t i = 0; labels && labels->kind == FM_YAML_LIST && i < labels->n; i++) {
        FM_TRY(add_label(g, labels->child[i]));
    }
    if (g->labels.n == 0 && g->kind <= FM_GUIDE_ENTITIES) {
        FM_FAIL(FM_ERR_CONFIG, "%s: a guide for %s needs labels", g->path, kinds[g->kind]);
    }
    return fm_file_hash(g->hash, g->path);
}

fm_status fm_guide_load(fm_guide *g, const char *path) {
    *g = (fm_guide){.path = path};
    fm_status s = fm_yaml_load(&g->doc, path);
    s = s == FM_OK ? read_guide(g) : s;
    if (s != FM_OK) {
        fm_guide_free(g);
    }
    return s;
}

fm_status fm_guide_json(fm_json *into, const fm_guide *g) {
    fm_json *o = fm_json_new_object();
    FM_TRY(fm_json_set(into, "guide", o));
    FM_TRY(fm_json_set(o, "file", fm_json_new_str(g->path)));
    FM_TRY(fm_json_set(o, "version", fm_json_new_int(g->version)));
    FM_TRY(fm_json_set(o, "hash", fm_json_new_str(g->hash)));
    return fm_label_names_put(&g->labels, o, "labels");
}

fm_status fm_guide_text(fm_str *out, const fm_guide *g) {
    const fm_yaml *labels = fm_yaml_get(g->doc, "labels");
    for (size_t i = 0; labels && i < labels->n; i++) {
        const fm_yaml *examples = fm_yaml_get(labels->child[i], "examples");
        fm_str_printf(out, "- %s: %s (for example:", text_of(fm_yaml_get(labels->child[i], "name")),
                      text_of(fm_yaml_get(labels->child[i], "definition")));
        for (size_t k = 0; k < examples->n; k++) {
            const char *e = text_of(examples->child[k]);
            fm_str_printf(out, "%s %s", k ? ";" : "", e ? e : "");
        }
        fm_str_puts(out, ")\n");
    }
    return fm_str_check(out);
}

fm_status fm_guide_check_manifest(const fm_guide *g, const char *output) {
    char path[4096];
    fm_json *doc = NULL;
    int k = snprintf(path, sizeof path, "%s.manifest.json", output);
    if (k < 0 || (size_t)k >= sizeof path || !fm_path_exists(path)) {
        return FM_OK;
    }
    FM_TRY(fm_json_load(&doc, path));
    const fm_json *old = fm_json_is_object(doc) ? fm_json_get(doc, "guide") : NULL;
    const char *hash = fm_json_is_object(old) ? fm_json_str(fm_json_get(old, "hash"), NULL) : NULL;
    int64_t version = hash ? fm_json_int(fm_json_get(old, "version"), 0) : 0;
    fm_status s = FM_OK;
    if (hash && version >= g->version && strcmp(hash, g->hash) != 0) {
        (void)fm_error_set(
            FM_ERR_CONFIG, __FILE__, __LINE__,
            "%s: the guide is not the one that '%s' was made with (version %lld), but its version is %lld", g->path,
            output, (long long)version, (long long)g->version);
        s = fm_error_hint("a changed guide needs a higher version");
    }
    fm_json_free(doc);
    return s;
}
