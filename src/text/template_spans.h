/* One rendering as a job, and finding the assistant's parts of a text. */
#ifndef FM_TEXT_TEMPLATE_SPANS_H
#define FM_TEXT_TEMPLATE_SPANS_H

#include "text/template.h"

/* A character that is put into the content of a message to see where it comes out. */
typedef struct fmj_mark {
    const char *text; /* NULL = none */
    size_t message;
    bool front; /* before the content, else behind it */
} fmj_mark;

typedef struct fmj_job {
    const fm_template *t;
    fm_json *messages;
    size_t n_messages;                             /* the first n_messages are rendered */
    fm_json *tools, *documents, *vars, *more_vars; /* NULL = none; more_vars win */
    bool generation;
    int64_t now, max_steps;
    fmj_mark mark;
} fmj_job;

/* Text and the spans of {% generation %} blocks. *out is empty after a failure. */
FM_MUST_CHECK fm_status fmj_job_run(fm_template_result *out, const fmj_job *job);
bool fmj_job_marks_itself(const fmj_job *job); /* the template has {% generation %} */
/* Fills out->span for a template without {% generation %}; out holds the text of `job`. */
FM_MUST_CHECK fm_status fmj_find_spans(fm_template_result *out, const fmj_job *job);
/* The last place of what[n] in [p, end), or NULL. */
const char *fmj_last_of(const char *p, const char *end, const char *what, size_t n);

#endif
