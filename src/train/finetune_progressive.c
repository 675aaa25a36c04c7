/* A new column beside a model that stays as it is (Rusu et al. 2016, model/columns.h). */
#include <string.h>

#include "data/tasks.h"
#include "model/columns.h"
#include "model/gguf.h"
#include "train/finetune.h"

/* Weights are written in the compute type: in another one than theirs the earlier columns would be rounded. */
static fm_status choose(fm_train_choice *choice, const fm_train_config *c) {
    fm_model *m;
    fm_dtype type = FM_F32;
    if (!c->model_name_or_path || c->train_from_scratch) {
        return FM_OK; /* a plan for a size */
    }
    if (fm_gguf_is_file(c->model_name_or_path)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "finetuning_type progressive: %s is a GGUF file; convert it to a folder first",
                c->model_name_or_path);
    }
    FM_TRY(fm_model_load_as(&m, c->model_name_or_path, FM_LOAD_KEEP, FM_F32));
    int64_t all = 0, narrow = m->stored_bytes[FM_BF16], wide = m->stored_bytes[FM_F32];
    for (int d = 0; d < FM_DTYPE_COUNT; d++) {
        all += m->stored_bytes[d];
    }
    fm_model_close(m);
    type = narrow == all ? FM_BF16 : FM_F32;
    bool by_itself = c->precision == FM_PRECISION_AUTO && !c->bf16 && !c->fp16;
    if ((narrow != all && wide != all) || (!by_itself && choice->compute != type)) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                           "finetuning_type progressive keeps the weights of %s, which are %s; in %s they would be "
                           "rounded",
                           c->model_name_or_path,
                           narrow == all ? "bf16"
                           : wide == all ? "f32"
                                         : "of several types",
                           fm_dtype_get(choice->compute)->name);
        return narrow == all || wide == all
                   ? fm_error_hint("leave precision out, or precision=%s", type == FM_BF16 ? "bf16" : "fp32")
                   : fm_error_hint("give them one type first: fathom convert MODEL OUT --dtype f32");
    }
    choice->compute = type;
    return FM_OK;
}

static fm_status reshape(fm_model_config *mc, const fm_train_config *c) {
    fm_task_spec spec[FM_MAX_TASKS];
    int n = 0;
    const fm_objective *o = fm_objective_find(c->stage ? c->stage : "");
    if (o && o->configure && !o->several) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                           "stage %s replaces the head that the earlier columns answer with", o->name);
        return fm_error_hint("stage=multi tasks=NAME=%s puts a head beside it", o->name);
    }
    FM_TRY(o && o->several ? fm_task_specs_parse(spec, &n, &c->tasks) : FM_OK);
    for (int i = 0; i < n; i++) {
        for (int32_t k = 0; k < mc->n_more_heads; k++) {
            if (strcmp(mc->more_heads[k].name, spec[i].name) == 0) {
                FM_FAIL(FM_ERR_CONFIG,
                        "tasks: the model has a head %s already, which an earlier column answers with: "
                        "give the new task another name",
                        spec[i].name);
            }
        }
    }
    return fm_columns_add(mc, (int32_t)c->progressive_width, (int32_t)c->progressive_layers,
                          (int32_t)c->progressive_lateral);
}

static bool of_task(const fm_param *p, const fm_task_spec *spec, int n) {
    for (int i = 0; i < n; i++) {
        size_t len = strlen(spec[i].name);
        if (strncmp(p->name, "heads.", 6) == 0 && strncmp(p->name + 6, spec[i].name, len) == 0 &&
            p->name[6 + len] == '.') {
            return true;
        }
    }
    return false;
}

static fm_status prepare(fm_model *m, const fm_train_config *c) {
    fm_task_spec spec[FM_MAX_TASKS];
    int n = 0;
    FM_TRY(c->tasks.n > 0 ? fm_task_specs_parse(spec, &n, &c->tasks) : FM_OK);
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        p->frozen = !fm_is_column_param(p, m->cfg.n_columns) && !of_task(p, spec, n) && p != m->log_vars;
    }
    return FM_OK;
}

extern const fm_finetune fm_finetune_progressive;
const fm_finetune fm_finetune_progressive = {.name = "progressive",
                                             .help = "a new column; the others stay as they are",
                                             .needs_model = true,
                                             .rate = 5e-4,
                                             .reshape = reshape,
                                             .choose = choose,
                                             .prepare = prepare};
