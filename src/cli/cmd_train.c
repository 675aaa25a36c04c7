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

/* --trial, --trial=1%, --trial 1%, and the same for --trial-keep: out of argv. NULL when neither is there. */
static const char *take_trial(int *argc, char **argv, bool *keep) {
    const char *amount = NULL;
    int n = 0;
    for (int i = 0; i < *argc; i++) {
        size_t len = strncmp(argv[i], "--trial-keep", 12) == 0 ? 12 : strncmp(argv[i], "--trial", 7) == 0 ? 7 : 0;
        if (len == 0 || (argv[i][len] != '\0' && argv[i][len] != '=')) {
            argv[n++] = argv[i];
            continue;
        }
        *keep = len == 12;
        amount = argv[i][len] == '=' ? argv[i] + len + 1 : "1%";
        if (argv[i][len] == '\0' && i + 1 < *argc && argv[i + 1][0] >= '0' && argv[i + 1][0] <= '9' &&
            strspn(argv[i + 1], "0123456789.%") == strlen(argv[i + 1])) {
            amount = argv[++i];
        }
    }
    *argc = n;
    return amount;
}

static void trial_json(FILE *f, const fm_trial *t, const char *advice) {
    const struct {
        const char *name;
        double value;
    } row[] = {{"steps", (double)t->steps},
               {"n_steps", (double)t->n_steps},
               {"tokens_per_step", (double)t->tokens_per_step},
               {"step_s", t->step_s},
               {"tokens_per_s", t->tokens_per_s},
               {"memory_bytes", (double)t->memory_bytes},
               {"setup_s", t->setup_s},
               {"eval_s", t->eval_s},
               {"n_evals", (double)t->n_evals},
               {"save_s", t->save_s},
               {"n_saves", (double)t->n_saves},
               {"total_s", t->total_s},
               {"first_loss", t->first_loss},
               {"last_loss", t->last_loss},
               {"guess_loss", t->guess_loss}};
    fprintf(f, "{");
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        fprintf(f, "%s\"%s\":", i ? "," : "", row[i].name);
        cli_json_number(f, row[i].value);
    }
    fprintf(f, ",\"advice\":%s}\n", advice);
}

static void trial_text(const fm_trial *t) {
    char a[32], b[32];
    printf("trial       %lld of %lld steps\n", (long long)t->steps, (long long)t->n_steps);
    printf("speed       %.3f s a step, %s tokens/s\n", t->step_s, cli_count(b, sizeof b, t->tokens_per_s));
    printf("whole run   %s: %lld steps %s", cli_seconds(a, sizeof a, t->total_s), (long long)t->n_steps,
           cli_seconds(b, sizeof b, (double)t->n_steps * t->step_s));
    if (t->n_evals > 0) {
        printf(", %lld evaluations of %.2f s", (long long)t->n_evals, t->eval_s);
    }
    printf(", %lld checkpoints of %.2f s, %.2f s before the first step\n", (long long)t->n_saves, t->save_s,
           t->setup_s);
    printf("memory      %s at most\n", cli_bytes(a, sizeof a, (double)t->memory_bytes));
    printf("loss        %.4f, then %.4f", t->first_loss, t->last_loss);
    if (isfinite(t->guess_loss)) {
        printf(" (a guess among all tokens: %.4f)", t->guess_loss);
    }
    printf("\n");
    for (int i = 0; i < t->advice.n; i++) {
        const fm_finding *f = &t->advice.finding[i];
        printf("finding     %s: %s", f->kind, f->evidence);
        for (int k = 0; k < f->n_changes; k++) {
            printf("; %s: %s -> %s", f->change[k].key, f->change[k].from, f->change[k].to);
        }
        printf("%s%s\n", f->advice[0] ? "; " : "", f->advice);
    }
    if (t->advice.n == 0) {
        printf("finding     none\n");
    }
}

static int run_trial(fm_train_config *cfg, const char *amount, bool keep) {
    fm_trial t = {.size = sizeof t};
    char *advice = NULL;
    fm_status s = fm_train_trial(&t, cfg, amount, keep);
    s = s == FM_OK ? fm_train_advice_json(&advice, &t.advice) : s;
    if (s == FM_OK && keep) { /* for 'fathom run --trial' and other programs */
        char path[1100];
        snprintf(path, sizeof path, "%s/trial.json", t.output_dir);
        FILE *f = fopen(path, "w");
        if (f) {
            trial_json(f, &t, advice);
        }
        if (!f || fclose(f) != 0) {
            cli_say("%s could not be written", path);
        }
    }
    if (s == FM_OK && cli_flags.json) {
        trial_json(stdout, &t, advice);
    } else if (s == FM_OK) {
        trial_text(&t);
    }
    fm_string_free(advice);
    return s == FM_OK ? 0 : cli_fail(s);
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
    bool keep = false;
    const char *trial = take_trial(&argc, argv, &keep);
    int rc = s == FM_OK ? cli_config(cmd, argc, argv, cfg, scratch, false) : cli_fail(s);
    if (rc < 0 && trial) {
        rc = run_trial(cfg, trial, keep);
    } else if (rc < 0) {
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
    .about =
        "The configuration is a YAML file, key=value words, or both; the later wins. The first Ctrl-C saves a "
        "checkpoint\n"
        "and exits with 130, a second one exits at once and leaves the last checkpoint intact.\n"
        "--trial [1%] takes a share of the steps (10 to 200) or a number of them first and says what the whole run "
        "will\ntake and whether it learns; it leaves nothing behind (with --trial-keep the short run's model in "
        "output_dir).",
    .examples = "fathom train recipes/pretrain-26m-model.yaml\n"
                "fathom train preset=26m dataset=packed tokenizer=tok output_dir=out max_steps=1000\n"
                "fathom train recipes/pretrain-26m-model.yaml --trial 1%\n"
                "fathom train recipes/pretrain-26m-model.yaml learning_rate=1e-3 --resume",
    .options = fm_train_options,
    .run = run,
};
