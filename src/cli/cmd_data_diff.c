/* fathom data diff */
#include "cli/cli.h"
#include "fathom/data.h"

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_diff_config cfg = {0};
    char *pos[2], *json = NULL;
    int n = 0;
    fm_status s = fm_options_init(&cfg, fm_diff_options());
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_parse(cmd, argc, argv, &cfg, pos, &n, 2, 2);
    if (rc < 0) {
        s = fm_data_diff(&json, pos[0], pos[1], &cfg);
        rc = cli_report(s, json, fm_data_diff_text);
    }
    fm_options_free(&cfg, fm_diff_options());
    return rc;
}

const cli_command cli_cmd_data_diff = {
    .name = "data diff",
    .args = "A B [options]",
    .summary = "Say what changed between two versions of a dataset: rows, columns, steps",
    .about =
        "A and B are files or folders in any input format; the order of rows says nothing. Rows are compared by their\n"
        "content, or with --key by the column that names them, so that changed rows are told from new ones. Where\n"
        "manifests are beside the data, their inputs, steps and options are compared too.",
    .examples = "fathom data diff v1.jsonl v2.jsonl --key id\nfathom data diff raw/ clean/ --show 10\n"
                "fathom data diff a.parquet b.parquet --json",
    .options = fm_diff_options,
    .run = run,
};
