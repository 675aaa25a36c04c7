/* The web page, part of the program: tools/embed.cmake makes the table from src/serve/web. */
#ifndef FM_SERVE_WEB_FILES_H
#define FM_SERVE_WEB_FILES_H

#include <stddef.h>

typedef struct fm_web_file {
    const char *name; /* "index.html" */
    const unsigned char *data;
    size_t n;
} fm_web_file;
extern const fm_web_file fm_web_files[];
extern const int fm_n_web_files;

#endif
