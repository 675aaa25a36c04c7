/* Attention on tiles of bf16 pairs: products in bf16, sums in f32. P and dS are rounded to bf16. */
#include "backend/cpu/simd/attention.h"

#if FM_SIMD_avx512
#define ATT_BF16 1
#include "backend/cpu/simd/attention_tile.h"
#include "backend/cpu/simd/attention_fwd.h"
#include "backend/cpu/simd/attention_bwd.h"
#endif
