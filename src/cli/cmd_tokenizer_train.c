/* fathom tokenizer train */
#include <stdlib.h>
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

static void print_text(const fm_tokenizer_train_result *r) {
    char b[32];
    printf("%d entries from %s in %lld rows (%lld bad): %lld different words, %lld merges, %.2f s\n", r->vocab_size,
           cli_bytes(b, sizeof b, (double)r->info.n_bytes), (long long)r->n_rows, (long long)r->n_bad,
           (long long)r->info.n_unique, (long long)r->info.n_merges, r->info.count_s + r->info.merge_s);
    if (r->info.prune_threshold > 0) {
        printf("not exact: words seen at most %lld times may have been dropped (%lld occurrences); a larger max_memory "
               "avoids it\n",
               (long long)r->info.prune_threshold, (long long)r->info.n_pruned);
    }
    if (r->n_report > 0) {
        printf("\n%10s %9s %9s %9s %9s %9s %9s %12s   characters per token; held-out rows\n", "size", "all", "en", "zh",
               "other", "bytes", "unused", "embedding");
    }
    for (int i = 0; i < r->n_report; i++) {
        const fm_tokenizer_report_row *w = &r->report[i];
        printf("%10lld %9.3f %9.3f %9.3f %9.3f %8.2f%% %9lld %12s\n", (long long)w->vocab_size, w->chars_per_token_all,
               w->chars_per_token[FM_TEXT_EN], w->chars_per_token[FM_TEXT_ZH], w->chars_per_token[FM_TEXT_OTHER],
               100 * w->byte_fallback_rate, (long long)w->n_unused,
               cli_count(b, sizeof b, (double)w->embedding_params));
    }
}

static void print_json(const fm_tokenizer_train_result *r) {
    printf("{\"vocab_size\":%d,\"rows\":%lld,\"bad\":%lld,\"bytes\":%lld,\"unique\":%lld,\"merges\":%lld,\"prune_"
           "threshold\":%lld,\"pruned\":%lld,"
           "\"seconds\":%.3f,\"report\":[",
           r->vocab_size, (long long)r->n_rows, (long long)r->n_bad, (long long)r->info.n_bytes,
           (long long)r->info.n_unique, (long long)r->info.n_merges, (long long)r->info.prune_threshold,
           (long long)r->info.n_pruned, r->info.count_s + r->info.merge_s);
    for (int i = 0; i < r->n_report; i++) {
        const fm_tokenizer_report_row *w = &r->report[i];
        printf("%s{\"vocab_size\":%lld,\"chars_per_token\":%.5f,\"byte_fallback_rate\":%.6f,\"unused\":%lld,"
               "\"embedding_params\":%lld",
               i ? "," : "", (long long)w->vocab_size, w->chars_per_token_all, w->byte_fallback_rate,
               (long long)w->n_unused, (long long)w->embedding_params);
        for (int k = 0; k < FM_TEXT_CLASS_COUNT; k++) {
            printf(",\"chars_per_token_%s\":%.5f", fm_text_class_name((fm_text_class)k), w->chars_per_token[k]);
        }
        printf("}");
    }
    printf("]}\n");
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_tokenizer_train_config *cfg = NULL;
    fm_status s = fm_tokenizer_train_config_new(&cfg);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_inputs(cmd, argc, argv, cfg);
    if (rc < 0) {
        fm_tokenizer_train_result *r = calloc(1, sizeof *r);
        if (!r) {
            rc = 1;
        } else {
            r->size = sizeof *r;
            s = fm_tokenizer_train_run(r, cfg, on_bad, NULL);
            rc = s == FM_OK ? 0 : cli_fail(s);
            if (s == FM_OK) {
                (cli_flags.json ? print_json : print_text)(r);
            }
            free(r);
        }
    }
    fm_tokenizer_train_config_free(cfg);
    return rc;
}

const cli_command cli_cmd_tokenizer_train = {
    .name = "tokenizer train",
    .args = "-i IN... -o DIR --vocab-size N",
    .summary = "Train a byte-level BPE tokenizer",
    .examples =
        "fathom tokenizer train -i corpus.jsonl -o out/tok --vocab-size 16384\n"
        "fathom tokenizer train -i 'books/*.txt.gz' -o out/tok --vocab-size 32000 --report 4k,8k,16k,32k --d-model 768",
    .options = fm_tokenizer_train_options,
    .run = run,
};
