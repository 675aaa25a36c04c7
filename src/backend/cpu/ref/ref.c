/* The list of reference kernels. */
#include "backend/cpu/ref/ref.h"

#include "backend/cpu/cpu.h"

#define ROW(name, suffix, dtype)                                                                                       \
    { FM_K_##name, dtype, fm_ref_##name##_##suffix }
#define MASTER(name) ROW(name, f64, FM_F64), ROW(name, f32, FM_F32)
#define ALL(name)    MASTER(name), ROW(name, bf16, FM_BF16), ROW(name, f16, FM_F16)

const fm_kernel_row fm_ref_rows[] = {
    ALL(matmul),
    ALL(quant_matmul),
    ALL(bias_grad),
    ALL(embedding_fwd),
    ALL(embedding_bwd),
    ALL(rmsnorm_fwd),
    ALL(rmsnorm_bwd),
    ALL(layernorm_fwd),
    ALL(layernorm_bwd),
    ALL(affine_fwd),
    ALL(affine_bwd),
    ALL(rope),
    ALL(attention_fwd),
    ALL(attention_bwd),
    ALL(index_select),
    ALL(glu_fwd),
    ALL(glu_bwd),
    ALL(act_fwd),
    ALL(act_bwd),
    ALL(add),
    ALL(mul),
    ALL(axpby),
    ALL(fill),
    ALL(cast),
    ROW(cast, e4m3, FM_E4M3),
    ROW(cast, e5m2, FM_E5M2),
    ALL(dropout),
    ALL(softmax_fwd),
    ALL(softmax_bwd),
    ALL(cross_entropy),
    ALL(reduce_fwd),
    ALL(reduce_bwd),
    ALL(gather_rows),
    ALL(copy_groups),
    ALL(scatter_add_rows),
    ALL(route_fwd),
    ALL(route_bwd),
    ALL(balance_fwd),
    ALL(balance_bwd),
    ALL(expert_sort),
    ALL(grouped_matmul),
    ALL(grouped_outer),
    ALL(combine_rows),
    ALL(glu_rows_fwd),
    ALL(glu_rows_bwd),
    ALL(copy_block),
    ALL(pointwise_loss),
    ALL(sum_squares),
    MASTER(adamw),
    MASTER(sgd),
    MASTER(lion),
    {FM_KERNEL_COUNT, FM_DTYPE_COUNT, NULL},
};
