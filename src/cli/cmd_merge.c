/* fathom merge */
#include <string.h>

#include "cli/cli.h"
#include "fathom/model.h"

typedef struct merge_args {
    char *dtype, *quantization;
    bool single, dequantised;
} merge_args;

static const fm_option table[] = {
    {.key = "dtype",
     .type = FM_OPT_STR,
     .offset = offsetof(merge_args, dtype),
     .metavar = "TYPE",
     .help = "Element type to write: f32, bf16, f16; default that of the base."},
    {.key = "quantization",
     .type = FM_OPT_STR,
     .offset = offsetof(merge_args, quantization),
     .metavar = "TYPE",
     .help = "What the base was held in while the adapter was trained (quantization_type: nf4, int8, q4_k ...): the "
             "report says how far the merged model is from that."},
    {.key = "single_quantization",
     .type = FM_OPT_BOOL,
     .offset = offsetof(merge_args, single),
     .help = "With nf4: trained with double_quantization: false."},
    {.key = "dequantised",
     .type = FM_OPT_BOOL,
     .offset = offsetof(merge_args, dequantised),
     .help = "Merge into the weights as --quantization left them, instead of the full ones."},
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
    fm_status s = fm_model_merge_with(&r, pos[0], pos[1], pos[2],
                                      &(fm_merge_options){.size = sizeof(fm_merge_options),
                                                          .dtype = a.dtype,
                                                          .quantization = a.quantization,
                                                          .single_quantization = a.single,
                                                          .dequantised = a.dequantised});
    rc = s == FM_OK ? 0 : cli_fail(s);
    if (rc == 0 && cli_flags.json) {
        printf("{\"weights\":%d,\"rank\":%lld,\"max_difference\":%.9g,\"max_logit\":%.9g", r.n_weights,
               (long long)r.rank, r.max_difference, r.max_logit);
        if (a.quantization) {
            printf(",\"max_difference_quantised\":%.9g", r.max_difference_quantised);
        }
        printf("}\n");
    } else if (rc == 0) {
        printf("%s: %d weights changed by rank %lld; largest difference of a logit %.3g (largest logit %.3g)\n", pos[2],
               r.n_weights, (long long)r.rank, r.max_difference, r.max_logit);
        if (a.quantization) {
            printf("from the %s base with the adapter, as it was trained: %.3g\n", a.quantization,
                   r.max_difference_quantised);
        }
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_merge = {
    .name = "merge",
    .args = "BASE ADAPTER OUT [--dtype TYPE] [--quantization TYPE [--dequantised]]",
    .summary = "Add a LoRA adapter to the weights of a model",
    .about =
        "ADAPTER is a PEFT folder, as finetuning_type: lora and the peft library write it. OUT is a model folder like "
        "BASE. The difference reported is between the base with its adapter and the merged model as written, over "
        "the logits of a made-up text.",
    .examples = "fathom merge base-model out/adapter merged\n"
                "fathom merge base-model out/adapter merged --dtype f32 --json\n"
                "fathom merge base-model out/adapter merged --quantization nf4 --dequantised",
    .options = options,
    .run = run,
};
