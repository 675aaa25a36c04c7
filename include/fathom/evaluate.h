/* Evaluation of models: tasks, figures with their uncertainty, comparisons.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_EVALUATE_H
#define FATHOM_EVALUATE_H

#include "fathom/option.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Everything `fathom eval` can be told; the rows of the table are the keys. */
typedef struct fm_eval_config fm_eval_config;
FM_API const fm_option *fm_eval_options(void);
FM_API FM_MUST_CHECK fm_status fm_eval_config_new(fm_eval_config **out); /* defaults */
FM_API void fm_eval_config_free(fm_eval_config *cfg);
FM_API const char *fm_eval_config_model(const fm_eval_config *cfg);

/* Names and one-line descriptions of the tasks; NULL past the end. */
FM_API const char *fm_eval_task_name(int i, const char **help);

/* Runs the task. *json (fm_string_free) is one object:
 *   task, model, data, n_rows, n_truncated
 *   metrics     {NAME: {value, low, high, stderr (of a mean), n, definition}}
 *   groups      [{name, n, metrics: {NAME: value}}]       parts of a benchmark (subjects)
 *   slices      [{by, value, n, metrics: {NAME: {value, low, high}}}]
 *   worst       [{file, line, ...}]                       rows with the lowest score first
 *   samples     [{file, line, ...}]                       a few rows spread over the data
 *   compare     {model, metrics: {NAME: {value, difference, low, high, p}}, worst: [...]}
 *   efficiency  {seconds, tokens, tokens_per_second, prompt_tokens_reused, peak_memory_bytes, ...}
 *   findings    [{kind, evidence, advice, changes: [{for, key, from, to}]}]
 *   settings    {KEY: VALUE}                              keys that were not at their default
 * low and high are percentiles of a bootstrap over rows. */
FM_API FM_MUST_CHECK fm_status fm_eval_run(const fm_eval_config *cfg, char **json);
/* The same object as a table for people (fm_string_free). */
FM_API FM_MUST_CHECK fm_status fm_eval_text(char **out, const char *json);

/* Lets data steps use models (data perplexity --model DIR). Call it once, before fm_data_run. */
FM_API void fm_data_use_models(void);

#ifdef __cplusplus
}
#endif
#endif
