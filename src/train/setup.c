/* From a configuration to a run that can take its first step. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/ceiling.h"
#include "backend/cpu/cpu.h"
#include "data/packing.h"
#include "base/file.h"
#include "base/log.h"
#include "model/gguf.h"
#include "train/continual.h"
#include "train/finetune.h"
#include "train/run.h"
#include "train/tasks.h"
#include "train/weights.h"

/* ---- model ----------------------------------------------------------------------------------- */

static fm_status model_config(fm_trainer *r, fm_model_config *mc, int32_t data_vocab) {
    const fm_train_config *c = r->cfg;
    r->from_scratch = c->train_from_scratch || !c->model_name_or_path;
    int32_t vocab = c->vocab_size > 0 ? (int32_t)c->vocab_size : data_vocab;
    if (c->model_name_or_path) {
        const fm_family *family;
        FM_TRY(fm_model_config_load(mc, &family, c->model_name_or_path));
        if (c->train_from_scratch && vocab > 0) {
            mc->vocab_size = vocab;
        }
        if (!r->from_scratch && c->mtp_loss_weight == 0 && fm_model_stored_mtp(mc, c->model_name_or_path) == 0) {
            mc->n_mtp = 0;
        }
    } else if (c->preset) {
        FM_TRY(fm_model_config_from_preset(mc, c->preset, vocab));
    } else {
        FM_TRY(fm_model_config_from_params(mc, c->params, vocab > 0 ? vocab : 32000));
    }
    bool own_shape = c->positions != FM_POS_ROPE || c->attention_pattern || c->sliding_window > 0;
    if (own_shape && !r->from_scratch) {
        FM_FAIL(FM_ERR_CONFIG,
                "positions, attention_pattern and sliding_window are of a model from scratch: %s has its own",
                c->model_name_or_path);
    }
    if (own_shape) {
        FM_TRY(
            fm_model_config_reshape(mc, (fm_positions)c->positions, c->attention_pattern, (int32_t)c->sliding_window));
    }
    if (r->from_scratch && r->tokenizer[0]) {
        fm_tokenizer *t;
        FM_TRY(fm_tokenizer_open(&t, r->tokenizer));
        mc->bos_id = fm_tokenizer_bos(t);
        mc->eos_id = fm_tokenizer_eos(t);
        mc->pad_id = fm_tokenizer_pad(t);
        fm_tokenizer_free(t);
    }
    if (mc->vocab_size < data_vocab) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "the model has %d token ids, the data was packed with %d",
                     mc->vocab_size, data_vocab);
        return fm_error_hint("pack the data with the model's own tokenizer");
    }
    if (mc->max_position < c->cutoff_len) {
        if (r->from_scratch) {
            mc->max_position = c->cutoff_len;
        } else if (mc->positions == FM_POS_LEARNED) {
            FM_FAIL(FM_ERR_CONFIG, "cutoff_len %lld: the model has a table of %lld positions", (long long)c->cutoff_len,
                    (long long)mc->max_position);
        } else {
            fm_warn("cutoff_len %lld is longer than the model's context of %lld", (long long)c->cutoff_len,
                    (long long)mc->max_position);
        }
    }
    if (r->choice.finetune->reshape) {
        FM_TRY(r->choice.finetune->reshape(mc, c));
    } else if (mc->n_columns > 0) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                           "%s has %d progressive columns, which stay as they are: finetuning_type %s cannot train it",
                           c->model_name_or_path, (int)mc->n_columns + 1, r->choice.finetune->name);
        return fm_error_hint("finetuning_type=progressive adds a column");
    }
    if (r->choice.objective->configure) {
        FM_TRY(r->choice.objective->configure(mc, r->data ? fm_dataset_json(r->data) : NULL));
    }
    if (r->choice.objective->several) {
        mc->n_log_vars = fm_tasks_uncertain(&c->task_weights) ? (int32_t)c->tasks.n : 0;
    }
    double hidden = c->hidden_dropout > 0 ? c->hidden_dropout : c->dropout;
    double attention = c->attention_dropout > 0 ? c->attention_dropout : c->dropout;
    mc->hidden_dropout = hidden;
    mc->attention_dropout = attention;
    mc->embedding_dropout = c->embedding_dropout;
    mc->neftune_alpha = c->neftune_noise_alpha;
    mc->mtp_weight = c->mtp_loss_weight;
    mc->moe.aux_alpha = c->router_aux_loss_coef >= 0 ? c->router_aux_loss_coef : mc->moe.aux_alpha;
    mc->moe.bias_rate = c->moe_bias_update_rate >= 0 ? c->moe_bias_update_rate : r->from_scratch ? 0.001 : 0;
    return FM_OK;
}

/* The names of the labels go into config.json, in the order of the ids. */
static fm_status keep_labels(fm_trainer *r) {
    const fm_json *labels = r->data ? fm_json_get(fm_dataset_json(r->data), "labels") : NULL;
    size_t n = fm_json_size(labels);
    if (r->choice.objective->several) {
        return fm_tasks_keep_labels(r->model, r->data ? fm_dataset_json(r->data) : NULL);
    }
    if (!r->choice.objective->configure || n == 0) {
        return FM_OK;
    }
    fm_model *m = r->model;
    m->json = m->json ? m->json : fm_json_new_object();
    FM_TRY(fm_json_set(m->json, "id2label", fm_json_new_object()));
    FM_TRY(fm_json_set(m->json, "label2id", fm_json_new_object()));
    for (size_t i = 0; i < n; i++) {
        size_t len = 0;
        char id[24];
        const char *name = fm_json_str(fm_json_at(labels, i), &len);
        if (!name) {
            FM_FAIL(FM_ERR_FORMAT, "%s: label %zu is no text", fm_dataset_dir(r->data), i);
        }
        snprintf(id, sizeof id, "%zu", i);
        FM_TRY(fm_json_set(fm_json_get(m->json, "id2label"), id, fm_json_new_strn(name, len)));
        FM_TRY(fm_json_set(fm_json_get(m->json, "label2id"), name, fm_json_new_int((int64_t)i)));
    }
    return FM_OK;
}

/* Most segments that a window of the data has. */
static int32_t max_segments(const fm_trainer *r) {
    int64_t n = 0;
    const fm_sampler *both[] = {&r->sampler, &r->eval_sampler};
    for (size_t i = 0; i < FM_ARRAY_LEN(both); i++) {
        const fm_packing *p = both[i]->packing;
        for (int64_t w = 0; p && w < p->n_windows; w++) {
            n = FM_MAX(n, p->begin[w + 1] - p->begin[w] + 1);
        }
    }
    return (int32_t)n;
}

fm_status fm_trainer_describe(fm_trainer *r, int32_t data_vocab) {
    const fm_train_config *c = r->cfg;
    fm_model_config mc;
    FM_TRY(r->choice.finetune->choose ? r->choice.finetune->choose(&r->choice, c) : FM_OK);
    FM_TRY(model_config(r, &mc, data_vocab));
    FM_TRY(fm_model_build(&r->model, &mc));
    if (c->model_name_or_path && !c->train_from_scratch && fm_gguf_is_file(c->model_name_or_path)) {
        fm_model_config same;
        const fm_family *family;
        FM_TRY(fm_gguf_config_load(&same, &family, &r->model->json, c->model_name_or_path));
    } else if (c->model_name_or_path && !c->train_from_scratch) {
        char path[4096];
        FM_TRY(fm_path_join(path, sizeof path, c->model_name_or_path, "config.json"));
        FM_TRY(fm_json_load(&r->model->json, path)); /* keys we do not know are written back */
    }
    FM_TRY(keep_labels(r));
    FM_TRY(r->choice.finetune->prepare(r->model, c));
    r->params = fm_trained_params(r->model);
    int64_t n = fm_params_numel(r->model->params);
    double own = r->from_scratch ? 0 : r->choice.objective->rate;
    double rate = r->choice.finetune->rate > 0 ? r->choice.finetune->rate
                  : own > 0                    ? own
                                               : fm_train_default_rate(n, r->from_scratch);
    r->learning_rate = c->learning_rate > 0 ? c->learning_rate : rate;
    r->optim_options = (fm_optim_options){.beta1 = c->adam_beta1,
                                          .beta2 = c->adam_beta2,
                                          .epsilon = c->adam_epsilon,
                                          .momentum = c->sgd_momentum,
                                          .nesterov = c->sgd_nesterov,
                                          .muon_momentum = c->muon_momentum,
                                          .weight_decay = c->weight_decay,
                                          .l1 = c->l1,
                                          .l2 = c->l2};
    int64_t limit =
        c->max_memory > 0 ? c->max_memory : (int64_t)(0.95 * (double)(fm_mem_available() + fm_mem_rss_anon()));
    r->plan_input = (fm_plan_input){.model = r->model,
                                    .objective = r->choice.objective,
                                    .optimizer = r->choice.optimizer,
                                    .optim = &r->optim_options,
                                    .compute = r->choice.compute,
                                    .mlm_probability = c->mlm_probability,
                                    .dataset = r->data ? fm_dataset_json(r->data) : NULL,
                                    .task_weights = &c->task_weights,
                                    .seq_len = r->seq_len,
                                    .vocab = data_vocab > 0 ? data_vocab : mc.vocab_size,
                                    .max_segments = max_segments(r),
                                    .batch = c->per_device_train_batch_size,
                                    .accumulation = c->gradient_accumulation_steps,
                                    .gradient_checkpointing = c->gradient_checkpointing,
                                    .limit = limit,
                                    .threads = fm_pool_threads(r->pool),
                                    .evaluates = true,
                                    .offload = c->optimizer_offload,
                                    .averages = c->ema_decay > 0};
    return FM_OK;
}

fm_status fm_trainer_states_path(const fm_trainer *r, char *buf, size_t cap) {
    char dir[4096];
    FM_TRY(fm_path_join(dir, sizeof dir, r->cfg->output_dir, "cache"));
    FM_TRY(fm_mkdirs(dir));
    return fm_path_join(buf, cap, dir, "optimizer.states");
}

fm_status fm_trainer_alloc(fm_trainer *r) {
    fm_params *ps = r->params, *base = r->model->params;
    FM_TRY(fm_params_alloc_mixed(base, FM_F32, r->choice.compute));
    if (ps != base) {
        FM_TRY(fm_params_alloc(ps, FM_F32));
    }
    if (r->choice.compute != FM_F32) {
        FM_TRY(fm_params_alloc_copies(base, r->choice.compute));
        FM_TRY(ps != base ? fm_params_alloc_copies(ps, r->choice.compute) : FM_OK);
    }
    FM_TRY(fm_params_alloc_grads(ps));
    FM_TRY(fm_layer_norms_init(&r->layers, ps));
    FM_TRY(fm_ema_init(&r->ema, ps, r->cfg->ema_decay));
    if (!r->plan.offload || !r->cfg->output_dir) {
        return fm_optim_init(&r->optim, r->choice.optimizer, &r->optim_options, ps);
    }
    char path[4096];
    FM_TRY(fm_trainer_states_path(r, path, sizeof path));
    return fm_optim_init_on_disk(&r->optim, r->choice.optimizer, &r->optim_options, ps, path);
}

fm_status fm_trainer_make_ctx(fm_trainer *r) {
    fm_ctx_free(r->ctx);
    r->ctx = NULL;
    r->model->checkpoint_layers = r->plan.recompute;
    fm_ctx_options co = {.size = sizeof co,
                         .backend = r->backend,
                         .pool = r->pool,
                         .compute = r->choice.compute,
                         .arena_bytes = FM_MAX(FM_MAX(r->plan.arena_bytes, r->more_arena), 64),
                         .grad_bytes = FM_MAX(FM_MAX(r->plan.act_grad_bytes, r->more_grads), 64),
                         .seed = (uint64_t)r->cfg->seed};
    return fm_ctx_new(&r->ctx, &co);
}

/* What the frozen weights are held in, when that is not the compute type. */
static void tell_base(const fm_trainer *r) {
    int n = 0;
    int64_t bytes = 0, plain = 0;
    fm_dtype type = FM_F32;
    for (int i = 0; i < fm_params_count(r->model->params); i++) {
        const fm_param *p = fm_params_at(r->model->params, i);
        if (p->own_dtype) {
            type = p->dtype;
            n++;
            bytes += fm_param_bytes(p, p->dtype);
            plain += fm_dtype_bytes(r->choice.compute, p->numel);
        }
    }
    if (n > 0) {
        char a[32], b[32];
        fm_info("base: %d linear weights held in %s, %s in the place of %s in %s", n,
                r->cfg->quantization_type && strcmp(r->cfg->quantization_type, "stored") == 0
                    ? "their stored types"
                    : fm_dtype_get(type)->name,
                fm_format_bytes(a, sizeof a, (double)bytes), fm_format_bytes(b, sizeof b, (double)plain),
                fm_dtype_get(r->choice.compute)->name);
    }
}

/* ---- plan ------------------------------------------------------------------------------------ */

static void tell_plan(const fm_trainer *r) {
    const fm_mem_plan *p = &r->plan;
    char n[32], total[32], w[32], g[32], o[32], a[32], z[32];
    fm_info("model: %s, %s parameters; precision %s; kernels %s; %d threads", r->model->family->name,
            fm_format_count(n, sizeof n, (double)fm_params_numel(r->model->params)),
            fm_dtype_get(r->choice.compute)->name, r->backend->name, fm_pool_threads(r->pool));
    int64_t all = fm_params_numel(r->model->params), trained = fm_trained_numel(r->params);
    if (strcmp(r->choice.finetune->name, "full") != 0) {
        fm_info("trained: %s of them (%.3g%%), %s", fm_format_count(n, sizeof n, (double)trained),
                100 * (double)trained / (double)all, r->choice.finetune->help);
    }
    tell_base(r);
    fm_info("plan: %lld windows of %d tokens x %lld%s; %s", (long long)p->micro_batch, r->seq_len,
            (long long)p->accumulation, p->recompute ? ", activations recomputed" : "", p->why);
    fm_info("memory: %s = weights %s, gradients %s, optimizer %s%s, activations %s, other %s",
            fm_format_bytes(total, sizeof total, (double)p->process_bytes),
            fm_format_bytes(w, sizeof w, (double)(p->weights_bytes + p->copy_bytes)),
            fm_format_bytes(g, sizeof g, (double)p->grad_bytes),
            fm_format_bytes(o, sizeof o, (double)p->optimizer_bytes), p->offload ? " (on disk)" : "",
            fm_format_bytes(a, sizeof a, (double)(p->arena_bytes + p->act_grad_bytes)),
            fm_format_bytes(z, sizeof z, (double)(p->scratch_bytes + p->other_bytes)));
    fm_info("steps: %lld of %lld windows; peak learning rate %g", (long long)r->n_steps, (long long)p->step_samples,
            r->learning_rate);
}

static fm_status choose_plan(fm_trainer *r, const fm_kept_plan *kept) {
    const fm_train_config *c = r->cfg;
    int64_t step_samples = c->per_device_train_batch_size * c->gradient_accumulation_steps;
    if (kept && kept->step_samples == step_samples) {
        r->plan =
            (fm_mem_plan){.step_samples = step_samples, .micro_batch = kept->micro_batch, .recompute = kept->recompute};
        r->plan.offload = c->optimizer_offload == FM_ON;
        FM_TRY(fm_mem_plan_measure(&r->plan, &r->plan_input));
        if (!r->plan.fits && c->optimizer_offload == FM_AUTO) { /* changes no bit */
            r->plan.offload = true;
            FM_TRY(fm_mem_plan_measure(&r->plan, &r->plan_input));
        }
        snprintf(r->plan.why, sizeof r->plan.why, "as in the checkpoint");
        if (r->plan.fits) {
            return FM_OK;
        }
    }
    if (kept) {
        fm_warn("the plan of the checkpoint (%lld windows a pass, %lld a step) is not used: from here on the run is "
                "not bit for bit what it "
                "would have been",
                (long long)kept->micro_batch, (long long)kept->step_samples);
    }
    FM_TRY(fm_mem_plan_make(&r->plan, &r->plan_input));
    if (!r->plan.fits) {
        fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "the run does not fit: %s", r->plan.why);
        return fm_error_hint("use a smaller model or cutoff_len, %s",
                             c->max_memory > 0 ? "or raise max_memory" : "or a machine with more memory");
    }
    return FM_OK;
}

/* Steps of the whole run, counted on from where it stands: the windows of a step may be others than before. */
#define FM_TRIAL_LEAST 10
#define FM_TRIAL_MOST  200
static void plan_steps(fm_trainer *r) {
    const fm_train_config *c = r->cfg;
    int64_t per_step = r->plan.step_samples;
    if (c->max_steps > 0) {
        r->n_steps = c->max_steps;
        r->total_samples = INT64_MAX;
    } else {
        r->total_samples = FM_MAX(1, (int64_t)ceil(c->num_train_epochs * (double)r->sampler.n_samples));
        int64_t left = FM_MAX(0, r->total_samples - r->st.samples_done);
        r->n_steps = r->st.step + (left + per_step - 1) / per_step;
    }
    r->whole_steps = r->n_steps;
    if (c->trial_steps > 0 || c->trial_share > 0) {
        int64_t part = c->trial_steps > 0 ? c->trial_steps : (int64_t)ceil(c->trial_share * (double)r->n_steps);
        part = c->trial_steps > 0 ? part : FM_MIN(FM_MAX(part, FM_TRIAL_LEAST), FM_TRIAL_MOST);
        r->n_steps = FM_MIN(r->n_steps, part);
    }
    r->choice.schedule.n_steps = r->n_steps;
    r->choice.schedule.warmup_steps =
        c->warmup_steps > 0 ? c->warmup_steps : (int64_t)ceil(c->warmup_ratio * (double)r->n_steps);
}

/* ---- resume ---------------------------------------------------------------------------------- */

static fm_status check_output(const fm_trainer *r) {
    int64_t *steps;
    size_t n;
    FM_TRY(fm_trainer_list_checkpoints(r->cfg->output_dir, &steps, &n));
    fm_status s = FM_OK;
    if (n > 0 && !r->cfg->overwrite_output_dir) {
        fm_error_set(FM_ERR_EXISTS, __FILE__, __LINE__, "%s holds a run with %zu checkpoints", r->cfg->output_dir, n);
        s = fm_error_hint("go on with --resume, start anew with overwrite_output_dir=true, or "
                          "choose another output_dir");
    }
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        char name[64], path[4096];
        snprintf(name, sizeof name, "checkpoint-%lld", (long long)steps[i]);
        s = fm_path_join(path, sizeof path, r->cfg->output_dir, name);
        s = s == FM_OK ? fm_remove_tree(path) : s;
    }
    fm_free(steps);
    return s;
}

static fm_status check_kept(const fm_trainer *r, const fm_kept_plan *kept) {
    if (strcmp(kept->data_hash, fm_dataset_hash(r->data)) != 0 || kept->seq_len != r->seq_len) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                     "the checkpoint %s was trained on other data or another cutoff_len (%lld, now %d)",
                     r->resumed_from, (long long)kept->seq_len, r->seq_len);
        return fm_error_hint("to train its weights on this data, start a new run with model_name_or_path=%s",
                             r->resumed_from);
    }
    if (kept->seed != r->cfg->seed || kept->shuffle != r->cfg->shuffle) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                     "the checkpoint %s was trained with seed %lld and shuffle %s: with others the order of the data "
                     "changes in the middle of an epoch",
                     r->resumed_from, (long long)kept->seed, kept->shuffle ? "true" : "false");
        return fm_error_hint("set seed=%lld and shuffle=%s", (long long)kept->seed, kept->shuffle ? "true" : "false");
    }
    char order[sizeof kept->order];
    fm_state_order(order, sizeof order, r->cfg);
    if (strcmp(kept->order, order) != 0) {
        FM_FAIL(FM_ERR_CONFIG, "the checkpoint %s was trained with another curriculum (%s, now %s)", r->resumed_from,
                kept->order[0] ? kept->order : "none", order[0] ? order : "none");
    }
    if (strcmp(kept->precision, fm_dtype_get(r->choice.compute)->name) != 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                     "the checkpoint %s was trained in %s, the configuration says %s", r->resumed_from, kept->precision,
                     fm_dtype_get(r->choice.compute)->name);
        return fm_error_hint("set precision=%s", strcmp(kept->precision, "bf16") == 0  ? "bf16"
                                                 : strcmp(kept->precision, "f16") == 0 ? "fp16"
                                                                                       : "fp32");
    }
    if (strcmp(kept->kernels, r->backend->name) != 0 || kept->threads != fm_pool_threads(r->pool)) {
        fm_warn("the checkpoint was written with kernels %s and %lld threads, now %s and %d: from here on the run is "
                "not bit for bit what it "
                "would have been",
                kept->kernels, (long long)kept->threads, r->backend->name, fm_pool_threads(r->pool));
    }
    return FM_OK;
}

/* ---- all ------------------------------------------------------------------------------------- */

fm_status fm_trainer_open_objective(fm_trainer *r, void **state, const fm_dataset *data, int32_t seq_len) {
    fm_objective_env env = {.model = r->model,
                            .data = data,
                            .train = r->data,
                            .seq_len = seq_len,
                            .vocab = fm_dataset_vocab(r->data),
                            .balance_labels = r->cfg->class_weight == 1,
                            .label_smoothing = r->cfg->label_smoothing_factor,
                            .z_loss = r->cfg->z_loss,
                            .mlm_probability = r->cfg->mlm_probability,
                            .dataset = fm_dataset_json(data),
                            .task_weights = &r->cfg->task_weights,
                            .seed = (uint64_t)r->cfg->seed};
    fm_tokenizer *tokenizer = NULL;
    if (r->choice.objective->needs_tokenizer) {
        if (!r->tokenizer[0]) {
            FM_FAIL(FM_ERR_CONFIG, "stage %s needs the tokenizer of the data: set the key tokenizer",
                    r->choice.objective->name);
        }
        FM_TRY(fm_tokenizer_open(&tokenizer, r->tokenizer));
        env.tokenizer = tokenizer;
    }
    fm_status s = r->choice.objective->open(state, &env);
    fm_tokenizer_free(tokenizer);
    return s;
}

/* Metrics of several tasks have names that the tasks give. */
static fm_status check_task_metric(fm_trainer *r) {
    const char *want = r->cfg->metric_for_best_model;
    fm_metric_value m[FM_MAX_METRICS];
    int n = r->choice.objective->several ? r->choice.objective->metrics_of(r->eval_objective, m) : 0;
    fm_str known = {0};
    for (int i = 0; i < n; i++) {
        if (strcmp(m[i].name, want) == 0) {
            fm_str_free(&known);
            return FM_OK;
        }
        fm_str_printf(&known, "%s%s", i ? ", " : "", m[i].name);
    }
    fm_status s = FM_OK;
    if (n > 0 && strcmp(want, "loss") != 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "metric_for_best_model: no task measures '%s'", want);
        s = fm_error_hint("measured: %s", known.data ? known.data : "");
    }
    fm_str_free(&known);
    return s;
}

static fm_status first_weights(fm_trainer *r) {
    if (r->from_scratch) {
        return fm_params_init(r->model->params, (uint64_t)r->cfg->seed, r->pool);
    }
    fm_scratch *scratch;
    FM_TRY(fm_scratch_new(&scratch));
    fm_exec x = {.pool = r->pool, .scratch = scratch};
    fm_status s = r->model->adapter ? fm_params_init(r->params, (uint64_t)r->cfg->seed, r->pool) : FM_OK;
    s = s == FM_OK ? fm_weights_read(r->model, r->cfg->model_name_or_path, (uint64_t)r->cfg->seed,
                                     r->cfg->mtp_from_scratch, r->backend, &x)
                   : s;
    r->base_read = s == FM_OK;
    s = s == FM_OK && r->model->adapter ? fm_adapter_begin_values(r->model, &x) : s;
    fm_scratch_free(scratch);
    return s;
}

fm_status fm_trainer_setup(fm_trainer *r) {
    const fm_train_config *c = r->cfg;
    FM_TRY(fm_train_config_check(c, &r->choice));
    if (!c->output_dir) {
        FM_FAIL(FM_ERR_CONFIG, "output_dir is not set");
    }
    /* A plan may be made for a size alone. */
    if (r->choice.finetune->needs_model && (!c->model_name_or_path || c->train_from_scratch)) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "finetuning_type %s starts from trained weights",
                     r->choice.finetune->name);
        return fm_error_hint("set model_name_or_path, without train_from_scratch");
    }
    r->st = (fm_run_state){.best_step = -1,
                           .best_metric = NAN,
                           .evaluated_step = -1,
                           .eval_loss = NAN,
                           .eval_bits_per_byte = NAN,
                           .last_loss = NAN};
    r->max_violation = NAN;
    r->saved_step = -1;
    bool found;
    FM_TRY(fm_trainer_find_checkpoint(r, r->resumed_from, sizeof r->resumed_from, &found));
    fm_kept_plan kept = {0};
    if (found) {
        char path[4096];
        fm_run_state unused;
        FM_TRY(fm_path_join(path, sizeof path, r->resumed_from, "trainer_state.json"));
        FM_TRY(fm_state_read(path, &unused, &kept));
    } else {
        FM_TRY(check_output(r));
    }
    int threads = (int)c->threads;
    if (threads == 0 && found && kept.threads <= fm_cpu_count()) {
        threads = (int)kept.threads;
    }
    FM_TRY(fm_pool_new(&r->pool, threads));
    r->backend = fm_cpu_backend();
    FM_TRY(fm_trainer_open_data(r));
    FM_TRY(fm_trainer_describe(r, fm_dataset_vocab(r->data)));
    FM_TRY(fm_continual_open(r));
    FM_TRY(fm_continual_measure(r, &r->more_arena, &r->more_grads));
    r->plan_input.more_bytes = fm_continual_bytes(r) + r->more_arena + r->more_grads;
    r->plan_input.evaluates = r->eval_data || r->cfg->earlier_dataset.n > 0;
    if (found) {
        FM_TRY(check_kept(r, &kept));
    }
    FM_TRY(choose_plan(r, found ? &kept : NULL));
    FM_TRY(fm_options_dump_yaml(&r->yaml, c, fm_train_options()));
    FM_TRY(fm_mkdirs(c->output_dir));
    fm_trainer_remove_partial(r);
    FM_TRY(fm_trainer_alloc(r));
    if (found) {
        FM_TRY(fm_trainer_load(r, r->resumed_from));
        r->resumed_step = r->st.step;
        r->saved_step = r->st.step;
    } else {
        FM_TRY(first_weights(r));
        FM_TRY(fm_ema_begin(&r->ema, r->pool));
        r->st.loss_scale.scale = r->choice.compute == FM_F16 ? c->initial_loss_scale : 1;
    }
    if (c->per_device_eval_batch_size > 0) {
        r->plan.eval_batch = FM_MIN(r->plan.eval_batch, c->per_device_eval_batch_size);
    }
    plan_steps(r);
    tell_plan(r);
    if (found) {
        fm_info("resumed from %s: step %lld of %lld", r->resumed_from, (long long)r->st.step, (long long)r->n_steps);
    }
    FM_TRY(fm_trainer_open_objective(r, &r->objective, r->data, r->seq_len));
    if (r->eval_data) {
        FM_TRY(fm_trainer_open_objective(r, &r->eval_objective, r->eval_data, r->eval_sampler.seq_len));
        FM_TRY(check_task_metric(r));
    }
    fm_status s = fm_trainer_make_ctx(r);
    FM_TRY(s == FM_ERR_NO_MEMORY ? fm_trainer_recover(r) : s);
    FM_TRY(fm_continual_begin(r));
    /* fp16 is emulated here, so its best rate says nothing. */
    if (c->measure_mfu && r->choice.compute != FM_F16) {
        FM_TRY(fm_ceiling_matmul(r->backend, fm_ctx_exec(r->ctx), r->choice.compute, 0.5, &r->ceiling));
    }
    return FM_OK;
}

void fm_trainer_deinit(fm_trainer *r) {
    fm_continual_free(r);
    if (r->choice.objective) {
        r->choice.objective->close(r->objective);
        r->choice.objective->close(r->eval_objective);
    }
    fm_ctx_free(r->ctx);
    fm_optim_deinit(&r->optim);
    fm_ema_deinit(&r->ema);
    fm_layer_norms_deinit(&r->layers);
    fm_model_close(r->model);
    fm_sampler_deinit(&r->sampler);
    fm_sampler_deinit(&r->eval_sampler);
    fm_dataset_close(r->data);
    fm_dataset_close(r->eval_data);
    fm_pool_free(r->pool);
    fm_string_free(r->yaml);
}
