// The scalar integer products: one code at a time, straight from the layout.
#pragma STDC FP_CONTRACT OFF

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

/// Sums of one row of activations by the 16 rows of a tile over `column_count` columns.
static inline void add_columns(
    const uint8_t *tile, const int8_t *x, size_t column, size_t column_count, int bits,
    uint32_t sums[16]) {
  // Unsigned, because a sum that is too large wraps around.
  for (size_t k = column; k < column + column_count; k++)
    for (size_t r = 0; r < 16; r++) sums[r] += (uint32_t)(x[k] * code_at(tile, r, k, bits));
}

static inline void multiply(const struct ot_product *p, int bits) {
  for (size_t t = 0; t < p->tile_count; t++) {
    for (size_t m = 0; m < p->x_count; m++) {
      uint32_t sums[16] = {0};
      add_columns(
          p->tiles + t * p->tile_byte_count, p->x + m * p->x_stride, p->first_column,
          p->column_count, bits, sums);
      int32_t *y = (int32_t *)p->y + m * p->y_stride + t * 16;
      for (size_t r = 0; r < 16; r++) y[r] = (int32_t)sums[r];
    }
  }
}

static inline void multiply_groups(const struct ot_product *p, int bits) {
  for (size_t t = 0; t < p->tile_count; t++) {
    for (size_t m = 0; m < p->x_count; m++) {
      float *y = (float *)p->y + m * p->y_stride + t * 16;
      for (size_t r = 0; r < 16; r++) y[r] = 0;
      for (size_t k = 0; k < p->column_count; k += p->group_size) {
        size_t left = p->column_count - k, column = p->first_column + k;
        struct ot_code_row group = p->groups[m * p->group_stride + column / p->group_size];
        uint32_t sums[16] = {0};
        add_columns(
            p->tiles + t * p->tile_byte_count, p->x + m * p->x_stride, column,
            left < p->group_size ? left : p->group_size, bits, sums);
        for (size_t r = 0; r < 16; r++) {
          int32_t e = (int32_t)sums[r] - p->zero_point[t * 16 + r] * group.sum;
          if (p->group_zeros) {
            size_t g = column / p->group_size;
            e -= p->group_zeros[m * p->group_stride + g] *
                 p->weight_sums[(t * p->group_stride + g) * 16 + r];
          }
          y[r] = __builtin_fmaf(group.scale, (float)e, y[r]);
        }
      }
    }
  }
}

void ot_product8_scalar(const struct ot_product *product) { multiply(product, 8); }
void ot_product6_scalar(const struct ot_product *product) { multiply(product, 6); }
void ot_product4_scalar(const struct ot_product *product) { multiply(product, 4); }
void ot_grouped_product8_scalar(const struct ot_product *product) { multiply_groups(product, 8); }
void ot_grouped_product6_scalar(const struct ot_product *product) { multiply_groups(product, 6); }
void ot_grouped_product4_scalar(const struct ot_product *product) { multiply_groups(product, 4); }
