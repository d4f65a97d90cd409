// The integer products for AVX2. The 64 bytes of 4 columns x 16 rows are two
// vectors: rows 0 ... 7 and rows 8 ... 15.
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "forms.h"

#define OT_INLINE static inline __attribute__((always_inline, target("avx2")))

/// Four vectors of codes (16 columns) of one half of the rows.
OT_INLINE void load_codes(const uint8_t *tile, size_t k, int bits, int half, __m256i v[4]) {
  const uint8_t *block = tile + k * 2 * (size_t)bits + half * 32;
  if (bits == 8) {
    for (int i = 0; i < 4; i++) v[i] = _mm256_loadu_si256((const __m256i *)(block + i * 64));
  } else if (bits == 6) {
    __m256i a = _mm256_loadu_si256((const __m256i *)block);
    __m256i b = _mm256_loadu_si256((const __m256i *)(block + 64));
    __m256i c = _mm256_loadu_si256((const __m256i *)(block + 128));
    __m256i low = _mm256_set1_epi8(63);
    v[0] = _mm256_and_si256(a, low);
    v[1] = _mm256_and_si256(b, low);
    v[2] = _mm256_and_si256(c, low);
    // Shifts are of 16 bits; the masks drop what crosses a byte.
    __m256i d = _mm256_and_si256(_mm256_srli_epi16(a, 6), _mm256_set1_epi8(0x03));
    __m256i e = _mm256_and_si256(_mm256_srli_epi16(b, 4), _mm256_set1_epi8(0x0C));
    __m256i f = _mm256_and_si256(_mm256_srli_epi16(c, 2), _mm256_set1_epi8(0x30));
    v[3] = _mm256_or_si256(d, _mm256_or_si256(e, f));
  } else {
    __m256i a = _mm256_loadu_si256((const __m256i *)block);
    __m256i b = _mm256_loadu_si256((const __m256i *)(block + 64));
    __m256i low = _mm256_set1_epi8(15);
    v[0] = _mm256_and_si256(a, low);
    v[1] = _mm256_and_si256(_mm256_srli_epi16(a, 4), low);
    v[2] = _mm256_and_si256(b, low);
    v[3] = _mm256_and_si256(_mm256_srli_epi16(b, 4), low);
  }
}

OT_INLINE __m256i four_columns(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

/// `sum` plus the products of 16 columns of one activation row.
OT_INLINE __m256i add_products(__m256i sum, const __m256i v[4], const int8_t *x, int bits) {
  __m256i ones = _mm256_set1_epi16(1);
  for (int i = 0; i < 4; i += 2) {
    __m256i x0 = four_columns(x + i * 4), x1 = four_columns(x + i * 4 + 4);
    if (bits == 8) {
      // 255 * 127 * 2 would saturate 16 bits: even and odd columns are widened.
      for (int j = 0; j < 2; j++) {
        __m256i u = v[i + j], xs = j ? x1 : x0;
        __m256i even = _mm256_and_si256(u, _mm256_set1_epi16(0xFF));
        __m256i odd = _mm256_srli_epi16(u, 8);
        __m256i x_even = _mm256_srai_epi16(_mm256_slli_epi16(xs, 8), 8);
        __m256i x_odd = _mm256_srai_epi16(xs, 8);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, x_even));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(odd, x_odd));
      }
    } else {
      // |63 * -128 * 2 * 2| = 32,256 fits in 16 bits: two vectors at once.
      __m256i pairs = _mm256_add_epi16(
          _mm256_maddubs_epi16(v[i], x0), _mm256_maddubs_epi16(v[i + 1], x1));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
  }
  return sum;
}

/// `row_count` (a constant) activation rows from row `m` on, times one row tile.
OT_INLINE void multiply_rows(
    const struct ot_product *p, size_t t, size_t m, int row_count, int bits) {
  const uint8_t *tile = p->tiles + t * p->tile_byte_count;
  const int8_t *x = p->x + m * p->x_stride;
  for (int half = 0; half < 2; half++) {
    __m256i sums[4];
    for (int r = 0; r < row_count; r++) sums[r] = _mm256_setzero_si256();
    for (size_t k = p->first_column; k < p->first_column + p->column_count; k += 16) {
      __m256i v[4];
      load_codes(tile, k, bits, half, v);
      for (int r = 0; r < row_count; r++)
        sums[r] = add_products(sums[r], v, x + (size_t)r * p->x_stride + k, bits);
    }
    for (int r = 0; r < row_count; r++) {
      int32_t *y = p->y + (m + (size_t)r) * p->y_stride + t * 16 + half * 8;
      _mm256_storeu_si256((__m256i *)y, sums[r]);
    }
  }
}

OT_INLINE void multiply(const struct ot_product *p, int bits) {
  for (size_t t = 0; t < p->tile_count; t++) {
    size_t m = 0;
    for (; m + 4 <= p->x_count; m += 4) multiply_rows(p, t, m, 4, bits);
    for (; m < p->x_count; m++) multiply_rows(p, t, m, 1, bits);
  }
}

#define OT_PRODUCT(bits)                                                            \
  __attribute__((target("avx2"))) void ot_product##bits##_avx2(                     \
      const struct ot_product *product) {                                           \
    multiply(product, bits);                                                        \
  }
OT_PRODUCT(8)
OT_PRODUCT(6)
OT_PRODUCT(4)

#endif
