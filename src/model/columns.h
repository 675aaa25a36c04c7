/* Progressive columns (Rusu et al. 2016, "Progressive Neural Networks", arXiv 1606.04671) beside a decoder: what a
 * model knows stays as it is, bit for bit, and a new task is learned by a new, usually smaller column that reads the
 * layers of those before it.
 *
 * The first column is the decoder itself. Column k has layers of the same kind (grouped-query attention with the head
 * width and key heads of the decoder, so that one cache holds all) and of its own width Dk. Layer i of Lk follows layer
 * ceil((i+1) L / Lk) - 1 of the decoder; to its input comes, from each earlier column j, the lateral projection
 *     up_j(silu(down_j(rmsnorm(h_j))))        [T,Dj] -> [T,lateral] -> [T,Dk]
 * (the adapters of the paper, its scalar a widened to a gain for each channel). A column begins with a projection of
 * the decoder's embeddings, and ends in one into the decoder's hidden states,
 *     hidden = norm(h_0) + out(rmsnorm(h_k)),
 * which begins at zero: before its first step the new column answers as the first one does, and heads of any kind stand
 * on it. Gradients stop at earlier columns: those run with the tape off and keep one copy of their stream for each
 * layer that reads it.
 *
 * In files: "columns.<k-1>." before the names, fathom_columns in config.json. Programs that know neither read the first
 * column. */
#ifndef FM_MODEL_COLUMNS_H
#define FM_MODEL_COLUMNS_H

#include "model/model.h"

FM_MUST_CHECK fm_status fm_columns_parse(fm_model_config *cfg, const fm_json *json);
FM_MUST_CHECK fm_status fm_columns_write(const fm_model_config *cfg, fm_json *json);
/* Whether the decoder can have columns, and the sizes of those it has. */
FM_MUST_CHECK fm_status fm_columns_check(const fm_model_config *cfg);
/* Adds a column: width, layers and lateral_width 0 = half the decoder's, as many, a quarter of the width. Heads and
 * feed-forward width follow from the width. */
FM_MUST_CHECK fm_status fm_columns_add(fm_model_config *cfg, int32_t width, int32_t layers, int32_t lateral_width);
/* Adds the parameters of all columns; after everything else. */
FM_MUST_CHECK fm_status fm_model_columns_build(fm_model *m);
/* Hidden states [T,D] of column m->column, which is none of the decoder itself. */
fm_tensor *fm_columns_forward(fm_ctx *c, const fm_model *m, const fm_batch *b);
/* A parameter of column k, 1 .. cfg.n_columns. */
bool fm_is_column_param(const fm_param *p, int32_t k);

#endif
