/* fathom score */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "fathom/eval.h"

typedef struct score_args {
    char *metric, *hyp;
    fm_strlist ref;
    int tokenize, smooth;
    double smooth_value;
    bool lowercase, effective_order, normalize;
} score_args;

static const fm_option table[] = {
    {.key = "metric",
     .type = FM_OPT_STR,
     .offset = offsetof(score_args, metric),
     .def = "bleu",
     .metavar = "NAME",
     .help = "bleu, rouge, em, f1, accuracy, entity, multilabel or regression."},
    {.key = "hyp",
     .type = FM_OPT_STR,
     .offset = offsetof(score_args, hyp),
     .metavar = "FILE",
     .help = "What the model wrote, a segment a line; - is standard input."},
    {.key = "ref",
     .type = FM_OPT_LIST,
     .offset = offsetof(score_args, ref),
     .metavar = "FILE",
     .help = "The reference, a segment a line; several files are several references of each row."},
    {.key = "tokenize",
     .type = FM_OPT_ENUM,
     .offset = offsetof(score_args, tokenize),
     .choices = "default|none|13a|intl|zh|char|word|mixed", /* in the order of fm_cut */
     .help = "13a, zh, char, intl, none are BLEU's, word is ROUGE's, mixed is word with Chinese by character."},
    {.key = "lowercase",
     .type = FM_OPT_BOOL,
     .offset = offsetof(score_args, lowercase),
     .help = "Compare in lower case."},
    {.key = "smooth",
     .type = FM_OPT_ENUM,
     .offset = offsetof(score_args, smooth),
     .choices = "exp|floor|add-k|none",
     .help = "BLEU: what an order without matches counts as."},
    {.key = "smooth_value",
     .type = FM_OPT_FLOAT,
     .offset = offsetof(score_args, smooth_value),
     .help = "BLEU: value of floor (0.1) or add-k (1)."},
    {.key = "effective_order",
     .type = FM_OPT_BOOL,
     .offset = offsetof(score_args, effective_order),
     .help = "BLEU: orders longer than the text do not count."},
    {.key = "normalize",
     .type = FM_OPT_BOOL,
     .offset = offsetof(score_args, normalize),
     .help = "em, f1: lower case, no punctuation, no articles, as SQuAD's script."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

/* Lines of a file, NUL-free views of their own copies. */
typedef struct lines {
    fm_text *row;
    size_t n, cap;
} lines;

static void lines_free(lines *l) {
    for (size_t i = 0; i < l->n; i++) {
        free((char *)(uintptr_t)l->row[i].ptr);
    }
    free(l->row);
    *l = (lines){0};
}

/* Exit code, or -1 to go on. */
static int read_lines(lines *l, const char *path) {
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "fathom score: cannot open %s\n  hint: a text file with a segment a line\n", path);
        return 1;
    }
    size_t len;
    char *line;
    int rc = -1;
    while (rc < 0 && (line = cli_read_line(f, &len))) {
        if (l->n == l->cap) {
            size_t cap = l->cap ? l->cap * 2 : 256;
            fm_text *row = realloc(l->row, cap * sizeof *row);
            if (!row) {
                rc = 1;
                break;
            }
            l->row = row;
            l->cap = cap;
        }
        len -= len > 0 && line[len - 1] == '\r';
        char *copy = malloc(len + 1);
        if (!copy) {
            rc = 1;
            break;
        }
        memcpy(copy, line, len);
        copy[len] = '\0';
        l->row[l->n++] = (fm_text){copy, len};
    }
    if (rc == 1) {
        fprintf(stderr, "fathom score: no memory for the lines of %s\n", path);
    }
    if (f != stdin) {
        fclose(f);
    }
    return rc;
}

/* All digits: these figures are compared with other programs'. A correlation of constants is null. */
static void print_number(double v) {
    if (isfinite(v)) {
        printf("%.15g", v);
    } else {
        printf("null");
    }
}

static void print_json(const char *metric, const fm_score *s, size_t n) {
    printf("{\"");
    printf("%s\":", metric);
    print_number(s->value);
    printf(",\"signature\":");
    cli_json_string(stdout, s->signature);
    printf(",\"rows\":%zu", n);
    for (size_t i = 0; i < s->n_parts; i++) {
        putchar(',');
        cli_json_string(stdout, s->part[i].name);
        putchar(':');
        print_number(s->part[i].value);
    }
    if (s->n_labels > 0) {
        printf(",\"labels\":[");
        for (size_t i = 0; i < s->n_labels; i++) {
            printf(i ? "," : "");
            cli_json_string(stdout, s->label[i]);
        }
        printf(s->confusion ? "],\"confusion\":[" : "");
        for (size_t i = 0; s->confusion && i < s->n_labels; i++) {
            printf(i ? ",[" : "[");
            for (size_t j = 0; j < s->n_labels; j++) {
                printf(j ? ",%lld" : "%lld", (long long)s->confusion[i * s->n_labels + j]);
            }
            putchar(']');
        }
        putchar(']');
    }
    printf("}\n");
}

/* Columns on a terminal of a name, cut to `width`. */
static void print_name(const char *name, int width) {
    printf("  %-*.*s", width, width, name);
}

/* A line for each label, as scikit-learn's classification report, and the confusion matrix when it fits. */
static void print_labels(const fm_score *s) {
    static const char *const part[] = {"precision", "recall", "f1", "support"};
    char name[128];
    print_name("label", 24);
    for (int k = 0; k < 4; k++) {
        printf(" %10s", part[k]);
    }
    putchar('\n');
    for (size_t i = 0; i < s->n_labels; i++) {
        print_name(s->label[i], 24);
        for (int k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "%s:%.48s", part[k], s->label[i]);
            printf(k < 3 ? " %10.4f" : " %10.0f", fm_score_get(s, name));
        }
        putchar('\n');
    }
    if (!s->confusion || s->n_labels > 20) {
        return;
    }
    printf("  rows: reference, columns: prediction\n");
    for (size_t i = 0; i < s->n_labels; i++) {
        print_name(s->label[i], 24);
        for (size_t j = 0; j < s->n_labels; j++) {
            printf(" %6lld", (long long)s->confusion[i * s->n_labels + j]);
        }
        putchar('\n');
    }
}

static void print_text(const char *metric, const fm_score *s) {
    printf("%s %.6f\n", metric, s->value);
    for (size_t i = 0; i < s->n_parts; i++) {
        if (s->n_labels == 0 || !strchr(s->part[i].name, ':')) {
            printf("  %-24s %.6g\n", s->part[i].name, s->part[i].value);
        }
    }
    if (s->n_labels > 0) {
        print_labels(s);
    }
    printf("signature %s\n", s->signature);
}

static int score(const score_args *a) {
    fm_score_options o = {.size = sizeof o,
                          .cut = (fm_cut)a->tokenize,
                          .lowercase = a->lowercase,
                          .smooth = (fm_bleu_smooth)a->smooth,
                          .smooth_value = a->smooth_value,
                          .effective_order = a->effective_order,
                          .normalize = a->normalize};
    lines hyp = {0}, ref = {0};
    fm_score s = {0};
    int rc = read_lines(&hyp, a->hyp);
    for (size_t r = 0; r < a->ref.n && rc < 0; r++) {
        size_t before = ref.n;
        rc = read_lines(&ref, a->ref.item[r]);
        if (rc < 0 && ref.n - before != hyp.n) {
            fprintf(stderr,
                    "fathom score: %s has %zu lines, %s has %zu; expected as many\n  hint: one segment a line\n",
                    a->hyp, hyp.n, a->ref.item[r], ref.n - before);
            rc = 3;
        }
    }
    if (rc < 0) {
        fm_score_rows rows = {.n = hyp.n, .n_refs = a->ref.n, .hyp = hyp.row, .ref = ref.row};
        fm_status st = fm_score_run(&s, a->metric, &rows, &o);
        rc = st == FM_OK ? 0 : cli_fail(st);
    }
    if (rc == 0 && cli_flags.json) {
        print_json(a->metric, &s, hyp.n);
    } else if (rc == 0) {
        print_text(a->metric, &s);
    }
    fm_score_deinit(&s);
    lines_free(&hyp);
    lines_free(&ref);
    return rc;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    score_args a = {0};
    char *pos[1] = {0};
    int n = 0;
    fm_status st = fm_options_init(&a, table);
    if (st != FM_OK) {
        return cli_fail(st);
    }
    int rc = cli_parse(cmd, argc, argv, &a, pos, &n, 0, 0);
    if (rc >= 0) {
        fm_options_free(&a, table);
        return rc;
    }
    rc = !a.hyp || a.ref.n == 0 ? cli_usage(cmd, "--hyp and --ref are needed") : score(&a);
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_score = {
    .name = "score",
    .args = "--metric NAME --hyp FILE --ref FILE[,FILE...]",
    .summary = "Compute a metric over two files, a segment a line",
    .about =
        "BLEU is corpus BLEU-4 and equal to sacrebleu's; ROUGE is equal to rouge-score's without stemming, and takes "
        "Chinese with --tokenize char or mixed; accuracy reads labels, entity tags, multilabel lists of labels, "
        "regression numbers. The signature says how the figure was made.",
    .examples = "fathom score --metric bleu --hyp out.txt --ref ref.txt --tokenize zh\n"
                "fathom score --metric rouge --hyp out.txt --ref a.txt,b.txt --json\n"
                "fathom score --metric accuracy --hyp predicted.txt --ref labels.txt",
    .options = options,
    .run = run,
};
