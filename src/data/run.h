/* Inside of a data run: what run.c (the plan) and pass.c (one pass over the rows by many threads) share. */
#ifndef FM_DATA_RUN_H
#define FM_DATA_RUN_H

#include "base/pool.h"
#include "data/job.h"
#include "data/out.h"
#include "data/spill.h"

typedef struct fm_step_total {
    int64_t in, out, emitted, dropped;
    fm_tallies reasons, counts;
} fm_step_total;

/* One pass: rows from the input files or a spill, through the steps [first, end), to a spill or to the output. */
typedef struct fm_pass {
    int apply; /* step whose `apply` comes first, or -1 */
    int first, end;
    int observe; /* step whose `row` and `observe` come last, or -1; then rows go to a spill */
} fm_pass;

typedef struct fm_run {
    fm_data_job *job;
    fm_reader_options reader_options;
    fm_text_template *template_;
    fm_step_env env;
    fm_step *step; /* [n_steps]: the job's, then the frame's own */
    size_t n_steps;
    fm_step_total *total; /* [n_steps] */
    fm_step_total read;   /* of the readers */
    fm_out *out;
    unsigned *kinds; /* of the named columns */
    fm_out *rejects; /* or NULL */
    fm_spill *spill; /* of the pass before */
    fm_spill *next_spill;
    fm_pool *pool;
    fm_pass pass;
    bool resumable; /* one pass, files in and out */
    char state_path[4096];
    uint64_t fingerprint;
    /* where reading begins: of a resumed run */
    size_t start_file;
    int64_t start_batch;
    int64_t rows_out, bytes_in;
    int64_t n_broken; /* files whose rest could not be read */
    fm_tallies broken;
    double started;
} fm_run;

/* Runs r->pass. */
FM_MUST_CHECK fm_status fm_pass_run(fm_run *r);

/* State of an interrupted run (run_state.c). */
FM_MUST_CHECK fm_status fm_run_save(fm_run *r, size_t file, int64_t batch);
/* Takes up what was saved, if it belongs to the same job; else begins anew. */
FM_MUST_CHECK fm_status fm_run_load(fm_run *r, bool *resumed);
FM_MUST_CHECK fm_status fm_total_json(fm_json **out, const fm_step_total *t);

/* The manifest of a finished run (owned). */
FM_MUST_CHECK fm_status fm_manifest_make(fm_json **out, const fm_run *r, fm_json *files_take);

#endif
