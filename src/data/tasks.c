/* Tasks by name. */
#include "data/tasks.h"

#include <string.h>

#include "base/error.h"

static const fm_task_kind kinds[] = {
    {"cls", "label", "one or several labels of a text"},
    {"reg", "number", "numbers for a text"},
    {"tag", "tag", "tags of words"},
    {"qa", "span", "the answer to a question as a part of a text"},
    {"sft", "chat", "answers that are written, by the language model head"},
};

const fm_task_kind *fm_task_kind_find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

int fm_task_spec_find(const fm_task_spec *s, int n, const char *p, size_t len) {
    for (int i = 0; i < n; i++) {
        if (strlen(s[i].name) == len && memcmp(s[i].name, p, len) == 0) {
            return i;
        }
    }
    return -1;
}

static fm_status parse_one(fm_task_spec *t, const char *text) {
    const char *eq = strchr(text, '='), *colon = eq ? strchr(eq, ':') : NULL;
    size_t n = eq ? (size_t)(eq - text) : 0;
    char kind[16] = "";
    if (n == 0 || n >= sizeof t->name ||
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != n) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "tasks: \"%.80s\" is no NAME=KIND", text);
        return fm_error_hint("names have letters, digits, underscores and hyphens, at most %d: intent=cls, names=tag",
                             FM_MAX_TASK_NAME - 1);
    }
    size_t len = colon ? (size_t)(colon - eq - 1) : strlen(eq + 1);
    memcpy(kind, eq + 1, FM_MIN(len, sizeof kind - 1));
    *t = (fm_task_spec){.kind = fm_task_kind_find(kind)};
    memcpy(t->name, text, n);
    if (!t->kind || len >= sizeof kind) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "tasks: %s: kind \"%.40s\" is not known", t->name, eq + 1);
        return fm_error_hint("known: cls, reg, tag, qa, sft");
    }
    if (colon && (colon[1] == 0 || strlen(colon + 1) >= sizeof t->label_column)) {
        FM_FAIL(FM_ERR_CONFIG, "tasks: %s: the label column is empty or longer than %zu bytes", t->name,
                sizeof t->label_column - 1);
    }
    if (colon) {
        memcpy(t->label_column, colon + 1, strlen(colon + 1));
    }
    return FM_OK;
}

fm_status fm_task_specs_parse(fm_task_spec out[FM_MAX_TASKS], int *n, const fm_strlist *list) {
    *n = 0;
    if (list->n == 0 || list->n > FM_MAX_TASKS) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "tasks: expected 1 to %d, found %zu", FM_MAX_TASKS, list->n);
        return fm_error_hint("tasks: [intent=cls, names=tag]; kinds are cls, reg, tag, qa, sft");
    }
    bool text = false;
    for (size_t i = 0; i < list->n; i++) {
        fm_task_spec *t = &out[*n];
        FM_TRY(parse_one(t, list->item[i]));
        if (fm_task_spec_find(out, *n, t->name, strlen(t->name)) >= 0) {
            FM_FAIL(FM_ERR_CONFIG, "tasks: two are named %s", t->name);
        }
        if (strcmp(t->kind->name, "sft") == 0 && text) {
            FM_FAIL(FM_ERR_CONFIG, "tasks: %s is the second of kind sft; a model has one language model head", t->name);
        }
        text |= strcmp(t->kind->name, "sft") == 0;
        (*n)++;
    }
    return FM_OK;
}
