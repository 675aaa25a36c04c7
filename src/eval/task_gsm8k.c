/* GSM8K (Cobbe et al. 2021): JSONL with question and answer. Prompt, stops, filters and exact match are those of
 * lm-evaluation-harness' "gsm8k" (version 3), but for the examples: the first ones, not random ones. */
#include "eval/task.h"

extern const fm_eval_task fm_eval_task_gsm8k;
const fm_eval_task fm_eval_task_gsm8k = {
    .name = "gsm8k",
    .help = "GSM8K: test.jsonl, with fewshot_data=train.jsonl for its 5 examples",
    .kind = &fm_eval_kind_qa,
    .question = "question",
    .answer = "answer",
    .prompt = "Question: {question}\nAnswer:",
    .stop = "Question:,</s>,<|im_end|>",
    .metrics = "exact_match_strict,exact_match_flexible",
    .num_fewshot = 5,
    .max_new_tokens = 256,
};
