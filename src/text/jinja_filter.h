/* What the files of filters share. */
#ifndef FM_TEXT_JINJA_FILTER_H
#define FM_TEXT_JINJA_FILTER_H

#include "text/jinja.h"

/* Where a key is looked for in an item: "a.b.0" is item["a"]["b"][0]. */
typedef struct fmj_path {
    fmj_value part[16];
    size_t n;
    fmj_value def; /* for what is missing on the way; FMJ_UNSET = none */
} fmj_path;

/* `attribute`: a string, an integer, or nothing (the item itself). */
FM_MUST_CHECK fm_status fmj_path_parse(fmj_run *r, fmj_path *out, const fmj_value *attribute);
FM_MUST_CHECK fm_status fmj_path_get(fmj_run *r, fmj_value *out, const fmj_path *p, const fmj_value *item);
/* A string in lower case, any other value as it is. */
FM_MUST_CHECK fm_status fmj_fold(fmj_run *r, fmj_value *out, const fmj_value *v);
/* Calls a method of Python's str on str(self). */
FM_MUST_CHECK fm_status fmj_str_call(fmj_run *r, fmj_value *out, const char *method, const fmj_value *self,
                                     fmj_value *args, size_t n_args);

FM_MUST_CHECK fm_status fmj_wordwrap(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a);

static inline bool fmj_some(const fmj_value *v) { /* given and not None */
    return v->type != FMJ_UNSET && v->type != FMJ_NONE;
}

#endif
