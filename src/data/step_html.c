/* html: the text of a column that holds web pages. */
#include <string.h>

#include "base/error.h"
#include "data/step.h"
#include "io/html.h"

typedef struct html_options {
    char *column, *into, *title, *language;
    int text;
    bool keep;
} html_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(html_options),
    {"into", FM_OPT_STR, offsetof(html_options, into), "text", 0, 0, NULL, NULL, "NAME", "column for the text"},
    {"text", FM_OPT_ENUM, offsetof(html_options, text), "main", 0, 0, "main|all", NULL, NULL,
     "main: without menus, footers and the like; all: all visible text"},
    {"title", FM_OPT_STR, offsetof(html_options, title), NULL, 0, 0, NULL, NULL, "NAME", "column for the page's title"},
    {"language", FM_OPT_STR, offsetof(html_options, language), NULL, 0, 0, NULL, NULL, "NAME",
     "column for the language the page says it is in"},
    {"keep", FM_OPT_BOOL, offsetof(html_options, keep), "false", 0, 0, NULL, NULL, NULL,
     "the column with the page stays"},
    FM_STEP_OPTIONS_END,
};

static fm_status set(fm_step_ctx *x, fm_rec *r, const char *name, const fm_str *v) {
    return name && v->len ? fm_rec_set_text(x->arena, r, name, v->data, v->len) : FM_OK;
}

static fm_status store(fm_step_ctx *x, fm_rec *r, const fm_cell *cell, const fm_html_page *page) {
    const html_options *o = x->step->opt;
    if (page->text.len == 0) {
        return fm_step_drop(x, r, "no text in the page", NULL);
    }
    if (!o->keep && strcmp(o->column, o->into) != 0) {
        fm_rec_remove(r, cell);
    }
    FM_TRY(set(x, r, o->into, &page->text));
    FM_TRY(set(x, r, o->title, &page->title));
    FM_TRY(set(x, r, o->language, &page->language));
    return fm_step_count(x, "pages", 1);
}

static fm_status html_row(fm_step_ctx *x, fm_rec *r) {
    const html_options *o = x->step->opt;
    fm_cell *cell;
    FM_TRY(fm_step_text(x, r, o->column, &cell));
    if (!cell) {
        return FM_OK;
    }
    fm_html_page page;
    fm_html_options ho = {.encoding = "utf-8", .all = o->text == 1};
    fm_status s = fm_html_text(&page, cell->text.ptr, cell->text.len, &ho);
    if (s == FM_OK) {
        s = store(x, r, cell, &page);
    } else if (s == FM_ERR_DATA) {
        s = fm_step_drop(x, r, "the page is too long", NULL);
    }
    fm_html_page_free(&page);
    return s;
}

const fm_step_def fm_step_html = {
    .name = "html",
    .help = "the main text of web pages in a column, without menus and other boilerplate",
    .examples = "fathom data html -i pages.jsonl -o text.jsonl --column html --title title\n"
                "fathom data html -i site.parquet -o text.jsonl --column body --text all",
    .options = rows,
    .options_bytes = sizeof(html_options),
    .row = html_row,
};
