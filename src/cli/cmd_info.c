/* fathom info */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "fathom/model.h"

/* Weights, bf16 copy, gradient and two moments of a parameter in bf16 training; the bf16 weights of serving. */
#define TRAIN_BYTES 18
#define SERVE_BYTES 2

static int presets(void) {
    char a[32], b[32], c[32];
    for (int i = 0; i < fm_preset_count(); i++) {
        const fm_preset *p = fm_preset_at(i);
        if (cli_flags.json) {
            printf("{\"name\":");
            cli_json_string(stdout, p->name);
            printf(",\"parameters\":%lld,\"d_model\":%d,\"layers\":%d,\"heads\":%d,\"kv_heads\":%d,\"d_ff\":%d,\"vocab_"
                   "size\":%d,\"tied\":%s,"
                   "\"train_bytes\":%lld,\"serve_bytes\":%lld,\"tokens_per_s\":",
                   (long long)p->n_params, p->d_model, p->n_layers, p->n_heads, p->n_kv_heads, p->d_ff, p->vocab_size,
                   p->tied ? "true" : "false", (long long)p->n_params * TRAIN_BYTES,
                   (long long)p->n_params * SERVE_BYTES);
            if (p->tokens_per_s > 0) {
                cli_json_number(stdout, p->tokens_per_s);
            } else {
                printf("null");
            }
            printf(",\"use\":");
            cli_json_string(stdout, p->use);
            printf("}\n");
            continue;
        }
        if (i == 0) {
            printf("%-6s %9s %22s %10s %10s %10s  %s\n", "name", "params", "width x layers, heads", "to train",
                   "to serve", "tokens/s", "use");
        }
        char shape[48], speed[24] = "-";
        snprintf(shape, sizeof shape, "%d x %d, %d/%d", p->d_model, p->n_layers, p->n_heads, p->n_kv_heads);
        if (p->tokens_per_s > 0) {
            snprintf(speed, sizeof speed, "%.0f", p->tokens_per_s);
        }
        printf("%-6s %9s %22s %10s %10s %10s  %s\n", p->name, cli_count(a, sizeof a, (double)p->n_params), shape,
               cli_bytes(b, sizeof b, (double)p->n_params * TRAIN_BYTES),
               cli_bytes(c, sizeof c, (double)p->n_params * SERVE_BYTES), speed, p->use);
    }
    if (!cli_flags.json) {
        printf("\nto train: weights, gradients and AdamW in bf16 (activations come on top); tokens/s: bf16 training "
               "measured on two cores\n"
               "(docs/performance.md). 'fathom plan preset=NAME' gives both for this machine; params=300M takes any "
               "size between.\n");
    }
    return 0;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    char *pos[1 + 64];
    int n = 0;
    if (argc > 64) {
        return cli_usage(cmd, "too many arguments");
    }
    int rc = cli_parse(cmd, argc, argv, NULL, pos, &n, 1, 1);
    if (rc >= 0) {
        return rc;
    }
    if (strcmp(pos[0], "presets") == 0) {
        return presets();
    }
    fm_model *m = NULL;
    fm_model_info i;
    fm_status s = fm_model_open(&m, pos[0], NULL);
    if (s == FM_OK) {
        s = fm_model_get_info(&i, m);
    }
    if (s != FM_OK) {
        rc = cli_fail(s);
        fm_model_close(m);
        return rc;
    }
    char a[48], b[48];
    double train = (double)i.n_params * (double)i.train_bytes_per_param;
    if (cli_flags.json) {
        printf("{\"model\":");
        cli_json_string(stdout, pos[0]);
        printf(",\"family\":");
        cli_json_string(stdout, i.family);
        printf(",\"architecture\":");
        cli_json_string(stdout, i.architecture);
        printf(",\"parameters\":%lld,\"active_parameters\":%lld,\"embedding_parameters\":%lld,\"layers\":%d,\"d_"
               "model\":%d,\"heads\":%d,"
               "\"kv_heads\":%d,\"head_dim\":%d,\"d_ff\":%d,\"vocab_size\":%d,\"context\":%lld,\"tied_embeddings\":%s,",
               (long long)i.n_params, (long long)i.n_params_active, (long long)i.n_params_embedding, i.n_layers,
               i.d_model, i.n_heads, i.n_kv_heads, i.head_dim, i.d_ff, i.vocab_size, (long long)i.max_position,
               i.tied_embeddings ? "true" : "false");
        printf("\"rope_theta\":%.10g,\"rope_scaling\":", i.rope_theta);
        cli_json_string(stdout, i.rope_scaling);
        printf(",\"dtype\":");
        cli_json_string(stdout, i.dtype);
        printf(",\"dtype_mix\":");
        cli_json_string(stdout, i.dtype_mix);
        printf(",\"file_bytes\":%lld,\"files\":%d,\"train_bytes\":%.0f,\"kv_bytes_per_token\":%lld,\"license\":",
               (long long)i.file_bytes, i.n_files, train, (long long)i.kv_bytes_per_token);
        cli_json_string(stdout, i.license);
        printf(",\"chat_template\":");
        cli_json_string(stdout, i.chat_template);
        printf("}\n");
    } else {
        printf("model         %s\n", pos[0]);
        printf("family        %s (%s)\n", i.family, i.architecture);
        printf("parameters    %s (%lld), %s in embeddings%s\n", cli_count(a, sizeof a, (double)i.n_params),
               (long long)i.n_params, cli_count(b, sizeof b, (double)i.n_params_embedding),
               i.tied_embeddings ? ", tied" : "");
        if (i.n_params_active != i.n_params) {
            printf("active        %s (%lld) for each token\n", cli_count(a, sizeof a, (double)i.n_params_active),
                   (long long)i.n_params_active);
        }
        printf("shape         %d layers, width %d, %d heads of %d, %d kv heads, feed-forward %d\n", i.n_layers,
               i.d_model, i.n_heads, i.head_dim, i.n_kv_heads, i.d_ff);
        printf("vocabulary    %d\n", i.vocab_size);
        printf("context       %lld tokens, rope base %g, scaling %s\n", (long long)i.max_position, i.rope_theta,
               i.rope_scaling);
        printf("files         %d, %s, %s\n", i.n_files, cli_bytes(a, sizeof a, (double)i.file_bytes),
               i.dtype_mix ? i.dtype_mix : i.dtype);
        printf("to train      %s for weights, gradients and AdamW, and activations ('fathom plan' gives them)\n",
               cli_bytes(a, sizeof a, train));
        printf("to serve      %s of weights, %s of KV cache per 1,000 tokens (bf16)\n",
               cli_bytes(a, sizeof a, 2.0 * (double)i.n_params),
               cli_bytes(b, sizeof b, 1000.0 * (double)i.kv_bytes_per_token));
        printf("chat template %s\n", i.chat_template ? "yes" : "none");
        printf("licence       %s\n", i.license ? i.license : "not stated in the folder");
    }
    fm_model_close(m);
    return 0;
}

const cli_command cli_cmd_info = {
    .name = "info",
    .args = "MODEL | presets",
    .summary = "Show family, sizes, memory to train and to serve, template and licence of a model",
    .examples = "fathom info out/demo\nfathom info --json out/demo\nfathom info presets",
    .run = run,
};
