/* Where the numbers of a run go: sinks for the trainer. */
#ifndef FM_TRACK_SINKS_H
#define FM_TRACK_SINKS_H

#include "fathom/train.h"

/* OUTPUT/trainer_log.jsonl: one JSON object a line, fields of fm_train_event (those that were not computed are left
 * out) with
 * "@timestamp" in UTC, as log shippers take it. On resume, lines after the resumed step are dropped first. */
extern const fm_train_sink fm_sink_jsonl;
/* TensorBoard scalars in OUTPUT/runs, when report_to says tensorboard. */
extern const fm_train_sink fm_sink_tensorboard;
/* What a finished run's own numbers say, as {"findings": [...]} (fm_string_free). */
typedef struct fm_findings_source {
    fm_status (*of_folder)(char **json, const char *output_dir);
} fm_findings_source;
/* The local registry (fathom/runs.h), unless FATHOM_REGISTRY=none. Its user may be a fm_findings_source. */
extern const fm_train_sink fm_sink_registry;

#endif
