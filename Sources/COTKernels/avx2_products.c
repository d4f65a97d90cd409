// The integer products for AVX2, on halves of row tiles. vpmaddubsw adds pairs of
// products in 16 bits: exact for codes of at most 6 bits, while those of 8 bits
// could saturate and are widened first.
#if defined(__x86_64__)

#define OT_TARGET "avx2,fma"
#define OT_INLINE static inline __attribute__((always_inline, target(OT_TARGET)))
#define OT_FUNCTION __attribute__((target(OT_TARGET)))
#define OT_FORM(name) name##_avx2
// 8 sums, 4 vectors of codes, 2 of activations and two for what lies between are
// all 16 registers.
#define OT_VECTOR_BYTES 32
#define OT_MANY_TILES 1
#define OT_MANY_ROWS 4
#define OT_FEW_ROWS 4
// What does not fit the registers is near.
#define OT_GROUP_ROWS 4

#include "products.h"

#include "avx256_codes.h"

/// `sum` plus the products of 8 columns; codes are at most 63.
OT_INLINE __m256i add_small(__m256i sum, __m256i u0, __m256i u1, __m256i x0, __m256i x1) {
  // |63 * -128 * 2 * 2| = 32,256 fits in 16 bits: two vectors at once.
  __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(u0, x0), _mm256_maddubs_epi16(u1, x1));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/// Columns 0 and 2, and columns 1 and 3, of every 4 in 16 bits.
struct wide {
  __m256i even, odd;
};

OT_INLINE struct wide wide_codes(__m256i u) {
  return (struct wide){_mm256_and_si256(u, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16(u, 8)};
}

OT_INLINE struct wide wide_activations(__m256i x) {
  return (struct wide){
      _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), _mm256_srai_epi16(x, 8)};
}

/// `sum` plus the products of 4 columns.
OT_INLINE __m256i add_wide(__m256i sum, struct wide u, struct wide x) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(u.even, x.even));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(u.odd, x.odd));
}

/// Adds the products of 8 columns of one activation row; `v` is [4 columns][half].
OT_INLINE void add_columns(ints sums[2], __m256i v[2][2], const int8_t *x, int bits) {
  __m256i x0 = four_columns(x), x1 = four_columns(x + 4);
  for (int half = 0; half < 2; half++) {
    __m256i sum = (__m256i)sums[half];
    if (bits < 8) {
      sum = add_small(sum, v[0][half], v[1][half], x0, x1);
    } else {
      sum = add_wide(sum, wide_codes(v[0][half]), wide_activations(x0));
      sum = add_wide(sum, wide_codes(v[1][half]), wide_activations(x1));
    }
    sums[half] = (ints)sum;
  }
}

OT_INLINE void few_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][tile_vectors]) {
  const uint8_t *block = p->u + column * 2 * (size_t)bits;
  for (size_t k = column; k < column + column_count; k += 16, block += 32 * bits) {
    prefetch(p, block, bits);
    __m256i low[4], high[4];
    load_codes(block, bits, low);
    load_codes(block + 32, bits, high);
    for (int i = 0; i < 4; i += 2) {
      __m256i v[2][2] = {{low[i], high[i]}, {low[i + 1], high[i + 1]}};
      for (int r = 0; r < rows; r++)
        add_columns(sums[r], v, p->x + (size_t)r * p->x_stride + k + i * 4, bits);
    }
  }
}

OT_INLINE void many_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][OT_MANY_TILES * tile_vectors]) {
  const uint8_t *u = p->u + column * 16, *next = p->next + column / 4 * p->next_step;
  for (size_t k = column; k < column + column_count; k += 8, u += 128, next += 2 * p->next_step) {
    __builtin_prefetch(next, 0, 2);
    __builtin_prefetch(next + p->next_step, 0, 2);
    __m256i v[2][2];
    for (int i = 0; i < 2; i++)
      for (int half = 0; half < 2; half++)
        v[i][half] = _mm256_loadu_si256((const __m256i *)(u + i * 64 + half * 32));
    for (int r = 0; r < rows; r++)
      add_columns(sums[r], v, p->x + (size_t)r * p->x_stride + k, bits);
  }
}

#endif
