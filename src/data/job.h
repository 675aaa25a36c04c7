/* A data job: inputs, steps with their options, output. Made from a pipeline file or for one step. */
#ifndef FM_DATA_JOB_H
#define FM_DATA_JOB_H

#include "base/json.h"
#include "data/reader.h"
#include "data/step.h"
#include "fathom/data.h"

typedef struct fm_job_options {
    fm_strlist input;
    char *output, *output_format, *format;
    char *text_column, *text_template, *record_path, *encoding, *query, *delimiter;
    int txt_unit, html;
    bool no_header, repair_utf8, overwrite, strict;
    int64_t max_row_bytes, shard_bytes, seed, threads;
    char *rejects, *licence, *source;
    fm_strlist columns;
} fm_job_options;

extern const fm_option fm_job_option_rows[];

/* One line of `input`, with what is known about it. */
typedef struct fm_job_input {
    char *path, *name, *licence, *source;
} fm_job_input;

/* A file of an input. */
typedef struct fm_job_file {
    char *path;     /* as it is shown: of a URL without the password */
    char *location; /* as it is opened */
    size_t input;
    const fm_reader_def *reader;
    int64_t bytes;
} fm_job_file;

struct fm_data_job {
    fm_job_options *o; /* at the front of `object` */
    void *object;      /* fm_job_options, then the options of the one step of `data STEP` */
    fm_option *table;  /* rows of both */
    fm_job_input *input;
    size_t n_inputs, inputs_cap;
    fm_job_file *file;
    size_t n_files, files_cap;
    fm_step *step;
    size_t n_steps, steps_cap;
    bool own_step_options; /* step[i].opt are allocations of their own (pipeline file) */
};

/* Inputs to files, in order. */
FM_MUST_CHECK fm_status fm_job_resolve(fm_data_job *j);
fm_reader_options fm_job_reader_options(const fm_data_job *j);
/* Where the state and the manifest of an output are: beside a file, inside a folder. */
FM_MUST_CHECK fm_status fm_job_beside(char *buf, size_t cap, const char *output, const char *name);
/* Appends {"name":..., "options":{...}} of a step. */
FM_MUST_CHECK fm_status fm_job_describe_step(fm_json **out, const fm_step *s);

#endif
