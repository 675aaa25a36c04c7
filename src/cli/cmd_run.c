/* fathom run */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "fathom/recipe.h"

typedef struct run_args {
    bool dry_run;
    char *from, *trial;
    fm_strlist only, set;
    double forecast_s; /* of the whole recipe */
} run_args;

static const fm_option table[] = {
    {.key = "dry_run",
     .type = FM_OPT_BOOL,
     .offset = offsetof(run_args, dry_run),
     .help = "Say what would be done, and why; run nothing."},
    {.key = "only",
     .type = FM_OPT_LIST,
     .offset = offsetof(run_args, only),
     .metavar = "STAGES",
     .help = "Do only these stages, and do them again."},
    {.key = "from",
     .type = FM_OPT_STR,
     .offset = offsetof(run_args, from),
     .metavar = "STAGE",
     .help = "Do this stage and all after it again."},
    {.key = "trial",
     .type = FM_OPT_STR,
     .offset = offsetof(run_args, trial),
     .metavar = "SHARE",
     .help =
         "Run all stages in OUTPUT_DIR.trial, training for this share of its steps (1%, or a number) and scoring 20 "
         "rows, and forecast the whole recipe."},
    {.key = "set",
     .type = FM_OPT_LIST,
     .offset = offsetof(run_args, set),
     .metavar = "NAME=VALUE",
     .help = "Set output_dir or a variable of the recipe."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

/* ---- stages ------------------------------------------------------------------------------------ */

static int n_shown;

/* What the stage would take in the whole recipe. */
static double forecast(const fm_stage_event *e) {
    char path[4200];
    double s = e->seconds;
    snprintf(path, sizeof path, "%s/trial.json", e->output);
    FILE *f = strcmp(e->command, "train") == 0 ? fopen(path, "r") : NULL;
    if (!f) {
        return s;
    }
    char text[4096];
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    const char *at = strstr(text, "\"total_s\":");
    fclose(f);
    return at ? strtod(at + strlen("\"total_s\":"), NULL) : s;
}

static void on_stage(void *user, const fm_stage_event *e) {
    run_args *a = user;
    if (a->trial && (e->state == FM_STAGE_DONE || e->state == FM_STAGE_KEPT)) {
        a->forecast_s += forecast(e);
    }
    static const char *const state[] = {"kept", "run", "maybe", "done", "failed", "left out"};
    char time[32];
    if (cli_flags.json) {
        if (e->state == FM_STAGE_STARTS && !a->dry_run) {
            return; /* done or failed follows */
        }
        printf("%s{\"name\":", n_shown++ ? "," : "[");
        cli_json_string(stdout, e->name);
        printf(",\"command\":");
        cli_json_string(stdout, e->command);
        printf(",\"state\":\"%s\",\"output\":", state[e->state]);
        cli_json_string(stdout, e->output);
        printf(",\"why\":");
        cli_json_string(stdout, e->why ? e->why : "");
        printf(",\"seconds\":");
        cli_json_number(stdout, e->seconds);
        printf(",\"exit_code\":%d}", e->exit_code);
        return;
    }
    cli_seconds(time, sizeof time, e->seconds);
    switch (e->state) {
    case FM_STAGE_KEPT:
        printf("[%d/%d] %-16s kept (%s when it ran)\n", e->index + 1, e->n_stages, e->name, time);
        break;
    case FM_STAGE_STARTS:
    case FM_STAGE_MAYBE:
        printf("[%d/%d] %-16s %s%s: %s\n", e->index + 1, e->n_stages, e->name, e->command,
               e->state == FM_STAGE_MAYBE ? ", perhaps" : "", e->why);
        break;
    case FM_STAGE_DONE:
        printf("[%d/%d] %-16s done in %s: %s\n", e->index + 1, e->n_stages, e->name, time, e->output);
        break;
    case FM_STAGE_FAILED:
        printf("[%d/%d] %-16s FAILED after %s (exit status %d)\n", e->index + 1, e->n_stages, e->name, time,
               e->exit_code);
        break;
    case FM_STAGE_LEFT_OUT:
        break;
    }
    fflush(stdout);
}

/* This program again, with other arguments: what a stage takes it gives back, and a crash is one stage's. */
static fm_status exec_stage(void *user, char *const *argv, const char *stdout_path, int *exit_code) {
    const run_args *a = user;
    posix_spawn_file_actions_t files;
    size_t n = 0;
    pid_t pid;
    while (argv[n]) {
        n++;
    }
    char **args = calloc(n + 4, sizeof *args);
    if (!args || posix_spawn_file_actions_init(&files) != 0) {
        free(args);
        return FM_ERR_NO_MEMORY;
    }
    static char name[] = "fathom", quiet[] = "--quiet";
    args[0] = name;
    memcpy(args + 1, argv, n * sizeof *args);
    static char rows[] = "--max-samples=20";
    char share[64];
    snprintf(share, sizeof share, "--trial-keep=%s", a->trial ? a->trial : "");
    if (a->trial && n > 0 && strcmp(argv[0], "train") == 0) {
        args[++n] = share;
    } else if (a->trial && n > 0 && strcmp(argv[0], "eval") == 0 && (!argv[1] || strcmp(argv[1], "list") != 0)) {
        args[++n] = rows;
    }
    args[n + 1] = cli_flags.quiet ? quiet : NULL;
    int rc = 0;
    if (stdout_path) {
        rc = posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, stdout_path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    } else { /* our standard output is for the stages */
        rc = posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
    }
    cli_ui_clear();
    fflush(stdout);
    rc = rc != 0 ? rc : posix_spawn(&pid, "/proc/self/exe", &files, NULL, args, environ);
    posix_spawn_file_actions_destroy(&files);
    free(args);
    if (rc != 0) {
        fprintf(stderr, "fathom run: cannot start %s: %s\n", argv[0], strerror(rc));
        return FM_ERR_IO;
    }
    int status;
    bool told = false;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (fm_cancelled() && !told) { /* a terminal tells both; a signal to this process alone is passed on */
            told = true;
            (void)kill(pid, SIGINT);
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return FM_OK;
}

/* ---- checks ------------------------------------------------------------------------------------ */

static bool same_key(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char x = a[i] == '-' ? '_' : a[i], y = b[i] == '-' ? '_' : b[i];
        if (x != y || x == '\0') {
            return false;
        }
    }
    return a[n] == '\0';
}

static bool has_option(const fm_option *o, const char *key) {
    for (; o && o->key; o++) {
        if (same_key(key, o->key, strlen(o->key))) {
            return true;
        }
        for (const char *p = o->aliases; p && *p;) {
            size_t n = strcspn(p, "|");
            if (same_key(key, p, n)) {
                return true;
            }
            p += n + (p[n] == '|');
        }
    }
    return strcmp(key, "json") == 0 || strcmp(key, "quiet") == 0;
}

/* A word that is wrong in the last stage is said before the first one runs. */
static int check(const fm_recipe *r) {
    const char *words, *name, *const *keys;
    int n;
    for (int i = 0; (name = fm_recipe_stage(r, i, &words, &keys, &n)) != NULL; i++) {
        char copy[128], *argv[2] = {copy, NULL};
        int n_words;
        snprintf(copy, sizeof copy, "%s", words);
        char *space = strchr(copy, ' ');
        if (space) {
            *space = '\0';
            argv[1] = space + 1;
        }
        const cli_command *cmd = cli_find(space ? 2 : 1, argv, &n_words);
        if (!cmd || n_words != (space ? 2 : 1) || strcmp(words, "run") == 0) {
            fprintf(stderr, "fathom run: stage %s: there is no command '%s'\n", name, words);
            return 2;
        }
        for (int k = 0; k < n; k++) {
            if (!has_option(cmd->options ? cmd->options() : NULL, keys[k])) {
                fprintf(stderr, "fathom run: stage %s: '%s' is no option of 'fathom %s'\n", name, keys[k], words);
                return 2;
            }
        }
    }
    return -1;
}

static int run_recipe(const char *path, run_args *a) {
    fm_recipe *r = NULL;
    int code = 0;
    fm_status s = fm_recipe_open(&r, path, (const char *const *)a->set.item, (int)a->set.n);
    if (s == FM_OK && a->trial) { /* beside the whole recipe's folder */
        char dir[4200];
        snprintf(dir, sizeof dir, "output_dir=%s.trial", fm_recipe_output_dir(r));
        fm_recipe_free(r);
        r = NULL;
        s = fm_options_append(a, table, "set", dir, "command line");
        s = s == FM_OK ? fm_recipe_open(&r, path, (const char *const *)a->set.item, (int)a->set.n) : s;
    }
    const char *first = NULL, *const * keys;
    int n_keys;
    if (s == FM_OK && a->trial && !a->from && a->only.n == 0) { /* another share is no other input */
        const char *words;
        first = fm_recipe_stage(r, 0, &words, &keys, &n_keys);
    }
    int rc = s == FM_OK ? check(r) : cli_fail(s);
    if (rc < 0) {
        fm_recipe_options o = {.size = sizeof o,
                               .dry_run = a->dry_run,
                               .from = first ? first : a->from,
                               .only = (const char *const *)a->only.item,
                               .n_only = (int)a->only.n,
                               .on_stage = on_stage,
                               .exec = exec_stage,
                               .user = a};
        s = fm_recipe_run(r, &o, &code);
        if (a->trial && s == FM_OK && !a->dry_run && cli_flags.json) {
            printf("%s{\"name\":\"whole recipe\",\"state\":\"forecast\",\"seconds\":", n_shown++ ? "," : "[");
            cli_json_number(stdout, a->forecast_s);
            printf("}");
        } else if (a->trial && s == FM_OK && !a->dry_run) {
            char time[32];
            printf("whole recipe: about %s, scoring of more than 20 rows not counted; what the trial wrote is in %s\n",
                   cli_seconds(time, sizeof time, a->forecast_s), fm_recipe_output_dir(r));
        }
        if (cli_flags.json) {
            printf(n_shown ? "]\n" : "[]\n");
        }
        rc = s == FM_OK ? 0 : cli_fail(s);
        rc = s == FM_ERR_STATE && code != 0 ? code : rc;
    }
    fm_recipe_free(r);
    return rc;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    run_args a = {0};
    char **pos = calloc((size_t)argc + 1, sizeof *pos), **rest = calloc((size_t)argc + 1, sizeof *rest);
    int n = 0, n_rest = 0;
    if (!pos || !rest) {
        free(pos);
        free(rest);
        return cli_fail(FM_ERR_NO_MEMORY);
    }
    fm_status s = fm_options_init(&a, table);
    /* name=value words that are no options of this command are variables of the recipe. */
    for (int i = 0; s == FM_OK && i < argc; i++) {
        char key[64];
        size_t len = strcspn(argv[i], "=");
        bool var = argv[i][0] != '-' && argv[i][len] == '=' && len < sizeof key;
        snprintf(key, sizeof key, "%.*s", (int)(len < sizeof key ? len : 0), argv[i]);
        if (var && !has_option(table, key)) {
            s = fm_options_append(&a, table, "set", argv[i], "command line");
        } else {
            rest[n_rest++] = argv[i];
        }
    }
    int rc = s == FM_OK ? cli_parse(cmd, n_rest, rest, &a, pos, &n, 1, 1) : cli_fail(s);
    if (rc < 0) {
        rc = run_recipe(n ? pos[0] : "", &a);
    }
    fm_options_free(&a, table);
    free(pos);
    free(rest);
    return rc;
}

const cli_command cli_cmd_run = {
    .name = "run",
    .args = "RECIPE.yaml [name=value ...]",
    .summary = "Run the stages of a recipe; finished ones are kept, changed ones done again",
    .about =
        "A stage is done again when its options, the program's version or what it reads have changed, or its output "
        "is gone;\n--dry-run says which and why. A stage that failed or was interrupted is where the same command "
        "goes on.",
    .examples = "fathom run recipes/demo.yaml --dry-run\nfathom run recipes/demo.yaml --trial 1%\nfathom run "
                "recipes/demo.yaml output_dir=out/demo\n"
                "fathom run recipes/demo.yaml --from model",
    .options = options,
    .run = run,
};
