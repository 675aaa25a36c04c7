/* Rows of several tasks in one dataset. A row belongs to the task that its task column names, or to that of the file it
 * stands in; what it becomes is that task's business. values[0] is the task's number, the others are its own; marks are
 * its own too. "tasks" of dataset.json describes each: name, kind, and what its examples are described by. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/examples.h"
#include "data/tasks.h"

typedef struct part {
    const fm_example_task *task;
    void *state;
    fm_columns columns;
    fm_examples_options o;
    uint32_t n_values;
    int64_t n_seen;
} part;

typedef struct multi {
    const fm_examples_options *o;
    fm_task_spec spec[FM_MAX_TASKS];
    part part[FM_MAX_TASKS];
    int n;
    int of_input[1024]; /* task of an entry of `input`, -1 = by column */
} multi;

static fm_status open_parts(multi *k, const fm_tokenizer *t) {
    for (int i = 0; i < k->n; i++) {
        part *p = &k->part[i];
        p->task = fm_example_task_find(k->spec[i].kind->examples);
        FM_ASSERT(p->task);
        p->o = *k->o;
        p->columns = *k->o->columns;
        p->columns.label = k->spec[i].label_column[0] ? k->spec[i].label_column : p->columns.label;
        p->o.columns = &p->columns;
        p->o.labels = fm_json_get(k->o->labels, k->spec[i].name);
        FM_TRY(p->task->open(&p->state, &p->o, t));
    }
    return FM_OK;
}

static fm_status open_multi(void **state, const fm_examples_options *o, const fm_tokenizer *t) {
    multi *k = fm_calloc(1, sizeof *k);
    *state = k;
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for tasks");
    }
    k->o = o;
    FM_TRY(fm_task_specs_parse(k->spec, &k->n, o->tasks));
    if (o->input.n > FM_ARRAY_LEN(k->of_input)) {
        FM_FAIL(FM_ERR_CONFIG, "dataset: at most %zu entries, found %zu", FM_ARRAY_LEN(k->of_input), o->input.n);
    }
    for (size_t i = 0; i < o->input.n; i++) {
        const char *name = o->input_task ? o->input_task[i] : NULL;
        k->of_input[i] = name ? fm_task_spec_find(k->spec, k->n, name, strlen(name)) : -1;
    }
    return open_parts(k, t);
}

static void close_multi(void *state) {
    multi *k = state;
    for (int i = 0; k && i < k->n; i++) {
        if (k->part[i].task) {
            k->part[i].task->close(k->part[i].state);
        }
    }
    fm_free(k);
}

/* The task of a row, or NULL and why it has none. */
static int task_of(const multi *k, const fm_rec *row, const char **reason) {
    const fm_cell *c = fm_rec_get(row, k->o->task_column ? k->o->task_column : "task");
    int i = k->of_input[row->source];
    if (i >= 0) {
        return i;
    }
    if (!c || fm_cell_is_empty(c)) {
        *reason = "it names no task (task_column, or NAME=FILE in dataset)";
        return -1;
    }
    i = fm_task_spec_find(k->spec, k->n, c->text.ptr, c->text.len);
    *reason = i < 0 ? "its task is not among those that are learned" : NULL;
    return i;
}

static fm_status scan_multi(void *state, const fm_rec *row) {
    multi *k = state;
    const char *reason;
    int i = task_of(k, row, &reason);
    if (i < 0) {
        return FM_OK;
    }
    k->part[i].n_seen++;
    return k->part[i].task->needs_scan ? k->part[i].task->scan(k->part[i].state, row) : FM_OK;
}

static fm_status ready_multi(void *state, uint32_t *n_values) {
    multi *k = state;
    uint32_t most = 0;
    for (int i = 0; i < k->n; i++) {
        part *p = &k->part[i];
        /* With labels given, these rows go beside others that have the task. */
        bool needed = p->task->needs_scan ? !p->o.labels : !k->o->labels;
        if (p->n_seen == 0 && needed) {
            fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "no row is of task %s", k->spec[i].name);
            return fm_error_hint("rows name their task in the column \"%s\"; or give it a file: dataset=%s=FILE",
                                 k->o->task_column ? k->o->task_column : "task", k->spec[i].name);
        }
        if (p->task->ready && p->task->ready(p->state, &p->n_values) != FM_OK) {
            return fm_error_context("task %s", k->spec[i].name);
        }
        most = FM_MAX(most, p->n_values);
    }
    *n_values = 1 + most;
    return FM_OK;
}

static fm_status make_multi(void *state, fm_example *e, const fm_rec *row) {
    multi *k = state;
    int i = task_of(k, row, &e->reason);
    if (i < 0) {
        return FM_OK;
    }
    const part *p = &k->part[i];
    for (int j = 0; j < k->n; j++) { /* values that another task has and this one has not */
        for (uint32_t v = 1; v <= k->part[j].n_values; v++) {
            e->values[v] = 0;
        }
    }
    e->values[0] = (float)i;
    e->values++;
    e->whole = !p->task->marks;
    fm_status s = p->task->make(p->state, e, row);
    e->values--;
    return s;
}

static fm_status describe_multi(const void *state, fm_json *o) {
    const multi *k = state;
    FM_TRY(fm_json_set(o, "tasks", fm_json_new_array()));
    for (int i = 0; i < k->n; i++) {
        FM_TRY(fm_json_append(fm_json_get(o, "tasks"), fm_json_new_object()));
        fm_json *t = fm_json_at(fm_json_get(o, "tasks"), (size_t)i);
        FM_TRY(fm_json_set(t, "name", fm_json_new_str(k->spec[i].name)));
        FM_TRY(fm_json_set(t, "kind", fm_json_new_str(k->spec[i].kind->name)));
        FM_TRY(fm_json_set(t, "n_values", fm_json_new_int(k->part[i].n_values)));
        FM_TRY(k->part[i].task->describe ? k->part[i].task->describe(k->part[i].state, t) : FM_OK);
    }
    return FM_OK;
}

extern const fm_example_task fm_example_task_multi;
const fm_example_task fm_example_task_multi = {
    .name = "multi",
    .summary = "rows of several tasks",
    .marks = true,
    .needs_scan = true,
    .open = open_multi,
    .close = close_multi,
    .scan = scan_multi,
    .ready = ready_multi,
    .make = make_multi,
    .describe = describe_multi,
};
