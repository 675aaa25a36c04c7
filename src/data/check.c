/* data check: reads rows as training would and says what is wrong with them. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/progress.h"
#include "data/classes.h"
#include "data/pack.h"
#include "data/records.h"

#define BATCH_ROWS  4096
#define BATCH_BYTES ((size_t)4 << 20)

typedef struct checker {
    const fm_check_config *c;
    fm_check_report r;
    fm_bad_row_fn fn;
    void *user;
    fm_tokenizer *tok;
    int64_t extra; /* BOS and EOS */
    fm_str text;   /* rows waiting for the tokenizer */
    size_t *end;
    int64_t *line;
    size_t n, cap_end, cap_line;
} checker;

static void on_bad(void *user, const char *file, int64_t line, const char *reason) {
    checker *k = user;
    k->r.n_bad++;
    k->r.n_empty += strstr(reason, "empty text") != NULL;
    if (k->fn) {
        fm_bad_row row = {.file = file, .line = line, .reason = reason};
        k->fn(k->user, &row);
    }
}

static fm_status count_tokens(checker *k) {
    if (k->n == 0) {
        return FM_OK;
    }
    fm_text *texts = fm_calloc(k->n, sizeof *texts);
    if (!texts) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a batch of %zu rows", k->n);
    }
    for (size_t i = 0; i < k->n; i++) {
        size_t begin = i ? k->end[i - 1] : 0;
        texts[i] = (fm_text){.ptr = k->text.data + begin, .len = k->end[i] - begin};
    }
    fm_encode_options eo = {.size = sizeof eo, .n_threads = (int)k->c->threads};
    fm_token_batch b = {0};
    fm_status s = fm_tokenizer_encode_batch(&b, k->tok, texts, k->n, &eo);
    for (size_t i = 0; s == FM_OK && i < k->n; i++) {
        int64_t n = (int64_t)(b.offset[i + 1] - b.offset[i]) + k->extra, limit = k->c->cutoff_len;
        k->r.n_tokens += n;
        if (n > k->r.longest_tokens) {
            k->r.longest_tokens = n;
            k->r.longest_line = k->line[i];
        }
        if (limit > 0 && n > limit) {
            k->r.n_cut++;
            k->r.n_cut_tokens += n - limit;
            n = limit;
        }
        k->r.n_loss_tokens += n > 1 ? n - 1 : 0;
    }
    fm_token_batch_free(&b);
    fm_free(texts);
    k->n = 0;
    fm_str_clear(&k->text);
    return s;
}

static fm_status check_row(checker *k, const fm_source_row *row) {
    k->r.n_bytes += (int64_t)row->text.len;
    for (size_t i = 0; i < row->text.len; i++) {
        k->r.n_chars += ((uint8_t)row->text.ptr[i] & 0xC0) != 0x80;
    }
    if (!k->tok) {
        return FM_OK;
    }
    FM_TRY(fm_grow((void **)&k->end, &k->cap_end, k->n + 1, sizeof *k->end));
    FM_TRY(fm_grow((void **)&k->line, &k->cap_line, k->n + 1, sizeof *k->line));
    fm_str_append(&k->text, row->text.ptr, row->text.len);
    FM_TRY(fm_str_check(&k->text));
    k->end[k->n] = k->text.len;
    k->line[k->n++] = row->line;
    return k->n >= BATCH_ROWS || k->text.len >= BATCH_BYTES ? count_tokens(k) : FM_OK;
}

static fm_status check_all(checker *k) {
    if (k->c->rows.input.n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "no input was named");
        return fm_error_hint("give files, folders, glob patterns, or - for stdin");
    }
    char hash[33];
    if (k->c->tokenizer) {
        FM_TRY(fm_pack_tokenizer(&k->tok, hash, k->c->tokenizer));
        k->extra = k->c->add_bos + k->c->add_eos;
    }
    fm_source_options so = fm_source_options_of(&k->c->rows, NULL, 0);
    so.on_bad = on_bad;
    so.user = k;
    fm_source *src;
    FM_TRY(fm_source_open(&src, &so));
    k->r.n_files = (int64_t)fm_source_n_files(src);
    fm_meter meter;
    fm_meter_start(&meter, "checking", "rows", 0);
    bool more = true;
    fm_status s = FM_OK;
    while (s == FM_OK) {
        fm_source_row row;
        s = fm_source_next(src, &row, &more);
        if (s != FM_OK || !more) {
            break;
        }
        s = check_row(k, &row);
        k->r.n_rows = fm_source_n_good(src) + fm_source_n_bad(src);
        if ((k->r.n_rows & 255) == 0) {
            fm_meter_update(&meter, (double)k->r.n_rows, row.file);
            if (s == FM_OK && fm_cancelled()) {
                s = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted after %lld rows",
                                 (long long)k->r.n_rows);
            }
        }
    }
    k->r.n_rows = fm_source_n_good(src) + fm_source_n_bad(src);
    fm_source_close(src);
    FM_TRY(s);
    return count_tokens(k);
}

/* Looks so far for the class column before the rows count as having none. */
#define LABEL_ROWS 1000

static fm_status read_classes(fm_classes *k, fm_records *in, const char *label) {
    fm_rec *r = NULL;
    fm_bump *arena;
    for (int64_t n = 1;; n++) {
        FM_TRY(fm_records_next(in, &r, &arena));
        if (!r || k->too_many || (n > LABEL_ROWS && k->n == 0)) {
            return FM_OK;
        }
        FM_TRY(fm_classes_add(k, r, label));
        if ((n & 1023) == 0 && fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted after %lld rows", (long long)n);
        }
    }
}

/* The classes are read by themselves, as the rows above are text alone. */
static fm_status count_classes(checker *k) {
    static const char *const formats[] = {"auto", "txt", "jsonl", "csv", "tsv"};
    const fm_check_config *c = k->c;
    for (size_t i = 0; i < c->rows.input.n; i++) {
        if (strcmp(c->rows.input.item[i], "-") == 0) {
            return FM_OK; /* read already */
        }
    }
    fm_records_options o = {.input = c->rows.input, .format = formats[c->rows.format]};
    fm_classes *classes = c->label ? fm_calloc(1, sizeof *classes) : NULL;
    if (!classes) {
        return c->label ? fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory to count classes") : FM_OK;
    }
    fm_records *in = NULL;
    fm_status s = fm_records_open(&in, &o);
    s = s == FM_OK ? read_classes(classes, in, c->label) : s;
    const fm_class *most, *least;
    if (s == FM_OK && fm_classes_ratio(classes, &most, &least) > 0) {
        k->r.n_classes = (int64_t)classes->n;
        k->r.most_rows = most->rows;
        k->r.least_rows = least->rows;
        snprintf(k->r.most_class, sizeof k->r.most_class, "%s", most->name);
        snprintf(k->r.least_class, sizeof k->r.least_class, "%s", least->name);
    }
    fm_records_close(in);
    fm_classes_free(classes);
    fm_free(classes);
    return s;
}

fm_status fm_data_check(fm_check_report *out, const fm_check_config *c, fm_bad_row_fn fn, void *user) {
    FM_ASSERT(out && out->size >= sizeof out->size);
    checker k = {.c = c, .fn = fn, .user = user};
    fm_status s = check_all(&k);
    s = s == FM_OK ? count_classes(&k) : s;
    fm_tokenizer_free(k.tok);
    fm_str_free(&k.text);
    fm_free(k.end);
    fm_free(k.line);
    size_t size = out->size;
    k.r.size = size;
    memcpy(out, &k.r, FM_MIN(size, sizeof k.r));
    return s;
}
