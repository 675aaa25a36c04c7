/* fathom data ngram */
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

static void print_text(const fm_ngram_result *r) {
    char b[32];
    printf("%lld rows (%lld bad), %lld lines, %lld units; %s in %.1f s\n", (long long)r->n_rows, (long long)r->n_bad,
           (long long)r->n_lines, (long long)r->n_units, cli_bytes(b, sizeof b, (double)r->n_bytes), r->seconds);
    printf("%5s %14s %14s   discounts for counts of 1, 2, more\n", "order", "n-grams", "kept");
    for (int n = 0; n < r->order; n++) {
        printf("%5d %14lld %14lld   %.4f %.4f %.4f%s\n", n + 1, (long long)r->at[n].n_seen, (long long)r->at[n].n_kept,
               r->at[n].discount[0], r->at[n].discount[1], r->at[n].discount[2],
               r->at[n].guessed ? " (usual values: too little text to compute them)" : "");
    }
    if (r->n_held) {
        printf("%lld rows held out: perplexity %.2f", (long long)r->n_held, r->perplexity);
        if (r->median > 0) {
            printf(", median row %.2f\n", r->median);
        } else {
            printf("; too few (100) to say what is usual, so that rows get no fluency\n");
        }
    }
}

static void print_json(const fm_ngram_result *r) {
    printf("{\"rows\":%lld,\"bad\":%lld,\"lines\":%lld,\"units\":%lld,\"bytes\":%lld,\"held_out\":%lld,"
           "\"perplexity\":%.6g,\"median\":%.6g,\"seconds\":%.3f,\"orders\":[",
           (long long)r->n_rows, (long long)r->n_bad, (long long)r->n_lines, (long long)r->n_units,
           (long long)r->n_bytes, (long long)r->n_held, r->perplexity, r->median, r->seconds);
    for (int n = 0; n < r->order; n++) {
        printf("%s{\"ngrams\":%lld,\"kept\":%lld,\"discounts\":[%.9g,%.9g,%.9g],\"guessed\":%s}", n ? "," : "",
               (long long)r->at[n].n_seen, (long long)r->at[n].n_kept, r->at[n].discount[0], r->at[n].discount[1],
               r->at[n].discount[2], r->at[n].guessed ? "true" : "false");
    }
    printf("]}\n");
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_ngram_config *cfg = NULL;
    fm_status s = fm_ngram_config_new(&cfg);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_inputs(cmd, argc, argv, cfg);
    if (rc < 0) {
        fm_ngram_result r = {.size = sizeof r};
        s = fm_ngram_run(&r, cfg, on_bad, NULL);
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (s == FM_OK) {
            (cli_flags.json ? print_json : print_text)(&r);
        }
    }
    fm_ngram_config_free(cfg);
    return rc;
}

const cli_command cli_cmd_data_ngram = {
    .name = "data ngram",
    .args = "-i IN... -o MODEL",
    .summary = "Train an n-gram language model, for data perplexity",
    .examples = "fathom data ngram -i wiki.jsonl.zst -o wiki.ngram\n"
                "fathom data ngram -i 'zh/*.txt' -o zh.ngram --order 4 --prune 0,0,1,2 --memory 4GiB",
    .options = fm_ngram_options,
    .run = run,
};
