/* fathom tokenizer encode */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/rows.h"
#include "fathom/jsonl.h"
#include "fathom/tokenizer.h"

typedef struct encode_args {
    bool special;
    int64_t threads;
} encode_args;

static const fm_option table[] = {
    {.key = "special",
     .type = FM_OPT_BOOL,
     .offset = offsetof(encode_args, special),
     .help = "Add BOS and EOS as the model does, and read special tokens in the text as such."},
    CLI_ROW_THREADS(encode_args),
    {0},
};
static const fm_option *options(void) {
    return table;
}

/* Lines are encoded in batches on all threads and printed in order. */
#define BATCH_TEXTS 1024
#define BATCH_BYTES ((size_t)8 << 20)

typedef struct batch {
    fm_text text[BATCH_TEXTS];
    size_t n, bytes;
} batch;

static fm_status flush_batch(batch *b, const fm_tokenizer *t, const fm_encode_options *o) {
    fm_token_batch out = {0};
    fm_status s = fm_tokenizer_encode_batch(&out, t, b->text, b->n, o);
    for (size_t i = 0; s == FM_OK && i < b->n; i++) {
        fputs("{\"ids\":[", stdout);
        for (size_t k = out.offset[i]; k < out.offset[i + 1]; k++) {
            printf(k == out.offset[i] ? "%d" : ",%d", out.ids[k]);
        }
        fputs("]}\n", stdout);
    }
    fm_token_batch_free(&out);
    for (size_t i = 0; i < b->n; i++) {
        fm_string_free((char *)(uintptr_t)b->text[i].ptr);
    }
    b->n = b->bytes = 0;
    return s;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    encode_args a;
    char *pos[64] = {0};
    int n = 0;
    fm_status s = fm_options_init(&a, table);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 1, 1);
    if (rc >= 0) {
        return rc;
    }
    fm_tokenizer *t = NULL;
    s = fm_tokenizer_open(&t, pos[0]);
    batch *b = calloc(1, sizeof *b);
    fm_encode_options o = {
        .size = sizeof o, .allow_special = a.special, .add_special = a.special, .n_threads = (int)a.threads};
    size_t len, line_no = 0;
    char *line;
    while (s == FM_OK && b && !fm_cancelled() && (line = cli_read_line(stdin, &len))) {
        char name[64], *text = NULL;
        size_t text_n = 0;
        snprintf(name, sizeof name, "standard input:%zu", ++line_no);
        if (len == 0) {
            continue;
        }
        s = fm_jsonl_string(&text, &text_n, line, len, "text", name);
        if (s == FM_OK) {
            b->text[b->n++] = (fm_text){.ptr = text, .len = text_n};
            b->bytes += text_n;
            if (b->n == BATCH_TEXTS || b->bytes >= BATCH_BYTES) {
                s = flush_batch(b, t, &o);
            }
        }
    }
    if (b && b->n > 0) {
        fm_status s2 = flush_batch(b, t, &o);
        s = s == FM_OK ? s2 : s;
    }
    rc = s == FM_OK ? (fm_cancelled() ? 130 : 0) : cli_fail(s);
    free(b);
    fm_tokenizer_free(t);
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_tokenizer_encode = {
    .name = "tokenizer encode",
    .args = "TOKENIZER [--special]",
    .summary = "Encode JSONL {\"text\":...} from standard input to {\"ids\":[...]}",
    .examples = "echo '{\"text\":\"hello\"}' | fathom tokenizer encode out/tok",
    .options = options,
    .run = run,
};
