/* fm_train_run: the trainer with its sinks. The trainer knows none of them (train may not include track), so the two
 * are put together here, through the public header. */
#include "base/error.h"
#include "track/sinks.h"

typedef struct callback {
    fm_train_event_fn fn;
    void *user;
} callback;

static fm_status begin(void **state, void *user, const fm_train_info *info) {
    FM_UNUSED(info);
    *state = user;
    return FM_OK;
}

static fm_status event(void *state, const fm_train_event *e) {
    const callback *c = state;
    if (c->fn) {
        c->fn(c->user, e);
    }
    return FM_OK;
}

static fm_status advice(char **json, const char *output_dir) {
    fm_advice a = {.size = sizeof a};
    FM_TRY(fm_train_advise(&a, output_dir));
    return fm_train_advice_json(json, &a);
}

fm_status fm_train_run(const fm_train_config *cfg, fm_train_event_fn on_event, void *user, fm_train_result *result) {
    callback c = {.fn = on_event, .user = user};
    fm_findings_source findings = {.of_folder = advice};
    fm_train_sink registry = fm_sink_registry;
    registry.user = &findings;
    const fm_train_sink sinks[] = {
        {.name = "callback", .user = &c, .begin = begin, .event = event}, fm_sink_jsonl, fm_sink_tensorboard, registry};
    return fm_train_run_sinks(cfg, sinks, (int)FM_ARRAY_LEN(sinks), result);
}

fm_status fm_train_trial(fm_trial *out, fm_train_config *cfg, const char *amount, bool keep) {
    return fm_train_trial_sink(out, cfg, amount, keep, &fm_sink_jsonl);
}
