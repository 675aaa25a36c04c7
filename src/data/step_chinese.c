/* chinese: a text column into simplified or traditional characters. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/chinese.h"
#include "data/step.h"

typedef struct chinese_options {
    char *column;
    int to, from;
} chinese_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(chinese_options),
    {"to", FM_OPT_ENUM, offsetof(chinese_options, to), "simplified", 0, 0, "simplified|traditional|taiwan|hongkong",
     NULL, NULL, "way of writing wanted; taiwan and hongkong also take their standard forms of characters"},
    {"from", FM_OPT_ENUM, offsetof(chinese_options, from), "other", 0, 0, "other|taiwan|hongkong", NULL, NULL,
     "where the text is from: taiwan with simplified also changes words (滑鼠 into 鼠标)"},
    FM_STEP_OPTIONS_END,
};

/* OpenCC's name of the conversion; NULL: there is none. */
static const char *config_of(const chinese_options *o) {
    static const char *const config[4][3] = {
        {"t2s", "tw2sp", "hk2s"}, {"s2t", "tw2t", "hk2t"}, {"s2tw", NULL, NULL}, {"s2hk", NULL, NULL}};
    return config[o->to][o->from];
}

static fm_status chinese_open(fm_step *s) {
    const char *config = config_of(s->opt);
    if (!config) {
        FM_FAIL(FM_ERR_CONFIG, "chinese: taiwan and hongkong are made from simplified text (from: other)");
    }
    fm_chinese *probe;
    FM_TRY(fm_chinese_new(&probe, config));
    fm_chinese_free(probe);
    return FM_OK;
}

typedef struct local {
    fm_chinese *converter;
    fm_str out;
} local;

static void local_free(void *data) {
    local *l = data;
    fm_chinese_free(l->converter);
    fm_str_free(&l->out);
}

static fm_status local_init(fm_step *s, void *data) {
    local *l = data;
    return fm_chinese_new(&l->converter, config_of(s->opt));
}

static fm_status chinese_row(fm_step_ctx *x, fm_rec *r) {
    const chinese_options *o = x->step->opt;
    local *l = x->local;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    bool plain = true;
    for (size_t i = 0; i < c->text.len && plain; i++) {
        plain = (unsigned char)c->text.ptr[i] < 0xE2; /* Han characters begin with E3 or more */
    }
    if (plain) {
        return FM_OK;
    }
    FM_TRY(fm_chinese_convert(l->converter, &l->out, c->text));
    if (l->out.len == c->text.len && memcmp(l->out.data, c->text.ptr, c->text.len) == 0) {
        return FM_OK;
    }
    FM_TRY(fm_cell_set_text(x->arena, c, l->out.data, l->out.len));
    return fm_step_count(x, "changed", 1);
}

const fm_step_def fm_step_chinese = {
    .name = "chinese",
    .help = "traditional Chinese into simplified, or the reverse",
    .about =
        "Goes by words where characters alone would be wrong (頭髮 is 头发, 發財 is 发财). Needs the library OpenCC\n"
        "(Debian: libopencc1.1, libopencc-data).",
    .examples = "fathom data chinese -i zh.jsonl -o simplified.jsonl\n"
                "fathom data chinese -i zh.jsonl -o traditional.jsonl --to traditional",
    .options = rows,
    .options_bytes = sizeof(chinese_options),
    .open = chinese_open,
    .row = chinese_row,
    .local_bytes = sizeof(local),
    .local_init = local_init,
    .local_free = local_free,
};
