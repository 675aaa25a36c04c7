/* Perplexity of texts. */
#include "eval/task.h"

extern const fm_eval_task fm_eval_task_ppl;
const fm_eval_task fm_eval_task_ppl = {
    .name = "ppl",
    .help = "perplexity and bits per byte of texts (text files, or a column of rows)",
    .kind = &fm_eval_kind_ppl,
};
