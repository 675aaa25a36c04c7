/* Suggestions by a trained model: see label_model.h. */
#include "data/label_model.h"

#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/models.h"

struct fm_label_model {
    const fm_label_settings *o;
    const fm_guide *guide;
    const fm_data_models *models;
    void *model;
    fm_data_labels kind;
    pthread_mutex_t lock;
};

/* The guide and the model are about the same labels. */
static fm_status check_guide(const fm_label_model *m, const fm_label_names *names) {
    const fm_guide *g = m->guide;
    const bool tags = m->kind == FM_DATA_TAGS;
    size_t known = 0;
    if (tags != (g->kind == FM_GUIDE_ENTITIES) || g->kind > FM_GUIDE_ENTITIES) {
        FM_FAIL(FM_ERR_CONFIG, "%s: the guide is for another kind of label than the model %s, which says %s", g->path,
                m->o->local_model, tags ? "entities" : "labels of texts");
    }
    for (size_t i = 0; i < names->n; i++) {
        known += fm_label_names_find(&g->labels, names->name[i], strlen(names->name[i])) >= 0;
    }
    if (known == 0) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                           "%s: none of the %zu labels of the model %s is in the guide (the first is '%s')", g->path,
                           names->n, m->o->local_model, names->n ? names->name[0] : "");
        return fm_error_hint("id2label of the model's config.json has its labels");
    }
    if (known < names->n) {
        fm_warn("%zu labels of the model are not in the guide and are not suggested", names->n - known);
    }
    return FM_OK;
}

static fm_status open_model(fm_label_model *m) {
    fm_label_names names = {0};
    if (!m->models) {
        FM_FAIL(FM_ERR_STATE, "data label: this program gave it no models (fm_data_use_models)");
    }
    FM_TRY(m->models->open(&m->model, m->o->local_model, 0, false));
    fm_status s = m->models->labels(m->model, &names, &m->kind);
    s = s == FM_OK && m->guide ? check_guide(m, &names) : s;
    fm_label_names_free(&names);
    return s;
}

fm_status fm_label_model_open(fm_label_model **out, const fm_label_settings *o, const fm_guide *guide) {
    fm_label_model *m = *out = fm_calloc(1, sizeof *m);
    if (!m) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a model");
    }
    m->o = o;
    m->guide = guide;
    m->models = fm_data_get_models();
    (void)pthread_mutex_init(&m->lock, NULL);
    fm_status s = open_model(m);
    if (s != FM_OK) {
        fm_label_model_close(m);
        *out = NULL;
    }
    return s;
}

void fm_label_model_close(fm_label_model *m) {
    if (m) {
        if (m->model) {
            m->models->close(m->model);
        }
        (void)pthread_mutex_destroy(&m->lock);
        fm_free(m);
    }
}

static bool in_guide(const fm_label_model *m, const fm_json *name) {
    size_t n = 0;
    const char *p = fm_json_str(name, &n);
    return p && (!m->guide || fm_label_names_find(&m->guide->labels, p, n) >= 0);
}

static fm_status put_labels(const fm_label_model *m, const fm_json *labels, fm_str *result) {
    fm_str list = {0};
    for (size_t i = 0; i < fm_json_size(labels); i++) {
        size_t n = 0;
        const char *p = fm_json_str(fm_json_at(labels, i), &n);
        if (in_guide(m, fm_json_at(labels, i))) {
            fm_str_puts(&list, list.len ? "," : "");
            fm_str_json(&list, p, n);
        }
    }
    fm_status s = fm_str_check(&list);
    s = s == FM_OK ? fm_ls_choices(result, (fm_sv){list.data, list.len}, m->o) : s;
    fm_str_free(&list);
    return s;
}

static fm_status put_entities(const fm_label_model *m, fm_sv text, const fm_json *entities, fm_str *result) {
    fm_json *list = fm_json_new_array();
    fm_status s = FM_OK;
    for (size_t i = 0; i < fm_json_size(entities) && s == FM_OK; i++) {
        const fm_json *e = fm_json_at(entities, i), *label = fm_json_get(e, "label");
        if (in_guide(m, label)) {
            size_t n = 0;
            const char *p = fm_json_str(label, &n);
            fm_json *copy = fm_json_new_object();
            s = fm_json_append(list, copy);
            s = s == FM_OK ? fm_json_set(copy, "start", fm_json_new_int(fm_json_int(fm_json_get(e, "start"), 0))) : s;
            s = s == FM_OK ? fm_json_set(copy, "end", fm_json_new_int(fm_json_int(fm_json_get(e, "end"), 0))) : s;
            s = s == FM_OK ? fm_json_set(copy, "label", fm_json_new_strn(p, n)) : s;
        }
    }
    s = s == FM_OK ? fm_ls_spans(result, text, list, m->o) : s;
    fm_json_free(list);
    return s;
}

fm_status fm_label_model_suggest(fm_label_model *m, fm_sv text, fm_str *result, double *score) {
    fm_json *said = NULL;
    (void)pthread_mutex_lock(&m->lock);
    fm_status s = m->models->label(m->model, text, &said);
    (void)pthread_mutex_unlock(&m->lock);
    if (s == FM_OK) {
        *score = fm_json_num(fm_json_get(said, "score"), 0);
        s = m->kind == FM_DATA_TAGS ? put_entities(m, text, fm_json_get(said, "entities"), result)
                                    : put_labels(m, fm_json_get(said, "labels"), result);
    }
    fm_json_free(said);
    return s;
}
