/* fathom data pack */
#include <string.h>

#include "cli/cli.h"
#include "cli/config.h"
#include "fathom/data.h"

static int64_t shown;

static void on_bad(void *user, const fm_bad_row *r) {
    (void)user;
    if (++shown <= 20) {
        cli_say("%s:%lld: %s", r->file, (long long)r->line, r->reason);
    }
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_pack_config *cfg = NULL;
    fm_status s = fm_pack_config_new(&cfg);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_inputs(cmd, argc, argv, cfg);
    if (rc < 0) {
        fm_pack_report r;
        memset(&r, 0, sizeof r);
        r.size = sizeof r;
        s = fm_data_pack(&r, cfg, on_bad, NULL);
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (s == FM_ERR_CANCELLED) {
            cli_say("To go on: the same command; finished files are not read again.");
        }
        if (s == FM_OK && cli_flags.json) {
            printf("{\"files\":%lld,\"rows\":%lld,\"bad\":%lld,\"documents\":%lld,\"tokens\":%lld,\"bytes\":%lld,"
                   "\"shards\":%lld,\"cut\":%lld,"
                   "\"split\":%lld,\"dropped\":%lld,\"eval_tokens\":%lld,\"eval_bytes\":%lld,\"seconds\":",
                   (long long)r.n_files, (long long)r.n_rows, (long long)r.n_bad, (long long)r.n_documents,
                   (long long)r.n_tokens, (long long)r.n_bytes, (long long)r.n_shards, (long long)r.n_cut,
                   (long long)r.n_split, (long long)r.n_dropped, (long long)r.n_eval_tokens, (long long)r.n_eval_bytes);
            cli_json_number(stdout, r.seconds);
            printf(",\"mb_per_s\":");
            cli_json_number(stdout, r.mb_per_s);
            printf("}\n");
        } else if (s == FM_OK) {
            char a[32], b[32];
            printf("%lld files, %lld rows (%lld bad, set aside): %lld documents, %s tokens from %s in %lld shards; "
                   "%lld cut, %lld split, %lld dropped",
                   (long long)r.n_files, (long long)r.n_rows, (long long)r.n_bad, (long long)r.n_documents,
                   cli_count(a, sizeof a, (double)r.n_tokens), cli_bytes(b, sizeof b, (double)r.n_bytes),
                   (long long)r.n_shards, (long long)r.n_cut, (long long)r.n_split, (long long)r.n_dropped);
            if (r.n_eval_tokens > 0) {
                printf("; %s tokens held out", cli_count(a, sizeof a, (double)r.n_eval_tokens));
            }
            printf(" (%.1f MB/s)\n", r.mb_per_s);
        }
    }
    fm_pack_config_free(cfg);
    return rc;
}

const cli_command cli_cmd_data_pack = {
    .name = "data pack",
    .args = "-i IN... -t TOKENIZER -o DIR [options]",
    .summary = "Turn text into memory-mapped token shards",
    .examples = "fathom data pack -i corpus.jsonl -t out/tok -o out/packed --val-size 0.02\n"
                "fathom data pack -i 'books/*.txt.gz' -t out/tok -o out/packed --txt-unit file",
    .options = fm_pack_options,
    .run = run,
};
