/* fathom eval list */
#include "cli/cli.h"
#include "fathom/evaluate.h"

static int run(const cli_command *cmd, int argc, char **argv) {
    char *pos[1];
    int n = 0;
    int rc = argc > 0 ? cli_parse(cmd, argc, argv, NULL, pos, &n, 0, 0) : -1;
    if (rc >= 0) {
        return rc;
    }
    const char *name, *help = "";
    printf(cli_flags.json ? "[" : "");
    for (int i = 0; (name = fm_eval_task_name(i, &help)) != NULL; i++) {
        if (cli_flags.json) {
            printf(i ? ",{\"name\":" : "{\"name\":");
            cli_json_string(stdout, name);
            printf(",\"help\":");
            cli_json_string(stdout, help);
            printf("}");
        } else {
            printf("  %-10s %s\n", name, help);
        }
    }
    printf(cli_flags.json ? "]\n" : "");
    return 0;
}

const cli_command cli_cmd_eval_list = {
    .name = "eval list",
    .args = "",
    .summary = "List the tasks of fathom eval",
    .examples = "fathom eval list",
    .run = run,
};
