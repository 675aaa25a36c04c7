/* Which weights a run trains (finetuning_type). One file and one row of finetunes.def each. */
#ifndef FM_TRAIN_FINETUNE_H
#define FM_TRAIN_FINETUNE_H

#include "model/adapter.h"
#include "train/config.h"

typedef struct fm_finetune {
    const char *name, *help;
    bool needs_model; /* starts from the weights of model_name_or_path */
    double rate;      /* default learning rate, 0 = by size */
    /* NULL, or what the shape of the model becomes before it is described. */
    fm_status (*reshape)(fm_model_config *mc, const fm_train_config *c);
    /* NULL, or the compute type that the weights of model_name_or_path ask for. */
    fm_status (*choose)(fm_train_choice *choice, const fm_train_config *c);
    /* Marks parameters of a described model as frozen, or attaches an adapter. */
    fm_status (*prepare)(fm_model *m, const fm_train_config *c);
} fm_finetune;

const fm_finetune *fm_finetune_find(const char *name); /* NULL when unknown */
void fm_finetune_names(fm_str *out);
/* The parameters that the run trains: the adapter's, or the model's own (of which some may be frozen). */
fm_params *fm_trained_params(const fm_model *m);
int64_t fm_trained_numel(const fm_params *ps); /* that are not frozen */

#endif
