/* Arrow streams and files: the shards of a save_to_disk folder, and Feather. */
#include "base/error.h"
#include "data/table_rows.h"
#include "io/arrow.h"

static fm_status open_arrow(void **state, const char *path, const fm_reader_options *o) {
    FM_UNUSED(o);
    fm_arrow *a = NULL;
    fm_status s = fm_arrow_open(&a, path);
    return fm_table_reader_open(state, path, (fm_table){a, &fm_arrow_table}, s);
}

const fm_reader_def fm_reader_arrow = {
    .name = "arrow",
    .suffixes = ".arrow|.feather",
    .help = "Arrow streams and files (a save_to_disk folder, Feather)",
    .open = open_arrow,
    .next = fm_table_reader_next,
    .close = fm_table_reader_close,
};
