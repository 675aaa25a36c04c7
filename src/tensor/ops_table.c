/* The registry of operations: what tests, coverage and documentation walk. */
#include "tensor/ops_util.h"

const fm_op *const fm_ops[] = {
#define FM_OP(name) &fm_op_##name,
#include "tensor/ops.def"
#undef FM_OP
};
const int fm_n_ops = (int)FM_ARRAY_LEN(fm_ops);
