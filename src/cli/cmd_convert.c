/* fathom convert */
#include <string.h>

#include "cli/cli.h"
#include "cli/rows.h"
#include "fathom/convert.h"

typedef struct convert_args {
    char *dtype;
    int64_t threads, max_shard;
    bool overwrite, inexact, no_files;
} convert_args;

static const fm_option table[] = {
    {.key = "dtype",
     .type = FM_OPT_STR,
     .offset = offsetof(convert_args, dtype),
     .def = "auto",
     .help = "Type of the weights: f32, f16, bf16; for a folder also int8, a factor a row; for GGUF also q8_0, q4_0, "
             "q4_k_m, q6_k. auto: as the input has "
             "them, f32 for quantised input."},
    {.key = "overwrite",
     .type = FM_OPT_BOOL,
     .offset = offsetof(convert_args, overwrite),
     .def = "false",
     .help = "Replace OUT when it exists."},
    {.key = "inexact",
     .type = FM_OPT_BOOL,
     .offset = offsetof(convert_args, inexact),
     .def = "false",
     .help = "Write GGUF although llama.cpp computes part of this model differently (said as a warning)."},
    {.key = "no_files",
     .type = FM_OPT_BOOL,
     .offset = offsetof(convert_args, no_files),
     .def = "false",
     .help = "Leave config.json, tokenizer.json and the like out of the GGUF file; a folder made from it then has what "
             "llama.cpp's keys say."},
    {.key = "max_shard",
     .type = FM_OPT_INT,
     .offset = offsetof(convert_args, max_shard),
     .def = "5000000000",
     .min = 1,
     .max = 1e15,
     .metavar = "BYTES",
     .help = "Largest safetensors file of a folder."},
    CLI_ROW_THREADS(convert_args),
    {0},
};
static const fm_option *options(void) {
    return table;
}

static void report_json(const fm_convert_report *r, const char *out) {
    printf("{\"out\":");
    cli_json_string(stdout, out);
    printf(",\"from\":\"%s\",\"to\":\"%s\",\"dtype\":\"%s\",\"tensors\":%lld,\"params\":%lld,\"bytes_in\":%lld,"
           "\"bytes_out\":%lld,\"fallback_tensors\":%lld,\"overflow\":%lld,\"seconds\":",
           r->from, r->to, r->dtype, (long long)r->n_tensors, (long long)r->n_params, (long long)r->bytes_in,
           (long long)r->bytes_out, (long long)r->n_fallback, (long long)r->n_overflow);
    cli_json_number(stdout, r->seconds);
    printf("}\n");
}

static void report_text(const fm_convert_report *r, const char *out) {
    char a[32], b[32], c[32], d[32];
    printf("%s: %lld tensors, %s parameters, %s (%s, %.2f bits a weight) in %s, %s/s\n", out, (long long)r->n_tensors,
           cli_count(a, sizeof a, (double)r->n_params), cli_bytes(b, sizeof b, (double)r->bytes_out), r->dtype,
           r->n_params > 0 ? 8 * (double)r->bytes_out / (double)r->n_params : 0.0, cli_seconds(c, sizeof c, r->seconds),
           cli_bytes(d, sizeof d, r->seconds > 0 ? (double)r->bytes_out / r->seconds : 0));
    if (r->n_fallback > 0) {
        printf("%lld tensors have rows that do not fit the blocks of this type and got a larger one\n",
               (long long)r->n_fallback);
    }
}

static int run(const cli_command *cmd, int argc, char **argv) {
    convert_args a;
    char *pos[64] = {0};
    int n_pos = 0;
    fm_status s = fm_options_init(&a, table);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n_pos, 2, 2);
    if (rc < 0) {
        fm_convert_report r = {.size = sizeof r};
        fm_convert_options o = {.size = sizeof o,
                                .dtype = a.dtype,
                                .threads = (int)a.threads,
                                .overwrite = a.overwrite,
                                .inexact = a.inexact,
                                .no_files = a.no_files,
                                .max_shard = a.max_shard};
        s = fm_convert(&r, pos[0], pos[1], &o);
        cli_ui_clear();
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (rc == 0 && cli_flags.json) {
            report_json(&r, pos[1]);
        } else if (rc == 0) {
            report_text(&r, pos[1]);
        }
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_convert = {
    .name = "convert",
    .args = "IN OUT [--dtype TYPE]",
    .summary = "Hugging Face folder to GGUF and back, with or without quantisation",
    .about =
        "IN is a model folder or a .gguf file (of a split one any part). OUT ends in .gguf, or is a folder. Tensors "
        "are converted one\nafter another by all threads; OUT appears whole or not at all. Files written here load "
        "in llama.cpp; what llama.cpp would\ncompute differently is refused with the key of config.json.",
    .examples = "fathom convert out/model model.gguf\n"
                "fathom convert out/model model-q4.gguf --dtype q4_k_m\n"
                "fathom convert model-f16.gguf model-q8.gguf --dtype q8_0\n"
                "fathom convert model.gguf out/folder --dtype bf16\n"
                "fathom convert out/model out/model-int8 --dtype int8",
    .options = options,
    .run = run,
};
