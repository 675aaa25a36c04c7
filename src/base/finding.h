/* Findings: what the numbers of a run or an evaluation say, as JSON that reports, the registry and pages share.
 *   [{"kind", "evidence", "advice" (or none), "changes": [{"for", "key", "from", "to"}]}]
 * "for" names the configuration that the key belongs to: train, eval, serve, convert, or data (rows to add). */
#ifndef FM_BASE_FINDING_H
#define FM_BASE_FINDING_H

#include "base/json.h"
#include "base/str.h"

/* A new finding at the end of the list; *out is borrowed. evidence may hold any bytes that are UTF-8. */
FM_MUST_CHECK fm_status fm_finding_add(fm_json *list, fm_json **out, const char *kind, const char *evidence, ...)
    FM_PRINTF(4, 5);
FM_MUST_CHECK fm_status fm_finding_advise(fm_json *finding, const char *advice);
FM_MUST_CHECK fm_status fm_finding_change(fm_json *finding, const char *target, const char *key, const char *from,
                                          const char *to);
/* The list as lines for people, each after `indent`; nothing for an empty list or NULL. */
void fm_finding_text(fm_str *s, const fm_json *list, const char *indent);

#endif
