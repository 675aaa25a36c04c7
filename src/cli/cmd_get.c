/* fathom get */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "fathom/get.h"

static bool first = true;

static void on_file(void *user, const char *path, int64_t bytes) {
    char b[32];
    (void)user;
    if (cli_flags.json) {
        printf("%s{\"path\":", first ? "" : ",");
        cli_json_string(stdout, path);
        if (bytes < 0) {
            printf(",\"bytes\":null}");
        } else {
            printf(",\"bytes\":%lld}", (long long)bytes);
        }
    } else {
        printf("%12s  %s\n", bytes < 0 ? "?" : cli_bytes(b, sizeof b, (double)bytes), path);
    }
    first = false;
}

static void report(const char *name, const fm_get_options *o, const fm_get_result *r) {
    char a[32], b[32];
    if (cli_flags.json) {
        printf("%s\"name\":", o->list ? "]," : "{");
        cli_json_string(stdout, name);
        printf(",\"commit\":");
        cli_json_string(stdout, r->commit);
        printf(",\"output\":");
        cli_json_string(stdout, o->list ? NULL : r->output);
        printf(",\"files\":%lld,\"bytes\":%lld,\"fetched_files\":%lld,\"fetched_bytes\":%lld,\"skipped_files\":%lld,"
               "\"pack_bytes\":%lld}\n",
               (long long)r->n_files, (long long)r->n_bytes, (long long)r->n_fetched, (long long)r->fetched_bytes,
               (long long)r->n_skipped, (long long)r->pack_bytes);
        return;
    }
    if (o->list) {
        printf("%12s  in %lld files, commit %s\n", cli_bytes(a, sizeof a, (double)r->n_bytes), (long long)r->n_files,
               r->commit);
    } else {
        printf("%s: %lld files, %s, commit %s; %s in this run\n", r->output, (long long)r->n_files,
               cli_bytes(a, sizeof a, (double)r->n_bytes), r->commit, cli_bytes(b, sizeof b, (double)r->fetched_bytes));
    }
    if (o->pack && !o->list) {
        printf("%s: %s\n", o->pack, cli_bytes(a, sizeof a, (double)r->pack_bytes));
    }
    if (r->n_skipped) {
        cli_say("%lld files of other frameworks left out (--include '*' takes them)", (long long)r->n_skipped);
    }
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_get_options o;
    fm_get_result r;
    char *pos[64];
    int n = 0;
    if (argc > 64) {
        return cli_usage(cmd, "too many arguments");
    }
    memset(&o, 0, sizeof o);
    fm_status s = fm_options_init(&o, fm_get_option_table());
    if (s != FM_OK) {
        return cli_fail(s);
    }
    o.size = sizeof o;
    int rc = cli_parse(cmd, argc, argv, &o, pos, &n, 1, 1);
    if (rc < 0) {
        if (o.list && cli_flags.json) {
            printf("{\"list\":[");
        }
        s = fm_get(&r, pos[0], &o, on_file, NULL);
        if (s == FM_OK) {
            report(pos[0], &o, &r);
        }
        rc = s == FM_OK ? 0 : cli_fail(s);
    }
    fm_options_free(&o, fm_get_option_table());
    return rc;
}

const cli_command cli_cmd_get = {
    .name = "get",
    .args = "OWNER/NAME [options]",
    .summary = "Fetch a model or data set from a Hugging Face-compatible hub or mirror",
    .about =
        "Files are checked against the hub's hashes; the same command continues where one stopped. HF_ENDPOINT and\n"
        "HF_TOKEN are honoured; the token goes to that host only.",
    .examples = "fathom get Qwen/Qwen2.5-0.5B-Instruct\n"
                "fathom get deepseek-ai/deepseek-llm-7b-chat --revision main -o models/7b\n"
                "fathom get owner/data --type dataset --include '*.jsonl'\n"
                "fathom get Qwen/Qwen3-0.6B --pack qwen.tar\n"
                "fathom get Qwen/Qwen3-0.6B --list --endpoint https://hub.example.org",
    .options = fm_get_option_table,
    .run = run,
};
