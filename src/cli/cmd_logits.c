/* fathom logits */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/rows.h"
#include "fathom/jsonl.h"
#include "fathom/model.h"

typedef struct logits_args {
    char *output, *dtype, *adapter, *head, *embed;
    bool normalize;
    int64_t threads, column;
} logits_args;

static const fm_option table[] = {
    {.key = "output",
     .type = FM_OPT_STR,
     .offset = offsetof(logits_args, output),
     .aliases = "o",
     .metavar = "FILE.npy",
     .help = "Write float32 [n,T,V] here (rows of equal length); without it JSONL goes to standard output."},
    CLI_ROW_DTYPE(logits_args),
    {.key = "head",
     .type = FM_OPT_STR,
     .offset = offsetof(logits_args, head),
     .metavar = "NAME",
     .help = "Scores of a head: main, or the name of another; {\"scores\":[...]} with a row per text or token."},
    {.key = "embed",
     .type = FM_OPT_STR,
     .offset = offsetof(logits_args, embed),
     .metavar = "POOLING",
     .help = "One vector a text: auto, mean, cls or last; auto reads 1_Pooling/config.json."},
    {.key = "normalize",
     .type = FM_OPT_BOOL,
     .offset = offsetof(logits_args, normalize),
     .def = "false",
     .help = "With --embed: vectors of length 1 (also when modules.json asks for it)."},
    CLI_ROW_ADAPTER(logits_args),
    CLI_ROW_COLUMN(logits_args),
    CLI_ROW_THREADS(logits_args),
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

/* What is asked of the model: the numbers of a row of ids, and what they are called. */
typedef struct request {
    fm_model *m;
    const char *name; /* of the member in JSONL */
    int32_t width;
    bool per_text; /* one row a text, else one a token */
    int head;      /* -1: logits or hidden states */
    const char *embed;
    bool normalize, hidden;
} request;

static fm_status compute(const request *q, const fm_texts *t, float *out) {
    if (q->embed) {
        fm_embed_options o = {
            .size = sizeof o, .pooling = q->embed, .normalize = q->normalize ? FM_NORMALIZE_ON : FM_NORMALIZE_AUTO};
        return fm_model_embed(q->m, t, &o, out);
    }
    if (q->head >= 0) {
        return fm_model_scores(q->m, q->head, t, out);
    }
    return q->hidden ? fm_model_hidden(q->m, t, out) : fm_model_logits(q->m, t->ids, t->offsets[1], out);
}

static fm_status row(const request *q, const int32_t *ids, const int32_t *types, size_t n, FILE *npy,
                     bool *write_failed) {
    size_t rows = q->per_text ? 1 : n, width = (size_t)q->width;
    float *out = malloc(rows * width * sizeof *out);
    if (!out) {
        cli_say("no memory for %s of %zu positions", q->name, n);
        return FM_ERR_NO_MEMORY;
    }
    const int32_t offsets[2] = {0, (int32_t)n};
    fm_status s =
        compute(q, &(fm_texts){.size = sizeof(fm_texts), .ids = ids, .types = types, .offsets = offsets, .n = 1}, out);
    if (s == FM_OK && npy) {
        *write_failed = fwrite(out, sizeof *out, rows * width, npy) != rows * width;
    } else if (s == FM_OK) {
        printf("{\"%s\":%s", q->name, q->per_text ? "" : "[");
        for (size_t t = 0; t < rows; t++) {
            fputs(t ? ",[" : "[", stdout);
            for (size_t v = 0; v < width; v++) {
                printf(v ? ",%.9g" : "%.9g", (double)out[t * width + v]);
            }
            fputc(']', stdout);
        }
        fputs(q->per_text ? "}\n" : "]}\n", stdout);
    }
    free(out);
    return s;
}

/* Encoders and models with other heads give hidden states unless a head or an embedding is asked for. */
static fm_status ask(request *q, const logits_args *a, int32_t vocab, int32_t d_model) {
    fm_head_info h;
    q->head = -1;
    q->embed = a->embed;
    q->normalize = a->normalize;
    if (a->embed) {
        q->name = "embedding";
        q->width = d_model;
        q->per_text = true;
        return FM_OK;
    }
    if (a->head) {
        fm_status s = fm_model_head_find(&q->head, q->m, strcmp(a->head, "main") == 0 ? "" : a->head);
        s = s == FM_OK ? fm_model_head_info(&h, q->m, q->head) : s;
        q->name = "scores";
        q->width = s == FM_OK ? h.n_outputs : 0;
        q->per_text = s == FM_OK && !h.per_token;
        return s;
    }
    fm_status s = fm_model_head_info(&h, q->m, 0);
    q->hidden = s == FM_OK && !fm_model_generates(q->m);
    q->name = q->hidden ? "hidden" : "logits";
    q->width = q->hidden ? d_model : vocab;
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
    fm_model_options mo = {
        .size = sizeof mo, .dtype = a.dtype, .threads = (int)a.threads, .adapter = a.adapter, .column = (int)a.column};
    s = fm_model_open(&m, pos[0], &mo);
    if (s == FM_OK) {
        s = fm_model_get_info(&info, m);
    }
    request q = {.m = m};
    if (s == FM_OK) {
        s = ask(&q, &a, info.vocab_size, info.d_model);
    }
    FILE *npy = NULL;
    bool write_failed = false;
    rc = -1;
    if (s == FM_OK && a.output && !((npy = fopen(a.output, "wb")) && npy_header(npy, 0, 0, q.width))) {
        write_failed = true;
    }
    size_t len, no = 0, n_rows = 0, width = 0;
    char *line;
    while (s == FM_OK && rc < 0 && !write_failed && !fm_cancelled() && (line = cli_read_line(stdin, &len))) {
        char name[64];
        int32_t *ids = NULL, *types = NULL;
        size_t n = 0, n_types = 0;
        snprintf(name, sizeof name, "standard input:%zu", ++no);
        if (len == 0) {
            continue;
        }
        s = fm_jsonl_ids(&ids, &n, line, len, "ids", name);
        if (s == FM_OK && memmem(line, len, "\"types\"", 7)) {
            s = fm_jsonl_ids(&types, &n_types, line, len, "types", name);
        }
        if (s == FM_OK && types && n_types != n) {
            fprintf(stderr, "fathom: %s: %zu types for %zu ids\n", name, n_types, n);
            rc = 3;
        }
        if (s == FM_OK && rc < 0 && npy && !q.per_text && n_rows > 0 && n != width) {
            fprintf(stderr,
                    "fathom: %s: %zu ids, expected %zu: rows of a .npy file have one length (leave -o out for JSONL)\n",
                    name, n, width);
            rc = 3;
        } else if (s == FM_OK && rc < 0 && n > 0) {
            width = n;
            n_rows++;
            s = row(&q, ids, types, n, npy, &write_failed);
        }
        fm_ids_free(ids);
        fm_ids_free(types);
    }
    if (npy && s == FM_OK && rc < 0) {
        write_failed = write_failed || !npy_header(npy, (long long)n_rows, q.per_text ? 1 : (long long)width, q.width);
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
    .args = "MODEL [-o FILE.npy] [--head NAME | --embed POOLING]",
    .summary = "Logits of token sequences; hidden states, embeddings and scores of encoders and other heads",
    .examples = "echo '{\"ids\":[1,2,3]}' | fathom logits out/demo\nfathom logits out/demo -o logits.npy < ids.jsonl\n"
                "fathom logits bert-base --embed mean --normalize < ids.jsonl\nfathom logits classifier --head main < "
                "ids.jsonl",
    .options = options,
    .run = run,
};
