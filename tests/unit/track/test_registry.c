/* The registry of runs. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../failures.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "track/registry.h"
#include "track/sinks.h"

static fm_findings_source *findings; /* of the runs that train() makes */
static char dir[64], db[96], out_dir[96];

static int setup(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/fathom_runs_XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(db, sizeof db, "%s/sub/runs.db", dir);
    snprintf(out_dir, sizeof out_dir, "%s/out", dir);
    assert_int_equal(fm_mkdirs(out_dir), FM_OK);
    setenv("FATHOM_REGISTRY", db, 1);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    unsetenv("FATHOM_REGISTRY");
    return fm_remove_tree(dir) != FM_OK;
}

static void write_file(const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(fm_file_write_atomic(path, text, strlen(text)), FM_OK);
}

/* A training run as the trainer tells of it, through the sink. */
static fm_status train(const char *name, int64_t first_step, int64_t steps, double offset, bool fails) {
    char yaml[400];
    void *state;
    snprintf(yaml, sizeof yaml, "learning_rate: %g\ndataset: [%s/data.jsonl]\ntokenizer: ''\n", 0.001 + offset, dir);
    fm_train_info info = {.size = sizeof info,
                          .output_dir = out_dir,
                          .run_name = name,
                          .config_yaml = yaml,
                          .data_hash = "cafe",
                          .first_step = first_step,
                          .n_params = 1000,
                          .tokens_per_step = 64};
    FM_TRY(fm_sink_registry.begin(&state, findings, &info));
    fm_status s = FM_OK;
    for (int64_t i = first_step + 1; i <= steps && s == FM_OK; i++) {
        fm_train_event e = {.size = sizeof e,
                            .step = i,
                            .loss = offset + 10.0 / (double)i,
                            .eval_loss = i == steps ? 2.5 : (double)NAN,
                            .learning_rate = NAN,
                            .grad_norm = NAN,
                            .tokens_per_s = NAN,
                            .mfu = NAN,
                            .expert_max_violation = NAN,
                            .eval_perplexity = NAN,
                            .eval_bits_per_byte = NAN};
        s = fm_sink_registry.event(state, &e);
    }
    fm_train_result r = {.size = sizeof r,
                         .steps = steps,
                         .train_loss = 1,
                         .eval_loss = 2.5,
                         .eval_bits_per_byte = NAN,
                         .mfu = NAN,
                         .stopped_by = "end"};
    fm_sink_registry.end(state, fails ? NULL : &r);
    return s;
}

static fm_json *shown(fm_registry *r, const char *which) {
    fm_json *j;
    char *text;
    assert_int_equal(fm_registry_show(&text, r, which), FM_OK);
    assert_int_equal(fm_json_parse(&j, text, strlen(text), "run"), FM_OK);
    fm_string_free(text);
    return j;
}

static size_t listed(fm_registry *r, const fm_run_filter *f) {
    fm_json *j;
    char *text;
    assert_int_equal(fm_registry_list(&text, r, f), FM_OK);
    assert_int_equal(fm_json_parse(&j, text, strlen(text), "list"), FM_OK);
    size_t n = fm_json_size(j);
    fm_json_free(j);
    fm_string_free(text);
    return n;
}

static const char report[] =
    "{\"task\":\"mc\",\"model\":\"m\",\"settings\":{\"task\":\"mc\",\"model\":\"MODEL\"},\"metrics\":{\"acc\":{"
    "\"value\":0.5,"
    "\"low\":0.4,\"high\":0.6,\"definition\":\"<b>share\"}},\"worst\":[{\"file\":\"f\",\"line\":3,\"question\":"
    "\"<script>alert('x')</script>\"}],\"efficiency\":{\"tokens\":5},"
    "\"findings\":[{\"kind\":\"answers cut\",\"evidence\":\"<b>9 of "
    "10\",\"advice\":\"so\",\"changes\":[{\"for\":\"eval\","
    "\"key\":\"max_new_tokens\",\"from\":\"64\",\"to\":\"128\"},{\"for\":\"serve\",\"key\":\"n\",\"from\":\"1\",\"to\":"
    "\"2\"}]}]}";

static void test_life(void **state) {
    (void)state;
    fm_registry *r;
    assert_int_equal(fm_registry_open(&r, NULL, false), FM_OK);
    assert_null(r); /* not there and not made */
    write_file("data.jsonl", "{}\n");
    write_file("out/config.json", "{}");
    assert_int_equal(train("first", 0, 4, 0, true), FM_OK);
    assert_int_equal(train("first", 2, 6, 0.5, false), FM_OK); /* resumed from step 2: one run */
    assert_int_equal(train("second", 0, 3, 0.25, false), FM_OK);
    assert_int_equal(fm_registry_open(&r, NULL, false), FM_OK);
    int64_t id;
    assert_int_equal(fm_registry_add_eval(r, report, 1000, &id), FM_OK);
    assert_int_equal(id, 3);

    fm_json *j = shown(r, "first");
    const fm_json *loss = fm_json_get(fm_json_get(j, "series"), "loss");
    assert_int_equal(fm_json_size(loss), 6);
    for (size_t i = 0; i < 6; i++) { /* steps 3 and 4 of the first try are gone */
        assert_int_equal(fm_json_int(fm_json_at(fm_json_at(loss, i), 0), 0), i + 1);
        double want = 10.0 / (double)(i + 1) + (i >= 2 ? 0.5 : 0);
        assert_true(fabs(fm_json_num(fm_json_at(fm_json_at(loss, i), 1), 0) - want) < 1e-12);
    }
    assert_string_equal(fm_json_str(fm_json_get(j, "status"), NULL), "done");
    const fm_json *in = fm_json_at(fm_json_get(j, "inputs"), 0), *made = fm_json_at(fm_json_get(j, "artefacts"), 0);
    assert_string_equal(fm_json_str(fm_json_get(in, "hash"), NULL), "cafe");
    assert_string_equal(fm_json_str(fm_json_get(made, "path"), NULL), out_dir);
    assert_non_null(fm_json_str(fm_json_get(made, "hash"), NULL));
    assert_non_null(fm_json_str(fm_json_get(fm_json_get(j, "environment"), "system"), NULL));
    fm_json_free(j);

    assert_int_equal(listed(r, &(fm_run_filter){0}), 3);
    assert_int_equal(listed(r, &(fm_run_filter){.kind = "train"}), 2);
    assert_int_equal(listed(r, &(fm_run_filter){.kind = "train", .limit = 1}), 1);
    assert_int_equal(listed(r, &(fm_run_filter){.input = "cafe"}), 2);
    assert_int_equal(listed(r, &(fm_run_filter){.status = "failed"}), 0);
    char path[200];
    snprintf(path, sizeof path, "%s/data.jsonl", dir);
    assert_int_equal(listed(r, &(fm_run_filter){.input = path}), 2); /* from data forward to models */
    assert_int_equal(listed(r, &(fm_run_filter){.input = out_dir}), 2);

    assert_int_equal(fm_registry_tag(r, "1", "best"), FM_OK);
    assert_int_equal(fm_registry_tag(r, "second", "best"), FM_OK); /* moves */
    assert_int_equal(listed(r, &(fm_run_filter){.tag = "best"}), 1);
    j = shown(r, "best");
    assert_string_equal(fm_json_str(fm_json_get(j, "name"), NULL), "second");
    fm_json_free(j);
    assert_int_equal(fm_registry_tag(r, "2", "17"), FM_ERR_ARGUMENT);
    assert_int_equal(fm_registry_tag(r, "2", "-best"), FM_OK);
    assert_int_equal(listed(r, &(fm_run_filter){.tag = "best"}), 0);

    char *text;
    const char *const which[] = {"1", "2"};
    assert_int_equal(fm_registry_compare(&text, r, which, 2), FM_OK);
    assert_int_equal(fm_json_parse(&j, text, strlen(text), "compare"), FM_OK);
    assert_int_equal(fm_json_size(fm_json_get(j, "config")), 1); /* what is equal is left out */
    const fm_json *c = fm_json_at(fm_json_get(j, "config"), 0);
    assert_string_equal(fm_json_str(fm_json_get(c, "key"), NULL), "learning_rate");
    assert_string_equal(fm_json_str(fm_json_at(fm_json_get(c, "values"), 1), NULL), "0.251");
    fm_json_free(j);
    char *table;
    assert_int_equal(fm_registry_text(&table, text), FM_OK);
    assert_non_null(strstr(table, "learning_rate"));
    fm_string_free(table);
    fm_string_free(text);
    assert_int_equal(fm_registry_compare(&text, r, which, 1), FM_ERR_ARGUMENT);

    assert_int_equal(fm_registry_remove(r, "1"), FM_OK);
    assert_int_equal(fm_registry_remove(r, "1"), FM_ERR_NOT_FOUND);
    assert_int_equal(listed(r, &(fm_run_filter){.input = "cafe"}), 1); /* its files went with it */
    fm_registry_close(r);
}

static int count_of(const char *text, const char *what) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++) {
        n++;
    }
    return n;
}

/* Whatever stands in data and names, the page runs nothing and fetches nothing. */
static void test_html(void **state) {
    (void)state;
    fm_registry *r;
    char *html;
    int64_t id;
    char name[16];
    assert_int_equal(train("<img src=x onerror=alert(1)>\"'&", 0, 30, 0, false), FM_OK);
    assert_int_equal(fm_registry_open(&r, NULL, true), FM_OK);
    assert_int_equal(fm_registry_html(&html, r, "<img src=x onerror=alert(1)>\"'&"), FM_OK);
    assert_int_equal(count_of(html, "<img"), 0);
    assert_non_null(strstr(html, "&lt;img src=x"));
    assert_int_equal(count_of(html, "<svg"), 1); /* loss and eval_loss together */
    assert_int_equal(count_of(html, "<polyline"), 2);
    assert_int_equal(count_of(html, "http"), 0);
    assert_int_equal(count_of(html, "<script"), 0);
    assert_int_equal(count_of(html, "nan") + count_of(html, "inf"), 0);
    fm_string_free(html);
    assert_int_equal(fm_registry_add_eval(r, report, 0, &id), FM_OK);
    snprintf(name, sizeof name, "%d", (int)id);
    assert_int_equal(fm_registry_html(&html, r, name), FM_OK);
    assert_int_equal(count_of(html, "<script"), 0);
    assert_non_null(strstr(html, "&lt;script&gt;alert(&#39;x&#39;)"));
    assert_non_null(strstr(html, "&lt;b&gt;share"));
    fm_string_free(html);
    fm_registry_close(r);
}

static fm_status says(char **json, const char *output_dir) {
    assert_string_equal(output_dir, out_dir);
    *json = fm_strdup("{\"findings\":[{\"kind\":\"overfitting\",\"evidence\":\"eval loss 2\",\"changes\":[]}]}");
    return *json ? FM_OK : FM_ERR_NO_MEMORY;
}

/* Findings are kept with the run, shown, and written into the configuration of an evaluation. */
static void test_findings(void **state) {
    (void)state;
    fm_registry *r;
    int64_t id;
    char which[16], *text, *table, path[200];
    size_t n;
    fm_findings_source source = {.of_folder = says};
    findings = &source;
    assert_int_equal(train("advised", 0, 3, 0, false), FM_OK);
    findings = NULL;
    assert_int_equal(fm_registry_open(&r, NULL, true), FM_OK);
    assert_int_equal(fm_registry_advice(&text, r, "advised"), FM_OK);
    assert_int_equal(fm_registry_text(&table, text), FM_OK);
    assert_string_equal(table, "overfitting: eval loss 2\n");
    fm_string_free(table);
    fm_string_free(text);
    assert_int_equal(fm_registry_output(&text, r, "advised"), FM_OK);
    assert_string_equal(text, out_dir);
    fm_string_free(text);
    snprintf(path, sizeof path, "%s/next.yaml", dir);
    assert_int_equal(fm_registry_advice_apply(r, "advised", path), FM_ERR_ARGUMENT);

    assert_int_equal(fm_registry_add_eval(r, report, 0, &id), FM_OK);
    snprintf(which, sizeof which, "%d", (int)id);
    assert_int_equal(fm_registry_show(&text, r, which), FM_OK);
    assert_int_equal(fm_registry_text(&table, text), FM_OK);
    assert_non_null(strstr(table, "eval max_new_tokens: 64 -> 128"));
    fm_string_free(table);
    fm_string_free(text);
    assert_int_equal(fm_registry_html(&text, r, which), FM_OK);
    assert_non_null(strstr(text, "<b>answers cut</b>: &lt;b&gt;9 of 10"));
    fm_string_free(text);
    assert_int_equal(fm_registry_advice_apply(r, which, path), FM_OK); /* what is for serve stays out */
    assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
    assert_string_equal(text, "task: \"mc\"\nmodel: \"MODEL\"\nmax_new_tokens: \"128\"\n");
    fm_free(text);
    assert_int_equal(fm_registry_output(&text, r, which), FM_OK);
    assert_null(text);
    fm_registry_close(r);
}

/* Several processes write at once: nothing is lost. */
static void test_together(void **state) {
    (void)state;
    enum { PROCESSES = 4, RUNS = 5 };
    fm_registry *r;
    for (int p = 0; p < PROCESSES; p++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            int bad = 0;
            for (int i = 0; i < RUNS; i++) {
                bad += train("together", 0, 5, 0, false) != FM_OK;
            }
            _exit(bad);
        }
    }
    for (int p = 0; p < PROCESSES; p++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(fm_registry_open(&r, NULL, false), FM_OK);
    fm_json *j = shown(r, "together");
    assert_int_equal(fm_json_size(fm_json_get(fm_json_get(j, "series"), "loss")), 5);
    fm_json_free(j);
    assert_true(listed(r, &(fm_run_filter){.kind = "train"}) >= PROCESSES * RUNS);
    fm_registry_close(r);
}

static void test_faults(void **state) {
    (void)state;
    fm_registry *r;
    char *text, path[128];
    setenv("FATHOM_REGISTRY", "none", 1);
    assert_int_equal(fm_registry_open(&r, NULL, true), FM_OK);
    assert_null(r);
    assert_int_equal(train("off", 0, 2, 0, false), FM_OK); /* a run without a registry goes on */
    assert_int_equal(fm_registry_add_eval(NULL, report, 0, NULL), FM_OK);
    assert_int_equal(fm_registry_show(&text, NULL, "1"), FM_ERR_NOT_FOUND);
    setenv("FATHOM_REGISTRY", db, 1);
    write_file("bad.db",
               "this is no database, but text that is long enough to be looked at as one: 0123456789 0123456789 0123");
    snprintf(path, sizeof path, "%s/bad.db", dir);
    assert_int_equal(fm_registry_open(&r, path, true), FM_ERR_CORRUPT);
    snprintf(path, sizeof path, "%s/new.db", dir);
    assert_int_equal(fm_registry_open(&r, path, true), FM_OK);
    assert_int_equal(fm_sql_exec(r->db, "PRAGMA user_version=99"), FM_OK);
    assert_int_equal(fm_registry_show(&text, r, "nothing"), FM_ERR_NOT_FOUND);
    fm_registry_close(r);
    assert_int_equal(fm_registry_open(&r, path, true), FM_ERR_FORMAT);
    assert_int_not_equal(fm_registry_open(&r, "/proc/nowhere/runs.db", true), FM_OK);
    assert_int_equal(fm_registry_open(&r, NULL, true), FM_OK);
    assert_int_equal(fm_registry_add_eval(r, "{broken", 0, NULL), FM_ERR_FORMAT);
    size_t before = listed(r, &(fm_run_filter){0});
    assert_int_equal(fm_registry_add_eval(r, report, 0, NULL), FM_OK); /* the failed one left no open transaction */
    assert_int_equal(listed(r, &(fm_run_filter){0}), before + 1);
    fm_registry_close(r);
}

static fm_status failing(int variant, uint64_t *sum) {
    fm_registry *r;
    char *text = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/fail.db", dir);
    (void)remove(path);
    FM_TRY(fm_registry_open(&r, path, true));
    fm_status s = fm_registry_add_eval(r, report, 0, NULL);
    if (s == FM_OK) {
        static const char *const both[] = {"1", "1"};
        s = variant == 0   ? fm_registry_list(&text, r, &(fm_run_filter){0})
            : variant == 1 ? fm_registry_html(&text, r, "1")
            : variant == 2 ? fm_registry_compare_html(&text, r, both, 2)
                           : fm_registry_advice(&text, r, "1");
    }
    *sum = 0;
    for (const char *p = text; s == FM_OK && *p; p++) { /* lines: lengths depend on the clock */
        *sum += *p == '\n';
    }
    fm_string_free(text);
    fm_registry_close(r);
    return s;
}

static void test_memory(void **state) {
    (void)state;
    failures_check(&(failures_work){.name = "registry", .run = failing, .n_variants = 4, .writes = dir});
}

int main(void) {
    fm_registry *r;
    if (fm_registry_open(&r, ":memory:", true) == FM_ERR_UNSUPPORTED) {
        printf("skipped: there is no libsqlite3\n");
        return 77;
    }
    fm_registry_close(r);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),     cmocka_unit_test(test_html),   cmocka_unit_test(test_findings),
        cmocka_unit_test(test_together), cmocka_unit_test(test_faults), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
