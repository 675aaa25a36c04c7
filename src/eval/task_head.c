/* What a head says of texts. */
#include "eval/task.h"

extern const fm_eval_task fm_eval_task_head;
const fm_eval_task fm_eval_task_head = {
    .name = "head",
    .help = "labels, several labels, numbers, tags or answers in a text by a head (head NAME; else the model's own)",
    .kind = &fm_eval_kind_head,
};
