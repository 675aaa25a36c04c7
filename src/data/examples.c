/* Rows to packed examples. All work happens in OUTPUT.partial, which becomes OUTPUT by a rename: a refused or failed
 * run leaves OUTPUT as it was. Rows are made into tokens one after the other; the order of examples is that of the
 * rows. */
#include "data/examples.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "data/records.h"
#include "data/shard_write.h"
#include "data/shards.h"

#define SHARD_TOKENS ((int64_t)64 << 20)

#define FM_EXAMPLE_TASK(name) extern const fm_example_task fm_example_task_##name;
#include "data/example_tasks.def"
#undef FM_EXAMPLE_TASK

static const fm_example_task *const tasks[] = {
#define FM_EXAMPLE_TASK(name) &fm_example_task_##name,
#include "data/example_tasks.def"
#undef FM_EXAMPLE_TASK
};

const fm_example_task *fm_example_task_find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(tasks); i++) {
        if (strcmp(tasks[i]->name, name) == 0) {
            return tasks[i];
        }
    }
    return NULL;
}

fm_status fm_example_add(fm_example *e, const int32_t *ids, size_t n, int16_t mark) {
    void *p = e->ids, *q = e->marks;
    if (n == 0) {
        return FM_OK;
    }
    FM_TRY(fm_grow(&p, &e->cap_ids, e->n + n, sizeof *e->ids));
    e->ids = p;
    FM_TRY(fm_grow(&q, &e->cap_marks, e->n + n, sizeof *e->marks));
    e->marks = q;
    memcpy(e->ids + e->n, ids, n * sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        e->marks[e->n + i] = mark;
    }
    e->n += n;
    return FM_OK;
}

typedef struct maker {
    const fm_examples_options *o;
    const fm_example_task *task;
    void *state;
    fm_tokenizer *tok;
    char tok_hash[33], settings[33], work[4096];
    fm_examples_report *r;
    fm_shard_writer *train, *val;
    fm_json *files;
    fm_example e;
    int64_t n_trained_eval;
    float *difficulty[2]; /* of the examples of train and val */
    size_t n_difficulty[2], cap_difficulty[2];
    uint32_t first_file;  /* files of the entries before this one */
    int64_t n_refused;    /* rows too long to be taken */
    char first_long[512]; /* file:line of the first of them */
    char first_bad[512];  /* file:line: reason of the first row set aside */
    FILE *rejects;
    bool rejects_failed;
} maker;

static void on_bad(void *user, const char *file, int64_t line, const char *reason) {
    maker *m = user;
    fm_str s = {0};
    char path[4096];
    if (m->r->n_bad++ == 0) {
        snprintf(m->first_bad, sizeof m->first_bad, "%s:%lld: %s", file, (long long)line, reason);
    }
    if (!m->rejects && !m->rejects_failed && fm_path_join(path, sizeof path, m->work, "rejects.jsonl") == FM_OK) {
        m->rejects = fopen(path, "we");
    }
    fm_str_puts(&s, "{\"file\": ");
    fm_str_json(&s, file, strlen(file));
    fm_str_printf(&s, ", \"line\": %lld, \"reason\": ", (long long)line);
    fm_str_json(&s, reason, strlen(reason));
    fm_str_puts(&s, "}\n");
    m->rejects_failed |= !m->rejects || s.failed || fwrite(s.data, 1, s.len, m->rejects) != s.len;
    fm_str_free(&s);
}

/* The rows of one entry of `input`, or of all (-1). */
static fm_status open_rows(fm_records **out, maker *m, bool report, int64_t entry) {
    fm_records_options ro = {.input = m->o->input, .format = m->o->format, .user = m, .on_bad = report ? on_bad : NULL};
    if (entry >= 0) {
        ro.input = (fm_strlist){.item = m->o->input.item + entry, .n = 1};
    }
    return fm_records_open(out, &ro);
}

/* ---- reuse ------------------------------------------------------------------------------------ */

/* What makes two sets the same: settings, tokenizer, and names, sizes and times of the files. */
static fm_status settings_hash(maker *m) {
    const fm_examples_options *o = m->o;
    const fm_columns *c = o->columns;
    const char *const names[] = {o->task,   o->format, o->template_, c->messages, c->prompt,    c->query, c->response,
                                 c->system, c->tools,  c->history,   c->text,     c->text_pair, c->label, m->tok_hash};
    fm_records *rows;
    fm_str s = {0};
    FM_TRY(open_rows(&rows, m, false, -1));
    fm_str_printf(&s, "examples v1|%d|%d|%lld|%d|%.17g", o->train_on, o->problem, (long long)o->cutoff_len,
                  o->long_rows, o->val_size);
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        fm_str_printf(&s, "|%s", names[i] ? names[i] : "");
    }
    for (size_t i = 0; o->tasks && i < o->tasks->n; i++) {
        fm_str_printf(&s, "|%s", o->tasks->item[i]);
    }
    for (size_t i = 0; o->input_task && i < o->input.n; i++) {
        fm_str_printf(&s, "|%s=%s", o->input_task[i] ? o->input_task[i] : "", o->input.item[i]);
    }
    fm_str_printf(&s, "|%s|%s", o->task_column ? o->task_column : "", o->difficulty ? o->difficulty : "");
    fm_status st = o->labels ? fm_json_dump(&s, o->labels, 0) : FM_OK;
    for (size_t i = 0; i < fm_records_n_files(rows); i++) {
        struct stat at = {0};
        const char *name = fm_records_file(rows, i);
        fm_str_printf(&s, "|%s", name);
        if (stat(name, &at) == 0) {
            fm_str_printf(&s, ":%lld:%lld.%ld", (long long)at.st_size, (long long)at.st_mtim.tv_sec,
                          at.st_mtim.tv_nsec);
        }
        char *text = NULL;
        size_t n = 0;
        if (i == 0 && o->template_ && fm_path_exists(o->template_) &&
            fm_file_read(&text, &n, o->template_, 1 << 20) == FM_OK) { /* the template's own text */
            fm_str_append(&s, text, n);
        }
        fm_free(text);
    }
    fm_records_close(rows);
    fm_hasher *h = NULL;
    st = st == FM_OK ? fm_str_check(&s) : st;
    st = st == FM_OK ? fm_hasher_new(&h) : st;
    if (st == FM_OK) {
        fm_hasher_update(h, s.data, s.len);
        fm_hasher_hex(h, m->settings);
    }
    fm_hasher_free(h);
    fm_str_free(&s);
    return st;
}

static bool made_already(maker *m) {
    char part[4096], path[4096];
    fm_json *j = NULL;
    bool same = fm_dataset_part(part, sizeof part, m->o->output, "train") == FM_OK &&
                fm_path_join(path, sizeof path, part, FM_DATASET_FILE) == FM_OK && fm_path_exists(path) &&
                fm_json_load(&j, path) == FM_OK;
    const char *found = same ? fm_json_str(fm_json_get(j, "settings_hash"), NULL) : NULL;
    same = found && strcmp(found, m->settings) == 0;
    if (same) {
        m->r->reused = true;
        m->r->n_examples = fm_json_int(fm_json_get(j, "n_documents"), 0);
        m->r->n_tokens = fm_json_int(fm_json_get(j, "n_tokens"), 0);
        m->r->n_trained = fm_json_int(fm_json_get(j, "n_trained"), 0);
        m->r->n_bad = fm_json_int(fm_json_get(j, "n_bad"), 0);
    }
    fm_json_free(j);
    fm_error_clear();
    return same;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static int64_t count_trained(const maker *m) {
    int64_t n = 0;
    if (!m->task->marks || m->e.whole) {
        return 1;
    }
    for (size_t i = 1; i < m->e.n; i++) { /* the first token is never predicted */
        n += m->e.marks[i] != 0;
    }
    return n;
}

/* A row longer than a window. True when it goes on, shorter. */
static bool shorten(maker *m, fm_records *rows, const fm_rec *row) {
    fm_example *e = &m->e;
    size_t limit = (size_t)m->o->cutoff_len, tail = FM_MIN(e->keep_at_end, limit / 2);
    m->r->longest = FM_MAX(m->r->longest, (int64_t)e->n);
    m->r->n_long++;
    if (m->o->long_rows == FM_LONG_DROP) {
        fm_records_reject(rows, row, "longer than cutoff_len");
        return false;
    }
    if (m->o->long_rows == FM_LONG_REFUSE && !e->may_cut) { /* the run ends in an error when all are counted */
        if (m->n_refused++ == 0) {
            snprintf(m->first_long, sizeof m->first_long, "%s:%lld", fm_records_file(rows, fm_records_file_index(rows)),
                     (long long)row->line);
        }
        return false;
    }
    memmove(e->ids + limit - tail, e->ids + e->n - tail, tail * sizeof *e->ids);
    memmove(e->marks + limit - tail, e->marks + e->n - tail, tail * sizeof *e->marks);
    e->n = limit;
    if (count_trained(m) == 0) {
        fm_records_reject(rows, row, "its answer lies behind cutoff_len");
        return false;
    }
    return true;
}

/* The share held out goes by the hash of the row: it is on the same side in every run and with any other rows. */
static bool held_out(const maker *m, const fm_rec *row) {
    uint64_t h = fm_rec_hash(row);
    return m->val && (double)(fm_hash64(&h, sizeof h, 0x76616c) >> 11) * 0x1p-53 < m->o->val_size;
}

/* Keeps the difficulty of a row; *ok false when it has none. */
static fm_status take_difficulty(maker *m, const fm_rec *row, bool val, bool *ok) {
    const fm_cell *c = fm_rec_get(row, m->o->difficulty);
    double v = NAN;
    *ok = c && fm_cell_number(c, &v) && isfinite((float)v);
    if (!*ok) {
        return FM_OK;
    }
    void *p = m->difficulty[val];
    FM_TRY(fm_grow(&p, &m->cap_difficulty[val], m->n_difficulty[val] + 1, sizeof(float)));
    m->difficulty[val] = p;
    m->difficulty[val][m->n_difficulty[val]++] = (float)v;
    return FM_OK;
}

static fm_status add_row(maker *m, fm_records *rows, const fm_rec *row) {
    fm_example *e = &m->e;
    e->n = 0;
    e->reason = NULL;
    e->whole = e->may_cut = false;
    e->keep_at_end = 0;
    e->n_bytes = 0;
    FM_TRY(m->task->make(m->state, e, row));
    if (!e->reason && (e->n == 0 || count_trained(m) == 0)) {
        e->reason = "nothing in it would be trained";
    }
    if (e->reason) {
        fm_records_reject(rows, row, e->reason);
        return FM_OK;
    }
    if ((int64_t)e->n > m->o->cutoff_len && !shorten(m, rows, row)) {
        return FM_OK;
    }
    m->r->longest = FM_MAX(m->r->longest, (int64_t)e->n);
    bool val = held_out(m, row), known = true;
    FM_TRY(m->o->difficulty ? take_difficulty(m, row, val, &known) : FM_OK);
    if (!known) {
        fm_records_reject(rows, row, "its difficulty (curriculum_column) is no number");
        return FM_OK;
    }
    int64_t trained = count_trained(m);
    *(val ? &m->r->n_eval_examples : &m->r->n_examples) += 1;
    *(val ? &m->n_trained_eval : &m->r->n_trained) += trained;
    m->r->n_tokens += val ? 0 : (int64_t)e->n;
    return fm_shard_writer_add_example(val ? m->val : m->train, e->ids, m->task->marks ? e->marks : NULL, (int64_t)e->n,
                                       e->values, e->n_bytes, m->first_file + (uint32_t)fm_records_file_index(rows),
                                       row->line);
}

/* All rows of an entry of `input` (-1: of all) through the scan, or the making. */
static fm_status walk_entry(maker *m, bool scan, int64_t entry) {
    fm_records *rows;
    fm_meter meter;
    fm_rec *row;
    fm_bump *arena;
    FM_TRY(open_rows(&rows, m, !scan, entry));
    fm_meter_start(&meter, scan ? "reading labels" : "making examples", "rows", 0);
    fm_status s = FM_OK;
    for (int64_t k = 0;; k++) {
        s = fm_records_next(rows, &row, &arena);
        if (s != FM_OK || !row) {
            break;
        }
        row->source = (int32_t)FM_MAX(entry, 0);
        s = scan ? m->task->scan(m->state, row) : add_row(m, rows, row);
        if (s == FM_OK && (k & 63) == 0) {
            fm_meter_update(&meter, (double)k, "");
            if (fm_cancelled()) {
                s = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted while making examples");
            }
        }
        if (s != FM_OK) {
            break;
        }
    }
    m->r->n_rows += scan ? 0 : fm_records_n_read(rows);
    for (size_t i = 0; s == FM_OK && !scan && i < fm_records_n_files(rows); i++) {
        s = fm_json_append(m->files, fm_json_new_str(fm_records_file(rows, i)));
    }
    m->first_file += scan ? 0 : (uint32_t)fm_records_n_files(rows);
    fm_records_close(rows);
    return s;
}

/* Entry by entry where the entry says what its rows are. */
static fm_status walk(maker *m, bool scan) {
    if (!m->o->input_task) {
        return walk_entry(m, scan, -1);
    }
    for (size_t i = 0; i < m->o->input.n; i++) {
        FM_TRY(walk_entry(m, scan, (int64_t)i));
    }
    return FM_OK;
}

/* ---- writing ---------------------------------------------------------------------------------- */

static fm_status make_writers(maker *m, uint32_t n_values) {
    char dir[4096];
    int32_t vocab = fm_tokenizer_vocab_size(m->tok);
    if (n_values > 0) {
        void *p = m->e.values;
        FM_TRY(fm_grow(&p, &m->e.cap_values, n_values, sizeof *m->e.values));
        m->e.values = p;
    }
    FM_TRY(fm_path_join(dir, sizeof dir, m->work, m->o->val_size > 0 ? "train" : "."));
    FM_TRY(fm_shard_writer_new(&m->train, dir, vocab, SHARD_TOKENS));
    fm_shard_writer_set_extra(m->train, m->task->marks, n_values);
    if (m->o->val_size > 0) {
        FM_TRY(fm_path_join(dir, sizeof dir, m->work, "val"));
        FM_TRY(fm_shard_writer_new(&m->val, dir, vocab, SHARD_TOKENS));
        fm_shard_writer_set_extra(m->val, m->task->marks, n_values);
    }
    return FM_OK;
}

static fm_status check_result(const maker *m) {
    const fm_examples_report *r = m->r;
    if (m->n_refused > 0) {
        fm_error_set(
            FM_ERR_DATA, __FILE__, __LINE__,
            "%lld of %lld rows have more than cutoff_len %lld tokens and would lose their answers (the longest "
            "has %lld; the first is %s)",
            (long long)m->n_refused, (long long)r->n_rows, (long long)m->o->cutoff_len, (long long)r->longest,
            m->first_long);
        return fm_error_hint("raise cutoff_len to %lld, or set long_rows to drop or cut", (long long)r->longest);
    }
    if (r->n_examples == 0) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                     "no example is left: %lld rows read, %lld set aside, %lld held out%s%s", (long long)r->n_rows,
                     (long long)r->n_bad, (long long)r->n_eval_examples, m->first_bad[0] ? "; " : "", m->first_bad);
        return fm_error_hint("fathom data check names the reason of each row");
    }
    return FM_OK;
}

static fm_status close_rejects(maker *m) {
    int rc = m->rejects ? fclose(m->rejects) : 0;
    m->rejects = NULL;
    if (rc != 0 || m->rejects_failed) {
        FM_FAIL(FM_ERR_IO, "cannot write %s/rejects.jsonl: %s", m->work, strerror(errno));
    }
    return FM_OK;
}

static fm_status describe(const maker *m, fm_json *o, int64_t n_trained) {
    FM_TRY(fm_json_set(o, "settings_hash", fm_json_new_str(m->settings)));
    FM_TRY(fm_json_set(o, "task", fm_json_new_str(m->task->name)));
    FM_TRY(fm_json_set(o, "n_trained", fm_json_new_int(n_trained)));
    FM_TRY(fm_json_set(o, "n_rows", fm_json_new_int(m->r->n_rows)));
    FM_TRY(fm_json_set(o, "n_bad", fm_json_new_int(m->r->n_bad)));
    FM_TRY(fm_json_set(o, "n_long", fm_json_new_int(m->r->n_long)));
    FM_TRY(fm_json_set(o, "cutoff_len", fm_json_new_int(m->o->cutoff_len)));
    return m->task->describe ? m->task->describe(m->state, o) : FM_OK;
}

static fm_status finish_part(maker *m, fm_shard_writer *w, int64_t n_trained) {
    fm_json *extra = fm_json_new_object();
    fm_status s = describe(m, extra, n_trained);
    s = s == FM_OK ? fm_shard_writer_finish(w, m->tok_hash, m->files, extra) : s;
    fm_json_free(extra);
    bool val = w == m->val;
    if (s == FM_OK && m->o->difficulty) {
        char dir[4096], path[4096];
        FM_TRY(fm_path_join(dir, sizeof dir, m->work, m->o->val_size > 0 ? val ? "val" : "train" : "."));
        FM_TRY(fm_path_join(path, sizeof path, dir, FM_DIFFICULTY_FILE));
        s = fm_file_write_atomic(path, (const char *)m->difficulty[val], m->n_difficulty[val] * sizeof(float));
    }
    return s;
}

static fm_status finish(maker *m) {
    char path[4096];
    FM_TRY(check_result(m));
    FM_TRY(close_rejects(m));
    FM_TRY(finish_part(m, m->train, m->r->n_trained));
    if (m->val && m->r->n_eval_examples > 0) {
        FM_TRY(finish_part(m, m->val, m->n_trained_eval));
    } else if (m->val) {
        fm_warn("val_size %g of %lld examples held nothing out", m->o->val_size, (long long)m->r->n_examples);
        FM_TRY(fm_path_join(path, sizeof path, m->work, "val"));
        FM_TRY(fm_remove_tree(path));
    }
    FM_TRY(fm_path_join(path, sizeof path, m->work, "tokenizer"));
    FM_TRY(fm_copy_tokenizer(m->o->tokenizer, path));
    fm_crash_point("examples.rename");
    FM_TRY(fm_remove_tree(m->o->output));
    return fm_rename_dir(m->work, m->o->output);
}

static fm_status make(maker *m) {
    uint32_t n_values = 0;
    FM_TRY(fm_remove_tree(m->work));
    FM_TRY(fm_mkdirs(m->work));
    FM_TRY(m->task->open(&m->state, m->o, m->tok));
    if (m->task->needs_scan) {
        FM_TRY(walk(m, true));
    }
    if (m->task->ready) {
        FM_TRY(m->task->ready(m->state, &n_values));
    }
    FM_TRY(make_writers(m, n_values));
    FM_TRY(walk(m, false));
    return finish(m);
}

fm_status fm_examples_make(fm_examples_report *r, const fm_examples_options *o) {
    maker m = {.o = o, .r = r, .task = fm_example_task_find(o->task)};
    FM_ASSERT(m.task && o->cutoff_len > 0);
    *r = (fm_examples_report){0};
    if (o->long_rows == FM_LONG_SPLIT) {
        FM_FAIL(FM_ERR_CONFIG, "long_rows: an example cannot be split, expected refuse, cut or drop");
    }
    size_t len = strlen(o->output);
    while (len > 1 && o->output[len - 1] == '/') {
        len--;
    }
    snprintf(m.work, sizeof m.work, "%.*s.partial", (int)len, o->output);
    fm_status s = fm_pack_tokenizer(&m.tok, m.tok_hash, o->tokenizer);
    m.files = fm_json_new_array();
    s = s == FM_OK ? settings_hash(&m) : s;
    if (s == FM_OK && !made_already(&m)) {
        s = make(&m);
        if (s != FM_OK) { /* nothing stays */
            fm_error_record keep;
            fm_error_save(&keep);
            if (fm_remove_tree(m.work) != FM_OK) {
                fm_warn("%s is left over and can be removed", m.work);
            }
            fm_error_restore(&keep);
        }
    }
    if (m.rejects) {
        fclose(m.rejects);
    }
    m.task->close(m.state);
    fm_shard_writer_free(m.train);
    fm_shard_writer_free(m.val);
    fm_json_free(m.files);
    fm_tokenizer_free(m.tok);
    fm_free(m.e.ids);
    fm_free(m.e.marks);
    fm_free(m.e.values);
    fm_free(m.difficulty[0]);
    fm_free(m.difficulty[1]);
    return s;
}
