/* What is shipped for an ELK stack fits the log: every field of a line is mapped with its type, every field that the
 * dashboard reads is in the log, and the objects of the dashboard refer to one another. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "track/sinks.h"

static fm_json *line, *mapping; /* of a log with every field; its fields' types */

static fm_json *load(const char *path) {
    fm_json *j;
    assert_int_equal(fm_json_load(&j, path), FM_OK);
    return j;
}

static int setup(void **state) {
    (void)state;
    char dir[200], path[300], *text;
    size_t n;
    snprintf(dir, sizeof dir, "/tmp/fm_elk_%d", (int)getpid());
    assert_int_equal(fm_mkdirs(dir), FM_OK);
    fm_train_info info = {.size = sizeof info, .output_dir = dir, .run_name = "r", .n_steps = 2};
    static const double norms[] = {1, 2};
    fm_train_metric metric = {.name = "eval_intent_accuracy", .value = 0.5};
    fm_train_event e = {.size = sizeof e,
                        .step = 1,
                        .n_steps = 2,
                        .epoch = 0.5,
                        .loss = 1,
                        .skipped = true,
                        .layer_grad_norm = norms,
                        .n_layers = 1,
                        .metrics = &metric,
                        .n_metrics = 1};
    void *log;
    assert_int_equal(fm_sink_jsonl.begin(&log, NULL, &info), FM_OK);
    assert_int_equal(fm_sink_jsonl.event(log, &e), FM_OK);
    fm_sink_jsonl.end(log, NULL);
    snprintf(path, sizeof path, "%s/trainer_log.jsonl", dir);
    assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
    assert_int_equal(fm_json_parse(&line, text, n - 1, "log"), FM_OK);
    fm_free(text);
    mapping = load(FM_SOURCE_DIR "/contrib/elk/index-template.json");
    return fm_remove_tree(dir) == FM_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    fm_json_free(line);
    fm_json_free(mapping);
    return 0;
}

static const fm_json *properties(void) {
    return fm_json_get(fm_json_get(fm_json_get(mapping, "template"), "mappings"), "properties");
}

static bool is_one_of(const char *s, const char *const *list) {
    for (; *list; list++) {
        if (strcmp(s, *list) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status field(void *arg, const char *key, fm_json *v) {
    static const char *const numbers[] = {"long", "float", "double", NULL};
    const fm_json *p = fm_json_get(properties(), key);
    const char *type = fm_json_str(fm_json_get(p, "type"), NULL);
    (*(int *)arg)++;
    if (!type) { /* metrics of stages: by their name */
        assert_memory_equal(key, "eval_", 5);
        return FM_OK;
    }
    const fm_json *item = fm_json_is_array(v) ? fm_json_at(v, 0) : v;
    bool fits = fm_json_is_number(item) ? is_one_of(type, numbers)
                : fm_json_is_bool(item) ? strcmp(type, "boolean") == 0
                                        : strcmp(type, strcmp(key, "@timestamp") == 0 ? "date" : "keyword") == 0;
    if (!fits) {
        fail_msg("%s is mapped as %s", key, type);
    }
    return FM_OK;
}

static fm_status known(void *arg, const char *key, fm_json *v) {
    (void)arg;
    if (fm_json_get(v, "type") && !fm_json_get(line, key)) {
        fail_msg("the template maps %s, which no log has", key);
    }
    return FM_OK;
}

static void test_template(void **state) {
    (void)state;
    int n = 0;
    assert_int_equal(fm_json_each(line, field, &n), FM_OK);
    assert_true(n >= 20);
    assert_int_equal(fm_json_each((fm_json *)(uintptr_t)properties(), known, NULL), FM_OK);
    const fm_json *dynamic =
        fm_json_get(fm_json_get(fm_json_get(mapping, "template"), "mappings"), "dynamic_templates");
    const fm_json *metrics = fm_json_get(fm_json_at(dynamic, 0), "metrics");
    assert_string_equal(fm_json_str(fm_json_get(metrics, "match"), NULL), "eval_*");
}

/* Text of a member that is JSON itself. */
static fm_json *inner(const fm_json *o, const char *key) {
    size_t n = 0;
    fm_json *j;
    const char *text = fm_json_str(fm_json_get(o, key), &n);
    assert_non_null(text);
    assert_int_equal(fm_json_parse(&j, text, n, key), FM_OK);
    return j;
}

static void check_object(const fm_json *o, const char *seen, int *n_fields) {
    const fm_json *a = fm_json_get(o, "attributes"), *refs = fm_json_get(o, "references");
    const char *type = fm_json_str(fm_json_get(o, "type"), NULL);
    for (size_t i = 0; i < fm_json_size(refs); i++) { /* what is referred to stands on a line before */
        char want[200];
        snprintf(want, sizeof want, "|%s|", fm_json_str(fm_json_get(fm_json_at(refs, i), "id"), NULL));
        assert_non_null(strstr(seen, want));
    }
    if (strcmp(type, "visualization") == 0) {
        fm_json *vis = inner(a, "visState");
        const fm_json *aggs = fm_json_get(vis, "aggs");
        assert_true(fm_json_size(aggs) >= 2);
        for (size_t i = 0; i < fm_json_size(aggs); i++) {
            const char *name = fm_json_str(fm_json_get(fm_json_get(fm_json_at(aggs, i), "params"), "field"), NULL);
            assert_non_null(name);
            if (!fm_json_get(line, name)) {
                fail_msg("the dashboard reads %s, which no log has", name);
            }
            (*n_fields)++;
        }
        fm_json_free(vis);
    } else if (strcmp(type, "dashboard") == 0) {
        fm_json *panels = inner(a, "panelsJSON");
        assert_int_equal(fm_json_size(panels), fm_json_size(refs));
        for (size_t i = 0; i < fm_json_size(panels); i++) {
            assert_string_equal(fm_json_str(fm_json_get(fm_json_at(panels, i), "panelRefName"), NULL),
                                fm_json_str(fm_json_get(fm_json_at(refs, i), "name"), NULL));
        }
        fm_json_free(panels);
    }
}

static void test_dashboard(void **state) {
    (void)state;
    char *text, seen[2000] = "|";
    size_t n;
    int n_fields = 0, n_objects = 0;
    assert_int_equal(fm_file_read(&text, &n, FM_SOURCE_DIR "/contrib/elk/dashboard.ndjson", 0), FM_OK);
    for (char *p = text, *end; (end = strchr(p, '\n')) != NULL; p = end + 1) {
        fm_json *o;
        assert_int_equal(fm_json_parse(&o, p, (size_t)(end - p), "object"), FM_OK);
        check_object(o, seen, &n_fields);
        size_t at = strlen(seen);
        snprintf(seen + at, sizeof seen - at, "%s|", fm_json_str(fm_json_get(o, "id"), NULL));
        n_objects++;
        fm_json_free(o);
    }
    fm_free(text);
    assert_int_equal(n_objects, 8);
    assert_true(n_fields >= 18);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_template), cmocka_unit_test(test_dashboard)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
