// The row and tile kernels for AVX-VNNI: lanes.h compiled for it.
#pragma STDC FP_CONTRACT OFF

#if defined(__x86_64__)

#define OT_TARGET __attribute__((target("avx2,fma,f16c,avxvnni")))
#define OT_FORM(name) name##_avxvnni
#define OT_NAME "avxvnni"

#include "lanes.h"
#include "tiles.h"

#endif
