/* Inside of labelling: what the actions share. One file per action, one row in label_actions.def. */
#ifndef FM_DATA_LABEL_H
#define FM_DATA_LABEL_H

#include "data/label_studio.h"
#include "data/records.h"
#include "data/rows_out.h"
#include "fathom/label.h"
#include "net/openai.h"

typedef struct fm_label_settings {
    fm_openai_options openai;
    fm_strlist input, tasks, verdicts;
    char *output, *rejects, *guide, *url, *token_env, *ids, *left, *right, *log, *reviewer, *column, *from_name,
        *to_name, *model_version, *host, *local_model, *text;
    int level, require;
    int64_t project, port, seed;
    double sample, max_error;
    bool overwrite;
} fm_label_settings;

enum { FM_LEVEL_OWN, FM_LEVEL_LEAD, FM_LEVEL_EXPERT, FM_LEVELS };
extern const char *const fm_level_names[FM_LEVELS];

typedef struct fm_label_job {
    const fm_label_settings *o;
    fm_json *report; /* filled by the action */
    fm_chat_fn chat;
    void *user;
} fm_label_job;

typedef struct fm_label_action {
    const char *name, *help;
    fm_status (*run)(fm_label_job *j);
} fm_label_action;

FM_MUST_CHECK fm_status fm_label_needs(const char *action, const char *option, bool given);
/* The rows of the input, each through fn; the row lives as long as the call. */
FM_MUST_CHECK fm_status fm_label_each(const fm_label_job *j, const fm_strlist *input,
                                      fm_status (*fn)(void *arg, fm_records *in, const fm_rec *row), void *arg);

/* label_client.c: the API of a Label Studio server. */
typedef struct fm_ls_client fm_ls_client;
FM_MUST_CHECK fm_status fm_ls_client_new(fm_ls_client **out, const fm_label_settings *o);
void fm_ls_client_free(fm_ls_client *c);
FM_MUST_CHECK fm_status fm_ls_call(fm_ls_client *c, fm_json **out, const char *method, const char *path,
                                   const fm_str *body);

/* Result items of Label Studio for a row's label, labels or entities, as predictions have them; *any is false when the
 * row has none. */
FM_MUST_CHECK fm_status fm_ls_result(fm_str *out, const fm_rec *row, const fm_label_settings *o, bool *any);
/* The same for entities over a text, from a JSON list {"start","end","label"} in code points. */
FM_MUST_CHECK fm_status fm_ls_spans(fm_str *out, fm_sv text, const fm_json *entities, const fm_label_settings *o);
/* One item for a list of choices (JSON strings with commas between them), none for an empty one. */
FM_MUST_CHECK fm_status fm_ls_choices(fm_str *out, fm_sv choices, const fm_label_settings *o);

/* Agreement of two and more annotators over labels, for tests too. */
/* Cohen's kappa (1960) of n pairs of labels in [0, n_labels): NaN when both said one label alone. */
double fm_kappa_cohen(const int32_t *a, const int32_t *b, size_t n, int32_t n_labels);
/* Fleiss' kappa (1971): count[n_rows][n_labels], the same number of ratings in each row. */
double fm_kappa_fleiss(const int32_t *count, size_t n_rows, int32_t n_labels);

#endif
