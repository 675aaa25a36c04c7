/* Rows inside the data pipeline: a record is an ordered list of named, typed cells; records live in a batch with one
 * arena, which is emptied as a whole.
 *
 * Values that a step does not touch leave as they came: numbers, nested JSON and untouched strings keep their text
 * verbatim. */
#ifndef FM_DATA_REC_H
#define FM_DATA_REC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"

/* ---- arena ------------------------------------------------------------------------------------ */

typedef struct fm_bump_block fm_bump_block;
/* Memory given out in order and taken back all at once. Zero-initialise. */
typedef struct fm_bump {
    fm_bump_block *first, *at; /* blocks are kept between resets */
    size_t used;               /* of `at` */
} fm_bump;
void *fm_bump_alloc(fm_bump *a, size_t bytes);           /* aligned to 16; NULL without memory */
char *fm_bump_copy(fm_bump *a, const char *p, size_t n); /* NUL-terminated copy */
FM_MUST_CHECK fm_status fm_bump_sv(fm_bump *a, fm_sv *out, const char *p, size_t n);
/* The text with each byte that is no UTF-8 as U+FFFD; the view itself when there is none. */
FM_MUST_CHECK fm_status fm_bump_repair(fm_bump *a, fm_sv *out, fm_sv text);
void fm_bump_reset(fm_bump *a);
void fm_bump_free(fm_bump *a);

/* ---- records ---------------------------------------------------------------------------------- */

typedef enum fm_cell_kind {
    FM_CELL_NULL,
    FM_CELL_BOOL,
    FM_CELL_INT,
    FM_CELL_FLOAT,
    FM_CELL_TEXT,
    FM_CELL_JSON, /* an array or object, as its JSON text */
} fm_cell_kind;

typedef struct fm_cell {
    fm_sv name;
    fm_cell_kind kind;
    fm_sv text; /* TEXT: valid UTF-8. Others: the value as JSON ("null", "true", "12", "1e3", "[1,2]") */
    fm_sv raw;  /* TEXT: the JSON string it was read from, without its quotes; ptr NULL when it must be made anew */
} fm_cell;

typedef struct fm_rec {
    fm_cell *cell;
    size_t n, cap;
    int32_t source;     /* input file, index into the run's list; -1 = made by a step */
    int64_t line;       /* from 1, where the row begins; records in a binary format count rows */
    fm_sv member;       /* file inside an archive, or empty */
    int64_t ordinal;    /* whole-set steps: position among the rows that reached the step, from 0 */
    uint64_t note;      /* whole-set steps: what `observe` wrote down */
    void *aux;          /* one step's own, within one batch */
    const char *part;   /* output part such as "train"; NULL = the main one */
    const char *drop;   /* NULL, or the reason it was taken out */
    const char *detail; /* more about the reason for the rejects file, or NULL */
    int32_t drop_step;  /* which step did; -1 = the reader */
} fm_rec;

/* A piece of raw input that makes one record. */
typedef struct fm_piece {
    size_t at, len;
    int64_t line;
    const char *bad; /* NULL, or why it is no row (static text or in the arena) */
} fm_piece;

/* A named count of one step (reason of a drop, or what it changed). */
typedef struct fm_tally {
    const char *name;
    int64_t n;
} fm_tally;
typedef struct fm_tallies {
    fm_tally *item;
    size_t n, cap;
} fm_tallies;
FM_MUST_CHECK fm_status fm_tally_add(fm_tallies *t, const char *name, int64_t n); /* name is copied */
void fm_tallies_clear(fm_tallies *t);
void fm_tallies_free(fm_tallies *t);

typedef struct fm_recs {
    fm_bump arena;
    fm_rec **rec;
    size_t n, cap;
    int32_t source;
    fm_str raw;      /* input bytes that a worker has still to parse, cut at row ends */
    fm_str unpacked; /* what raw was packed from (fm_spill_decode) */
    fm_piece *piece; /* [n_pieces] rows in raw; none: its lines are the rows */
    size_t n_pieces, pieces_cap;
    int64_t first_line; /* of raw */
    int64_t bytes;      /* of input behind this batch, for progress */
} fm_recs;

void fm_recs_reset(fm_recs *b);
void fm_recs_free(fm_recs *b);
/* A new empty record at the end of the batch. */
FM_MUST_CHECK fm_status fm_recs_add(fm_recs *b, fm_rec **out);
FM_MUST_CHECK fm_status fm_recs_push(fm_recs *b, fm_rec *r);
/* A new record that belongs to no list yet; a shallow copy of `like` when it is not NULL. */
FM_MUST_CHECK fm_status fm_rec_new(fm_bump *a, fm_rec **out, const fm_rec *like);
/* Adds a row that could not be read: a reason of few words, NULL or more about this row, and what there is of it (all
 * copied; raw up to 64 KiB). */
FM_MUST_CHECK fm_status fm_recs_reject(fm_recs *b, int64_t line, const char *reason, const char *detail, fm_sv raw);
FM_MUST_CHECK fm_status fm_recs_piece(fm_recs *b, size_t at, size_t len, int64_t line, const char *bad);

/* The cell of that name, or NULL. */
fm_cell *fm_rec_get(const fm_rec *r, const char *name);
fm_cell *fm_rec_get_sv(const fm_rec *r, fm_sv name);
/* Appends a cell, whatever is there already; the views are not copied. */
FM_MUST_CHECK fm_status fm_rec_push(fm_bump *a, fm_rec *r, fm_cell c);
/* Sets a column, adding it at the end when it is new. Names and values are copied into the arena. */
FM_MUST_CHECK fm_status fm_rec_set_text(fm_bump *a, fm_rec *r, const char *name, const char *p, size_t n);
FM_MUST_CHECK fm_status fm_rec_set_json(fm_bump *a, fm_rec *r, const char *name, const char *p, size_t n);
FM_MUST_CHECK fm_status fm_rec_set_int(fm_bump *a, fm_rec *r, const char *name, int64_t v);
FM_MUST_CHECK fm_status fm_rec_set_float(fm_bump *a, fm_rec *r, const char *name, double v); /* non-finite: null */
FM_MUST_CHECK fm_status fm_rec_set_bool(fm_bump *a, fm_rec *r, const char *name, bool v);
FM_MUST_CHECK fm_status fm_rec_set_null(fm_bump *a, fm_rec *r, const char *name);
void fm_rec_remove(fm_rec *r, const fm_cell *c);
/* Replaces a cell's value by text (copied). */
FM_MUST_CHECK fm_status fm_cell_set_text(fm_bump *a, fm_cell *c, const char *p, size_t n);
/* True for numbers, and for text that is a number ("12", " 1.5 "). */
bool fm_cell_number(const fm_cell *c, double *out);
/* null, or text that is empty. */
bool fm_cell_is_empty(const fm_cell *c);

/* One JSON object with the cells in order, no line end. */
void fm_rec_put_json(fm_str *out, const fm_rec *r);
/* The cell's value as JSON. */
void fm_cell_put_json(fm_str *out, const fm_cell *c);
/* Reads a JSON object; the cells point into `line`, which must outlive them. FM_ERR_DATA when it is broken. */
FM_MUST_CHECK fm_status fm_rec_parse_json(fm_bump *a, fm_rec *r, const char *line, size_t n);
/* 64-bit hash of a cell's name, kind and value; of the whole row: depends on all columns, not on their order. */
uint64_t fm_cell_hash(const fm_cell *c);
uint64_t fm_rec_hash(const fm_rec *r);

#endif
