/* What a request asks for: sampling, stops, form of the answer. */
#ifndef FM_SERVE_PARAMS_H
#define FM_SERVE_PARAMS_H

#include "serve/serve.h"

#define FM_MAX_STOPS        16
#define FM_MAX_CHOICES      128
#define FM_MAX_TOP_LOGPROBS 20

typedef struct fm_params_asked {
    fm_sampling o;                  /* max_new_tokens -1: not given */
    const char *stop[FM_MAX_STOPS]; /* borrowed from the body */
    int n_stop;
    fm_logit_bias *bias; /* owned; so is o.grammar */
    const char *adapter; /* or NULL; borrowed from the body */
    int n;               /* choices */
    bool stream, include_usage, seeded;
    bool logprobs; /* wanted; o.logprobs says how many alternatives (-1: none) */
} fm_params_asked;

/* FM_ERR_ARGUMENT names the field. `chat` decides the form of "logprobs". */
FM_MUST_CHECK fm_status fm_params_read(fm_params_asked *out, fm_serve *s, const fm_json *body, bool chat);
void fm_params_asked_free(fm_params_asked *p);
/* The adapter that the request names by "model" or "adapter", NULL for the base model; borrowed from the body.
 * FM_ERR_NOT_FOUND for other names. */
FM_MUST_CHECK fm_status fm_choose_model(const char **adapter, const fm_serve *s, const fm_json *body);
/* FM_ERR_NOT_FOUND when the request names another model. */
FM_MUST_CHECK fm_status fm_check_model(const fm_serve *s, const fm_json *body);

#endif
