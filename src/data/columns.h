/* Which columns of a row mean what. NULL: the usual names are tried. */
#ifndef FM_DATA_COLUMNS_H
#define FM_DATA_COLUMNS_H

#include "fathom/option.h"

typedef struct fm_columns {
    char *messages; /* messages (role, content) or conversations (from, value): a list of objects */
    char *prompt;   /* instruction, prompt, question */
    char *query;    /* input: follows the prompt on a line of its own */
    char *response; /* output, response, completion, answer */
    char *system, *tools, *history;
    char *text, *text_pair; /* what is judged: text, sentence, sentence1, question; and a second text beside it */
    char *label;            /* label, category, labels, score */
} fm_columns;

#define FM_COLUMNS_OPTIONS(T)                                                                                          \
    {"messages_column",                                                                                                \
     FM_OPT_STR,                                                                                                       \
     offsetof(T, columns.messages),                                                                                    \
     NULL,                                                                                                             \
     0,                                                                                                                \
     0,                                                                                                                \
     NULL,                                                                                                             \
     NULL,                                                                                                             \
     "NAME",                                                                                                           \
     "column with a list of messages; default messages or conversations"},                                             \
        {"prompt_column",                                                                                              \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, columns.prompt),                                                                                  \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "column with the question; default instruction, prompt or question"},                                         \
        {"query_column",                                                                                               \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, columns.query),                                                                                   \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "column that follows the question on a line of its own; default input"},                                      \
        {"response_column",                                                                                            \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, columns.response),                                                                                \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "column with the answer; default output, response, completion or answer"},                                    \
        {"system_column",                                                                                              \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, columns.system),                                                                                  \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "column with the system message; default system"},                                                            \
        {"tools_column",                                                                                               \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, columns.tools),                                                                                   \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "column with the tools that may be called; default tools"},                                                   \
        {"history_column",                                                                                             \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, columns.history),                                                                                 \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "column with earlier turns, [[question, answer], ...]; default history"},                                     \
        {"pair_column",                                                                                                \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, columns.text_pair),                                                                               \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "stages cls and reg: column with a second text beside text_column"},                                          \
    {                                                                                                                  \
        "label_column", FM_OPT_STR, offsetof(T, columns.label), NULL, 0, 0, NULL, NULL, "NAME",                        \
            "stages cls, reg, tag: column with what is to be predicted; default label, category, labels or score; "    \
            "tags or entities"                                                                                         \
    }

#endif
