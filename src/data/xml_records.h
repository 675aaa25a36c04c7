/* Records of an XML file, one small tree at a time: what the readers of XML, PubMed and MediaWiki share. */
#ifndef FM_DATA_XML_RECORDS_H
#define FM_DATA_XML_RECORDS_H

#include "data/reader.h"

typedef struct fm_xml_node fm_xml_node;
/* An element, or an attribute (its name begins with '@'). */
struct fm_xml_node {
    fm_sv name, text; /* text: of the element itself, without what is in children; white space kept */
    fm_xml_node *child, *last, *next;
    fm_sv flat; /* mixed content: all text below, in order */
    uint32_t n_children;
    bool mixed;
};

typedef struct fm_xml_records fm_xml_records;

/* path: "//name" or "name" (such elements wherever they are), "a/b" (b inside a), "/root/a/b" (from the top). */
FM_MUST_CHECK fm_status fm_xml_records_open(fm_xml_records **out, const char *path, const char *record_path,
                                            const fm_reader_options *o);
void fm_xml_records_close(fm_xml_records *x);
/* The next record, in `a`. *tree NULL with *bad set: a record that is too long or too deep. */
FM_MUST_CHECK fm_status fm_xml_records_next(fm_xml_records *x, fm_bump *a, const fm_xml_node **tree, int64_t *line,
                                            const char **bad, bool *more);
int64_t fm_xml_records_consumed(const fm_xml_records *x);
/* Readers' common end of `next`: sets b->bytes, and keeps a failure back until the rows before it are given out. */
FM_MUST_CHECK fm_status fm_xml_records_done(fm_xml_records *x, fm_recs *b, fm_status s, bool *more);
/* A failure that was kept back, or FM_OK. */
FM_MUST_CHECK fm_status fm_xml_records_pending(const fm_xml_records *x);

/* The first child element of that name, or NULL. */
const fm_xml_node *fm_xml_child(const fm_xml_node *n, const char *name);
/* Down a path of child names "a/b/c". */
const fm_xml_node *fm_xml_at(const fm_xml_node *n, const char *path);
/* All text of an element with white space in runs of one blank, appended; nothing for NULL. */
void fm_xml_put_text(fm_str *out, const fm_xml_node *n);
/* The element as JSON, appended: text alone as a string, else an object of its attributes ("@name"), children (an array
 * when there are several of a name) and text ("#text"); mixed content as the string of all its text. */
void fm_xml_put_json(fm_str *out, const fm_xml_node *n);

#endif
