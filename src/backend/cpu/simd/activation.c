/* Activation functions, alone and as gates. */
#include "backend/cpu/simd/activation.h"

typedef struct act_job {
    fm_dtype d;
    const void *args;
    int64_t n;
} act_job;

FM_INLINE void glu_fwd_range(fm_dtype d, fm_act act, const fm_glu_args *a, int64_t begin, int64_t end) {
    FM_VECTOR_LOOP(i, n, begin, end, {
        vf f = vx_act(act, vx_get(d, a->gate, i, n), NULL);
        vx_put(d, a->y, i, vf_mul(f, vx_get(d, a->up, i, n)), n);
    });
}

FM_INLINE void glu_bwd_range(fm_dtype d, fm_act act, const fm_glu_bwd_args *a, int64_t begin, int64_t end) {
    FM_VECTOR_LOOP(i, n, begin, end, {
        vf df;
        vf f = vx_act(act, vx_get(d, a->gate, i, n), &df);
        vf up = vx_get(d, a->up, i, n);
        vf dy = vx_get(d, a->dy, i, n);
        vx_put(d, a->dgate, i, vf_mul(vf_mul(dy, up), df), n);
        vx_put(d, a->dup, i, vf_mul(dy, f), n);
        if (a->y) {
            vx_put(d, a->y, i, vf_mul(f, up), n);
        }
    });
}

FM_INLINE void act_fwd_range(fm_dtype d, fm_act act, const fm_act_args *a, int64_t begin, int64_t end) {
    FM_VECTOR_LOOP(i, n, begin, end, vx_put(d, a->y, i, vx_act(act, vx_get(d, a->x, i, n), NULL), n););
}

FM_INLINE void act_bwd_range(fm_dtype d, fm_act act, const fm_act_bwd_args *a, int64_t begin, int64_t end) {
    FM_VECTOR_LOOP(i, n, begin, end, {
        vf df;
        (void)vx_act(act, vx_get(d, a->x, i, n), &df);
        vf v = vf_mul(vx_get(d, a->dy, i, n), df);
        vx_put(d, a->dx, i, a->acc_dx ? vf_add(v, vx_get(d, a->dx, i, n)) : v, n);
    });
}

/* `arrays` = number of arrays read or written, for the decision to use the pool. */
#define ACT_KERNEL(name, args_type, arrays)                                                                            \
    static fm_status name##_part(void *arg, int64_t part, int64_t n_parts, int thread) {                               \
        FM_UNUSED(thread);                                                                                             \
        const act_job *j = arg;                                                                                        \
        const args_type *a = j->args;                                                                                  \
        int64_t begin, end;                                                                                            \
        fm_split(j->n, part, n_parts, 64, &begin, &end);                                                               \
        FM_ACT_DISPATCH(j->d, a->act, name##_range, a, begin, end);                                                    \
        return FM_OK;                                                                                                  \
    }                                                                                                                  \
    FM_INLINE fm_status name##_run(fm_dtype d, const fm_exec *x, const args_type *a) {                                 \
        act_job job = {d, a, a->n};                                                                                    \
        return fm_par_split(x, a->n * (arrays) * (d == FM_BF16 ? 2 : 4), name##_part, &job);                           \
    }                                                                                                                  \
    FM_SIMD_KERNEL(name, args_type)

ACT_KERNEL(glu_fwd, fm_glu_args, 3)
ACT_KERNEL(glu_bwd, fm_glu_bwd_args, 5)
ACT_KERNEL(act_fwd, fm_act_args, 2)
ACT_KERNEL(act_bwd, fm_act_bwd_args, 3)

extern const fm_kernel_row FM_SIMD_FN(activation_rows)[];
const fm_kernel_row FM_SIMD_FN(activation_rows)[] = {FM_SIMD_ROWS(glu_fwd), FM_SIMD_ROWS(glu_bwd),
                                                     FM_SIMD_ROWS(act_fwd), FM_SIMD_ROWS(act_bwd), FM_SIMD_END};
