/* agree: how far annotators say the same. Cohen's kappa for each pair over the tasks that both labelled, Fleiss' over
 * those that have the same number of annotations. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/label.h"

double fm_kappa_cohen(const int32_t *a, const int32_t *b, size_t n, int32_t n_labels) {
    double same = 0, chance = 0;
    for (size_t i = 0; i < n; i++) {
        same += a[i] == b[i];
    }
    for (int32_t l = 0; l < n_labels; l++) {
        double of_a = 0, of_b = 0;
        for (size_t i = 0; i < n; i++) {
            of_a += a[i] == l;
            of_b += b[i] == l;
        }
        chance += of_a * of_b;
    }
    double total = (double)n;
    return total * total > chance ? (same * total - chance) / (total * total - chance) : (double)NAN;
}

double fm_kappa_fleiss(const int32_t *count, size_t n_rows, int32_t n_labels) {
    double ratings = 0, agreed = 0, chance = 0;
    for (int32_t l = 0; l < n_labels && n_rows; l++) {
        ratings += count[l];
    }
    for (size_t i = 0; i < n_rows; i++) {
        double sum = 0;
        for (int32_t l = 0; l < n_labels; l++) {
            double c = count[i * (size_t)n_labels + (size_t)l];
            sum += c * (c - 1);
        }
        agreed += ratings > 1 ? sum / (ratings * (ratings - 1)) : 0;
    }
    for (int32_t l = 0; l < n_labels; l++) {
        double sum = 0;
        for (size_t i = 0; i < n_rows; i++) {
            sum += count[i * (size_t)n_labels + (size_t)l];
        }
        double p = sum / ((double)n_rows * ratings);
        chance += p * p;
    }
    agreed /= (double)n_rows;
    return chance < 1 ? (agreed - chance) / (1 - chance) : (double)NAN;
}

typedef struct vote {
    uint64_t task;
    int32_t who, label;
} vote;

typedef struct votes {
    const fm_label_settings *o;
    vote *item;
    size_t n, cap;
    fm_label_names people, labels;
    int64_t n_without;
} votes;

static uint64_t hash_cell(const fm_cell *c) {
    return c ? fm_hash64(c->text.ptr, c->text.len, 0) : 0;
}

static fm_status name_of(fm_label_names *l, fm_sv text, int32_t *id) {
    FM_TRY(fm_label_names_add(l, text.ptr, text.len, FM_MAX_LABEL_NAMES));
    *id = fm_label_names_find(l, text.ptr, text.len);
    return FM_OK;
}

static fm_status add(void *arg, fm_records *in, const fm_rec *row) {
    votes *v = arg;
    const fm_cell *task = fm_rec_get(row, "task_id"), *who = fm_rec_get(row, "annotator"),
                  *label = fm_rec_get(row, v->o->column);
    FM_UNUSED(in);
    if (!task || !who || fm_cell_is_empty(who) || !label || fm_cell_is_empty(label)) {
        v->n_without++;
        return FM_OK;
    }
    vote x = {.task = hash_cell(task)};
    FM_TRY(name_of(&v->people, who->text, &x.who));
    FM_TRY(name_of(&v->labels, label->text, &x.label));
    void *p = v->item;
    FM_TRY(fm_grow(&p, &v->cap, v->n + 1, sizeof *v->item));
    v->item = p;
    v->item[v->n++] = x;
    return FM_OK;
}

static int by_task(const void *a, const void *b) {
    const vote *x = a, *y = b;
    if (x->task != y->task) {
        return x->task < y->task ? -1 : 1;
    }
    return x->who != y->who ? (x->who > y->who) - (x->who < y->who) : (x->label > y->label) - (x->label < y->label);
}

static size_t task_end(const votes *v, size_t i) {
    size_t e = i;
    while (e < v->n && v->item[e].task == v->item[i].task) {
        e++;
    }
    return e;
}

/* Two people over the tasks that both have; room [2 * n]. */
static fm_status pair(const votes *v, int32_t a, int32_t b, int32_t *room, fm_json *list, double *sum, int *n_pairs) {
    size_t n = 0;
    int32_t *of_a = room, *of_b = room + v->n;
    double same = 0;
    for (size_t i = 0, e; i < v->n; i = e) {
        int32_t la = -1, lb = -1;
        e = task_end(v, i);
        for (size_t k = i; k < e; k++) {
            la = v->item[k].who == a ? v->item[k].label : la;
            lb = v->item[k].who == b ? v->item[k].label : lb;
        }
        if (la >= 0 && lb >= 0) {
            of_a[n] = la;
            of_b[n++] = lb;
            same += la == lb;
        }
    }
    if (n == 0) {
        return FM_OK;
    }
    double kappa = fm_kappa_cohen(of_a, of_b, n, (int32_t)v->labels.n);
    *sum += isfinite(kappa) ? kappa : 0;
    *n_pairs += isfinite(kappa);
    fm_json *o = fm_json_new_object();
    FM_TRY(fm_json_append(list, o));
    FM_TRY(fm_json_set(o, "a", fm_json_new_str(v->people.name[a])));
    FM_TRY(fm_json_set(o, "b", fm_json_new_str(v->people.name[b])));
    FM_TRY(fm_json_set(o, "tasks", fm_json_new_int((int64_t)n)));
    FM_TRY(fm_json_set(o, "agreement", fm_json_new_num(same / (double)n)));
    return fm_json_set(o, "kappa", fm_json_new_num(kappa));
}

/* Over the tasks with the number of annotations that most tasks have (2 or more). */
static fm_status fleiss(const votes *v, fm_json *report) {
    size_t most = 0, n_most = 0, rows = 0, left = 0, labels = v->labels.n, cells = 0;
    for (size_t k = 2; k <= v->people.n; k++) {
        size_t n = 0;
        for (size_t i = 0, e; i < v->n; i = e) {
            e = task_end(v, i);
            n += e - i == k;
        }
        most = n > n_most ? k : most;
        n_most = FM_MAX(n, n_most);
    }
    if (n_most == 0 || __builtin_mul_overflow(n_most, labels, &cells)) {
        return fm_json_set(report, "fleiss", fm_json_new_null());
    }
    int32_t *count = fm_calloc(cells, sizeof *count);
    if (!count) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu tasks of %zu labels", n_most, labels);
    }
    for (size_t i = 0, e; i < v->n; i = e) {
        e = task_end(v, i);
        if (e - i != most) {
            left += e - i > 1;
            continue;
        }
        for (size_t k = i; k < e; k++) {
            count[rows * labels + (size_t)v->item[k].label]++;
        }
        rows++;
    }
    fm_json *o = fm_json_new_object();
    fm_status s = fm_json_set(report, "fleiss", o);
    s = s == FM_OK ? fm_json_set(o, "kappa", fm_json_new_num(fm_kappa_fleiss(count, rows, (int32_t)labels))) : s;
    s = s == FM_OK ? fm_json_set(o, "tasks", fm_json_new_int((int64_t)rows)) : s;
    s = s == FM_OK ? fm_json_set(o, "annotators_per_task", fm_json_new_int((int64_t)most)) : s;
    s = s == FM_OK ? fm_json_set(o, "tasks_with_another_number", fm_json_new_int((int64_t)left)) : s;
    fm_free(count);
    return s;
}

static fm_status agree(votes *v, fm_label_job *j) {
    size_t n = 0, room_n = 0;
    FM_TRY(fm_label_each(j, &j->o->input, add, v));
    if (v->n) {
        qsort(v->item, v->n, sizeof *v->item, by_task);
    }
    for (size_t i = 0; i < v->n; i++) { /* somebody's second annotation of a task does not count */
        if (i == 0 || v->item[i].task != v->item[n - 1].task || v->item[i].who != v->item[n - 1].who) {
            v->item[n++] = v->item[i];
        }
    }
    v->n = n;
    FM_TRY(fm_json_set(j->report, "annotations", fm_json_new_int((int64_t)n)));
    FM_TRY(fm_json_set(j->report, "without_task_annotator_or_label", fm_json_new_int(v->n_without)));
    FM_TRY(fm_label_names_put(&v->people, j->report, "annotators"));
    FM_TRY(fm_label_names_put(&v->labels, j->report, "labels"));
    fm_json *list = fm_json_new_array();
    FM_TRY(fm_json_set(j->report, "pairs", list));
    double sum = 0;
    int n_pairs = 0;
    if (__builtin_mul_overflow(n, (size_t)2, &room_n)) {
        FM_FAIL(FM_ERR_DATA, "too many annotations");
    }
    int32_t *room = fm_calloc(room_n + 1, sizeof *room);
    if (!room) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu annotations", n);
    }
    fm_status s = FM_OK;
    for (int32_t a = 0; a < (int32_t)v->people.n && s == FM_OK; a++) {
        for (int32_t b = a + 1; b < (int32_t)v->people.n && s == FM_OK; b++) {
            s = pair(v, a, b, room, list, &sum, &n_pairs);
        }
    }
    fm_free(room);
    FM_TRY(s);
    FM_TRY(fm_json_set(j->report, "mean_kappa", fm_json_new_num(n_pairs ? sum / n_pairs : (double)NAN)));
    return fleiss(v, j->report);
}

static fm_status run(fm_label_job *j) {
    votes v = {.o = j->o};
    FM_TRY(fm_label_needs("agree", "input FILE", j->o->input.n > 0));
    fm_status s = agree(&v, j);
    fm_free(v.item);
    fm_label_names_free(&v.people);
    fm_label_names_free(&v.labels);
    return s;
}

const fm_label_action fm_label_action_agree = {
    .name = "agree",
    .help = "agreement of annotators: Cohen's kappa of each pair, Fleiss' kappa",
    .run = run,
};
