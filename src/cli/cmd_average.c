/* fathom average */
#include <string.h>

#include "cli/cli.h"
#include "fathom/model.h"

#define MOST 64

typedef struct average_args {
    char *dtype, *output;
} average_args;

static const fm_option table[] = {
    {.key = "output",
     .type = FM_OPT_STR,
     .offset = offsetof(average_args, output),
     .aliases = "o",
     .metavar = "DIR",
     .help = "Folder to write."},
    {.key = "dtype",
     .type = FM_OPT_STR,
     .offset = offsetof(average_args, dtype),
     .metavar = "TYPE",
     .help = "Element type to write: f32, bf16, f16; default that of the first model."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    average_args a = {0};
    char *pos[MOST] = {0};
    int n = 0;
    int rc = argc > MOST ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 2, MOST);
    if (rc < 0 && !a.output) {
        rc = cli_usage(cmd, "-o DIR is needed");
    }
    if (rc < 0) {
        fm_status s = fm_model_average((const char *const *)pos, n, a.output, a.dtype);
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (rc == 0 && cli_flags.json) {
            printf("{\"models\":%d,\"out\":", n);
            cli_json_string(stdout, a.output);
            puts("}");
        } else if (rc == 0) {
            printf("%s: the average of %d models\n", a.output, n);
        }
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_average = {
    .name = "average",
    .args = "MODEL MODEL... -o DIR [--dtype TYPE]",
    .summary = "One model whose weights are the average of several",
    .about =
        "For models of one shape that went on from the same one: the ends of runs with other rates, seeds or rows, "
        "or checkpoints of one run. Such an average often beats each of them and costs nothing when it is used.",
    .examples = "fathom average run-1 run-2 run-3 -o soup\n"
                "fathom average out/checkpoint-800 out/checkpoint-900 out -o smooth",
    .options = options,
    .run = run,
};
