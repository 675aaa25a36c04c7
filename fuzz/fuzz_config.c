/* A configuration that is read can be written and read again, with the same values. */
#include <stdlib.h>
#include <string.h>

#include "fathom/option.h"
#include "fuzz.h"

typedef struct config {
    bool flag;
    int64_t steps, limit;
    double rate;
    char *name;
    int stage;
    fm_strlist list;
} config;

static const fm_option table[] = {
    {"packing", FM_OPT_BOOL, offsetof(config, flag), NULL, 0, 0, NULL, NULL, NULL, "Flag."},
    {"max_steps", FM_OPT_INT, offsetof(config, steps), "1", 0, 1e12, NULL, NULL, NULL, "Steps."},
    {"memory.limit", FM_OPT_BYTES, offsetof(config, limit), NULL, 0, 0, NULL, NULL, NULL, "Limit."},
    {"learning_rate", FM_OPT_FLOAT, offsetof(config, rate), "1e-4", 0, 0, NULL, "lr", NULL, "Rate."},
    {"run_name", FM_OPT_STR, offsetof(config, name), NULL, 0, 0, NULL, NULL, NULL, "Name."},
    {"stage", FM_OPT_ENUM, offsetof(config, stage), NULL, 0, 0, "pt|sft|dpo", NULL, NULL, "Stage."},
    {"dataset", FM_OPT_LIST, offsetof(config, list), NULL, 0, 0, NULL, NULL, NULL, "Files."},
    {NULL, FM_OPT_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, NULL},
};

static bool same_text(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same(const config *a, const config *b) {
    bool ok = a->flag == b->flag && a->steps == b->steps && a->limit == b->limit && a->rate == b->rate &&
              a->stage == b->stage && same_text(a->name, b->name) && a->list.n == b->list.n;
    for (size_t i = 0; ok && i < a->list.n; i++) {
        ok = same_text(a->list.item[i], b->list.item[i]);
    }
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    config a, b;
    if (fm_options_init(&a, table) != FM_OK || fm_options_init(&b, table) != FM_OK) {
        abort();
    }
    if (fm_options_parse_yaml(&a, table, (const char *)data, size, "input") == FM_OK) {
        char *text;
        if (fm_options_dump_yaml(&text, &a, table) != FM_OK ||
            fm_options_parse_yaml(&b, table, text, strlen(text), "dump") != FM_OK || !same(&a, &b)) {
            abort();
        }
        fm_string_free(text);
    }
    fm_options_free(&a, table);
    fm_options_free(&b, table);
    return 0;
}
