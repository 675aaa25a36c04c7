/* Texts with a label, several labels, or numbers: values of an example.
 *   label    single: [1] the label's id. several: [n_labels] 0 or 1
 *   number   [n] the numbers */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/examples.h"
#include "data/label_names.h"

#define MAX_LABELS 65536
#define MAX_FOUND  4096 /* a column with more is no label */

typedef struct labels {
    const fm_examples_options *o;
    const fm_tokenizer *tok;
    bool numbers, multi, fixed; /* fixed: the names were given */
    bool some_list, some_plain; /* forms seen by the scan */
    fm_label_names names;
    size_t n_numbers;
    char columns[240]; /* of the first row, for messages */
    fm_tokens ids;
} labels;

static const fm_cell *cell_of(const fm_rec *row, const char *named, const char *const *usual) {
    const fm_cell *c = named ? fm_rec_get(row, named) : NULL;
    for (; !named && *usual && (!c || c->kind == FM_CELL_NULL); usual++) {
        c = fm_rec_get(row, *usual);
    }
    return c && c->kind != FM_CELL_NULL ? c : NULL;
}

static const fm_cell *label_cell(const labels *k, const fm_rec *row) {
    static const char *const usual[] = {"label", "labels", "category", "score", NULL};
    return cell_of(row, k->o->columns->label, usual);
}

static fm_status open_kind(void **state, const fm_examples_options *o, const fm_tokenizer *t, bool numbers) {
    labels *k = fm_calloc(1, sizeof *k);
    *state = k;
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for labels");
    }
    k->o = o;
    k->tok = t;
    k->numbers = numbers;
    k->multi = o->problem == FM_PROBLEM_TYPE_MULTI;
    k->fixed = !numbers && fm_json_size(o->labels) > 0;
    return k->fixed ? fm_label_names_take(&k->names, o->labels) : FM_OK;
}
static fm_status open_label(void **state, const fm_examples_options *o, const fm_tokenizer *t) {
    return open_kind(state, o, t, false);
}
static fm_status open_number(void **state, const fm_examples_options *o, const fm_tokenizer *t) {
    return open_kind(state, o, t, true);
}

static void close_label(void *state) {
    labels *k = state;
    if (k) {
        fm_label_names_free(&k->names);
        fm_tokens_free(&k->ids);
        fm_free(k);
    }
}

/* A list of labels: JSON strings or numbers. NULL when the cell is none. */
static fm_json *list_of(const fm_cell *c) {
    fm_json *j = NULL;
    if (c->kind != FM_CELL_JSON || fm_json_parse(&j, c->text.ptr, c->text.len, "labels") != FM_OK ||
        !fm_json_is_array(j)) {
        fm_json_free(j);
        fm_error_clear();
        return NULL;
    }
    return j;
}

static void note_columns(labels *k, const fm_rec *row) {
    fm_str s = {0};
    for (size_t i = 0; i < row->n; i++) {
        fm_str_puts(&s, i ? ", " : "");
        fm_str_append(&s, row->cell[i].name.ptr, row->cell[i].name.len);
    }
    snprintf(k->columns, sizeof k->columns, "%.*s",
             (int)fm_utf8_complete_prefix(s.data, FM_MIN(s.len, sizeof k->columns - 1)), s.data ? s.data : "");
    fm_str_free(&s);
}

static fm_status scan(void *state, const fm_rec *row) {
    labels *k = state;
    if (!k->columns[0]) {
        note_columns(k, row);
    }
    const fm_cell *c = label_cell(k, row);
    if (!c) {
        return FM_OK;
    }
    fm_json *list = list_of(c);
    size_t n = list ? fm_json_size(list) : 1;
    fm_status s = FM_OK;
    *(list ? &k->some_list : &k->some_plain) = true;
    if (k->numbers) {
        k->n_numbers = k->n_numbers ? k->n_numbers : n;
    } else if (!k->fixed && list) {
        for (size_t i = 0; i < n && s == FM_OK; i++) {
            size_t len = 0;
            const char *name = fm_json_str(fm_json_at(list, i), &len);
            s = name ? fm_label_names_add(&k->names, name, len, FM_MAX_LABEL_NAMES) : FM_OK;
        }
    } else if (!k->fixed) {
        s = fm_label_names_add(&k->names, c->text.ptr, c->text.len, MAX_FOUND);
    }
    fm_json_free(list);
    return s;
}

/* What to do about too few labels: the column is missing, or it is there and says too little. */
static fm_status column_hint(const labels *k) {
    const char *name = k->o->columns->label;
    return fm_error_hint("%s%s%s; the columns are %s: name the one with labels with label_column",
                         name ? "column \"" : "no column is called label, labels, category or score", name ? name : "",
                         name ? "\" has none" : "", k->columns[0] ? k->columns : "none");
}

static fm_status ready(void *state, uint32_t *n_values) {
    labels *k = state;
    if (k->numbers) {
        *n_values = (uint32_t)k->n_numbers;
        if (k->n_numbers == 0 || k->n_numbers > MAX_LABELS) {
            fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "no row has numbers in its label column");
            return column_hint(k);
        }
        return FM_OK;
    }
    k->multi |= k->o->problem == FM_PROBLEM_TYPE_AUTO && k->some_list;
    if (!k->fixed) {
        fm_label_names_sort(&k->names);
    }
    if (k->names.n < (k->multi ? 1U : 2U)) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%zu different labels were found%s%s", k->names.n,
                     k->names.n ? ": " : "", k->names.n ? k->names.name[0] : "");
        return k->names.n == 0 ? column_hint(k)
                               : fm_error_hint("two labels or more can be told apart; label_column names their column");
    }
    *n_values = k->multi ? (uint32_t)k->names.n : 1;
    return FM_OK;
}

static void take_numbers(const labels *k, fm_example *e, const fm_cell *c) {
    fm_json *list = list_of(c);
    size_t n = list ? fm_json_size(list) : 1;
    if (n != k->n_numbers) {
        e->reason = "it has another number of numbers than the first row";
    }
    for (size_t i = 0; i < n && !e->reason; i++) {
        double v = NAN;
        bool ok = list ? fm_json_is_number(fm_json_at(list, i)) : fm_cell_number(c, &v);
        v = list ? fm_json_num(fm_json_at(list, i), NAN) : v;
        if (!ok || !isfinite(v)) {
            e->reason = "its label is no number";
        }
        e->values[i] = (float)v;
    }
    fm_json_free(list);
}

static void take_labels(const labels *k, fm_example *e, const fm_cell *c) {
    fm_json *list = list_of(c);
    size_t n = list ? fm_json_size(list) : c->text.len > 0;
    memset(e->values, 0, (k->multi ? k->names.n : 1) * sizeof *e->values);
    if (!k->multi && n != 1) {
        e->reason = n == 0 ? "its label is empty" : "it has several labels (problem_type: multi)";
    }
    for (size_t i = 0; i < n && !e->reason; i++) {
        size_t len = c->text.len;
        const char *name = list ? fm_json_str(fm_json_at(list, i), &len) : c->text.ptr;
        int id = name ? fm_label_names_find(&k->names, name, len) : -1;
        if (id < 0) {
            e->reason = "its label is not among those that are learned";
        } else if (k->multi) {
            e->values[id] = 1;
        } else {
            e->values[0] = (float)id;
        }
    }
    fm_json_free(list);
}

static fm_status add_text(labels *k, fm_example *e, const fm_cell *a, const fm_cell *b) {
    fm_encode_options eo = {.size = sizeof eo, .add_special = true, .n_threads = 1};
    k->ids.n = 0;
    if (!b || b->text.len == 0) {
        FM_TRY(fm_tokenizer_encode(&k->ids, k->tok, a->text.ptr, a->text.len, &eo));
    } else { /* both on lines of their own */
        fm_str both = {0};
        fm_str_append(&both, a->text.ptr, a->text.len);
        fm_str_putc(&both, '\n');
        fm_str_append(&both, b->text.ptr, b->text.len);
        fm_status s = fm_str_check(&both);
        s = s == FM_OK ? fm_tokenizer_encode(&k->ids, k->tok, both.data, both.len, &eo) : s;
        fm_str_free(&both);
        FM_TRY(s);
    }
    e->may_cut = true; /* the beginning of a text still says what it is */
    e->keep_at_end = k->ids.n > 0 && fm_tokenizer_is_special(k->tok, k->ids.ids[k->ids.n - 1]);
    return fm_example_add(e, k->ids.ids, k->ids.n, 0);
}

static fm_status make(void *state, fm_example *e, const fm_rec *row) {
    static const char *const texts[] = {"text", "sentence", "sentence1", "question", "content", NULL};
    static const char *const pairs[] = {"sentence2", NULL};
    labels *k = state;
    const fm_columns *col = k->o->columns;
    const fm_cell *text = cell_of(row, col->text && strcmp(col->text, "text") != 0 ? col->text : NULL, texts);
    const fm_cell *label = label_cell(k, row);
    if (!text || text->text.len == 0 || !label) {
        e->reason = !label ? "it has no label (label_column)"
                    : text ? "its text is empty"
                           : "it has no text (text_column)";
        return FM_OK;
    }
    if (k->numbers) {
        take_numbers(k, e, label);
    } else {
        take_labels(k, e, label);
    }
    e->n_bytes = (int64_t)text->text.len;
    return e->reason ? FM_OK : add_text(k, e, text, cell_of(row, col->text_pair, pairs));
}

static fm_status describe(const void *state, fm_json *o) {
    const labels *k = state;
    FM_TRY(fm_json_set(o, "problem",
                       fm_json_new_str(k->numbers ? "regression"
                                       : k->multi ? "multi_label_classification"
                                                  : "single_label_classification")));
    if (k->numbers) {
        return fm_json_set(o, "n_numbers", fm_json_new_int((int64_t)k->n_numbers));
    }
    return fm_label_names_put(&k->names, o, "labels");
}

extern const fm_example_task fm_example_task_label, fm_example_task_number;
const fm_example_task fm_example_task_label = {
    .name = "label",
    .summary = "texts with one or several labels",
    .needs_scan = true,
    .open = open_label,
    .close = close_label,
    .scan = scan,
    .ready = ready,
    .make = make,
    .describe = describe,
};
const fm_example_task fm_example_task_number = {
    .name = "number",
    .summary = "texts with numbers",
    .needs_scan = true,
    .open = open_number,
    .close = close_label,
    .scan = scan,
    .ready = ready,
    .make = make,
    .describe = describe,
};
