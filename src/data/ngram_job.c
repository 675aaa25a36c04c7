/* data ngram: rows of text into an n-gram model. Every 50th row is held out of training; their perplexities say what
 * is usual for the model (fm_ngram_fluency). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/progress.h"
#include "data/ngram.h"
#include "data/pack.h"
#include "data/rows_options.h"
#include "data/source.h"

#define LEAST_HELD 100
#define MOST_HELD  20000

struct fm_ngram_config {
    fm_rows_config rows;
    char *output;
    int64_t order, memory, hold_out;
    fm_strlist prune;
    int unit;
    bool lowercase, overwrite;
};

#define F(k) .offset = offsetof(fm_ngram_config, k)
static const fm_option table[] = {
    FM_ROWS_OPTIONS(fm_ngram_config),
    {.key = "output", .type = FM_OPT_STR, F(output), .aliases = "o|out", .metavar = "FILE", .help = "model to write"},
    {.key = "order",
     .type = FM_OPT_INT,
     F(order),
     .def = "5",
     .min = 1,
     .max = FM_NGRAM_MOST_ORDER,
     .help = "longest n-gram, in units"},
    {.key = "unit",
     .type = FM_OPT_ENUM,
     F(unit),
     .def = "mixed",
     .choices = "mixed|blank|char",
     .help = "mixed: words, marks, and single characters of Chinese and the like; blank: what stands between blanks; "
             "char: characters"},
    {.key = "lowercase",
     .type = FM_OPT_BOOL,
     F(lowercase),
     .def = "true",
     .help = "letters become small (not with unit blank)"},
    {.key = "prune",
     .type = FM_OPT_LIST,
     F(prune),
     .def = "0,0,1",
     .metavar = "COUNTS",
     .help = "n-grams of order 1, 2, ... seen at most so often are left out; the last number holds for higher orders; "
             "0 = none"},
    {.key = "memory",
     .type = FM_OPT_BYTES,
     F(memory),
     .def = "1GiB",
     .min = 1 << 22,
     .max = 1e15,
     .help = "for counting and sorting; what does not fit goes to temporary files beside the model"},
    {.key = "hold_out",
     .type = FM_OPT_INT,
     F(hold_out),
     .def = "50",
     .min = 0,
     .max = 1e9,
     .help =
         "every so-manieth row (20,000 at most) is not trained on; their perplexities tell what is usual; 0 = none"},
    {.key = "overwrite", .type = FM_OPT_BOOL, F(overwrite), .help = "replace a model that is there"},
    {0},
};

const fm_option *fm_ngram_options(void) {
    return table;
}

fm_status fm_ngram_config_new(fm_ngram_config **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    fm_status s = fm_options_init(*out, table);
    if (s != FM_OK) {
        fm_ngram_config_free(*out);
        *out = NULL;
    }
    return s;
}

void fm_ngram_config_free(fm_ngram_config *c) {
    if (c) {
        fm_options_free(c, table);
        fm_free(c);
    }
}

typedef struct job {
    const fm_ngram_config *c;
    fm_bad_row_fn bad;
    void *user;
    fm_source *source;
    fm_ngram_trainer *trainer;
    FILE *held; /* {u64 bytes, text} each */
    int64_t n_held, n_rows;
} job;

static void on_bad(void *user, const char *file, int64_t line, const char *reason) {
    const job *j = user;
    if (j->bad) {
        fm_bad_row b = {.file = file, .line = line, .reason = reason};
        j->bad(j->user, &b);
    }
}

static fm_status hold(job *j, fm_sv text) {
    uint64_t n = text.len;
    if (fwrite(&n, sizeof n, 1, j->held) != 1 || fwrite(text.ptr, 1, text.len, j->held) != text.len) {
        FM_FAIL(FM_ERR_IO, "cannot write a temporary file of rows held out: %s", strerror(errno));
    }
    j->n_held++;
    return FM_OK;
}

static fm_status read_rows(job *j) {
    fm_source_row row;
    fm_meter meter;
    int64_t bytes = 0;
    bool more = true;
    fm_meter_start(&meter, "counting", "bytes", 0);
    for (;;) {
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted while reading text for the n-gram model; nothing was written");
        }
        FM_TRY(fm_source_next(j->source, &row, &more));
        if (!more) {
            fm_meter_end(&meter, (double)bytes, "");
            return FM_OK;
        }
        bytes += (int64_t)row.text.len;
        fm_meter_update(&meter, (double)bytes, "");
        j->n_rows++;
        bool held = j->c->hold_out && j->n_rows % j->c->hold_out == 0 && j->n_held < MOST_HELD;
        FM_TRY(held ? hold(j, row.text) : fm_ngram_train_add(j->trainer, row.text));
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static fm_status score_held(job *j, fm_ngram_result *out, const fm_ngram *m, double *perplexity, fm_str *text,
                            fm_ngram_line *line) {
    double log10_p = 0;
    int64_t units = 0;
    size_t n = 0;
    if (fflush(j->held) != 0 || fseeko(j->held, 0, SEEK_SET) != 0) {
        FM_FAIL(FM_ERR_IO, "cannot read a temporary file of rows held out: %s", strerror(errno));
    }
    for (int64_t i = 0; i < j->n_held; i++) {
        fm_ngram_score s;
        uint64_t left;
        char part[4096];
        bool good = fread(&left, sizeof left, 1, j->held) == 1;
        fm_str_clear(text);
        while (good && left) {
            size_t k = FM_MIN(left, sizeof part);
            good = fread(part, 1, k, j->held) == k;
            fm_str_append(text, part, k);
            left -= k;
        }
        if (!good) {
            FM_FAIL(FM_ERR_IO, "cannot read a temporary file of rows held out: %s", strerror(errno));
        }
        FM_TRY(fm_str_check(text));
        FM_TRY(fm_ngram_score_text(m, &s, line, (fm_sv){text->data, text->len}));
        if (s.n_units) {
            perplexity[n++] = fm_ngram_perplexity(&s);
        }
        log10_p += s.log10_p;
        units += s.n_units;
    }
    fm_ngram_score all = {.log10_p = log10_p, .n_units = units};
    out->n_held = (int64_t)n;
    out->perplexity = fm_ngram_perplexity(&all);
    if (n >= LEAST_HELD) {
        double q[FM_NGRAM_QUANTILES];
        qsort(perplexity, n, sizeof *perplexity, by_value);
        for (size_t i = 0; i < FM_NGRAM_QUANTILES; i++) {
            double at = (double)i / (FM_NGRAM_QUANTILES - 1) * (double)(n - 1);
            size_t k = FM_MIN((size_t)at, n - 2);
            q[i] = perplexity[k] + (at - (double)k) * (perplexity[k + 1] - perplexity[k]);
        }
        FM_TRY(fm_ngram_set_quantiles(j->c->output, q));
        out->median = q[(FM_NGRAM_QUANTILES - 1) / 2];
    }
    return FM_OK;
}

static fm_status measure(job *j, fm_ngram_result *out) {
    fm_ngram *m;
    fm_str text = {0};
    fm_ngram_line line = {0};
    if (j->n_held == 0) {
        return FM_OK;
    }
    FM_TRY(fm_ngram_open(&m, j->c->output));
    double *perplexity = fm_calloc((size_t)j->n_held, sizeof *perplexity);
    fm_status s = perplexity ? score_held(j, out, m, perplexity, &text, &line)
                             : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot hold %lld perplexities",
                                            (long long)j->n_held);
    fm_free(perplexity);
    fm_str_free(&text);
    fm_ngram_line_free(&line);
    fm_ngram_close(m);
    return s;
}

static fm_status set_options(const fm_ngram_config *c, fm_ngram_train_options *o) {
    *o = (fm_ngram_train_options){
        .order = (int)c->order, .unit = c->unit, .lowercase = c->lowercase, .memory = c->memory};
    for (size_t n = 0; n < FM_NGRAM_MOST_ORDER && c->prune.n; n++) {
        const char *text = c->prune.item[FM_MIN(n, c->prune.n - 1)];
        if (fm_parse_i64(&o->prune[n], text) != FM_OK || o->prune[n] < 0) {
            FM_FAIL(FM_ERR_CONFIG, "prune: expected counts such as 0,0,1, found '%s'", text);
        }
    }
    if (o->prune[0] != 0) {
        FM_FAIL(FM_ERR_CONFIG, "prune: single words cannot be left out, expected 0 first, found %lld",
                (long long)o->prune[0]);
    }
    if (c->prune.n > (size_t)c->order && c->prune.n > 3) {
        FM_FAIL(FM_ERR_CONFIG, "prune: %zu numbers for a model of order %lld", c->prune.n, (long long)c->order);
    }
    return FM_OK;
}

static fm_status check_output(const fm_ngram_config *c) {
    if (c->rows.input.n == 0) {
        FM_FAIL(FM_ERR_CONFIG, "no input: give files with -i");
    }
    if (!c->output) {
        FM_FAIL(FM_ERR_CONFIG, "no output: give a file with -o");
    }
    if (fm_path_exists(c->output) && !c->overwrite) {
        fm_error_set(FM_ERR_EXISTS, __FILE__, __LINE__, "%s is there already", c->output);
        return fm_error_hint("choose another name, or give --overwrite");
    }
    return FM_OK;
}

static fm_status train(job *j, const fm_ngram_train_options *o, fm_ngram_result *out) {
    fm_ngram_info info;
    fm_source_options so = fm_source_options_of(&j->c->rows, NULL, 0);
    so.on_bad = on_bad;
    so.user = j;
    FM_TRY(fm_ngram_train_new(&j->trainer, o));
    FM_TRY(fm_source_open(&j->source, &so));
    j->held = tmpfile();
    if (!j->held) {
        FM_FAIL(FM_ERR_IO, "cannot make a temporary file: %s", strerror(errno));
    }
    FM_TRY(read_rows(j));
    out->n_rows = j->n_rows;
    out->n_bad = fm_source_n_bad(j->source);
    FM_TRY(fm_ngram_train_finish(j->trainer, &info, j->c->output));
    out->order = info.order;
    out->n_units = info.n_units;
    out->n_lines = info.n_lines;
    out->n_bytes = info.n_bytes;
    for (int n = 0; n < info.order; n++) {
        out->at[n] = (fm_ngram_result_order){
            .n_seen = info.at[n].n_seen,
            .n_kept = info.at[n].n_kept,
            .guessed = info.at[n].guessed,
            .discount = {info.at[n].discount[0], info.at[n].discount[1], info.at[n].discount[2]}};
    }
    return measure(j, out);
}

fm_status fm_ngram_run(fm_ngram_result *out, const fm_ngram_config *c, fm_bad_row_fn fn, void *user) {
    fm_ngram_train_options o;
    job j = {.c = c, .bad = fn, .user = user};
    fm_str dir = {0};
    const double begin = fm_now();
    FM_TRY(check_output(c));
    FM_TRY(set_options(c, &o));
    fm_str_printf(&dir, "%s.work", c->output);
    fm_status s = fm_str_check(&dir);
    if (s == FM_OK) {
        s = fm_mkdirs(dir.data);
    }
    if (s == FM_OK) {
        o.work_dir = dir.data;
        s = train(&j, &o, out);
        fm_ngram_train_free(j.trainer);
        fm_source_close(j.source);
        if (j.held) {
            fclose(j.held);
        }
        fm_error_record e;
        fm_error_save(&e);
        fm_status gone = fm_remove_tree(dir.data);
        if (s != FM_OK) {
            fm_error_restore(&e);
        } else {
            s = gone;
        }
    }
    fm_str_free(&dir);
    out->seconds = fm_now() - begin;
    return s;
}
