/* Inside of html.h: what reads libxml2's tree of a page. */
#ifndef FM_IO_HTML_TREE_H
#define FM_IO_HTML_TREE_H

#include <stddef.h>

#include "io/xml_lib.h"

#ifdef FM_HAVE_XML2
/* The tree of a page in UTF-8, or NULL for one that has none; freed with fm_xml.xmlFreeDoc. */
FM_MUST_CHECK fm_status fm_html_parse(xmlDoc **doc, const char *p, size_t n);
/* "" for an attribute without a value, NULL when it is missing. */
const char *fm_html_attribute(const xmlNode *e, const char *name);
/* The next node in document order behind `at` and all that is in it; NULL at the end of `top`. */
xmlNode *fm_html_after(xmlNode *at, const xmlNode *top);
#endif

#endif
