/* fathom data stats */
#include "cli/cli.h"
#include "cli/config.h"
#include "fathom/data.h"

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_stats_config *cfg = NULL;
    fm_status s = fm_stats_config_new(&cfg);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_inputs(cmd, argc, argv, cfg);
    if (rc < 0) {
        char *json = NULL;
        s = fm_data_stats(&json, cfg);
        rc = cli_report(s, json, fm_data_stats_text);
    }
    fm_stats_config_free(cfg);
    return rc;
}

const cli_command cli_cmd_data_stats = {
    .name = "data stats",
    .args = "PATH... [options]",
    .summary = "Count what a dataset holds: columns, lengths, scripts, duplicates, classes",
    .examples = "fathom data stats train.jsonl\nfathom data stats clean/ --text-column body --label topic --json\n"
                "fathom data stats train.parquet",
    .options = fm_stats_options,
    .run = run,
};
