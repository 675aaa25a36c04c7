/* The run of a synthesis: items in rounds, answers through the journal, rows to the output. See synth.h. */
#include "data/synth.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/option_row.h"
#include "base/pool.h"
#include "base/progress.h"
#include "data/records.h"
#include "data/rows_out.h"

#define ROUND 64

#define FM_SYNTH_TASK(name) extern const fm_synth_task fm_synth_task_##name;
#include "data/synth_tasks.def"
#undef FM_SYNTH_TASK

static const fm_synth_task *const table[] = {
#define FM_SYNTH_TASK(name) &fm_synth_task_##name,
#include "data/synth_tasks.def"
#undef FM_SYNTH_TASK
};

bool fm_synth_task_at(fm_synth_task_info *out, size_t i) {
    if (i < FM_ARRAY_LEN(table)) {
        fm_synth_task_info info = {.size = out->size, .name = table[i]->name, .help = table[i]->help};
        memcpy(out, &info, FM_MIN(out->size, sizeof info));
    }
    return i < FM_ARRAY_LEN(table);
}

#define O(k) offsetof(fm_synth_settings, k)
static const fm_option option_rows[] = {
    {"task", FM_OPT_ENUM, O(task), "instruct", 0, 0, "instruct|qa|dialogue|back-translate", NULL, NULL,
     "what is asked for"},
    {"input", FM_OPT_LIST, O(input), NULL, 0, 0, NULL, "i", "PATHS", "rows with documents, topics or texts"},
    {"output", FM_OPT_STR, O(output), NULL, 0, 0, NULL, "o", "FILE", "JSONL file, also .gz or .zst"},
    {"column", FM_OPT_STR, O(column), "text", 0, 0, NULL, NULL, "NAME", "of the input"},
    {"seeds", FM_OPT_LIST, O(seeds), NULL, 0, 0, NULL, NULL, "PATHS",
     "instruct: example tasks with instruction, input, output (or instances, as self-instruct has them)"},
    {"rows", FM_OPT_INT, O(rows), "0", 0, 1e12, NULL, "n", NULL, "stop at so many rows; instruct: 100 when it is 0"},
    {"per_request", FM_OPT_INT, O(per_request), "4", 1, 100, NULL, NULL, NULL, "tasks or questions of one answer"},
    {"turns", FM_OPT_INT, O(turns), "3", 1, 100, NULL, NULL, NULL, "dialogue: of each side"},
    {"language", FM_OPT_STR, O(language), NULL, 0, 0, NULL, NULL, "NAME",
     "that rows are in; back-translate: of the text (English)"},
    {"via", FM_OPT_STR, O(via), "French", 0, 0, NULL, NULL, "NAME", "back-translate: language in between"},
    {"prompt", FM_OPT_STR, O(prompt), NULL, 0, 0, NULL, NULL, "FILE",
     "own prompt; {text}, {n}, {turns}, {language}, {via}, {examples} are filled in"},
    {"prompt_back", FM_OPT_STR, O(prompt_back), NULL, 0, 0, NULL, NULL, "FILE", "back-translate: of the way back"},
    {"max_chars", FM_OPT_INT, O(max_chars), "6000", 1, 1e9, NULL, NULL, NULL,
     "of a document; longer ones give their beginning"},
    FM_OPENAI_ROWS(fm_synth_settings),
    {"local_model", FM_OPT_STR, O(local_model), NULL, 0, 0, NULL, NULL, "DIR",
     "a model of this machine in place of an endpoint"},
    {"concurrency", FM_OPT_INT, O(concurrency), "8", 1, ROUND, NULL, NULL, NULL, "requests at once"},
    {"temperature", FM_OPT_FLOAT, O(temperature), "0.8", 0, 10, NULL, NULL, NULL, "of sampling; 0 = greedy"},
    {"top_p", FM_OPT_FLOAT, O(top_p), "0.95", 0, 1, NULL, NULL, NULL, "of sampling"},
    {"max_tokens", FM_OPT_INT, O(max_tokens), "2048", 1, 1e7, NULL, NULL, NULL, "of one answer"},
    {"max_requests", FM_OPT_INT, O(max_requests), "0", 0, 1e12, NULL, NULL, NULL,
     "most items; 0 = the input's, or ten times what the rows would need"},
    {"max_similarity", FM_OPT_FLOAT, O(max_similarity), "0.7", 0, 1, NULL, NULL, NULL,
     "ROUGE-L to an earlier instruction or question from which on a row goes; 1 = off"},
    {"min_instruction", FM_OPT_INT, O(min_instruction), "6", 0, 1e9, NULL, NULL, NULL, "characters of an instruction"},
    {"max_instruction", FM_OPT_INT, O(max_instruction), "1000", 0, 1e9, NULL, NULL, NULL, "0 = any"},
    {"min_answer", FM_OPT_INT, O(min_answer), "1", 0, 1e9, NULL, NULL, NULL, "characters of an answer"},
    {"max_answer", FM_OPT_INT, O(max_answer), "0", 0, 1e9, NULL, NULL, NULL, "0 = any"},
    {"blocked", FM_OPT_LIST, O(blocked), NULL, 0, 0, NULL, NULL, "WORDS", "instructions with one of these go"},
    {"price_in", FM_OPT_FLOAT, O(price_in), "0", 0, 1e6, NULL, NULL, NULL, "of a million tokens of prompts"},
    {"price_out", FM_OPT_FLOAT, O(price_out), "0", 0, 1e6, NULL, NULL, NULL, "of a million tokens of answers"},
    {"max_cost", FM_OPT_FLOAT, O(max_cost), "0", 0, 1e12, NULL, NULL, NULL, "stop before the cost is higher; 0 = any"},
    {"seed", FM_OPT_INT, O(seed), "0", 0, 9e15, NULL, NULL, NULL, "of examples and of sampling"},
    {"overwrite", FM_OPT_BOOL, O(overwrite), "false", 0, 0, NULL, NULL, NULL, "replace the output"},
    {"keep_journal", FM_OPT_BOOL, O(keep_journal), "false", 0, 0, NULL, NULL, NULL,
     "keep all answers beside the output"},
    {NULL, FM_OPT_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, NULL},
};

struct fm_synth_config {
    fm_synth_settings o;
};

const fm_option *fm_synth_options(void) {
    return option_rows;
}

fm_status fm_synth_config_new(fm_synth_config **out) {
    fm_synth_config *c = *out = fm_calloc(1, sizeof *c);
    if (!c) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    fm_status s = fm_options_init(&c->o, option_rows);
    if (s != FM_OK) {
        fm_synth_config_free(c);
        *out = NULL;
    }
    return s;
}

void fm_synth_config_free(fm_synth_config *c) {
    if (c) {
        fm_options_free(&c->o, option_rows);
        fm_free(c);
    }
}

const char *fm_synth_local_model(const fm_synth_config *c) {
    return c->o.local_model;
}

/* ---- a run ------------------------------------------------------------------------------------ */

typedef struct run {
    fm_synth s;
    fm_chat_fn chat;
    void *user;
    fm_openai *client; /* NULL: chat is the caller's */
    fm_journal *journal;
    fm_records *in;
    fm_rows_out out;
    fm_pool *pool;
    fm_synth_item item[ROUND];
    int64_t first, n_items; /* index of the round's first item */
    size_t n;               /* items of the round */
    int64_t asked[ROUND], kept[ROUND], prompt_tokens[ROUND], completion_tokens[ROUND]; /* by item: no locks */
    fm_synth_report report;
    char journal_path[4096];
} run;

static fm_status check(const fm_synth_settings *o, const fm_synth_task *task, bool chat) {
    if (task->from_rows && o->input.n == 0) {
        FM_FAIL(FM_ERR_CONFIG, "the task %s needs rows (-i FILE)", task->name);
    }
    if (!task->from_rows && o->seeds.n == 0) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "the task %s needs example tasks (--seeds FILE)",
                           task->name);
        return fm_error_hint("a few dozen rows with instruction, input and output in your own words");
    }
    if (!chat && !o->openai.endpoint) {
        FM_FAIL(FM_ERR_CONFIG, "no language model is named (--endpoint URL or --local-model DIR)");
    }
    return FM_OK;
}

/* One seed: instruction, input, output at the top, or the first of `instances`. */
static fm_status add_seed(run *r, const fm_rec *row) {
    fm_str json = {0}, example = {0};
    fm_json *doc = NULL;
    fm_rec_put_json(&json, row);
    fm_status s = fm_str_check(&json);
    s = s == FM_OK ? fm_json_parse(&doc, json.data, json.len, "seed") : s;
    if (s == FM_OK) {
        const fm_json *instances = fm_json_get(doc, "instances");
        const fm_json *from = fm_json_is_array(instances) ? fm_json_at(instances, 0) : doc;
        fm_sv instruction = fm_synth_member(doc, "instruction"), input = fm_synth_member(from, "input"),
              output = fm_synth_member(from, "output");
        if (instruction.len == 0 || output.len == 0) {
            fm_records_reject(r->in, row, "no instruction or no output");
        } else {
            fm_str_puts(&example, "{\"instruction\":");
            fm_str_json(&example, instruction.ptr, instruction.len);
            fm_str_puts(&example, ",\"input\":");
            fm_str_json(&example, input.ptr, input.len);
            fm_str_puts(&example, ",\"output\":");
            fm_str_json(&example, output.ptr, output.len);
            fm_str_putc(&example, '}');
            s = fm_str_check(&example);
            s = s == FM_OK ? fm_synth_example(&r->s, (fm_sv){example.data, example.len}, instruction) : s;
        }
    }
    fm_json_free(doc);
    fm_str_free(&json);
    fm_str_free(&example);
    return s;
}

static void on_bad(void *user, const char *file, int64_t line, const char *reason) {
    FM_UNUSED(user);
    fm_warn("%s:%lld: %s", file, (long long)line, reason);
}

static fm_status load_seeds(run *r) {
    fm_records_options ro = {.input = r->s.o->seeds, .on_bad = on_bad};
    FM_TRY(fm_records_open(&r->in, &ro));
    for (;;) {
        fm_rec *row = NULL;
        fm_bump *arena = NULL;
        FM_TRY(fm_records_next(r->in, &row, &arena));
        if (!row) {
            break;
        }
        FM_TRY(add_seed(r, row));
    }
    fm_records_close(r->in);
    r->in = NULL;
    r->s.n_seeds = r->s.n_pool;
    if (r->s.n_seeds == 0) {
        FM_FAIL(FM_ERR_DATA, "the seeds have no row with instruction and output");
    }
    return FM_OK;
}

static fm_status start(run *r) {
    const fm_synth_settings *o = r->s.o;
    FM_TRY(check(o, r->s.task, r->chat != NULL));
    const char *const file[FM_SYNTH_ASKS] = {o->prompt, o->prompt_back};
    for (int i = 0; i < FM_SYNTH_ASKS; i++) {
        size_t n = 0;
        if (file[i]) {
            FM_TRY(fm_file_read(&r->s.prompt[i], &n, file[i], 1 << 20));
        }
    }
    if (r->s.task->from_rows) {
        fm_records_options ro = {.input = o->input, .on_bad = on_bad};
        FM_TRY(fm_records_open(&r->in, &ro));
    } else {
        FM_TRY(load_seeds(r));
    }
    FM_TRY(fm_rows_out_open(&r->out, o->output, o->overwrite));
    r->s.batch = &r->out.batch;
    int k = snprintf(r->journal_path, sizeof r->journal_path, "%s.journal.jsonl", o->output);
    if (k < 0 || (size_t)k >= sizeof r->journal_path) {
        FM_FAIL(FM_ERR_ARGUMENT, "the output path is too long");
    }
    FM_TRY(fm_journal_open(&r->journal, r->journal_path));
    if (!r->chat) {
        FM_TRY(fm_openai_new(&r->client, &o->openai));
        r->chat = fm_openai_chat;
        r->user = r->client;
    }
    r->s.model = r->client ? fm_openai_model(r->client) : o->local_model ? o->local_model : "local";
    return fm_pool_new(&r->pool, (int)o->concurrency);
}

static void clear_item(fm_synth_item *it) {
    fm_str_clear(&it->text);
    fm_str_clear(&it->row);
    fm_str_clear(&it->messages);
    for (int i = 0; i < FM_SYNTH_ASKS; i++) {
        fm_free(it->answer[i]);
        it->answer[i] = NULL;
    }
    it->refused = it->answer_cut = it->cut = false;
}

/* The item's row; *more is false at the end of the input. */
static fm_status next_row(run *r, fm_synth_item *it, bool *more) {
    const fm_synth_settings *o = r->s.o;
    for (;;) {
        fm_rec *row = NULL;
        fm_bump *arena = NULL;
        FM_TRY(fm_records_next(r->in, &row, &arena));
        *more = row != NULL;
        if (!row) {
            return FM_OK;
        }
        const fm_cell *c = fm_rec_get(row, o->column);
        if (!c || c->kind != FM_CELL_TEXT || c->text.len == 0) {
            FM_TRY(fm_synth_drop(&r->s, c ? "column without text" : "missing column"));
            continue;
        }
        size_t n = 0;
        int64_t chars = 0;
        for (; n < c->text.len; n++) {
            chars += ((unsigned char)c->text.ptr[n] & 0xC0) != 0x80;
            if (chars > o->max_chars) {
                break;
            }
        }
        it->cut = n < c->text.len;
        fm_str_append(&it->text, c->text.ptr, n);
        fm_rec_put_json(&it->row, row);
        it->file = (char *)(uintptr_t)fm_records_file(r->in, fm_records_file_index(r->in));
        it->line = row->line;
        FM_TRY(fm_str_check(&it->row));
        return fm_str_check(&it->text);
    }
}

/* How many items the next round has; 0: no more. */
static size_t round_size(const run *r) {
    const fm_synth_settings *o = r->s.o;
    int64_t wanted = o->rows ? o->rows : r->s.task->from_rows ? INT64_MAX : 100, n = ROUND;
    if (r->s.n_rows >= wanted) {
        return 0;
    }
    if (!r->s.task->from_rows) {
        int64_t most = o->max_requests ? o->max_requests : 10 * (wanted / o->per_request + 1);
        n = FM_MIN(n, (wanted - r->s.n_rows + o->per_request - 1) / o->per_request);
        return (size_t)FM_MAX(FM_MIN(n, most - r->n_items), 0);
    }
    return (size_t)(o->max_requests ? FM_MAX(FM_MIN(n, o->max_requests - r->n_items), 0) : n);
}

static uint64_t request_key(const run *r, const fm_chat_ask *q) {
    char rest[96];
    int n = snprintf(rest, sizeof rest, "%.17g %.17g %lld", q->temperature, q->top_p, (long long)q->max_tokens);
    uint64_t h = fm_hash64(rest, (size_t)FM_MAX(n, 0), q->seed);
    h = fm_hash64(r->s.model, strlen(r->s.model), h);
    return fm_hash64(q->messages, q->messages_bytes, h);
}

static fm_status ask_one(run *r, size_t i, int ask, const fm_str *messages) {
    const fm_synth_settings *o = r->s.o;
    fm_synth_item *it = &r->item[i];
    fm_rng_key key = {
        .seed = (uint64_t)o->seed, .stream = fm_rng_stream("synth.sampling"), .step = (uint32_t)it->index};
    fm_chat_ask q = {.size = sizeof q,
                     .messages = messages->data,
                     .messages_bytes = messages->len,
                     .temperature = o->temperature,
                     .top_p = o->top_p,
                     .max_tokens = o->max_tokens,
                     .seed = fm_rng_u32(key, (uint64_t)ask)};
    fm_chat_answer a = {.size = sizeof a};
    uint64_t hash = request_key(r, &q);
    bool found = false;
    FM_TRY(fm_journal_find(r->journal, hash, &a, &found));
    if (!found) {
        fm_status s = r->chat(r->user, &q, &a);
        if (s == FM_ERR_DATA) {
            fm_warn("%s", fm_error_get().message);
            fm_error_clear();
        } else if (s != FM_OK) {
            return s;
        }
        r->asked[i]++;
        s = fm_journal_add(r->journal, hash, &a);
        if (s != FM_OK) {
            fm_free(a.text);
            return s;
        }
    }
    r->kept[i] += found;
    r->prompt_tokens[i] += a.prompt_tokens;
    r->completion_tokens[i] += a.completion_tokens;
    it->answer[ask] = a.text;
    it->refused = !a.text;
    it->answer_cut = it->answer_cut || a.cut;
    return FM_OK;
}

static fm_status ask_item(void *arg, int64_t part, int64_t n_parts, int thread) {
    run *r = arg;
    size_t i = (size_t)part;
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    if (fm_cancelled()) {
        FM_FAIL(FM_ERR_CANCELLED, "interrupted");
    }
    FM_TRY(ask_one(r, i, 0, &r->item[i].messages));
    for (int ask = 1; ask < r->s.task->asks && !r->item[i].refused; ask++) {
        fm_str messages = {0};
        fm_status s = r->s.task->prompt(&r->s, &r->item[i], ask, &messages);
        s = s == FM_OK ? ask_one(r, i, ask, &messages) : s;
        fm_str_free(&messages);
        FM_TRY(s);
    }
    return FM_OK;
}

static fm_status read_item(run *r, const fm_synth_item *it) {
    if (it->cut) {
        FM_TRY(fm_tally_add(&r->s.counts, "documents of which only the beginning was shown", 1));
    }
    if (it->answer_cut) {
        FM_TRY(fm_tally_add(&r->s.counts, "answers cut at max_tokens", 1));
    }
    if (it->refused && r->s.task->asks == 1) {
        return fm_synth_drop(&r->s, "refused by the server");
    }
    return r->s.task->read(&r->s, it);
}

static fm_status one_round(run *r, bool *more) {
    size_t n = round_size(r);
    *more = n > 0;
    for (r->n = 0; r->n < n && *more; r->n += *more) {
        fm_synth_item *it = &r->item[r->n];
        clear_item(it);
        it->index = r->n_items + (int64_t)r->n;
        if (r->s.task->from_rows) {
            FM_TRY(next_row(r, it, more));
        }
        if (*more) {
            FM_TRY(r->s.task->prompt(&r->s, it, 0, &it->messages));
        }
    }
    if (r->n == 0) {
        *more = false;
        return FM_OK;
    }
    memset(r->asked, 0, sizeof r->asked);
    memset(r->kept, 0, sizeof r->kept);
    memset(r->prompt_tokens, 0, sizeof r->prompt_tokens);
    memset(r->completion_tokens, 0, sizeof r->completion_tokens);
    FM_TRY(fm_pool_run_dynamic(r->pool, (int64_t)r->n, ask_item, r));
    r->n_items += (int64_t)r->n;
    for (size_t i = 0; i < r->n; i++) {
        r->report.n_asked += r->asked[i];
        r->report.n_kept_asks += r->kept[i];
        r->report.prompt_tokens += r->prompt_tokens[i];
        r->report.completion_tokens += r->completion_tokens[i];
        FM_TRY(read_item(r, &r->item[i]));
    }
    r->report.cost =
        ((double)r->report.prompt_tokens * r->s.o->price_in + (double)r->report.completion_tokens * r->s.o->price_out) /
        1e6;
    FM_TRY(fm_rows_out_flush(&r->out, 1));
    if (r->s.o->max_cost > 0 && r->report.cost > r->s.o->max_cost) {
        (void)fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "the answers cost %.4g, more than max_cost %.4g",
                           r->report.cost, r->s.o->max_cost);
        return fm_error_hint("the same command with a higher max_cost goes on from here");
    }
    return FM_OK;
}

/* ---- manifest --------------------------------------------------------------------------------- */

static fm_status fill_manifest(fm_json *doc, const run *r) {
    const fm_synth_settings *o = r->s.o;
    FM_TRY(fm_json_set(doc, "seed", fm_json_new_int(o->seed)));
    fm_json *v = fm_json_new_array();
    FM_TRY(fm_json_set(doc, "inputs", v));
    FM_TRY(fm_files_json(v, (const char *const *)o->input.item, o->input.n));
    FM_TRY(fm_files_json(v, (const char *const *)o->seeds.item, o->seeds.n));
    FM_TRY(fm_json_set(doc, "model", fm_json_new_str(r->s.model)));
    fm_json *options = fm_json_new_object();
    FM_TRY(fm_json_set(doc, "options", options));
    for (const fm_option *row = option_rows; row->key; row++) {
        fm_str text = {0};
        fm_status s = fm_option_text(&text, o, row);
        s = s == FM_OK ? fm_json_set(options, row->key, fm_json_new_strn(text.data ? text.data : "", text.len)) : s;
        fm_str_free(&text);
        FM_TRY(s);
    }
    fm_json *result = fm_json_new_object();
    FM_TRY(fm_json_set(doc, "result", result));
    FM_TRY(fm_json_set(result, "items", fm_json_new_int(r->n_items)));
    FM_TRY(fm_json_set(result, "answers", fm_json_new_int(r->report.n_asked + r->report.n_kept_asks)));
    FM_TRY(fm_json_set(result, "prompt_tokens", fm_json_new_int(r->report.prompt_tokens)));
    FM_TRY(fm_json_set(result, "completion_tokens", fm_json_new_int(r->report.completion_tokens)));
    FM_TRY(fm_json_set(result, "cost", fm_json_new_num(r->report.cost)));
    FM_TRY(fm_tallies_json(result, "reasons", &r->s.dropped));
    return fm_tallies_json(result, "counts", &r->s.counts);
}

static fm_status finish(run *r, char **manifest) {
    fm_json *doc = fm_json_new_object();
    fm_str text = {0};
    fm_status s = fill_manifest(doc, r);
    s = s == FM_OK ? fm_rows_out_finish(&r->out, doc, &text) : s;
    if (s == FM_OK && manifest) {
        *manifest = fm_str_take(&text);
    }
    if (s == FM_OK && !r->s.o->keep_journal) {
        (void)unlink(r->journal_path);
    }
    fm_str_free(&text);
    fm_json_free(doc);
    return s;
}

static fm_status go(run *r, char **manifest) {
    fm_meter meter;
    bool more = true;
    FM_TRY(start(r));
    fm_meter_start(&meter, r->s.task->name, "rows", (double)r->s.o->rows);
    while (more) {
        FM_TRY(one_round(r, &more));
        fm_meter_update(&meter, (double)r->s.n_rows, "");
    }
    fm_meter_end(&meter, (double)r->s.n_rows, "");
    return finish(r, manifest);
}

static void deinit(run *r) {
    for (size_t i = 0; i < ROUND; i++) {
        clear_item(&r->item[i]);
        fm_str_free(&r->item[i].text);
        fm_str_free(&r->item[i].row);
        fm_str_free(&r->item[i].messages);
    }
    for (size_t i = 0; i < r->s.n_pool; i++) {
        fm_str_free(&r->s.pool[i]);
    }
    fm_free(r->s.pool);
    for (int i = 0; i < FM_SYNTH_ASKS; i++) {
        fm_free(r->s.prompt[i]);
    }
    fm_synth_seen_free(&r->s.seen);
    fm_tallies_free(&r->s.dropped);
    fm_tallies_free(&r->s.counts);
    fm_pool_free(r->pool);
    fm_rows_out_close(&r->out);
    fm_records_close(r->in);
    fm_journal_close(r->journal);
    fm_openai_free(r->client);
    fm_free(r);
}

fm_status fm_synth_run(fm_synth_report *out, char **manifest_json, const fm_synth_config *c, fm_chat_fn chat,
                       void *user) {
    double started = fm_now();
    run *r = fm_calloc(1, sizeof *r);
    if (manifest_json) {
        *manifest_json = NULL;
    }
    if (!r) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a synthesis");
    }
    r->s.o = &c->o;
    r->s.task = table[c->o.task];
    r->chat = chat;
    r->user = user;
    fm_status s = go(r, manifest_json);
    r->report.size = out->size;
    r->report.n_rows = r->s.n_rows;
    r->report.n_dropped = r->s.n_dropped;
    r->report.n_retries = r->client ? fm_openai_retries(r->client) : 0;
    r->report.seconds = fm_now() - started;
    memcpy(out, &r->report, FM_MIN(out->size, sizeof r->report));
    deinit(r);
    return s;
}
