/* Names for sources that are compiled once per instruction set. */
#ifndef FM_BACKEND_CPU_SIMD_SIMD_H
#define FM_BACKEND_CPU_SIMD_SIMD_H

#include "backend/backend.h"
#include "base/error.h"

#define FM_CAT3_(a, b, c) a##b##_##c
#define FM_CAT3(a, b, c)  FM_CAT3_(a, b, c)
/* FM_SIMD_FN(rmsnorm) is fm_avx512_rmsnorm in the AVX-512 build. Every non-static name in simd/ uses it. */
#define FM_SIMD_FN(name) FM_CAT3(fm_, FM_SIMD, name)

#endif
