/* Tasks of a run that learns several: "NAME=KIND" or "NAME=KIND:LABEL_COLUMN". */
#ifndef FM_DATA_TASKS_H
#define FM_DATA_TASKS_H

#include "fathom/option.h"
#include "fathom/status.h"

#define FM_MAX_TASKS     16
#define FM_MAX_TASK_NAME 48 /* the terminating NUL included */

/* What a task may be: its examples are those of a row of example_tasks.def. */
typedef struct fm_task_kind {
    const char *name, *examples, *summary;
} fm_task_kind;
const fm_task_kind *fm_task_kind_find(const char *name); /* NULL when unknown */

typedef struct fm_task_spec {
    char name[FM_MAX_TASK_NAME];
    const fm_task_kind *kind;
    char label_column[128]; /* "" = the usual ones */
} fm_task_spec;

/* FM_ERR_CONFIG names the entry: a bad name, an unknown kind, a name twice, none, or too many. */
FM_MUST_CHECK fm_status fm_task_specs_parse(fm_task_spec out[FM_MAX_TASKS], int *n, const fm_strlist *list);
int fm_task_spec_find(const fm_task_spec *s, int n, const char *p, size_t len); /* -1 when there is none */

#endif
