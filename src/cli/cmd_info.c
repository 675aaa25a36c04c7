/* fathom info */
#include <stdlib.h>

#include "cli/cli.h"
#include "fathom/model.h"

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
        printf(",\"parameters\":%lld,\"active_parameters\":%lld,\"embedding_parameters\":%lld,\"layers\":%d,\"d_model\":%d,\"heads\":%d,"
               "\"kv_heads\":%d,\"head_dim\":%d,\"d_ff\":%d,\"vocab_size\":%d,\"context\":%lld,\"tied_embeddings\":%s,",
               (long long)i.n_params, (long long)i.n_params_active, (long long)i.n_params_embedding, i.n_layers, i.d_model, i.n_heads,
               i.n_kv_heads, i.head_dim, i.d_ff, i.vocab_size, (long long)i.max_position, i.tied_embeddings ? "true" : "false");
        printf("\"rope_theta\":%.10g,\"rope_scaling\":", i.rope_theta);
        cli_json_string(stdout, i.rope_scaling);
        printf(",\"dtype\":");
        cli_json_string(stdout, i.dtype);
        printf(",\"file_bytes\":%lld,\"files\":%d,\"train_bytes\":%.0f,\"kv_bytes_per_token\":%lld,\"license\":", (long long)i.file_bytes,
               i.n_files, train, (long long)i.kv_bytes_per_token);
        cli_json_string(stdout, i.license);
        printf(",\"chat_template\":");
        cli_json_string(stdout, i.chat_template);
        printf("}\n");
    } else {
        printf("model         %s\n", pos[0]);
        printf("family        %s (%s)\n", i.family, i.architecture);
        printf("parameters    %s (%lld), %s in embeddings%s\n", cli_count(a, sizeof a, (double)i.n_params), (long long)i.n_params,
               cli_count(b, sizeof b, (double)i.n_params_embedding), i.tied_embeddings ? ", tied" : "");
        printf("shape         %d layers, width %d, %d heads of %d, %d kv heads, feed-forward %d\n", i.n_layers, i.d_model, i.n_heads,
               i.head_dim, i.n_kv_heads, i.d_ff);
        printf("vocabulary    %d\n", i.vocab_size);
        printf("context       %lld tokens, rope base %g, scaling %s\n", (long long)i.max_position, i.rope_theta, i.rope_scaling);
        printf("files         %d, %s, %s\n", i.n_files, cli_bytes(a, sizeof a, (double)i.file_bytes), i.dtype);
        printf("to train      %s for weights, gradients and AdamW, and activations ('fathom plan' gives them)\n", cli_bytes(a, sizeof a, train));
        printf("to serve      %s of weights, %s of KV cache per 1,000 tokens (bf16)\n", cli_bytes(a, sizeof a, 2.0 * (double)i.n_params),
               cli_bytes(b, sizeof b, 1000.0 * (double)i.kv_bytes_per_token));
        printf("chat template %s\n", i.chat_template ? "yes" : "none");
        printf("licence       %s\n", i.license ? i.license : "not stated in the folder");
    }
    fm_model_close(m);
    return 0;
}

const cli_command cli_cmd_info = {
    .name = "info",
    .args = "MODEL",
    .summary = "Show family, sizes, memory to train and to serve, template and licence of a model",
    .examples = "fathom info out/demo\nfathom info --json out/demo",
    .run = run,
};
