// The integer products for NEON, included by the file of each kind of dot
// product after it defined
//   OT_INLINE, OT_FUNCTION, OT_FORM(name),
//   dot(sum, u, x, lane)   adds the products of 4 columns, of the 4 rows in `u`
//                          by word `lane` of `x`, exactly; a macro,
//   prepared(u, bits)      codes as `dot` wants them,
//   correct(sums, x, column_count, bits)
//                          adds what the sums of an activation row lack then.
// The 64 bytes of 4 columns x 16 rows are four vectors.
#include <arm_neon.h>

// 16 sums, 4 vectors of codes and 4 of activations (16 columns of a row each)
// leave 8 registers for the rest.
#define OT_VECTOR_BYTES 16
#define OT_MANY_TILES 1
#define OT_MANY_ROWS 4
#define OT_FEW_ROWS 4
#define OT_GROUP_ROWS 2

#include "products.h"

/// Four vectors of codes: 16 columns of 4 rows.
OT_INLINE void load_codes(const uint8_t *block, int bits, uint8x16_t v[4]) {
  if (bits == 8) {
    for (int i = 0; i < 4; i++) v[i] = vld1q_u8(block + i * 64);
  } else if (bits == 6) {
    uint8x16_t a = vld1q_u8(block), b = vld1q_u8(block + 64), c = vld1q_u8(block + 128);
    uint8x16_t low = vdupq_n_u8(63);
    v[0] = vandq_u8(a, low);
    v[1] = vandq_u8(b, low);
    v[2] = vandq_u8(c, low);
    // Each insertion keeps the bits below its place.
    v[3] = vsliq_n_u8(vsliq_n_u8(vshrq_n_u8(a, 6), vshrq_n_u8(b, 6), 2), vshrq_n_u8(c, 6), 4);
  } else {
    uint8x16_t a = vld1q_u8(block), b = vld1q_u8(block + 64);
    v[0] = vandq_u8(a, vdupq_n_u8(15));
    v[1] = vshrq_n_u8(a, 4);
    v[2] = vandq_u8(b, vdupq_n_u8(15));
    v[3] = vshrq_n_u8(b, 4);
  }
}

static OT_FUNCTION void unpack(
    const uint8_t *packed, int bits, size_t column_count, uint8_t *u) {
  for (size_t k = 0; k < column_count; k += 16, u += 256) {
    for (int quarter = 0; quarter < 64; quarter += 16) {
      uint8x16_t v[4];
      if (bits == 6) {
        load_codes(packed + k * 12 + quarter, 6, v);
      } else {
        load_codes(packed + k * 8 + quarter, 4, v);
      }
      for (int i = 0; i < 4; i++) vst1q_u8(u + i * 64 + quarter, v[i]);
    }
  }
}

OT_INLINE ints small_products(ints a, ints b) { return a * b; }

OT_INLINE void few_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][tile_vectors]) {
  const uint8_t *block = p->u + column * 2 * (size_t)bits;
  for (size_t k = column; k < column + column_count; k += 16, block += 32 * bits) {
    prefetch(p, block, bits);
    int8x16_t x[OT_FEW_ROWS];
    for (int r = 0; r < rows; r++) x[r] = vld1q_s8(p->x + (size_t)r * p->x_stride + k);
    for (int j = 0; j < 4; j++) {
      uint8x16_t v[4];
      load_codes(block + j * 16, bits, v);
      for (int i = 0; i < 4; i++) v[i] = prepared(v[i], bits);
      for (int r = 0; r < rows; r++) {
        int32x4_t sum = (int32x4_t)sums[r][j];
        sum = dot(sum, v[0], x[r], 0);
        sum = dot(sum, v[1], x[r], 1);
        sum = dot(sum, v[2], x[r], 2);
        sum = dot(sum, v[3], x[r], 3);
        sums[r][j] = (ints)sum;
      }
    }
  }
  for (int r = 0; r < rows; r++)
    correct(sums[r], p->x + (size_t)r * p->x_stride + column, column_count, bits);
}

OT_INLINE void many_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][OT_MANY_TILES * tile_vectors]) {
  const uint8_t *u = p->u + column * 16, *next = p->next + column / 4 * p->next_step;
  for (size_t k = column; k < column + column_count; k += 16, u += 256, next += 4 * p->next_step) {
    int8x16_t x[OT_MANY_ROWS];
    for (int r = 0; r < rows; r++) x[r] = vld1q_s8(p->x + (size_t)r * p->x_stride + k);
#define OT_COLUMNS(i)                                                               \
  {                                                                                 \
    __builtin_prefetch(next + i * p->next_step, 0, 2);                              \
    uint8x16_t v[4];                                                                \
    for (int j = 0; j < 4; j++) v[j] = prepared(vld1q_u8(u + i * 64 + j * 16), bits); \
    for (int r = 0; r < rows; r++)                                                  \
      for (int j = 0; j < 4; j++)                                                   \
        sums[r][j] = (ints)dot((int32x4_t)sums[r][j], v[j], x[r], i);               \
  }
    OT_COLUMNS(0) OT_COLUMNS(1) OT_COLUMNS(2) OT_COLUMNS(3)
#undef OT_COLUMNS
  }
  for (int r = 0; r < rows; r++)
    correct(sums[r], p->x + (size_t)r * p->x_stride + column, column_count, bits);
}
