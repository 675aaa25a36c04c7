/* fathom advise */
#include <string.h>

#include "cli/cli.h"
#include "fathom/train.h"

typedef struct advise_args {
    char *apply;
} advise_args;

static const fm_option table[] = {
    {.key = "apply",
     .type = FM_OPT_STR,
     .offset = offsetof(advise_args, apply),
     .metavar = "FILE.yaml",
     .help = "Write the run's configuration with these changes; its output_dir gets -advised at the end."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

static void print_json(const fm_advice *a) {
    printf("{\"findings\":[");
    for (int i = 0; i < a->n; i++) {
        const fm_finding *f = &a->finding[i];
        printf("%s{\"kind\":\"%s\",\"evidence\":", i ? "," : "", f->kind);
        cli_json_string(stdout, f->evidence);
        printf(",\"changes\":[");
        for (int k = 0; k < f->n_changes; k++) {
            printf("%s{\"key\":\"%s\",\"from\":\"%s\",\"to\":\"%s\"}", k ? "," : "", f->change[k].key,
                   f->change[k].from, f->change[k].to);
        }
        printf("]}");
    }
    printf("]}\n");
}

static void print_text(const fm_advice *a) {
    for (int i = 0; i < a->n; i++) {
        const fm_finding *f = &a->finding[i];
        printf("%s\n  %s\n", f->kind, f->evidence);
        for (int k = 0; k < f->n_changes; k++) {
            printf("  %s: %s -> %s\n", f->change[k].key, f->change[k].from, f->change[k].to);
        }
    }
    if (a->n == 0) {
        printf("nothing to change: no divergence, overfitting, underfitting or lack of memory in its numbers\n");
    }
}

static int run(const cli_command *cmd, int argc, char **argv) {
    advise_args args = {0};
    char *pos[64] = {0};
    int n = 0;
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &args, pos, &n, 1, 1);
    if (rc >= 0) {
        return rc;
    }
    fm_advice a = {.size = sizeof a};
    fm_status s = fm_train_advise(&a, pos[0]);
    if (s == FM_OK && args.apply) {
        s = fm_train_advice_apply(&a, pos[0], args.apply);
    }
    rc = s == FM_OK ? 0 : cli_fail(s);
    if (rc == 0 && cli_flags.json) {
        print_json(&a);
    } else if (rc == 0) {
        print_text(&a);
    }
    fm_options_free(&args, table);
    return rc;
}

const cli_command cli_cmd_advise = {
    .name = "advise",
    .args = "OUTPUT_DIR [--apply FILE.yaml]",
    .summary = "What a training run's own numbers say, and the keys to change",
    .about = "Reads trainer_log.jsonl and the newest checkpoint: divergence, overfitting, underfitting, lack of "
             "memory, low use of the "
             "machine, each with its evidence. The same is printed at the end of every run.",
    .examples = "fathom advise out\nfathom advise out --apply next.yaml && fathom train next.yaml",
    .options = options,
    .run = run,
};
