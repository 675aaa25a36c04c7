/* A labelling guide: what annotators may say and what it means. A YAML file that is versioned with the data:
 *
 *     version: 3
 *     kind: classification        # or entities, qa, preference
 *     multiple: false             # several labels on one row
 *     labels:
 *       - name: positive
 *         definition: the writer is content
 *         examples: [I love it, works as it should]
 */
#ifndef FM_DATA_LABEL_GUIDE_H
#define FM_DATA_LABEL_GUIDE_H

#include "base/json.h"
#include "base/yaml.h"
#include "data/label_names.h"

typedef enum fm_guide_kind {
    FM_GUIDE_CLASSIFICATION,
    FM_GUIDE_ENTITIES,
    FM_GUIDE_QA,
    FM_GUIDE_PREFERENCE
} fm_guide_kind;

typedef struct fm_guide {
    fm_yaml *doc;
    const char *path; /* borrowed */
    int64_t version;
    fm_guide_kind kind;
    bool multiple;
    fm_label_names labels;
    char hash[33];
} fm_guide;

/* FM_ERR_CONFIG with the line: keys that are not known, labels without definition or example, or named twice. */
FM_MUST_CHECK fm_status fm_guide_load(fm_guide *g, const char *path);
void fm_guide_free(fm_guide *g);
/* {"version":..., "hash":..., "file":...} for manifests. */
FM_MUST_CHECK fm_status fm_guide_json(fm_json *into, const fm_guide *g);
/* The labels with definitions and examples, a line each, for prompts. */
FM_MUST_CHECK fm_status fm_guide_text(fm_str *out, const fm_guide *g);
/* FM_ERR_CONFIG when the manifest beside `output` names the same version with other content: a changed guide needs a
 * new version. */
FM_MUST_CHECK fm_status fm_guide_check_manifest(const fm_guide *g, const char *output);

#endif
