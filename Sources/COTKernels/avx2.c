// The row, attention and tile kernels for AVX2: lanes.h compiled for it.
#pragma STDC FP_CONTRACT OFF

#if defined(__x86_64__)

#define OT_TARGET __attribute__((target("avx2,fma,f16c")))
#define OT_FORM(name) name##_avx2
#define OT_NAME "avx2"

#include "lanes.h"
#include "tiles.h"

#endif
