/* fathom data convert: rows as they are, from any input format to any output format. */
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/data_job.h"

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_data_job *job = NULL;
    fm_status s = fm_data_job_step(&job, NULL);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_inputs(cmd, argc, argv, fm_data_job_object(job));
    if (rc < 0) {
        rc = cli_data_job(job);
    }
    fm_data_job_free(job);
    return rc;
}

const cli_command cli_cmd_data_convert = {
    .name = "data convert",
    .args = "-i IN... -o OUT [options]",
    .summary = "Read any input format and write the rows as they are",
    .examples = "fathom data convert -i train.parquet -o train.jsonl.zst\n"
                "fathom data convert -i crawl.warc.gz -o pages.jsonl\n"
                "fathom data convert -i dump.xml.bz2 -o wiki.jsonl --format mediawiki\n"
                "fathom data convert -i postgresql://me@db/lab -o notes.csv --query 'SELECT * FROM notes'",
    .options = cli_data_options,
    .run = run,
};
