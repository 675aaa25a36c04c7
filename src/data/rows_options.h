/* Option rows of fm_rows_config, for every table whose struct T has a member `rows` of that type. */
#ifndef FM_DATA_ROWS_OPTIONS_H
#define FM_DATA_ROWS_OPTIONS_H

#include "fathom/data.h"

#define FM_ROWS_OPTIONS(T)                                                                                             \
    {"input",                                                                                                          \
     FM_OPT_LIST,                                                                                                      \
     offsetof(T, rows.input),                                                                                          \
     NULL,                                                                                                             \
     0,                                                                                                                \
     0,                                                                                                                \
     NULL,                                                                                                             \
     "i|in",                                                                                                           \
     "IN",                                                                                                             \
     "files, folders, glob patterns or - for stdin; plain, gzip or zstd"},                                             \
        {"format",                                                                                                     \
         FM_OPT_ENUM,                                                                                                  \
         offsetof(T, rows.format),                                                                                     \
         "auto",                                                                                                       \
         0,                                                                                                            \
         0,                                                                                                            \
         "auto|txt|jsonl|csv|tsv",                                                                                     \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "how rows are read; auto goes by the file name, then by content"},                                            \
        {"text_column",                                                                                                \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, rows.text_column),                                                                                \
         "text",                                                                                                       \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "NAME",                                                                                                       \
         "column that holds the text (JSONL, CSV, TSV)"},                                                              \
        {"text_template",                                                                                              \
         FM_OPT_STR,                                                                                                   \
         offsetof(T, rows.text_template),                                                                              \
         NULL,                                                                                                         \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL,                                                                                                         \
         NULL,                                                                                                         \
         "TEXT",                                                                                                       \
         "text made from columns, such as \"{question} {answer}\"; replaces text_column"},                             \
    {                                                                                                                  \
        "txt_unit", FM_OPT_ENUM, offsetof(T, rows.txt_unit), "file", 0, 0, "file|paragraph|line", NULL, NULL,          \
            "what one document of a text file is"                                                                      \
    }

#endif
