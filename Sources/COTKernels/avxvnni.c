// The row and tile kernels for AVX-VNNI: lanes.h compiled for it.
#pragma STDC FP_CONTRACT OFF

#if defined(__x86_64__)

#define OT_TARGET __attribute__((target("avx2,fma,f16c,avxvnni")))
#define OT_FORM(name) name##_avxvnni
#define OT_NAME "avxvnni"

#include "lanes.h"
#include "avx256_attention.h"

// vpdpbusd wants one factor unsigned: keys are, as they lie.
#define OT_KEY_OFFSET 128

OT_INLINE i8x64 key_factors(u8x64 keys) { return (i8x64)keys; }

OT_INLINE i32x16 add_key_products(i32x16 sums, i8x64 factors, int32_t word) {
  __m256i codes = _mm256_set1_epi32(word);
  __m256i low = _mm256_dpbusd_avx_epi32(OT_HALF(sums, 0), OT_HALF(factors, 0), codes);
  __m256i high = _mm256_dpbusd_avx_epi32(OT_HALF(sums, 1), OT_HALF(factors, 1), codes);
  return OT_JOINED(i32x16, low, high);
}

OT_INLINE i32x16 add_value_products(i32x16 sums, i8x64 values, int32_t word) {
  __m256i digits = _mm256_set1_epi32(word);
  __m256i low = _mm256_dpbusd_avx_epi32(OT_HALF(sums, 0), digits, OT_HALF(values, 0));
  __m256i high = _mm256_dpbusd_avx_epi32(OT_HALF(sums, 1), digits, OT_HALF(values, 1));
  return OT_JOINED(i32x16, low, high);
}

#include "tiles.h"

#endif
