/* A language model behind the OpenAI API (chat completions): `fathom serve`, llama-server, vLLM, or a service. */
#ifndef FM_NET_OPENAI_H
#define FM_NET_OPENAI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/option.h"
#include "fathom/synth.h"

/* Part of the options of whoever asks a model. */
typedef struct fm_openai_options {
    char *endpoint, *model, *key_env;
    double timeout, retry_wait;
    int64_t retries;
    bool insecure_key;
} fm_openai_options;

/* Rows for a struct T with a member `openai`. */
#define FM_OPENAI_ROWS(T)                                                                                              \
    {"endpoint",                                                                                                       \
     FM_OPT_STR,                                                                                                       \
     offsetof(T, openai.endpoint),                                                                                     \
     NULL,                                                                                                             \
     0,                                                                                                                \
     0,                                                                                                                \
     NULL,                                                                                                             \
     NULL,                                                                                                             \
     "URL",                                                                                                            \
     "server with the OpenAI API, such as http://127.0.0.1:8080/v1"},                                                  \
        {"model",                                                                                                      \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, openai.model),                                                                                    \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "name of the model there; default: the first that the server lists"},                                         \
        {"key_env",                                                                                                    \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, openai.key_env),                                                                                  \
         "OPENAI_API_KEY",                                                                                             \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "environment variable that holds the key"},                                                                   \
        {"timeout", FM_OPT_FLOAT,    offsetof(T, openai.timeout), "300", 0.01, 86400, NULL, NULL,                      \
         "SECONDS", "of one request"},                                                                                 \
        {"retries",                                                                                                    \
         FM_OPT_INT,                                                                                                   \
         offsetof(T, openai.retries),                                                                                  \
         "5",                                                                                                          \
         0,                                                                                                            \
         1000,                                                                                                         \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "attempts after the first: no connection, 408, 429, 5xx"},                                                    \
        {"retry_wait",                                                                                                 \
         FM_OPT_FLOAT,                                                                                                 \
         offsetof(T, openai.retry_wait),                                                                               \
         "1",                                                                                                          \
         0,                                                                                                            \
         600,                                                                                                          \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "SECONDS",                                                                                                    \
         "before the second attempt, doubled each time; what the server asks for goes first"},                         \
    {                                                                                                                  \
        "insecure_key", FM_OPT_BOOL, offsetof(T, openai.insecure_key), "false", 0, 0, NULL, NULL, NULL,                \
            "send the key over http to other machines"                                                                 \
    }

typedef struct fm_openai fm_openai;
/* Asks the server for its models when none is named. */
FM_MUST_CHECK fm_status fm_openai_new(fm_openai **out, const fm_openai_options *o);
void fm_openai_free(fm_openai *c);
const char *fm_openai_model(const fm_openai *c);
int64_t fm_openai_retries(const fm_openai *c);
/* An fm_chat_fn with the fm_openai as `user`. Any thread. */
FM_MUST_CHECK fm_status fm_openai_chat(void *client, const fm_chat_ask *ask, fm_chat_answer *answer);

#endif
