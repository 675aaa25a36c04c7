/* Sampling options shared by generate and chat. */
#ifndef FM_CLI_SAMPLING_H
#define FM_CLI_SAMPLING_H

#include "cli/rows.h"
#include "fathom/generate.h"
#include "fathom/option.h"

typedef struct sampling_args {
    char *prompt;
    char *system, *template, *template_vars; /* of chat */
    int64_t max_new_tokens, top_k, seed, logprobs, threads, ctx_size, column;
    double temperature, top_p, min_p, repetition_penalty;
    char *dtype, *adapter;
    char *json_schema, *regex, *grammar, *draft; /* of generate */
    int64_t draft_max;
    bool lookup, mtp;
    bool ignore_eos, no_cache;
} sampling_args;

#define SAMPLING_FIELD(k) .offset = offsetof(sampling_args, k)
#define SAMPLING_ROWS                                                                                                  \
    {.key = "max_new_tokens",                                                                                          \
     .type = FM_OPT_INT,                                                                                               \
     SAMPLING_FIELD(max_new_tokens),                                                                                   \
     .def = "256",                                                                                                     \
     .min = 1,                                                                                                         \
     .max = 1e9,                                                                                                       \
     .aliases = "n",                                                                                                   \
     .help = "Tokens to generate at most."},                                                                           \
        CLI_ROW_ADAPTER(sampling_args), CLI_ROW_COLUMN(sampling_args),                                                 \
        {.key = "temperature",                                                                                         \
         .type = FM_OPT_FLOAT,                                                                                         \
         SAMPLING_FIELD(temperature),                                                                                  \
         .def = "0.8",                                                                                                 \
         .min = 0,                                                                                                     \
         .max = 100,                                                                                                   \
         .help = "0 takes the most likely token each time (greedy)."},                                                 \
        {.key = "top_k",                                                                                               \
         .type = FM_OPT_INT,                                                                                           \
         SAMPLING_FIELD(top_k),                                                                                        \
         .def = "50",                                                                                                  \
         .min = 0,                                                                                                     \
         .max = 1e9,                                                                                                   \
         .help = "Keep the k most likely tokens; 0 = off."},                                                           \
        {.key = "top_p",                                                                                               \
         .type = FM_OPT_FLOAT,                                                                                         \
         SAMPLING_FIELD(top_p),                                                                                        \
         .def = "0.95",                                                                                                \
         .min = 0,                                                                                                     \
         .max = 1,                                                                                                     \
         .help = "Keep the smallest set of tokens whose probability reaches p; 1 = off."},                             \
        {.key = "min_p",                                                                                               \
         .type = FM_OPT_FLOAT,                                                                                         \
         SAMPLING_FIELD(min_p),                                                                                        \
         .def = "0",                                                                                                   \
         .min = 0,                                                                                                     \
         .max = 1,                                                                                                     \
         .help = "Drop tokens below this share of the most likely one; 0 = off."},                                     \
        {.key = "repetition_penalty",                                                                                  \
         .type = FM_OPT_FLOAT,                                                                                         \
         SAMPLING_FIELD(repetition_penalty),                                                                           \
         .def = "1",                                                                                                   \
         .min = 0.01,                                                                                                  \
         .max = 100,                                                                                                   \
         .help = "Above 1 makes tokens that were seen less likely; 1 = off."},                                         \
        {.key = "seed",                                                                                                \
         .type = FM_OPT_INT,                                                                                           \
         SAMPLING_FIELD(seed),                                                                                         \
         .def = "42",                                                                                                  \
         .help = "The same seed gives the same text."},                                                                \
        {.key = "ctx_size",                                                                                            \
         .type = FM_OPT_INT,                                                                                           \
         SAMPLING_FIELD(ctx_size),                                                                                     \
         .def = "0",                                                                                                   \
         .min = 0,                                                                                                     \
         .max = 1e9,                                                                                                   \
         .help = "Tokens the KV cache holds; 0 = what the model allows, at most prompt + max_new_tokens."},            \
        CLI_ROW_DTYPE(sampling_args), CLI_ROW_THREADS(sampling_args)

fm_sampling sampling_from(const sampling_args *a);

#endif
