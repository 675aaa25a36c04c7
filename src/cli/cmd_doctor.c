/* fathom doctor */
#include <string.h>

#include "cli/cli.h"
#include "fathom/measure.h"

typedef struct doctor_args {
    char *dir;
} doctor_args;
static const fm_option table[] = {
    {.key = "dir",
     .type = FM_OPT_STR,
     .offset = offsetof(doctor_args, dir),
     .def = ".",
     .metavar = "DIR",
     .help = "Where the disk is tried."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

typedef struct state {
    char group[32];
    int n, n_slow;
} state;

static void on_fact(void *user, const fm_fact *f) {
    state *s = user;
    if (cli_flags.json) {
        printf("%s{\"group\":", s->n++ ? "," : "[");
        cli_json_string(stdout, f->group);
        printf(",\"name\":");
        cli_json_string(stdout, f->name);
        printf(",\"text\":");
        cli_json_string(stdout, f->text);
        printf(",\"value\":");
        cli_json_number(stdout, f->value);
        printf(",\"unit\":");
        cli_json_string(stdout, f->unit);
        printf(",\"slow\":%s}", f->slow ? "true" : "false");
        return;
    }
    if (strcmp(s->group, f->group) != 0) {
        printf("%s%s\n", s->n ? "\n" : "", f->group);
        snprintf(s->group, sizeof s->group, "%s", f->group);
    }
    s->n++;
    s->n_slow += f->slow;
    printf("  %-16s %s%s\n", f->name, f->text, f->slow ? "   <- slow" : "");
    fflush(stdout);
}

static int run(const cli_command *cmd, int argc, char **argv) {
    doctor_args a;
    char *pos[16];
    int n = 0;
    fm_status s = fm_options_init(&a, table);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 16 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 0, 0);
    if (rc < 0) {
        state st = {0};
        s = fm_doctor(a.dir, on_fact, &st);
        if (cli_flags.json) {
            printf("%s]\n", st.n ? "" : "[");
        }
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (rc == 0 && !cli_flags.json) {
            printf("\n%s\n", st.n_slow ? "Lines marked 'slow' say what will slow runs down, and why."
                                       : "Nothing here will slow runs down.");
        }
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_doctor = {
    .name = "doctor",
    .args = "[--dir DIR]",
    .summary = "Show CPU, kernels, memory, disk and libraries, measured; say what will be slow",
    .examples = "fathom doctor\nfathom doctor --json",
    .options = options,
    .run = run,
};
