// Codes in halves of row tiles, for the sets of 256-bit vectors: rows 0 ... 7 and
// rows 8 ... 15. The including file defines OT_INLINE and OT_FUNCTION.
#include <immintrin.h>
#include <string.h>

/// Four vectors of codes (16 columns) of one half of the rows.
OT_INLINE void load_codes(const uint8_t *block, int bits, __m256i v[4]) {
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

static OT_FUNCTION void unpack(
    const uint8_t *packed, int bits, size_t column_count, uint8_t *u) {
  for (size_t k = 0; k < column_count; k += 16, u += 256) {
    for (int half = 0; half < 64; half += 32) {
      __m256i v[4];
      if (bits == 6) {
        load_codes(packed + k * 12 + half, 6, v);
      } else {
        load_codes(packed + k * 8 + half, 4, v);
      }
      for (int i = 0; i < 4; i++) _mm256_storeu_si256((__m256i *)(u + i * 64 + half), v[i]);
    }
  }
}

OT_INLINE __m256i four_columns(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

OT_INLINE ints small_products(ints a, ints b) {
  return (ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
}
