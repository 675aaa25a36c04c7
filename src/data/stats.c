/* data stats: what a dataset holds, in one pass. Memory: a fixed amount a column, and `memory` for sorting the hashes
 * that tell duplicates. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "data/classes.h"
#include "data/column_stats.h"
#include "data/langid.h"
#include "data/lengths.h"
#include "data/records.h"
#include "data/sorter.h"
#include "fathom/data.h"

struct fm_stats_config {
    fm_strlist input;
    char *format, *text_column, *label;
    int64_t memory;
    bool languages;
};

static const fm_option table[] = {
    {"input", FM_OPT_LIST, offsetof(fm_stats_config, input), NULL, 0, 0, NULL, "i|in", "IN",
     "files, folders, glob patterns or - for stdin"},
    {"format", FM_OPT_STR, offsetof(fm_stats_config, format), "auto", 0, 0, NULL, NULL, "NAME",
     "how input is read ('fathom data list' names the formats)"},
    {"text_column", FM_OPT_STR, offsetof(fm_stats_config, text_column), "text", 0, 0, NULL, NULL, "NAME",
     "column whose lengths, scripts and duplicates are counted"},
    {"label", FM_OPT_STR, offsetof(fm_stats_config, label), "label", 0, 0, NULL, "label_column", "NAME",
     "column whose values are classes"},
    {"languages", FM_OPT_BOOL, offsetof(fm_stats_config, languages), "true", 0, 0, NULL, NULL, NULL,
     "count rows by language, told from the first 8 KiB of the text (where CLD2 is installed)"},
    {"memory", FM_OPT_BYTES, offsetof(fm_stats_config, memory), "512MiB", 1 << 20, 1e15, NULL, NULL, NULL,
     "for sorting hashes of rows; more goes to a temporary file"},
    {0},
};

const fm_option *fm_stats_options(void) {
    return table;
}

fm_status fm_stats_config_new(fm_stats_config **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for options");
    }
    fm_status s = fm_options_init(*out, table);
    if (s != FM_OK) {
        fm_stats_config_free(*out);
        *out = NULL;
    }
    return s;
}

void fm_stats_config_free(fm_stats_config *c) {
    if (c) {
        fm_options_free(c, table);
        fm_free(c);
    }
}

/* ---- scripts ---------------------------------------------------------------------------------- */

typedef enum script { LATIN, HAN, KANA, HANGUL, CYRILLIC, GREEK, ARABIC, HEBREW, INDIC, THAI, OTHER, N_SCRIPTS } script;
static const char *const script_names[] = {"Latin",  "Han",    "Kana",  "Hangul", "Cyrillic", "Greek",
                                           "Arabic", "Hebrew", "Indic", "Thai",   "other"};

/* Letters by block, from the beginning of one range to the next; -1: no letters. */
static const struct {
    uint32_t begin;
    int script;
} blocks[] = {
    {0x00, -1},       {0x41, LATIN},    {0x5B, -1},        {0x61, LATIN},    {0x7B, -1},       {0xC0, LATIN},
    {0x2B0, -1},      {0x370, GREEK},   {0x400, CYRILLIC}, {0x530, OTHER},   {0x590, HEBREW},  {0x600, ARABIC},
    {0x660, -1},      {0x66E, ARABIC},  {0x6F0, -1},       {0x6FA, ARABIC},  {0x780, OTHER},   {0x900, INDIC},
    {0xE00, THAI},    {0xE80, OTHER},   {0x1100, HANGUL},  {0x1200, OTHER},  {0x1D00, -1},     {0x1E00, LATIN},
    {0x1F00, GREEK},  {0x2000, -1},     {0x2C00, OTHER},   {0x2C60, LATIN},  {0x2C80, OTHER},  {0x2E00, -1},
    {0x3005, HAN},    {0x3008, -1},     {0x3041, KANA},    {0x3100, OTHER},  {0x3130, HANGUL}, {0x3190, -1},
    {0x31F0, KANA},   {0x3200, -1},     {0x3400, HAN},     {0x4DC0, -1},     {0x4E00, HAN},    {0xA000, OTHER},
    {0xA720, LATIN},  {0xA800, OTHER},  {0xAC00, HANGUL},  {0xD800, -1},     {0xF900, HAN},    {0xFB00, LATIN},
    {0xFB1D, HEBREW}, {0xFB50, ARABIC}, {0xFE00, -1},      {0xFE70, ARABIC}, {0xFEFF, -1},     {0xFF21, LATIN},
    {0xFF3B, -1},     {0xFF41, LATIN},  {0xFF5B, -1},      {0xFF66, KANA},   {0xFFA0, HANGUL}, {0xFFE0, -1},
    {0x10000, OTHER}, {0x1F000, -1},    {0x20000, HAN},    {0x32000, -1},
};

static int script_of(uint32_t cp) {
    size_t low = 0, high = FM_ARRAY_LEN(blocks);
    while (high - low > 1) {
        size_t mid = (low + high) / 2;
        if (blocks[mid].begin <= cp) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return blocks[low].script;
}

/* ---- the pass --------------------------------------------------------------------------------- */

#define MOST_LANGUAGES 256
#define LANGUAGE_BYTES 8192

typedef struct language {
    const char *code; /* constant */
    int64_t rows, bytes;
} language;

typedef struct stats {
    const fm_stats_config *c;
    fm_records *in;
    fm_column_stats *columns;
    fm_classes classes;
    fm_lengths lengths;
    fm_sorter *sorter;
    char sorter_path[64];
    int64_t rows, text_rows, text_bytes, distinct;
    int64_t script_rows[N_SCRIPTS + 1], script_chars[N_SCRIPTS]; /* the last: no letter at all */
    language language[MOST_LANGUAGES];
    int n_languages;
    bool languages; /* CLD2 is there */
} stats;

/* By the beginning of the text: enough to tell, and a book costs no more than a page. */
static void read_language(stats *k, fm_sv t) {
    fm_langid found;
    int i = 0;
    fm_langid_detect(&found, (fm_sv){t.ptr, FM_MIN(t.len, LANGUAGE_BYTES)});
    const char *code = found.reliable ? found.code : "und";
    while (i < k->n_languages && strcmp(k->language[i].code, code) != 0) {
        i++;
    }
    if (i < MOST_LANGUAGES) {
        k->n_languages = FM_MAX(k->n_languages, i + 1);
        k->language[i].code = code;
        k->language[i].rows++;
        k->language[i].bytes += (int64_t)t.len;
    }
}

static void read_text(stats *k, fm_sv t) {
    int64_t chars = 0, of[N_SCRIPTS] = {0};
    const char *p = t.ptr, *end = p + t.len;
    while (p < end) {
        uint32_t cp = (uint8_t)*p;
        int n = cp < 0x80 ? 1 : fm_utf8_decode(&cp, p, end);
        int s = script_of(cp);
        if (s >= 0) {
            of[s]++;
        }
        chars++;
        p += n > 0 ? n : 1;
    }
    int best = N_SCRIPTS;
    for (int i = 0; i < N_SCRIPTS; i++) {
        k->script_chars[i] += of[i];
        best = of[i] > 0 && (best == N_SCRIPTS || of[i] > of[best]) ? i : best;
    }
    if (of[KANA] > 0 && best == HAN) { /* Japanese is written with more Han than kana at times */
        best = KANA;
    }
    k->script_rows[best]++;
    fm_lengths_add(&k->lengths, chars);
    k->text_rows++;
    k->text_bytes += (int64_t)t.len;
}

static fm_status read_rows(stats *k) {
    fm_meter meter;
    fm_rec *r;
    fm_bump *arena;
    fm_meter_start(&meter, "reading", "share", 1);
    for (;;) {
        FM_TRY(fm_records_next(k->in, &r, &arena));
        if (!r) {
            fm_meter_end(&meter, 1, "");
            return FM_OK;
        }
        k->rows++;
        const fm_cell *text = fm_rec_get(r, k->c->text_column);
        bool has_text = text && text->kind == FM_CELL_TEXT;
        if (has_text) {
            read_text(k, text->text);
            if (k->languages) {
                read_language(k, text->text);
            }
        }
        const uint64_t hash = has_text ? fm_cell_hash(text) : fm_rec_hash(r);
        FM_TRY(fm_sorter_push(k->sorter, &hash));
        FM_TRY(fm_column_stats_add(k->columns, r));
        FM_TRY(fm_classes_add(&k->classes, r, k->c->label));
        if ((k->rows & 1023) == 0) {
            char detail[64], n[32];
            snprintf(detail, sizeof detail, "%s rows", fm_format_count(n, sizeof n, (double)k->rows));
            fm_meter_update(&meter, fm_records_share(k->in), detail);
            if (fm_cancelled()) {
                FM_FAIL(FM_ERR_CANCELLED, "interrupted after %lld rows", (long long)k->rows);
            }
        }
    }
}

static fm_status count_distinct(stats *k) {
    const uint64_t *h;
    uint64_t last = 0;
    FM_TRY(fm_sorter_sort(k->sorter));
    for (;;) {
        FM_TRY(fm_sorter_next(k->sorter, &h));
        if (!h) {
            return FM_OK;
        }
        k->distinct += k->distinct == 0 || *h != last;
        last = *h;
    }
}

/* ---- the report ------------------------------------------------------------------------------- */

static fm_status set_int(fm_json *o, const char *key, int64_t v) {
    return fm_json_set(o, key, fm_json_new_int(v));
}

static fm_status text_json(fm_json *o, const stats *k) {
    const fm_lengths *l = &k->lengths;
    fm_json *t, *list;
    FM_TRY(fm_json_set(o, "text", t = fm_json_new_object()));
    FM_TRY(fm_json_set(t, "histogram", list = fm_json_new_array()));
    FM_TRY(fm_json_set(t, "column", fm_json_new_str(k->c->text_column)));
    FM_TRY(set_int(t, "rows", k->text_rows));
    FM_TRY(set_int(t, "bytes", k->text_bytes));
    FM_TRY(set_int(t, "characters", l->sum));
    FM_TRY(set_int(t, "min", l->least));
    FM_TRY(fm_json_set(t, "mean", fm_json_new_num(l->n ? (double)l->sum / (double)l->n : 0)));
    FM_TRY(set_int(t, "median", fm_lengths_quantile(l, 0.5)));
    FM_TRY(set_int(t, "p90", fm_lengths_quantile(l, 0.9)));
    FM_TRY(set_int(t, "p99", fm_lengths_quantile(l, 0.99)));
    FM_TRY(set_int(t, "max", l->most));
    for (int64_t from = 0, to = 1; from <= l->most; from = to, to *= 2) {
        int64_t n = fm_lengths_below(l, to) - fm_lengths_below(l, from);
        if (n > 0) {
            fm_json *e = fm_json_new_object();
            FM_TRY(fm_json_append(list, e));
            FM_TRY(set_int(e, "from", from));
            FM_TRY(set_int(e, "to", to - 1));
            FM_TRY(set_int(e, "rows", n));
        }
    }
    return FM_OK;
}

static fm_status scripts_json(fm_json *o, const stats *k) {
    fm_json *list = fm_json_new_array();
    int64_t all = 0;
    FM_TRY(fm_json_set(o, "scripts", list));
    for (int i = 0; i < N_SCRIPTS; i++) {
        all += k->script_chars[i];
    }
    for (int i = 0; i <= N_SCRIPTS; i++) {
        int64_t chars = i < N_SCRIPTS ? k->script_chars[i] : 0;
        if (k->script_rows[i] == 0 && chars == 0) {
            continue;
        }
        fm_json *e = fm_json_new_object();
        FM_TRY(fm_json_append(list, e));
        FM_TRY(fm_json_set(e, "script", fm_json_new_str(i < N_SCRIPTS ? script_names[i] : "none")));
        FM_TRY(set_int(e, "rows", k->script_rows[i]));
        FM_TRY(set_int(e, "letters", chars));
        FM_TRY(fm_json_set(e, "share", fm_json_new_num(all ? (double)chars / (double)all : 0)));
    }
    return FM_OK;
}

static int most_rows(const void *a, const void *b) {
    const language *x = a, *y = b;
    return x->rows != y->rows ? (x->rows < y->rows ? 1 : -1) : strcmp(x->code, y->code);
}

/* null: nothing can tell them here. */
static fm_status languages_json(fm_json *o, stats *k) {
    if (!k->languages) {
        return fm_json_set(o, "languages", fm_json_new_null());
    }
    fm_json *list = fm_json_new_array();
    FM_TRY(fm_json_set(o, "languages", list));
    qsort(k->language, (size_t)k->n_languages, sizeof *k->language, most_rows);
    for (int i = 0; i < k->n_languages; i++) {
        const double share = (double)k->language[i].rows / (double)FM_MAX(k->text_rows, 1);
        fm_json *e = fm_json_new_object();
        FM_TRY(fm_json_append(list, e));
        FM_TRY(fm_json_set(e, "language", fm_json_new_str(k->language[i].code)));
        FM_TRY(set_int(e, "rows", k->language[i].rows));
        FM_TRY(set_int(e, "bytes", k->language[i].bytes));
        FM_TRY(fm_json_set(e, "share", fm_json_new_num(share)));
    }
    return FM_OK;
}

static fm_status report(fm_json *o, stats *k) {
    FM_TRY(set_int(o, "files", (int64_t)fm_records_n_files(k->in)));
    FM_TRY(set_int(o, "rows", k->rows));
    FM_TRY(set_int(o, "bad", fm_records_n_bad(k->in)));
    if (k->text_rows > 0) {
        FM_TRY(text_json(o, k));
        FM_TRY(scripts_json(o, k));
        FM_TRY(languages_json(o, k));
    }
    fm_json *d = fm_json_new_object(), *v = NULL;
    FM_TRY(fm_json_set(o, "duplicates", d));
    FM_TRY(fm_json_set(d, "by", fm_json_new_str(k->text_rows > 0 ? k->c->text_column : "*")));
    FM_TRY(set_int(d, "rows", k->rows - k->distinct));
    FM_TRY(fm_json_set(d, "share", fm_json_new_num(k->rows ? (double)(k->rows - k->distinct) / (double)k->rows : 0)));
    fm_status s = fm_column_stats_json(&v, k->columns, k->rows);
    FM_TRY(s == FM_OK ? fm_json_set(o, "columns", v) : (fm_json_free(v), s));
    s = fm_classes_json(&v, &k->classes, k->c->label);
    if (s == FM_OK && v) {
        return fm_json_set(o, "classes", v);
    }
    fm_json_free(v);
    return s;
}

static fm_status all(stats *k, fm_json *o) {
    const fm_stats_config *c = k->c;
    if (c->input.n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "no input was named");
        return fm_error_hint("give files, folders, glob patterns, or - for stdin");
    }
    fm_records_options ro = {.input = c->input, .format = c->format};
    FM_TRY(fm_records_open(&k->in, &ro));
    k->languages = c->languages && fm_langid_open() == FM_OK;
    fm_error_clear();
    FM_TRY(fm_column_stats_new(&k->columns));
    snprintf(k->sorter_path, sizeof k->sorter_path, "/tmp/fathom-stats-%ld", (long)getpid());
    FM_TRY(fm_sorter_new(&k->sorter, 1, c->memory, k->sorter_path));
    FM_TRY(read_rows(k));
    FM_TRY(count_distinct(k));
    return report(o, k);
}

fm_status fm_data_stats(char **json, const fm_stats_config *c) {
    *json = NULL;
    stats *k = fm_calloc(1, sizeof *k);
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for statistics");
    }
    k->c = c;
    fm_json *o = fm_json_new_object();
    fm_str text = {0};
    fm_status s = all(k, o);
    s = s == FM_OK ? fm_json_dump(&text, o, 0) : s;
    s = s == FM_OK ? fm_str_check(&text) : s;
    *json = s == FM_OK ? fm_str_take(&text) : NULL;
    fm_str_free(&text);
    fm_json_free(o);
    fm_records_close(k->in);
    fm_column_stats_free(k->columns);
    fm_classes_free(&k->classes);
    fm_sorter_free(k->sorter);
    fm_free(k);
    return s;
}

/* ---- for people ------------------------------------------------------------------------------- */

static long long whole(const fm_json *o, const char *key) {
    return (long long)fm_json_int(fm_json_get(o, key), 0);
}

static const char *word(const fm_json *o, const char *key) {
    const char *s = fm_json_str(fm_json_get(o, key), NULL);
    return s ? s : "";
}

static void put_text(fm_str *s, const fm_json *t) {
    const fm_json *h = fm_json_get(t, "histogram");
    long long rows = whole(t, "rows"), most = 1;
    fm_str_printf(s, "\ntext in '%s': %lld rows, %lld bytes, %lld characters\n", word(t, "column"), rows,
                  whole(t, "bytes"), whole(t, "characters"));
    fm_str_printf(s, "characters a row: min %lld, median %lld, mean %.1f, 90%% %lld, 99%% %lld, max %lld\n",
                  whole(t, "min"), whole(t, "median"), fm_json_num(fm_json_get(t, "mean"), 0), whole(t, "p90"),
                  whole(t, "p99"), whole(t, "max"));
    for (size_t i = 0; i < fm_json_size(h); i++) {
        most = FM_MAX(most, whole(fm_json_at(h, i), "rows"));
    }
    for (size_t i = 0; i < fm_json_size(h); i++) {
        const fm_json *e = fm_json_at(h, i);
        long long n = whole(e, "rows");
        fm_str_printf(s, "  %9lld - %-9lld %10lld  ", whole(e, "from"), whole(e, "to"), n);
        for (long long k = 0; k < (n * 40 + most - 1) / most; k++) {
            fm_str_putc(s, '#');
        }
        fm_str_putc(s, '\n');
    }
}

static void put_classes(fm_str *s, const fm_json *c) {
    const fm_json *v = fm_json_get(c, "values");
    fm_str_printf(s, "\nclasses in '%s': %zu, %lld rows without\n", word(c, "column"), fm_json_size(v),
                  whole(c, "without"));
    for (size_t i = 0; i < fm_json_size(v) && i < 50; i++) {
        fm_str_printf(s, "  %10lld  %s\n", whole(fm_json_at(v, i), "rows"), word(fm_json_at(v, i), "value"));
    }
    if (fm_json_size(v) > 50) {
        fm_str_printf(s, "  ... and %zu more (--json lists all)\n", fm_json_size(v) - 50);
    }
    if (fm_json_bool(fm_json_get(c, "unbalanced"), false)) {
        fm_str_printf(s, "warning: the largest class has %.1f times the rows of the smallest (more than %d:1)\n",
                      fm_json_num(fm_json_get(c, "ratio"), 0), FM_CLASSES_RATIO);
    }
}

static void put_all(fm_str *s, const fm_json *o) {
    const fm_json *columns = fm_json_get(o, "columns"), *d = fm_json_get(o, "duplicates");
    const fm_json *scripts = fm_json_get(o, "scripts");
    fm_str_printf(s, "%lld files, %lld rows, %lld bad; %lld rows (%.2f%%) have the %s of one before them\n",
                  whole(o, "files"), whole(o, "rows"), whole(o, "bad"), whole(d, "rows"),
                  100 * fm_json_num(fm_json_get(d, "share"), 0),
                  strcmp(word(d, "by"), "*") == 0 ? "content" : word(d, "by"));
    fm_str_printf(s, "\n%-24s %-18s %10s %10s  %s\n", "column", "type", "missing", "distinct", "range");
    for (size_t i = 0; i < fm_json_size(columns); i++) {
        const fm_json *c = fm_json_at(columns, i);
        bool exact = fm_json_bool(fm_json_get(c, "exact"), true);
        fm_str_printf(s, "%-24s %-18s %10lld %s%9lld", word(c, "name"), word(c, "type"), whole(c, "missing"),
                      exact ? " " : "~", whole(c, "distinct"));
        if (fm_json_get(c, "min")) {
            fm_str_printf(s, "  %.6g to %.6g, mean %.6g", fm_json_num(fm_json_get(c, "min"), 0),
                          fm_json_num(fm_json_get(c, "max"), 0), fm_json_num(fm_json_get(c, "mean"), 0));
        }
        fm_str_putc(s, '\n');
    }
    if (fm_json_get(o, "text")) {
        put_text(s, fm_json_get(o, "text"));
    }
    for (size_t i = 0; i < fm_json_size(scripts); i++) {
        const fm_json *e = fm_json_at(scripts, i);
        fm_str_printf(s, "%s%-10s %6.2f%% of letters, main script of %lld rows\n", i ? "" : "\n", word(e, "script"),
                      100 * fm_json_num(fm_json_get(e, "share"), 0), whole(e, "rows"));
    }
    const fm_json *languages = fm_json_get(o, "languages");
    for (size_t i = 0; fm_json_is_array(languages) && i < fm_json_size(languages) && i < 20; i++) {
        const fm_json *e = fm_json_at(languages, i);
        const char *code = word(e, "language");
        fm_str_printf(s, "%s%-10s %6.2f%% of rows, %lld rows\n", i ? "" : "\n",
                      strcmp(code, "und") == 0 ? "unknown" : code, 100 * fm_json_num(fm_json_get(e, "share"), 0),
                      whole(e, "rows"));
    }
    if (fm_json_is_array(languages) && fm_json_size(languages) > 20) {
        fm_str_printf(s, "  ... and %zu more languages (--json lists all)\n", fm_json_size(languages) - 20);
    }
    if (fm_json_get(o, "classes")) {
        put_classes(s, fm_json_get(o, "classes"));
    }
}

fm_status fm_data_stats_text(char **out, const char *json) {
    fm_json *o;
    fm_str s = {0};
    *out = NULL;
    FM_TRY(fm_json_parse(&o, json, strlen(json), "statistics"));
    put_all(&s, o);
    fm_json_free(o);
    fm_status st = fm_str_check(&s);
    *out = st == FM_OK ? fm_str_take(&s) : NULL;
    fm_str_free(&s);
    return st;
}
