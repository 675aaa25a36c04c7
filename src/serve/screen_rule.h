/* Inside of the content filter: one rule and its finds. */
#ifndef FM_SERVE_SCREEN_RULE_H
#define FM_SERVE_SCREEN_RULE_H

#include <stdatomic.h>

#include "base/yaml.h"
#include "fathom/model.h"
#include "serve/screen.h"

typedef enum fm_screen_action { FM_SCREEN_BLOCK, FM_SCREEN_MASK, FM_SCREEN_FLAG } fm_screen_action;

typedef struct fm_screen_rule {
    char name[64], mask[64];
    fm_screen_action action;
    bool input, output;
    struct fm_screen_pattern *pattern[2]; /* of the words, of the regex */
    unsigned pii;                         /* kinds */
    fm_model *model;
    const fm_tokenizer *tok;
    int label;
    double threshold;
    atomic_ullong finds[2]; /* input, output */
} fm_screen_rule;

struct fm_screen {
    fm_screen_rule *rule;
    int n;
};

typedef struct fm_screen_span {
    size_t at, end; /* bytes */
    fm_screen_rule *rule;
} fm_screen_span;
typedef struct fm_screen_spans {
    fm_screen_span *item;
    size_t n, cap;
} fm_screen_spans;

FM_MUST_CHECK fm_status fm_screen_rule_init(fm_screen_rule *r, const fm_yaml *y, const char *folder, const char *name);
void fm_screen_rule_free(fm_screen_rule *r);
/* Finds of words, regex and privacy in text. *hold gets smaller when text from there on may belong to a find that is
 * not over yet, unless `last`. */
FM_MUST_CHECK fm_status fm_screen_rule_find(fm_screen_spans *out, fm_screen_rule *r, const char *text, size_t n,
                                            bool last, size_t *hold);
/* The classifier's word on text. */
FM_MUST_CHECK fm_status fm_screen_rule_judge(bool *found, const fm_screen_rule *r, const char *text, size_t n);

/* A pattern of words: one that finds any of them as said in screen.h. */
FM_MUST_CHECK fm_status fm_screen_words_pattern(fm_str *out, char **word, size_t n);

#endif
