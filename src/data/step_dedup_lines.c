/* dedup-lines: lines that were in the data already go (menus, footers, cookie notes of web pages).
 *
 * Lines are compared by 64 bits of hash of their normalised form: among a thousand million different lines one is
 * taken for another with a chance of 3%. Hashes are sorted outside of memory; one bit a line stays in memory. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/sorter.h"
#include "data/step.h"
#include "data/textnorm.h"

typedef struct lines_options {
    char *column;
    int64_t min_chars, copies, memory;
} lines_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(lines_options),
    {"min_chars", FM_OPT_INT, offsetof(lines_options, min_chars), "20", 1, 1e9, NULL, NULL, NULL,
     "shorter lines (bytes, without case and punctuation) are left alone"},
    {"copies", FM_OPT_INT, offsetof(lines_options, copies), "1", 1, 1e9, NULL, NULL, NULL,
     "how many times a line may stand in the whole data; later ones go"},
    {"memory", FM_OPT_BYTES, offsetof(lines_options, memory), "512MiB", 1 << 20, 1e15, NULL, NULL, NULL,
     "for sorting; more goes to a temporary file beside the output"},
    FM_STEP_OPTIONS_END,
};

typedef struct state {
    fm_sorter *sorter;
    fm_bits gone;
    uint64_t n_lines, n_gone;
} state;

typedef struct hashes {
    size_t n;
    uint64_t h[];
} hashes;

static fm_status lines_open(fm_step *s) {
    s->state = fm_calloc(1, sizeof(state));
    if (!s->state) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    return FM_OK;
}

static void lines_close(fm_step *s) {
    state *k = s->state;
    if (k) {
        fm_sorter_free(k->sorter);
        fm_bits_free(&k->gone);
        fm_free(k);
        s->state = NULL;
    }
}

/* The line at *p without its end; *p moves behind it. */
static fm_sv next_line(const char **p, const char *end) {
    const char *e = memchr(*p, '\n', (size_t)(end - *p));
    fm_sv line = {*p, (size_t)((e ? e : end) - *p)};
    *p = e ? e + 1 : end;
    return line;
}

static bool has_text(fm_sv line) {
    for (size_t i = 0; i < line.len; i++) {
        if ((unsigned char)line.ptr[i] > ' ') {
            return true;
        }
    }
    return false;
}

/* The line's normal form in x->tmp[0]; *counts: it is long enough to be compared. */
static fm_status normalise(fm_step_ctx *x, fm_sv line, bool *counts) {
    const lines_options *o = x->step->opt;
    *counts = false;
    if (line.len >= (size_t)o->min_chars) {
        FM_TRY(fm_textnorm(&x->tmp[0], line, FM_NORM_TEXT));
        *counts = x->tmp[0].len >= (size_t)o->min_chars;
    }
    return FM_OK;
}

static fm_status lines_row(fm_step_ctx *x, fm_rec *r) {
    const lines_options *o = x->step->opt;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    size_t most = c->text.len / (size_t)o->min_chars + 1;
    hashes *h = fm_bump_alloc(x->arena, sizeof *h + most * sizeof(uint64_t));
    if (!h) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold the hashes of %zu lines", most);
    }
    h->n = 0;
    const char *p = c->text.ptr, *end = p + c->text.len;
    while (p < end) {
        bool counts;
        FM_TRY(normalise(x, next_line(&p, end), &counts));
        if (counts) {
            h->h[h->n++] = fm_hash64(x->tmp[0].data, x->tmp[0].len, 0);
        }
    }
    r->aux = h;
    return FM_OK;
}

static fm_status lines_observe(fm_step_ctx *x, fm_rec *r) {
    const lines_options *o = x->step->opt;
    state *s = x->step->state;
    const hashes *h = r->aux;
    if (!s->sorter) {
        char path[4200];
        snprintf(path, sizeof path, "%s/dedup-lines-%d", x->step->env->work_dir, x->step->index);
        FM_TRY(fm_sorter_new(&s->sorter, 2, o->memory, path));
    }
    r->note = s->n_lines;
    for (size_t i = 0; i < h->n; i++) {
        const uint64_t rec[2] = {h->h[i], s->n_lines++};
        FM_TRY(fm_sorter_push(s->sorter, rec));
    }
    return FM_OK;
}

static fm_status lines_resolve(fm_step *step) {
    const lines_options *o = step->opt;
    state *s = step->state;
    const uint64_t *rec;
    uint64_t key = 0, n = 0;
    if (!s->sorter) {
        return FM_OK;
    }
    FM_TRY(fm_sorter_sort(s->sorter));
    for (;;) {
        FM_TRY(fm_sorter_next(s->sorter, &rec));
        if (!rec) {
            break;
        }
        n = rec[0] == key ? n + 1 : 1;
        key = rec[0];
        if (n > (uint64_t)o->copies) {
            s->n_gone++;
            FM_TRY(fm_bits_set(&s->gone, rec[1]));
        }
    }
    fm_sorter_free(s->sorter);
    s->sorter = NULL;
    return FM_OK;
}

static fm_status lines_apply(fm_step_ctx *x, fm_rec *r) {
    const lines_options *o = x->step->opt;
    const state *s = x->step->state;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c || s->n_gone == 0) {
        return FM_OK;
    }
    char *out = NULL;
    size_t n = 0;
    int64_t gone = 0;
    uint64_t at = r->note;
    const char *p = c->text.ptr, *end = p + c->text.len;
    bool text_left = false;
    while (p < end) {
        bool counts;
        fm_sv line = next_line(&p, end);
        FM_TRY(normalise(x, line, &counts));
        if (counts && fm_bits_has(&s->gone, at++)) {
            if (!out) {
                out = fm_bump_alloc(x->arena, c->text.len + 1);
                if (!out) {
                    FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold a text of %zu bytes", c->text.len);
                }
                n = (size_t)(line.ptr - c->text.ptr);
                memcpy(out, c->text.ptr, n);
            }
            gone++;
            continue;
        }
        text_left = text_left || has_text(line);
        if (out) {
            memcpy(out + n, line.ptr, (size_t)(p - line.ptr));
            n += (size_t)(p - line.ptr);
        }
    }
    if (!out) {
        return FM_OK;
    }
    FM_TRY(fm_step_count(x, "lines taken out", gone));
    FM_TRY(fm_step_count(x, "changed", 1));
    if (!text_left) {
        return fm_step_drop(x, r, "all lines seen before", NULL);
    }
    if (n && out[n - 1] == '\n' && c->text.ptr[c->text.len - 1] != '\n') {
        n--; /* the last line went */
    }
    out[n] = '\0';
    c->text = (fm_sv){out, n};
    c->raw = (fm_sv){NULL, 0};
    return FM_OK;
}

static fm_status lines_report(fm_step *step, fm_str *json) {
    const state *s = step->state;
    fm_str_printf(json, "{\"lines\": %llu, \"repeated\": %llu}", (unsigned long long)s->n_lines,
                  (unsigned long long)s->n_gone);
    return fm_str_check(json);
}

const fm_step_def fm_step_dedup_lines = {
    .name = "dedup-lines",
    .help = "takes out lines that stood in the data before",
    .about = "Lines are compared without case, punctuation and runs of blanks. The first copies in the order of the\n"
             "input stay. A row whose lines all went is dropped.",
    .examples = "fathom data dedup-lines -i web.jsonl -o web2.jsonl --copies 3",
    .options = rows,
    .options_bytes = sizeof(lines_options),
    .memory = "1 bit a line; 16 bytes a line are sorted within --memory and on disk",
    .open = lines_open,
    .close = lines_close,
    .row = lines_row,
    .observe = lines_observe,
    .resolve = lines_resolve,
    .apply = lines_apply,
    .report = lines_report,
};
