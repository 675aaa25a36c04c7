/* fathom tokenizer decode */
#include <string.h>

#include "cli/cli.h"
#include "fathom/jsonl.h"
#include "fathom/tokenizer.h"

typedef struct decode_args {
    bool skip_special;
} decode_args;

static const fm_option table[] = {
    {.key = "skip_special",
     .type = FM_OPT_BOOL,
     .offset = offsetof(decode_args, skip_special),
     .help = "Leave special tokens out."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    decode_args a = {0};
    char *pos[64] = {0};
    int n = 0;
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 1, 1);
    if (rc >= 0) {
        return rc;
    }
    fm_tokenizer *t = NULL;
    fm_status s = fm_tokenizer_open(&t, pos[0]);
    fm_decode_options o = {.size = sizeof o, .skip_special = a.skip_special};
    size_t len, line_no = 0;
    char *line;
    while (s == FM_OK && !fm_cancelled() && (line = cli_read_line(stdin, &len))) {
        char name[64], *text = NULL;
        int32_t *ids = NULL;
        size_t n_ids = 0, n_text = 0;
        snprintf(name, sizeof name, "standard input:%zu", ++line_no);
        if (len == 0) {
            continue;
        }
        s = fm_jsonl_ids(&ids, &n_ids, line, len, "ids", name);
        if (s == FM_OK) {
            s = fm_tokenizer_decode(&text, &n_text, t, ids, n_ids, &o);
        }
        if (s == FM_OK) {
            fputs("{\"text\":", stdout);
            cli_json_bytes(stdout, text, n_text);
            fputs("}\n", stdout);
        }
        fm_string_free(text);
        fm_ids_free(ids);
    }
    rc = s == FM_OK ? (fm_cancelled() ? 130 : 0) : cli_fail(s);
    fm_tokenizer_free(t);
    return rc;
}

const cli_command cli_cmd_tokenizer_decode = {
    .name = "tokenizer decode",
    .args = "TOKENIZER [--skip-special]",
    .summary = "Decode JSONL {\"ids\":[...]} from standard input to {\"text\":...}",
    .examples = "echo '{\"ids\":[318,257]}' | fathom tokenizer decode out/tok",
    .options = options,
    .run = run,
};
