/* fathom advise */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "fathom/runs.h"
#include "fathom/train.h"

typedef struct advise_args {
    char *apply, *registry;
} advise_args;

static const fm_option table[] = {
    {.key = "apply",
     .type = FM_OPT_STR,
     .offset = offsetof(advise_args, apply),
     .metavar = "FILE.yaml",
     .help = "Write the configuration with these changes; a training run's output_dir gets -advised at the end."},
    {.key = "registry",
     .type = FM_OPT_STR,
     .offset = offsetof(advise_args, registry),
     .metavar = "FILE",
     .help = "The registry that RUN is looked up in; else $FATHOM_REGISTRY, else ~/.local/share/fathom/runs.db."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

static fm_status of_folder(char **json, const char *dir, const char *apply) {
    fm_advice a = {.size = sizeof a};
    fm_status s = fm_train_advise(&a, dir);
    s = s == FM_OK && apply ? fm_train_advice_apply(&a, dir, apply) : s;
    return s == FM_OK ? fm_train_advice_json(json, &a) : s;
}

/* A training run is asked by its folder, as long as that is there: its log may have grown. */
static fm_status of_run(char **json, const char *which, const advise_args *args) {
    fm_registry *r = NULL;
    char *dir = NULL;
    fm_status s = fm_registry_open(&r, args->registry, false);
    s = s == FM_OK ? fm_registry_advice(json, r, which) : s;
    s = s == FM_OK ? fm_registry_output(&dir, r, which) : s;
    if (s == FM_OK && dir && args->apply) {
        fm_string_free(*json);
        *json = NULL;
        s = of_folder(json, dir, args->apply);
    } else if (s == FM_OK && args->apply) {
        s = fm_registry_advice_apply(r, which, args->apply);
    }
    fm_string_free(dir);
    fm_registry_close(r);
    return s;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    advise_args args = {0};
    char *pos[64] = {0}, *json = NULL;
    struct stat st;
    int n = 0;
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &args, pos, &n, 1, 1);
    if (rc >= 0) {
        return rc;
    }
    const char *which = pos[0] ? pos[0] : ""; /* cli_parse saw to it that it is there */
    bool folder = strchr(which, '/') || (stat(which, &st) == 0 && S_ISDIR(st.st_mode));
    fm_status s = folder ? of_folder(&json, which, args.apply) : of_run(&json, which, &args);
    rc = cli_report(s, json, fm_registry_text);
    fm_options_free(&args, table);
    return rc;
}

const cli_command cli_cmd_advise = {
    .name = "advise",
    .args = "OUTPUT_DIR|RUN [--apply FILE.yaml]",
    .summary = "What the numbers of a training run or an evaluation say, and the keys to change",
    .about = "A folder's trainer_log.jsonl and newest checkpoint are read: divergence, overfitting, underfitting, the "
             "learning curve, lack of memory, low use of the machine, each with its evidence. RUN is a number, tag or "
             "name of the registry; an evaluation has findings on its answers, intervals, parts and second model. The "
             "same is printed at the end of every run.",
    .examples = "fathom advise out\nfathom advise out --apply next.yaml && fathom train next.yaml\n"
                "fathom advise 12 --apply eval.yaml && fathom eval eval.yaml",
    .options = options,
    .run = run,
};
