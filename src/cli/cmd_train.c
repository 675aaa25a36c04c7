/* fathom train */
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/config.h"
#include "fathom/train.h"

static void on_event(void *user, const fm_train_event *e) {
    (void)user;
    char line[512], tok[32], mem[32], left[32], mfu[24] = "", load[32] = "";
    if (isfinite(e->mfu)) {
        snprintf(mfu, sizeof mfu, "  MFU %.1f%%", 100 * e->mfu);
    }
    if (isfinite(e->expert_max_violation)) {
        snprintf(load, sizeof load, "  MaxVio %.2f", e->expert_max_violation);
    }
    int n =
        snprintf(line, sizeof line, "step %lld/%lld  loss %.4f  lr %.2e  norm %.3f  %s tok/s%s%s  %s  %s left",
                 (long long)e->step, (long long)e->n_steps, e->loss, e->learning_rate, e->grad_norm,
                 cli_count(tok, sizeof tok, e->tokens_per_s), mfu, load,
                 cli_bytes(mem, sizeof mem, (double)e->memory_bytes), cli_seconds(left, sizeof left, e->remaining_s));
    if (isfinite(e->eval_loss) && n > 0 && (size_t)n < sizeof line) {
        n += snprintf(line + n, sizeof line - (size_t)n, "  | eval loss %.4f", e->eval_loss);
        if (isfinite(e->eval_perplexity) && (size_t)n < sizeof line) {
            n += snprintf(line + n, sizeof line - (size_t)n, "  perplexity %.2f", e->eval_perplexity);
        }
        if (isfinite(e->eval_bits_per_byte) && (size_t)n < sizeof line) {
            n += snprintf(line + n, sizeof line - (size_t)n, "  bits/byte %.4f", e->eval_bits_per_byte);
        }
    }
    for (int i = 0; i < e->n_metrics && n > 0 && (size_t)n < sizeof line; i++) {
        const char *name = e->metrics[i].name;
        name += strncmp(name, "eval_", 5) == 0 ? 5 : 0;
        n += snprintf(line + n, sizeof line - (size_t)n, "  %s %.4f", name, e->metrics[i].value);
    }
    if (e->skipped && n > 0 && (size_t)n < sizeof line) {
        snprintf(line + n, sizeof line - (size_t)n, "  (step skipped)");
    }
    cli_say("%s", line);
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_train_config *cfg = NULL, *scratch = NULL;
    fm_status s = fm_train_config_new(&cfg);
    if (s == FM_OK) {
        s = fm_train_config_new(&scratch);
    }
    static char resume[] = "resume_from_checkpoint=true";
    for (int i = 0; i < argc; i++) {
        argv[i] = strcmp(argv[i], "--resume") == 0 ? resume : argv[i]; /* the short way to say it */
    }
    int rc = s == FM_OK ? cli_config(cmd, argc, argv, cfg, scratch, false) : cli_fail(s);
    if (rc < 0) {
        fm_train_result r;
        memset(&r, 0, sizeof r);
        r.size = sizeof r;
        s = fm_train_run(cfg, on_event, NULL, &r);
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (s == FM_ERR_CANCELLED) {
            cli_say("To go on: the same command with --resume");
        }
        if (s == FM_OK && cli_flags.json) {
            printf("{\"output_dir\":");
            cli_json_string(stdout, r.output_dir);
            printf(",\"steps\":%lld,\"tokens\":%lld,\"skipped_steps\":%lld,\"train_loss\":", (long long)r.steps,
                   (long long)r.tokens, (long long)r.skipped_steps);
            cli_json_number(stdout, r.train_loss);
            printf(",\"eval_loss\":");
            cli_json_number(stdout, r.eval_loss);
            printf(",\"eval_bits_per_byte\":");
            cli_json_number(stdout, r.eval_bits_per_byte);
            printf(",\"seconds\":");
            cli_json_number(stdout, r.seconds);
            printf(",\"tokens_per_s\":");
            cli_json_number(stdout, r.tokens_per_s);
            printf(",\"mfu\":");
            cli_json_number(stdout, r.mfu);
            printf(",\"best_step\":%lld,\"stopped_by\":", (long long)r.best_step);
            cli_json_string(stdout, r.stopped_by);
            printf("}\n");
        } else if (s == FM_OK) {
            char t[32], d[32];
            printf("%s: %lld steps, %s tokens in %s", r.output_dir, (long long)r.steps,
                   cli_count(t, sizeof t, (double)r.tokens), cli_seconds(d, sizeof d, r.seconds));
            if (isfinite(r.eval_loss)) {
                printf(", eval loss %.4f", r.eval_loss);
            }
            if (isfinite(r.eval_bits_per_byte)) {
                printf(", %.4f bits per byte", r.eval_bits_per_byte);
            }
            printf(" (%s)\n", r.stopped_by);
        }
    }
    fm_train_config_free(scratch);
    fm_train_config_free(cfg);
    return rc;
}

const cli_command cli_cmd_train = {
    .name = "train",
    .args = "[CONFIG.yaml] [key=value ...]",
    .summary = "Train a model",
    .about = "The configuration is a YAML file, key=value words, or both; the later wins. The first Ctrl-C saves a "
             "checkpoint\n"
             "and exits with 130, a second one exits at once and leaves the last checkpoint intact.",
    .examples = "fathom train recipes/pretrain-26m-model.yaml\n"
                "fathom train preset=26m dataset=packed tokenizer=tok output_dir=out max_steps=1000\n"
                "fathom train recipes/pretrain-26m-model.yaml learning_rate=1e-3 --resume",
    .options = fm_train_options,
    .run = run,
};
