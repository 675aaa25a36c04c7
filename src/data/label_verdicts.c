/* See label_verdicts.h. */
#include "data/label_verdicts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

const char *const fm_verdict_names[4] = {"", "accept", "reject", "fixed"};

void fm_verdicts_free(fm_verdicts *v) {
    for (size_t i = 0; i < v->n; i++) {
        fm_free(v->item[i].fixed);
    }
    fm_free(v->item);
    fm_free(v->order);
    fm_label_names_free(&v->people);
    fm_tallies_free(&v->refused);
    *v = (fm_verdicts){0};
}

static uint64_t hash_cell(const fm_cell *c, uint64_t seed) {
    return c ? fm_hash64(c->text.ptr, c->text.len, seed) : seed;
}

static uint64_t key_of(const fm_rec *row) {
    return hash_cell(fm_rec_get(row, "annotation_id"), hash_cell(fm_rec_get(row, "task_id"), 1));
}

const fm_cell *fm_annotated(const fm_rec *row, const char *column) {
    const char *const names[] = {column, "label", "labels", "entities", "answer", "chosen", "score"};
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        const fm_cell *c = fm_rec_get(row, names[i]);
        if (c) {
            return c;
        }
    }
    return NULL;
}

static fm_status add_row(void *arg, fm_records *in, const fm_rec *row) {
    fm_verdicts *v = arg;
    const fm_cell *task = fm_rec_get(row, "task_id"), *who = fm_rec_get(row, "annotator");
    FM_UNUSED(in);
    fm_judged r = {.key = key_of(row), .task = hash_cell(task, 1), .who = -1};
    r.value = hash_cell(fm_annotated(row, v->o->column), 2);
    double share = (double)(fm_hash64(&r.key, sizeof r.key, (uint64_t)v->o->seed + 7) >> 11) * 0x1p-53;
    r.sampled = share < v->o->sample;
    if (!task) {
        FM_FAIL(FM_ERR_DATA, "a row without task_id: expected rows of data label import");
    }
    if (who && !fm_cell_is_empty(who)) {
        FM_TRY(fm_label_names_add(&v->people, who->text.ptr, who->text.len, FM_MAX_LABEL_NAMES));
        r.who = fm_label_names_find(&v->people, who->text.ptr, who->text.len);
    }
    void *p = v->item;
    FM_TRY(fm_grow(&p, &v->cap, v->n + 1, sizeof *v->item));
    v->item = p;
    v->item[v->n++] = r;
    return FM_OK;
}

typedef struct ordered {
    uint64_t key;
    uint32_t at;
} ordered;

static int by_key(const void *a, const void *b) {
    const ordered *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

static fm_status make_order(fm_verdicts *v) {
    ordered *list = fm_calloc(v->n + 1, sizeof *list);
    v->order = fm_calloc(v->n + 1, sizeof *v->order);
    if (!list || !v->order || v->n > UINT32_MAX) {
        fm_free(list);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu rows", v->n);
    }
    for (size_t i = 0; i < v->n; i++) {
        list[i] = (ordered){v->item[i].key, (uint32_t)i};
    }
    qsort(list, v->n, sizeof *list, by_key);
    for (size_t i = 0; i < v->n; i++) {
        v->order[i] = list[i].at;
    }
    fm_free(list);
    return FM_OK;
}

static fm_judged *find(const fm_verdicts *v, uint64_t key) {
    size_t lo = 0, hi = v->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (v->item[v->order[mid]].key < key) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    fm_judged *r = lo < v->n ? &v->item[v->order[lo]] : NULL;
    return r && r->key == key ? r : NULL;
}

static bool passes(uint8_t verdict) {
    return verdict == FM_VERDICT_ACCEPT || verdict == FM_VERDICT_FIXED;
}

bool fm_verdicts_passed(const fm_judged *r, int level) {
    for (int l = 0; l <= level && l < FM_LEVEL_EXPERT; l++) {
        if (!passes(r->verdict[l])) {
            return false;
        }
    }
    return level < FM_LEVEL_EXPERT ||
           (r->sampled ? passes(r->verdict[FM_LEVEL_EXPERT]) : r->verdict[FM_LEVEL_EXPERT] != FM_VERDICT_REJECT);
}

static int one_of(const fm_cell *c, const char *const *names, int n) {
    for (int i = 0; c && c->kind == FM_CELL_TEXT && i < n; i++) {
        if (*names[i] && fm_sv_eq(c->text, names[i])) {
            return i;
        }
    }
    return -1;
}

fm_status fm_verdicts_apply(fm_verdicts *v, const fm_rec *row, int level, const char *reviewer, const char **why) {
    fm_judged *r = find(v, key_of(row));
    const fm_cell *label = fm_annotated(row, v->o->column);
    int verdict = one_of(fm_rec_get(row, "verdict"), fm_verdict_names, 4);
    level = reviewer ? level : one_of(fm_rec_get(row, "level"), fm_level_names, FM_LEVELS);
    const char *annotator = r && r->who >= 0 ? v->people.name[r->who] : "";
    bool own = reviewer && strcmp(reviewer, annotator) == 0;
    *why = !r                                               ? "no such row"
           : verdict < 0                                    ? "verdict is not accept, reject or fixed"
           : level < 0                                      ? "level is not own, lead or expert"
           : level > 0 && !fm_verdicts_passed(r, level - 1) ? "the level before was not passed"
           : reviewer && level == 0 && !own                 ? "an own check is the annotator's"
           : reviewer && level > 0 && own                   ? "nobody leads or checks the own work as expert"
           : verdict == FM_VERDICT_FIXED && !label          ? "fixed without the label"
                                                            : NULL;
    if (*why || !r) {
        return FM_OK;
    }
    r->verdict[level] = (uint8_t)verdict;
    for (int l = level + 1; l < FM_LEVELS; l++) { /* a level that is judged again takes those behind it back */
        r->verdict[l] = FM_VERDICT_NONE;
    }
    if (verdict == FM_VERDICT_FIXED) {
        fm_str json = {0};
        fm_cell_put_json(&json, label);
        FM_TRY(fm_str_check(&json));
        fm_free(r->fixed);
        r->fixed = fm_str_take(&json);
        r->value = hash_cell(label, 2);
    }
    return FM_OK;
}

static fm_status replay(void *arg, fm_records *in, const fm_rec *row) {
    const char *why = NULL;
    FM_TRY(fm_verdicts_apply(arg, row, 0, NULL, &why));
    if (why) {
        fm_verdicts *v = arg;
        fm_records_reject(in, row, why);
        return fm_tally_add(&v->refused, why, 1);
    }
    return FM_OK;
}

fm_status fm_verdicts_load(fm_verdicts *v, const fm_label_job *j) {
    *v = (fm_verdicts){.o = j->o};
    FM_TRY(fm_label_each(j, &j->o->input, add_row, v));
    FM_TRY(make_order(v));
    if (fm_path_exists(j->o->log) && fm_file_size(j->o->log) > 0) {
        char *path = j->o->log;
        fm_strlist one = {&path, 1};
        FM_TRY(fm_label_each(j, &one, replay, v));
    }
    return FM_OK;
}

void fm_verdicts_count(const fm_verdicts *v, int32_t who, int level, fm_level_counts *out, int64_t *n_sampled,
                       int64_t *n_rows) {
    *out = (fm_level_counts){0};
    *n_sampled = *n_rows = 0;
    for (size_t i = 0; i < v->n; i++) {
        const fm_judged *r = &v->item[i];
        if (r->who != who) {
            continue;
        }
        ++*n_rows;
        *n_sampled += r->sampled && fm_verdicts_passed(r, FM_LEVEL_LEAD);
        uint8_t x = r->verdict[level];
        out->judged += x != FM_VERDICT_NONE && (level < FM_LEVEL_EXPERT || r->sampled);
        out->accepted += x == FM_VERDICT_ACCEPT && (level < FM_LEVEL_EXPERT || r->sampled);
        out->rejected += x == FM_VERDICT_REJECT && (level < FM_LEVEL_EXPERT || r->sampled);
        out->fixed += x == FM_VERDICT_FIXED && (level < FM_LEVEL_EXPERT || r->sampled);
    }
}

double fm_level_error(const fm_level_counts *c) {
    return c->judged ? (double)(c->rejected + c->fixed) / (double)c->judged : (double)NAN;
}
