/* Wikitext (the markup of Wikipedia) as plain text: templates, tables, references, files and categories are left out;
 * links, emphasis, headings, lists and HTML leave their text; of Chinese variants -{zh-hans:..;zh-hant:..}- the
 * simplified one is taken. Templates that hold running text (lang, nowrap, convert and their like) leave it.
 * Headings with nothing under them go too. Time is linear in the page, nesting of any depth is safe. */
#ifndef FM_IO_WIKITEXT_H
#define FM_IO_WIKITEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "fathom/status.h"

/* Zero-initialise; may be used again and again. */
typedef struct fm_wikitext {
    fm_str text;       /* UTF-8 when the page was */
    fm_str categories; /* JSON array of names, or empty */
    fm_str raw, buf;   /* of the implementation */
    struct fm_wiki_pair *pair;
    size_t n_pairs, pairs_cap;
} fm_wikitext;

FM_MUST_CHECK fm_status fm_wikitext_plain(fm_wikitext *w, const char *p, size_t n);
bool fm_wikitext_is_redirect(const char *p, size_t n);
void fm_wikitext_free(fm_wikitext *w);

#endif
