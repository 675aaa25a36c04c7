/* Rotary position embedding. The cosines and sines of a token are computed once and used by all its heads, with
 * vector code: the angle is reduced in f64 and the rest is f32. */
#include "backend/cpu/simd/kernel.h"

/* pi/2 in two parts; with fused multiply-add the reduction is good to 1e-16 for all angles below 2^31. */
static const double pio2_hi = 1.57079632679489655800, pio2_lo = 6.12323399573676603587e-17;
static const double two_over_pi = 0.63661977236758134308;

typedef struct rope_job {
    fm_dtype d;
    const fm_rope_args *a;
    float *tables; /* per thread */
    int64_t table_len;
} rope_job;

/* Quadrant of an angle, mod 4, in f64; *r = the rest, in [-pi/4, pi/4]. */
FM_INLINE vd reduce_angle(vd angle, vd *r) {
    vd k = vd_round(vd_mul(angle, vd_set1(two_over_pi)));
    *r = vd_fnma(k, vd_set1(pio2_lo), vd_fnma(k, vd_set1(pio2_hi), angle));
    vd turns = vd_round(vd_mul(k, vd_set1(0.25)));
    return vd_fnma(turns, vd_set1(4.0), k);
}

/* Minimax polynomials on [-pi/4, pi/4], below 1 ulp; then exchange and signs by quadrant. */
FM_INLINE void sincos_of(vd a_lo, vd a_hi, vf *sine, vf *cosine) {
    vd r_lo, r_hi;
    vd q_lo = reduce_angle(a_lo, &r_lo), q_hi = reduce_angle(a_hi, &r_hi);
    vf r = vf_from_vd(r_lo, r_hi);
    vi q = vi_and(vf_to_int(vf_from_vd(q_lo, q_hi)), vi_set1(3));
    vf r2 = vf_mul(r, r);
    vf s = vf_fma(vf_set1(-0.0001951723437F), r2, vf_set1(0.008332177684F));
    s = vf_fma(s, r2, vf_set1(-0.1666665494F));
    s = vf_fma(vf_mul(s, r2), r, r);
    vf c = vf_fma(vf_set1(2.443838022e-5F), r2, vf_set1(-0.001388736692F));
    c = vf_fma(c, r2, vf_set1(0.04166664685F));
    c = vf_fma(vf_mul(c, r2), r2, vf_fma(vf_set1(-0.5F), r2, vf_set1(1.0F)));
    vf odd = vi_to_float(vi_and(q, vi_set1(1)));
    vm same = vf_lt(odd, vf_set1(0.5F));
    vi sin_sign = vi_shl(vi_and(q, vi_set1(2)), 30);
    vi cos_sign = vi_shl(vi_and(vi_add(q, vi_set1(1)), vi_set1(2)), 30);
    *sine = vf_from_vi(vi_xor(vi_from_vf(vf_select(same, s, c)), sin_sign));
    *cosine = vf_from_vi(vi_xor(vi_from_vf(vf_select(same, c, s)), cos_sign));
}

/* cos[i], sin[i] of pos * freq[i], times mscale, sin with the sign of the rotation. Both arrays are padded to whole
 * vectors. */
FM_INLINE void fill_table(const fm_rope_args *a, int32_t pos, float *cosines, float *sines) {
    vd p = vd_set1((double)pos);
    vf mscale = vf_set1(a->mscale), signed_scale = vf_set1(a->mscale * a->sign);
    for (int64_t i = 0; i < a->n_freqs; i += VF_N) {
        double tail[VF_N] = {0};
        const double *f = a->freq + i;
        if (a->n_freqs - i < VF_N) {
            memcpy(tail, f, (size_t)(a->n_freqs - i) * sizeof *f);
            f = tail;
        }
        vf s, c;
        sincos_of(vd_mul(p, vd_load(f)), vd_mul(p, vd_load(f + VF_N / 2)), &s, &c);
        vf_store(cosines + i, vf_mul(c, mscale));
        vf_store(sines + i, vf_mul(s, signed_scale));
    }
}

/* For pairs of neighbours: y = x * C + swap(x) * S with C = c0,c0,c1,c1.. and S = -s0,s0,-s1,s1.. */
FM_INLINE void spread_table(int64_t n, const float *cosines, const float *sines, float *c2, float *s2) {
    for (int64_t i = 0; i < n; i++) {
        c2[2 * i] = c2[2 * i + 1] = cosines[i];
        s2[2 * i] = -sines[i];
        s2[2 * i + 1] = sines[i];
    }
}

FM_INLINE void put_acc(fm_dtype d, void *y, int64_t i, vf v, int n, bool acc) {
    vx_put(d, y, i, acc ? vf_add(v, vx_get(d, y, i, n)) : v, n);
}

FM_INLINE void rotate_head(fm_dtype d, const fm_rope_args *a, int64_t o, const float *c, const float *s) {
    int64_t nf = a->n_freqs;
    bool acc = a->acc_y;
    const void *x = vx_at(d, a->x, o + a->first);
    void *y = vx_at(d, a->y, o + a->first);
    if (a->interleaved) {
        FM_VECTOR_LOOP(i, n, 0, 2 * nf, {
            vf v = vx_get(d, x, i, n);
            v = vf_fma(v, vf_load(c + i), vf_mul(vf_swap_pairs(v), vf_load(s + i)));
            put_acc(d, y, i, v, n, acc);
        });
    } else {
        FM_VECTOR_LOOP(i, n, 0, nf, {
            vf x0 = vx_get(d, x, i, n);
            vf x1 = vx_get(d, x, nf + i, n);
            vf ci = vf_load(c + i);
            vf si = vf_load(s + i);
            put_acc(d, y, i, vf_fnma(x1, si, vf_mul(x0, ci)), n, acc);
            put_acc(d, y, nf + i, vf_fma(x0, si, vf_mul(x1, ci)), n, acc);
        });
    }
    if (x != y || acc) {
        FM_VECTOR_LOOP(i, n, -a->first, 0, put_acc(d, y, i, vx_get(d, x, i, n), n, acc););
        FM_VECTOR_LOOP(i, n, 2 * nf, a->head_dim - a->first, put_acc(d, y, i, vx_get(d, x, i, n), n, acc););
    }
}

FM_INLINE void rope_tokens(fm_dtype d, const rope_job *j, int64_t begin, int64_t end, float *table) {
    const fm_rope_args *a = j->a;
    int64_t padded = (a->n_freqs + VF_N - 1) / VF_N * VF_N;
    float *c = table, *s = table + padded, *c2 = s + padded, *s2 = c2 + 2 * padded;
    for (int64_t t = begin; t < end; t++) {
        fill_table(a, a->pos[t], c, s);
        if (a->interleaved) {
            spread_table(a->n_freqs, c, s, c2, s2);
        }
        for (int64_t h = 0; h < a->n_heads; h++) {
            int64_t o = (t * a->n_heads + h) * a->head_dim;
            rotate_head(d, a, o, a->interleaved ? c2 : c, a->interleaved ? s2 : s);
        }
    }
}

static fm_status rope_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const rope_job *j = arg;
    int64_t begin, end;
    fm_split(j->a->n_tokens, part, n_parts, 1, &begin, &end);
    float *table = j->tables + thread * j->table_len;
    if (j->d == FM_BF16) {
        rope_tokens(FM_BF16, j, begin, end, table);
    } else {
        rope_tokens(FM_F32, j, begin, end, table);
    }
    return FM_OK;
}

FM_INLINE fm_status rope_run(fm_dtype d, const fm_exec *x, const fm_rope_args *a) {
    rope_job job = {.d = d, .a = a, .table_len = 6 * (((int64_t)a->n_freqs + VF_N - 1) / VF_N * VF_N) + VF_N};
    int64_t bytes = job.table_len * fm_pool_threads(x->pool) * (int64_t)sizeof(float);
    job.tables = fm_scratch_take(x, bytes);
    if (!job.tables) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for the tables of rope (%lld bytes)", (long long)bytes);
    }
    int64_t traffic = a->n_tokens * a->n_heads * a->head_dim * (d == FM_BF16 ? 4 : 8);
    return fm_par_split(x, traffic, rope_part, &job);
}
FM_SIMD_KERNEL(rope, fm_rope_args)

extern const fm_kernel_row FM_SIMD_FN(rope_rows)[];
const fm_kernel_row FM_SIMD_FN(rope_rows)[] = {FM_SIMD_ROWS(rope), FM_SIMD_END};
