/* Findings of a run that the registry keeps, and the configuration of an evaluation with their changes. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "track/registry.h"

static fm_status copy_text(fm_json *to, const char *key, const fm_json *from) {
    const char *t = fm_json_str(fm_json_get(from, key), NULL);
    return t ? fm_json_set(to, key, fm_json_new_str(t)) : FM_OK;
}

fm_status fm_registry_advice(char **json, fm_registry *r, const char *which) {
    fm_json *run, *list = NULL, *out = fm_json_new_object();
    fm_str text = {0};
    *json = NULL;
    fm_status s = fm_registry_load(&run, r, which);
    if (s == FM_OK) {
        const fm_json *findings = fm_json_get(fm_json_get(run, "report"), "findings");
        s = copy_text(out, "kind", run);
        s = s == FM_OK ? copy_text(out, "output_dir", run) : s;
        s = s == FM_OK && findings ? fm_json_copy(&list, findings) : s;
        s = s == FM_OK ? fm_json_set(out, "findings", list ? list : fm_json_new_array()) : s;
        s = s == FM_OK ? fm_json_dump(&text, out, 0) : s;
        fm_json_free(run);
    }
    if (s == FM_OK) {
        *json = fm_str_take(&text);
    }
    fm_str_free(&text);
    fm_json_free(out);
    return s;
}

fm_status fm_registry_output(char **dir, fm_registry *r, const char *which) {
    fm_json *run;
    *dir = NULL;
    FM_TRY(fm_registry_load(&run, r, which));
    const char *path = fm_json_str(fm_json_get(run, "output_dir"), NULL);
    *dir = path ? fm_strdup(path) : NULL;
    fm_status s = path && !*dir ? fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a path") : FM_OK;
    fm_json_free(run);
    return s;
}

static fm_status change_all(fm_json *settings, const fm_json *findings) {
    for (size_t i = 0; i < fm_json_size(findings); i++) {
        const fm_json *changes = fm_json_get(fm_json_at(findings, i), "changes");
        for (size_t k = 0; k < fm_json_size(changes); k++) {
            const fm_json *c = fm_json_at(changes, k);
            const char *target = fm_json_str(fm_json_get(c, "for"), NULL),
                       *key = fm_json_str(fm_json_get(c, "key"), NULL), *to = fm_json_str(fm_json_get(c, "to"), NULL);
            if (target && key && to && strcmp(target, "eval") == 0) {
                FM_TRY(fm_json_set(settings, key, fm_json_new_str(to)));
            }
        }
    }
    return FM_OK;
}

/* JSON strings are YAML strings. */
static fm_status yaml_line(void *arg, const char *key, fm_json *value) {
    size_t n;
    const char *t = fm_json_str(value, &n);
    if (t) {
        fm_str_printf(arg, "%s: ", key);
        fm_str_json(arg, t, n);
        fm_str_putc(arg, '\n');
    }
    return FM_OK;
}

fm_status fm_registry_advice_apply(fm_registry *r, const char *which, const char *path) {
    fm_json *run, *settings = NULL;
    fm_str yaml = {0};
    FM_TRY(fm_registry_load(&run, r, which));
    const char *kind = fm_json_str(fm_json_get(run, "kind"), NULL),
               *config = fm_json_str(fm_json_get(run, "config"), NULL);
    fm_status s = FM_OK;
    if (!kind || strcmp(kind, "eval") != 0 || !config) {
        s = fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "run %s is no evaluation", which);
    }
    s = s == FM_OK ? fm_json_parse(&settings, config, strlen(config), "configuration") : s;
    s = s == FM_OK ? change_all(settings, fm_json_get(fm_json_get(run, "report"), "findings")) : s;
    s = s == FM_OK ? fm_json_each(settings, yaml_line, &yaml) : s;
    s = s == FM_OK ? fm_str_check(&yaml) : s;
    s = s == FM_OK ? fm_file_write_atomic(path, yaml.data ? yaml.data : "", yaml.len) : s;
    fm_str_free(&yaml);
    fm_json_free(settings);
    fm_json_free(run);
    return s;
}
