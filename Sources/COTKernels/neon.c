// The row and tile kernels for NEON: lanes.h compiled for it.
#pragma STDC FP_CONTRACT OFF

#if defined(__aarch64__)

#define OT_TARGET
#define OT_FORM(name) name##_neon
#define OT_NAME "neon"

#include "lanes.h"
#include "tiles.h"

#endif
