/* fathom logits */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "fathom/jsonl.h"
#include "fathom/model.h"

typedef struct logits_args {
    char *output, *dtype, *adapter;
    int64_t threads;
} logits_args;

static const fm_option table[] = {
    {.key = "output",
     .type = FM_OPT_STR,
     .offset = offsetof(logits_args, output),
     .aliases = "o",
     .metavar = "FILE.npy",
     .help = "Write float32 [n,T,V] here (rows of equal length); without it JSONL goes to standard output."},
    {.key = "dtype",
     .type = FM_OPT_STR,
     .offset = offsetof(logits_args, dtype),
     .def = "auto",
     .help = "Precision: auto, bf16, f32."},
    {.key = "adapter",
     .type = FM_OPT_STR,
     .offset = offsetof(logits_args, adapter),
     .metavar = "DIR",
     .help = "PEFT folder of a LoRA adapter to apply."},
    {.key = "threads",
     .type = FM_OPT_INT,
     .offset = offsetof(logits_args, threads),
     .def = "0",
     .min = 0,
     .max = 4096,
     .help = "Threads; 0 = all."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

/* The .npy header has a fixed size here so that the row count can be put in at the end. */
#define NPY_HEADER 128
static bool npy_header(FILE *f, long long n, long long t, long long v) {
    char h[NPY_HEADER + 1];
    memset(h, ' ', sizeof h);
    int used = snprintf(h + 10, NPY_HEADER - 10,
                        "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld, %lld), }", n, t, v);
    h[10 + used] = ' ';
    memcpy(h, "\x93NUMPY\x01\x00", 8);
    h[8] = NPY_HEADER - 10;
    h[9] = 0;
    h[NPY_HEADER - 1] = '\n';
    return fseek(f, 0, SEEK_SET) == 0 && fwrite(h, 1, NPY_HEADER, f) == NPY_HEADER;
}

static fm_status row(fm_model *m, int32_t vocab, const int32_t *ids, size_t n, FILE *npy, bool *write_failed) {
    float *out = malloc(n * (size_t)vocab * sizeof *out);
    if (!out) {
        cli_say("no memory for logits of %zu positions", n);
        return FM_ERR_NO_MEMORY;
    }
    fm_status s = fm_model_logits(m, ids, (int32_t)n, out);
    if (s == FM_OK && npy) {
        *write_failed = fwrite(out, sizeof *out, n * (size_t)vocab, npy) != n * (size_t)vocab;
    } else if (s == FM_OK) {
        fputs("{\"logits\":[", stdout);
        for (size_t t = 0; t < n; t++) {
            fputs(t ? ",[" : "[", stdout);
            for (int32_t v = 0; v < vocab; v++) {
                printf(v ? ",%.9g" : "%.9g", (double)out[t * (size_t)vocab + (size_t)v]);
            }
            fputc(']', stdout);
        }
        fputs("]}\n", stdout);
    }
    free(out);
    return s;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    logits_args a;
    char *pos[64] = {0};
    int n_pos = 0;
    fm_status s = fm_options_init(&a, table);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n_pos, 1, 1);
    if (rc >= 0) {
        fm_options_free(&a, table);
        return rc;
    }
    fm_model *m = NULL;
    fm_model_info info = {0};
    fm_model_options mo = {.size = sizeof mo, .dtype = a.dtype, .threads = (int)a.threads, .adapter = a.adapter};
    s = fm_model_open(&m, pos[0], &mo);
    if (s == FM_OK) {
        s = fm_model_get_info(&info, m);
    }
    FILE *npy = NULL;
    bool write_failed = false;
    rc = -1;
    if (s == FM_OK && a.output && !((npy = fopen(a.output, "wb")) && npy_header(npy, 0, 0, info.vocab_size))) {
        write_failed = true;
    }
    size_t len, no = 0, n_rows = 0, width = 0;
    char *line;
    while (s == FM_OK && rc < 0 && !write_failed && !fm_cancelled() && (line = cli_read_line(stdin, &len))) {
        char name[64];
        int32_t *ids = NULL;
        size_t n = 0;
        snprintf(name, sizeof name, "standard input:%zu", ++no);
        if (len == 0) {
            continue;
        }
        s = fm_jsonl_ids(&ids, &n, line, len, "ids", name);
        if (s == FM_OK && npy && n_rows > 0 && n != width) {
            fprintf(stderr,
                    "fathom: %s: %zu ids, expected %zu: rows of a .npy file have one length (leave -o out for JSONL)\n",
                    name, n, width);
            rc = 3;
        } else if (s == FM_OK && n > 0) {
            width = n;
            n_rows++;
            s = row(m, info.vocab_size, ids, n, npy, &write_failed);
        }
        fm_ids_free(ids);
    }
    if (npy && s == FM_OK && rc < 0) {
        write_failed = write_failed || !npy_header(npy, (long long)n_rows, (long long)width, info.vocab_size);
    }
    if (npy && fclose(npy) != 0) {
        write_failed = true;
    }
    if (write_failed) {
        fprintf(stderr, "fathom: cannot write %s\n", a.output);
        rc = 1;
    }
    if (rc < 0) {
        rc = s == FM_OK ? (fm_cancelled() ? 130 : 0) : cli_fail(s);
    }
    fm_model_close(m);
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_logits = {
    .name = "logits",
    .args = "MODEL [-o FILE.npy]",
    .summary = "Logits of token sequences, for comparison with other programs",
    .examples = "echo '{\"ids\":[1,2,3]}' | fathom logits out/demo\nfathom logits out/demo -o logits.npy < ids.jsonl",
    .options = options,
    .run = run,
};
