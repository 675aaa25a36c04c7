/* Several tasks on one trunk (stage multi): what the keys tasks, task_weights and dataset say, and the names of the
 * labels of each. */
#ifndef FM_TRAIN_TASKS_H
#define FM_TRAIN_TASKS_H

#include "data/tasks.h"
#include "train/config.h"

/* The keys belong to this stage and to no other, and are well formed. */
FM_MUST_CHECK fm_status fm_tasks_check(const fm_objective *o, const fm_train_config *c);
bool fm_tasks_uncertain(const fm_strlist *weights); /* weighted by uncertainty */
/* What the mean loss of each task counts. `share` [n] are the shares of the examples, which sum to 1. */
FM_MUST_CHECK fm_status fm_tasks_weigh(double *weight, const fm_task_spec *spec, int n, const fm_strlist *weights,
                                       const double *share);

/* Entries of `dataset`, of which some name the task of all their rows: NAME=FILE. */
typedef struct fm_task_files {
    fm_strlist files;  /* borrowed texts */
    const char **task; /* [files.n], NULL = by column */
    char *names;
} fm_task_files;
FM_MUST_CHECK fm_status fm_tasks_split(fm_task_files *out, const fm_strlist *dataset);
void fm_task_files_free(fm_task_files *f);
const char *fm_task_path(const char *entry); /* behind NAME= */

/* {NAME: [labels]} from "tasks" of dataset.json or "fathom_heads" of config.json; NULL when there is none. */
fm_json *fm_tasks_labels(const fm_json *list);
/* The labels of dataset.json as id2label of the heads in m->json. */
FM_MUST_CHECK fm_status fm_tasks_keep_labels(fm_model *m, const fm_json *dataset);

#endif
