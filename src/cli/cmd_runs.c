/* fathom runs list, show, compare, report, tag, rm: one file, as they differ in a line each. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "fathom/data.h"
#include "fathom/runs.h"

typedef struct runs_args {
    char *registry, *kind, *status, *tag, *input, *output, *row, *name, *since, *sort;
    int64_t limit;
} runs_args;

#define F(k) .key = #k, .offset = offsetof(runs_args, k)
#define REGISTRY                                                                                                       \
    {                                                                                                                  \
        F(registry), .type = FM_OPT_STR, .metavar = "FILE",                                                            \
                     .help = "The registry; else $FATHOM_REGISTRY, else ~/.local/share/fathom/runs.db."                \
    }
static const fm_option list_table[] = {
    {F(kind), .type = FM_OPT_STR, .help = "Only train, eval or run."},
    {F(status), .type = FM_OPT_STR, .help = "Only running, done, failed or interrupted."},
    {F(tag), .type = FM_OPT_STR, .help = "Only runs with this tag."},
    {F(input), .type = FM_OPT_STR, .metavar = "PATH|HASH",
     .help = "Only runs that read or wrote this file or folder: from data to the models trained on it."},
    {F(row), .type = FM_OPT_STR, .metavar = "TEXT",
     .help = "Only runs whose data has a row with this text in a column, and those that went on from their models."},
    {F(name), .type = FM_OPT_STR, .metavar = "TEXT", .help = "Only runs with this in their name."},
    {F(since), .type = FM_OPT_STR, .metavar = "TIME", .help = "Only runs from then on: 2026-11-02, or 7d, 12h ago."},
    {F(sort), .type = FM_OPT_STR, .metavar = "FIGURE",
     .help = "By a figure, seconds or name, smallest first; --sort=-acc: largest first. Else newest first."},
    {F(limit), .type = FM_OPT_INT, .def = "50", .min = 0, .max = 1e9, .help = "Newest runs to list; 0 = all."},
    REGISTRY,
    {0},
};
static const fm_option plain_table[] = {REGISTRY, {0}};
static const fm_option compare_table[] = {
    {F(output), .type = FM_OPT_STR, .aliases = "o", .metavar = "FILE.html",
     .help = "A page with curves over each other instead of the table."},
    REGISTRY,
    {0},
};
static const fm_option report_table[] = {
    {F(output), .type = FM_OPT_STR, .aliases = "o", .metavar = "FILE.html",
     .help = "Where the page goes; without it to standard output."},
    REGISTRY,
    {0},
};
#undef F
static const fm_option *list_options(void) {
    return list_table;
}
static const fm_option *plain_options(void) {
    return plain_table;
}
static const fm_option *compare_options(void) {
    return compare_table;
}
static const fm_option *report_options(void) {
    return report_table;
}

/* What a command does with the registry; *json is printed. */
typedef fm_status (*action)(char **json, fm_registry *r, const runs_args *a, char **pos, int n);

static int perform(const cli_command *cmd, int argc, char **argv, int min, int max, action act) {
    runs_args a = {0};
    char *json = NULL, **pos = calloc((size_t)argc + 1, sizeof *pos);
    fm_registry *r = NULL;
    int n = 0;
    fm_status s = fm_options_init(&a, cmd->options());
    int rc = !pos ? 1 : s == FM_OK ? cli_parse(cmd, argc, argv, &a, pos, &n, min, max) : cli_fail(s);
    if (rc < 0) {
        s = fm_registry_open(&r, a.registry, false);
        s = s == FM_OK ? act(&json, r, &a, pos, n) : s;
        rc = cli_report(s, json, fm_registry_text);
    }
    fm_registry_close(r);
    fm_options_free(&a, cmd->options());
    free(pos);
    return rc;
}

static fm_status has_row(void *user, const char *path, bool *has) {
    return fm_data_has_row(has, path, user);
}

static fm_status do_list(char **json, fm_registry *r, const runs_args *a, char **pos, int n) {
    int64_t unknown = 0;
    (void)pos;
    (void)n;
    fm_status s = fm_registry_list(json, r,
                                   &(fm_run_filter){.kind = a->kind,
                                                    .status = a->status,
                                                    .tag = a->tag,
                                                    .input = a->input,
                                                    .limit = a->limit,
                                                    .name = a->name,
                                                    .since = a->since,
                                                    .sort = a->sort,
                                                    .has_row = a->row ? has_row : NULL,
                                                    .user = a->row,
                                                    .n_unknown = &unknown});
    if (s == FM_OK && unknown > 0) {
        cli_say("%lld data files are gone or have changed since they were read: they may have had the row",
                (long long)unknown);
    }
    return s;
}
static fm_status do_show(char **json, fm_registry *r, const runs_args *a, char **pos, int n) {
    (void)a;
    (void)n;
    return fm_registry_show(json, r, pos[0]);
}
static fm_status write_page(const char *html, const char *path) {
    FILE *f = path ? fopen(path, "wb") : stdout;
    bool ok = f && fputs(html, f) >= 0;
    if (f && f != stdout) {
        ok = fclose(f) == 0 && ok;
    }
    if (!ok) {
        fprintf(stderr, "fathom: cannot write %s\n", path ? path : "the page");
    }
    return ok ? FM_OK : FM_ERR_IO;
}
static fm_status do_compare(char **json, fm_registry *r, const runs_args *a, char **pos, int n) {
    char *html = NULL;
    if (!a->output) {
        return fm_registry_compare(json, r, (const char *const *)pos, n);
    }
    fm_status s = fm_registry_compare_html(&html, r, (const char *const *)pos, n);
    s = s == FM_OK ? write_page(html, a->output) : s;
    fm_string_free(html);
    return s;
}
static fm_status do_report(char **json, fm_registry *r, const runs_args *a, char **pos, int n) {
    char *html = NULL;
    (void)json;
    (void)n;
    fm_status s = fm_registry_html(&html, r, pos[0]);
    s = s == FM_OK ? write_page(html, a->output) : s;
    fm_string_free(html);
    return s;
}
static fm_status do_tag(char **json, fm_registry *r, const runs_args *a, char **pos, int n) {
    (void)json;
    (void)a;
    (void)n;
    return fm_registry_tag(r, pos[0], pos[1]);
}
static fm_status do_rm(char **json, fm_registry *r, const runs_args *a, char **pos, int n) {
    (void)json;
    (void)a;
    fm_status s = FM_OK;
    for (int i = 0; i < n && s == FM_OK; i++) {
        s = fm_registry_remove(r, pos[i]);
    }
    return s;
}

static int run_list(const cli_command *cmd, int argc, char **argv) {
    return perform(cmd, argc, argv, 0, 0, do_list);
}
static int run_show(const cli_command *cmd, int argc, char **argv) {
    return perform(cmd, argc, argv, 1, 1, do_show);
}
static int run_compare(const cli_command *cmd, int argc, char **argv) {
    return perform(cmd, argc, argv, 2, 32, do_compare);
}
static int run_report(const cli_command *cmd, int argc, char **argv) {
    return perform(cmd, argc, argv, 1, 1, do_report);
}
static int run_tag(const cli_command *cmd, int argc, char **argv) {
    return perform(cmd, argc, argv, 2, 2, do_tag);
}
static int run_rm(const cli_command *cmd, int argc, char **argv) {
    return perform(cmd, argc, argv, 1, 1000, do_rm);
}

const cli_command cli_cmd_runs_list = {
    .name = "runs list",
    .args = "[options]",
    .summary = "List the runs of the local registry, newest first",
    .about = "Training and evaluation write themselves into the registry; FATHOM_REGISTRY=none turns it off.",
    .examples = "fathom runs list --kind train --status done\nfathom runs list --input corpus.jsonl\n"
                "fathom runs list --kind eval --since 7d --sort=-acc\n"
                "fathom runs list --row 'What are the symptoms of gout?'",
    .options = list_options,
    .run = run_list,
};
const cli_command cli_cmd_runs_show = {
    .name = "runs show",
    .args = "RUN",
    .summary = "Show a run: configuration, code, machine, inputs, results",
    .about = "RUN is a number, a tag, or a name (the newest of that name).",
    .examples = "fathom runs show 12\nfathom runs show production --json",
    .options = plain_options,
    .run = run_show,
};
const cli_command cli_cmd_runs_compare = {
    .name = "runs compare",
    .args = "RUN RUN... [-o FILE.html]",
    .summary = "Show where configurations and results of runs differ",
    .examples = "fathom runs compare 11 12\nfathom runs compare 11 12 13 -o compare.html",
    .options = compare_options,
    .run = run_compare,
};
const cli_command cli_cmd_runs_report = {
    .name = "runs report",
    .args = "RUN [-o FILE.html]",
    .summary = "Write a run as one HTML page that needs no network",
    .examples = "fathom runs report 12 -o run12.html",
    .options = report_options,
    .run = run_report,
};
const cli_command cli_cmd_runs_tag = {
    .name = "runs tag",
    .args = "RUN TAG",
    .summary = "Give a run a tag, or take it away: 'runs tag 12 -- -old'",
    .examples = "fathom runs tag 12 production",
    .options = plain_options,
    .run = run_tag,
};
const cli_command cli_cmd_runs_rm = {
    .name = "runs rm",
    .args = "RUN...",
    .summary = "Forget runs; their files stay",
    .examples = "fathom runs rm 3 4",
    .options = plain_options,
    .run = run_rm,
};
