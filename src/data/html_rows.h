/* Rows of web pages: what the readers of HTML files and web archives share. */
#ifndef FM_DATA_HTML_ROWS_H
#define FM_DATA_HTML_ROWS_H

#include "data/reader.h"

/* The option `html`. */
typedef enum fm_html_rows_kind { FM_HTML_MAIN, FM_HTML_ALL, FM_HTML_SOURCE } fm_html_rows_kind;

/* Adds title, language (when the page has them) and the text column. label: what a server said about the encoding, or
 * NULL. *empty: there is no text and the row is as it was. */
FM_MUST_CHECK fm_status fm_html_row(fm_bump *a, fm_rec *r, const char *p, size_t n, const char *label,
                                    const fm_reader_options *o, bool *empty);

#endif
