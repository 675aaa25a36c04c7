/* Labels and tags of texts: see labelling.h. */
#include "eval/labelling.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/entities.h"
#include "data/tag_words.h"

#define MOST_TOKENS 4096 /* of one pass */

struct fm_labelling {
    fm_model *m;
    const fm_tokenizer *t;
    fm_data_labels kind;
    int n; /* labels */
    char (*name)[128];
    size_t most;   /* tokens of a pass */
    fm_tokens ids; /* of a text with one label */
    fm_tag_words *words;
    fm_example e; /* of words with tags */
    float *score; /* [most, n] */
    /* What was said of each word: */
    int *said;
    size_t said_cap;
};

static fm_status prepare(fm_labelling *l) {
    fm_head_info head;
    fm_model_info info;
    FM_TRY(fm_model_get_info(&info, l->m));
    FM_TRY(fm_model_head_info(&head, l->m, 0));
    const bool several = strcmp(head.kind, "multi-label") == 0, tags = strcmp(head.kind, "tagging") == 0;
    if (!several && !tags && strcmp(head.kind, "classification") != 0) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                           "the model's head is for '%s', expected one for labels of texts or tags of words",
                           head.kind);
        return fm_error_hint("train one with stage: cls or stage: tag");
    }
    l->kind = tags ? FM_DATA_TAGS : several ? FM_DATA_SEVERAL_LABELS : FM_DATA_ONE_LABEL;
    l->n = FM_MAX(head.n_outputs, 1);
    l->most = (size_t)FM_MAX(4, FM_MIN((int64_t)MOST_TOKENS, info.max_position));
    l->name = fm_calloc((size_t)l->n, sizeof *l->name);
    l->score = fm_calloc(tags ? l->most * (size_t)l->n : (size_t)l->n, sizeof *l->score);
    if (!l->name || !l->score) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d labels", l->n);
    }
    for (int i = 0; i < l->n; i++) {
        const char *name = fm_model_label(l->m, 0, i);
        if (name) {
            snprintf(l->name[i], sizeof l->name[i], "%s", name);
        } else {
            snprintf(l->name[i], sizeof l->name[i], "LABEL_%d", i);
        }
    }
    return tags ? fm_tag_words_new(&l->words, l->t) : FM_OK;
}

fm_status fm_labelling_new(fm_labelling **out, fm_model *m, const fm_tokenizer *t) {
    fm_labelling *l = *out = fm_calloc(1, sizeof *l);
    if (!l) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for labels");
    }
    l->m = m;
    l->t = t;
    fm_status s = prepare(l);
    if (s != FM_OK) {
        fm_labelling_free(l);
        *out = NULL;
    }
    return s;
}

void fm_labelling_free(fm_labelling *l) {
    if (l) {
        fm_tokens_free(&l->ids);
        fm_tag_words_free(l->words);
        fm_free(l->e.ids);
        fm_free(l->e.marks);
        fm_free(l->e.values);
        fm_free(l->name);
        fm_free(l->score);
        fm_free(l->said);
        fm_free(l);
    }
}

fm_status fm_labelling_names(const fm_labelling *l, fm_label_names *out, fm_data_labels *kind) {
    *kind = l->kind;
    for (int i = 0; i < l->n; i++) {
        const char *name = l->name[i];
        size_t n = strlen(name);
        if (l->kind == FM_DATA_TAGS) {
            const fm_entity_tag tag = fm_entity_tag_of(name, n);
            if (tag.kind == 'O') {
                continue;
            }
            name = tag.type;
            n = tag.type_len;
        }
        FM_TRY(fm_label_names_add(out, name, n, FM_MAX_LABEL_NAMES));
    }
    return FM_OK;
}

/* The largest of a row of scores, and its probability. */
static int best_of(const float *y, int n, double *p) {
    int best = 0;
    double sum = 0;
    for (int i = 1; i < n; i++) {
        best = y[i] > y[best] ? i : best;
    }
    for (int i = 0; i < n; i++) {
        sum += exp((double)y[i] - (double)y[best]);
    }
    *p = 1 / sum;
    return best;
}

/* ---- labels of a text ---- */

static fm_status add_label(const fm_labelling *l, fm_json *list, int i) {
    return fm_json_append(list, fm_json_new_str(l->name[i]));
}

/* The beginning of a long text, with the token that ends it, as it was trained. */
static fm_status say_labels(fm_labelling *l, fm_sv text, fm_json *out) {
    const fm_encode_options o = {.size = sizeof o, .add_special = true, .n_threads = 1};
    fm_json *list = fm_json_new_array();
    FM_TRY(fm_json_set(out, "labels", list));
    l->ids.n = 0;
    FM_TRY(fm_tokenizer_encode(&l->ids, l->t, text.ptr, text.len, &o));
    if (l->ids.n == 0) {
        return fm_json_set(out, "score", fm_json_new_num(0));
    }
    if (l->ids.n > l->most) {
        const int32_t last = l->ids.ids[l->ids.n - 1];
        l->ids.n = l->most;
        l->ids.ids[l->most - 1] = fm_tokenizer_is_special(l->t, last) ? last : l->ids.ids[l->most - 1];
    }
    const int32_t offsets[2] = {0, (int32_t)l->ids.n};
    const fm_texts t = {.size = sizeof t, .ids = l->ids.ids, .offsets = offsets, .n = 1};
    double score = 1;
    FM_TRY(fm_model_scores(l->m, 0, &t, l->score));
    if (l->kind == FM_DATA_ONE_LABEL) {
        FM_TRY(add_label(l, list, best_of(l->score, l->n, &score)));
    }
    for (int i = 0; i < l->n && l->kind == FM_DATA_SEVERAL_LABELS; i++) { /* as sure as of the least sure one */
        const double p = 1 / (1 + exp(-(double)l->score[i]));
        score = FM_MIN(score, FM_MAX(p, 1 - p));
        if (p >= 0.5) {
            FM_TRY(add_label(l, list, i));
        }
    }
    return fm_json_set(out, "score", fm_json_new_num(score));
}

/* ---- tags of words ---- */

/* The tags of words [from, past): one pass. A word that has no token of its own has the tag -1. */
static fm_status tag_piece(fm_labelling *l, size_t from, size_t past, double *score) {
    const int32_t offsets[2] = {0, (int32_t)l->e.n};
    const fm_texts t = {.size = sizeof t, .ids = l->e.ids, .offsets = offsets, .n = 1};
    void *p = l->said;
    FM_TRY(fm_grow(&p, &l->said_cap, past + 1, sizeof *l->said));
    l->said = p;
    for (size_t i = from; i < past; i++) {
        l->said[i] = -1;
    }
    if (l->e.n == 0) {
        return FM_OK;
    }
    FM_TRY(fm_model_scores(l->m, 0, &t, l->score));
    for (size_t i = 0; i < l->e.n; i++) {
        if (l->e.marks[i] > 0) {
            double sure = 0;
            l->said[from + (size_t)l->e.marks[i] - 1] = best_of(l->score + i * (size_t)l->n, l->n, &sure);
            *score = FM_MIN(*score, sure);
        }
    }
    return FM_OK;
}

static fm_status add_entity(const fm_labelling *l, fm_json *list, const fm_entity_tag *tag, size_t first, size_t last) {
    int64_t begin, end, unused;
    fm_json *e = fm_json_new_object();
    FM_TRY(fm_json_append(list, e));
    fm_tag_words_place(l->words, first, &begin, &unused);
    fm_tag_words_place(l->words, last, &unused, &end);
    FM_TRY(fm_json_set(e, "start", fm_json_new_int(begin)));
    FM_TRY(fm_json_set(e, "end", fm_json_new_int(end)));
    return fm_json_set(e, "label", fm_json_new_strn(tag->type, tag->type_len));
}

static fm_status say_entities(fm_labelling *l, fm_sv text, fm_json *out) {
    fm_json *list = fm_json_new_array();
    size_t n, past, first = 0;
    double score = 1;
    FM_TRY(fm_json_set(out, "entities", list));
    FM_TRY(fm_tag_words_cut(l->words, text, &n));
    for (size_t from = 0; from < n; from = past) {
        FM_TRY(fm_tag_words_encode(l->words, &l->e, from, l->most, &past));
        FM_TRY(tag_piece(l, from, past, &score));
    }
    fm_entity_tag before = fm_entity_tag_none();
    for (size_t i = 0; i <= n; i++) {
        const char *name = i < n && l->said[i] >= 0 ? l->name[l->said[i]] : "O";
        const fm_entity_tag now = fm_entity_tag_of(name, strlen(name));
        if (i > 0 && fm_entity_ends(&before, &now)) {
            FM_TRY(add_entity(l, list, &before, first, i - 1));
        }
        first = fm_entity_begins(&before, &now) ? i : first;
        before = now;
    }
    return fm_json_set(out, "score", fm_json_new_num(n ? score : 0));
}

fm_status fm_labelling_say(fm_labelling *l, fm_sv text, fm_json **out) {
    fm_json *o = fm_json_new_object();
    fm_status s = o ? (l->kind == FM_DATA_TAGS ? say_entities(l, text, o) : say_labels(l, text, o)) : FM_ERR_NO_MEMORY;
    if (s != FM_OK) {
        fm_json_free(o);
        o = NULL;
    }
    *out = o;
    return s;
}
