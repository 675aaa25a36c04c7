/* Synthetic rows: a task turns items (rows of the input, or just numbers) into requests to a language model and the
 * answers into rows. One file per task, one row in synth_tasks.def.
 *
 * Items go in rounds: requests of a round are made from what was kept before it, sent by several threads at once, and
 * their answers read in order. So the rows depend on the input, the options, the seed and the answers, and not on which
 * answer came first. */
#ifndef FM_DATA_SYNTH_H
#define FM_DATA_SYNTH_H

#include "base/json.h"
#include "base/rng.h"
#include "data/rec.h"
#include "fathom/synth.h"
#include "net/openai.h"

#define FM_SYNTH_ASKS 2

typedef struct fm_synth_settings {
    fm_openai_options openai; /* first member: its rows have offsets in it */
    fm_strlist input, seeds, blocked;
    char *output, *local_model, *column, *language, *via, *prompt, *prompt_back;
    int task;
    int64_t rows, per_request, turns, max_chars, concurrency, max_requests, seed, max_tokens, min_instruction,
        max_instruction, min_answer, max_answer;
    double temperature, top_p, max_similarity, price_in, price_out, max_cost;
    bool overwrite, keep_journal;
} fm_synth_settings;

/* One thing to ask about. */
typedef struct fm_synth_item {
    int64_t index;
    fm_str text, row; /* of the input: the column, and the whole row as JSON */
    char *file;       /* borrowed */
    int64_t line;
    bool cut;                    /* the text is the beginning of a longer one */
    fm_str messages;             /* of the first request */
    char *answer[FM_SYNTH_ASKS]; /* NULL: not asked, or refused */
    bool refused, answer_cut;
} fm_synth_item;

typedef struct fm_synth fm_synth;

typedef struct fm_synth_task {
    const char *name, *help;
    bool from_rows; /* items are rows of the input; else they go on until enough rows are there */
    int asks;       /* requests of one item, one after the other */
    /* Appends the JSON list of messages of the ask-th request. Those after the first are made by several threads. */
    fm_status (*prompt)(const fm_synth *s, const fm_synth_item *it, int ask, fm_str *messages);
    /* Rows out of the answers: fm_synth_chat_row, fm_synth_row, fm_synth_drop. */
    fm_status (*read)(fm_synth *s, const fm_synth_item *it);
} fm_synth_task;

/* Instructions seen so far, as tokens. */
typedef struct fm_synth_seen {
    uint32_t *token;
    size_t n, cap;
    size_t *first; /* [n_texts + 1] */
    size_t n_texts, first_cap;
    uint64_t *hash; /* open addressing over whole rows; 0 = empty */
    size_t n_hashes, hash_cap;
    uint32_t *room;
    size_t room_cap;
} fm_synth_seen;

struct fm_synth {
    const fm_synth_settings *o;
    const fm_synth_task *task;
    const char *model;
    char *prompt[FM_SYNTH_ASKS]; /* the user's own, or NULL */
    fm_str *pool;                /* examples for prompts: JSON objects; first the seeds, then what was made */
    size_t n_pool, n_seeds, pool_cap;
    fm_synth_seen seen;
    fm_recs *batch; /* rows of the round */
    fm_tallies dropped, counts;
    int64_t n_rows, n_dropped;
};

/* Appends [{"role":"user","content":...}] of a template in which {name} stands for a value: pairs name, value, ...,
 * NULL. Other braces stay. */
FM_MUST_CHECK fm_status fm_synth_fill(fm_str *messages, const char *template_, const char *const *pairs);
/* The answer without what a reasoning model thought (<think>...</think>) and blanks around it. */
fm_sv fm_synth_answer(const char *text);
/* Calls fn with each JSON object in the answer, whatever is around them; objects in lists inside of objects that have
 * not the member `key` too. Stops at the first status that is not FM_OK. */
FM_MUST_CHECK fm_status fm_synth_objects(fm_sv answer, const char *key,
                                         fm_status (*fn)(void *arg, const fm_json *object), void *arg);
/* A text member without blanks around it; empty when it is missing or no text. */
fm_sv fm_synth_member(const fm_json *object, const char *key);

/* A conversation becomes a row when it passes the filters: length, words, likeness to earlier ones. messages: JSON
 * list. *kept may be NULL. */
FM_MUST_CHECK fm_status fm_synth_chat_row(fm_synth *s, const fm_synth_item *it, fm_sv messages, fm_sv instruction,
                                          fm_sv answer, bool *kept);
/* A row as it is (a JSON object), with one column replaced when text is not NULL. */
FM_MUST_CHECK fm_status fm_synth_row(fm_synth *s, const fm_synth_item *it, const char *column, const fm_sv *text);
FM_MUST_CHECK fm_status fm_synth_drop(fm_synth *s, const char *reason);
/* Adds an example to the pool, and its instruction to what was seen. */
FM_MUST_CHECK fm_status fm_synth_example(fm_synth *s, fm_sv json, fm_sv instruction);

/* synth_filter.c */
FM_MUST_CHECK fm_status fm_synth_seen_add(fm_synth_seen *s, fm_sv text);
/* Highest ROUGE-L F (words in lower case; characters of scripts without blanks) against all texts seen; those below
 * `enough` may be passed over. */
FM_MUST_CHECK fm_status fm_synth_seen_likeness(double *out, fm_synth_seen *s, fm_sv text, double enough);
/* *again: the hash was there. */
FM_MUST_CHECK fm_status fm_synth_seen_hash(fm_synth_seen *s, uint64_t hash, bool *again);
void fm_synth_seen_free(fm_synth_seen *s);

/* synth_journal.c: answers by request, beside the output until it is complete. */
typedef struct fm_journal fm_journal;
FM_MUST_CHECK fm_status fm_journal_open(fm_journal **out, const char *path);
void fm_journal_close(fm_journal *j);
/* *found says whether there is one. Any thread. answer->text NULL: the server refused. */
FM_MUST_CHECK fm_status fm_journal_find(fm_journal *j, uint64_t key, fm_chat_answer *answer, bool *found);
FM_MUST_CHECK fm_status fm_journal_add(fm_journal *j, uint64_t key, const fm_chat_answer *answer);

#endif
