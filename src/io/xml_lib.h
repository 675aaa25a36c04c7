/* libxml2, opened when the first HTML or XML input comes. The only files that know it are xml_lib.c, html_tree.c and
 * xml.c. Built without its headers, opening says so. */
#ifndef FM_IO_XML_LIB_H
#define FM_IO_XML_LIB_H

#include "fathom/status.h"

#ifdef FM_HAVE_XML2
#include <libxml/HTMLparser.h>
#include <libxml/xmlreader.h>

#define FM_XML_FUNCTIONS(X)                                                                                            \
    X(xmlInitParser)                                                                                                   \
    X(htmlNewParserCtxt)                                                                                               \
    X(htmlFreeParserCtxt)                                                                                              \
    X(htmlCtxtReadMemory)                                                                                              \
    X(xmlFreeDoc)                                                                                                      \
    X(xmlReaderForIO)                                                                                                  \
    X(xmlFreeTextReader)                                                                                               \
    X(xmlTextReaderRead)                                                                                               \
    X(xmlTextReaderNodeType)                                                                                           \
    X(xmlTextReaderConstLocalName)                                                                                     \
    X(xmlTextReaderConstValue)                                                                                         \
    X(xmlTextReaderIsEmptyElement)                                                                                     \
    X(xmlTextReaderMoveToNextAttribute)                                                                                \
    X(xmlTextReaderMoveToElement)                                                                                      \
    X(xmlTextReaderGetParserLineNumber)                                                                                \
    X(xmlTextReaderSetStructuredErrorHandler)

typedef struct fm_xml_lib {
    void *lib;
#define FM_X(name) __typeof__(&(name)) name;
    FM_XML_FUNCTIONS(FM_X)
#undef FM_X
} fm_xml_lib;

extern fm_xml_lib fm_xml; /* after fm_xml_open */
#endif

FM_MUST_CHECK fm_status fm_xml_open(void);

#endif
