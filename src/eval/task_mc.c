/* Multiple choice over any file with questions, choices and answers. */
#include "eval/task.h"

extern const fm_eval_task fm_eval_task_mc;
const fm_eval_task fm_eval_task_mc = {
    .name = "mc",
    .help = "multiple choice by likelihood: question, choices (a list, or columns A B C ...), answer",
    .kind = &fm_eval_kind_mc,
    .style = FM_STYLE_CLOZE,
};
