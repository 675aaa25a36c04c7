/* Tasks of Label Studio (JSON export, or its API) as rows, one for each annotation.
 *
 *   data members   columns of their names
 *   choices        "label", or "labels" where several are allowed
 *   labels         "entities": [{"start","end","label","text"}], places in characters (code points; Label Studio counts
 *                  UTF-16 units)
 *   textarea       "answer", a list where there are several
 *   pairwise       "chosen" and "rejected"
 *   rating, number "score"
 * JSON-MIN, where results stand beside the data by the names of their controls, is read too: spans, ratings,
 * comparisons and several choices are told by their form, one choice or answer by the control's name (from_name) or as
 * a label of the guide.
 *
 * A second control of one type has the column of its own name. Beside them: task_id, annotation_id, annotator,
 * updated_at, and ground_truth where it is set. */
#ifndef FM_DATA_LABEL_STUDIO_H
#define FM_DATA_LABEL_STUDIO_H

#include "base/json.h"
#include "data/label_guide.h"
#include "data/rec.h"

typedef struct fm_ls_options {
    const char *left, *right; /* data members behind the sides of a comparison */
    const fm_guide *guide;    /* or NULL */
    const char *from_name;    /* JSON-MIN: the control whose choice or answer is a plain text, or NULL */
} fm_ls_options;

/* Adds the rows of one task; annotations that cannot be taken become refused rows with the reason. counts: "tasks",
 * "annotations", "without an annotation", "skipped by the annotator". */
FM_MUST_CHECK fm_status fm_ls_rows(fm_recs *out, const fm_json *task, const fm_ls_options *o, fm_tallies *counts);

/* [start, end) in UTF-16 units to code points of a text; false when they are no borders of characters in it. */
bool fm_ls_units(fm_sv text, int64_t start, int64_t end, int64_t *first, int64_t *last, fm_sv *piece);

#endif
