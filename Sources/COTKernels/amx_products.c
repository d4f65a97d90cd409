// The integer products for AMX. A tile of activations is 16 rows x 64 columns;
// 64 columns of a row tile, one code to a byte, are 1,024 consecutive bytes and
// as they lie the other operand of tdpbsud, which adds into 16 rows x 16 output
// channels of 32 bits without saturation.
#if defined(__x86_64__)

#include "amx_tiles.h"
#include "forms.h"

#define OT_TARGET OT_TILES_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
#define OT_FUNCTION __attribute__((target(OT_TARGET)))
#define OT_INLINE static inline __attribute__((always_inline, target(OT_TARGET)))

enum {
  /// Few rows would leave most of a tile empty: they are left to VNNI.
  most_vnni_row_count = 8,
  /// Columns that two row tiles' codes in the scratch have.
  panel_column_count = OT_PANEL_BYTE_COUNT / (2 * 16),
  /// Bytes of 64 columns of a row tile.
  step_byte_count = 1024,
};

_Static_assert(panel_column_count % 64 == 0, "panels are whole steps");

/// The shapes for sums of `rows[0]` and `rows[1]` activation rows by two tiles.
OT_INLINE void configure(const size_t rows[2]) {
  struct tile_shapes shapes = {.palette = 1};
  for (int i = 0; i < 8; i++) {
    shapes.row_byte_counts[i] = 64;
    // Tiles 0, 1 and 4 are of the first rows, 2, 3 and 5 of the second; a tile
    // of no rows is not valid, but is not used either.
    size_t row_count = i >= 6 ? 16 : i == 2 || i == 3 || i == 5 ? rows[1] : rows[0];
    shapes.row_counts[i] = (uint8_t)(row_count ? row_count : 1);
  }
  tiles_configure(&shapes);
}

/// One code to a byte of `column_count` columns, then zeros up to a multiple of
/// 64 columns.
static OT_FUNCTION void unpack(
    const uint8_t *packed, int bits, size_t column_count, uint8_t *u) {
  if (bits == 8) {
    memcpy(u, packed, column_count * 16);
  } else if (bits == 6) {
    ot_kernels_avx512vnni.unpack6(packed, column_count * 16, u);
  } else {
    // 16 columns are two blocks of the packed form.
    ot_kernels_avx512vnni.unpack4(packed, column_count * 16, u);
  }
  memset(u + column_count * 16, 0, -column_count % 64 * 16);
}

/// Codes of two row tiles, whole steps of 64 columns, and what they multiply.
struct panel {
  const uint8_t *u;
  size_t u_stride;
  const int8_t *x;
  size_t x_stride;
  size_t column_count;
  int32_t *y;
  size_t y_stride;
  int adds;
};

/// `rows[0]` + `rows[1]` activation rows by one or two row tiles; `two_rows` (of
/// tiles) and `two_tiles` are constants.
OT_INLINE void block(
    const struct panel *p, const size_t rows[2], int two_rows, int two_tiles) {
  const int8_t *x1 = p->x + 16 * p->x_stride;
  int32_t *y1 = p->y + 16 * p->y_stride;
  size_t y_stride = p->y_stride * sizeof *p->y;
  if (p->adds) {
    tile_load(0, p->y, y_stride);
    if (two_tiles) tile_load(1, p->y + 16, y_stride);
    if (two_rows) tile_load(2, y1, y_stride);
    if (two_rows && two_tiles) tile_load(3, y1 + 16, y_stride);
  } else {
    tile_zero(0);
    if (two_tiles) tile_zero(1);
    if (two_rows) tile_zero(2);
    if (two_rows && two_tiles) tile_zero(3);
  }
  for (size_t k = 0; k < p->column_count; k += 64) {
    const uint8_t *u = p->u + k * 16;
    size_t left = p->column_count - k;
    tile_load(6, u, 64);
    if (two_tiles) tile_load(7, u + p->u_stride, 64);
    if (left >= 64) {
      tile_load(4, p->x + k, p->x_stride);
      if (two_rows) tile_load(5, x1 + k, p->x_stride);
    } else {
      // Bytes beyond the columns may be another row's, or none.
      int8_t last[32][64] = {{0}};
      for (size_t r = 0; r < rows[0]; r++) memcpy(last[r], p->x + r * p->x_stride + k, left);
      tile_load(4, last[0], 64);
      if (two_rows) {
        for (size_t r = 0; r < rows[1]; r++) memcpy(last[16 + r], x1 + r * p->x_stride + k, left);
        tile_load(5, last[16], 64);
      }
    }
    tile_multiply(0, 4, 6);
    if (two_tiles) tile_multiply(1, 4, 7);
    if (two_rows) tile_multiply(2, 5, 6);
    if (two_rows && two_tiles) tile_multiply(3, 5, 7);
  }
  tile_store(0, p->y, y_stride);
  if (two_tiles) tile_store(1, p->y + 16, y_stride);
  if (two_rows) tile_store(2, y1, y_stride);
  if (two_rows && two_tiles) tile_store(3, y1 + 16, y_stride);
}

OT_INLINE void blocks(struct panel p, size_t row_count, int two_tiles) {
  size_t rows[2] = {0, 0};
  for (size_t m = 0; m < row_count; m += 32) {
    size_t left = row_count - m;
    size_t now[2] = {left < 16 ? left : 16, left < 16 ? 0 : left < 32 ? left - 16 : 16};
    if (now[0] != rows[0] || now[1] != rows[1]) configure(now);
    rows[0] = now[0], rows[1] = now[1];
    if (rows[1])
      block(&p, rows, 1, two_tiles);
    else
      block(&p, rows, 0, two_tiles);
    p.x += 32 * p.x_stride;
    p.y += 32 * p.y_stride;
  }
}

OT_INLINE void multiply(const struct ot_product *p, int bits) {
  size_t tile_steps = (p->tile_count + 1) / 2;
  for (size_t k = 0; k < p->column_count; k += panel_column_count) {
    size_t left = p->column_count - k;
    size_t column_count = left < panel_column_count ? left : panel_column_count;
    for (size_t step = 0; step < tile_steps; step++) {
      int two_tiles = step * 2 + 1 < p->tile_count;
      size_t column = p->first_column + k;
      const uint8_t *codes =
          p->tiles + step * 2 * p->tile_byte_count + column * 2 * (size_t)bits;
      struct panel part = {
          .u = codes,
          .u_stride = p->tile_byte_count,
          .x = p->x + column,
          .x_stride = p->x_stride,
          .column_count = column_count,
          .y = p->y + step * 32,
          .y_stride = p->y_stride,
          .adds = k > 0,
      };
      // Tiles are loaded by 64 columns, which may be more than there are.
      if (bits < 8 || column_count % 64) {
        part.u = p->scratch;
        part.u_stride = (column_count + 63) / 64 * step_byte_count;
        for (int i = 0; i <= two_tiles; i++) {
          unpack(
              codes + (size_t)i * p->tile_byte_count, bits, column_count,
              p->scratch + (size_t)i * part.u_stride);
        }
      }
      if (two_tiles)
        blocks(part, p->x_count, 1);
      else
        blocks(part, p->x_count, 0);
    }
  }
  tiles_release();
}

#define OT_PRODUCT(bits)                                                            \
  OT_FUNCTION void ot_product##bits##_amx(const struct ot_product *product) {       \
    if (product->x_count <= most_vnni_row_count || product->column_count == 0)      \
      ot_product##bits##_avx512vnni(product);                                       \
    else                                                                            \
      multiply(product, bits);                                                      \
  }
OT_PRODUCT(8)
OT_PRODUCT(6)
OT_PRODUCT(4)

#endif
