/* Keys and labels of several tasks. */
#include "train/tasks.h"

#include <stdio.h>
#include <string.h>

fm_status fm_tasks_check(const fm_objective *o, const fm_train_config *c) {
    fm_task_spec spec[FM_MAX_TASKS];
    double weight[FM_MAX_TASKS], share[FM_MAX_TASKS] = {0};
    int n;
    if (!o->several && c->tasks.n > 0) {
        FM_FAIL(FM_ERR_CONFIG, "tasks is a key of stage multi, the stage is %s", o->name);
    }
    if (!o->several) {
        return FM_OK;
    }
    FM_TRY(fm_task_specs_parse(spec, &n, &c->tasks));
    return fm_tasks_weigh(weight, spec, n, &c->task_weights, share);
}

static bool only(const fm_strlist *weights, const char *word) {
    return weights->n == 1 && strcmp(weights->item[0], word) == 0;
}

bool fm_tasks_uncertain(const fm_strlist *weights) {
    return only(weights, "uncertainty");
}

fm_status fm_tasks_weigh(double *weight, const fm_task_spec *spec, int n, const fm_strlist *weights,
                         const double *share) {
    bool size = only(weights, "size");
    for (int i = 0; i < n; i++) {
        weight[i] = size ? share[i] * n : 1;
    }
    if (size || weights->n == 0 || only(weights, "equal") || only(weights, "uncertainty")) {
        return FM_OK;
    }
    double sum = 0;
    for (size_t k = 0; k < weights->n; k++) {
        const char *text = weights->item[k], *eq = strchr(text, '=');
        int i = eq ? fm_task_spec_find(spec, n, text, (size_t)(eq - text)) : -1;
        if (i < 0 || fm_parse_f64(&weight[i], eq + 1) != FM_OK || !(weight[i] >= 0) || weight[i] > 1e6) {
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "task_weights: \"%.80s\" is no NAME=WEIGHT of a task",
                         text);
            return fm_error_hint("equal, size, uncertainty, or weights of tasks from 0 on: intent=1, stars=0.2");
        }
    }
    for (int i = 0; i < n; i++) {
        sum += weight[i];
    }
    if (!(sum > 0)) {
        FM_FAIL(FM_ERR_CONFIG, "task_weights: all are 0, nothing would be learned");
    }
    return FM_OK;
}

static size_t name_length(const char *entry) {
    size_t n = strspn(entry, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return n > 0 && entry[n] == '=' ? n : 0;
}

const char *fm_task_path(const char *entry) {
    size_t n = name_length(entry);
    return n > 0 ? entry + n + 1 : entry;
}

fm_status fm_tasks_split(fm_task_files *out, const fm_strlist *dataset) {
    size_t bytes = 1;
    bool named = false;
    for (size_t i = 0; i < dataset->n; i++) {
        bytes += name_length(dataset->item[i]) + 1;
        named |= name_length(dataset->item[i]) > 0;
    }
    *out = (fm_task_files){.files = {.item = fm_calloc(dataset->n + 1, sizeof(char *)), .n = dataset->n},
                           .task = named ? fm_calloc(dataset->n + 1, sizeof(char *)) : NULL,
                           .names = fm_calloc(bytes, 1)};
    if (!out->files.item || (named && !out->task) || !out->names) {
        fm_task_files_free(out);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a list of datasets");
    }
    char *at = out->names;
    for (size_t i = 0; i < dataset->n; i++) {
        size_t n = name_length(dataset->item[i]);
        out->files.item[i] = dataset->item[i] + (n > 0 ? n + 1 : 0);
        if (n > 0) {
            memcpy(at, dataset->item[i], n);
            out->task[i] = at;
            at += n + 1;
        }
    }
    return FM_OK;
}

void fm_task_files_free(fm_task_files *f) {
    fm_free(f->files.item);
    fm_free((void *)f->task);
    fm_free(f->names);
    *f = (fm_task_files){0};
}

/* ---- labels ----------------------------------------------------------------------------------- */

/* Names of an array, or of the map from "0", "1" ...; NULL when there are none. */
static fm_json *label_list(const fm_json *o) {
    const fm_json *list = fm_json_get(o, "labels"), *map = fm_json_get(o, "id2label");
    size_t n = fm_json_size(list ? list : map);
    fm_json *out = n > 0 ? fm_json_new_array() : NULL;
    for (size_t i = 0; i < n && out; i++) {
        char id[24];
        size_t len = 0;
        snprintf(id, sizeof id, "%zu", i);
        const char *name = fm_json_str(list ? fm_json_at(list, i) : fm_json_get(map, id), &len);
        if (!name || fm_json_append(out, fm_json_new_strn(name, len)) != FM_OK) {
            fm_json_free(out);
            fm_error_clear();
            return NULL;
        }
    }
    return out;
}

fm_json *fm_tasks_labels(const fm_json *list) {
    fm_json *out = fm_json_size(list) > 0 ? fm_json_new_object() : NULL;
    for (size_t i = 0; i < fm_json_size(list) && out; i++) {
        const char *name = fm_json_str(fm_json_get(fm_json_at(list, i), "name"), NULL);
        fm_json *labels = name ? label_list(fm_json_at(list, i)) : NULL;
        if (labels && fm_json_set(out, name, labels) != FM_OK) {
            fm_error_clear();
        }
    }
    return out;
}

static fm_status put_map(fm_json *head, const fm_json *labels) {
    FM_TRY(fm_json_set(head, "id2label", fm_json_new_object()));
    for (size_t i = 0; i < fm_json_size(labels); i++) {
        char id[24];
        size_t n = 0;
        const char *name = fm_json_str(fm_json_at(labels, i), &n);
        snprintf(id, sizeof id, "%zu", i);
        FM_TRY(fm_json_set(fm_json_get(head, "id2label"), id, fm_json_new_strn(name, n)));
    }
    return FM_OK;
}

/* Every head of the model has its entry, in its order; labels of heads that are not learned now stay. */
static fm_status fill(fm_json *list, const fm_model *m, const fm_json *now, const fm_json *before) {
    for (int32_t i = 0; i < m->cfg.n_more_heads; i++) {
        const char *name = m->cfg.more_heads[i].name;
        const fm_json *labels = fm_json_get(now, name);
        labels = labels ? labels : fm_json_get(before, name);
        FM_TRY(fm_json_append(list, fm_json_new_object()));
        fm_json *o = fm_json_at(list, (size_t)i);
        FM_TRY(fm_json_set(o, "name", fm_json_new_str(name)));
        FM_TRY(labels ? put_map(o, labels) : FM_OK);
    }
    return FM_OK;
}

fm_status fm_tasks_keep_labels(fm_model *m, const fm_json *dataset) {
    m->json = m->json ? m->json : fm_json_new_object();
    fm_json *now = fm_tasks_labels(fm_json_get(dataset, "tasks"));
    fm_json *before = fm_tasks_labels(fm_json_get(m->json, "fathom_heads")), *list = fm_json_new_array();
    fm_status s = list ? fill(list, m, now, before) : FM_ERR_NO_MEMORY;
    fm_json_free(now);
    fm_json_free(before);
    if (s != FM_OK) {
        fm_json_free(list);
        return s;
    }
    return fm_json_set(m->json, "fathom_heads", list);
}
