/* The table of actions and the options of labelling. See label.h. */
#include "data/label.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

#define FM_LABEL_ACTION(name) extern const fm_label_action fm_label_action_##name;
#include "data/label_actions.def"
#undef FM_LABEL_ACTION

static const fm_label_action *const table[] = {
#define FM_LABEL_ACTION(name) &fm_label_action_##name,
#include "data/label_actions.def"
#undef FM_LABEL_ACTION
};

const char *const fm_level_names[FM_LEVELS] = {"own", "lead", "expert"};

#define O(k) offsetof(fm_label_settings, k)
static const fm_option option_rows[] = {
    {"input", FM_OPT_LIST, O(input), NULL, 0, 0, NULL, "i", "PATHS", "export files (import), rows (other actions)"},
    {"output", FM_OPT_STR, O(output), NULL, 0, 0, NULL, "o", "FILE", "JSONL file, also .gz or .zst"},
    {"rejects", FM_OPT_STR, O(rejects), NULL, 0, 0, NULL, NULL, "FILE",
     "import, release: what is not taken, with the reason"},
    {"guide", FM_OPT_STR, O(guide), NULL, 0, 0, NULL, NULL, "FILE",
     "labelling guide: labels, definitions, examples (docs/labelling.md)"},
    {"url", FM_OPT_STR, O(url), NULL, 0, 0, NULL, NULL, "URL", "Label Studio, such as http://localhost:8080"},
    {"token_env", FM_OPT_STR, O(token_env), "LABEL_STUDIO_API_KEY", 0, 0, NULL, NULL, "NAME",
     "environment variable that holds its access token"},
    {"project", FM_OPT_INT, O(project), "0", 0, 1e15, NULL, NULL, "ID", "project of Label Studio"},
    {"tasks", FM_OPT_LIST, O(tasks), NULL, 0, 0, NULL, NULL, "IDS", "only these tasks"},
    {"ids", FM_OPT_STR, O(ids), NULL, 0, 0, NULL, NULL, "A-B", "only tasks with ids from A to B"},
    {"left", FM_OPT_STR, O(left), "left", 0, 0, NULL, NULL, "NAME",
     "import: data behind the left side of a comparison"},
    {"right", FM_OPT_STR, O(right), "right", 0, 0, NULL, NULL, "NAME", "import: behind the right side"},
    {"column", FM_OPT_STR, O(column), "label", 0, 0, NULL, NULL, "NAME", "agree, release: column with the label"},
    {"text", FM_OPT_STR, O(text), "text", 0, 0, NULL, NULL, "NAME", "push, serve: column with the text"},
    {"from_name", FM_OPT_STR, O(from_name), "label", 0, 0, NULL, NULL, "NAME",
     "push, serve: name of the control; import of JSON-MIN: of the one with a choice or answer"},
    {"to_name", FM_OPT_STR, O(to_name), "text", 0, 0, NULL, NULL, "NAME", "push, serve: name of the object"},
    {"model_version", FM_OPT_STR, O(model_version), "fathom", 0, 0, NULL, NULL, "NAME",
     "push, serve: shown with predictions"},
    {"host", FM_OPT_STR, O(host), "127.0.0.1", 0, 0, NULL, NULL, NULL, "serve: address to listen on"},
    {"port", FM_OPT_INT, O(port), "9090", 0, 65535, NULL, NULL, NULL, "serve: 0 = a free one"},
    FM_OPENAI_ROWS(fm_label_settings),
    {"local_model", FM_OPT_STR, O(local_model), NULL, 0, 0, NULL, NULL, "DIR",
     "serve: a model of this machine that chats, or was trained to label (stage cls, tag); push: such a trained one"},
    {"log", FM_OPT_STR, O(log), NULL, 0, 0, NULL, NULL, "FILE",
     "review, release: log of verdicts; serve: events of the webhook are added here"},
    {"level", FM_OPT_ENUM, O(level), "own", 0, 0, "own|lead|expert", NULL, NULL, "review: of the verdicts"},
    {"reviewer", FM_OPT_STR, O(reviewer), NULL, 0, 0, NULL, NULL, "NAME", "review: who judges"},
    {"verdicts", FM_OPT_LIST, O(verdicts), NULL, 0, 0, NULL, NULL, "PATHS",
     "review: rows with task_id, annotation_id, verdict (accept, reject, fixed), note, and the label of fixed ones"},
    {"sample", FM_OPT_FLOAT, O(sample), "0.1", 0, 1, NULL, NULL, NULL, "review, release: share of rows for the expert"},
    {"require", FM_OPT_ENUM, O(require), "lead", 0, 0, "own|lead|expert", NULL, NULL,
     "release: level that rows have passed"},
    {"max_error", FM_OPT_FLOAT, O(max_error), "0.05", 0, 1, NULL, NULL, NULL,
     "release: of an annotator in the expert's sample, above which none of the rows is released"},
    {"seed", FM_OPT_INT, O(seed), "0", 0, 9e15, NULL, NULL, NULL, "of the expert's sample"},
    {"overwrite", FM_OPT_BOOL, O(overwrite), "false", 0, 0, NULL, NULL, NULL, "replace the output"},
    {NULL, FM_OPT_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, NULL},
};

struct fm_label_config {
    fm_label_settings o;
};

const fm_option *fm_label_options(void) {
    return option_rows;
}

fm_status fm_label_config_new(fm_label_config **out) {
    fm_label_config *c = *out = fm_calloc(1, sizeof *c);
    if (!c) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    fm_status s = fm_options_init(&c->o, option_rows);
    if (s != FM_OK) {
        fm_label_config_free(c);
        *out = NULL;
    }
    return s;
}

void fm_label_config_free(fm_label_config *c) {
    if (c) {
        fm_options_free(&c->o, option_rows);
        fm_free(c);
    }
}

const char *fm_label_local_model(const fm_label_config *c) {
    return c->o.local_model;
}

bool fm_label_action_at(fm_label_action_info *out, size_t i) {
    if (i < FM_ARRAY_LEN(table)) {
        fm_label_action_info info = {.size = out->size, .name = table[i]->name, .help = table[i]->help};
        memcpy(out, &info, FM_MIN(out->size, sizeof info));
    }
    return i < FM_ARRAY_LEN(table);
}

fm_status fm_label_run(char **report, const fm_label_config *c, const char *action, fm_chat_fn chat, void *user) {
    const char *names[FM_ARRAY_LEN(table)];
    const fm_label_action *a = NULL;
    fm_str text = {0};
    *report = NULL;
    for (size_t i = 0; i < FM_ARRAY_LEN(table); i++) {
        names[i] = table[i]->name;
        a = strcmp(names[i], action) == 0 ? table[i] : a;
    }
    if (!a) {
        int best = fm_nearest_name(action, names, (int)FM_ARRAY_LEN(table));
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "data label has no action '%s'", action);
        return fm_error_hint("%s%s", best >= 0 ? "did you mean " : "see fathom data label --help",
                             best >= 0 ? names[best] : "");
    }
    fm_label_job j = {.o = &c->o, .report = fm_json_new_object(), .chat = chat, .user = user};
    fm_status s = fm_json_set(j.report, "action", fm_json_new_str(action));
    s = s == FM_OK ? a->run(&j) : s;
    s = s == FM_OK ? fm_json_dump(&text, j.report, 2) : s;
    if (s == FM_OK) {
        fm_str_putc(&text, '\n');
        s = fm_str_check(&text);
    }
    if (s == FM_OK) {
        *report = fm_str_take(&text);
    }
    fm_str_free(&text);
    fm_json_free(j.report);
    return s;
}

fm_status fm_label_needs(const char *action, const char *option, bool given) {
    if (!given) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "data label %s needs --%s", action, option);
        return fm_error_hint("see fathom data label --help");
    }
    return FM_OK;
}

static void on_bad(void *user, const char *file, int64_t line, const char *reason) {
    FM_UNUSED(user);
    fm_warn("%s:%lld: %s", file, (long long)line, reason);
}

fm_status fm_label_each(const fm_label_job *j, const fm_strlist *input,
                        fm_status (*fn)(void *arg, fm_records *in, const fm_rec *row), void *arg) {
    fm_records *in = NULL;
    fm_records_options o = {.input = *input, .on_bad = on_bad};
    FM_UNUSED(j);
    FM_TRY(fm_records_open(&in, &o));
    fm_status s = FM_OK;
    while (s == FM_OK) {
        fm_rec *row = NULL;
        fm_bump *arena = NULL;
        s = fm_records_next(in, &row, &arena);
        if (s != FM_OK || !row) {
            break;
        }
        s = fn(arg, in, row);
    }
    fm_records_close(in);
    return s;
}
