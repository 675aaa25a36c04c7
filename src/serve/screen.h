/* Content filter of what comes in and what goes out: rules of a YAML file.
 *
 *   rules:
 *     - name: insults                # in metrics and logs
 *       words: [one, two words]      # whole words, whatever their case; Chinese and Japanese ones anywhere
 *       words_file: insults.txt      # one a line
 *       regex: 'sk-[A-Za-z0-9]{20,}' # PCRE2
 *       privacy: [email, phone]      # kinds of `fathom data privacy`; all = each but names
 *       model: out/classifier        # a text of this label, at this probability or more
 *       label: toxic
 *       threshold: 0.8
 *       on: input                    # input, output or both (both)
 *       action: mask                 # block, mask or flag (block)
 *       mask: '[removed]'
 *
 * A rule has one or more of words, regex, privacy and model. In a stream text is held back as long as it may be the
 * beginning of a find: a partial match of PCRE2, a word that is not over, a number that goes on, a sentence that the
 * classifier has not seen. More than FM_SCREEN_HOLD bytes are not held; a longer match is found from there on only. */
#ifndef FM_SERVE_SCREEN_H
#define FM_SERVE_SCREEN_H

#include "base/json.h"
#include "base/str.h"

#define FM_SCREEN_HOLD 4096

typedef struct fm_screen fm_screen;

/* Relative paths are those of the file's folder. */
FM_MUST_CHECK fm_status fm_screen_load(fm_screen **out, const char *path);
FM_MUST_CHECK fm_status fm_screen_parse(fm_screen **out, const char *text, size_t n, const char *path);
void fm_screen_free(fm_screen *g);
bool fm_screen_watches(const fm_screen *g, bool output); /* g may be NULL */
/* A classifier is among the rules: texts must be judged on the engine's thread. */
bool fm_screen_computes(const fm_screen *g, bool output);

/* One text on its way through. Zero-initialise with g and output. */
typedef struct fm_screen_text {
    fm_screen *g;
    bool output;
    bool blocked;      /* nothing more goes out */
    const char *found; /* name of the rule that found something last, or NULL */
    fm_str buf;        /* what was sent last, as context, and what is held */
    size_t sent;       /* of buf */
    size_t judged;     /* of buf: the classifiers have seen it */
} fm_screen_text;
/* Appends to out what may go out now; with `last` all that was held, unless it is blocked. */
FM_MUST_CHECK fm_status fm_screen_push(fm_screen_text *t, const char *text, size_t n, bool last, fm_str *out);
void fm_screen_text_free(fm_screen_text *t);

/* The texts of a request: those of its members that hold content. *blocked: it must be refused. *body is replaced when
 * something was masked. found as above. */
FM_MUST_CHECK fm_status fm_screen_request(fm_screen *g, fm_json **body, bool *blocked, const char **found);

/* Counters in the form of Prometheus; g may be NULL. */
void fm_screen_metrics(fm_str *out, const fm_screen *g, const char *labels);

#endif
