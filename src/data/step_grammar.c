/* grammar: share of words of English sentences that a parse takes in. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/grammar.h"
#include "data/step.h"
#include "data/words.h"

typedef struct grammar_options {
    char *column, *into;
    double min;
    int64_t sentences, min_words, max_words, seconds;
} grammar_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(grammar_options),
    {"into", FM_OPT_STR, offsetof(grammar_options, into), "grammar", 0, 0, NULL, NULL, "NAME",
     "column for the share of words that fit (null where no sentence could be parsed); empty = none"},
    {"min", FM_OPT_FLOAT, offsetof(grammar_options, min), "0", 0, 1, NULL, NULL, NULL,
     "rows with a smaller share go; 0 = none"},
    {"sentences", FM_OPT_INT, offsetof(grammar_options, sentences), "20", 0, 1e9, NULL, NULL, NULL,
     "sentences looked at in each row, from its beginning; 0 = all"},
    {"min_words", FM_OPT_INT, offsetof(grammar_options, min_words), "4", 1, 1000, NULL, NULL, NULL,
     "shorter sentences (headings) are passed over"},
    {"max_words", FM_OPT_INT, offsetof(grammar_options, max_words), "40", 1, 200, NULL, NULL, NULL,
     "longer sentences are passed over: time to parse grows with the cube"},
    {"seconds", FM_OPT_INT, offsetof(grammar_options, seconds), "10", 1, 3600, NULL, NULL, NULL,
     "time limit for one sentence; it is passed over and counted then"},
    FM_STEP_OPTIONS_END,
};

typedef struct state {
    fm_words *words;
    fm_link_grammar *grammar;
} state;

typedef struct local {
    fm_word_list list;
    fm_str sentence;
} local;

static fm_status grammar_open(fm_step *step) {
    const grammar_options *o = step->opt;
    if (o->min_words > o->max_words) {
        FM_FAIL(FM_ERR_CONFIG, "grammar: min_words %lld is more than max_words %lld", (long long)o->min_words,
                (long long)o->max_words);
    }
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    FM_TRY(fm_words_new(&s->words));
    return fm_link_grammar_new(&s->grammar);
}

static void grammar_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_words_free(s->words);
        fm_link_grammar_free(s->grammar);
        fm_free(s);
        step->state = NULL;
    }
}

static void local_free(void *data) {
    local *l = data;
    fm_word_list_free(&l->list);
    fm_str_free(&l->sentence);
}

typedef struct tally {
    int64_t sentences, words, unlinked;
} tally;

/* Words [a, b) of a line: blanks single, no zeros. */
static fm_status put_sentence(local *l, fm_sv line, size_t a, size_t b, int64_t *words) {
    fm_str_clear(&l->sentence);
    *words = 0;
    for (size_t i = a; i < b; i++) {
        const fm_word *w = &l->list.item[i];
        bool apart = i > a && line.ptr[w->at - 1] == ' ';
        if (w->blank) {
            continue;
        }
        if (apart || (i > a && l->list.item[i - 1].blank)) {
            fm_str_putc(&l->sentence, ' ');
        }
        fm_str_append(&l->sentence, line.ptr + w->at, w->len);
        ++*words;
    }
    for (size_t i = 0; i < l->sentence.len; i++) {
        l->sentence.data[i] = (char)(l->sentence.data[i] ? l->sentence.data[i] : ' ');
    }
    return fm_str_check(&l->sentence);
}

static fm_status parse_line(fm_step_ctx *x, fm_sv line, tally *t) {
    const grammar_options *o = x->step->opt;
    const state *s = x->step->state;
    local *l = x->local;
    FM_TRY(fm_words_split(s->words, &l->list, line));
    for (size_t a = 0, b; a < l->list.n && (o->sentences == 0 || t->sentences < o->sentences); a = b) {
        int64_t words;
        fm_link_grammar_result got;
        b = fm_words_sentence_end(&l->list, line, a);
        FM_TRY(put_sentence(l, line, a, b, &words));
        if (words < o->min_words || words > o->max_words) {
            continue;
        }
        FM_TRY(fm_link_grammar_parse(s->grammar, &got, l->sentence.data, (int)o->seconds));
        if (got.timed_out) {
            FM_TRY(fm_step_count(x, "sentences over the time limit", 1));
        }
        if (got.parsed) {
            t->sentences++;
            t->words += got.words;
            t->unlinked += got.unlinked;
        }
    }
    return FM_OK;
}

static fm_status grammar_row(fm_step_ctx *x, fm_rec *r) {
    const grammar_options *o = x->step->opt;
    tally t = {0};
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    if (c->text.len >= INT32_MAX) {
        return fm_step_drop(x, r, "longer than 2 GiB", NULL);
    }
    for (size_t at = 0; at < c->text.len && (o->sentences == 0 || t.sentences < o->sentences);) {
        const char *nl = memchr(c->text.ptr + at, '\n', c->text.len - at);
        size_t n = nl ? (size_t)(nl - c->text.ptr) - at : c->text.len - at;
        FM_TRY(parse_line(x, (fm_sv){c->text.ptr + at, n}, &t));
        at += n + 1;
    }
    FM_TRY(fm_step_count(x, "sentences", t.sentences));
    if (t.sentences == 0) {
        FM_TRY(fm_step_count(x, "rows without a sentence to parse", 1));
        return o->into ? fm_rec_set_null(x->arena, r, o->into) : FM_OK;
    }
    double share = 1 - (double)t.unlinked / (double)t.words;
    if (o->into) {
        FM_TRY(fm_rec_set_float(x->arena, r, o->into, share));
    }
    if (share < o->min) {
        char detail[96];
        snprintf(detail, sizeof detail, "%lld of %lld words in %lld sentences do not fit", (long long)t.unlinked,
                 (long long)t.words, (long long)t.sentences);
        return fm_step_drop(x, r, "grammar", detail);
    }
    return FM_OK;
}

const fm_step_def fm_step_grammar = {
    .name = "grammar",
    .help = "English grammar: share of the words that a parse takes in",
    .about = "Each sentence is parsed by link-grammar; words that have to be left out for a parse to be found count\n"
             "against the row. For English rows only (run 'language' before). Some 100 sentences a second on a core.\n"
             "Needs the library link-grammar (Debian: liblink-grammar5, link-grammar-dictionaries-en).",
    .examples = "fathom data grammar -i en.jsonl -o marked.jsonl\n"
                "fathom data grammar -i answers.jsonl -o good.jsonl --column answer --min 0.8 --rejects poor.jsonl",
    .options = rows,
    .options_bytes = sizeof(grammar_options),
    .open = grammar_open,
    .close = grammar_close,
    .row = grammar_row,
    .local_bytes = sizeof(local),
    .local_free = local_free,
};
