// The integer products for AVX-VNNI: vpdpbusd on 256 bits, half a row tile.
#if defined(__x86_64__)

#define OT_TARGET "avx2,avxvnni"
#define OT_INLINE static inline __attribute__((always_inline, target(OT_TARGET)))
#define OT_FUNCTION __attribute__((target(OT_TARGET)))
#define OT_FORM(name) name##_avxvnni
// 12 sums, 2 vectors of codes and one of activations are 15 registers of 16.
#define OT_MANY_TILES 1
#define OT_MANY_ROWS 6
#define OT_FEW_ROWS 4

#include "products.h"

#include "avx256_codes.h"

OT_INLINE void few_block(const struct panel *p, int rows, int bits) {
  __m256i sums[OT_FEW_ROWS][2];
  for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  const uint8_t *block = p->u;
  for (size_t k = 0; k < p->column_count; k += 16, block += 32 * bits) {
    prefetch(p, block, bits);
    for (int half = 0; half < 2; half++) {
      __m256i v[4];
      load_codes(block + half * 32, bits, v);
      for (int i = 0; i < 4; i++) {
        for (int r = 0; r < rows; r++) {
          __m256i x = four_columns(p->x + (size_t)r * p->x_stride + k + i * 4);
          sums[r][half] = _mm256_dpbusd_avx_epi32(sums[r][half], v[i], x);
        }
      }
    }
  }
  for (int r = 0; r < rows; r++)
    for (int half = 0; half < 2; half++) store(p, half, r, sums[r][half]);
}

OT_INLINE void many_block(const struct panel *p, int rows, int bits) {
  (void)bits;
  __m256i sums[OT_MANY_ROWS][2];
  for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  const uint8_t *u = p->u, *next = p->next;
  for (size_t k = 0; k < p->column_count; k += 4, u += 64, next += p->next_step) {
    __builtin_prefetch(next, 0, 2);
    __m256i v0 = _mm256_loadu_si256((const __m256i *)u);
    __m256i v1 = _mm256_loadu_si256((const __m256i *)(u + 32));
    for (int r = 0; r < rows; r++) {
      __m256i x = four_columns(p->x + (size_t)r * p->x_stride + k);
      sums[r][0] = _mm256_dpbusd_avx_epi32(sums[r][0], v0, x);
      sums[r][1] = _mm256_dpbusd_avx_epi32(sums[r][1], v1, x);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int half = 0; half < 2; half++) store(p, half, r, sums[r][half]);
}

#endif
