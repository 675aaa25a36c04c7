/* fathom data freeze */
#include <string.h>

#include "cli/cli.h"
#include "fathom/data.h"

typedef struct freeze_args {
    char *output, *rest, *topic, *question, *format;
    int64_t rows, seed;
    fm_strlist against;
} freeze_args;

static const fm_option table[] = {
    {.key = "output",
     .type = FM_OPT_STR,
     .offset = offsetof(freeze_args, output),
     .aliases = "o",
     .metavar = "FILE.jsonl",
     .help = "The test set; FILE.jsonl.frozen.json beside it keeps its hash and what each row asks."},
    {.key = "rest",
     .type = FM_OPT_STR,
     .offset = offsetof(freeze_args, rest),
     .metavar = "FILE.jsonl",
     .help = "The other rows, for training, without those that ask what the test set asks."},
    {.key = "rows",
     .type = FM_OPT_INT,
     .offset = offsetof(freeze_args, rows),
     .def = "0",
     .max = 1e12,
     .metavar = "N",
     .help = "Rows to draw; 0 = all."},
    {.key = "topic",
     .type = FM_OPT_STR,
     .offset = offsetof(freeze_args, topic),
     .metavar = "COLUMN",
     .help = "Each value of this column gets its share of the drawn rows, as each quarter of lengths does."},
    {.key = "against",
     .type = FM_OPT_LIST,
     .offset = offsetof(freeze_args, against),
     .metavar = "FILES",
     .help = "Rows that models learned from already: a row that asks what one of these asks is not drawn."},
    {.key = "question",
     .type = FM_OPT_STR,
     .offset = offsetof(freeze_args, question),
     .metavar = "COLUMN",
     .help = "What a row asks; else question, prompt, instruction, query, text, sentence, messages or conversations."},
    {.key = "format",
     .type = FM_OPT_STR,
     .offset = offsetof(freeze_args, format),
     .def = "auto",
     .metavar = "NAME",
     .help = "Format of the rows (`fathom data list` names them)."},
    {.key = "seed",
     .type = FM_OPT_INT,
     .offset = offsetof(freeze_args, seed),
     .def = "42",
     .max = 9e15,
     .help = "Of the draw."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    freeze_args a = {0};
    char *pos[64] = {0};
    int n = 0;
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 1, 64);
    if (rc >= 0) {
        return rc;
    }
    if (!a.output) {
        fm_options_free(&a, table);
        return cli_usage(cmd, "no output file: -o FILE.jsonl");
    }
    fm_freeze_report r = {.size = sizeof r};
    fm_freeze_options o = {.size = sizeof o,
                           .input = (const char *const *)pos,
                           .n_input = (size_t)n,
                           .format = a.format,
                           .output = a.output,
                           .rest = a.rest,
                           .topic = a.topic,
                           .question = a.question,
                           .against = (const char *const *)a.against.item,
                           .n_against = a.against.n,
                           .rows = a.rows,
                           .seed = (uint64_t)a.seed};
    fm_status s = fm_data_freeze(&r, &o);
    rc = s == FM_OK ? 0 : cli_fail(s);
    if (rc == 0 && cli_flags.json) {
        printf("{\"rows\":%lld,\"test\":%lld,\"rest\":%lld,\"duplicates\":%lld,\"known\":%lld,\"hash\":\"%s\"}\n",
               (long long)r.n_rows, (long long)r.n_test, (long long)r.n_rest, (long long)r.n_duplicates,
               (long long)r.n_known, r.hash);
    } else if (rc == 0) {
        printf("%lld rows: %lld frozen (hash %s), %lld left for training, %lld that ask the same left out\n",
               (long long)r.n_rows, (long long)r.n_test, r.hash, (long long)r.n_rest, (long long)r.n_duplicates);
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_data_freeze = {
    .name = "data freeze",
    .args = "ROWS ... -o TEST.jsonl [--rest TRAIN.jsonl] [--rows N] [--topic COLUMN]",
    .summary = "Draw a test set from your rows and freeze it: training refuses its rows, evaluation a changed file",
    .examples = "fathom data freeze rows.csv -o test.jsonl --rest train.jsonl --rows 500 --topic category\n"
                "fathom data freeze mytest.jsonl -o test.jsonl",
    .options = options,
    .run = run,
};
