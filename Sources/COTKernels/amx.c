// The row and tile kernels for AMX: lanes.h compiled for AVX-512, which AMX implies here.
#pragma STDC FP_CONTRACT OFF

#if defined(__x86_64__)

#define OT_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
#define OT_FORM(name) name##_amx
#define OT_NAME "amx"

#include "lanes.h"
#include "avx512_attention.h"
#include "tiles.h"

#endif
