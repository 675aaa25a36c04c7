/* fathom data run PIPELINE.yaml, and fathom data STEP: one job each. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/data_job.h"
#include "fathom/data.h"
#include "fathom/evaluate.h"

static void print_report(const fm_data_report *r, const char *manifest) {
    char bytes[32], rows[32];
    if (cli_flags.json) {
        printf("%s\n", manifest);
        return;
    }
    char *text = NULL;
    if (fm_data_manifest_text(&text, manifest) == FM_OK) {
        cli_ui_clear();
        fputs(text, stderr);
        fm_string_free(text);
    }
    double s = r->seconds > 1e-9 ? r->seconds : 1e-9;
    cli_say("%lld rows in %.1f s (%s rows/s, %s/s)", (long long)r->n_rows, r->seconds,
            cli_count(rows, sizeof rows, (double)r->n_rows / s),
            cli_bytes(bytes, sizeof bytes, (double)r->n_bytes / s));
    if (r->n_broken_files > 0) {
        cli_say("warning: %lld files could not be read to their end (see the messages above)",
                (long long)r->n_broken_files);
    }
}

int cli_data_job(fm_data_job *job) {
    fm_data_report r;
    char *manifest = NULL;
    memset(&r, 0, sizeof r);
    r.size = sizeof r;
    fm_data_use_models();
    fm_status s = fm_data_run(&r, &manifest, job);
    if (s == FM_OK && !cli_flags.quiet) {
        print_report(&r, manifest);
    }
    fm_string_free(manifest);
    return s == FM_OK ? 0 : cli_fail(s);
}

const fm_option *cli_data_options(void) {
    static fm_data_job *none;
    if (!none && fm_data_job_step(&none, NULL) != FM_OK) {
        return NULL;
    }
    return fm_data_job_options(none);
}

/* Options behind the file name win over the file. */
static int run(const cli_command *cmd, int argc, char **argv) {
    fm_data_job *scratch = NULL, *job = NULL;
    char **pos = calloc((size_t)argc + 1, sizeof *pos);
    int n = 0;
    if (!pos || fm_data_job_step(&scratch, NULL) != FM_OK) {
        free(pos);
        return cli_fail(FM_ERR_NO_MEMORY);
    }
    int rc = cli_parse(cmd, argc, argv, fm_data_job_object(scratch), pos, &n, 1, 1);
    if (rc < 0) {
        fm_status s = fm_data_job_load(&job, pos[0]);
        rc = s == FM_OK ? cli_parse(cmd, argc, argv, fm_data_job_object(job), pos, &n, 1, 1) : cli_fail(s);
    }
    if (rc < 0) {
        rc = cli_data_job(job);
    }
    fm_data_job_free(job);
    fm_data_job_free(scratch);
    free(pos);
    return rc;
}

const cli_command cli_cmd_data_run = {
    .name = "data run",
    .args = "PIPELINE.yaml [options]",
    .summary = "Run a pipeline of data steps; an interrupted run goes on where it stopped",
    .about = "A pipeline file:\n"
             "  input:\n"
             "    - web/*.jsonl.gz\n"
             "    - {path: books/, name: books, licence: public domain}\n"
             "  output: clean/            # folder or file\n"
             "  output_format: jsonl.zst\n"
             "  rejects: dropped.jsonl\n"
             "  steps:\n"
             "    - clean\n"
             "    - filter-length: {min_chars: 50}\n"
             "    - split\n"
             "Beside the output is a manifest: inputs with hash and licence, steps with options and counts.",
    .examples = "fathom data run pipeline.yaml\nfathom data run pipeline.yaml --threads 1 --output other/ --overwrite",
    .options = cli_data_options,
    .run = run,
};
