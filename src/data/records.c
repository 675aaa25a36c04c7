/* Rows one by one through the readers' table. */
#include "data/records.h"

#include "base/error.h"
#include "base/mem.h"
#include "data/job.h"

#define MAX_ROW_BYTES ((int64_t)64 << 20)

struct fm_records {
    fm_data_job job;
    fm_job_options options;
    fm_reader_options reader_options;
    fm_record_bad_fn on_bad;
    void *user;
    size_t file; /* being read; n_files: done */
    void *state; /* of its reader, or NULL */
    bool more;   /* the reader has more */
    fm_recs batch;
    size_t next; /* row of the batch */
    int64_t n_read, n_bad, bytes_read, bytes_all;
};

fm_status fm_records_open(fm_records **out, const fm_records_options *o) {
    fm_records *r = *out = fm_calloc(1, sizeof *r);
    if (!r) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for reading rows");
    }
    r->options = (fm_job_options){.input = o->input, .max_row_bytes = MAX_ROW_BYTES};
    r->options.format = fm_strdup(o->format ? o->format : "auto");
    r->job.o = &r->options;
    r->on_bad = o->on_bad;
    r->user = o->user;
    fm_status s = r->options.format ? fm_job_resolve(&r->job)
                                    : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for reading rows");
    r->options.input = (fm_strlist){0}; /* the caller's */
    r->reader_options = fm_job_reader_options(&r->job);
    for (size_t i = 0; i < r->job.n_files; i++) {
        r->bytes_all += FM_MAX(r->job.file[i].bytes, 0);
    }
    if (s != FM_OK) {
        fm_records_close(r);
        *out = NULL;
    }
    return s;
}

void fm_records_close(fm_records *r) {
    if (!r) {
        return;
    }
    if (r->state) {
        r->job.file[r->file].reader->close(r->state);
    }
    for (size_t i = 0; i < r->job.n_inputs; i++) {
        fm_free(r->job.input[i].path);
        fm_free(r->job.input[i].name);
        fm_free(r->job.input[i].licence);
        fm_free(r->job.input[i].source);
    }
    for (size_t i = 0; i < r->job.n_files; i++) {
        fm_free(r->job.file[i].path);
        fm_free(r->job.file[i].location);
    }
    fm_free(r->job.input);
    fm_free(r->job.file);
    fm_free(r->options.format);
    fm_recs_free(&r->batch);
    fm_free(r);
}

static void bad(fm_records *r, int64_t line, const char *reason) {
    r->n_bad++;
    if (r->on_bad) {
        r->on_bad(r->user, r->job.file[r->file].path, line, reason);
    }
}

void fm_records_reject(fm_records *r, const fm_rec *row, const char *reason) {
    bad(r, row->line, reason);
}

/* Fills the batch; leaves it empty at the end of the current file. */
static fm_status fill(fm_records *r) {
    const fm_job_file *f = &r->job.file[r->file];
    fm_recs_reset(&r->batch);
    r->batch.source = (int32_t)r->file;
    r->next = 0;
    fm_status s = FM_OK;
    if (!r->state) {
        r->more = true;
        s = f->reader->open(&r->state, f->location, &r->reader_options);
        if (s != FM_OK) { /* a file that cannot be opened is the caller's to know; nothing was read of it */
            fm_error_record error;
            fm_error_save(&error);
            f->reader->close(r->state);
            fm_error_restore(&error);
            r->state = NULL;
            return s;
        }
    }
    if (r->more) {
        s = f->reader->next(r->state, &r->batch, &r->more);
    }
    if (s == FM_OK && f->reader->parse && (r->batch.raw.len || r->batch.n_pieces)) {
        s = f->reader->parse(&r->batch, &r->reader_options);
    }
    if (s == FM_ERR_NO_MEMORY || s == FM_ERR_CANCELLED) {
        return s;
    }
    if (s != FM_OK) {
        bad(r, 0, fm_error_get().message);
        r->n_read++;
        r->more = false;
    }
    r->bytes_read += r->batch.bytes;
    return FM_OK;
}

fm_status fm_records_next(fm_records *r, fm_rec **row, fm_bump **arena) {
    *row = NULL;
    for (;;) {
        while (r->next < r->batch.n) {
            fm_rec *rec = r->batch.rec[r->next++];
            r->n_read++;
            if (!rec->drop) {
                *row = rec;
                *arena = &r->batch.arena;
                return FM_OK;
            }
            bad(r, rec->line, rec->drop);
        }
        if (r->file == r->job.n_files) {
            return FM_OK;
        }
        if (r->state && !r->more) {
            r->job.file[r->file].reader->close(r->state);
            r->state = NULL;
            if (++r->file == r->job.n_files) {
                return FM_OK;
            }
        }
        FM_TRY(fill(r));
    }
}

int64_t fm_records_n_read(const fm_records *r) {
    return r->n_read;
}
int64_t fm_records_n_bad(const fm_records *r) {
    return r->n_bad;
}
size_t fm_records_n_files(const fm_records *r) {
    return r->job.n_files;
}
const char *fm_records_file(const fm_records *r, size_t i) {
    return r->job.file[i].path;
}
const char *fm_records_format(const fm_records *r, size_t i) {
    return r->job.file[i].reader->name;
}
size_t fm_records_file_index(const fm_records *r) {
    return r->file;
}
double fm_records_share(const fm_records *r) {
    return r->bytes_all > 0 ? FM_MIN((double)r->bytes_read / (double)r->bytes_all, 1.0) : 0;
}
