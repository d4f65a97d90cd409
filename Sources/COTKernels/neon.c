// The row and tile kernels for NEON: lanes.h compiled for it.
#pragma STDC FP_CONTRACT OFF

#if defined(__aarch64__)

#include <arm_neon.h>

// Dot products are what this form is chosen by.
#define OT_TARGET __attribute__((target("dotprod")))
#define OT_FORM(name) name##_neon
#define OT_NAME "neon"

#include "lanes.h"

// Both factors of sdot are signed.
#define OT_KEY_OFFSET 0

OT_INLINE i8x64 key_factors(u8x64 keys) { return (i8x64)(keys ^ 128); }

OT_INLINE i32x16 add_key_products(i32x16 sums, i8x64 factors, int32_t word) {
  int32x4_t parts[4];
  int8x16_t keys[4], codes = vreinterpretq_s8_s32(vdupq_n_s32(word));
  __builtin_memcpy(parts, &sums, sizeof sums);
  __builtin_memcpy(keys, &factors, sizeof factors);
  for (int i = 0; i < 4; i++) parts[i] = vdotq_s32(parts[i], keys[i], codes);
  __builtin_memcpy(&sums, parts, sizeof sums);
  return sums;
}

OT_INLINE i32x16 add_value_products(i32x16 sums, i8x64 values, int32_t word) {
  return add_key_products(sums, values, word);
}

#include "tiles.h"

#endif
