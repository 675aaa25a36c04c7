/* Attention on f32 tiles, for f32 and for bf16 where the machine has no bf16 products. */
#include "backend/cpu/simd/attention.h"

#define ATT_BF16 0
#include "backend/cpu/simd/attention_tile.h"
#include "backend/cpu/simd/attention_fwd.h"
#include "backend/cpu/simd/attention_bwd.h"
