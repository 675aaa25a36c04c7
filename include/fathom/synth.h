/* Rows that a language model writes: instructions, questions about documents, conversations, back-translations.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_SYNTH_H
#define FATHOM_SYNTH_H

#include "fathom/option.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One request to a language model. */
typedef struct fm_chat_ask {
    size_t size;          /* sizeof(fm_chat_ask) */
    const char *messages; /* JSON: [{"role":...,"content":...}, ...] */
    size_t messages_bytes;
    double temperature, top_p;
    int64_t max_tokens;
    uint64_t seed;
} fm_chat_ask;
typedef struct fm_chat_answer {
    size_t size; /* sizeof(fm_chat_answer) */
    char *text;  /* fm_chat_answer_text; who asked releases it with fm_string_free */
    bool cut;    /* the answer ended at max_tokens */
    int64_t prompt_tokens, completion_tokens;
} fm_chat_answer;
/* Copies the text into the answer. */
FM_API FM_MUST_CHECK fm_status fm_chat_answer_text(fm_chat_answer *a, const char *text, size_t n);
/* Answers, or fails: FM_ERR_DATA when it does not take this request (too long), anything else ends the run. Called by
 * several threads at once. */
typedef fm_status (*fm_chat_fn)(void *user, const fm_chat_ask *ask, fm_chat_answer *answer);

typedef struct fm_synth_config fm_synth_config;
FM_API const fm_option *fm_synth_options(void);
FM_API FM_MUST_CHECK fm_status fm_synth_config_new(fm_synth_config **out);
FM_API void fm_synth_config_free(fm_synth_config *c);
/* The option local_model: a model to be opened by the caller and given as fm_chat_fn; NULL when not set. */
FM_API const char *fm_synth_local_model(const fm_synth_config *c);

typedef struct fm_synth_task_info {
    size_t size;
    const char *name, *help;
} fm_synth_task_info;
/* The i-th task; false behind the last. */
FM_API bool fm_synth_task_at(fm_synth_task_info *out, size_t i);

typedef struct fm_synth_report {
    size_t size;
    int64_t n_asked;     /* requests of this run */
    int64_t n_kept_asks; /* answers taken from the journal of an interrupted run */
    int64_t n_rows;      /* written */
    int64_t n_dropped;
    int64_t n_retries;
    int64_t prompt_tokens, completion_tokens; /* of all answers, those of the journal too */
    double cost, seconds;
} fm_synth_report;
/* Writes the rows and the manifest beside them. Answers are kept in OUTPUT.journal.jsonl until the end: after an
 * interruption the same call goes on where it stopped. manifest_json (fm_string_free) has counts and reasons. chat
 * NULL: the endpoint of the options. */
FM_API FM_MUST_CHECK fm_status fm_synth_run(fm_synth_report *out, char **manifest_json, const fm_synth_config *c,
                                            fm_chat_fn chat, void *user);

#ifdef __cplusplus
}
#endif
#endif
