/* Labelling: annotations of Label Studio as rows, agreement of annotators, review, release, suggestions.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_LABEL_H
#define FATHOM_LABEL_H

#include "fathom/synth.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_label_config fm_label_config;
FM_API const fm_option *fm_label_options(void);
FM_API FM_MUST_CHECK fm_status fm_label_config_new(fm_label_config **out);
FM_API void fm_label_config_free(fm_label_config *c);
/* The option local_model; one that generates text is opened by the caller and given as fm_chat_fn. NULL when not set.
 */
FM_API const char *fm_label_local_model(const fm_label_config *c);

typedef struct fm_label_action_info {
    size_t size;
    const char *name, *help;
} fm_label_action_info;
/* The i-th action; false behind the last. */
FM_API bool fm_label_action_at(fm_label_action_info *out, size_t i);

/* Runs an action. *report (fm_string_free) is a JSON object with its counts and figures. chat NULL: for actions that
 * ask a model, the one of local_model if it is set, which was trained to label (fm_data_use_models first); else the
 * endpoint of the options. `serve` returns after fm_cancel. */
FM_API FM_MUST_CHECK fm_status fm_label_run(char **report, const fm_label_config *c, const char *action,
                                            fm_chat_fn chat, void *user);

#ifdef __cplusplus
}
#endif
#endif
