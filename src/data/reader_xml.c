/* Any XML by record path, and PubMed's. Columns of a record are its attributes ("@name") and child elements. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/blocks.h"
#include "data/xml_records.h"
#include "io/jsonl.h"

typedef struct source source;
typedef fm_status (*take_fn)(const source *s, fm_recs *b, fm_rec *r, const fm_xml_node *n);

struct source {
    fm_xml_records *x;
    const fm_reader_options *o;
    take_fn take;
};

static fm_status open_with(void **state, const char *path, const fm_reader_options *o, const char *record_path,
                           take_fn take) {
    source *s = fm_calloc(1, sizeof *s);
    *state = s;
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    s->o = o;
    s->take = take;
    return fm_xml_records_open(&s->x, path, record_path, o);
}

static void close_xml(void *state) {
    source *s = state;
    if (s) {
        fm_xml_records_close(s->x);
        fm_free(s);
    }
}

static fm_status read_some(source *s, fm_recs *b) {
    for (int64_t begun = fm_xml_records_consumed(s->x);
         fm_xml_records_consumed(s->x) - begun < (int64_t)FM_READER_BLOCK && b->n < 20000;) {
        const fm_xml_node *n;
        const char *bad;
        int64_t line;
        bool more;
        fm_rec *r;
        FM_TRY(fm_xml_records_next(s->x, &b->arena, &n, &line, &bad, &more));
        if (!more) {
            break;
        }
        if (!n) {
            FM_TRY(fm_recs_reject(b, line, bad, NULL, (fm_sv){NULL, 0}));
            continue;
        }
        FM_TRY(fm_recs_add(b, &r));
        r->line = line;
        fm_status st = s->take(s, b, r, n);
        if (st != FM_OK) {
            b->n--;
            return st;
        }
    }
    return FM_OK;
}

static fm_status next_xml(void *state, fm_recs *b, bool *more) {
    source *s = state;
    FM_TRY(fm_xml_records_pending(s->x));
    return fm_xml_records_done(s->x, b, read_some(s, b), more);
}

/* ---- any XML ---------------------------------------------------------------------------------- */

static fm_status take_any(const source *s, fm_recs *b, fm_rec *r, const fm_xml_node *n) {
    fm_str json = {0};
    fm_sv copy = {"", 0};
    fm_xml_put_json(&json, n);
    if (json.len && *json.data != '{') { /* text alone */
        fm_str wrap = {0};
        fm_str_putc(&wrap, '{');
        fm_jsonl_put_text(&wrap, s->o->text_column, strlen(s->o->text_column));
        fm_str_putc(&wrap, ':');
        fm_str_append(&wrap, json.data, json.len);
        fm_str_putc(&wrap, '}');
        json.failed = json.failed || wrap.failed;
        fm_str swap = json;
        json = wrap;
        json.failed = json.failed || swap.failed;
        fm_str_free(&swap);
    }
    fm_status st = fm_str_check(&json);
    if (st == FM_OK) {
        st = fm_bump_sv(&b->arena, &copy, json.data, json.len);
    }
    fm_str_free(&json);
    return st == FM_OK ? fm_rec_parse_json(&b->arena, r, copy.ptr, copy.len) : st;
}

static fm_status open_xml(void **state, const char *path, const fm_reader_options *o) {
    if (!o->record_path) {
        *state = NULL;
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "'%s': which elements are the records?", path);
        return fm_error_hint("name them, such as --record-path //article, or --format pubmed or mediawiki");
    }
    return open_with(state, path, o, o->record_path, take_any);
}

/* ---- PubMed ----------------------------------------------------------------------------------- */

static fm_status set_text(fm_recs *b, fm_rec *r, const char *name, fm_str *s) {
    fm_status st = fm_str_check(s);
    if (st == FM_OK && s->len) {
        st = fm_rec_set_text(&b->arena, r, name, s->data, s->len);
    }
    return st;
}

static fm_status set_at(fm_recs *b, fm_rec *r, const char *name, const fm_xml_node *n, const char *path) {
    fm_str s = {0};
    fm_xml_put_text(&s, fm_xml_at(n, path));
    fm_status st = set_text(b, r, name, &s);
    fm_str_free(&s);
    return st;
}

/* "LABEL: text", a paragraph a section. */
static void put_abstract(fm_str *out, const fm_xml_node *abstract) {
    for (const fm_xml_node *c = abstract ? abstract->child : NULL; c; c = c->next) {
        if (!fm_sv_eq(c->name, "AbstractText")) {
            continue;
        }
        fm_str_puts(out, out->len ? "\n" : "");
        const fm_xml_node *label = fm_xml_child(c, "@Label");
        if (label && label->text.len) {
            fm_xml_put_text(out, label);
            fm_str_puts(out, ": ");
        }
        fm_xml_put_text(out, c);
    }
}

static void put_item(fm_str *list, const fm_str *text) {
    if (text->len) {
        fm_str_puts(list, list->len ? "," : "[");
        fm_jsonl_put_text(list, text->data, text->len);
    }
    list->failed = list->failed || text->failed;
}

/* A JSON array of the texts of `leaf` (a path) in each child of n named `item`. */
static fm_status set_list(fm_recs *b, fm_rec *r, const char *column, const fm_xml_node *n, const char *item,
                          const char *const leaf[2]) {
    fm_str list = {0}, text = {0};
    for (const fm_xml_node *c = n ? n->child : NULL; c; c = c->next) {
        if (!fm_sv_eq(c->name, item)) {
            continue;
        }
        fm_str_clear(&text);
        for (int i = 0; i < 2 && leaf[i]; i++) {
            const fm_xml_node *l = *leaf[i] ? fm_xml_at(c, leaf[i]) : c;
            fm_str_puts(&text, text.len && l ? " " : "");
            fm_xml_put_text(&text, l);
        }
        if (text.len == 0) {
            fm_xml_put_text(&text, fm_xml_child(c, "CollectiveName"));
        }
        put_item(&list, &text);
    }
    fm_str_puts(&list, list.len ? "]" : "");
    fm_status st = fm_str_check(&list);
    if (st == FM_OK && list.len) {
        st = fm_rec_set_json(&b->arena, r, column, list.data, list.len);
    }
    fm_str_free(&list);
    fm_str_free(&text);
    return st;
}

static fm_status set_doi(fm_recs *b, fm_rec *r, const fm_xml_node *article, const fm_xml_node *data) {
    fm_str s = {0};
    const fm_xml_node *places[] = {fm_xml_at(data, "ArticleIdList"), article};
    static const char *const tag[] = {"@IdType", "@EIdType"};
    for (int i = 0; i < 2 && s.len == 0; i++) {
        for (const fm_xml_node *c = places[i] ? places[i]->child : NULL; c && s.len == 0; c = c->next) {
            const fm_xml_node *type = fm_xml_child(c, tag[i]);
            if (type && fm_sv_eq(type->text, "doi")) {
                fm_xml_put_text(&s, c);
            }
        }
    }
    fm_status st = set_text(b, r, "doi", &s);
    fm_str_free(&s);
    return st;
}

static fm_status set_year(fm_recs *b, fm_rec *r, const fm_xml_node *date) {
    fm_str s = {0};
    const fm_xml_node *year = fm_xml_child(date, "Year");
    fm_xml_put_text(&s, year ? year : fm_xml_child(date, "MedlineDate"));
    if (s.len > 4) { /* "1998 Dec-1999 Jan" */
        s.len = 4;
        s.data[4] = '\0';
    }
    int64_t y;
    fm_status st = fm_str_check(&s);
    if (st == FM_OK && s.len == 4 && fm_parse_i64(&y, s.data) == FM_OK) {
        st = fm_rec_set_int(&b->arena, r, "year", y);
    }
    fm_str_free(&s);
    return st;
}

static fm_status take_pubmed(const source *s, fm_recs *b, fm_rec *r, const fm_xml_node *n) {
    const fm_xml_node *cite = fm_xml_child(n, "MedlineCitation"), *data = fm_xml_child(n, "PubmedData");
    const fm_xml_node *article = fm_xml_child(cite, "Article");
    static const char *const author[] = {"LastName", "ForeName"}, *const mesh[] = {"DescriptorName", NULL},
                             *const self[] = {"", NULL};
    fm_str text = {0}, abstract = {0};
    FM_TRY(set_at(b, r, "pmid", cite, "PMID"));
    FM_TRY(set_at(b, r, "title", article, "ArticleTitle"));
    put_abstract(&abstract, fm_xml_child(article, "Abstract"));
    fm_xml_put_text(&text, fm_xml_child(article, "ArticleTitle"));
    if (abstract.len) {
        fm_str_puts(&text, text.len ? "\n\n" : "");
        fm_str_append(&text, abstract.data, abstract.len);
    }
    fm_status st = set_text(b, r, "abstract", &abstract);
    st = st == FM_OK ? set_text(b, r, s->o->text_column, &text) : st;
    fm_str_free(&text);
    fm_str_free(&abstract);
    FM_TRY(st);
    FM_TRY(set_at(b, r, "journal", article, "Journal/Title"));
    FM_TRY(set_year(b, r, fm_xml_at(article, "Journal/JournalIssue/PubDate")));
    FM_TRY(set_at(b, r, "language", article, "Language"));
    FM_TRY(set_doi(b, r, article, data));
    FM_TRY(set_list(b, r, "authors", fm_xml_child(article, "AuthorList"), "Author", author));
    FM_TRY(set_list(b, r, "mesh", fm_xml_child(cite, "MeshHeadingList"), "MeshHeading", mesh));
    FM_TRY(set_list(b, r, "keywords", fm_xml_child(cite, "KeywordList"), "Keyword", self));
    return set_list(b, r, "types", fm_xml_child(article, "PublicationTypeList"), "PublicationType", self);
}

static fm_status open_pubmed(void **state, const char *path, const fm_reader_options *o) {
    return open_with(state, path, o, o->record_path ? o->record_path : "//PubmedArticle", take_pubmed);
}

static bool is_pubmed(const char *path) {
    return fm_reader_xml_has(path, "<PubmedArticleSet");
}

const fm_reader_def fm_reader_pubmed = {
    .name = "pubmed",
    .help = "PubMed XML: pmid, title, abstract, text (both), journal, year, doi, authors, mesh, keywords, types",
    .open = open_pubmed,
    .next = next_xml,
    .close = close_xml,
    .is_mine = is_pubmed,
};

const fm_reader_def fm_reader_xml = {
    .name = "xml",
    .suffixes = ".xml",
    .help = "elements named by record_path, such as //article; columns are their attributes (@name) and children",
    .open = open_xml,
    .next = next_xml,
    .close = close_xml,
};
