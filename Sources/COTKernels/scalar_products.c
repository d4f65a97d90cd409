// The scalar integer products: one code at a time, straight from the layout.
#include "forms.h"

/// The code of row `r` of the tile in column `k`, packed into `bits` bits.
static inline uint8_t code_at(const uint8_t *tile, size_t r, size_t k, int bits) {
  size_t place = r * 4 + k % 4, vector = k / 4;
  if (bits == 8) return tile[vector * 64 + place];
  if (bits == 4) return tile[vector / 2 * 64 + place] >> (vector % 2 * 4) & 15;
  const uint8_t *block = tile + vector / 4 * 192 + place;
  if (vector % 4 < 3) return block[vector % 4 * 64] & 63;
  return (uint8_t)(block[0] >> 6 | block[64] >> 6 << 2 | block[128] >> 6 << 4);
}

static inline void multiply(const struct ot_product *p, int bits) {
  for (size_t t = 0; t < p->tile_count; t++) {
    const uint8_t *tile = p->tiles + t * p->tile_byte_count;
    for (size_t m = 0; m < p->x_count; m++) {
      // Unsigned, because a sum that is too large wraps around.
      uint32_t sums[16] = {0};
      for (size_t k = p->first_column; k < p->first_column + p->column_count; k++) {
        int32_t x = p->x[m * p->x_stride + k];
        for (size_t r = 0; r < 16; r++) sums[r] += (uint32_t)(x * code_at(tile, r, k, bits));
      }
      for (size_t r = 0; r < 16; r++) p->y[m * p->y_stride + t * 16 + r] = (int32_t)sums[r];
    }
  }
}

void ot_product8_scalar(const struct ot_product *product) { multiply(product, 8); }
void ot_product6_scalar(const struct ot_product *product) { multiply(product, 6); }
void ot_product4_scalar(const struct ot_product *product) { multiply(product, 4); }
