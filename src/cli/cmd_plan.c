/* fathom plan */
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/config.h"
#include "fathom/train.h"

static void row(const char *name, int64_t bytes, const char *note) {
    char b[32];
    printf("  %-22s %12s  %s\n", name, cli_bytes(b, sizeof b, (double)bytes), note);
}

static void print_text(const fm_plan *p) {
    char a[32], b[32];
    printf("parameters             %s (%lld)\n", cli_count(a, sizeof a, (double)p->n_params), (long long)p->n_params);
    printf("precision              %s, kernels %s, %d threads\n", p->precision, p->kernels, p->threads);
    printf("micro-batch            %lld x %lld accumulated, %lld tokens a step%s\n", (long long)p->micro_batch,
           (long long)p->accumulation, (long long)p->tokens_per_step, p->recompute ? ", activations recomputed" : "");
    printf("                       %s\n", p->why);
    printf("memory\n");
    row("weights", p->weights_bytes, "exact");
    row("compute copy", p->copy_bytes, "exact");
    row("gradients", p->grad_bytes, "exact");
    row("optimizer", p->optimizer_bytes, "exact");
    row("activations", p->activation_bytes, "exact");
    row("activation gradients", p->activation_grad_bytes, "exact");
    row("kernel scratch", p->scratch_bytes, "predicted");
    row("process peak", p->process_bytes,
        p->fits ? "predicted, anonymous; fits" : "predicted, anonymous; DOES NOT FIT");
    if (isfinite(p->step_s)) {
        printf("time                   %.3f s a step, %s tokens/s, MFU %.1f%%\n", p->step_s,
               cli_count(a, sizeof a, p->tokens_per_s), 100 * p->mfu);
        if (p->n_steps > 0) {
            printf("                       %lld steps: %s\n", (long long)p->n_steps,
                   cli_seconds(b, sizeof b, p->total_s));
        }
    }
}

static void print_json(const fm_plan *p) {
    printf("{\"n_params\":%lld,\"weights_bytes\":%lld,\"copy_bytes\":%lld,\"grad_bytes\":%lld,\"optimizer_bytes\":%lld,"
           "\"activation_bytes\":%lld,"
           "\"activation_grad_bytes\":%lld,\"scratch_bytes\":%lld,\"process_bytes\":%lld,\"micro_batch\":%lld,"
           "\"accumulation\":%lld,"
           "\"tokens_per_step\":%lld,\"n_steps\":%lld,\"recompute\":%s,\"fits\":%s,\"threads\":%d,\"precision\":\"%s\","
           "\"step_s\":",
           (long long)p->n_params, (long long)p->weights_bytes, (long long)p->copy_bytes, (long long)p->grad_bytes,
           (long long)p->optimizer_bytes, (long long)p->activation_bytes, (long long)p->activation_grad_bytes,
           (long long)p->scratch_bytes, (long long)p->process_bytes, (long long)p->micro_batch,
           (long long)p->accumulation, (long long)p->tokens_per_step, (long long)p->n_steps,
           p->recompute ? "true" : "false", p->fits ? "true" : "false", p->threads, p->precision);
    cli_json_number(stdout, p->step_s);
    printf(",\"total_s\":");
    cli_json_number(stdout, p->total_s);
    printf(",\"tokens_per_s\":");
    cli_json_number(stdout, p->tokens_per_s);
    printf(",\"mfu\":");
    cli_json_number(stdout, p->mfu);
    printf(",\"why\":");
    cli_json_string(stdout, p->why);
    printf("}\n");
}

static int run(const cli_command *cmd, int argc, char **argv) {
    /* --calibrate SECONDS is not a key of the run: taken out first. */
    double calibrate = 5;
    int kept = 0;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--calibrate=", 12) == 0) {
            if (sscanf(argv[i] + 12, "%lf", &calibrate) != 1 || calibrate < 0) {
                return cli_usage(cmd, "--calibrate takes seconds, found '%s'", argv[i] + 12);
            }
        } else {
            argv[kept++] = argv[i];
        }
    }
    fm_train_config *cfg = NULL, *scratch = NULL;
    fm_status s = fm_train_config_new(&cfg);
    if (s == FM_OK) {
        s = fm_train_config_new(&scratch);
    }
    int rc = s == FM_OK ? cli_config(cmd, kept, argv, cfg, scratch, false) : cli_fail(s);
    if (rc < 0) {
        fm_plan p;
        memset(&p, 0, sizeof p);
        p.size = sizeof p;
        s = fm_train_plan(&p, cfg, calibrate);
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (s == FM_OK) {
            (cli_flags.json ? print_json : print_text)(&p);
        }
    }
    fm_train_config_free(scratch);
    fm_train_config_free(cfg);
    return rc;
}

const cli_command cli_cmd_plan = {
    .name = "plan",
    .args = "[CONFIG.yaml] [key=value ...] [--calibrate=SECONDS]",
    .summary = "Say what a training run will need: memory by part, micro-batch, time; nothing is trained",
    .about = "Tensor memory is exact: the run's own code computes it on a device without memory. Time comes from "
             "timing real\n"
             "steps on made-up tokens for some seconds (5; --calibrate=0 leaves it out).",
    .examples =
        "fathom plan recipes/pretrain-26m-model.yaml\nfathom plan preset=7b cutoff_len=2048 --calibrate=0\nfathom "
        "plan preset=100m max_memory=4GB",
    .options = fm_train_options,
    .run = run,
};
