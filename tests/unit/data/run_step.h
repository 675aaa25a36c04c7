/* Runs one data step over rows in memory, for the tests of steps; its files are in memory too where there is /dev/shm,
 * as tests that run a step a thousand times would wait for the disk. Include after cmocka.h. */
#ifndef TESTS_UNIT_DATA_RUN_STEP_H
#define TESTS_UNIT_DATA_RUN_STEP_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "fathom/data.h"
#include "fathom/jsonl.h"

/* rows: JSON lines. options: key, value, ..., NULL. *out: the output's JSON lines; *manifest: its JSON, or NULL when
 * not wanted (both fm_free). */
static inline fm_status run_step(char **out, char **manifest, const char *step, const char *rows, size_t n,
                                 const char *const *options) {
    char dir[64], in[96], to[80], *json = NULL;
    fm_data_job *job = NULL;
    fm_data_report report = {.size = sizeof report};
    snprintf(dir, sizeof dir, "%s/fathom_step_XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(in, sizeof in, "%s/in.jsonl", dir);
    snprintf(to, sizeof to, "%s/out.jsonl", dir);
    FILE *f = fopen(in, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(rows, 1, n, f), n);
    fclose(f);
    *out = NULL;
    fm_status s = fm_data_job_step(&job, step);
    if (s == FM_OK) {
        s = fm_options_set(fm_data_job_object(job), fm_data_job_options(job), "input", in, "test");
    }
    if (s == FM_OK) {
        s = fm_options_set(fm_data_job_object(job), fm_data_job_options(job), "output", to, "test");
    }
    for (; options && *options && s == FM_OK; options += 2) {
        s = fm_options_set(fm_data_job_object(job), fm_data_job_options(job), options[0], options[1], "test");
    }
    if (s == FM_OK) {
        s = fm_data_run(&report, &json, job);
    }
    size_t got;
    if (s == FM_OK) {
        s = fm_file_read(out, &got, to, 0);
    }
    if (manifest) {
        *manifest = json ? fm_strdup(json) : NULL;
    }
    fm_string_free(json);
    fm_data_job_free(job);
    unlink(in);
    unlink(to);
    snprintf(in, sizeof in, "%s/out.jsonl.manifest.json", dir);
    unlink(in);
    rmdir(dir);
    return s;
}

/* One row in, the text column out (fm_free); NULL when the row was dropped. */
static inline char *step_text(const char *step, const char *text, const char *const *options) {
    fm_str row = {0};
    char *out = NULL, *value = NULL;
    fm_str_puts(&row, "{\"text\":");
    fm_str_json(&row, text, strlen(text));
    fm_str_puts(&row, "}\n");
    assert_int_equal(run_step(&out, NULL, step, row.data, row.len, options), FM_OK);
    fm_str_free(&row);
    if (out[0]) {
        size_t n;
        char *string;
        assert_int_equal(fm_jsonl_string(&string, &n, out, strlen(out) - 1, "text", "row"), FM_OK);
        value = fm_strdup(string);
        fm_string_free(string);
    }
    fm_free(out);
    return value;
}

#endif
