/* filter-length: rows whose text is too short or too long go. */
#include <math.h>

#include "data/step.h"
#include "base/error.h"

typedef struct length_options {
    char *column;
    int64_t min_chars, max_chars, min_words, max_words;
} length_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(length_options),
    {"min_chars", FM_OPT_INT, offsetof(length_options, min_chars), "1", 0, 1e15, NULL, NULL, NULL,
     "fewest characters (code points)"},
    {"max_chars", FM_OPT_INT, offsetof(length_options, max_chars), "0", 0, 1e15, NULL, NULL, NULL,
     "most characters; 0 = any"},
    {"min_words", FM_OPT_INT, offsetof(length_options, min_words), "0", 0, 1e15, NULL, NULL, NULL,
     "fewest words (runs without blanks)"},
    {"max_words", FM_OPT_INT, offsetof(length_options, max_words), "0", 0, 1e15, NULL, NULL, NULL,
     "most words; 0 = any"},
    FM_STEP_OPTIONS_END,
};

static fm_status length_row(fm_step_ctx *x, fm_rec *r) {
    const length_options *o = x->step->opt;
    fm_cell *cell;
    FM_TRY(fm_step_text(x, r, o->column, &cell));
    if (!cell) {
        return FM_OK;
    }
    int64_t chars = 0, words = 0;
    bool inside = false;
    for (size_t i = 0; i < cell->text.len; i++) {
        unsigned char b = (unsigned char)cell->text.ptr[i];
        chars += (b & 0xC0) != 0x80;
        bool blank = b == ' ' || (b >= '\t' && b <= '\r');
        words += !blank && !inside;
        inside = !blank;
    }
    const char *reason = chars < o->min_chars                   ? "too few characters"
                         : o->max_chars && chars > o->max_chars ? "too many characters"
                         : words < o->min_words                 ? "too few words"
                         : o->max_words && words > o->max_words ? "too many words"
                                                                : NULL;
    return reason ? fm_step_drop(x, r, reason, NULL) : FM_OK;
}

const fm_step_def fm_step_filter_length = {
    .name = "filter-length",
    .help = "drops rows whose text is too short or too long",
    .examples = "fathom data filter-length -i in.jsonl -o out.jsonl --min-chars 20 --max-chars 100k",
    .options = rows,
    .options_bytes = sizeof(length_options),
    .row = length_row,
};
