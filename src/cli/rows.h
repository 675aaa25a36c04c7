/* Options that several commands have, as rows of their tables. T is the command's struct, whose field has the key's
 * name. */
#ifndef FM_CLI_ROWS_H
#define FM_CLI_ROWS_H

#include <stddef.h>

#include "fathom/option.h"

/* int64_t */
#define CLI_ROW_THREADS(T)                                                                                             \
    {                                                                                                                  \
        .key = "threads", .type = FM_OPT_INT, .offset = offsetof(T, threads), .def = "0", .min = 0, .max = 4096,       \
        .help = "Threads; 0 = all."                                                                                    \
    }
/* char * */
#define CLI_ROW_DTYPE(T)                                                                                               \
    {                                                                                                                  \
        .key = "dtype", .type = FM_OPT_STR, .offset = offsetof(T, dtype), .def = "auto",                               \
        .help = "Precision: auto (quantised weights as they are), bf16, f32."                                          \
    }
/* char * */
#define CLI_ROW_ADAPTER(T)                                                                                             \
    {                                                                                                                  \
        .key = "adapter", .type = FM_OPT_STR, .offset = offsetof(T, adapter), .metavar = "DIR",                        \
        .help = "PEFT folder of a LoRA adapter to apply."                                                              \
    }
/* int64_t */
#define CLI_ROW_COLUMN(T)                                                                                              \
    {                                                                                                                  \
        .key = "column", .type = FM_OPT_INT, .offset = offsetof(T, column), .def = "0", .min = 0, .max = 64,           \
        .help = "Of a model with progressive columns: the one that answers, 1 = the first; 0 = the newest."            \
    }
/* Speculative decoding: char *draft, bool lookup, bool mtp, int64_t draft_max */
#define CLI_ROWS_DRAFT(T)                                                                                              \
    {.key = "draft",                                                                                                   \
     .type = FM_OPT_STR,                                                                                               \
     .offset = offsetof(T, draft),                                                                                     \
     .metavar = "MODEL",                                                                                               \
     .help = "A smaller model with the same tokenizer guesses tokens ahead, which are checked in one pass; the text "  \
             "stays the same."},                                                                                       \
        {.key = "lookup",                                                                                              \
         .type = FM_OPT_BOOL,                                                                                          \
         .offset = offsetof(T, lookup),                                                                                \
         .help = "Guess tokens ahead from what occurred in the text before."},                                         \
        {.key = "mtp",                                                                                                 \
         .type = FM_OPT_BOOL,                                                                                          \
         .offset = offsetof(T, mtp),                                                                                   \
         .help = "Guess tokens ahead by the model's own prediction layer (DeepSeek V3)."},                             \
    {                                                                                                                  \
        .key = "draft_max", .type = FM_OPT_INT, .offset = offsetof(T, draft_max), .def = "8", .min = 1, .max = 64,     \
        .help = "Tokens to guess at once."                                                                             \
    }

#endif
