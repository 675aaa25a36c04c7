/* fathom merge */
#include <string.h>

#include "cli/cli.h"
#include "fathom/model.h"

typedef struct merge_args {
    char *dtype;
} merge_args;

static const fm_option table[] = {
    {.key = "dtype",
     .type = FM_OPT_STR,
     .offset = offsetof(merge_args, dtype),
     .metavar = "TYPE",
     .help = "Element type to write: f32, bf16, f16; default that of the base."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    merge_args a = {0};
    char *pos[64] = {0};
    int n = 0;
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 3, 3);
    if (rc >= 0) {
        return rc;
    }
    fm_merge_report r = {.size = sizeof r};
    fm_status s = fm_model_merge(&r, pos[0], pos[1], pos[2], a.dtype);
    rc = s == FM_OK ? 0 : cli_fail(s);
    if (rc == 0 && cli_flags.json) {
        printf("{\"weights\":%d,\"rank\":%lld,\"max_difference\":%.9g,\"max_logit\":%.9g}\n", r.n_weights,
               (long long)r.rank, r.max_difference, r.max_logit);
    } else if (rc == 0) {
        printf("%s: %d weights changed by rank %lld; largest difference of a logit %.3g (largest logit %.3g)\n", pos[2],
               r.n_weights, (long long)r.rank, r.max_difference, r.max_logit);
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_merge = {
    .name = "merge",
    .args = "BASE ADAPTER OUT [--dtype TYPE]",
    .summary = "Add a LoRA adapter to the weights of a model",
    .about =
        "ADAPTER is a PEFT folder, as finetuning_type: lora and the peft library write it. OUT is a model folder like "
        "BASE. The difference reported is between the base with its adapter and the merged model as written, over "
        "the logits of a made-up text.",
    .examples = "fathom merge base-model out/adapter merged\n"
                "fathom merge base-model out/adapter merged --dtype f32 --json",
    .options = options,
    .run = run,
};
