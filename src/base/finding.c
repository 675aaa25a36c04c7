#include "base/finding.h"

#include <stdarg.h>
#include <string.h>

#include "base/error.h"

static const char *text_of(const fm_json *o, const char *key) {
    const char *t = fm_json_str(fm_json_get(o, key), NULL);
    return t ? t : "";
}

fm_status fm_finding_add(fm_json *list, fm_json **out, const char *kind, const char *evidence, ...) {
    fm_json *o = fm_json_new_object();
    fm_str s = {0};
    va_list args;
    va_start(args, evidence);
    fm_str_vprintf(&s, evidence, args);
    va_end(args);
    *out = o;
    fm_status st = fm_json_append(list, o);
    st = st == FM_OK ? fm_str_check(&s) : st;
    st = st == FM_OK ? fm_json_set(o, "kind", fm_json_new_str(kind)) : st;
    st = st == FM_OK ? fm_json_set(o, "evidence", fm_json_new_strn(s.data ? s.data : "", s.len)) : st;
    st = st == FM_OK ? fm_json_set(o, "changes", fm_json_new_array()) : st;
    fm_str_free(&s);
    return st;
}

fm_status fm_finding_advise(fm_json *finding, const char *advice) {
    return fm_json_set(finding, "advice", fm_json_new_str(advice));
}

fm_status fm_finding_change(fm_json *finding, const char *target, const char *key, const char *from, const char *to) {
    fm_json *o = fm_json_new_object();
    FM_TRY(fm_json_append(fm_json_get(finding, "changes"), o));
    FM_TRY(fm_json_set(o, "for", fm_json_new_str(target)));
    FM_TRY(fm_json_set(o, "key", fm_json_new_str(key)));
    FM_TRY(fm_json_set(o, "from", fm_json_new_str(from)));
    return fm_json_set(o, "to", fm_json_new_str(to));
}

void fm_finding_text(fm_str *s, const fm_json *list, const char *indent) {
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *f = fm_json_at(list, i), *changes = fm_json_get(f, "changes");
        fm_str_printf(s, "%s%s: %s\n", indent, text_of(f, "kind"), text_of(f, "evidence"));
        if (*text_of(f, "advice")) {
            fm_str_printf(s, "%s  %s\n", indent, text_of(f, "advice"));
        }
        for (size_t k = 0; k < fm_json_size(changes); k++) {
            const fm_json *c = fm_json_at(changes, k);
            fm_str_printf(s, "%s  %s %s: %s -> %s\n", indent, text_of(c, "for"), text_of(c, "key"), text_of(c, "from"),
                          text_of(c, "to"));
        }
    }
}
