// The integer products for AVX-512 VNNI. The 64 bytes of 4 columns x 16 rows are
// one operand of vpdpbusd, which adds four products into each row's 32-bit sum
// without saturation.
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "forms.h"

#define OT_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
#define OT_INLINE static inline __attribute__((always_inline, target(OT_TARGET)))
#define OT_FUNCTION __attribute__((target(OT_TARGET)))
#define OT_FORM(name) name##_avx512vnni
// 24 sums, 4 vectors of codes and one of activations are 29 registers of 32;
// 10 loads serve 24 vpdpbusd.
#define OT_VECTOR_BYTES 64
#define OT_MANY_TILES 4
#define OT_MANY_ROWS 6
#define OT_FEW_ROWS 8
// 12 sums in integers and 12 in floats.
#define OT_GROUP_ROWS 3

#include "products.h"

/// Four vectors of codes: 16 columns.
OT_INLINE void load_codes(const uint8_t *block, int bits, __m512i v[4]) {
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

static OT_FUNCTION void unpack(
    const uint8_t *packed, int bits, size_t column_count, uint8_t *u) {
  for (size_t k = 0; k < column_count; k += 16, u += 256) {
    __m512i v[4];
    if (bits == 6) {
      load_codes(packed + k * 12, 6, v);
    } else {
      load_codes(packed + k * 8, 4, v);
    }
    for (int i = 0; i < 4; i++) _mm512_storeu_si512(u + i * 64, v[i]);
  }
}

OT_INLINE __m512i four_columns(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm512_set1_epi32(word);
}

OT_INLINE ints small_products(ints a, ints b) {
  return (ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
}

OT_INLINE void few_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][tile_vectors]) {
  // So that one vpdpbusd need not wait for the one before, few rows take
  // several sums each.
  int chain_count = rows >= 5 ? 1 : rows >= 3 ? 2 : 4;
  __m512i chains[OT_FEW_ROWS][4];
  for (int r = 0; r < rows; r++) {
    chains[r][0] = (__m512i)sums[r][0];
    for (int c = 1; c < chain_count; c++) chains[r][c] = _mm512_setzero_si512();
  }
  const uint8_t *block = p->u + column * 2 * (size_t)bits;
  for (size_t k = column; k < column + column_count; k += 16, block += 32 * bits) {
    __m512i v[4];
    load_codes(block, bits, v);
    prefetch(p, block, bits);
    for (int i = 0; i < 4; i++) {
      for (int r = 0; r < rows; r++) {
        __m512i x = four_columns(p->x + (size_t)r * p->x_stride + k + i * 4);
        int c = i % chain_count;
        chains[r][c] = _mm512_dpbusd_epi32(chains[r][c], v[i], x);
      }
    }
  }
  for (int r = 0; r < rows; r++) {
    for (int c = 1; c < chain_count; c++)
      chains[r][0] = _mm512_add_epi32(chains[r][0], chains[r][c]);
    sums[r][0] = (ints)chains[r][0];
  }
}

OT_INLINE void many_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][OT_MANY_TILES * tile_vectors]) {
  (void)bits;
  const uint8_t *u = p->u + column * 16, *next = p->next + column / 4 * p->next_step;
  for (size_t k = column; k < column + column_count; k += 4, u += 64, next += p->next_step) {
    __m512i v[OT_MANY_TILES];
    __builtin_prefetch(next, 0, 2);
    __builtin_prefetch(next + p->next_stride, 0, 2);
    for (int t = 0; t < OT_MANY_TILES; t++)
      v[t] = _mm512_loadu_si512(u + (size_t)t * p->u_stride);
    for (int r = 0; r < rows; r++) {
      __m512i x = four_columns(p->x + (size_t)r * p->x_stride + k);
      for (int t = 0; t < OT_MANY_TILES; t++)
        sums[r][t] = (ints)_mm512_dpbusd_epi32((__m512i)sums[r][t], v[t], x);
    }
  }
}

#endif
