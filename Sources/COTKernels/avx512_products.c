// The integer products for AVX-512 VNNI. The 64 bytes of 4 columns x 16 rows are
// one operand of vpdpbusd, which adds four products into each row's 32-bit sum
// without saturation.
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "forms.h"

#define OT_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
#define OT_INLINE static inline __attribute__((always_inline, target(OT_TARGET)))

/// Four vectors of codes: 16 columns.
OT_INLINE void load_codes(const uint8_t *tile, size_t k, int bits, __m512i v[4]) {
  const uint8_t *block = tile + k * 2 * (size_t)bits;
  if (bits == 8) {
    for (int i = 0; i < 4; i++) v[i] = _mm512_loadu_si512(block + i * 64);
  } else if (bits == 6) {
    __m512i a = _mm512_loadu_si512(block);
    __m512i b = _mm512_loadu_si512(block + 64);
    __m512i c = _mm512_loadu_si512(block + 128);
    __m512i low = _mm512_set1_epi8(63);
    v[0] = _mm512_and_si512(a, low);
    v[1] = _mm512_and_si512(b, low);
    v[2] = _mm512_and_si512(c, low);
    // Shifts are of 16 bits; the masks drop what crosses a byte.
    __m512i d = _mm512_and_si512(_mm512_srli_epi16(a, 6), _mm512_set1_epi8(0x03));
    __m512i e = _mm512_and_si512(_mm512_srli_epi16(b, 4), _mm512_set1_epi8(0x0C));
    __m512i f = _mm512_and_si512(_mm512_srli_epi16(c, 2), _mm512_set1_epi8(0x30));
    v[3] = _mm512_or_si512(d, _mm512_or_si512(e, f));
  } else {
    __m512i a = _mm512_loadu_si512(block);
    __m512i b = _mm512_loadu_si512(block + 64);
    __m512i low = _mm512_set1_epi8(15);
    v[0] = _mm512_and_si512(a, low);
    v[1] = _mm512_and_si512(_mm512_srli_epi16(a, 4), low);
    v[2] = _mm512_and_si512(b, low);
    v[3] = _mm512_and_si512(_mm512_srli_epi16(b, 4), low);
  }
}

OT_INLINE __m512i four_columns(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm512_set1_epi32(word);
}

/// `row_count` (a constant) activation rows from row `m` on, times one row tile.
///
/// The codes are unpacked once for all of them. Few rows take four sums each,
/// so that one vpdpbusd need not wait for the one before.
OT_INLINE void multiply_rows(
    const struct ot_product *p, size_t t, size_t m, int row_count, int bits) {
  const uint8_t *tile = p->tiles + t * p->tile_byte_count;
  const int8_t *x = p->x + m * p->x_stride;
  int chain_count = row_count >= 4 ? 1 : 4;
  __m512i sums[8][4];
  for (int r = 0; r < row_count; r++)
    for (int c = 0; c < chain_count; c++) sums[r][c] = _mm512_setzero_si512();
  for (size_t k = p->first_column; k < p->first_column + p->column_count; k += 16) {
    __m512i v[4];
    load_codes(tile, k, bits, v);
    for (int i = 0; i < 4; i++) {
      for (int r = 0; r < row_count; r++) {
        __m512i xs = four_columns(x + (size_t)r * p->x_stride + k + i * 4);
        int c = i % chain_count;
        sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], v[i], xs);
      }
    }
  }
  for (int r = 0; r < row_count; r++) {
    __m512i sum = sums[r][0];
    for (int c = 1; c < chain_count; c++) sum = _mm512_add_epi32(sum, sums[r][c]);
    _mm512_storeu_si512(p->y + (m + (size_t)r) * p->y_stride + t * 16, sum);
  }
}

OT_INLINE void multiply(const struct ot_product *p, int bits) {
  for (size_t t = 0; t < p->tile_count; t++) {
    size_t m = 0;
    for (; m + 8 <= p->x_count; m += 8) multiply_rows(p, t, m, 8, bits);
    if (m + 4 <= p->x_count) multiply_rows(p, t, m, 4, bits), m += 4;
    if (m + 2 <= p->x_count) multiply_rows(p, t, m, 2, bits), m += 2;
    if (m < p->x_count) multiply_rows(p, t, m, 1, bits);
  }
}

#define OT_PRODUCT(bits)                                                            \
  __attribute__((target(OT_TARGET))) void ot_product##bits##_avx512vnni(            \
      const struct ot_product *product) {                                           \
    multiply(product, bits);                                                        \
  }
OT_PRODUCT(8)
OT_PRODUCT(6)
OT_PRODUCT(4)

#endif
