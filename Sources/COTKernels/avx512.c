// The row, attention and tile kernels for AVX512: lanes.h compiled for it.
#pragma STDC FP_CONTRACT OFF

#if defined(__x86_64__)

#define OT_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
#define OT_FORM(name) name##_avx512vnni
#define OT_NAME "avx512vnni"

#include "lanes.h"
#include "avx512_attention.h"
#include "tiles.h"

#endif
