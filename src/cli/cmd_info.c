/* fathom info */
#include <stddef.h>
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

static const struct {
    const char *name;
    int bytes;
} train_parts[] = {{"weights", 4}, {"compute_copy", 2}, {"gradients", 4}, {"optimizer", 8}};
#define N_TRAIN_PARTS (sizeof train_parts / sizeof train_parts[0])

static void print_files_json(const fm_model *m) {
    int64_t bytes;
    const char *path;
    printf(",\"file_list\":[");
    for (int32_t i = 0; (path = fm_model_file(m, i, &bytes)) != NULL; i++) {
        printf("%s{\"path\":", i ? "," : "");
        cli_json_string(stdout, path);
        printf(",\"bytes\":%lld}", (long long)bytes);
    }
    printf("]");
}

static void print_heads_json(const fm_model *m) {
    fm_head_info h;
    printf(",\"output_heads\":[");
    for (int k = 0; k < fm_model_head_count(m) && fm_model_head_info(&h, m, k) == FM_OK; k++) {
        printf("%s{\"name\":", k ? "," : "");
        cli_json_string(stdout, h.name);
        printf(",\"kind\":");
        cli_json_string(stdout, h.kind);
        printf(",\"outputs\":%d,\"per_token\":%s,\"labels\":[", h.n_outputs, h.per_token ? "true" : "false");
        for (int32_t i = 0; i < h.n_outputs && fm_model_label(m, k, i); i++) {
            fputs(i ? "," : "", stdout);
            cli_json_string(stdout, fm_model_label(m, k, i));
        }
        printf("]}");
    }
    printf("]");
}

/* Only what differs from a plain language model, and at most a line of labels. */
static void print_heads(const fm_model *m) {
    fm_head_info h;
    for (int k = 0; k < fm_model_head_count(m) && fm_model_head_info(&h, m, k) == FM_OK; k++) {
        if (k == 0 && fm_model_generates(m)) {
            continue;
        }
        printf("head          %s%s%s", h.name, *h.name ? ": " : "", h.kind);
        for (int32_t i = 0; i < h.n_outputs && i < 12 && fm_model_label(m, k, i); i++) {
            printf("%s%s", i ? ", " : "; labels ", fm_model_label(m, k, i));
        }
        if (h.n_outputs > 12 && fm_model_label(m, k, 0)) {
            printf(" ... (%d)", h.n_outputs);
        }
        printf("\n");
    }
}

static void print_json(const char *name, const fm_model *m, const fm_model_info *i, int64_t checked) {
    double train = (double)i->n_params * (double)i->train_bytes_per_param;
    printf("{\"model\":");
    cli_json_string(stdout, name);
    printf(",\"family\":");
    cli_json_string(stdout, i->family);
    printf(",\"architecture\":");
    cli_json_string(stdout, i->architecture);
    printf(",\"parameters\":%lld,\"active_parameters\":%lld,\"embedding_parameters\":%lld,\"layers\":%d,\"d_"
           "model\":%d,\"heads\":%d,"
           "\"kv_heads\":%d,\"head_dim\":%d,\"d_ff\":%d,\"vocab_size\":%d,\"context\":%lld,\"tied_embeddings\":%s,",
           (long long)i->n_params, (long long)i->n_params_active, (long long)i->n_params_embedding, i->n_layers,
           i->d_model, i->n_heads, i->n_kv_heads, i->head_dim, i->d_ff, i->vocab_size, (long long)i->max_position,
           i->tied_embeddings ? "true" : "false");
    printf("\"columns\":%d,", i->n_columns);
    printf("\"experts\":%d,\"active_experts\":%d,\"shared_experts\":%d,\"rope_theta\":%.10g,\"rope_scaling\":",
           i->n_experts, i->n_experts_active, i->n_experts_shared, i->rope_theta);
    cli_json_string(stdout, i->rope_scaling);
    print_heads_json(m);
    printf(",\"positions\":");
    cli_json_string(stdout, i->positions);
    printf(",\"dtype\":");
    cli_json_string(stdout, i->dtype);
    printf(",\"dtype_mix\":");
    cli_json_string(stdout, i->dtype_mix);
    printf(",\"compute_dtype\":");
    cli_json_string(stdout, i->compute);
    printf(",\"file_bytes\":%lld,\"files\":%d", (long long)i->file_bytes, i->n_files);
    print_files_json(m);
    printf(",\"train_bytes\":%.0f,\"train_memory\":{", train);
    for (size_t k = 0; k < N_TRAIN_PARTS; k++) {
        printf("%s\"%s\":%.0f", k ? "," : "", train_parts[k].name, (double)i->n_params * train_parts[k].bytes);
    }
    printf("},\"serve_bytes\":%lld,\"kv_bytes_per_token\":%lld,\"license\":", (long long)i->serve_bytes,
           (long long)i->kv_bytes_per_token);
    cli_json_string(stdout, i->license);
    printf(",\"chat_template\":");
    cli_json_string(stdout, i->chat_template);
    if (checked >= 0) {
        printf(",\"checked\":%lld", (long long)checked);
    }
    printf("}\n");
}

/* The first line that says something, cut to what fits a line. */
static void print_template(const char *text) {
    const char *p = text ? text + strspn(text, " \t\r\n") : "";
    size_t n = strcspn(p, "\r\n"), all = text ? strlen(text) : 0;
    if (!text) {
        printf("chat template none\n");
        return;
    }
    size_t shown = n < 72 ? n : 72;
    while (shown && shown < n && ((unsigned char)p[shown] & 0xc0) == 0x80) {
        shown--; /* not inside a character */
    }
    printf("chat template %.*s%s (%zu bytes)\n", (int)shown, p, p[shown] ? " ..." : "", all);
}

static void print_text(const char *name, const fm_model *m, const fm_model_info *i, int64_t checked) {
    char a[48], b[48];
    int64_t bytes;
    const char *path;
    printf("model         %s\n", name);
    printf("family        %s (%s)\n", i->family, i->architecture);
    printf("parameters    %s (%lld), %s in embeddings%s\n", cli_count(a, sizeof a, (double)i->n_params),
           (long long)i->n_params, cli_count(b, sizeof b, (double)i->n_params_embedding),
           i->tied_embeddings ? ", tied" : "");
    if (i->n_params_active != i->n_params) {
        printf("active        %s (%lld) for each token\n", cli_count(a, sizeof a, (double)i->n_params_active),
               (long long)i->n_params_active);
    }
    printf("shape         %d layers, width %d, %d heads of %d, %d kv heads, feed-forward %d\n", i->n_layers, i->d_model,
           i->n_heads, i->head_dim, i->n_kv_heads, i->d_ff);
    if (i->n_experts) {
        printf("experts       %d, %d of them for each token, %d shared\n", i->n_experts, i->n_experts_active,
               i->n_experts_shared);
    }
    if (i->n_columns > 1) {
        printf("columns       %d progressive ones; --column N chooses, else the newest answers\n", i->n_columns);
    }
    printf("vocabulary    %d\n", i->vocab_size);
    if (strcmp(i->positions, "rope") == 0) {
        printf("context       %lld tokens, rope base %g, scaling %s\n", (long long)i->max_position, i->rope_theta,
               i->rope_scaling);
    } else {
        printf("context       %lld tokens, %s positions\n", (long long)i->max_position, i->positions);
    }
    print_heads(m);
    printf("files         %d, %s, %s\n", i->n_files, cli_bytes(a, sizeof a, (double)i->file_bytes),
           i->dtype_mix ? i->dtype_mix : i->dtype);
    for (int32_t k = 0; k < 8 && (path = fm_model_file(m, k, &bytes)) != NULL; k++) {
        printf("              %s, %s\n", path, cli_bytes(a, sizeof a, (double)bytes));
    }
    printf("to train      %s:", cli_bytes(a, sizeof a, (double)i->n_params * (double)i->train_bytes_per_param));
    static const char *const parts[N_TRAIN_PARTS] = {"weights", "bf16 copy", "gradients", "AdamW"};
    for (size_t k = 0; k < N_TRAIN_PARTS; k++) {
        printf("%s %s %s", k ? "," : "", parts[k], cli_bytes(a, sizeof a, (double)i->n_params * train_parts[k].bytes));
    }
    printf("; activations on top ('fathom plan')\n");
    printf("to serve      %s of weights (%s), %s of KV cache for each token (bf16), %s for %lld\n",
           cli_bytes(a, sizeof a, (double)i->serve_bytes), i->compute,
           cli_bytes(b, sizeof b, (double)i->kv_bytes_per_token),
           cli_bytes((char[48]){0}, 48, (double)i->kv_bytes_per_token * (double)i->max_position),
           (long long)i->max_position);
    print_template(i->chat_template);
    printf("licence       %s\n", i->license ? i->license : "not stated in the folder");
    if (checked >= 0) {
        printf("checked       %s numbers, all finite\n", cli_count(a, sizeof a, (double)checked));
    }
}

typedef struct info_options {
    bool check;
} info_options;

static const fm_option *options(void) {
    static const fm_option table[] = {
        {"check", FM_OPT_BOOL, offsetof(info_options, check), NULL, 0, 0, NULL, NULL, NULL,
         "Read every weight and refuse NaN and infinity."},
        {0},
    };
    return table;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    char *pos[1 + 64];
    int n = 0;
    info_options o = {0};
    if (argc > 64) {
        return cli_usage(cmd, "too many arguments");
    }
    int rc = cli_parse(cmd, argc, argv, &o, pos, &n, 1, 1);
    if (rc >= 0) {
        return rc;
    }
    if (strcmp(pos[0], "presets") == 0) {
        return presets();
    }
    fm_model *m = NULL;
    fm_model_info i;
    int64_t checked = -1;
    fm_status s = fm_model_open(&m, pos[0], NULL);
    if (s == FM_OK) {
        s = fm_model_get_info(&i, m);
    }
    if (s == FM_OK && o.check) {
        s = fm_model_check(m, &checked);
    }
    if (s == FM_OK) {
        (cli_flags.json ? print_json : print_text)(pos[0], m, &i, checked);
    }
    rc = s == FM_OK ? 0 : cli_fail(s);
    fm_model_close(m);
    return rc;
}

const cli_command cli_cmd_info = {
    .name = "info",
    .args = "MODEL | presets",
    .summary = "Show family, sizes, memory to train and to serve, template and licence of a model",
    .about =
        "MODEL is a Hugging Face folder or a GGUF file. Only headers are read, so it is quick for any size; --check\n"
        "reads all weights.",
    .examples = "fathom info out/demo\nfathom info --json out/demo\nfathom info --check out/demo\nfathom info presets",
    .options = options,
    .run = run,
};
