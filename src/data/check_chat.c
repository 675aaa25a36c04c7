/* data check of questions and answers: rows as stage sft makes them, token by token. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/progress.h"
#include "data/examples.h"
#include "data/records.h"

typedef struct checker {
    const fm_check_config *c;
    fm_check_report r;
    fm_bad_row_fn fn;
    fm_shown_row_fn shown;
    void *user;
    const fm_example_task *task;
    void *state;
    fm_tokenizer *tok;
    fm_example e;
    fm_shown_token *token;
    size_t cap;
    int64_t n_shown;
} checker;

bool fm_check_config_is_chat(const fm_check_config *c) {
    return c->template_ != NULL;
}

static void on_bad(void *user, const char *file, int64_t line, const char *reason) {
    checker *k = user;
    k->r.n_bad++;
    k->r.n_empty += strstr(reason, "is empty") != NULL;
    if (k->fn) {
        fm_bad_row row = {.file = file, .line = line, .reason = reason};
        k->fn(k->user, &row);
    }
}

static fm_status show(checker *k, const char *file, int64_t line) {
    fm_example *e = &k->e;
    void *p = k->token;
    FM_TRY(fm_grow(&p, &k->cap, e->n + 1, sizeof *k->token));
    k->token = p;
    for (size_t i = 0; i < e->n; i++) {
        fm_shown_token *t = &k->token[i];
        *t = (fm_shown_token){.id = e->ids[i],
                              .trained = i > 0 && e->marks[i] != 0,
                              .cut = k->c->cutoff_len > 0 && (int64_t)i >= k->c->cutoff_len};
        t->text = fm_tokenizer_token(k->tok, t->id, &t->len);
        t->text = t->text ? t->text : "";
    }
    fm_shown_row row = {.file = file, .line = line, .token = k->token, .n = e->n};
    k->n_shown++;
    k->shown(k->user, &row);
    return FM_OK;
}

static fm_status check_row(checker *k, fm_records *rows, const fm_rec *row) {
    fm_example *e = &k->e;
    int64_t limit = k->c->cutoff_len, n, trained = 0;
    e->n = 0;
    e->reason = NULL;
    e->n_bytes = 0;
    FM_TRY(k->task->make(k->state, e, row));
    n = (int64_t)e->n;
    for (size_t i = 1; i < e->n; i++) {
        trained += e->marks[i] != 0 && (limit <= 0 || (int64_t)i < limit);
    }
    if (!e->reason && trained == 0) {
        e->reason = limit > 0 && n > limit ? "its answer lies behind cutoff_len" : "nothing in it would be trained";
    }
    if (k->shown && k->n_shown < k->c->show && e->n > 0) {
        FM_TRY(show(k, fm_records_file(rows, fm_records_file_index(rows)), row->line));
    }
    k->r.n_tokens += n;
    k->r.n_loss_tokens += trained;
    k->r.n_bytes += e->n_bytes;
    if (n > k->r.longest_tokens) {
        k->r.longest_tokens = n;
        k->r.longest_line = row->line;
    }
    if (limit > 0 && n > limit) {
        k->r.n_cut++;
        k->r.n_cut_tokens += n - limit;
    }
    if (e->reason) {
        fm_records_reject(rows, row, e->reason);
    }
    return FM_OK;
}

static fm_status check_all(checker *k) {
    const fm_check_config *c = k->c;
    static const char *const formats[] = {"auto", "txt", "jsonl", "csv", "tsv"};
    if (c->rows.input.n == 0 || !c->tokenizer) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "no %s was named", c->tokenizer ? "input" : "tokenizer");
        return fm_error_hint("a chat template needs the model's tokenizer: --tokenizer MODEL");
    }
    fm_examples_options o = {.task = "chat",
                             .columns = &c->columns,
                             .train_on = c->train_on,
                             .template_ = strcmp(c->template_, "auto") == 0 ? NULL : c->template_};
    fm_records_options ro = {.input = c->rows.input, .format = formats[c->rows.format], .on_bad = on_bad, .user = k};
    char hash[33];
    FM_TRY(fm_pack_tokenizer(&k->tok, hash, c->tokenizer));
    k->task = fm_example_task_find(o.task);
    FM_TRY(k->task->open(&k->state, &o, k->tok));
    fm_records *rows;
    FM_TRY(fm_records_open(&rows, &ro));
    k->r.n_files = (int64_t)fm_records_n_files(rows);
    fm_meter meter;
    fm_meter_start(&meter, "checking", "rows", 0);
    fm_status s;
    fm_rec *row;
    fm_bump *arena;
    while ((s = fm_records_next(rows, &row, &arena)) == FM_OK && row) {
        s = check_row(k, rows, row);
        if (s == FM_OK && (fm_records_n_read(rows) & 255) == 0) {
            fm_meter_update(&meter, (double)fm_records_n_read(rows), "");
            s = fm_cancelled() ? fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted after %lld rows",
                                              (long long)fm_records_n_read(rows))
                               : FM_OK;
        }
        if (s != FM_OK) {
            break;
        }
    }
    k->r.n_rows = fm_records_n_read(rows);
    fm_records_close(rows);
    return s;
}

fm_status fm_data_check_chat(fm_check_report *out, const fm_check_config *c, fm_bad_row_fn fn, fm_shown_row_fn shown,
                             void *user) {
    FM_ASSERT(out && out->size >= sizeof out->size);
    checker k = {.c = c, .fn = fn, .shown = shown, .user = user};
    fm_status s = check_all(&k);
    if (k.task) {
        k.task->close(k.state);
    }
    fm_tokenizer_free(k.tok);
    fm_free(k.e.ids);
    fm_free(k.e.marks);
    fm_free(k.token);
    size_t size = out->size;
    k.r.size = size;
    memcpy(out, &k.r, FM_MIN(size, sizeof k.r));
    return s;
}
