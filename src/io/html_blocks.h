/* Inside of html.h: a page cut into blocks (html_tree.c), and which of them are its main text (html.c). */
#ifndef FM_IO_HTML_BLOCKS_H
#define FM_IO_HTML_BLOCKS_H

#include "io/html.h"

typedef enum fm_html_kind { HTML_TEXT, HTML_HEADING, HTML_ITEM, HTML_ROW, HTML_PRE } fm_html_kind;

typedef struct fm_html_block {
    size_t at, len;         /* in text */
    size_t chars, in_links; /* characters; those of writing without spaces between words count three times */
    size_t marks;           /* sentence marks and commas */
    fm_html_kind kind;
    const void *group; /* the division of the page that it stands in */
    bool boilerplate;  /* by tag, role or class */
    bool in_main;      /* inside the article or main element */
    bool keep;
} fm_html_block;

typedef struct fm_html_blocks {
    fm_str text;
    fm_html_block *item;
    size_t n, cap;
} fm_html_blocks;

/* text [n]: UTF-8. Fills title and language of the page, and the blocks in the order of the text. */
FM_MUST_CHECK fm_status fm_html_cut(fm_html_blocks *out, fm_html_page *page, const char *p, size_t n);
void fm_html_blocks_free(fm_html_blocks *b);

#endif
