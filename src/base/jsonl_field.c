/* Fields of one JSON line. */
#include "fathom/jsonl.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

static fm_status field(fm_json **doc, fm_json **value, const char *line, size_t n, const char *key, const char *name) {
    FM_TRY(fm_json_parse(doc, line, n, name));
    *value = fm_json_is_object(*doc) ? fm_json_get(*doc, key) : NULL;
    if (!*value) {
        bool object = fm_json_is_object(*doc);
        fm_json_free(*doc);
        *doc = NULL;
        FM_FAIL(FM_ERR_DATA, "%s: expected an object with \"%s\", found %s", name, key,
                object ? "one without it" : "another value");
    }
    return FM_OK;
}

fm_status fm_jsonl_string(char **out, size_t *n_out, const char *line, size_t n, const char *key, const char *name) {
    fm_json *doc = NULL, *v = NULL;
    *out = NULL;
    FM_TRY(field(&doc, &v, line, n, key, name));
    fm_status s = FM_OK;
    size_t len = 0;
    const char *text = fm_json_str(v, &len);
    if (!text) {
        s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s: \"%s\" is not a string", name, key);
    } else if (!(*out = fm_malloc(len + 1))) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "%s: no memory for %zu bytes of text", name, len);
    } else {
        memcpy(*out, text, len);
        (*out)[len] = 0;
        *n_out = len;
    }
    fm_json_free(doc);
    return s;
}

fm_status fm_jsonl_ids(int32_t **out, size_t *n_out, const char *line, size_t n, const char *key, const char *name) {
    fm_json *doc = NULL, *v = NULL;
    *out = NULL;
    FM_TRY(field(&doc, &v, line, n, key, name));
    fm_status s = FM_OK;
    size_t len = fm_json_size(v);
    int32_t *ids = fm_json_is_array(v) ? fm_calloc(len + 1, sizeof *ids) : NULL;
    if (!ids) {
        s = fm_json_is_array(v)
                ? fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "%s: no memory for %zu ids", name, len)
                : fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s: \"%s\" is not an array", name, key);
    }
    for (size_t i = 0; ids && i < len && s == FM_OK; i++) {
        const fm_json *e = fm_json_at(v, i);
        double d = fm_json_num(e, -1);
        if (!fm_json_is_number(e) || d < 0 || d > INT32_MAX || d != floor(d)) {
            s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s: element %zu of \"%s\" is not a token id", name, i,
                             key);
        } else {
            ids[i] = (int32_t)d;
        }
    }
    fm_json_free(doc);
    if (s != FM_OK) {
        fm_free(ids);
        return s;
    }
    *out = ids;
    *n_out = len;
    return FM_OK;
}

void fm_ids_free(int32_t *ids) {
    fm_free(ids);
}
