/* link-grammar behind grammar.h. */
#include "data/grammar.h"

#include <pthread.h>

#include "base/dynlib.h"
#include "base/error.h"
#include "base/mem.h"

#ifdef FM_HAVE_LINK_GRAMMAR
#include <link-grammar/link-includes.h>

#define FUNCTIONS(X)                                                                                                   \
    X(lg_error_set_handler)                                                                                            \
    X(dictionary_create_lang)                                                                                          \
    X(dictionary_delete)                                                                                               \
    X(parse_options_create)                                                                                            \
    X(parse_options_delete)                                                                                            \
    X(parse_options_set_verbosity)                                                                                     \
    X(parse_options_set_spell_guess)                                                                                   \
    X(parse_options_set_linkage_limit)                                                                                 \
    X(parse_options_set_max_null_count)                                                                                \
    X(parse_options_set_max_parse_time)                                                                                \
    X(parse_options_resources_exhausted)                                                                               \
    X(sentence_create)                                                                                                 \
    X(sentence_delete)                                                                                                 \
    X(sentence_split)                                                                                                  \
    X(sentence_parse)                                                                                                  \
    X(sentence_length)                                                                                                 \
    X(sentence_null_count)

static struct {
    void *lib;
#define FM_X(name) __typeof__(&(name)) name;
    FUNCTIONS(FM_X)
#undef FM_X
} link;

struct fm_link_grammar {
    Dictionary dictionary;
};

static fm_status open_library(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const fm_dynlib_entry entries[] = {
#define FM_X(name) {&link.name, #name},
        FUNCTIONS(FM_X)
#undef FM_X
    };
    pthread_mutex_lock(&lock);
    fm_status s = link.lib ? FM_OK
                           : fm_dynlib_open(&link.lib, "liblink-grammar.so.5", "liblink-grammar5", entries,
                                            FM_ARRAY_LEN(entries));
    pthread_mutex_unlock(&lock);
    return s;
}

/* It would write to stderr. */
static void be_silent(lg_errinfo *info, void *user) {
    FM_UNUSED(info);
    FM_UNUSED(user);
}

fm_status fm_link_grammar_new(fm_link_grammar **out) {
    *out = NULL;
    FM_TRY(open_library());
    fm_link_grammar *g = fm_calloc(1, sizeof *g);
    if (!g) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a grammar");
    }
    link.lg_error_set_handler(be_silent, NULL);
    g->dictionary = link.dictionary_create_lang("en");
    if (!g->dictionary) {
        fm_free(g);
        fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "link-grammar finds no English dictionary");
        return fm_error_hint("install it (Debian, Ubuntu: apt-get install link-grammar-dictionaries-en)");
    }
    *out = g;
    return FM_OK;
}

void fm_link_grammar_free(fm_link_grammar *g) {
    if (g) {
        link.dictionary_delete(g->dictionary);
        fm_free(g);
    }
}

fm_status fm_link_grammar_parse(const fm_link_grammar *g, fm_link_grammar_result *out, const char *sentence,
                                int seconds) {
    *out = (fm_link_grammar_result){0};
    Parse_Options o = link.parse_options_create();
    Sentence s = o ? link.sentence_create(sentence, g->dictionary) : NULL;
    if (!s) {
        if (o) {
            link.parse_options_delete(o);
        }
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot parse a sentence");
    }
    link.lg_error_set_handler(be_silent, NULL); /* it is kept per thread */
    link.parse_options_set_verbosity(o, 0);
    link.parse_options_set_spell_guess(o, 0);
    link.parse_options_set_linkage_limit(o, 1); /* only how many words are left out is asked for */
    link.parse_options_set_max_null_count(o, 250);
    link.parse_options_set_max_parse_time(o, seconds);
    if (link.sentence_split(s, o) == 0 && link.sentence_parse(s, o) >= 0) {
        int walls = 2; /* before the first word and behind the last */
        out->timed_out = link.parse_options_resources_exhausted(o);
        out->words = link.sentence_length(s) - walls;
        out->unlinked = link.sentence_null_count(s);
        out->parsed = !out->timed_out && out->words > 0;
        out->unlinked = FM_MIN(out->unlinked, out->words);
    }
    link.sentence_delete(s);
    link.parse_options_delete(o);
    return FM_OK;
}

#else /* built without the header */

fm_status fm_link_grammar_new(fm_link_grammar **out) {
    *out = NULL;
    fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "this program was built without link-grammar");
    return fm_error_hint("install liblink-grammar-dev and build again");
}

void fm_link_grammar_free(fm_link_grammar *g) {
    FM_UNUSED(g);
}

fm_status fm_link_grammar_parse(const fm_link_grammar *g, fm_link_grammar_result *out, const char *sentence,
                                int seconds) {
    FM_UNUSED(g);
    FM_UNUSED(sentence);
    FM_UNUSED(seconds);
    *out = (fm_link_grammar_result){0};
    FM_FAIL(FM_ERR_UNSUPPORTED, "this program was built without link-grammar");
}
#endif
