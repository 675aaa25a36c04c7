/* XML as a stream of events, in constant memory: elements, their attributes, text. Namespaces are dropped from names.
 * Entities of the document are not expanded and nothing is ever loaded from elsewhere. */
#ifndef FM_IO_XML_H
#define FM_IO_XML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"
#include "io/stream.h"

typedef struct fm_xml_file fm_xml_file;

typedef enum fm_xml_kind { FM_XML_BEGIN, FM_XML_END, FM_XML_TEXT, FM_XML_AT_END } fm_xml_kind;

typedef struct fm_xml_event {
    fm_xml_kind kind;
    fm_sv name, text; /* BEGIN, END: name; TEXT: text. Until the next call */
    bool empty;       /* BEGIN of an element without an end of its own: no END comes */
    int64_t line;
} fm_xml_event;

/* Takes the stream over (closed on failure too). encoding: NULL, or the one the stream was converted to. */
FM_MUST_CHECK fm_status fm_xml_file_open(fm_xml_file **out, fm_stream *in, const char *encoding);
void fm_xml_file_close(fm_xml_file *x);
/* FM_ERR_CORRUPT where the document is not well-formed or cut short; the stream's own failure when it has one. */
FM_MUST_CHECK fm_status fm_xml_file_next(fm_xml_file *x, fm_xml_event *e);
/* The attributes of the BEGIN event just read, one a call until false. */
bool fm_xml_file_attribute(fm_xml_file *x, fm_sv *name, fm_sv *value);
int64_t fm_xml_file_consumed(const fm_xml_file *x);

#endif
