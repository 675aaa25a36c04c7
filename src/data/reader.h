/* A reader makes records from one input file: one file that defines `const fm_reader_def fm_reader_<symbol>`, and one
 * row in readers.def.
 *
 * `next` is called by one thread at a time and fills a batch, whose borders may depend on the file's bytes only. A
 * reader of big text formats puts whole rows as bytes into batch->raw and leaves making records of them to `parse`,
 * which many threads run at once. Rows that cannot be read go into the batch by fm_recs_reject; a status other than
 * FM_OK means that the rest of the file cannot be read. */
#ifndef FM_DATA_READER_H
#define FM_DATA_READER_H

#include "data/rec.h"

/* Input is taken in pieces of about this size. */
#define FM_READER_BLOCK ((size_t)1 << 20)

typedef struct fm_reader_options {
    const char *format;        /* of files inside archives; NULL or "auto": by their names */
    const char *text_column;   /* column that holds a text document ("text") */
    const char *text_template; /* NULL, or "{title}\n{body}": makes text_column from columns */
    const char *record_path;   /* NULL, or where the records are ("data.items", "//article") */
    const char *encoding;      /* NULL: detected */
    const char *query;         /* SQL */
    int txt_unit;              /* fm_txt_unit of io/rows.h */
    int html;                  /* fm_html_rows_kind of data/html_rows.h */
    char delimiter;            /* 0 = by the name */
    bool no_header;
    bool repair_utf8;     /* bad bytes become U+FFFD instead of refusing the row */
    size_t max_row_bytes; /* a longer row is set aside */
} fm_reader_options;

typedef struct fm_reader_def {
    const char *name;     /* of --format */
    const char *suffixes; /* ".jsonl|.ndjson": of file names, before .gz or .zst; NULL: by --format only */
    const char *help;
    fm_status (*open)(void **state, const char *path, const fm_reader_options *o);
    fm_status (*next)(void *state, fm_recs *b, bool *more);
    fm_status (*parse)(fm_recs *b, const fm_reader_options *o); /* or NULL */
    void (*close)(void *state);
    bool is_dir;                       /* reads folders of its own kind */
    bool (*is_mine)(const char *path); /* NULL, or looks at the file or folder itself */
} fm_reader_def;

extern const fm_reader_def fm_reader_archive; /* reads what other readers read */
const fm_reader_def *fm_reader_at(size_t i);  /* NULL behind the last */
/* By name ("auto": by file name, then content). FM_ERR_CONFIG for an unknown name. */
FM_MUST_CHECK fm_status fm_reader_find(const fm_reader_def **out, const char *name, const char *path);
/* True when a file of this name is read when it lies in an input folder. */
bool fm_reader_knows(const char *path);

/* Fills the text column from the template; *missing is the name of a column that is not there. */
typedef struct fm_text_template fm_text_template;
FM_MUST_CHECK fm_status fm_text_template_new(fm_text_template **out, const char *text);
void fm_text_template_free(fm_text_template *t);
FM_MUST_CHECK fm_status fm_text_template_fill(const fm_text_template *t, fm_bump *a, fm_rec *r, const char *column,
                                              const char **missing);

#endif
