/* Sampling options shared by generate and chat. */
#ifndef FM_CLI_SAMPLING_H
#define FM_CLI_SAMPLING_H

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
        {.key = "adapter",                                                                                             \
         .type = FM_OPT_STR,                                                                                           \
         SAMPLING_FIELD(adapter),                                                                                      \
         .metavar = "DIR",                                                                                             \
         .help = "PEFT folder of a LoRA adapter to apply."},                                                           \
        {.key = "column",                                                                                              \
         .type = FM_OPT_INT,                                                                                           \
         SAMPLING_FIELD(column),                                                                                       \
         .def = "0",                                                                                                   \
         .min = 0,                                                                                                     \
         .max = 64,                                                                                                    \
         .help = "Of a model with progressive columns: the one that answers, 1 = the first; 0 = the newest."},         \
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
        {.key = "dtype",                                                                                               \
         .type = FM_OPT_STR,                                                                                           \
         SAMPLING_FIELD(dtype),                                                                                        \
         .def = "auto",                                                                                                \
         .help = "Precision: auto (quantised weights as they are), bf16, f32."},                                       \
    {                                                                                                                  \
        .key = "threads", .type = FM_OPT_INT, SAMPLING_FIELD(threads), .def = "0", .min = 0, .max = 4096,              \
        .help = "Threads; 0 = all."                                                                                    \
    }

fm_sampling sampling_from(const sampling_args *a);

#endif
