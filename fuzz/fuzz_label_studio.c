/* Label Studio's tasks, an object a line: rows are valid JSON, and places of entities are inside their text. */
#include <stdlib.h>
#include <string.h>

#include "data/label_studio.h"
#include "fuzz.h"

static void check_entities(const fm_rec *r) {
    const fm_cell *c = fm_rec_get(r, "entities");
    fm_json *list = NULL;
    if (!c || c->kind != FM_CELL_JSON || fm_json_parse(&list, c->text.ptr, c->text.len, "entities") != FM_OK) {
        return;
    }
    for (size_t i = 0; fm_json_is_array(list) && i < fm_json_size(list); i++) {
        const fm_json *e = fm_json_at(list, i);
        if (fm_json_is_object(e) && fm_json_int(fm_json_get(e, "start"), 0) < 0) {
            abort();
        }
    }
    fm_json_free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fm_ls_options o = {.left = "left", .right = "right"};
    fm_recs rows = {0};
    fm_tallies counts = {0};
    for (const char *p = (const char *)data, *end = p + size; p < end;) {
        const char *e = memchr(p, '\n', (size_t)(end - p));
        fm_json *task = NULL;
        e = e ? e : end;
        if (fm_json_parse(&task, p, (size_t)(e - p), "task") == FM_OK &&
            fm_ls_rows(&rows, task, &o, &counts) != FM_OK) {
            abort();
        }
        fm_json_free(task);
        p = e + 1;
    }
    for (size_t i = 0; i < rows.n; i++) {
        fm_str json = {0};
        fm_json *doc = NULL;
        fm_rec_put_json(&json, rows.rec[i]);
        if (fm_json_parse(&doc, json.data, json.len, "row") != FM_OK) {
            abort();
        }
        fm_json_free(doc);
        fm_str_free(&json);
        check_entities(rows.rec[i]);
    }
    fm_recs_free(&rows);
    fm_tallies_free(&counts);
    return 0;
}
