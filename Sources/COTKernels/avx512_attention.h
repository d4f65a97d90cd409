// Attention's steps in AVX-512 VNNI: 16 sums of 8 queries by 2 vectors, 8
// queries' codes or weights, and 2 vectors that they multiply, in 32 registers.
#include <immintrin.h>

#define OT_ATTENTION_QUERIES 8
#define OT_ATTENTION_VECTORS 2

// vpdpbusd wants one factor unsigned: keys are, as they lie.
#define OT_KEY_OFFSET 128

OT_INLINE i8x64 key_factors(u8x64 keys) { return (i8x64)keys; }

OT_INLINE i32x16 add_key_products(i32x16 sums, i8x64 factors, int32_t word) {
  return (i32x16)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)factors, _mm512_set1_epi32(word));
}

OT_INLINE i32x16 add_value_products(i32x16 sums, i8x64 values, int32_t word) {
  return (i32x16)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(word), (__m512i)values);
}
