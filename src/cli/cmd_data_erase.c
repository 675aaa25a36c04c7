/* fathom data erase */
#include "cli/cli.h"
#include "fathom/data.h"

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_erase_config cfg = {0};
    char *pos[1], *json = NULL;
    int n = 0;
    fm_status s = fm_options_init(&cfg, fm_erase_options());
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_parse(cmd, argc, argv, &cfg, pos, &n, 1, 1);
    if (rc < 0) {
        s = fm_data_erase(&json, pos[0], &cfg);
        rc = cli_report(s, json, fm_data_erase_text);
    }
    fm_options_free(&cfg, fm_erase_options());
    return rc;
}

const cli_command cli_cmd_data_erase = {
    .name = "data erase",
    .args = "DATASET --column NAME --subject-file FILE --key-file KEY [options]",
    .summary = "Take the rows of one person out of a dataset, and list what was made from it",
    .about =
        "The files of the dataset (a file, or a folder with manifest.json) are written anew without the rows, the "
        "rejects\n"
        "file of the run that made it included. The manifest records the erasure with a keyed hash (HMAC-SHA-256) of "
        "the\n"
        "subject: who has the key can tell whether somebody was erased, nobody else. Datasets and packed shards that\n"
        "were made from this one are listed: they hold the rows until they are made again. So do the sources it was\n"
        "made from, backups, and models that were trained on it.",
    .examples =
        "printf 4711 | fathom data erase clean/ --column patient_id --subject-file - --key-file KEY\n"
        "fathom data erase notes.jsonl --anywhere --subject-file name.txt --key-file KEY --search /data --dry-run",
    .options = fm_erase_options,
    .run = run,
};
