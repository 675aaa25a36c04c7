/* Entities from tags of tokens, a row the tags of one text separated by blanks. What begins and ends an entity is the
 * rule of conlleval (Tjong Kim Sang and Buchholz 2000) as seqeval's default mode has it: B, I, E, S with a type, and O.
 * An entity counts when type, begin and end are right. */
#include <string.h>

#include "eval/metric.h"
#include "data/entities.h"

typedef struct entity {
    fm_text type;
    size_t begin, end;
} entity;

typedef struct entities {
    entity *item;
    size_t n, cap, n_tags;
} entities;

static bool next(fm_text *rest, fm_text *t) {
    while (rest->len > 0 && strchr(" \t\r\n", rest->ptr[0]) && rest->ptr[0]) {
        rest->ptr++;
        rest->len--;
    }
    size_t n = 0;
    while (n < rest->len && !(strchr(" \t\r\n", rest->ptr[n]) && rest->ptr[n])) {
        n++;
    }
    *t = (fm_text){rest->ptr, n};
    rest->ptr += n;
    rest->len -= n;
    return n > 0;
}

/* The entities of a text, in order. */
static fm_status read_tags(entities *e, fm_text row) {
    fm_entity_tag prev = fm_entity_tag_none();
    size_t begin = 0, i = 0;
    fm_text t;
    e->n = e->n_tags = 0;
    for (bool more = true; more; i++) {
        more = next(&row, &t);
        fm_entity_tag now = more ? fm_entity_tag_of(t.ptr, t.len) : fm_entity_tag_of("O", 1);
        if (fm_entity_ends(&prev, &now)) {
            FM_TRY(fm_grow((void **)&e->item, &e->cap, e->n + 1, sizeof *e->item));
            e->item[e->n++] = (entity){{prev.type, prev.type_len}, begin, i};
        }
        begin = fm_entity_begins(&prev, &now) ? i : begin;
        prev = now;
        e->n_tags += more;
    }
    return FM_OK;
}

/* Calls: first all types, then the counts. */
static fm_status each(const fm_score_rows *rows, fm_label_set *l, fm_class_counts *c) {
    entities said = {0}, truth = {0};
    fm_status s = FM_OK;
    for (size_t i = 0; i < rows->n && s == FM_OK; i++) {
        s = read_tags(&said, rows->hyp[i]);
        s = s == FM_OK ? read_tags(&truth, rows->ref[i]) : s;
        if (s == FM_OK && said.n_tags != truth.n_tags) {
            s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "entity: row %zu has %zu tags, its reference %zu", i + 1,
                             said.n_tags, truth.n_tags);
        }
        for (size_t k = 0; k < said.n && s == FM_OK; k++) {
            if (c) {
                c[fm_labels_find(l, said.item[k].type)].said++;
            } else {
                s = fm_labels_add(l, said.item[k].type);
            }
        }
        for (size_t k = 0, j = 0; k < truth.n && s == FM_OK; k++) {
            const entity *t = &truth.item[k];
            if (!c) {
                s = fm_labels_add(l, t->type);
                continue;
            }
            while (j < said.n && said.item[j].begin < t->begin) {
                j++;
            }
            fm_class_counts *one = &c[fm_labels_find(l, t->type)];
            one->truth++;
            for (size_t q = j; q < said.n && said.item[q].begin == t->begin; q++) {
                one->right += said.item[q].end == t->end && said.item[q].type.len == t->type.len &&
                              memcmp(said.item[q].type.ptr, t->type.ptr, t->type.len) == 0;
            }
        }
    }
    fm_free(said.item);
    fm_free(truth.item);
    return s;
}

fm_status fm_metric_entity(fm_score *out, const fm_score_rows *rows, const fm_score_options *o) {
    FM_UNUSED(o);
    if (rows->n_refs != 1) {
        FM_FAIL(FM_ERR_ARGUMENT, "entity: expected one reference, found %zu", rows->n_refs);
    }
    fm_label_set l = {0};
    fm_class_counts *c = NULL;
    fm_status s = each(rows, &l, NULL);
    s = s == FM_OK ? fm_labels_sort(&l, "entity") : s;
    s = s == FM_OK ? fm_labels_copy(out, &l) : s;
    if (s == FM_OK) {
        c = fm_calloc(l.n + 1, sizeof *c);
        s = c ? each(rows, &l, c) : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %zu types", l.n);
    }
    s = s == FM_OK ? fm_score_classes(out, out->label, c, l.n) : s;
    out->value = s == FM_OK ? fm_score_get(out, "micro_f1") : 0;
    snprintf(out->signature, sizeof out->signature, "entity|micro_f1|types:%zu|mode:conlleval|version:fathom-%s", l.n,
             FATHOM_VERSION);
    fm_free(c);
    fm_free(l.name);
    return s;
}
