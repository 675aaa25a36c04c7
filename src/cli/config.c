/* Configuration files with overrides. */
#include "cli/config.h"

#include <stdlib.h>
#include <string.h>

int cli_config(const cli_command *cmd, int argc, char **argv, void *obj, void *scratch, bool needs_file) {
    char **pos = calloc((size_t)argc + 1, sizeof *pos);
    if (!pos) {
        return 1;
    }
    int n = 0;
    int rc = cli_parse(cmd, argc, argv, scratch, pos, &n, needs_file ? 1 : 0, 1);
    if (rc < 0 && n == 1) {
        fm_status s = fm_options_load_yaml(obj, cmd->options(), pos[0]);
        if (s != FM_OK) {
            rc = cli_fail(s);
        }
    }
    if (rc < 0) {
        rc = cli_parse(cmd, argc, argv, obj, pos, &n, 0, 1);
    }
    free(pos);
    return rc;
}

int cli_inputs(const cli_command *cmd, int argc, char **argv, void *obj) {
    char **pos = calloc((size_t)argc + 1, sizeof *pos);
    if (!pos) {
        return 1;
    }
    int n = 0;
    int rc = cli_parse(cmd, argc, argv, obj, pos, &n, 0, argc);
    for (int i = 0; rc < 0 && i < n; i++) {
        fm_status s = fm_options_append(obj, cmd->options(), "input", pos[i], "command line");
        rc = s == FM_OK ? -1 : cli_fail(s);
    }
    free(pos);
    return rc;
}
