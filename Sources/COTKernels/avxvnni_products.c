// The integer products for AVX-VNNI: vpdpbusd on 256 bits, half a row tile.
#if defined(__x86_64__)

#define OT_TARGET "avx2,fma,avxvnni"
#define OT_INLINE static inline __attribute__((always_inline, target(OT_TARGET)))
#define OT_FUNCTION __attribute__((target(OT_TARGET)))
#define OT_FORM(name) name##_avxvnni
// 12 sums, 2 vectors of codes and one of activations are 15 registers of 16.
#define OT_VECTOR_BYTES 32
#define OT_MANY_TILES 1
#define OT_MANY_ROWS 6
#define OT_FEW_ROWS 4
// 6 sums in integers and 6 in floats.
#define OT_GROUP_ROWS 3

#include "products.h"

#include "avx256_codes.h"

OT_INLINE void few_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][tile_vectors]) {
  const uint8_t *block = p->u + column * 2 * (size_t)bits;
  for (size_t k = column; k < column + column_count; k += 16, block += 32 * bits) {
    prefetch(p, block, bits);
    for (int half = 0; half < 2; half++) {
      __m256i v[4];
      load_codes(block + half * 32, bits, v);
      for (int i = 0; i < 4; i++) {
        for (int r = 0; r < rows; r++) {
          __m256i x = four_columns(p->x + (size_t)r * p->x_stride + k + i * 4);
          sums[r][half] = (ints)_mm256_dpbusd_avx_epi32((__m256i)sums[r][half], v[i], x);
        }
      }
    }
  }
}

OT_INLINE void many_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][OT_MANY_TILES * tile_vectors]) {
  (void)bits;
  const uint8_t *u = p->u + column * 16, *next = p->next + column / 4 * p->next_step;
  for (size_t k = column; k < column + column_count; k += 4, u += 64, next += p->next_step) {
    __builtin_prefetch(next, 0, 2);
    __m256i v0 = _mm256_loadu_si256((const __m256i *)u);
    __m256i v1 = _mm256_loadu_si256((const __m256i *)(u + 32));
    for (int r = 0; r < rows; r++) {
      __m256i x = four_columns(p->x + (size_t)r * p->x_stride + k);
      sums[r][0] = (ints)_mm256_dpbusd_avx_epi32((__m256i)sums[r][0], v0, x);
      sums[r][1] = (ints)_mm256_dpbusd_avx_epi32((__m256i)sums[r][1], v1, x);
    }
  }
}

#endif
