/* Questions with reference answers. */
#include "eval/task.h"

extern const fm_eval_task fm_eval_task_qa;
const fm_eval_task fm_eval_task_qa = {
    .name = "qa",
    .help = "generated answers scored by em, f1, BLEU and ROUGE: question, answer (a text or a list)",
    .kind = &fm_eval_kind_qa,
};
