/* fathom data check */
#include <string.h>

#include "cli/cli.h"
#include "cli/config.h"
#include "fathom/data.h"

static int64_t shown;

static void on_bad(void *user, const fm_bad_row *r) {
    (void)user;
    if (cli_flags.json) {
        printf("{\"file\":");
        cli_json_string(stdout, r->file);
        printf(",\"line\":%lld,\"reason\":", (long long)r->line);
        cli_json_string(stdout, r->reason);
        printf("}\n");
    } else if (++shown <= 100) {
        cli_ui_clear();
        printf("%s:%lld: %s\n", r->file, (long long)r->line, r->reason);
    }
}

/* Answers in green, what is cut off in red; without colours answers stand between marks. */
static void on_row(void *user, const fm_shown_row *r) {
    (void)user;
    if (cli_flags.json) {
        return;
    }
    bool colour = cli_is_tty(stdout);
    int state = 0; /* 1 = trained, 2 = cut */
    static const char *const begin[] = {"\033[0m", "\033[32m", "\033[31m"}, *const mark[] = {"", "⟦", "⟨"},
                             *const end[] = {"", "⟧", "⟩"};
    cli_ui_clear();
    printf("--- %s:%lld, %zu tokens\n", r->file, (long long)r->line, r->n);
    for (size_t i = 0; i <= r->n; i++) {
        int now = i == r->n ? 0 : r->token[i].cut ? 2 : r->token[i].trained;
        if (now != state) {
            fputs(colour ? begin[now] : end[state], stdout);
            fputs(colour ? "" : mark[now], stdout);
            state = now;
        }
        if (i < r->n) {
            fwrite(r->token[i].text, 1, r->token[i].len, stdout);
        }
    }
    printf("\n    ids:");
    for (size_t i = 0; i < r->n; i++) {
        printf(" %d%s", (int)r->token[i].id, r->token[i].cut ? "!" : r->token[i].trained ? "*" : "");
    }
    printf("\n");
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_check_config *cfg = NULL;
    fm_status s = fm_check_config_new(&cfg);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_inputs(cmd, argc, argv, cfg);
    if (rc < 0) {
        fm_check_report r;
        memset(&r, 0, sizeof r);
        r.size = sizeof r;
        bool chat = fm_check_config_is_chat(cfg);
        s = chat ? fm_data_check_chat(&r, cfg, on_bad, on_row, NULL) : fm_data_check(&r, cfg, on_bad, NULL);
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (s == FM_OK && cli_flags.json) {
            printf("{\"files\":%lld,\"rows\":%lld,\"bad\":%lld,\"empty\":%lld,\"bytes\":%lld,\"chars\":%lld,\"tokens\":"
                   "%lld,\"cut_rows\":%lld,"
                   "\"cut_tokens\":%lld,\"loss_tokens\":%lld,\"longest_tokens\":%lld,\"longest_line\":%lld,"
                   "\"classes\":%lld,\"largest_class_rows\":%lld,\"smallest_class_rows\":%lld}\n",
                   (long long)r.n_files, (long long)r.n_rows, (long long)r.n_bad, (long long)r.n_empty,
                   (long long)r.n_bytes, (long long)r.n_chars, (long long)r.n_tokens, (long long)r.n_cut,
                   (long long)r.n_cut_tokens, (long long)r.n_loss_tokens, (long long)r.longest_tokens,
                   (long long)r.longest_line, (long long)r.n_classes, (long long)r.most_rows, (long long)r.least_rows);
        } else if (s == FM_OK) {
            char b[32];
            if (shown > 100) {
                printf("... and %lld more bad rows (--json lists all)\n", (long long)(shown - 100));
            }
            printf("%lld files, %lld rows, %s of text: %lld bad, %lld empty\n", (long long)r.n_files,
                   (long long)r.n_rows, cli_bytes(b, sizeof b, (double)r.n_bytes), (long long)r.n_bad,
                   (long long)r.n_empty);
            if (r.n_tokens > 0) {
                printf("%lld tokens, %lld carry loss; %lld rows longer than cutoff_len lose %lld tokens; longest row "
                       "%lld tokens (line %lld)\n",
                       (long long)r.n_tokens, (long long)r.n_loss_tokens, (long long)r.n_cut, (long long)r.n_cut_tokens,
                       (long long)r.longest_tokens, (long long)r.longest_line);
            }
            if (r.n_classes > 1) {
                double ratio = (double)r.most_rows / (double)r.least_rows;
                printf("%lld classes, from %lld rows ('%s') to %lld ('%s')\n", (long long)r.n_classes,
                       (long long)r.least_rows, r.least_class, (long long)r.most_rows, r.most_class);
                if (ratio > 3) {
                    printf("warning: the largest class has %.1f times the rows of the smallest (more than 3:1)\n",
                           ratio);
                }
            }
        }
    }
    fm_check_config_free(cfg);
    return rc;
}

const cli_command cli_cmd_data_check = {
    .name = "data check",
    .args = "PATH... [options]",
    .summary = "Read data as training would and report each bad row with file, line and reason",
    .examples =
        "fathom data check chats.jsonl --tokenizer MODEL --template auto --cutoff-len 1024   # tokens with * carry "
        "loss, with ! are cut off\n"
        "fathom data check corpus.jsonl\nfathom data check qa.csv --text-template '{question} {answer}' "
        "--tokenizer out/tok --cutoff-len 512\n"
        "zcat big.jsonl.gz | fathom data check - --format jsonl --json",
    .options = fm_check_options,
    .run = run,
};
