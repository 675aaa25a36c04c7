/* tokenizer train: rows of text into a byte-level BPE tokenizer, with the size report on held-out rows. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/progress.h"
#include "data/pack.h"
#include "data/rows_options.h"

struct fm_tokenizer_train_config {
    fm_rows_config rows;
    char *output, *pattern, *bos, *eos, *pad, *unk, *chat_template;
    fm_strlist special, report;
    int64_t vocab_size, min_frequency, max_memory, threads, d_model;
    bool overwrite, untied;
};

#define F(k) .offset = offsetof(fm_tokenizer_train_config, k)
static const fm_option table[] = {
    FM_ROWS_OPTIONS(fm_tokenizer_train_config),
    {.key = "output",
     .type = FM_OPT_STR,
     F(output),
     .aliases = "o|out|output_dir",
     .metavar = "DIR",
     .help = "folder to write"},
    {.key = "vocab_size",
     .type = FM_OPT_INT,
     F(vocab_size),
     .def = "32000",
     .min = 257,
     .max = 1e7,
     .help = "entries, special tokens and the 256 bytes included"},
    {.key = "pattern",
     .type = FM_OPT_STR,
     F(pattern),
     .def = "llama3",
     .help = "how text is split first: gpt2, llama3, qwen2, deepseek_v3"},
    {.key = "special", .type = FM_OPT_LIST, F(special), .help = "further special tokens"},
    {.key = "bos", .type = FM_OPT_STR, F(bos), .def = "<|begin_of_text|>", .help = "begin token; empty = none"},
    {.key = "eos", .type = FM_OPT_STR, F(eos), .def = "<|end_of_text|>", .help = "end token; empty = none"},
    {.key = "pad", .type = FM_OPT_STR, F(pad), .help = "padding token for other programs; Fathom pads nothing"},
    {.key = "unk", .type = FM_OPT_STR, F(unk), .help = "unknown token for other programs; bytes are never unknown"},
    {.key = "chat_template",
     .type = FM_OPT_STR,
     F(chat_template),
     .metavar = "FILE",
     .help = "Jinja file stored with the tokenizer"},
    {.key = "min_frequency",
     .type = FM_OPT_INT,
     F(min_frequency),
     .def = "2",
     .min = 1,
     .max = 1e12,
     .help = "pairs rarer than this are not merged"},
    {.key = "max_memory",
     .type = FM_OPT_BYTES,
     F(max_memory),
     .def = "1GiB",
     .min = 16777216,
     .max = 1e15,
     .help =
         "for the table of different words; when it is too small rare ones are pruned and the threshold is reported"},
    {.key = "report",
     .type = FM_OPT_LIST,
     F(report),
     .metavar = "SIZES",
     .help = "report these vocabulary sizes on every 50th row, held out of training: 4k,8k,16k"},
    {.key = "d_model",
     .type = FM_OPT_INT,
     F(d_model),
     .def = "768",
     .min = 1,
     .max = 1e6,
     .help = "model width, for the report's embedding parameters"},
    {.key = "untied", .type = FM_OPT_BOOL, F(untied), .help = "the report counts input and output embeddings apart"},
    {.key = "overwrite",
     .type = FM_OPT_BOOL,
     F(overwrite),
     .aliases = "overwrite_output_dir",
     .help = "replace a tokenizer that is there"},
    {.key = "threads",
     .type = FM_OPT_INT,
     F(threads),
     .def = "0",
     .min = 0,
     .max = 4096,
     .help = "threads; 0 = all CPUs; the result does not depend on it"},
    {0},
};

const fm_option *fm_tokenizer_train_options(void) {
    return table;
}

fm_status fm_tokenizer_train_config_new(fm_tokenizer_train_config **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    fm_status s = fm_options_init(*out, table);
    if (s != FM_OK) {
        fm_tokenizer_train_config_free(*out);
        *out = NULL;
    }
    return s;
}

void fm_tokenizer_train_config_free(fm_tokenizer_train_config *c) {
    if (c) {
        fm_options_free(c, table);
        fm_free(c);
    }
}

/* Rows of one pass: with a report every 50th row is held out, and a second pass reads only those. */
#define HOLD_OUT 50
typedef struct reader {
    fm_source *source;
    bool holds_out, held_only;
    int64_t row, n_bytes;
    fm_bad_row_fn bad;
    void *user;
    fm_meter meter;
} reader;

static void on_bad(void *user, const char *file, int64_t line, const char *reason) {
    const reader *r = user;
    if (r->bad && !r->held_only) { /* the second pass would report each again */
        fm_bad_row b = {.file = file, .line = line, .reason = reason};
        r->bad(r->user, &b);
    }
}

static fm_status next_text(void *user, fm_text *text, bool *end) {
    reader *r = user;
    fm_source_row row;
    bool more = true;
    for (;;) {
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted while reading text for the tokenizer; nothing was written");
        }
        FM_TRY(fm_source_next(r->source, &row, &more));
        *end = !more;
        if (!more) {
            return FM_OK;
        }
        bool held = r->holds_out && r->row % HOLD_OUT == HOLD_OUT - 1;
        r->row++;
        if (held == r->held_only) {
            break;
        }
    }
    r->n_bytes += (int64_t)row.text.len;
    fm_meter_update(&r->meter, (double)r->n_bytes, "");
    *text = (fm_text){.ptr = row.text.ptr, .len = row.text.len};
    return FM_OK;
}

static fm_status reader_open(reader *r, const fm_tokenizer_train_config *c) {
    fm_source_options o = fm_source_options_of(&c->rows, NULL, 0);
    o.on_bad = on_bad;
    o.user = r;
    r->row = r->n_bytes = 0;
    fm_meter_start(&r->meter, r->held_only ? "measuring sizes" : "reading text", "bytes", 0);
    return fm_source_open(&r->source, &o);
}

static fm_status report(fm_tokenizer_train_result *out, const fm_tokenizer *t, const fm_tokenizer_train_config *c,
                        reader *r) {
    int64_t sizes[FM_TOKENIZER_REPORT_MAX];
    if (c->report.n > FM_TOKENIZER_REPORT_MAX) {
        FM_FAIL(FM_ERR_CONFIG, "report: at most %d sizes, found %zu", FM_TOKENIZER_REPORT_MAX, c->report.n);
    }
    for (size_t i = 0; i < c->report.n; i++) {
        FM_TRY(fm_parse_count(&sizes[i], c->report.item[i]));
    }
    out->n_report = (int)c->report.n;
    fm_tokenizer_report_options o = {.size = sizeof o,
                                     .d_model = c->d_model,
                                     .untied = c->untied,
                                     .n_threads = (int)c->threads,
                                     .max_memory = c->max_memory};
    r->held_only = true;
    FM_TRY(reader_open(r, c));
    fm_status s = fm_tokenizer_report(out->report, t, sizes, out->n_report, next_text, r, &o);
    fm_source_close(r->source);
    r->source = NULL;
    return s;
}

static fm_status check_output(const fm_tokenizer_train_config *c) {
    char path[4096];
    if (c->rows.input.n == 0) {
        FM_FAIL(FM_ERR_CONFIG, "no input: give files with -i");
    }
    if (!c->output) {
        FM_FAIL(FM_ERR_CONFIG, "no output folder: give one with -o");
    }
    FM_TRY(fm_path_join(path, sizeof path, c->output, "tokenizer.json"));
    if (fm_path_exists(path) && !c->overwrite) {
        fm_error_set(FM_ERR_EXISTS, __FILE__, __LINE__, "%s is there already", path);
        return fm_error_hint("choose another folder, or give --overwrite");
    }
    if (c->report.n > 0) {
        for (size_t i = 0; i < c->rows.input.n; i++) {
            if (strcmp(c->rows.input.item[i], "-") == 0) {
                FM_FAIL(FM_ERR_CONFIG, "report reads the input twice and cannot be used with standard input");
            }
        }
    }
    return FM_OK;
}

fm_status fm_tokenizer_train_run(fm_tokenizer_train_result *out, const fm_tokenizer_train_config *c, fm_bad_row_fn fn,
                                 void *user) {
    FM_TRY(check_output(c));
    char *template_text = NULL;
    size_t n_template = 0;
    if (c->chat_template) {
        FM_TRY(fm_file_read(&template_text, &n_template, c->chat_template, 1 << 20));
    }
    reader r = {.holds_out = c->report.n > 0, .bad = fn, .user = user};
    fm_tokenizer *t = NULL;
    fm_bpe_train_options o = {.size = sizeof o,
                              .vocab_size = c->vocab_size,
                              .pattern = c->pattern,
                              .special = (const char *const *)c->special.item,
                              .n_special = (int)c->special.n,
                              .bos = c->bos,
                              .eos = c->eos,
                              .pad = c->pad,
                              .unk = c->unk,
                              .chat_template = template_text,
                              .min_frequency = c->min_frequency,
                              .max_memory = c->max_memory,
                              .n_threads = (int)c->threads};
    fm_status s = reader_open(&r, c);
    if (s == FM_OK) {
        s = fm_tokenizer_train(&t, &out->info, next_text, &r, &o);
    }
    if (s == FM_OK && out->info.n_bytes == 0) {
        s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "the input has no text: %lld rows, %lld of them bad",
                         (long long)r.row, (long long)fm_source_n_bad(r.source));
    }
    if (s == FM_OK) {
        out->n_rows = r.row;
        out->n_bad = fm_source_n_bad(r.source);
        out->vocab_size = fm_tokenizer_vocab_size(t);
    }
    fm_source_close(r.source);
    if (s == FM_OK) {
        s = fm_tokenizer_save(t, c->output);
    }
    if (s == FM_OK && c->report.n > 0) {
        s = report(out, t, c, &r);
    }
    fm_tokenizer_free(t);
    fm_free(template_text);
    return s;
}
