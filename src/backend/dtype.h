/* Element types: one table that names them, sizes them and converts single elements.
 *
 * Block types (int4, nf4 and the GGUF quantisations) hold `block` elements in `block_bytes` bytes.
 * The kind of scale says where the factors are: none, inside the block (GGUF), one per row, or a
 * separate 2-D tensor (DeepSeek fp8 checkpoints). */
#ifndef FM_BACKEND_DTYPE_H
#define FM_BACKEND_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum fm_scale_kind { FM_SCALE_NONE, FM_SCALE_INLINE, FM_SCALE_ROW, FM_SCALE_2D } fm_scale_kind;

/* X(symbol, name, safetensors name, elements per block, bytes per block, scale, is float) */
#define FM_DTYPE_LIST(X)                                                                                               \
    X(FM_F64, "f64", "F64", 1, 8, FM_SCALE_NONE, 1)                                                                    \
    X(FM_F32, "f32", "F32", 1, 4, FM_SCALE_NONE, 1)                                                                    \
    X(FM_BF16, "bf16", "BF16", 1, 2, FM_SCALE_NONE, 1)                                                                 \
    X(FM_F16, "f16", "F16", 1, 2, FM_SCALE_NONE, 1)                                                                    \
    X(FM_E4M3, "e4m3", "F8_E4M3", 1, 1, FM_SCALE_2D, 1)                                                                \
    X(FM_E5M2, "e5m2", "F8_E5M2", 1, 1, FM_SCALE_2D, 1)                                                                \
    X(FM_E2M1, "e2m1", "F4", 2, 1, FM_SCALE_2D, 1)                                                                     \
    X(FM_I8, "int8", "I8", 1, 1, FM_SCALE_ROW, 0)                                                                      \
    X(FM_I4, "int4", "I4", 2, 1, FM_SCALE_ROW, 0)                                                                      \
    X(FM_NF4, "nf4", "", 2, 1, FM_SCALE_ROW, 1)                                                                        \
    X(FM_Q8_0, "q8_0", "", 32, 34, FM_SCALE_INLINE, 1)                                                                 \
    X(FM_Q4_0, "q4_0", "", 32, 18, FM_SCALE_INLINE, 1)                                                                 \
    X(FM_Q4_1, "q4_1", "", 32, 20, FM_SCALE_INLINE, 1)                                                                 \
    X(FM_Q5_0, "q5_0", "", 32, 22, FM_SCALE_INLINE, 1)                                                                 \
    X(FM_Q5_1, "q5_1", "", 32, 24, FM_SCALE_INLINE, 1)                                                                 \
    X(FM_Q2_K, "q2_k", "", 256, 84, FM_SCALE_INLINE, 1)                                                                \
    X(FM_Q3_K, "q3_k", "", 256, 110, FM_SCALE_INLINE, 1)                                                               \
    X(FM_Q4_K, "q4_k", "", 256, 144, FM_SCALE_INLINE, 1)                                                               \
    X(FM_Q5_K, "q5_k", "", 256, 176, FM_SCALE_INLINE, 1)                                                               \
    X(FM_Q6_K, "q6_k", "", 256, 210, FM_SCALE_INLINE, 1)                                                               \
    X(FM_IQ4_NL, "iq4_nl", "", 32, 18, FM_SCALE_INLINE, 1)                                                             \
    X(FM_I32, "i32", "I32", 1, 4, FM_SCALE_NONE, 0)                                                                    \
    X(FM_I64, "i64", "I64", 1, 8, FM_SCALE_NONE, 0)                                                                    \
    X(FM_U8, "u8", "U8", 1, 1, FM_SCALE_NONE, 0)                                                                       \
    X(FM_BOOL, "bool", "BOOL", 1, 1, FM_SCALE_NONE, 0)

typedef enum fm_dtype {
#define FM_X(sym, name, st, block, bytes, scale, is_float) sym,
    FM_DTYPE_LIST(FM_X)
#undef FM_X
        FM_DTYPE_COUNT
} fm_dtype;

typedef struct fm_dtype_info {
    const char *name;
    const char *safetensors_name; /* "" when the format has none */
    int32_t block;                /* elements per block */
    int32_t block_bytes;
    fm_scale_kind scale;
    bool is_float;
} fm_dtype_info;

const fm_dtype_info *fm_dtype_get(fm_dtype d);
/* By our name ("bf16") or the safetensors name ("BF16"); false when unknown. */
bool fm_dtype_parse(fm_dtype *out, const char *name);
/* Bytes of n elements; n must be a multiple of the block. -1 on overflow or a partial block. */
int64_t fm_dtype_bytes(fm_dtype d, int64_t n);
/* The type sums are kept in: f64 for f64, else f32. Gradients of parameters have it too. */
static inline fm_dtype fm_dtype_acc(fm_dtype d) {
    return d == FM_F64 ? FM_F64 : FM_F32;
}
/* Spacing of the type's numbers at 1.0 (f32 2^-23, bf16 2^-7 ...); 0 for integers. */
double fm_dtype_eps(fm_dtype d);

/* Single elements of the plain (block 1) types, round to nearest even. Slow; for reference kernels
 * and tests. */
double fm_load_as_f64(fm_dtype d, const void *base, int64_t i);
void fm_store_from_f64(fm_dtype d, void *base, int64_t i, double v);
/* Rounds v to the nearest number of type d. */
double fm_round_to(fm_dtype d, double v);

/* bf16: the upper half of an f32. */
typedef uint16_t fm_bf16;
static inline float fm_bf16_to_f32(fm_bf16 h) {
    union {
        uint32_t u;
        float f;
    } v = {(uint32_t)h << 16};
    return v.f;
}
static inline fm_bf16 fm_f32_to_bf16(float f) {
    union {
        float f;
        uint32_t u;
    } v = {f};
    if ((v.u & 0x7fffffffu) > 0x7f800000u) {
        return (fm_bf16)((v.u >> 16) | 0x40u); /* NaN stays a NaN */
    }
    return (fm_bf16)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}
float fm_f16_to_f32(uint16_t h);
uint16_t fm_f32_to_f16(float x);

#endif
