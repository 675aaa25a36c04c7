/* Whether a file has a row that says something: the way from a row to the models that learned from it. */
#include "base/error.h"
#include "base/mem.h"
#include "data/frozen.h"
#include "data/records.h"

fm_status fm_data_has_row(bool *has, const char *path, const char *text) {
    char *item[1] = {(char *)(uintptr_t)path};
    fm_records_options ro = {.input = {.item = item, .n = 1}};
    fm_records *rows;
    fm_rec *row;
    fm_bump *arena;
    fm_str scratch = {0};
    uint64_t want, key;
    *has = false;
    if (!fm_frozen_text_key(&want, fm_sv_of(text), &scratch)) {
        fm_str_free(&scratch);
        FM_FAIL(FM_ERR_ARGUMENT, "there are no letters in the text of the row");
    }
    fm_status s = fm_records_open(&rows, &ro);
    while (s == FM_OK && !*has) {
        s = fm_records_next(rows, &row, &arena);
        if (s != FM_OK || !row) {
            break;
        }
        *has = fm_frozen_key(&key, row, NULL, NULL, &scratch) && key == want;
        for (size_t i = 0; i < row->n && !*has; i++) {
            const fm_cell *c = &row->cell[i];
            *has = c->kind == FM_CELL_TEXT && fm_frozen_text_key(&key, c->text, &scratch) && key == want;
        }
    }
    fm_records_close(rows);
    s = s == FM_OK ? fm_str_check(&scratch) : s;
    fm_str_free(&scratch);
    return s;
}
