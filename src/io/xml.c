/* XML events over libxml2's text reader: see xml.h. */
#include "io/xml.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/xml_lib.h"

#ifdef FM_HAVE_XML2

struct fm_xml_file {
    fm_stream *in;
    xmlTextReaderPtr reader;
    fm_status failed; /* of the stream, and its record */
    fm_error_record error;
    char message[256];
};

static int read_bytes(void *arg, char *buf, int len) {
    fm_xml_file *x = arg;
    size_t n = 0;
    fm_status s = fm_stream_read(x->in, buf, (size_t)len, &n);
    if (s != FM_OK) {
        x->failed = s;
        fm_error_save(&x->error);
        return -1;
    }
    return (int)n;
}

static int close_bytes(void *arg) {
    FM_UNUSED(arg);
    return 0;
}

/* libxml2 up to 2.11 gives the error without const, later ones with it: the type is taken from the header. */
static void take_message(fm_xml_file *x, const char *text) {
    if (text && !x->message[0]) {
        snprintf(x->message, sizeof x->message, "%s", text);
        x->message[strcspn(x->message, "\n")] = '\0';
    }
}

#if LIBXML_VERSION >= 21200
static void on_error(void *arg, const xmlError *e) {
    take_message(arg, e->message);
}
#else
static void on_error(void *arg, xmlErrorPtr e) {
    take_message(arg, e->message);
}
#endif

fm_status fm_xml_file_open(fm_xml_file **out, fm_stream *in, const char *encoding) {
    *out = NULL;
    fm_status s = fm_xml_open();
    fm_xml_file *x = s == FM_OK ? fm_calloc(1, sizeof *x) : NULL;
    if (!x) {
        fm_stream_close(in);
        FM_TRY(s);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate an XML reader");
    }
    x->in = in;
    x->reader = fm_xml.xmlReaderForIO(read_bytes, close_bytes, x, NULL, encoding,
                                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA |
                                          XML_PARSE_COMPACT);
    if (!x->reader) {
        s = x->failed;
        if (s != FM_OK) {
            fm_error_restore(&x->error);
        }
        fm_xml_file_close(x);
        FM_TRY(s);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate an XML reader");
    }
    fm_xml.xmlTextReaderSetStructuredErrorHandler(x->reader, on_error, x);
    *out = x;
    return FM_OK;
}

void fm_xml_file_close(fm_xml_file *x) {
    if (x) {
        if (x->reader) {
            fm_xml.xmlFreeTextReader(x->reader);
        }
        fm_stream_close(x->in);
        fm_free(x);
    }
}

static fm_sv view(const xmlChar *s) {
    return fm_sv_of(s ? (const char *)s : "");
}

fm_status fm_xml_file_next(fm_xml_file *x, fm_xml_event *e) {
    for (;;) {
        int rc = fm_xml.xmlTextReaderRead(x->reader);
        *e = (fm_xml_event){.kind = FM_XML_AT_END, .line = fm_xml.xmlTextReaderGetParserLineNumber(x->reader)};
        if (rc < 0 && x->failed != FM_OK) {
            fm_error_restore(&x->error);
            return x->failed;
        }
        if (rc < 0) {
            FM_FAIL(FM_ERR_CORRUPT, "'%s', line %lld: broken XML: %s", fm_stream_name(x->in), (long long)e->line,
                    x->message[0] ? x->message : "no document");
        }
        if (rc == 0) {
            return FM_OK;
        }
        switch (fm_xml.xmlTextReaderNodeType(x->reader)) {
        case XML_READER_TYPE_ELEMENT:
            e->kind = FM_XML_BEGIN;
            e->empty = fm_xml.xmlTextReaderIsEmptyElement(x->reader) == 1;
            e->name = view(fm_xml.xmlTextReaderConstLocalName(x->reader));
            return FM_OK;
        case XML_READER_TYPE_END_ELEMENT:
            e->kind = FM_XML_END;
            e->name = view(fm_xml.xmlTextReaderConstLocalName(x->reader));
            return FM_OK;
        case XML_READER_TYPE_TEXT:
        case XML_READER_TYPE_CDATA:
        case XML_READER_TYPE_SIGNIFICANT_WHITESPACE:
            e->kind = FM_XML_TEXT;
            e->text = view(fm_xml.xmlTextReaderConstValue(x->reader));
            return FM_OK;
        default:
            break;
        }
    }
}

bool fm_xml_file_attribute(fm_xml_file *x, fm_sv *name, fm_sv *value) {
    if (fm_xml.xmlTextReaderMoveToNextAttribute(x->reader) != 1) {
        fm_xml.xmlTextReaderMoveToElement(x->reader);
        return false;
    }
    *name = view(fm_xml.xmlTextReaderConstLocalName(x->reader));
    *value = view(fm_xml.xmlTextReaderConstValue(x->reader));
    return true;
}

int64_t fm_xml_file_consumed(const fm_xml_file *x) {
    return fm_stream_consumed(x->in);
}

#else
struct fm_xml_file {
    int none;
};

fm_status fm_xml_file_open(fm_xml_file **out, fm_stream *in, const char *encoding) {
    FM_UNUSED(encoding);
    *out = NULL;
    fm_stream_close(in);
    return fm_xml_open();
}
void fm_xml_file_close(fm_xml_file *x) {
    FM_UNUSED(x);
}
fm_status fm_xml_file_next(fm_xml_file *x, fm_xml_event *e) {
    FM_UNUSED(x);
    FM_UNUSED(e);
    return fm_xml_open();
}
bool fm_xml_file_attribute(fm_xml_file *x, fm_sv *name, fm_sv *value) {
    FM_UNUSED(x);
    FM_UNUSED(name);
    FM_UNUSED(value);
    return false;
}
int64_t fm_xml_file_consumed(const fm_xml_file *x) {
    FM_UNUSED(x);
    return 0;
}
#endif
