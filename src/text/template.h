/* What the files behind fathom/template.h share. */
#ifndef FM_TEXT_TEMPLATE_H
#define FM_TEXT_TEMPLATE_H

#include "base/json.h"
#include "fathom/template.h"

typedef struct fm_template_row {
    const char *name, *text;
} fm_template_row;
extern const fm_template_row fm_template_rows[]; /* ended by a NULL name */

/* As fm_template_render, over JSON that was read already (it is not changed). */
FM_MUST_CHECK fm_status fm_template_render_json(fm_template_result *out, const fm_template *t, fm_json *messages,
                                                const fm_template_options *opt);

#endif
