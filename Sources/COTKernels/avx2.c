// The row, attention and tile kernels for AVX2: lanes.h compiled for it.
#pragma STDC FP_CONTRACT OFF

#if defined(__x86_64__)

#define OT_TARGET __attribute__((target("avx2,fma,f16c")))
#define OT_FORM(name) name##_avx2
#define OT_NAME "avx2"

#include "lanes.h"
#include "avx256_attention.h"

// vpmaddubsw adds two products in 16 bits. Without the offset both factors are at
// most 127, so that the sum fits; the sign is moved to one of them.
#define OT_KEY_OFFSET 0

OT_INLINE i8x64 key_factors(u8x64 keys) { return (i8x64)(keys ^ 128); }

/// `x` is 0 ... 127, `y` no less than -127.
OT_INLINE __m256i add_half_products(__m256i sums, __m256i x, __m256i y) {
  __m256i pairs = _mm256_maddubs_epi16(x, y);
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

OT_INLINE i32x16 add_key_products(i32x16 sums, i8x64 factors, int32_t word) {
  __m256i codes = _mm256_set1_epi32(word), magnitudes = _mm256_abs_epi8(codes);
  __m256i low = _mm256_sign_epi8(OT_HALF(factors, 0), codes);
  __m256i high = _mm256_sign_epi8(OT_HALF(factors, 1), codes);
  low = add_half_products(OT_HALF(sums, 0), magnitudes, low);
  high = add_half_products(OT_HALF(sums, 1), magnitudes, high);
  return OT_JOINED(i32x16, low, high);
}

OT_INLINE i32x16 add_value_products(i32x16 sums, i8x64 values, int32_t word) {
  __m256i digits = _mm256_set1_epi32(word);
  __m256i low = add_half_products(OT_HALF(sums, 0), digits, OT_HALF(values, 0));
  __m256i high = add_half_products(OT_HALF(sums, 1), digits, OT_HALF(values, 1));
  return OT_JOINED(i32x16, low, high);
}

#include "tiles.h"

#endif
