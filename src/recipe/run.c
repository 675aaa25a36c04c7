/* Which stages run, and running them.
 *
 * A stage's key is a list of parts: the program's version, command, options, arguments, and the hash of what each input
 * holds. Inputs are the arguments that name files; what an earlier stage wrote is an input like any other, so a stage
 * that was done again and gave the same is no reason to go on. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "recipe/recipe.h"
#include "track/registry.h"

typedef struct work {
    fm_recipe *r;
    const fm_recipe_options *o;
    bool *redone; /* [n] in this call (or would be, in a dry run) */
    bool forced;  /* from here on */
    fm_registry *registry;
    int64_t run_id;
} work;

/* ---- inputs ------------------------------------------------------------------------------------ */

static bool inside(const char *path, const char *folder) {
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* Hash of an input, from the record when nothing about it has changed. */
static fm_status input_hash(char out[33], const char *path, const fm_stage_record *old, fm_json *inputs) {
    char signature[33];
    FM_TRY(fm_tree_signature(signature, path));
    const fm_json *known = old->inputs ? fm_json_get(old->inputs, path) : NULL;
    const char *was = fm_json_str(fm_json_at(known, 0), NULL), *hash = fm_json_str(fm_json_at(known, 1), NULL);
    if (was && hash && strcmp(was, signature) == 0) {
        snprintf(out, 33, "%.32s", hash);
    } else {
        FM_TRY(fm_tree_hash(out, path));
    }
    fm_json *pair = fm_json_new_array();
    FM_TRY(fm_json_set(inputs, path, pair));
    FM_TRY(fm_json_append(pair, fm_json_new_str(signature)));
    return fm_json_append(pair, fm_json_new_str(out));
}

typedef struct stage_key {
    fm_stage_parts parts;
    fm_json *inputs;
    const char *waits; /* dry run: an earlier stage that will give this one's input */
} stage_key;

static fm_status add_input(work *w, const fm_stage *s, stage_key *k, const fm_stage_record *old, const char *path) {
    char name[4200], hash[33];
    if (!*path || strcmp(path, "-") == 0 || inside(path, s->output)) {
        return FM_OK;
    }
    for (size_t i = 0; i < w->r->n && &w->r->stage[i] != s; i++) {
        if (inside(path, w->r->stage[i].output) && w->redone[i] && w->o->dry_run) {
            k->waits = w->r->stage[i].name;
            return FM_OK;
        }
    }
    if (!fm_path_exists(path) || fm_json_get(k->inputs, path)) {
        return FM_OK;
    }
    FM_TRY(input_hash(hash, path, old, k->inputs));
    snprintf(name, sizeof name, "input %s", path);
    return fm_parts_add(&k->parts, name, hash);
}

static fm_status make_key(work *w, const fm_stage *s, stage_key *k, const fm_stage_record *old) {
    char name[300];
    k->inputs = fm_json_new_object();
    if (!k->inputs) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a recipe");
    }
    FM_TRY(fm_parts_add(&k->parts, "program", FATHOM_VERSION));
    FM_TRY(fm_parts_add(&k->parts, "command", s->command));
    FM_TRY(fm_parts_add(&k->parts, "output", s->output));
    for (size_t i = 0; i < s->args.n; i++) {
        snprintf(name, sizeof name, "argument %zu", i + 1);
        FM_TRY(fm_parts_add(&k->parts, name, s->args.item[i]));
    }
    for (size_t i = 0; i < s->key.n; i++) {
        size_t same = 0;
        for (size_t j = 0; j < i; j++) {
            same += strcmp(s->key.item[j], s->key.item[i]) == 0;
        }
        snprintf(name, sizeof name, same ? "%.250s[%zu]" : "%.250s", s->key.item[i], same + 1);
        FM_TRY(fm_parts_add(&k->parts, name, s->value.item[i]));
    }
    const fm_texts_list *lists[] = {&s->args, &s->value, &s->input};
    for (size_t l = 0; l < FM_ARRAY_LEN(lists); l++) {
        for (size_t i = 0; i < lists[l]->n; i++) {
            FM_TRY(add_input(w, s, k, old, lists[l]->item[i]));
        }
    }
    return FM_OK;
}

static void key_deinit(stage_key *k) {
    fm_parts_free(&k->parts);
    fm_json_free(k->inputs);
}

/* ---- why --------------------------------------------------------------------------------------- */

static const char *part(const fm_stage_parts *p, const char *name) {
    for (size_t i = 0; i < p->name.n; i++) {
        if (strcmp(p->name.item[i], name) == 0) {
            return p->value.item[i];
        }
    }
    return NULL;
}

/* One difference in words. */
static void tell(fm_str *why, int *n, const char *name, const char *was, const char *is) {
    if (++*n > 4) {
        return;
    }
    fm_str_puts(why, *n > 1 ? "; " : "");
    if (strncmp(name, "input ", 6) == 0) {
        fm_str_printf(why, "%s %s", name + 6, was && is ? "has changed" : is ? "is read now" : "is read no more");
    } else if (was && is) {
        fm_str_printf(why, "%s: %.80s -> %.80s", name, was, is);
    } else {
        fm_str_printf(why, "%s: %.80s %s", name, is ? is : was, is ? "is new" : "is gone");
    }
}

static int differences(fm_str *why, const fm_stage_parts *was, const fm_stage_parts *is) {
    int n = 0;
    for (size_t i = 0; i < is->name.n; i++) {
        const char *old = part(was, is->name.item[i]);
        if (!old || strcmp(old, is->value.item[i]) != 0) {
            tell(why, &n, is->name.item[i], old, is->value.item[i]);
        }
    }
    for (size_t i = 0; i < was->name.n; i++) {
        if (!part(is, was->name.item[i])) {
            tell(why, &n, was->name.item[i], was->value.item[i], NULL);
        }
    }
    if (n > 4) {
        fm_str_printf(why, "; and %d more", n - 4);
    }
    return n;
}

/* Empty when the stage can be kept. *same: its key is what it was (an interrupted stage goes on). */
static fm_status reason(const work *w, const fm_stage *s, const stage_key *k, const fm_stage_record *old, fm_str *why,
                        bool *same) {
    char signature[33];
    *same = old->found && differences(why, &old->parts, &k->parts) == 0;
    if (!old->found) {
        fm_str_clear(why);
        fm_str_puts(why, "not done yet");
    } else if (*same && !old->done) {
        fm_str_puts(why, "it was not finished");
    } else if (*same) {
        FM_TRY(fm_tree_signature(signature, s->output));
        if (!signature[0]) {
            fm_str_printf(why, "%s is missing", s->output);
        } else if (strcmp(signature, old->signature) != 0) {
            fm_str_printf(why, "%s was changed by others", s->output);
        }
    }
    if (w->forced && why->len == 0) {
        fm_str_puts(why, "asked for");
    }
    return fm_str_check(why);
}

/* ---- running ----------------------------------------------------------------------------------- */

static fm_status word(fm_texts_list *l, const char *text) {
    return fm_list_add(l, text, strlen(text));
}

/* Arguments of the program for a stage, ended by NULL. */
static fm_status arguments(fm_texts_list *argv, const fm_stage *s, bool resume, bool *printed) {
    const char *key, *space = strchr(s->command, ' ');
    fm_stage_output where = fm_stage_output_of(s->command, &key);
    *printed = where == FM_OUT_STDOUT && !s->names_output;
    FM_TRY(fm_list_add(argv, s->command, space ? (size_t)(space - s->command) : strlen(s->command)));
    FM_TRY(space ? word(argv, space + 1) : FM_OK);
    for (size_t i = 0; i < s->args.n; i++) {
        FM_TRY(word(argv, s->args.item[i]));
    }
    fm_str t = {0};
    fm_status st = FM_OK;
    for (size_t i = 0; i < s->key.n && st == FM_OK; i++) {
        fm_str_clear(&t);
        fm_str_printf(&t, "--%s=%s", s->key.item[i], s->value.item[i]);
        st = fm_str_check(&t);
        st = st == FM_OK ? word(argv, t.data) : st;
    }
    if (st == FM_OK && where == FM_OUT_OPTION && !s->names_output) {
        fm_str_clear(&t);
        fm_str_printf(&t, "--%s=%s", key, s->output);
        st = fm_str_check(&t);
        st = st == FM_OK ? word(argv, t.data) : st;
    } else if (st == FM_OK && where == FM_OUT_LAST && !s->names_output) {
        st = word(argv, s->output);
    } else if (st == FM_OK && *printed) {
        st = word(argv, "--json");
    }
    fm_str_free(&t);
    FM_TRY(st);
    FM_TRY(resume ? word(argv, "--resume") : FM_OK);
    FM_TRY(fm_grow((void **)&argv->item, &argv->cap, argv->n + 1, sizeof *argv->item));
    argv->item[argv->n] = NULL;
    return FM_OK;
}

/* A result that is to be made anew is kept aside once: NAME.previous. */
static fm_status set_aside(const char *output) {
    char old[4096];
    if (!fm_path_exists(output)) {
        return FM_OK;
    }
    if (snprintf(old, sizeof old, "%s.previous", output) >= (int)sizeof old) {
        FM_FAIL(FM_ERR_ARGUMENT, "the path %s is too long", output);
    }
    FM_TRY(fm_remove_tree(old));
    return fm_rename_dir(output, old);
}

static fm_status execute(work *w, const fm_stage *s, bool resume, int *exit_code) {
    fm_texts_list argv = {0};
    char part_path[4200];
    bool printed;
    fm_status st = arguments(&argv, s, resume, &printed);
    char *slash = strrchr(s->output, '/');
    if (st == FM_OK && slash && slash != s->output) {
        *slash = '\0';
        st = fm_mkdirs(s->output);
        *slash = '/';
    }
    snprintf(part_path, sizeof part_path, "%s.tmp", s->output);
    st = st == FM_OK ? w->o->exec(w->o->user, argv.item, printed ? part_path : NULL, exit_code) : st;
    if (st == FM_OK && printed && *exit_code == 0 && rename(part_path, s->output) != 0) {
        st = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write %s", s->output);
    }
    fm_list_free(&argv);
    return st;
}

static void report(const work *w, size_t i, fm_stage_state state, const char *why, double seconds, int exit_code) {
    const fm_stage *s = &w->r->stage[i];
    if (w->o->on_stage) {
        w->o->on_stage(w->o->user, &(fm_stage_event){.name = s->name,
                                                     .command = s->command,
                                                     .output = s->output,
                                                     .index = (int)i,
                                                     .n_stages = (int)w->r->n,
                                                     .state = state,
                                                     .why = why,
                                                     .seconds = seconds,
                                                     .exit_code = exit_code});
    }
}

/* The stage's command, from the record that says it began to the one that says it is done. */
static fm_status perform(work *w, size_t i, stage_key *k, bool same, int *exit_code) {
    const fm_stage *s = &w->r->stage[i];
    /* A training that was interrupted goes on from its checkpoint; everything else begins anew. */
    bool resume = same && strcmp(s->command, "train") == 0 && fm_path_is_dir(s->output);
    fm_stage_record now = {.found = true, .parts = k->parts, .inputs = k->inputs};
    FM_TRY(resume ? FM_OK : set_aside(s->output));
    FM_TRY(fm_record_save(&now, w->r, s));
    double begin = fm_now();
    FM_TRY(execute(w, s, resume, exit_code));
    now.seconds = fm_now() - begin;
    if (*exit_code != 0) {
        report(w, i, FM_STAGE_FAILED, "", now.seconds, *exit_code);
        if (*exit_code == 130 || *exit_code == 143) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted in stage %s; the same command goes on there", s->name);
        }
        (void)fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "stage %s (%s) ended with %d", s->name, s->command,
                           *exit_code);
        return fm_error_hint("its message is above; the same command again goes on with this stage");
    }
    FM_TRY(fm_tree_hash(now.output_hash, s->output));
    FM_TRY(fm_tree_signature(now.signature, s->output));
    if (!now.signature[0]) {
        (void)fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "stage %s (%s) did not make %s", s->name, s->command,
                           s->output);
        return fm_error_hint("${out} in its options says where its output goes, `output:` how it is called");
    }
    now.done = true;
    FM_TRY(fm_record_save(&now, w->r, s));
    report(w, i, FM_STAGE_DONE, "", now.seconds, 0);
    char name[300];
    snprintf(name, sizeof name, "%.250s.seconds", s->name);
    FM_TRY(fm_run_figure(w->registry, w->run_id, name, now.seconds, (double)NAN, (double)NAN, NULL));
    return fm_run_file(w->registry, w->run_id, true, s->name, s->output, now.output_hash);
}

static fm_status one_stage(work *w, size_t i, int *exit_code) {
    const fm_stage *s = &w->r->stage[i];
    fm_stage_record old;
    stage_key k = {0};
    fm_str why = {0};
    bool same = false;
    FM_TRY(fm_record_load(&old, w->r, s));
    fm_status st = make_key(w, s, &k, &old);
    if (st == FM_OK && k.waits && old.done) {
        if (w->forced) {
            fm_str_puts(&why, "asked for");
        } else {
            fm_str_printf(&why, "it reads what stage %s will give", k.waits);
        }
        st = fm_str_check(&why);
        if (st == FM_OK) {
            report(w, i, w->forced ? FM_STAGE_STARTS : FM_STAGE_MAYBE, why.data, old.seconds, 0);
            w->redone[i] = true;
        }
        goto done;
    }
    st = st == FM_OK ? reason(w, s, &k, &old, &why, &same) : st;
    if (st != FM_OK) {
        goto done;
    }
    if (why.len == 0) {
        report(w, i, FM_STAGE_KEPT, "", old.seconds, 0);
        goto done;
    }
    w->redone[i] = true;
    report(w, i, FM_STAGE_STARTS, why.data, 0, 0);
    st = w->o->dry_run ? FM_OK : perform(w, i, &k, same && !old.done, exit_code);
done:
    fm_record_deinit(&old);
    key_deinit(&k);
    fm_str_free(&why);
    return st;
}

static bool among(const fm_recipe_options *o, const char *name) {
    for (int i = 0; i < o->n_only; i++) {
        if (strcmp(o->only[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status known_stage(const fm_recipe *r, const char *name) {
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->stage[i].name, name) == 0) {
            return FM_OK;
        }
    }
    (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "the recipe has no stage \"%s\"", name);
    return fm_error_hint("--dry-run lists the stages of %s", r->path);
}

static fm_status run_stages(work *w, int *exit_code) {
    const fm_recipe_options *o = w->o;
    for (size_t i = 0; i < w->r->n; i++) {
        const char *name = w->r->stage[i].name;
        if (o->n_only > 0 && !among(o, name)) {
            report(w, i, FM_STAGE_LEFT_OUT, "", 0, 0);
            continue;
        }
        w->forced = w->forced || o->n_only > 0 || (o->from && strcmp(o->from, name) == 0);
        FM_TRY(one_stage(w, i, exit_code));
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted after stage %s; the same command goes on", name);
        }
    }
    return FM_OK;
}

fm_status fm_recipe_run(fm_recipe *r, const fm_recipe_options *o, int *exit_code) {
    int own;
    work w = {.r = r, .o = o};
    exit_code = exit_code ? exit_code : &own;
    *exit_code = 0;
    if (o->size != sizeof *o || (!o->exec && !o->dry_run)) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_recipe_options: expected size %zu and a way to run commands", sizeof *o);
    }
    FM_TRY(o->from ? known_stage(r, o->from) : FM_OK);
    for (int i = 0; i < o->n_only; i++) {
        FM_TRY(known_stage(r, o->only[i]));
    }
    w.redone = fm_calloc(r->n, sizeof *w.redone);
    if (!w.redone) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a recipe");
    }
    if (!o->dry_run) {
        fm_status st = fm_registry_open(&w.registry, NULL, true);
        st = st == FM_OK
                 ? fm_run_begin(w.registry, &(fm_run_start){r->name, "run", r->text, r->output_dir, 0}, &w.run_id)
                 : st;
        if (st != FM_OK) { /* a recipe runs without it */
            fm_warn("the registry of runs was not written: %s", fm_error_get().message);
            fm_registry_close(w.registry);
            w.registry = NULL;
        }
    }
    fm_status st = run_stages(&w, exit_code);
    if (w.registry) {
        fm_error_record first;
        fm_error_save(&first);
        const char *end = st == FM_OK ? "done" : st == FM_ERR_CANCELLED ? "interrupted" : "failed";
        if (fm_run_end(w.registry, w.run_id, end) != FM_OK) {
            fm_warn("the registry of runs was not brought up to date: %s", fm_error_get().message);
        }
        fm_error_restore(&first);
        fm_registry_close(w.registry);
    }
    fm_free(w.redone);
    return st;
}
