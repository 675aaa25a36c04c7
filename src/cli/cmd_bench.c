/* fathom bench */
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "fathom/measure.h"

static void on_line(void *user, const fm_bench_line *l) {
    (void)user;
    cli_ui_clear();
    if (cli_flags.json) {
        printf("{\"name\":");
        cli_json_string(stdout, l->name);
        printf(",\"value\":");
        cli_json_number(stdout, l->value);
        printf(",\"unit\":");
        cli_json_string(stdout, l->unit);
        printf(",\"ratio\":");
        cli_json_number(stdout, l->ratio);
        printf(",\"limit\":");
        cli_json_string(stdout, l->limit);
        printf("}\n");
    } else if (isfinite(l->ratio)) {
        printf("%-36s %12.4g %-10s %6.1f%% of %s\n", l->name, l->value, l->unit, 100 * l->ratio, l->limit);
    } else {
        printf("%-36s %12.4g %s\n", l->name, l->value, l->unit);
    }
    fflush(stdout);
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_bench_options o;
    char *pos[64] = {0};
    int n = 0;
    const fm_option *table = fm_bench_option_table();
    fm_status s = fm_options_init(&o, table);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &o, pos, &n, 1, 1);
    if (rc < 0 && n > 0) {
        bool all = strcmp(pos[0], "all") == 0, found = all;
        for (int i = 0; i < fm_bench_count(); i++) {
            found = found || strcmp(fm_bench_name(i), pos[0]) == 0;
        }
        if (!found) {
            rc = cli_usage(cmd, "there is no benchmark '%s'", pos[0]);
        } else if (o.coverage) {
            char *text = NULL;
            s = fm_bench_coverage(&text);
            if (text) {
                fputs(text, stdout);
            }
            fm_string_free(text);
            rc = s == FM_OK ? 0 : cli_fail(s);
        } else {
            for (int i = 0; i < fm_bench_count() && s == FM_OK && !fm_cancelled(); i++) {
                if (all || strcmp(fm_bench_name(i), pos[0]) == 0) {
                    s = fm_bench_run(fm_bench_name(i), &o, on_line, NULL);
                }
            }
            rc = s == FM_OK ? (fm_cancelled() ? 130 : 0) : cli_fail(s);
        }
    }
    fm_options_free(&o, table);
    return rc;
}

const cli_command cli_cmd_bench = {
    .name = "bench",
    .args = "matmul|ops|train|decode|prefill|serve|eval|tokenizer|data|all [options]",
    .summary = "Measure speed against the limits of this machine",
    .about =
        "Each line: name, value, unit, ratio to the limit measured in the same run. Nothing else should run meanwhile.",
    .examples =
        "fathom bench train --shape b --dtype bf16\nfathom bench matmul --seconds 2\nfathom bench ops --coverage\n"
        "fathom bench serve --model out.gguf --check 200",
    .options = fm_bench_option_table,
    .run = run,
};
