/* MMLU (Hendrycks et al. 2021): DIR/{dev,test,val}/SUBJECT_{dev,test,val}.csv without header lines. Prompt and scoring
 * are those of lm-evaluation-harness' "mmlu". */
#include "eval/task.h"

extern const fm_eval_task fm_eval_task_mmlu;
const fm_eval_task fm_eval_task_mmlu = {
    .name = "mmlu",
    .help = "MMLU: a folder with dev/ and test/ as published; 5 examples of each subject",
    .kind = &fm_eval_kind_mc,
    .columns = "question,A,B,C,D,answer",
    .question = "question",
    .choices = "A,B,C,D",
    .answer = "answer",
    .description = "The following are multiple choice questions (with answers) about {subject}.\n\n",
    .style = FM_STYLE_LETTERS,
    .split = "test",
    .fewshot_split = "dev",
    .metrics = "acc",
    .num_fewshot = 5,
    .no_header = true,
};
