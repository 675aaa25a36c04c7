/* fathom data list */
#include <string.h>

#include "cli/cli.h"
#include "fathom/data.h"

static void list_json(void) {
    fm_data_step_info s = {.size = sizeof s};
    fm_data_format_info f = {.size = sizeof f};
    printf("{\"steps\":[");
    for (size_t i = 0; fm_data_step_at(&s, i); i++) {
        printf("%s{\"name\":", i ? "," : "");
        cli_json_string(stdout, s.name);
        printf(",\"help\":");
        cli_json_string(stdout, s.help);
        printf(",\"whole_set\":%s}", s.memory ? "true" : "false");
    }
    printf("],\"formats\":[");
    for (size_t i = 0; fm_data_format_at(&f, i); i++) {
        printf("%s{\"name\":", i ? "," : "");
        cli_json_string(stdout, f.name);
        printf(",\"help\":");
        cli_json_string(stdout, f.help);
        printf("}");
    }
    printf("]}\n");
}

static int run(const cli_command *cmd, int argc, char **argv) {
    char *pos[1];
    int n = 0;
    int rc = argc == 0 ? -1 : cli_parse(cmd, argc, argv, NULL, pos, &n, 0, 0);
    if (rc >= 0) {
        return rc;
    }
    if (cli_flags.json) {
        list_json();
        return 0;
    }
    fm_data_step_info s = {.size = sizeof s};
    fm_data_format_info f = {.size = sizeof f};
    printf("Steps (fathom data STEP -i IN -o OUT, or lines of a pipeline; * = needs the whole set, memory in "
           "brackets):\n");
    for (size_t i = 0; fm_data_step_at(&s, i); i++) {
        printf("  %-16s%s %s%s%s%s\n", s.name, s.memory ? "*" : " ", s.help, s.memory ? " (" : "",
               s.memory ? s.memory : "", s.memory ? ")" : "");
    }
    printf("\nInput formats (--format):\n");
    for (size_t i = 0; fm_data_format_at(&f, i); i++) {
        printf("  %-16s  %s\n", f.name, f.help);
    }
    printf("\nOutput formats: parquet; jsonl, csv and tsv, each also .gz or .zst\n");
    return 0;
}

const cli_command cli_cmd_data_list = {
    .name = "data list",
    .args = "",
    .summary = "Name the data steps and input formats",
    .examples = "fathom data list\nfathom data list --json",
    .run = run,
};
