/* One pass over the rows.
 *
 * Each thread of the pool loops: takes the next piece of input (one thread at a time, pieces are numbered), makes rows
 * of it and runs the steps on them, then waits for its number's turn and hands the result over (observing, counting,
 * writing). Pieces depend on the input alone and results are handed over in order, so the output does not depend on the
 * number of threads; no more pieces are in flight than there are threads, which bounds memory. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "data/run.h"

#define SAVE_EVERY_S 5.0

/* A thread's own. */
typedef struct worker {
    fm_recs batch, emitted;
    fm_rec **list; /* rows of the batch while a step runs */
    size_t list_cap;
    fm_step_ctx *ctx;    /* [n_steps] */
    fm_step_total *part; /* [n_steps]: of this batch */
    fm_tallies read_reasons;
    int64_t read_rows, read_bad;
    fm_out_pieces pieces, reject_pieces;
    fm_recs rejected; /* records of the rejects file */
    fm_str packed, scratch;
    size_t n_spilled;
    uint64_t *note;
    size_t note_cap;
    int64_t seq;
    size_t file; /* the batch's place in the input */
    int64_t batch_no;
    bool last_of_file;
} worker;

typedef struct pass {
    fm_run *r;
    pthread_mutex_t read_lock, turn_lock;
    pthread_cond_t turn;
    /* Under read_lock. */
    size_t file;
    int64_t batch_no;
    void *reader;
    bool reader_open, at_end;
    int64_t next_seq;
    /* Under turn_lock. */
    int64_t turn_seq;
    atomic_bool failed;
    int64_t ordinal;
    double last_save;
    fm_meter meter;
    double total_bytes;
    int64_t done_bytes;
    worker *worker; /* [n_threads] */
} pass;

/* ---- reading ---------------------------------------------------------------------------------- */

static fm_job_file *file_at(const pass *p) {
    return &p->r->job->file[p->file];
}

static void close_reader(pass *p) {
    if (p->reader_open) {
        file_at(p)->reader->close(p->reader);
        p->reader_open = false;
        p->reader = NULL;
    }
}

static fm_status open_reader(pass *p) {
    fm_run *r = p->r;
    const fm_job_file *f = file_at(p);
    p->reader_open = true;
    FM_TRY(f->reader->open(&p->reader, f->location, &r->reader_options));
    p->batch_no = 0;
    if (p->file == r->start_file) { /* what an earlier run did is read past */
        fm_recs skip = {0};
        fm_status s = FM_OK;
        for (bool more = true; s == FM_OK && more && p->batch_no < r->start_batch; p->batch_no++) {
            fm_recs_reset(&skip);
            s = f->reader->next(p->reader, &skip, &more);
            p->done_bytes += skip.bytes;
        }
        fm_recs_free(&skip);
        return s;
    }
    return FM_OK;
}

/* The rest of a file cannot be read: that is one row set aside, and the run goes on with the next file. */
static fm_status broken_file(pass *p, worker *w, fm_status s) {
    fm_run *r = p->r;
    fm_error e = fm_error_get();
    bool data = s == FM_ERR_CORRUPT || s == FM_ERR_FORMAT || s == FM_ERR_DATA || s == FM_ERR_UNSUPPORTED;
    if (!data || r->job->o->strict) {
        return s;
    }
    char message[1100];
    snprintf(message, sizeof message, "%s", e.message);
    r->n_broken++;
    fm_warn("%s: the rest of this file is not read", message);
    fm_error_clear();
    return fm_recs_reject(&w->batch, w->batch.first_line, "the rest of the file cannot be read", message,
                          (fm_sv){NULL, 0});
}

static fm_status next_of_files(pass *p, worker *w, bool *more) {
    fm_run *r = p->r;
    for (;;) {
        if (p->file >= r->job->n_files) {
            *more = false;
            return FM_OK;
        }
        fm_status s = p->reader_open ? FM_OK : open_reader(p);
        fm_recs_reset(&w->batch);
        w->batch.source = (int32_t)p->file;
        bool here = false;
        if (s == FM_OK) {
            s = file_at(p)->reader->next(p->reader, &w->batch, &here);
        }
        if (s != FM_OK) {
            w->batch.n_pieces = 0;
            fm_str_clear(&w->batch.raw);
            FM_TRY(broken_file(p, w, s));
        }
        w->file = p->file;
        w->batch_no = p->batch_no++;
        w->last_of_file = s != FM_OK || !here;
        if (w->last_of_file) {
            close_reader(p);
            p->file++;
            p->batch_no = 0;
        }
        if (here || w->batch.n > 0 || w->batch.raw.len > 0) {
            *more = true;
            return FM_OK;
        }
    }
}

/* The next piece of input for this thread, with its number. */
static fm_status take_piece(pass *p, worker *w, bool *more) {
    *more = false;
    pthread_mutex_lock(&p->read_lock);
    fm_status s = FM_OK;
    if (!p->at_end && !atomic_load(&p->failed)) {
        if (fm_cancelled()) {
            p->at_end = true;
        } else if (p->r->spill) {
            fm_recs_reset(&w->batch);
            s = fm_spill_next(p->r->spill, &w->batch, more);
        } else {
            s = next_of_files(p, w, more);
        }
        p->at_end = p->at_end || !*more;
        w->seq = *more ? p->next_seq++ : -1;
    }
    pthread_mutex_unlock(&p->read_lock);
    return s;
}

/* ---- steps ------------------------------------------------------------------------------------ */

typedef fm_status (*row_fn)(fm_step_ctx *c, fm_rec *r);

static fm_status push(worker *w, size_t *n, fm_rec *rec) {
    void *q = w->list;
    FM_TRY(fm_grow(&q, &w->list_cap, *n + 1, sizeof(fm_rec *)));
    w->list = q;
    w->list[(*n)++] = rec;
    return FM_OK;
}

/* One step over the rows of the batch; rows it adds come behind the one they were made from. */
static fm_status step_over(const pass *p, worker *w, int index, row_fn fn, bool counts_in) {
    fm_step_ctx *c = &w->ctx[index];
    fm_step_total *t = &w->part[index];
    size_t n = 0;
    c->arena = &w->batch.arena;
    c->emitted = &w->emitted;
    w->emitted.n = 0;
    for (size_t i = 0; i < w->batch.n; i++) {
        fm_rec *rec = w->batch.rec[i];
        FM_TRY(push(w, &n, rec));
        if (rec->drop) {
            continue;
        }
        t->in += counts_in;
        c->at = rec;
        fm_status s = fn(c, rec);
        if (s != FM_OK) {
            return fm_error_context("step %s, %s:%lld", p->r->step[index].def->name,
                                    rec->source >= 0 ? p->r->job->file[rec->source].path : "a made row",
                                    (long long)rec->line);
        }
        if (rec->drop) {
            t->dropped++;
            FM_TRY(fm_tally_add(&t->reasons, rec->drop, 1));
        }
        for (size_t k = 0; k < w->emitted.n; k++) {
            FM_TRY(push(w, &n, w->emitted.rec[k]));
            t->emitted++;
        }
        w->emitted.n = 0;
    }
    if (n != w->batch.n) { /* rows were added: take over the list */
        void *q = w->batch.rec;
        FM_TRY(fm_grow(&q, &w->batch.cap, n, sizeof(fm_rec *)));
        w->batch.rec = q;
        memcpy(w->batch.rec, w->list, n * sizeof(fm_rec *));
        w->batch.n = n;
    }
    return FM_OK;
}

static fm_status fill_template(const pass *p, worker *w) {
    const fm_run *r = p->r;
    for (size_t i = 0; r->template_ && i < w->batch.n; i++) {
        fm_rec *rec = w->batch.rec[i];
        const char *missing = NULL;
        if (!rec->drop) {
            FM_TRY(fm_text_template_fill(r->template_, &w->batch.arena, rec, r->reader_options.text_column, &missing));
        }
        if (missing) {
            rec->drop = "a column of the template is missing";
            rec->drop_step = -1;
            rec->detail = missing;
        }
    }
    return FM_OK;
}

static fm_status parse_piece(const pass *p, worker *w) {
    const fm_run *r = p->r;
    if (r->spill) {
        return fm_spill_decode(&w->batch);
    }
    const fm_reader_def *reader = r->job->file[w->file].reader;
    if (reader->parse && (w->batch.raw.len || w->batch.n_pieces)) {
        FM_TRY(reader->parse(&w->batch, &r->reader_options));
    }
    FM_TRY(fill_template(p, w));
    for (size_t i = 0; i < w->batch.n; i++) {
        const fm_rec *rec = w->batch.rec[i];
        w->read_rows++;
        if (rec->drop) {
            w->read_bad++;
            FM_TRY(fm_tally_add(&w->read_reasons, rec->drop, 1));
            if (r->job->o->strict) {
                FM_FAIL(FM_ERR_DATA, "%s:%lld: %s", r->job->file[w->file].path, (long long)rec->line, rec->drop);
            }
        }
    }
    return FM_OK;
}

/* The rejects file's rows: where each dropped row came from, why, and what it was. */
static fm_status make_rejects(const pass *p, worker *w) {
    const fm_run *r = p->r;
    fm_str row = {0};
    fm_status s = FM_OK;
    fm_recs_reset(&w->rejected);
    fm_bump *a = &w->rejected.arena;
    for (size_t i = 0; i < w->batch.n && s == FM_OK; i++) {
        const fm_rec *rec = w->batch.rec[i];
        fm_rec *out;
        if (!rec->drop) {
            continue;
        }
        const char *step = rec->drop_step < 0 ? "read" : r->step[rec->drop_step].def->name;
        const char *file = rec->source >= 0 ? r->job->file[rec->source].path : "";
        fm_str_clear(&row);
        fm_rec_put_json(&row, rec);
        FM_TRY_GOTO(s, done, fm_str_check(&row));
        FM_TRY_GOTO(s, done, fm_recs_add(&w->rejected, &out));
        FM_TRY_GOTO(s, done, fm_rec_set_text(a, out, "file", file, strlen(file)));
        if (rec->member.len) {
            FM_TRY_GOTO(s, done, fm_rec_set_text(a, out, "member", rec->member.ptr, rec->member.len));
        }
        FM_TRY_GOTO(s, done, fm_rec_set_int(a, out, "line", rec->line));
        FM_TRY_GOTO(s, done, fm_rec_set_text(a, out, "step", step, strlen(step)));
        FM_TRY_GOTO(s, done, fm_rec_set_text(a, out, "reason", rec->drop, strlen(rec->drop)));
        if (rec->detail) {
            FM_TRY_GOTO(s, done, fm_rec_set_text(a, out, "detail", rec->detail, strlen(rec->detail)));
        }
        FM_TRY_GOTO(s, done, fm_rec_set_json(a, out, "row", row.data, row.len));
    }
    if (s == FM_OK) {
        s = fm_out_encode(r->rejects, &w->rejected, &w->reject_pieces);
    }
done:
    fm_str_free(&row);
    return s;
}

/* Raw text of a refused row may be no UTF-8; a rejects file is always good JSON. */
static fm_status repair_refused(worker *w) {
    for (size_t i = 0; i < w->batch.n; i++) {
        fm_rec *rec = w->batch.rec[i];
        if (rec->drop && rec->drop_step < 0 && rec->n == 1) {
            FM_TRY(fm_bump_repair(&w->batch.arena, &rec->cell[0].text, rec->cell[0].text));
        }
    }
    return FM_OK;
}

static fm_status encode(const pass *p, worker *w) {
    const fm_run *r = p->r;
    if (r->rejects) {
        FM_TRY(repair_refused(w));
        FM_TRY(make_rejects(p, w));
    }
    if (r->next_spill) {
        return fm_spill_encode(&w->packed, &w->scratch, &w->batch, &w->n_spilled);
    }
    return fm_out_encode(r->out, &w->batch, &w->pieces);
}

static fm_status run_steps(const pass *p, worker *w) {
    const fm_run *r = p->r;
    const fm_pass *k = &r->pass;
    if (k->apply >= 0 && r->step[k->apply].def->apply) {
        FM_TRY(step_over(p, w, k->apply, r->step[k->apply].def->apply, false));
    }
    for (int i = k->first; i < k->end; i++) {
        FM_TRY(step_over(p, w, i, r->step[i].def->row, true));
    }
    if (k->observe >= 0) {
        const fm_step_def *d = r->step[k->observe].def;
        for (size_t i = 0; i < w->batch.n; i++) {
            w->part[k->observe].in += w->batch.rec[i]->drop == NULL;
        }
        if (d->row) {
            FM_TRY(step_over(p, w, k->observe, d->row, false));
        }
    }
    return encode(p, w);
}

/* ---- handing over ----------------------------------------------------------------------------- */

static fm_status merge(fm_tallies *into, fm_tallies *from) {
    for (size_t i = 0; i < from->n; i++) {
        if (from->item[i].n) {
            FM_TRY(fm_tally_add(into, from->item[i].name, from->item[i].n));
        }
    }
    fm_tallies_clear(from);
    return FM_OK;
}

static fm_status add_totals(const pass *p, worker *w) {
    fm_run *r = p->r;
    r->read.in += w->read_rows;
    r->read.dropped += w->read_bad;
    r->read.out += w->read_rows - w->read_bad;
    FM_TRY(merge(&r->read.reasons, &w->read_reasons));
    w->read_rows = w->read_bad = 0;
    for (size_t i = 0; i < r->n_steps; i++) {
        fm_step_total *t = &r->total[i], *f = &w->part[i];
        t->in += f->in;
        t->emitted += f->emitted;
        t->dropped += f->dropped;
        t->out = t->in - t->dropped + t->emitted;
        f->in = f->emitted = f->dropped = 0;
        FM_TRY(merge(&t->reasons, &f->reasons));
        FM_TRY(merge(&t->counts, &w->ctx[i].counts));
    }
    return FM_OK;
}

static fm_status observe_rows(pass *p, worker *w) {
    const fm_run *r = p->r;
    const fm_step_def *d = r->step[r->pass.observe].def;
    size_t n = 0;
    void *q = w->note;
    FM_TRY(fm_grow(&q, &w->note_cap, w->n_spilled + 1, sizeof *w->note));
    w->note = q;
    for (size_t i = 0; i < w->batch.n; i++) {
        fm_rec *rec = w->batch.rec[i];
        if (rec->drop) {
            continue;
        }
        rec->ordinal = p->ordinal++;
        rec->note = 0;
        if (d->observe) {
            FM_TRY(d->observe(&w->ctx[r->pass.observe], rec));
        }
        FM_ASSERT(!rec->drop && n < w->n_spilled); /* dropping is for row and apply */
        w->note[n++] = rec->note;
    }
    return fm_spill_write(r->next_spill, &w->packed, w->note, n);
}

static fm_status hand_over(pass *p, worker *w) {
    fm_run *r = p->r;
    if (r->pass.observe >= 0) {
        FM_TRY(observe_rows(p, w));
    } else {
        FM_TRY(fm_out_write(r->out, &w->batch, &w->pieces));
    }
    if (r->rejects) {
        FM_TRY(fm_out_write(r->rejects, &w->rejected, &w->reject_pieces));
    }
    FM_TRY(add_totals(p, w));
    if (r->pass.observe < 0) {
        for (size_t i = 0; i < w->pieces.n; i++) {
            r->rows_out += w->pieces.item[i].n_rows;
        }
    }
    p->done_bytes += w->batch.bytes;
    double s = fm_now() - r->started;
    char detail[96], rows[32], rate[32];
    snprintf(detail, sizeof detail, "%s rows, %s rows/s", fm_format_count(rows, sizeof rows, (double)r->read.in),
             fm_format_count(rate, sizeof rate, s > 0 ? (double)r->read.in / s : 0));
    fm_meter_update(&p->meter, (double)p->done_bytes, detail);
    fm_crash_point("data.batch");
    if (r->resumable && !fm_cancelled() && fm_now() - p->last_save > SAVE_EVERY_S) {
        p->last_save = fm_now();
        return fm_run_save(r, w->last_of_file ? w->file + 1 : w->file, w->last_of_file ? 0 : w->batch_no + 1);
    }
    return FM_OK;
}

static void fail(pass *p) {
    pthread_mutex_lock(&p->turn_lock);
    atomic_store(&p->failed, true);
    pthread_cond_broadcast(&p->turn);
    pthread_mutex_unlock(&p->turn_lock);
}

static fm_status take_turn(pass *p, worker *w, size_t *file, int64_t *batch) {
    pthread_mutex_lock(&p->turn_lock);
    while (p->turn_seq != w->seq && !atomic_load(&p->failed)) {
        pthread_cond_wait(&p->turn, &p->turn_lock);
    }
    fm_status s = FM_OK;
    if (!atomic_load(&p->failed)) {
        s = hand_over(p, w);
        p->turn_seq++;
        *file = w->last_of_file ? w->file + 1 : w->file;
        *batch = w->last_of_file ? 0 : w->batch_no + 1;
        pthread_cond_broadcast(&p->turn);
    }
    pthread_mutex_unlock(&p->turn_lock);
    return s;
}

typedef struct progress_mark {
    pass *p;
    size_t file;
    int64_t batch;
} progress_mark;

static fm_status work(void *arg, int64_t part, int64_t n_parts, int thread) {
    progress_mark *m = arg;
    pass *p = m->p;
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    worker *w = &p->worker[part];
    for (;;) {
        bool more;
        fm_status s = take_piece(p, w, &more);
        if (s == FM_OK && !more) {
            return FM_OK;
        }
        if (s == FM_OK) {
            s = parse_piece(p, w);
        }
        if (s == FM_OK) {
            s = run_steps(p, w);
        }
        if (s == FM_OK) {
            s = take_turn(p, w, &m->file, &m->batch);
        }
        if (s != FM_OK) {
            fail(p);
            return s;
        }
        if (atomic_load(&p->failed)) {
            return FM_OK; /* the thread that failed reports */
        }
    }
}

/* ---- the pass --------------------------------------------------------------------------------- */

static void free_worker(const fm_run *r, worker *w) {
    for (size_t i = 0; w->ctx && i < r->n_steps; i++) {
        fm_step_ctx *c = &w->ctx[i];
        const fm_step_def *d = r->step[i].def;
        if (c->local && d->local_free) {
            d->local_free(c->local);
        }
        fm_free(c->local);
        fm_str_free(&c->tmp[0]);
        fm_str_free(&c->tmp[1]);
        fm_tallies_free(&c->counts);
    }
    for (size_t i = 0; w->part && i < r->n_steps; i++) {
        fm_tallies_free(&w->part[i].reasons);
        fm_tallies_free(&w->part[i].counts);
    }
    fm_tallies_free(&w->read_reasons);
    fm_free(w->ctx);
    fm_free(w->part);
    fm_free(w->list);
    fm_free(w->note);
    fm_recs_free(&w->batch);
    fm_recs_free(&w->emitted);
    fm_recs_free(&w->rejected);
    fm_out_pieces_free(&w->pieces);
    fm_out_pieces_free(&w->reject_pieces);
    fm_str_free(&w->packed);
    fm_str_free(&w->scratch);
}

static fm_status new_worker(const fm_run *r, worker *w, int thread) {
    w->ctx = fm_calloc(r->n_steps + 1, sizeof *w->ctx);
    w->part = fm_calloc(r->n_steps + 1, sizeof *w->part);
    if (!w->ctx || !w->part) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a worker");
    }
    for (size_t i = 0; i < r->n_steps; i++) {
        w->ctx[i].step = &r->step[i];
        w->ctx[i].thread = thread;
        bool runs =
            ((int)i >= r->pass.first && (int)i < r->pass.end) || (int)i == r->pass.apply || (int)i == r->pass.observe;
        const fm_step_def *d = r->step[i].def;
        if (runs && d->local_bytes) {
            void *local = w->ctx[i].local = fm_calloc(1, d->local_bytes);
            if (!local) {
                FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a thread of the step %s", d->name);
            }
            FM_TRY(d->local_init ? d->local_init(&r->step[i], local) : FM_OK);
        }
    }
    return FM_OK;
}

/* Rows that a whole-set step adds behind the last one go through the rest of the pass as one more batch. */
static fm_status run_tail(pass *p) {
    const fm_run *r = p->r;
    worker *w = &p->worker[0];
    const fm_step_def *d = r->pass.apply >= 0 ? r->step[r->pass.apply].def : NULL;
    if (!d || !d->tail) {
        return FM_OK;
    }
    fm_recs_reset(&w->batch);
    fm_step_ctx *c = &w->ctx[r->pass.apply];
    c->arena = &w->batch.arena;
    c->emitted = &w->emitted;
    c->at = NULL;
    w->emitted.n = 0;
    FM_TRY(d->tail(c));
    for (size_t i = 0; i < w->emitted.n; i++) {
        FM_TRY(fm_recs_push(&w->batch, w->emitted.rec[i]));
        w->part[r->pass.apply].emitted++;
    }
    fm_pass whole = r->pass;
    p->r->pass.apply = -1;
    fm_status s = run_steps(p, w);
    p->r->pass = whole;
    FM_TRY(s);
    return hand_over(p, w);
}

static double input_bytes(const fm_run *r) {
    double sum = 0;
    if (r->spill) {
        return (double)fm_spill_bytes(r->spill);
    }
    for (size_t i = 0; i < r->job->n_files; i++) {
        if (r->job->file[i].bytes < 0) {
            return 0;
        }
        sum += (double)r->job->file[i].bytes;
    }
    return sum;
}

static fm_status run_pass(pass *p) {
    fm_run *r = p->r;
    int n = fm_pool_threads(r->pool);
    p->worker = fm_calloc((size_t)n, sizeof *p->worker);
    if (!p->worker) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %d workers", n);
    }
    for (int i = 0; i < n; i++) {
        FM_TRY(new_worker(r, &p->worker[i], i));
    }
    progress_mark m = {p, r->start_file, r->start_batch};
    fm_meter_start(&p->meter, r->spill ? "second pass" : "reading", "bytes", input_bytes(r));
    FM_TRY(fm_pool_run(r->pool, n, work, &m));
    if (fm_cancelled()) {
        if (r->resumable) {
            FM_TRY(fm_run_save(r, m.file, m.batch));
        }
        fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted after %lld rows", (long long)r->read.in);
        return fm_error_hint(r->resumable ? "the same command goes on from there"
                                          : "steps that need the whole set begin anew");
    }
    FM_TRY(run_tail(p));
    fm_meter_end(&p->meter, (double)p->done_bytes, "");
    if (!r->spill) {
        r->bytes_in = p->done_bytes;
    }
    return FM_OK;
}

fm_status fm_pass_run(fm_run *r) {
    pass p = {.r = r, .file = r->start_file, .last_save = fm_now()};
    pthread_mutex_init(&p.read_lock, NULL);
    pthread_mutex_init(&p.turn_lock, NULL);
    pthread_cond_init(&p.turn, NULL);
    fm_status s = run_pass(&p);
    if (!r->spill) {
        close_reader(&p);
    }
    for (int i = 0; p.worker && i < fm_pool_threads(r->pool); i++) {
        free_worker(r, &p.worker[i]);
    }
    fm_free(p.worker);
    pthread_cond_destroy(&p.turn);
    pthread_mutex_destroy(&p.read_lock);
    pthread_mutex_destroy(&p.turn_lock);
    return s;
}
