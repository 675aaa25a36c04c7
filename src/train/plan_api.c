/* fm_train_plan: what a run would need, for the program and for planning without data. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/ceiling.h"
#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "train/run.h"

/* Vocabulary and number of windows where a packed dataset is named; raw files are not packed for a plan. */
static fm_status look_at_data(fm_trainer *r, int32_t *vocab, int64_t *n_samples) {
    const fm_train_config *c = r->cfg;
    char part[4096], path[4096];
    *vocab = 0;
    *n_samples = 0;
    r->seq_len = (int32_t)c->cutoff_len;
    if (c->rows.input.n == 1) {
        FM_TRY(fm_dataset_part(part, sizeof part, c->rows.input.item[0], "train"));
        FM_TRY(fm_path_join(path, sizeof path, part, "dataset.json"));
        if (fm_path_exists(path)) {
            FM_TRY(fm_dataset_open(&r->data, part));
            *vocab = fm_dataset_vocab(r->data);
            r->seq_len = (int32_t)FM_MIN((int64_t)r->seq_len, fm_dataset_tokens(r->data));
            *n_samples = (fm_dataset_tokens(r->data) + r->seq_len - 1) / r->seq_len;
        }
    }
    if (*vocab == 0 && c->tokenizer && fm_path_exists(c->tokenizer)) {
        fm_tokenizer *t;
        FM_TRY(fm_tokenizer_open(&t, c->tokenizer));
        *vocab = fm_tokenizer_vocab_size(t);
        fm_tokenizer_free(t);
    }
    return FM_OK;
}

/* Times real passes on made-up samples until `seconds` are over, then one update of the weights. */
static fm_status calibrate(fm_trainer *r, double seconds, fm_plan *out) {
    FM_TRY(fm_trainer_alloc(r));
    FM_TRY(fm_params_init(r->model->params, 1, r->pool));
    FM_TRY(r->params != r->model->params ? fm_params_init(r->params, 1, r->pool) : FM_OK);
    FM_TRY(fm_trainer_make_ctx(r));
    fm_ctx *c = r->ctx;
    const fm_exec *x = fm_ctx_exec(c);
    if (r->choice.compute != FM_F16) { /* emulated here */
        FM_TRY(fm_ceiling_matmul(r->backend, x, r->choice.compute, FM_MIN(0.5, seconds / 4), &r->ceiling));
    }
    fm_objective_env env = {.model = r->model,
                            .seq_len = r->seq_len,
                            .vocab = r->plan_input.vocab,
                            .dataset = r->plan_input.dataset,
                            .task_weights = r->plan_input.task_weights,
                            .mlm_probability = r->cfg->mlm_probability};
    FM_TRY(r->choice.objective->open(&r->objective, &env));
    FM_TRY(r->choice.objective->load(r->objective, NULL, r->plan.micro_batch));
    double best = INFINITY, update = INFINITY, norm, start = fm_now();
    /* The first pass touches the memory for the first time and does not count. */
    for (int i = 0; i < 2 || fm_now() - start < seconds; i++) {
        double t = fm_now();
        fm_ctx_set_training(c, true);
        fm_ctx_set_step(c, (uint32_t)i, 0);
        fm_params_begin_step(r->params);
        fm_tape_begin(c);
        fm_tensor *loss = r->choice.objective->loss(r->objective, c, 0, r->plan.micro_batch, 1e-4, NULL);
        FM_TRY(fm_ctx_status(c));
        FM_TRY(fm_backward(c, loss, 1.0));
        double pass = fm_now() - t;
        fm_param *bad;
        t = fm_now();
        FM_TRY(fm_grad_norm(r->params, r->backend, x, &norm, &bad, NULL));
        FM_TRY(fm_optim_step(&r->optim, r->backend, x, 1e-6, 1.0));
        double up = fm_now() - t;
        if (i > 0) {
            best = FM_MIN(best, pass);
            update = FM_MIN(update, up);
        }
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted while timing");
        }
    }
    int64_t tokens = out->tokens_per_step;
    out->step_s = best * (double)r->plan.step_samples / (double)r->plan.micro_batch + update;
    out->tokens_per_s = (double)tokens / out->step_s;
    out->mfu = r->ceiling > 0 ? out->flops_per_step / out->step_s / r->ceiling : NAN;
    out->total_s = out->step_s * (double)out->n_steps;
    out->scratch_bytes = fm_scratch_high_water(x->scratch);
    return FM_OK;
}

static fm_status plan(fm_trainer *r, fm_plan *out, double calibrate_s) {
    const fm_train_config *c = r->cfg;
    int32_t vocab;
    int64_t n_samples;
    FM_TRY(fm_train_config_check(c, &r->choice));
    FM_TRY(fm_pool_new(&r->pool, (int)c->threads));
    r->backend = fm_cpu_backend();
    FM_TRY(look_at_data(r, &vocab, &n_samples));
    FM_TRY(fm_trainer_describe(r, vocab));
    FM_TRY(fm_mem_plan_make(&r->plan, &r->plan_input));
    const fm_mem_plan *p = &r->plan;
    out->n_params = fm_params_numel(r->model->params);
    out->weights_bytes = p->weights_bytes;
    out->copy_bytes = p->copy_bytes;
    out->grad_bytes = p->grad_bytes;
    out->optimizer_bytes = p->optimizer_bytes;
    out->activation_bytes = p->arena_bytes;
    out->activation_grad_bytes = p->act_grad_bytes;
    out->scratch_bytes = p->scratch_bytes;
    out->micro_batch = p->micro_batch;
    out->accumulation = p->accumulation;
    out->tokens_per_step = p->step_samples * r->seq_len;
    out->n_steps = c->max_steps > 0
                       ? c->max_steps
                       : (int64_t)ceil(ceil(c->num_train_epochs * (double)n_samples) / (double)p->step_samples);
    out->recompute = p->recompute;
    out->threads = fm_pool_threads(r->pool);
    out->fits = p->fits;
    snprintf(out->precision, sizeof out->precision, "%s", fm_dtype_get(r->choice.compute)->name);
    snprintf(out->kernels, sizeof out->kernels, "%s", r->backend->name);
    snprintf(out->why, sizeof out->why, "%s", p->why);
    out->flops_per_step = fm_flops_per_token(r->model, r->seq_len) * (double)out->tokens_per_step;
    const fm_model_config *mc = &r->model->cfg;
    out->flops_per_step_causal =
        out->flops_per_step - 6.0 * mc->n_layers * mc->d_model * r->seq_len * (double)out->tokens_per_step;
    if (calibrate_s > 0 && p->fits) {
        FM_TRY(calibrate(r, calibrate_s, out));
    } else if (calibrate_s > 0) {
        fm_info("the run does not fit, so nothing was timed");
    }
    out->process_bytes = p->process_bytes - p->scratch_bytes + out->scratch_bytes;
    return FM_OK;
}

fm_status fm_train_plan(fm_plan *out, const fm_train_config *cfg, double calibrate_s) {
    FM_ASSERT(out && out->size >= sizeof out->size);
    fm_plan p = {.step_s = NAN, .total_s = NAN, .tokens_per_s = NAN, .mfu = NAN};
    fm_trainer r = {.cfg = cfg};
    fm_status s = plan(&r, &p, calibrate_s);
    fm_trainer_deinit(&r);
    size_t size = out->size;
    p.size = size;
    memcpy(out, &p, FM_MIN(size, sizeof p));
    return s;
}
